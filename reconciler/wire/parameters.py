"""Reading a request's parameters into the value that its method takes; what it does not know is an error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar, get_args, get_origin

from msgspec import NODEFAULT, Meta
from msgspec.structs import fields

from reconciler.model.errors import RequestError
from reconciler.model.value import PlainError, Struct, from_plain

if TYPE_CHECKING:
    from msgspec.structs import FieldInfo

S = TypeVar("S", bound=Struct)


def read(kind: type[S], values: Mapping[str, object]) -> S:
    """Return the parameters that a request gives. One that is nil counts as not given. Raises `RequestError`."""
    known = _fields(kind)
    given = {name: value for name, value in values.items() if value is not None}
    for name in given.keys() - known.keys():
        own = sorted(known.keys() - {"request_id"})
        hint = f"known: {', '.join(own)}" if own else "it takes none"
        message = f"unknown parameter: {name[:64]!r}"
        raise RequestError(code="invalid_request", message=message, hint=hint)
    found = {}
    for name, field in known.items():
        if name in given:
            found[field.name] = _value(name, field.type, given[name])
        elif field.default is NODEFAULT and field.default_factory is NODEFAULT:
            raise _expected(name, _words(field.type), None)
    return kind(**found)


@cache
def _fields(kind: type[Struct]) -> dict[str, FieldInfo]:
    return {field.encode_name: field for field in fields(kind)}


def _value(name: str, kind: object, value: object) -> object:
    """Return a parameter as what is expected. Raises `RequestError`."""
    if isinstance(value, str | bytes) and get_origin(_unwrapped(kind)[0]) is tuple:
        value = [value]  # a single text is a list of one
    try:
        return from_plain(kind, _decoded(value))
    except UnicodeError:
        raise _expected(name, "UTF-8", value) from None
    except PlainError as error:
        if not isinstance(value, list) or all(isinstance(each, str | bytes) for each in value):
            raise _expected(name, _words(kind), value) from None
        message = f"{name}: {error}"
        raise RequestError(code="invalid_request", message=message) from None


def _decoded(value: object) -> object:
    """Return a value with texts for bytes and whole numbers for floats that are whole: a language may know no others.

    Raises `UnicodeError`.
    """
    match value:
        case bytes():
            return value.decode()
        case str():
            value.encode()
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_decoded(each) for each in value]
        case dict():
            return {key: _decoded(each) for key, each in value.items()}
        case _:
            pass
    return value


def _expected(name: str, what: str, value: object) -> RequestError:
    plain = isinstance(value, bool | list | dict)
    shown = json.dumps(value, default=repr) if plain else repr(value)
    found = "nothing" if value is None else shown[:60]
    return RequestError("invalid_request", f"{name}: expected {what}, found {found}")


def _words(kind: object) -> str:
    """Return in words what a type accepts."""
    bare, bounds = _unwrapped(kind)
    if bare is int:
        return f"a whole number from {bounds.ge} to {bounds.le}"
    if bare is str:
        return f"a text of at most {bounds.max_length} characters"
    if get_origin(bare) is tuple:
        return "a list of texts"
    if get_origin(bare) is Literal:
        return f"one of {', '.join(get_args(bare))}"
    if get_origin(bare) is Mapping:
        item, bounds = _unwrapped(get_args(bare)[1])
        if item is str:
            return "a map of texts"
        return f"a map from names to numbers from {bounds.ge} to {bounds.le}"
    return "true or false"


def _unwrapped(kind: object) -> tuple[object, Meta]:
    """Return a type without its bounds and without None, and its bounds."""
    bounds = Meta()
    while get_origin(kind) is Annotated or NoneType in get_args(kind):
        if get_origin(kind) is Annotated:
            bounds = get_args(kind)[1]
        kind = next(each for each in get_args(kind) if each is not NoneType)
    return kind, bounds
