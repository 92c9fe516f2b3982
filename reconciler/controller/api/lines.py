"""Work of requests that is done in pieces: one request after another, and each over as many turns as it takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

from reconciler.controller.api.request import Request
from reconciler.controller.runtime.reactor import Reactor
from reconciler.model.value import Part, field

Piece: TypeAlias = Literal["later"] | None
"""What came of a piece of work: it was done, or has to wait for the next turn."""


class Job(Part):
    """The work of one request: its pieces, and what comes after the last."""

    request: Request
    pieces: Iterator[Piece]
    then: Callable[[], object]

    def go_on(self, reactor: Reactor) -> bool:
        """Do what is to be done in this turn; False when there is more. What goes wrong ends it, and is its answer."""
        left = False

        def work() -> None:
            nonlocal left
            for piece in self.pieces:
                if piece == "later" or reactor.turn_is_over:
                    left = True
                    return
            self.then()

        self.request.guard(work)
        return not left


def in_pieces(
    reactor: Reactor, request: Request, pieces: Iterator[Piece], then: Callable[[], object]
) -> None:
    """Do the work of a request that has to wait for no other one."""
    job = Job(request, pieces, then)

    def go_on() -> None:
        if not job.go_on(reactor):
            reactor.soon(go_on)

    go_on()


class WorkLine(Part):
    """Those whose work is under way, the first of them served, so that a later one builds upon what it has done.

    All others of the controller have their turn between two pieces, so that nobody waits for a large one.
    """

    reactor: Reactor
    _jobs: deque[Job] = field(default_factory=deque)

    def add(self, request: Request, pieces: Iterator[Piece], then: Callable[[], object]) -> None:
        """Do the work of a request, at once when nobody stands before it."""
        self._jobs.append(Job(request, pieces, then))
        if len(self._jobs) == 1:
            self._go_on()

    def _go_on(self) -> None:
        while self._jobs:
            if self._jobs[0].go_on(self.reactor):
                self._jobs.popleft()
            elif self._jobs:
                self.reactor.soon(self._go_on)
                return
