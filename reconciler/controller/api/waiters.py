"""Goals that somebody waits for, and requests that are answered when what they asked for is done.

When that is, `core.goals` says. Looked at only when one of the watchers in question was touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from reconciler.controller.api.request import Request
from reconciler.controller.output.status_board import StatusBoard
from reconciler.controller.runtime import clock
from reconciler.controller.runtime.reactor import Reactor
from reconciler.core import goals as core_goals
from reconciler.core.reconciler import Reconciler
from reconciler.model.errors import RequestError
from reconciler.model.observation import Delivery
from reconciler.model.order import Goal, Judged
from reconciler.model.units import format_duration
from reconciler.model.value import Part, field

MAX_NAMED: Final = 10


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

    def look(self) -> None:
        """Judge the goals that may have come about."""
        now_ns = clock.now_ns()
        self._stale |= {name for name, at_ns in self._changing.items() if at_ns <= now_ns}
        for name in sorted(self._stale & self._open.keys()):
            self._judge(name)
        self._stale.clear()

    def _judge(self, name: str) -> None:
        left = []
        for goal in self._open.pop(name):
            found = judged(self._core, goal)
            if found.state == "open":
                left.append(goal)
            elif found.state == "failed":
                self.failed.append({"name": name, "message": found.message})
        self._changing.pop(name, None)
        if left:
            self._open[name] = left
            known = self._core.watcher_spec(name) is not None
            changes_ns = self._board.changes_at_ns([name]) if known else None
            if changes_ns is not None:
                self._changing[name] = changes_ns

    def next_look_ns(self) -> int | None:
        """Return when to look again though nobody was touched."""
        return min(self._changing.values(), default=None)


def judged(core: Reconciler, goal: Goal) -> Judged:
    """Return whether a goal has come about."""
    if core.watcher_spec(goal.name) is None:
        return core_goals.gone(goal)
    it = core.subject(goal.name, clock.now_ns(), clock.wall_offset_ns())
    return core_goals.judge(goal, it)


class Waiter(Part):
    """One request that waits: for what, until when, and what it is answered then."""

    request: Request
    results: Sequence[Mapping[str, object]]
    pursuit: Pursuit
    timeout_ns: int | None
    since_ns: int = field(default_factory=clock.now_ns)


class SignalWaiter(Part):
    """One request that waits until its signals were sent."""

    request: Request
    results: list[dict[str, object]]
    at_ns: int
    unsent: set[tuple[str, int]]
    timeout_ns: int


class Waiters(Part):
    """All requests that wait."""

    core: Reconciler
    board: StatusBoard
    reactor: Reactor
    _waiting: set[Waiter] = field(default_factory=set)
    _signals: set[SignalWaiter] = field(default_factory=set)
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
        waiter = Waiter(request, results, Pursuit(self.core, self.board, goals), timeout_ns)
        self._waiting.add(waiter)
        request.when_abandoned(lambda: self._drop(waiter))
        if timeout_ns is not None:
            due = waiter.since_ns + timeout_ns
            self.reactor.at(waiter, due, lambda: request.guard(partial(self._timed_out, waiter)))
        self.reactor.soon(lambda: request.guard(partial(self._look, waiter)))

    def until_sent(
        self,
        request: Request,
        results: list[dict[str, object]],
        at_ns: int,
        unsent: set[tuple[str, int]],
        timeout_ns: int,
    ) -> None:
        """Answer a request when the signals that it asked for at `at_ns` were sent, or why not."""
        waiter = SignalWaiter(request, results, at_ns, unsent, timeout_ns)
        self._signals.add(waiter)
        request.when_abandoned(lambda: self._drop_signal(waiter))
        due = clock.now_ns() + timeout_ns
        self.reactor.at(waiter, due, lambda: request.guard(partial(self._signal_timed_out, waiter)))

    def until_end(self, request: Request) -> None:
        """Answer a request when everything has ended."""
        self._until_end.append(request)

    def touched(self, names: frozenset[str]) -> None:
        """Look again at those that wait for one of these watchers."""
        for waiter in tuple(self._waiting):
            if waiter.pursuit.touched(names):
                waiter.request.guard(partial(self._look, waiter))

    def answered(self, deliveries: Sequence[Delivery]) -> None:
        """Take note of signals that were sent, or why they were not."""
        for waiter in tuple(self._signals):
            waiter.request.guard(partial(self._take_deliveries, waiter, deliveries))

    def _take_deliveries(self, waiter: SignalWaiter, deliveries: Sequence[Delivery]) -> None:
        for each in deliveries:
            place = each.request.id.owner, each.request.id.slot
            if each.request.at_ns == waiter.at_ns and place in waiter.unsent:
                waiter.unsent.discard(place)
                _note_trouble(waiter, each)
        if not waiter.unsent:
            self._drop_signal(waiter)
            waiter.request.reply({"results": waiter.results})

    def finish(self) -> None:
        """Answer those who wait for the end."""
        for request in self._until_end:
            request.reply({})
        ending = RequestError("shutting_down", "everything is being stopped")
        for waiter in tuple(self._waiting):
            self._drop(waiter)
            waiter.request.fail(ending)
        for signal in tuple(self._signals):
            self._drop_signal(signal)
            signal.request.fail(ending)

    def _look(self, waiter: Waiter) -> None:
        if waiter not in self._waiting:
            return
        waiter.pursuit.look()
        if waiter.pursuit.is_over:
            self._drop(waiter)
            waiter.request.reply({"results": waiter.results, "failed": waiter.pursuit.failed})
            return
        again = waiter.pursuit.next_look_ns()
        look = partial(self._look, waiter)
        self.reactor.at((waiter, "again"), again, lambda: waiter.request.guard(look))

    def _drop(self, waiter: Waiter) -> None:
        self._waiting.discard(waiter)
        for key in (waiter, (waiter, "again")):
            self.reactor.at(key, None, lambda: None)

    def _drop_signal(self, waiter: SignalWaiter) -> None:
        self._signals.discard(waiter)
        self.reactor.at(waiter, None, lambda: None)

    def _timed_out(self, waiter: Waiter) -> None:
        self._drop(waiter)
        waiting = self.board.waiting(waiter.pursuit.names[:MAX_NAMED])
        shown = "; ".join(f"{each['name']} is {each['state']}" for each in waiting)
        waited = format_duration(waiter.timeout_ns or 0)
        error = RequestError(
            "timeout",
            f"not done after {waited}: {shown}",
            hint="what was asked for stays asked for; `reconcile status` shows how it goes on",
            details={"waiting": waiting, "failed": waiter.pursuit.failed},
        )
        waiter.request.fail(error)

    def _signal_timed_out(self, waiter: SignalWaiter) -> None:
        self._drop_signal(waiter)
        places = ", ".join(f"{name}.{slot}" for name, slot in sorted(waiter.unsent)[:MAX_NAMED])
        message = f"not sent after {format_duration(waiter.timeout_ns)} to {places}: a hook has not answered yet"
        hint = "it is sent when the hook passes; wait longer with --timeout"
        waiter.request.fail(RequestError("timeout", message, hint=hint))


def _note_trouble(waiter: SignalWaiter, delivery: Delivery) -> None:
    """Let the result of a watcher say which of its processes a signal was not sent to, and why."""
    if not delivery.trouble:
        return
    id = delivery.request.id
    for result in waiter.results:
        if result["name"] == id.owner:
            result["message"] = f"{result['message']}; not to slot {id.slot}: {delivery.trouble}"
            result["taken"] = "refused"
