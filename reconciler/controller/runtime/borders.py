"""Borders: where something enters from outside, whatever goes wrong costs the one thing that was asked for.

A request, a background task, a thread, a callback of the reactor, a file event, the store's writer: each has
one place that catches what nobody expected, and hands it to `Border.report`. That tells an event, puts the
traceback into the manager's own log, and returns a sentence for whoever waits for an answer. Only what is
`Fatal` passes: the core's own contradictions, after which its state cannot be trusted, and the ends that a
controller comes to on purpose.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from reconciler.controller.runtime import clock
from reconciler.model.event import Event
from reconciler.model.units import SECOND_NS

WINDOW_NS: Final = 60 * SECOND_NS
"""The same error at the same place becomes one event within this time; the log has every one."""
MAX_REMEMBERED: Final = 1000
"""Places and kinds of error that are told apart."""


class Fatal(Exception):
    """It ends this controller; its children live on, and the keeper starts the next one."""


class Contradiction(Fatal):
    """The core has failed, or what it was to be told is lost: what is believed may not be so any more."""


class Log(Protocol):
    """The manager's own log, for those who only add lines to it."""

    def write(
        self,
        level: str,
        message: str,
        *,
        trace: str = "",
        repeats: tuple[object, ...] | None = None,
        **pairs: object,
    ) -> None:
        """Have one line written; `repeats` says which other lines are the same thing said again."""


class Border:
    """Takes what nobody expected."""

    def __init__(self, log: Log, tell: Callable[[Event], None]) -> None:
        self._log = log
        self._tell = tell
        self._told: dict[tuple[str, str], tuple[int, int]] = {}
        """Until when an error was told of, and how often it has come again since."""

    def report(self, where: str, error: BaseException) -> str:
        """Tell of an unexpected error and return what it was, in a few words. Raises only what is `Fatal`.

        `where` says what was being done: "while " goes before it.
        """
        if isinstance(error, Fatal):
            raise error
        text = said(error)
        trace = "".join(traceback.format_exception(error))
        self._log.write("error", "unexpected error", trace=trace, where=where, cause=text)
        with suppress(Exception):
            self._tell_once(where, text, type(error).__name__)
        return text

    def guard(self, where: str, call: Callable[[], object]) -> bool:
        """Call something that concerns one of many; False when it failed, which is reported."""
        try:
            call()
        except Exception as error:
            self.report(where, error)
            return False
        return True

    def _tell_once(self, where: str, text: str, kind: str) -> None:
        now = clock.now_ns()
        until, more = self._told.get((where, kind), (0, 0))
        if now < until:
            self._told[where, kind] = (until, more + 1)
            return
        if len(self._told) >= MAX_REMEMBERED:
            self._told.clear()
        self._told[where, kind] = (now + WINDOW_NS, 0)
        again = f" ({more} more of the kind since the last)" if more else ""
        message = f"unexpected error while {where}: {text}{again}; the log has the traceback"
        details = {"where": where, "error": text, "more": more}
        self._tell(Event("controller.fault", message, details=details))


def said(error: BaseException) -> str:
    """Return an error in a few words, its kind included unless the system said it."""
    if isinstance(error, OSError) and error.strerror:
        place = f" {error.filename!r}" if error.filename else ""
        return f"{error.strerror.lower()}{place}"
    text = str(error)
    return f"{type(error).__name__}: {text:.200}" if text else type(error).__name__


def cause_of(error: Exception) -> str:
    """Return what the system said of something that is named beside it."""
    return (getattr(error, "strerror", None) or str(error)).lower()
