"""The shape of every field, from its declared type: what the resolver walks along with the nodes."""

from __future__ import annotations

import types
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Final, TypeAlias, Union, get_args, get_origin

from reconciler.model.spec import (
    PER_SLOT,
    WORDS,
    Document,
    Field,
    WatcherSpec,
    declared_fields,
)
from reconciler.model.units import MODE, Between, Reads
from reconciler.model.value import Struct


class Block(Struct, frozen=True):
    """A map of declared fields."""

    cls: type
    fields: Mapping[str, tuple[Field, Shape]]
    extensible: bool


class MapOf(Struct, frozen=True):
    """A map from names to values of one shape."""

    value: Shape


class ListOf(Struct, frozen=True):
    """A list."""

    item: Shape


class Words(Struct, frozen=True):
    """A command: one text to split, or a list. `per_slot`: it stays a template."""

    per_slot: bool = True


class Value(Struct, frozen=True):
    """A scalar. `text`: it may be text; `per_slot`: it stays a template; `verbatim`: as it is written;
    `octal`: as it is written too, unless it is null, since YAML would read 660 as a decimal number."""

    text: bool
    per_slot: bool = False
    verbatim: bool = False
    octal: bool = False


class OneOf(Struct, frozen=True):
    """A scalar (or a list), or one of several blocks."""

    blocks: tuple[Block, ...]
    other: Shape


class Free(Struct, frozen=True):
    """Whatever the user likes, untouched."""


Shape: TypeAlias = Block | MapOf | ListOf | Words | Value | OneOf | Free

EXTENSION: Final = "x-"


@cache
def block(cls: type) -> Block:
    """Return the shape of a class of the language."""
    fields = {
        each.name: (each, shape_of(each)) for each in declared_fields(cls) if each.attribute != "x"
    }
    extensible = len(fields) < len(declared_fields(cls))
    return Block(cls, fields, extensible)


def shape_of(declared: Field) -> Shape:
    """Return the shape of a declared field."""
    return _shape(declared.type, declared.markers)


def bare(hint: object) -> tuple[object, tuple[object, ...]]:
    """Return a type without its markers, and those."""
    markers: tuple[object, ...] = ()
    while get_origin(hint) is Annotated:
        hint, *more = get_args(hint)
        markers += tuple(more)
    return hint, markers


def members(hint: object) -> tuple[object, ...]:
    """Return the members of a union, or the type itself."""
    hint = bare(hint)[0]
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def block_classes(hint: object) -> tuple[type, ...]:
    """Return the classes of the language among the members of a type (an address is text to users)."""
    found = []
    for member in members(hint):
        plain, markers = bare(member)
        if (
            isinstance(plain, type)
            and issubclass(plain, Struct)
            and not any(isinstance(m, Reads) for m in markers)
        ):
            found.append(plain)
    return tuple(found)


def is_word(item: object) -> bool:
    """Tell whether a list of such items is a command, which may be written as one text."""
    return not {PER_SLOT, WORDS}.isdisjoint(bare(item)[1])


def _shape(hint: object, outer: tuple[object, ...]) -> Shape:
    hint, inner = bare(hint)
    markers = outer + inner
    reads = _read_by(markers)
    if reads is not None:
        return reads
    if hint is object:
        return Free()
    choices = [each for each in members(hint) if each is not type(None)]
    if len(choices) > 1:
        blocks = block_classes(hint)
        others = [each for each in choices if bare(each)[0] not in blocks]
        other = _merged([_shape(each, ()) for each in others])
        return OneOf(tuple(block(each) for each in blocks), other) if blocks else other
    only, more = bare(choices[0])
    markers += more
    origin = get_origin(only)
    if origin is tuple:
        item = get_args(only)[0]
        if is_word(item):
            return Words(per_slot=PER_SLOT in bare(item)[1])
        return ListOf(_shape(item, ()))
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return _map_shape(get_args(only)[1])
    if isinstance(only, type) and issubclass(only, Struct):
        return block(only)
    return _read_by(markers) or Value(text=only is str, per_slot=PER_SLOT in markers)


def _read_by(markers: tuple[object, ...]) -> Value | None:
    """Return the shape of a value that a marker reads, None when there is no such marker."""
    if MODE in markers:
        return Value(text=False, octal=True)
    return Value(text=False) if any(isinstance(each, Reads | Between) for each in markers) else None


def _map_shape(value: object) -> Shape:
    """Maps of plain text (env, labels, vars) keep what is written, whatever YAML makes of it."""
    item = _shape(value, ())
    if isinstance(item, Value):
        return MapOf(Value(text=True, per_slot=item.per_slot, verbatim=True))
    return item if isinstance(item, Free) else MapOf(item)


def _merged(shapes: list[Shape]) -> Shape:
    """Return the shape of a value that may be a scalar of several types, or a list."""
    lists = [each for each in shapes if isinstance(each, ListOf)]
    if lists:
        return lists[0]
    return Value(text=False)


def chosen(shape: OneOf, keys: set[str]) -> Block:
    """Return the block that a map with these keys means."""
    return max(shape.blocks, key=lambda each: len(keys & set(each.fields)))


DOCUMENT: Final = block(Document)
WATCHER: Final = block(WatcherSpec)
