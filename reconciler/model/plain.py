"""Our values to and from plain maps, lists and scalars, for the store and the loader.

msgspec does it for our structs. The classes of the language are dataclasses, since pydantic validates
those, and become the same: a map of their fields under their names, without those at their defaults, and
with the class under `is` where the annotation leaves a choice.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Hashable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import (
    TYPE_CHECKING,
    Annotated,
    Final,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

if TYPE_CHECKING:
    from reconciler.model.value import Plain

T = TypeVar("T")

CLASS_KEY: Final = "is"
_SCALARS: Final = frozenset({bool, int, float, str, bytes, type(None)})

_AS_THEY_ARE: Final = frozenset((type(None), bool, int, float, str, bytes))


class PlainError(ValueError):
    """A plain value does not fit the type that was asked for."""


def to_plain(value: object) -> Plain:
    """Return the plain form of a value."""
    return _writer(cast("Hashable", type(value)))(value, False)


def from_plain(kind: type[T] | object, plain: Plain) -> T:
    """Return the value of type `kind` (a class, a union, any annotation) that `plain` describes.

    Raises `PlainError` when it describes none.
    """
    try:
        return cast("T", _reader(cast("Hashable", kind))(plain))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, PlainError):
            raise
        msg = f"cannot read {_name(kind)}: {type(error).__name__} {error}"
        raise PlainError(msg) from error


def _name(kind: object) -> str:
    return getattr(kind, "__name__", str(kind))


@cache
def _writer(of: Hashable) -> Callable[[Plain, bool], Plain]:
    """Return how values of a class become plain: looked up once, for this is most of what the link costs."""
    kind = cast("type", of)
    if issubclass(kind, msgspec.Struct):
        return lambda value, tagged: msgspec.to_builtins(value, builtin_types=(bytes,))
    if is_dataclass(kind):
        return _dataclass_writer(kind)
    if kind in _AS_THEY_ARE or issubclass(kind, str | int | float | bytes):
        return lambda value, tagged: value
    if issubclass(kind, Mapping):
        return lambda value, tagged: {key: to_plain(item) for key, item in value.items()}
    return lambda value, tagged: [to_plain(item) for item in value]


def _dataclass_writer(cls: type) -> Callable[[Plain, bool], Plain]:
    outline = _outline(cls)

    def write(value: Plain, tagged: bool) -> Plain:
        plain: dict[str, Plain] = {CLASS_KEY: cls.__name__} if tagged else {}
        for name, default, choice in outline:
            item = getattr(value, name)
            if item is default or item == default:
                continue
            kind = type(item)
            if kind in _AS_THEY_ARE:
                plain[name] = item
            else:
                plain[name] = _writer(cast("Hashable", kind))(item, choice)
        return plain

    return write


@cache
def _outline(kind: Hashable) -> tuple[tuple[str, object, bool], ...]:
    """Return name, default and whether the annotation leaves a choice of class, per field."""
    cls = cast("type", kind)
    hints = get_type_hints(cls)
    return tuple(
        (
            f.name,
            f.default_factory() if f.default_factory is not MISSING else f.default,
            not is_dataclass(hints[f.name]),
        )
        for f in fields(cls)
    )


@cache
def _reader(kind: Hashable) -> Callable[[Plain], object]:
    if all(
        isinstance(m, type) and issubclass(m, msgspec.Struct) for m in get_args(kind) or (kind,)
    ):
        return lambda plain: msgspec.convert(plain, kind, str_keys=True)
    origin = get_origin(kind)
    if origin is Annotated:
        return _reader(get_args(kind)[0])
    if origin is Union or origin is types.UnionType:
        return _union_reader(get_args(kind))
    if origin is tuple:
        item = _reader(get_args(kind)[0])
        return lambda plain: tuple([item(one) for one in plain])
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        value = _reader(get_args(kind)[1])
        key = _key_reader(get_args(kind)[0])
        return lambda plain: {key(k): value(v) for k, v in plain.items()}
    if origin is Literal:
        return _literal_reader(get_args(kind))
    if is_dataclass(kind):
        return _dataclass_reader(cast("type", kind))
    if kind is object:
        return lambda plain: plain
    return _scalar_reader(cast("type", kind))


def _key_reader(kind: object) -> Callable[[Plain], object]:
    """Keys of JSON maps are always text, also where ours are numbers."""
    return int if kind is int else str


def _literal_reader(choices: tuple[object, ...]) -> Callable[[Plain], object]:
    def read(plain: Plain) -> object:
        if plain not in choices:
            msg = f"expected one of {choices}, found {plain!r}"
            raise PlainError(msg)
        return plain

    return read


def _scalar_reader(kind: type) -> Callable[[Plain], object]:
    def read(plain: Plain) -> object:
        if type(plain) is not kind:
            if kind is float and type(plain) is int:
                return float(plain)
            msg = f"expected {_name(kind)}, found {type(plain).__name__}"
            raise PlainError(msg)
        return plain

    return read


def _dataclass_reader(cls: type) -> Callable[[Plain], object]:
    hints = get_type_hints(cls)
    readers = {f.name: _reader(hints[f.name]) for f in fields(cls)}

    def read(plain: Plain) -> object:
        return cls(**{name: readers[name](item) for name, item in plain.items() if name in readers})

    return read


def _union_reader(members: tuple[object, ...]) -> Callable[[Plain], object]:
    """Read a union: dataclasses by the class that the map names, all else by the first that fits."""
    classes = {cast("type", m).__name__: m for m in members if is_dataclass(m)}
    others = [m for m in members if not is_dataclass(m) and m is not type(None)]
    none = type(None) in members

    def read(plain: Plain) -> object:
        if plain is None and none:
            return None
        if isinstance(plain, dict) and classes:
            name = plain.get(CLASS_KEY)
            if name is None and len(classes) == 1:
                return _reader(cast("Hashable", next(iter(classes.values()))))(plain)
            if name in classes:
                return _reader(cast("Hashable", classes[name]))(plain)
        for member in others:
            try:
                return _reader(member)(plain)
            except (PlainError, TypeError, AttributeError):
                continue
        msg = f"expected one of {', '.join(map(_name, members))}, found {plain!r:.80}"
        raise PlainError(msg)

    return read
