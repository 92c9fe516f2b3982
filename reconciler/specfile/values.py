"""Data to values, by the declarations of `model.spec`: nothing stands for anything else, no number for text.

msgspec reads what a field holds. The walk down to it is ours, since a user is told all mistakes at once,
each with its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Annotated, NamedTuple, TypeAlias, TypeVar

import msgspec

from reconciler.model.spec import ApplySpec, DaemonSpec, SocketSpec, WatcherSpec
from reconciler.model.units import Between, Reads
from reconciler.specfile.shapes import Block, Free, ListOf, MapOf, OneOf, Shape, Value, Words, block

K = TypeVar("K", bound=int | str)


class Wrong(NamedTuple):
    """One thing that does not fit: where in the data, and why, if there is more to say than what was expected."""

    location: tuple[int | str, ...] = ()
    cause: str = ""
    is_missing: bool = False


class Misfit(Exception):
    """Data does not fit its type."""

    wrong: tuple[Wrong, ...]

    def __init__(self, *wrong: Wrong) -> None:
        self.wrong = wrong or (Wrong(),)


Reader: TypeAlias = Callable[[object], object]
"""Returns the value that data describes. Raises `Misfit` with all that is wrong."""


def prepare() -> None:
    """Make the readers, so that the first spec does not wait for them."""
    for cls in (DaemonSpec, ApplySpec, SocketSpec, WatcherSpec):
        reader_of(cls)


@cache
def reader_of(cls: type) -> Reader:
    """Return how a class of the language is read, from data by attribute."""
    shape = block(cls)
    fields = shape.fields.values()
    readers = {field.attribute: _reader(inner) for field, inner in fields}
    required = [field.attribute for field, _ in fields if field.required]
    if shape.extensible:
        readers["x"] = _map_reader(_as_it_is(object))

    def read(data: object) -> object:
        if not isinstance(data, dict):
            raise Misfit
        missing = [Wrong((name,), is_missing=True) for name in required if name not in data]
        values = _all(((name, readers[name], item) for name, item in data.items()), missing)
        return cls(**values)

    return read


def _all(parts: Iterable[tuple[K, Reader, object]], known: Sequence[Wrong] = ()) -> dict[K, object]:
    """Return all parts as they are read. Raises `Misfit` with what is wrong in any, and what already was."""
    values: dict[K, object] = {}
    found = [*known]
    for key, reader, data in parts:
        try:
            values[key] = reader(data)
        except Misfit as misfit:
            found += [each._replace(location=(key, *each.location)) for each in misfit.wrong]
    if found:
        raise Misfit(*found)
    return values


def _reader(shape: Shape) -> Reader:
    """Return how what has a shape is read."""
    read = _reader_of_some(shape)
    return (lambda data: None if data is None else read(data)) if shape.nullable else read


def _reader_of_some(shape: Shape) -> Reader:
    match shape:
        case Block(cls):
            return reader_of(cls)
        case MapOf(value):
            return _map_reader(_reader(value))
        case ListOf(item):
            return _list_reader(_reader(item))
        case Words():
            return _list_reader(_as_it_is(str))
        case OneOf():
            return _union_reader(shape)
        case Value(Reads() as marker):
            return _parser(marker)
        case Value(Between(low, high)):
            return _as_it_is(Annotated[int, msgspec.Meta(ge=low, le=high)])
        case Value(kind):
            return _as_it_is(kind)
        case Free():
            return _as_it_is(object)


def _as_it_is(hint: object) -> Reader:
    """Return how a word, a number or a text is read: nothing stands for anything else."""

    def read(data: object) -> object:
        try:
            return msgspec.convert(data, hint)
        except msgspec.ValidationError:
            raise Misfit from None

    return read


def _parser(marker: Reads) -> Reader:
    def read(data: object) -> object:
        try:
            return marker.parse(data)
        except ValueError as error:
            raise Misfit(Wrong(cause=str(error))) from None

    return read


def _list_reader(item: Reader) -> Reader:
    def read(data: object) -> object:
        if not isinstance(data, list):
            raise Misfit
        return tuple(_all((index, item, each) for index, each in enumerate(data)).values())

    return read


def _map_reader(value: Reader) -> Reader:
    def read(data: object) -> object:
        if not isinstance(data, dict):
            raise Misfit
        return _all((key, value, each) for key, each in data.items())

    return read


def _union_reader(shape: OneOf) -> Reader:
    """Return how one of several is read: a map as the block it looks most like, all else as what it fits."""
    readers = [_reader(each) for each in shape.choices if not isinstance(each, Block)]

    def read(data: object) -> object:
        if shape.blocks and isinstance(data, dict):
            return reader_of(shape.chosen(data).cls)(data)
        found = Misfit()
        for reader in readers:
            try:
                return reader(data)
            except Misfit as misfit:
                if misfit.wrong != (Wrong(),):
                    found = misfit  # it says more than that nothing fits
        raise found

    return read
