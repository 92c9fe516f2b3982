"""What the manager tells whoever started it, as sd_notify(3) says; the keeper passes it on.

READY=1 is said when a spec is in force: its sockets are bound or have said why not, and what need not
wait has been started. It does not wait until all is as desired: one service that never comes up would make
systemd end all the others. STATUS= says how far it is, in a sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from reconciler.controller.output.status_board import StatusBoard
from reconciler.controller.runtime import clock
from reconciler.controller.runtime.reactor import Reactor
from reconciler.core.reconciler import Reconciler
from reconciler.model.units import SECOND_NS
from reconciler.model.value import Part

STATUS_EVERY_NS: Final = SECOND_NS
"""How long changes gather before the sentence is said again."""
MAX_NAMED: Final = 5


class Notifier(Part):
    """Says it, when somebody listens. `send` takes it to the keeper, behind what it was told before.

    `spec_state` says how the spec's files stand to what is in force, `is_ending` whether all is being stopped.
    """

    core: Reconciler
    board: StatusBoard
    reactor: Reactor
    send: Callable[[str], None]
    listens: bool
    spec_state: Callable[[], str]
    is_ending: Callable[[], bool]
    _ready: bool = False
    _sentence: str = ""
    _due_ns: int | None = None

    def heartbeat(self) -> None:
        """Answer the keeper that we live, and through it the watchdog."""
        self.send("WATCHDOG=1")

    def acted(self) -> None:
        """The core's actions are on their way, and watchers may look different."""
        if not self.listens or not self.core.is_in_force:
            return
        if not self._ready:
            self._ready = True
            self.send("READY=1")
        self._look_at(clock.now_ns() + STATUS_EVERY_NS)

    def reloading(self) -> None:
        """The files are read again because of a signal."""
        if self.listens:
            self.send(f"RELOADING=1\nMONOTONIC_USEC={clock.now_ns() // 1000}")

    def reloaded(self) -> None:
        """The files were judged: applied, or refused, which the sentence says."""
        if self._ready:
            # Not before the core has sent what comes of them.
            self.reactor.soon(lambda: self.send(f"READY=1\nSTATUS={self._said()}"))

    def stopping(self) -> None:
        """Everything is being stopped."""
        if self.listens:
            self.send("STOPPING=1\nSTATUS=stopping everything in order")

    # ---- the sentence ----

    def _look_at(self, due_ns: int) -> None:
        if self._due_ns is None or due_ns < self._due_ns:
            self._due_ns = due_ns
            self.reactor.at(self, due_ns, self._look)

    def _look(self) -> None:
        self._due_ns = None
        if self.is_ending():
            return
        before = self._sentence
        if self._said() != before:
            self.send(f"STATUS={self._sentence}")
        # Some become as desired without an event, by having lived long enough.
        again = self.board.changes_at_ns(self.board.unwanted())
        if again is not None:
            self._look_at(max(again, clock.now_ns() + STATUS_EVERY_NS))

    def _said(self) -> str:
        """Return how everything is."""
        unwanted = self.board.unwanted()
        how = "all as desired"
        if unwanted:
            named = ", ".join(sorted(unwanted)[:MAX_NAMED])
            more = ", …" if len(unwanted) > MAX_NAMED else ""
            how = f"{len(unwanted)} not as desired: {named}{more}"
        self._sentence = f"revision {self.core.revision}: {how}"
        state = self.spec_state()
        if state not in {"applied", "loading"}:
            self._sentence += f"; the spec is {state}"
        return self._sentence
