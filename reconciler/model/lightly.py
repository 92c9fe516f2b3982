"""What our values are made of in a command that only shows what a manager says: the same classes, without msgspec.

msgspec takes longer to import than such a command takes for all else. `value` takes from here what it takes from
msgspec otherwise, by the same names; a value is read the same way or not at all: `Unlike` says that msgspec is to be
asked, whose messages are the ones that people get.
"""

from __future__ import annotations

import sys
from types import GenericAlias, NoneType, UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, get_origin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Plain = Any
"""A plain value, what it is read as, or the type that says so."""
_NEEDED: Final = object()


class ValidationError(ValueError):
    """As msgspec has it; never raised here."""


class Unlike(Exception):
    """A plain value, or the type that was asked for, is none that is read here."""


class _Field:
    """What `field` says of a field in place of its default."""

    def __init__(
        self, default: Plain, default_factory: Callable[[], Plain] | None, name: str
    ) -> None:
        self.default = default
        self.default_factory = default_factory
        self.name = name


def field(
    *, default: Plain = _NEEDED, default_factory: Callable[[], Plain] | None = None, name: str = ""
) -> Plain:
    """Say more of a field than its default."""
    return _Field(default, default_factory, name)


class Struct:
    """A value whose fields are those that its class and the classes above it declare, in this order.

    A default is an attribute of the class, so that a value has of its own only what differs.
    """

    __struct_fields__: tuple[str, ...] = ()
    __struct_encode_fields__: tuple[str, ...] = ()
    _factories: ClassVar[Mapping[str, Callable[[], Plain]]] = {}
    _needed: ClassVar[frozenset[str]] = frozenset()
    _incomplete: ClassVar[bool] = False
    """An attribute of the class is not all that a value needs that is given nothing."""
    _readers: ClassVar[dict[str, tuple[str, Callable[[Plain], Plain]]]] = {}

    def __init_subclass__(cls, *, eq: bool = True, **_: object) -> None:
        if not eq:
            cls.__eq__, cls.__hash__ = object.__eq__, object.__hash__  # type: ignore[method-assign]
        written = dict(zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True))
        factories = dict(cls._factories)
        for name in cls.__annotations__:
            written[name] = name
            said = cls.__dict__.get(name)
            if isinstance(said, _Field):
                written[name] = said.name or name
                delattr(cls, name)
                if said.default_factory is not None:
                    factories[name] = said.default_factory
                elif said.default is not _NEEDED:
                    setattr(cls, name, said.default)
        cls.__struct_fields__, cls.__struct_encode_fields__ = tuple(written), (*written.values(),)
        cls._factories = factories
        defaulted = {*factories}.union(*(vars(each) for each in cls.__mro__[:-1]))
        cls._needed = frozenset(written) - defaulted
        cls._incomplete = bool(cls._needed or factories)
        cls._readers = {}

    def __init__(self, *given: object, **named: object) -> None:
        own = self.__dict__
        if given:
            own.update(zip(self.__struct_fields__, given, strict=False))
        if named:
            own.update(named)
        if self._incomplete:
            self._complete()

    def _complete(self) -> None:
        own = self.__dict__
        for name, make in self._factories.items():
            if name not in own:
                own[name] = make()
        if not self._needed <= own.keys():
            msg = f"{type(self).__name__} needs {', '.join(self._needed - own.keys())}"
            raise TypeError(msg)

    @classmethod
    def from_map(cls, plain: Plain) -> Struct:
        """Return the value that a map describes; what else another version says in it is ignored. Raises `Unlike`."""
        known = {}
        for key, item in _as(dict, plain).items():
            found = cls._readers.get(key)
            if found is None:
                found = cls._readers[key] = _reader_of(cls, key)
            name, read = found
            if name:
                known[name] = read(item)
        return cls(**known)

    def _items(self) -> tuple[object, ...]:
        return tuple([getattr(self, name) for name in self.__struct_fields__])

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._items() == other._items()

    def __hash__(self) -> int:
        return hash(self._items())


def replace(value: Plain, **changes: object) -> Plain:
    """Return a value with some fields changed."""
    return type(value)(**{**value.__dict__, **changes})


# ---- reading -------------------------------------------------------------------------------------


def convert(plain: Plain, kind: Plain, *, str_keys: bool = False) -> Plain:
    """Return the value of a type that a plain value describes. Raises `Unlike` where msgspec is to be asked."""
    return _reader(kind)(plain)


def _reader(kind: Plain) -> Callable[[Plain], Plain]:
    """Return what reads values of a type."""
    if kind in _SCALARS:
        return _SCALARS[kind]
    if isinstance(kind, type) and issubclass(kind, Struct):
        return kind.from_map
    if isinstance(kind, UnionType) and kind.__args__[1:] == (NoneType,):
        read = _reader(kind.__args__[0])
        return lambda plain: None if plain is None else read(plain)
    if isinstance(kind, GenericAlias) and kind.__origin__ is tuple and kind.__args__[1:] == (...,):
        read_each = _reader(kind.__args__[0])
        return lambda plain: tuple(map(read_each, _as(list, plain)))
    origin: Plain = get_origin(kind)
    if origin is Literal:
        return _SCALARS[str]
    raise Unlike


def _as(kind: type, plain: Plain) -> Plain:
    if type(plain) is not kind:
        raise Unlike
    return plain


def _as_float(plain: Plain) -> float:
    return float(plain) if type(plain) is int else _as(float, plain)


_SCALARS = {
    bool: lambda plain: _as(bool, plain),
    int: lambda plain: _as(int, plain),
    str: lambda plain: _as(str, plain),
    float: _as_float,
}


def _reader_of(kind: type[Struct], key: str) -> tuple[str, Callable[[Plain], Plain]]:
    """Return the name of the field that is written under this key, empty when there is none, and what reads it."""
    for name, written in zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True):
        if written == key:
            home = next(each for each in kind.__mro__ if name in each.__annotations__)
            # The annotations are those of our own classes; `from __future__` left them as text.
            return name, _reader(
                eval(home.__annotations__[name], vars(sys.modules[home.__module__]))
            )
    return "", _reader(bool)
