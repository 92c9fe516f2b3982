"""Goals that somebody waits for, and requests that are answered when what they asked for is done.

When that is, `core.goals` says. Looked at only when one of the watchers in question was touched.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Final

from reconciler.controller.api.request import Request
from reconciler.controller.output.status_board import StatusBoard
from reconciler.controller.runtime import clock
from reconciler.controller.runtime.reactor import Reactor
from reconciler.core import goals as core_goals
from reconciler.core.reconciler import Reconciler
from reconciler.model.errors import RequestError
from reconciler.model.observation import Delivery
from reconciler.model.order import Goal
from reconciler.model.units import format_duration
from reconciler.model.value import Part, field

MAX_NAMED: Final = 10
BY_RECORDS: Final = frozenset({"down", "reloaded"})
"""Goals that no passing of time brings about: only what happens to processes, and then their watcher is touched."""


class Pursuit:
    """Goals that somebody waits for: which are open, and which cannot come about.

    Judged again are only those of watchers that were touched since, or whose status changes by itself.
    """

    def __init__(self, core: Reconciler, board: StatusBoard, goals: Iterable[Goal]) -> None:
        self._core = core
        self._board = board
        self._open: dict[str, list[Goal]] = {}
        for goal in goals:
            self._open.setdefault(goal.name, []).append(goal)
        self._stale = set(self._open)
        self._changing: dict[str, int] = {}
        """When the status of a watcher changes and touches nobody, such as after the first second of a life."""
        self.failed: list[dict[str, str]] = []

    @property
    def names(self) -> list[str]:
        """Return the watchers that are still waited for, in their order."""
        return sorted(self._open)

    @property
    def is_over(self) -> bool:
        """Tell whether there is nothing more to wait for."""
        return not self._open

    def touched(self, names: Iterable[str]) -> bool:
        """Take note that watchers may have changed; True when one of them is waited for."""
        found = {name for name in names if name in self._open}
        self._stale |= found
        return bool(found)

    def look(self, turn_is_over: Callable[[], bool]) -> bool:
        """Judge the goals that may have come about, as many as this turn has time for; True when that was all."""
        now_ns = clock.now_ns()
        self._stale |= {name for name, at_ns in self._changing.items() if at_ns <= now_ns}
        while self._stale:
            name = self._stale.pop()
            if name in self._open:
                self._judge(name)
                if turn_is_over():
                    break
        return not self._stale

    def _judge(self, name: str) -> None:
        left = []
        is_known = self._core.watcher_spec(name) is not None
        now_ns, offset = clock.now_ns(), clock.wall_offset_ns()
        it = self._core.subject(name, now_ns, offset) if is_known else None
        for goal in self._open.pop(name):
            found = core_goals.judge(goal, it) if it is not None else core_goals.gone(goal)
            if found.state == "open":
                left.append(goal)
            elif found.state == "failed":
                insort(
                    self.failed, {"name": name, "message": found.message}, key=itemgetter("name")
                )
        self._changing.pop(name, None)
        if left:
            self._open[name] = left
            if all(goal.kind in BY_RECORDS for goal in left):
                return
            changes_ns = self._board.changes_at_ns([name])
            if changes_ns is not None:
                self._changing[name] = changes_ns

    def next_look_ns(self) -> int | None:
        """Return when to look again though nobody was touched."""
        return min(self._changing.values(), default=None)


class GoalWaiter(Part):
    """One request that waits for goals: until when, and what it is answered then."""

    request: Request
    results: Sequence[Mapping[str, object]]
    timeout_ns: int | None
    pursuit: Pursuit
    is_looking: bool = False
    """There was no time for all that it has to look at: it goes on in the next turn."""

    def late(self, board: StatusBoard) -> RequestError:
        """Return what is answered when it takes too long."""
        waiting = board.waiting(self.pursuit.names[:MAX_NAMED])
        shown = "; ".join(f"{each['name']} is {each['state']}" for each in waiting)
        return RequestError(
            "timeout",
            f"not done after {format_duration(self.timeout_ns or 0)}: {shown}",
            hint="what was asked for stays asked for; `reconcile status` shows how it goes on",
            details={"waiting": waiting, "failed": self.pursuit.failed},
        )


class SignalWaiter(Part):
    """One request that waits until the signals that it asked for at `at_ns` were sent, or it is known why not."""

    request: Request
    results: list[dict[str, object]]
    timeout_ns: int | None
    at_ns: int
    unsent: set[tuple[str, int]]

    def late(self, _board: StatusBoard) -> RequestError:
        """Return what is answered when it takes too long."""
        places = ", ".join(f"{name}.{slot}" for name, slot in sorted(self.unsent)[:MAX_NAMED])
        waited = format_duration(self.timeout_ns or 0)
        message = f"not sent after {waited} to {places}: a hook has not answered yet"
        hint = "it is sent when the hook passes; wait longer with --timeout"
        return RequestError("timeout", message, hint=hint)

    def take(self, delivery: Delivery) -> None:
        """Take note of a signal that was sent; when it was not, the result of its watcher says why."""
        id = delivery.request.id
        place = id.owner, id.slot
        if delivery.request.at_ns != self.at_ns or place not in self.unsent:
            return
        self.unsent.discard(place)
        if delivery.trouble:
            result = next(each for each in self.results if each["name"] == id.owner)
            result["message"] = f"{result['message']}; not to slot {id.slot}: {delivery.trouble}"
            result["taken"] = "refused"


class Waiters(Part):
    """All requests that wait."""

    core: Reconciler
    board: StatusBoard
    reactor: Reactor
    _waiting: set[GoalWaiter | SignalWaiter] = field(default_factory=set)
    _until_end: list[Request] = field(default_factory=list)

    def add(
        self,
        request: Request,
        results: Sequence[Mapping[str, object]],
        goals: Sequence[Goal],
        timeout_ns: int | None,
    ) -> None:
        """Answer a request with `results` once all goals are done or cannot be.

        Call it when what was asked for has been put before the core: the first look is after its round.
        """
        waiter = GoalWaiter(request, results, timeout_ns, Pursuit(self.core, self.board, goals))
        self.begin(waiter)
        self.reactor.soon(lambda: request.guard(partial(self._look, waiter)))

    def begin(self, waiter: GoalWaiter | SignalWaiter) -> None:
        """Let a request wait until it is answered, its time is over, or its client leaves."""
        request = waiter.request
        self._waiting.add(waiter)
        request.when_abandoned = partial(self._drop, waiter)
        if waiter.timeout_ns is not None:
            due_ns = clock.now_ns() + waiter.timeout_ns
            self.reactor.at(waiter, due_ns, lambda: request.guard(partial(self._late, waiter)))

    def until_end(self, request: Request) -> None:
        """Answer a request when everything has ended."""
        self._until_end.append(request)

    def touched(self, names: frozenset[str]) -> None:
        """Look again at those that wait for one of these watchers."""
        for waiter in tuple(self._waiting):
            if not isinstance(waiter, GoalWaiter) or not waiter.pursuit.touched(names):
                continue
            if not waiter.is_looking:
                waiter.request.guard(partial(self._look, waiter))

    def answered(self, deliveries: Sequence[Delivery]) -> None:
        """Take note of signals that were sent, or why they were not."""
        for waiter in tuple(self._waiting):
            if isinstance(waiter, SignalWaiter):
                waiter.request.guard(partial(self._take_deliveries, waiter, deliveries))

    def finish(self) -> None:
        """Answer those who wait for the end."""
        for request in self._until_end:
            request.reply({})
        for waiter in tuple(self._waiting):
            self._drop(waiter)
            waiter.request.fail(RequestError("shutting_down", "everything is being stopped"))

    def _drop(self, waiter: GoalWaiter | SignalWaiter) -> None:
        self._waiting.discard(waiter)
        for key in (waiter, (waiter, "again")):
            self.reactor.at(key, None, lambda: None)

    def _late(self, waiter: GoalWaiter | SignalWaiter) -> None:
        self._drop(waiter)
        waiter.request.fail(waiter.late(self.board))

    def _look(self, waiter: GoalWaiter) -> None:
        if waiter not in self._waiting:
            return
        if not waiter.pursuit.look(lambda: self.reactor.turn_is_over):
            self._look_on(waiter)
            return
        if waiter.pursuit.is_over:
            self._drop(waiter)
            waiter.request.reply({"results": waiter.results, "failed": waiter.pursuit.failed})
            return
        again = waiter.pursuit.next_look_ns()
        look = partial(self._look, waiter)
        self.reactor.at((waiter, "again"), again, lambda: waiter.request.guard(look))

    def _look_on(self, waiter: GoalWaiter) -> None:
        """Look at the rest in the next turn."""

        def go_on() -> None:
            waiter.is_looking = False
            self._look(waiter)

        if not waiter.is_looking:
            waiter.is_looking = True
            self.reactor.soon(lambda: waiter.request.guard(go_on))

    def _take_deliveries(self, waiter: SignalWaiter, deliveries: Sequence[Delivery]) -> None:
        for each in deliveries:
            waiter.take(each)
        if not waiter.unsent:
            self._drop(waiter)
            waiter.request.reply({"results": waiter.results})
