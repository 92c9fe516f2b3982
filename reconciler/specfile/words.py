"""The language in words: types, defaults and effects of fields, as users write and read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, get_args, get_origin

from reconciler.model.spec import Document, Field, declared_fields
from reconciler.model.units import (
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
from reconciler.specfile.shapes import bare, block_classes, is_word, members

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
_WORDS: Final = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    object: "anything",
}


class Placed(Struct, frozen=True):
    """A field with its path; `blocks` are the classes of the fields below it."""

    path: tuple[str, ...]
    field: Field
    blocks: tuple[type, ...]

    @property
    def name(self) -> str:
        """Return the path as people write it."""
        return ".".join(self.path)


def all_fields(cls: type = Document, above: tuple[str, ...] = ()) -> Iterator[Placed]:
    """Yield every field of the language with its path, a block before what is in it."""
    for declared in declared_fields(cls):
        if declared.attribute == "x":
            continue
        path = (*above, declared.name)
        inner, many = _below(declared)
        yield Placed(path, declared, inner)
        for each in inner:
            yield from all_fields(each, (*path, ANY_NAME) if many else path)


def _below(declared: Field) -> tuple[tuple[type, ...], bool]:
    """Return the classes below a field, and whether there are many of them by name."""
    if any(isinstance(marker, Reads) for marker in declared.markers):
        return (), False
    hint = bare(declared.type)[0]
    if _is_map(hint):
        return block_classes(get_args(hint)[1]), True
    if get_origin(hint) is tuple:
        return block_classes(get_args(hint)[0]), False
    return block_classes(hint), False


def _is_map(hint: object) -> bool:
    origin = get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def type_text(declared: Field) -> str:
    """Return the type of a field as users write it: `duration`, `one of a, b`, `list of text`."""
    return _type(declared.type, declared.markers)


def _type(hint: object, outer: tuple[object, ...] = ()) -> str:
    hint, inner = bare(hint)
    for marker in outer + inner:
        if isinstance(marker, Reads):
            return f"{marker.kind}, or null" if type(None) in members(hint) else marker.kind
        if isinstance(marker, Between):
            return f"{marker.low} to {marker.high}"
    choices = members(hint)
    if len(choices) > 1:
        texts = [_type(each) for each in choices if each is not type(None)]
        null = ["null"] if type(None) in choices else []
        return ", or ".join(dict.fromkeys([*texts, *null]))
    origin = get_origin(hint)
    if origin is Literal:
        return " / ".join(str(each).lower() for each in get_args(hint))
    if origin is tuple:
        item = get_args(hint)[0]
        return "text, or list of text" if is_word(item) else f"list of {_type(item)}"
    if _is_map(hint):
        return f"map of names to {_type(get_args(hint)[1])}"
    if isinstance(hint, type) and issubclass(hint, Struct):
        names = [each.name for each in declared_fields(hint)]
        return "{" + ", ".join(names) + "}" if len(names) <= 2 else "block"
    return _WORDS.get(hint, "text") if isinstance(hint, type) else "text"


def written(declared: Field) -> object:
    """Return a default as the spec has it: text for durations and sizes, lists, null."""
    value = declared.default
    reads = _reads(declared)
    if isinstance(value, bool) or value is None or reads is None or not isinstance(value, int):
        return list(value) if isinstance(value, tuple) else value
    if reads.kind == DURATION.kind:
        return format_duration(value) if value else "0s"
    if reads.kind == SIZE.kind:
        return format_size(value)
    if reads is MODE:
        return format_mode(value)
    return f"{value}%" if reads is PERCENT else value


def _reads(declared: Field) -> Reads | None:
    found = [*declared.markers]
    for member in members(declared.type):
        found += bare(member)[1]
    return next((each for each in found if isinstance(each, Reads)), None)


def default_text(declared: Field) -> str:
    """Return a default in the words of YAML; empty for a block, whose fields have theirs."""
    value = written(declared)
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
    if _reads(declared) is MODE:
        return f'"{value}"'
    return f"{value:g}" if isinstance(value, float) else str(value)
