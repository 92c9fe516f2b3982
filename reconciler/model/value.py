"""What our values are made of: immutable, equal when their fields are, written and read by msgspec.

A value is written as a map of its fields under their names, without those at their defaults. So a reader of
another version finds what it knows, ignores what it does not, and fills in defaults: the link, the journal
and the store survive an upgrade.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, TypeVar

from reconciler import model

if TYPE_CHECKING or not model.shows_only:
    import msgspec
    from msgspec import Raw, field
    from msgspec.structs import asdict, replace
else:
    from reconciler.model import lightly as msgspec
    from reconciler.model.lightly import field, replace

__all__ = [
    "TAG",
    "Part",
    "Plain",
    "PlainError",
    "Raw",
    "Struct",
    "Tagged",
    "Word",
    "asdict",
    "field",
    "from_json",
    "from_plain",
    "replace",
    "to_plain",
    "to_whole",
]

if TYPE_CHECKING:
    from typing import Literal as Word
else:

    class Word:
        """One of these words, for who writes it; read as any text, since another version may know more of them."""

        def __class_getitem__(cls, words: object) -> type[str]:
            return str


T = TypeVar("T")

Plain = Any
"""None, bool, int, float, str, bytes, list of such, or map from str to such."""
PlainError = msgspec.ValidationError
"""A plain value does not fit the type that was asked for."""
TAG: Final = "is"


class Struct(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A value; its subclasses say what it holds.

    None leads back to itself, so collections leave them out: to look at all of a large spec takes a long moment.
    """

    def all_fields(self) -> dict[str, object]:
        """Return all fields under the names that they are written under, also those at their defaults."""
        names = zip(self.__struct_encode_fields__, self.__struct_fields__, strict=True)
        return {written: getattr(self, name) for written, name in names}


class Part(msgspec.Struct, eq=False):
    """An object that changes, made of what it needs and equal to itself alone. A dataclass takes longer to define."""


class Tagged(Struct, frozen=True, tag_field=TAG, tag=True):
    """One of several that may stand in the same place: written with its class."""


def to_plain(value: object) -> Plain:
    """Return a value as plain maps, lists and scalars."""
    return msgspec.to_builtins(value, builtin_types=(bytes,))


def from_plain(kind: type[T] | object, plain: Plain) -> T:
    """Return the value of type `kind` (a class, a union, any annotation) that `plain` describes.

    Keys of JSON maps are always text, also where ours are numbers. Raises `PlainError` when it describes none.
    """
    found: T = msgspec.convert(plain, kind, str_keys=True)
    return found


def from_json(kind: type[T] | object, data: bytes | bytearray | Raw) -> T:
    """Return the value of type `kind` that a text of JSON describes; what is `Raw` in it is still such a text.

    Raises `PlainError` when it describes none, and `ValueError` when it is no JSON, or text that is not Unicode.
    """
    found: T = msgspec.json.decode(data, type=kind)
    return found


def to_whole(value: object, origin: Plain = None) -> Plain:
    """Return a value as plain maps and lists with all fields, also those at their defaults.

    `origin` is the plain value that it was read from: keys of it that are no fields stay, since another version
    knows what they mean.
    """
    if isinstance(value, Struct):
        value = value.all_fields()
    if isinstance(value, Mapping):
        known = origin if isinstance(origin, Mapping) else {}
        found = {key: to_whole(item, known.get(key)) for key, item in value.items()}
        return found | {key: item for key, item in known.items() if key not in found}
    if isinstance(value, list | tuple):
        origins = origin if isinstance(origin, list | tuple) else repeat(None)
        return [to_whole(*pair) for pair in zip(value, origins, strict=False)]
    return value
