"""Reading a request's parameters: each is taken by name and type, what is left over is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from reconciler.model.errors import RequestError
from reconciler.model.value import PlainError, from_plain

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

MAX_TEXT: Final = 4096


class Parameters:
    """The named parameters of one request. A parameter that is nil counts as not given."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = {key: value for key, value in values.items() if value is not None}
        self._known: list[str] = []

    def _take(self, name: str) -> object:
        self._known.append(name)
        return self._values.pop(name, None)

    def text(self, name: str, longest: int = MAX_TEXT) -> str | None:
        """Return a text of at most `longest` characters; bytes are taken as UTF-8."""
        value = self._take(name)
        return None if value is None else _text(name, value, longest)

    def flag(self, name: str) -> bool:
        """Return true or false; not given is false."""
        value = self._take(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise _expected(name, "true or false", value)

    def number(self, name: str, low: int, high: int) -> int | None:
        """Return a whole number within bounds."""
        value = self._take(name)
        if value is None:
            return None
        number = _whole(value)
        if number is not None and low <= number <= high:
            return number
        raise _expected(name, f"a whole number from {low} to {high}", value)

    def texts(self, name: str, longest: int = MAX_TEXT) -> tuple[str, ...]:
        """Return a list of texts; a single text is a list of one."""
        value = self._take(name)
        if value is None:
            return ()
        if isinstance(value, str | bytes):
            return (_text(name, value, longest),)
        if isinstance(value, list):
            return tuple(_text(name, each, longest) for each in value)
        raise _expected(name, "a list of texts", value)

    def text_map(self, name: str) -> dict[str, str]:
        """Return a map from text to text."""
        value = self._take(name)
        if value is None:
            return {}
        if isinstance(value, dict):
            return {key: _text(name, each) for key, each in value.items()}
        raise _expected(name, "a map of texts", value)

    def number_map(self, name: str, low: int, high: int) -> dict[str, int | None]:
        """Return a map from text to a whole number or None."""
        value = self._take(name)
        if not isinstance(value, dict) or not value:
            raise _expected(name, "a map from names to numbers", value)
        numbers = {key: _whole(each) for key, each in value.items()}
        for key, each in value.items():
            number = numbers[key]
            if each is not None and (number is None or not low <= number <= high):
                raise _expected(name, f"whole numbers from {low} to {high}, or `spec` (nil)", each)
        return numbers

    def values(self, name: str, kind: type[T]) -> tuple[T, ...]:
        """Return a list of values of a kind, each written as a map."""
        value = self._take(name)
        try:
            return from_plain(tuple[kind, ...], [] if value is None else value)  # type: ignore[valid-type]  # made of an argument
        except PlainError as error:
            raise RequestError(code="invalid_request", message=f"{name}: {error}") from None

    def choice(self, name: str, choices: tuple[str, ...]) -> str | None:
        """Return one of some words."""
        value = self.text(name)
        if value is None or value in choices:
            return value
        raise _expected(name, f"one of {', '.join(choices)}", value)

    def end(self) -> None:
        """Raise `RequestError` when there are parameters that nobody asked for."""
        for name in self._values:
            hint = f"known: {', '.join(sorted(self._known))}" if self._known else "it takes none"
            raise RequestError(
                code="invalid_request", message=f"unknown parameter: {name[:64]!r}", hint=hint
            )


def _whole(value: object) -> int | None:
    """Return a whole number, also when it was packed as a float: a language may know no other numbers."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(name: str, value: object, longest: int = MAX_TEXT) -> str:
    if isinstance(value, bytes):
        value = value.decode(errors="surrogateescape")
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _expected(name, "UTF-8", value) from None
    if isinstance(value, str) and len(value) <= longest:
        return value
    raise _expected(name, f"a text of at most {longest} characters", value)


def _expected(name: str, what: str, value: object) -> RequestError:
    found = "nothing" if value is None else f"{value!r:.60}"
    return RequestError("invalid_request", f"{name}: expected {what}, found {found}")
