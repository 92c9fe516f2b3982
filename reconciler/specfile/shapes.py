"""The shape of every field, from its declared type: what all who walk the language walk along.

A declared type is taken apart here only. Reading data, the JSON Schema, the reference and what a mistake says was
expected are all made from these.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from functools import cache
from typing import Final, Literal, TypeAlias, Union, get_args, get_origin

from reconciler.model.spec import (
    PER_SLOT,
    WORDS,
    Document,
    Field,
    SocketSpec,
    WatcherSpec,
    bare,
    declared_fields,
)
from reconciler.model.units import Between, Reads
from reconciler.model.value import Struct, replace


class _Shape(Struct, frozen=True, kw_only=True):
    """What may stand in a place. `nullable`: null, too."""

    nullable: bool = False


class Block(_Shape, frozen=True):
    """A map of declared fields."""

    cls: type
    fields: Mapping[str, tuple[Field, Shape]]
    by_attribute: Mapping[str, Shape]
    required: tuple[str, ...]
    extensible: bool


class MapOf(_Shape, frozen=True):
    """A map from names to values of one shape."""

    value: Shape


class ListOf(_Shape, frozen=True):
    """A list."""

    item: Shape


class Words(_Shape, frozen=True):
    """A command: one text to split, or a list. `per_slot`: it stays a template."""

    per_slot: bool = True


class Value(_Shape, frozen=True):
    """A scalar of some kind: read by a marker, or one of the words of a `Literal`, or of a plain type.

    `per_slot`: it stays a template; `verbatim`: it is text as it is written, whatever YAML makes of it.
    """

    kind: object
    per_slot: bool = False
    verbatim: bool = False

    @property
    def words(self) -> tuple[object, ...]:
        """Return the words of which it is one, none when it may be something else."""
        return get_args(self.kind) if get_origin(self.kind) is Literal else ()


class OneOf(_Shape, frozen=True):
    """One of several: of the blocks, or (where no map is written) what `other` is."""

    choices: tuple[Shape, ...]
    blocks: tuple[Block, ...]
    other: Shape

    def chosen(self, keys: Mapping[str, object]) -> Block:
        """Return the block that a map with these keys means."""
        return max(self.blocks, key=lambda each: len(keys.keys() & each.fields.keys()))


class Free(_Shape, frozen=True):
    """Whatever the user likes, untouched."""


Shape: TypeAlias = Block | MapOf | ListOf | Words | Value | OneOf | Free

ANY_SCALAR: Final = Value(object)
WORD: Final = Value(str)
EXTENSION: Final = "x-"


@cache
def block(cls: type) -> Block:
    """Return the shape of a class of the language."""
    declared = [each for each in declared_fields(cls) if each.attribute != "x"]
    fields = {each.name: (each, _shape(each.type, each.markers)) for each in declared}
    shapes = {field.attribute: shape for field, shape in fields.values()}
    extensible = len(fields) < len(declared_fields(cls))
    if extensible:
        shapes["x"] = Free()
    required = tuple(name for name, (field, _) in fields.items() if field.required)
    return Block(cls, fields, shapes, required, extensible)


def blocks_in(shape: Shape) -> tuple[Block, ...]:
    """Return the blocks that may stand in a place."""
    if isinstance(shape, Block):
        return (shape,)
    return shape.blocks if isinstance(shape, OneOf) else ()


def item_of(shape: Shape) -> Shape | None:
    """Return the shape of the items when a list may stand in a place."""
    if isinstance(shape, Words):
        return WORD
    shape = shape.other if isinstance(shape, OneOf) else shape
    return shape.item if isinstance(shape, ListOf) else None


def map_of(shape: Shape) -> MapOf | None:
    """Return the shape of a map from names to values when one may stand in a place."""
    choices = shape.choices if isinstance(shape, OneOf) else (shape,)
    return next((each for each in choices if isinstance(each, MapOf)), None)


def _shape(hint: object, outer: tuple[object, ...] = ()) -> Shape:
    hint, inner = bare(hint)
    markers = outer + inner
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    choices = [each for each in members if each is not type(None)]
    marker = next((each for each in markers if isinstance(each, Reads | Between)), None)
    shape: Shape
    if marker is not None:
        shape = Value(marker, PER_SLOT in markers)
    elif len(choices) > 1:
        shape = _one_of(tuple(_shape(each) for each in choices))
    elif choices[0] is hint:
        shape = _of_one_type(hint, markers)
    else:
        shape = _shape(choices[0], markers)
    return replace(shape, nullable=True) if len(choices) < len(members) else shape


def _one_of(choices: tuple[Shape, ...]) -> OneOf:
    blocks = tuple(each for each in choices if isinstance(each, Block))
    others = [
        each
        for each in choices
        if isinstance(each, ListOf) or (isinstance(each, Value) and each.per_slot)
    ]
    return OneOf(choices, blocks, others[0] if others else ANY_SCALAR)


def _of_one_type(hint: object, markers: tuple[object, ...]) -> Shape:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is object:
        return Free()
    if origin is tuple:
        written = bare(arguments[0])[1]
        if PER_SLOT in written or WORDS in written:
            return Words(PER_SLOT in written)
        return ListOf(_shape(arguments[0]))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        value = _shape(arguments[1])
        # Plain text (env, labels, vars) stays what is written, whatever YAML makes of it.
        return MapOf(replace(value, verbatim=True) if isinstance(value, Value) else value)
    if isinstance(hint, type) and issubclass(hint, Struct):
        return block(hint)
    return Value(hint, PER_SLOT in markers)


DOCUMENT: Final = block(Document)
WATCHER: Final = block(WatcherSpec)
SOCKET: Final = block(SocketSpec)
