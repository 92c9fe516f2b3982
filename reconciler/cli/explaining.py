"""The reference of the spec language in the terminal, made from the declarations of
`model.spec`."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import is_dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple, Union, get_args, get_origin

from reconciler.cli.errors import Refused
from reconciler.cli.layout import Block, Cell, Table, Wrapped
from reconciler.model.spec import Command, Document, Field, declared_fields
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ANY_NAME: Final = "NAME"
"""Stands in a path for the name that the user gives to a watcher, a socket or a variable."""

_EFFECTS: Final = {
    "none": "nothing runs differently",
    "live": "applied in place",
    "restart": "processes are replaced one by one; a job gets a new generation",
    "rebind": "the socket is bound anew and its users are replaced",
}
_SMALL_BLOCK: Final = 2
"""A block of so few fields is shown as {signal}, larger ones have a page of their own."""
_WORDS: Final[dict[type, str]] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    object: "anything",
}
_FORMATS: Final[dict[str, Callable[[int], str]]] = {
    DURATION.kind: lambda nanoseconds: format_duration(nanoseconds) if nanoseconds else "0s",
    SIZE.kind: format_size,
    MODE.kind: format_mode,
    PERCENT.kind: lambda number: f"{number}%",
}


class Explained(NamedTuple):
    """One field with its place; `block` is the class of its own fields, if it has any."""

    path: tuple[str, ...]
    field: Field
    block: type | None


def explain(wanted: str) -> list[Block]:
    """Return what is known of a field, given by its path or the end of it: `stop.timeout`.

    Raises `Refused` with near names when there is none.
    """
    known = list(_fields(Document, ()))
    if not wanted:
        return [_listing([one for one in known if len(one.path) == 1])]
    segments = wanted.strip(".").split(".")
    # `watchers.stop.timeout` is the block `stop` rather than a watcher of that name.
    found: list[Explained] = []
    for means in (_is_declared, _is_of_a_name, _ends_with):
        found = [one for one in known if means(one.path, segments)]
        if found:
            break
    if not found:
        words = sorted({one.path[-1] for one in known})
        near = get_close_matches(segments[-1], words, n=3)
        msg = f"cannot explain {wanted}: no such field"
        raise Refused(
            msg, f"did you mean {' or '.join(near)}?" if near else "all of them: reconcile explain"
        )
    page: list[Block] = []
    for one in found:
        page += [(), *_page(one)] if page else _page(one)
    return page


def _is_declared(path: Sequence[str], segments: Sequence[str]) -> bool:
    return [segment for segment in path if segment != ANY_NAME] == list(segments)


def _is_of_a_name(path: Sequence[str], segments: Sequence[str]) -> bool:
    """Tell whether the path is meant, with a name of the user's in it."""
    if len(path) != len(segments):
        return False
    return all(there in (ANY_NAME, given) for there, given in zip(path, segments, strict=True))


def _ends_with(path: Sequence[str], segments: Sequence[str]) -> bool:
    return list(path[-len(segments) :]) == list(segments)


def _fields(cls: type, above: tuple[str, ...]) -> Iterator[Explained]:
    for field in declared_fields(cls):
        if field.attribute == "x":
            continue
        block, many = _block_of(field.type)
        path = (*above, field.name)
        yield Explained(path, field, block)
        if block is not None:
            yield from _fields(block, (*path, ANY_NAME) if many else path)


def _block_of(hint: object) -> tuple[type | None, bool]:
    """Return the class of a field that is a block, and whether it holds many of them by name."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _block_of(arguments[0])
    if isinstance(hint, type) and is_dataclass(hint) and hint.__name__.endswith("Spec"):
        return hint, False
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return _block_of(arguments[1])[0], True
    if origin in (Union, types.UnionType):
        blocks = [block for block, _ in map(_block_of, arguments) if block is not None]
        return (blocks[0], False) if len(blocks) == 1 else (None, False)
    return None, False


def _page(one: Explained) -> list[Block]:
    field = one.field
    default = "required" if field.required else f"default {_default_text(field)}"
    facts = f"  {_kind_text(field)}; {default}"
    if one.block is not None and not field.required and _default_text(field) in {"", "{}"}:
        facts = f"  {_kind_text(field)}"
    page: list[Block] = [
        (Cell(".".join(one.path), "title"),),
        (Cell(facts),),
        Wrapped((Cell("  "), Cell(field.about.doc)), 2),
        Wrapped(
            (
                Cell("  an edit: ", "quiet"),
                Cell(f"{_EFFECTS[field.about.effect]} ({field.about.effect})"),
            )
        ),
    ]
    if one.block is not None:
        rows = [one for one in _fields(one.block, ()) if len(one.path) == 1]
        page += [(), _listing(rows)]
    return page


def _listing(rows: Sequence[Explained]) -> Table:
    cells = [
        (
            Cell(".".join(row.path), "cyan"),
            Cell(_kind_text(row.field)),
            Cell("required" if row.field.required else _default_text(row.field)),
            Cell(row.field.about.doc),
        )
        for row in rows
    ]
    return Table(("FIELD", "TYPE", "DEFAULT", "MEANING"), cells, ("DEFAULT", "TYPE"))


def _kind_text(field: Field) -> str:
    """Return the type as users write it. A command may also be one string, which only the loader
    knows."""
    return (
        "text or list of text" if field.type == Command else _type_text(field.type, field.markers)
    )


def _type_text(hint: object, markers: Sequence[object] = ()) -> str:
    reads = next((marker for marker in markers if isinstance(marker, Reads)), None)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _type_text(arguments[0], (*markers, *arguments[1:]))
    if origin in (Union, types.UnionType) and reads is None:
        texts = [_type_text(each) for each in arguments if each is not type(None)]
        return " or ".join(dict.fromkeys(texts))
    if reads is not None:
        return reads.kind
    if origin is Literal:
        return " | ".join(
            str(value).lower() if isinstance(value, bool) else str(value) for value in arguments
        )
    if origin is tuple:
        return f"list of {_type_text(arguments[0])}"
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return f"map of names to {_type_text(arguments[1])}"
    between = next((marker for marker in markers if isinstance(marker, Between)), None)
    if between is not None:
        return f"{between.low} to {between.high}"
    if not isinstance(hint, type):
        return "text"
    if is_dataclass(hint):
        names = [field.name for field in declared_fields(hint)]
        return "{" + ", ".join(names) + "}" if len(names) <= _SMALL_BLOCK else "block"
    return _WORDS.get(hint, "text")


def _default_text(field: Field) -> str:
    """Return a default as users would write it."""
    return _value_text(field.default, field)


def _value_text(value: object, field: Field) -> str:
    reads = next(iter(_readers(field.type, field.markers)), None)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and reads is not None and reads.kind in _FORMATS:
        return _FORMATS[reads.kind](value)
    if isinstance(value, tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    if isinstance(value, Mapping):
        return "{}"
    if is_dataclass(value):
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _readers(hint: object, markers: Sequence[object]) -> Iterator[Reads]:
    """Yield the readers of a field's text, also those inside a choice."""
    yield from (marker for marker in markers if isinstance(marker, Reads))
    for argument in get_args(hint):
        if get_origin(argument) is Annotated:
            inner, *more = get_args(argument)
            yield from _readers(inner, more)
