"""Methods that follow how far something is, and the end of what is followed."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import Final

from reconciler.controller.api.request import Request
from reconciler.controller.api.selectors import Wanted, labels_of, select, wanted
from reconciler.controller.api.streams import Stream, Streams
from reconciler.controller.api.waiters import Pursuit
from reconciler.controller.output.status_board import StatusBoard
from reconciler.controller.runtime import clock
from reconciler.controller.specs.revisions import Revisions
from reconciler.core import goals as core_goals
from reconciler.core.reconciler import Reconciler
from reconciler.model.errors import RequestError
from reconciler.model.order import Goal
from reconciler.model.units import MILLISECOND_NS
from reconciler.model.value import Part
from reconciler.wire import methods

PROGRESS_PAUSE_NS: Final = 100 * MILLISECOND_NS
MAX_WAITING_SHOWN: Final = 20


class ProgressMethods(Part):
    """`apply.follow`, `orders.follow`, `wait.follow` and `stream.cancel`."""

    core: Reconciler
    board: StatusBoard
    revisions: Revisions
    streams: Streams

    def apply_follow(self, request: Request, asked: methods.FollowApply) -> None:
        """Send what is still to be done until what is meant is as desired."""
        selection = wanted(asked)
        # With a revision, what it removes and its sockets may be named: they are nothing to wait for.
        if asked.revision is None:
            select(self.core, selection)
        stream = ProgressStream(self.core, self.board, self.revisions, selection, asked)
        self.streams.add(request, stream)

    def orders_follow(self, request: Request, asked: methods.FollowOrders) -> None:
        """Send how far the goals of orders are."""
        self.streams.add(
            request, GoalStream(self.board, Pursuit(self.core, self.board, asked.goals))
        )

    def wait_follow(self, request: Request, asked: methods.FollowWait) -> None:
        """Send how far watchers are from what is waited for."""
        selected = select(self.core, wanted(asked), needed=True)
        goals, why = [], ""
        for name, slots in selected.slots.items():
            spec = self.core.spec.watchers.get(name)
            awaits = asked.awaits or (core_goals.usual(spec) if spec is not None else "ready")
            cannot = core_goals.never(awaits, spec) if spec is not None else ""
            # One that a glob selects need not be of a kind that comes to it.
            if not cannot or name in selected.by_name:
                goals.append(Goal(name, awaits, slots or ()))
            why = why or f"{name} {cannot}"
        if not goals:
            raise RequestError(code="invalid_request", message=why)
        pursuit = Pursuit(self.core, self.board, goals)
        self.streams.add(request, GoalStream(self.board, pursuit))

    def stream_cancel(self, request: Request, asked: methods.CancelStream) -> None:
        """End a stream of this connection."""
        if not self.streams.cancel(request.connection, asked.stream):
            message = f"this connection has no stream {asked.stream}"
            raise RequestError(code="not_found", message=message)
        request.reply({})


class PacedStream(Stream):
    """Says how far something is: when it was touched, but not more often than anybody reads."""

    _is_due = True
    _sent_ns = 0

    def touched(self, names: frozenset[str]) -> None:
        """Look again soon."""
        if not self._is_due:
            self._is_due = True
            self.reactor.at(self, self._sent_ns + PROGRESS_PAUSE_NS, self._tell)

    @abstractmethod
    def look(self) -> tuple[dict[str, object], int | None]:
        """Return how it stands, and when that changes though nobody is touched."""

    def pump(self) -> bool:
        """Send how it stands, when something was touched since."""
        if not self._is_due or self.is_over or not self.connection.has_room:
            return False
        standing, again_ns = self.look()
        if self.send(**standing):
            self._is_due, self._sent_ns = False, clock.now_ns()
            self.is_over = bool(standing["done"])
            if again_ns is not None and not self.is_over:
                # Some states end by themselves and touch nobody, such as the first second of a life.
                again_ns = max(again_ns, self._sent_ns + PROGRESS_PAUSE_NS)
                self.reactor.at(self, again_ns, self._tell)
        return False

    def _tell(self) -> None:
        self._is_due = True
        self.streams.pump(self)

    def close(self) -> None:
        """Take the next look back."""
        self.reactor.at(self, None, self._tell)


class ProgressStream(PacedStream):
    """What is still to be done until everything selected is as desired; ends then."""

    def __init__(
        self,
        core: Reconciler,
        board: StatusBoard,
        revisions: Revisions,
        selection: Wanted,
        asked: methods.FollowApply,
    ) -> None:
        self.core, self.board, self.revisions = core, board, revisions
        self.selection, self.asked = selection, asked

    def look(self) -> tuple[dict[str, object], int | None]:
        """Return who is waited for, and what came of the revision."""
        core, board = self.core, self.board
        # Who follows runs looks at all watchers, the others at those that are not as desired.
        maybe = core.names() if self.asked.runs else sorted(board.unwanted())
        is_meant, labels = self.selection.matches, partial(labels_of, core)
        missing = [n for n in maybe if is_meant(n, labels(n)) and not self._has_come_about(n)]
        outcome, reason = self._verdict()
        # A revision that is not good comes to no other end by itself.
        over = outcome in {"paused", "rolled_back"}
        is_there = not missing and core.revision >= (self.asked.revision or 0) and core.revision > 0
        standing = {
            "revision": core.revision,
            "converged": is_there and not over,
            "waiting": board.waiting(missing[:MAX_WAITING_SHOWN]),
            "remaining": len(missing),
            "outcome": outcome,
            "reason": reason,
            "done": is_there or over,
        }
        return standing, board.changes_at_ns(missing)

    def _verdict(self) -> tuple[str, str]:
        """Return what came of the revision that is followed, and why; nobody asked when watchers were named."""
        number = self.asked.revision
        if not number and not self.selection.is_all:
            return "", ""
        followed = self.revisions.known.get(number) if number else self.revisions.current
        return ("", "") if followed is None else (followed.outcome, followed.trial.reason)

    def _has_come_about(self, name: str) -> bool:
        if not self.board.as_desired(name):
            return False
        if not self.asked.runs:
            return True
        status = self.board.of(name)
        return status.kind != "job" or all(slot.state != "Running" for slot in status.slots)


class GoalStream(PacedStream):
    """How far the goals of orders are; ends when none is open any more."""

    def __init__(self, board: StatusBoard, pursuit: Pursuit) -> None:
        self.board, self.pursuit = board, pursuit

    def touched(self, names: frozenset[str]) -> None:
        """Look again soon, when one of these watchers is waited for."""
        if self.pursuit.touched(names):
            super().touched(names)

    def pump(self) -> bool:
        """Look at what was touched, as much in each turn as it has time for, and send how it stands after that."""
        if not self._is_due or self.is_over or not self.connection.has_room:
            return False
        if not self.pursuit.look(lambda: self.reactor.turn_is_over):
            return True
        return super().pump()

    def look(self) -> tuple[dict[str, object], int | None]:
        """Return who is waited for, and what cannot come about any more."""
        left, done = self.pursuit.names, self.pursuit.is_over
        standing = {
            "waiting": self.board.waiting(left[:MAX_WAITING_SHOWN]),
            "remaining": len(left),
            "failed": self.pursuit.failed,
            "converged": done and not self.pursuit.failed,
            "done": done,
        }
        return standing, self.pursuit.next_look_ns()
