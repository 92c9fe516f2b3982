"""The language in words: types, defaults and effects of fields, as users write and read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from reconciler.model.spec import Document, Field
from reconciler.model.units import (
    CPU_PERCENT,
    DURATION,
    MODE,
    PERCENT,
    SIZE,
    Between,
    Reads,
    format_duration,
    format_mode,
    format_size,
)
from reconciler.model.value import Struct
from reconciler.specfile.shapes import (
    Block,
    Free,
    ListOf,
    MapOf,
    OneOf,
    Shape,
    Value,
    Words,
    block,
    blocks_in,
    item_of,
    map_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

EFFECTS: Final = {
    "none": "nothing runs differently",
    "live": "applied in place",
    "restart": "processes are replaced one by one; a job gets a new generation",
    "rebind": "the socket is bound again and its users are replaced",
}
ANY_NAME: Final = "NAME"
"""Stands in a path for the name that the user gives."""
_WORDS: Final[dict[object, str]] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
}


class Placed(Struct, frozen=True):
    """A field with its path; `blocks` are the classes of the fields below it."""

    path: tuple[str, ...]
    field: Field
    shape: Shape
    blocks: tuple[type, ...]

    @property
    def name(self) -> str:
        """Return the path as people write it."""
        return ".".join(self.path)


def all_fields(cls: type = Document, above: tuple[str, ...] = ()) -> Iterator[Placed]:
    """Yield every field of the language with its path, a block before what is in it."""
    for placed in fields_of(cls, above):
        yield placed
        path = (*placed.path, ANY_NAME) if map_of(placed.shape) else placed.path
        for each in placed.blocks:
            yield from all_fields(each, path)


def fields_of(cls: type, above: tuple[str, ...] = ()) -> Iterator[Placed]:
    """Yield the fields of one class."""
    for name, (declared, shape) in block(cls).fields.items():
        named = map_of(shape)
        inner = blocks_in(named.value if named is not None else item_of(shape) or shape)
        yield Placed((*above, name), declared, shape, tuple(each.cls for each in inner))


def type_text(shape: Shape) -> str:
    """Return a type as users write it: `duration`, `one of a, b`, `list of text`."""
    return ", or ".join(dict.fromkeys([*_types(shape), *(["null"] if shape.nullable else [])]))


def _types(shape: Shape) -> list[str]:
    match shape:
        case OneOf(choices):
            return [text for each in choices for text in _types(each)]
        case Value(Reads(kind)):
            return [kind]
        case Value(Between(low, high)):
            return [f"{low} to {high}"]
        case Value(kind):
            return [" / ".join(str(each).lower() for each in shape.words) or _WORDS[kind]]
        case Words():
            return ["text, or list of text"]
        case ListOf(item):
            return [f"list of {type_text(item)}"]
        case MapOf(value):
            return [f"map of names to {type_text(value)}"]
        case Block(_, fields):
            return ["{" + ", ".join(fields) + "}" if len(fields) <= 2 else "block"]
        case Free():
            return ["anything"]


def written(declared: Field, shape: Shape) -> object:
    """Return a default as the spec has it: text for durations and sizes, lists, null."""
    value = declared.default
    kind = shape.kind if isinstance(shape, Value) else None
    if not isinstance(kind, Reads) or not isinstance(value, int):
        return list(value) if isinstance(value, tuple) else value
    if kind.kind == DURATION.kind:
        return format_duration(value) if value else "0s"
    if kind.kind == SIZE.kind:
        return format_size(value)
    if kind is MODE:
        return format_mode(value)
    return f"{value}%" if kind in (PERCENT, CPU_PERCENT) else value


def default_text(declared: Field, shape: Shape) -> str:
    """Return a default in the words of YAML; empty for a block, whose fields have theirs."""
    value = written(declared, shape)
    if declared.required:
        return "required"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, Struct):
        return ""
    if isinstance(value, str) and not value:
        return '""'
    if isinstance(shape, Value) and shape.kind is MODE:
        return f'"{value}"'
    return f"{value:g}" if isinstance(value, float) else str(value)
