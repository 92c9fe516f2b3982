"""Mistakes of the user: where, what was found, what was expected, and what to try."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from reconciler.model.value import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping

Code = Literal[
    "not_found",
    "invalid_spec",
    "denied",
    "conflict",
    "unsupported",
    "invalid_request",
    "overloaded",
    "shutting_down",
    "timeout",
    "internal",
]


class SpecError(Struct, frozen=True):
    """One mistake in a spec. `line` and `column` count from 1; 0 when the mistake has no place in a text."""

    path: str = ""
    line: int = 0
    column: int = 0
    field: str = ""
    message: str = ""
    hint: str = ""
    excerpt: str = ""
    """The source line and a caret below it, or empty."""

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}:{self.column}" if self.line else self.path
        subject = f"{self.field}: " if self.field else ""
        return f"{place}: {subject}{self.message}" + (f" ({self.hint})" if self.hint else "")


class RequestError(Exception):
    """A request that cannot be answered as asked; goes to the client as `[code, message, details]`."""

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        hint: str = "",
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message
        self.details: dict[str, object] = dict(details or {})
        if hint:
            self.details["hint"] = hint
