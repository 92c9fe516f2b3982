"""Data to values, by their shapes: nothing stands for anything else, no number for text.

msgspec reads what a field holds. The walk down to it is ours, since a user is told all mistakes at once,
each with its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import msgspec

from reconciler.model.units import Between, Reads
from reconciler.specfile.shapes import (
    Block,
    Free,
    ListOf,
    MapOf,
    OneOf,
    Shape,
    Value,
    Words,
    item_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

K = TypeVar("K", bound=int | str)


class Wrong(NamedTuple):
    """One thing that does not fit: where in the data, and why, if there is more to say than what was expected."""

    location: tuple[int | str, ...] = ()
    cause: str = ""
    is_missing: bool = False


class Misfit(Exception):
    """Data does not fit its shape."""

    wrong: tuple[Wrong, ...]

    def __init__(self, *wrong: Wrong) -> None:
        self.wrong = wrong or (Wrong(),)


def read(shape: Shape, data: object) -> object:
    """Return the value that data describes, blocks by attribute. Raises `Misfit` with all that is wrong."""
    if data is None and shape.nullable:
        return None
    return _READERS[type(shape)](shape, data)


def _block(shape: Block, data: object) -> object:
    if not isinstance(data, dict):
        raise Misfit
    shapes = shape.by_attribute
    missing = [Wrong((each,), is_missing=True) for each in shape.required if each not in data]
    return shape.cls(**_all(((name, shapes[name], each) for name, each in data.items()), missing))


def _all(parts: Iterable[tuple[K, Shape, object]], known: Sequence[Wrong] = ()) -> dict[K, object]:
    """Return all parts as they are read. Raises `Misfit` with what is wrong in any, and what already was."""
    values: dict[K, object] = {}
    found = [*known]
    for key, shape, data in parts:
        try:
            values[key] = read(shape, data)
        except Misfit as misfit:
            found += [each._replace(location=(key, *each.location)) for each in misfit.wrong]
    if found:
        raise Misfit(*found)
    return values


def _map(shape: MapOf, data: object) -> object:
    if not isinstance(data, dict):
        raise Misfit
    return _all((key, shape.value, each) for key, each in data.items())


def _list(shape: ListOf | Words, data: object) -> object:
    item = item_of(shape)
    if not isinstance(data, list) or item is None:
        raise Misfit
    return tuple(_all((index, item, each) for index, each in enumerate(data)).values())


def _one_of(shape: OneOf, data: object) -> object:
    """Read a map as the block that it looks most like, all else as what it fits."""
    if shape.blocks and isinstance(data, dict):
        return _block(shape.chosen(data), data)
    found = Misfit()
    for choice in shape.choices:
        try:
            return read(choice, data)
        except Misfit as misfit:
            if misfit.wrong != (Wrong(),):
                found = misfit  # it says more than that nothing fits
    raise found


def _value(shape: Value, data: object) -> object:
    kind = shape.kind
    if isinstance(kind, Between):
        if type(data) is not int or not kind.low <= data <= kind.high:
            raise Misfit
        return data
    try:
        return kind.parse(data) if isinstance(kind, Reads) else msgspec.convert(data, kind)
    except msgspec.ValidationError:
        raise Misfit from None
    except ValueError as error:
        raise Misfit(Wrong(cause=str(error))) from None


_READERS: Final[dict[type, Callable[[Any, object], object]]] = {
    Block: _block,
    MapOf: _map,
    ListOf: _list,
    Words: _list,
    OneOf: _one_of,
    Value: _value,
    Free: lambda _, data: data,
}
