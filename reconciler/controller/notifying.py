"""What the manager tells whoever started it, as sd_notify(3) says; the keeper passes it on.

READY=1 is said when a spec is in force: its sockets are bound or have said why not, and what need not
wait has been started. It does not wait until all is as desired: one service that never comes up would make
systemd end all the others. STATUS= says how far it is, in a sentence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.controller import clock
from reconciler.model.units import SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from reconciler.controller.loop import Controller

STATUS_EVERY_NS: Final = SECOND_NS
"""How long changes gather before the sentence is said again."""
MAX_NAMED: Final = 5


class Notifier:
    """Says it, when somebody listens. `send` takes it to the keeper, behind what it was told before."""

    def __init__(self, controller: Controller, send: Callable[[str], None]) -> None:
        self.listens = False
        self._controller = controller
        self._send = send
        self._ready = False
        self._touched: set[str] = set()
        self._unwanted: set[str] = set()
        self._sentence = ""
        self._due_ns: int | None = None

    def pulse(self) -> None:
        """Answer the keeper that we live, and through it the watchdog."""
        self._send("WATCHDOG=1")

    def acted(self, touched: Iterable[str]) -> None:
        """The core's actions are on their way, and these watchers may look different."""
        if not self.listens or not self._controller.reconciler.is_in_force:
            return
        self._touched.update(touched)
        if not self._ready:
            self._ready = True
            self._send("READY=1")
        self._look_at(clock.now_ns() + STATUS_EVERY_NS)

    def reloading(self) -> None:
        """The files are read again because of a signal."""
        if self.listens:
            self._send(f"RELOADING=1\nMONOTONIC_USEC={clock.now_ns() // 1000}")

    def reloaded(self) -> None:
        """The files were judged: applied, or refused, which the sentence says."""
        if self._ready:
            # Not before the core has sent what comes of them.
            self._controller.reactor.soon(lambda: self._send(f"READY=1\nSTATUS={self._said()}"))

    def stopping(self) -> None:
        """Everything is being stopped."""
        if self.listens:
            self._send("STOPPING=1\nSTATUS=stopping everything in order")

    # ---- the sentence ----

    def _look_at(self, due_ns: int) -> None:
        if self._due_ns is None or due_ns < self._due_ns:
            self._due_ns = due_ns
            self._controller.reactor.at(self, due_ns, self._look)

    def _look(self) -> None:
        self._due_ns = None
        if self._controller.shutting_down:
            return
        before = self._sentence
        if self._said() != before:
            self._send(f"STATUS={self._sentence}")
        # Some become as desired without an event, by having lived long enough.
        board = self._controller.status
        again = [due for each in self._unwanted if (due := board.changes_at_ns(each)) is not None]
        if again:
            self._touched |= self._unwanted
            self._look_at(max(min(again), clock.now_ns() + STATUS_EVERY_NS))

    def _said(self) -> str:
        """Return how everything is; only watchers that were touched are looked at."""
        core, board = self._controller.reconciler, self._controller.status
        for name in self._touched:
            gone = core.watcher_spec(name) is None
            (self._unwanted.discard if gone or board.as_desired(name) else self._unwanted.add)(name)
        self._touched.clear()
        self._sentence = f"revision {core.revision}: all as desired"
        if count := len(self._unwanted):
            named = ", ".join(sorted(self._unwanted)[:MAX_NAMED])
            named += ", …" if count > MAX_NAMED else ""
            self._sentence = f"revision {core.revision}: {count} not as desired: {named}"
        files = self._controller.files
        if files.state not in {"applied", "loading"}:
            self._sentence += f"; the spec is {files.state}"
        return self._sentence
