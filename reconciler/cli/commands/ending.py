"""The end of a manager: which processes it waits for, and which had to be killed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from reconciler.cli.errors import CommandError
from reconciler.cli.views.layout import Cell, Line, Wrapped
from reconciler.cli.views.phrases import due_in, slot_name
from reconciler.model.errors import RequestError
from reconciler.model.units import format_few

if TYPE_CHECKING:
    from reconciler.cli.connection.client import Client
    from reconciler.cli.views.terminal import Live, Terminal
    from reconciler.model.answer import EventEntry

ENDED: Final = frozenset({"manager.ended", "manager.left"})
"""Types of the last event of a manager."""
_FIRST_LOOK_S: Final = 0.5
"""What ends at once needs no message."""
_LOOK_S: Final = 1.0
_MOST_NAMES: Final = 5


class Ending:
    """Shows once a second what the end waits for: on a terminal as a live page, else as lines when it changes."""

    def __init__(
        self,
        screen: Terminal,
        live: Live,
        *,
        now: bool = False,
        prefix: str = "",
        hint: str = "",
    ) -> None:
        self.killed: list[str] = []
        self._now = now
        """All are killed because that was asked for, and nobody needed it."""
        self._screen = screen
        self._live = live
        self._prefix = prefix
        self._hint = hint
        self._look_at = time.monotonic() + _FIRST_LOOK_S
        self._told: list[str] = []

    def take(self, event: EventEntry) -> None:
        """Remember a process that had to be killed."""
        if event.type == "manager.stopping":
            self._now = self._now or bool(event.details.get("now"))
        if event.type == "process.exited" and event.details.get("killed") and not self._now:
            self.killed.append(slot_name(event.watcher, event.slot))

    def look(self, client: Client) -> None:
        """Show what the end waits for, once a second."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _LOOK_S
        try:
            status = client.status()
        except (CommandError, RequestError):
            return  # it has ended, or nearly so
        slots = [(each.name, slot) for each in status.watchers for slot in each.slots]
        names = [slot_name(name, slot.slot) for name, slot in slots if slot.pid]
        if not names:
            return
        ends = [slot.next_ns for _, slot in slots if slot.state == "Stopping"]
        due = [next_ns for next_ns in ends if next_ns is not None]
        kill = f" (SIGKILL {due_in(min(due), time.time_ns())})" if due else ""
        waiting = f"stopping, waiting for {format_few(names, _MOST_NAMES)}{kill}{self._hint}"
        line: Line = (Cell(self._prefix, "title"), Cell(waiting, "busy"))
        if self._screen.is_terminal:
            self._live.show([Wrapped(line)])
        elif names != self._told:
            self._told = names
            self._screen.show(line)

    def outcome(self, name: str) -> str:
        """Return how it ended, in a sentence."""
        if not self.killed:
            return f"{name}: stopped"
        return f"{name}: stopped; had to be killed: {format_few(self.killed, _MOST_NAMES)}"
