"""Requests that are answered when watchers are as wanted; looked at only when one of them was touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from reconciler.controller import clock
from reconciler.controller.exchange import Exchange
from reconciler.model.errors import RequestError
from reconciler.model.status import WatcherStatus
from reconciler.model.units import format_duration

if TYPE_CHECKING:
    from reconciler.controller.loop import Controller

MAX_NAMED = 10


@dataclass(eq=False, slots=True)
class Waiter:
    """One request that waits: for whom, until when, and what it is answered then."""

    exchange: Exchange
    result: object
    missing: set[str]
    is_done: Callable[[WatcherStatus], bool]
    timeout_ns: int | None
    since_ns: int = field(default_factory=clock.now_ns)


def as_wanted(status: WatcherStatus) -> bool:
    """Tell whether nothing is left to do and nothing is wrong."""
    return status.as_wanted


def has_ended(status: WatcherStatus) -> bool:
    """Tell whether a job has nothing more to run, whatever came of it."""
    return all(
        slot.state in {"Completed", "Failed", "Unknown", "Held", "Stopped"} for slot in status.slots
    )


class Waiters:
    """All requests that wait."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._waiting: set[Waiter] = set()
        self._until_end: list[Exchange] = []

    def add(
        self,
        exchange: Exchange,
        result: object,
        names: set[str],
        *,
        timeout_ns: int | None,
        is_done: Callable[[WatcherStatus], bool] = as_wanted,
    ) -> None:
        """Answer a request with `result` once all names are as wanted.

        Call it when what was asked for has been put before the core: the first look is after its round.
        """
        waiter = Waiter(exchange, result, set(names), is_done, timeout_ns)
        self._waiting.add(waiter)
        exchange.when_abandoned(lambda: self._drop(waiter))
        if timeout_ns is not None:
            due = waiter.since_ns + timeout_ns
            timed_out = partial(self._timed_out, waiter)
            self._controller.reactor.at(waiter, due, lambda: exchange.guard(timed_out))
        first = partial(self._look, waiter, frozenset(names))
        self._controller.reactor.soon(lambda: exchange.guard(first))

    def until_end(self, exchange: Exchange) -> None:
        """Answer a request when everything has ended."""
        self._until_end.append(exchange)

    def touched(self, names: frozenset[str]) -> None:
        """Look again at those that wait for one of these watchers."""
        for waiter in tuple(self._waiting):
            if not waiter.missing.isdisjoint(names):
                waiter.exchange.guard(partial(self._look, waiter, names))

    def finish(self) -> None:
        """Answer those who wait for the end."""
        for exchange in self._until_end:
            exchange.reply({})
        for waiter in tuple(self._waiting):
            self._drop(waiter)
            waiter.exchange.fail(RequestError("shutting_down", "everything is being stopped"))

    def _look(self, waiter: Waiter, names: frozenset[str]) -> None:
        if waiter not in self._waiting:
            return
        core = self._controller.reconciler
        for name in waiter.missing & names:
            if core.watcher_spec(name) is None or waiter.is_done(self._controller.status.of(name)):
                waiter.missing.discard(name)
        if not waiter.missing:
            self._drop(waiter)
            waiter.exchange.reply(waiter.result)
            return
        # Some states end by themselves and touch nobody, such as the first second of a life.
        again = min(
            filter(None, map(self._controller.status.changes_at_ns, waiter.missing)), default=None
        )
        look = partial(self._look, waiter, frozenset(waiter.missing))
        self._controller.reactor.at((waiter, "again"), again, lambda: waiter.exchange.guard(look))

    def _drop(self, waiter: Waiter) -> None:
        self._waiting.discard(waiter)
        for key in (waiter, (waiter, "again")):
            self._controller.reactor.at(key, None, lambda: None)

    def _timed_out(self, waiter: Waiter) -> None:
        self._drop(waiter)
        waiting = waiting_list(self._controller, sorted(waiter.missing)[:MAX_NAMED])
        shown = "; ".join(f"{each['name']} is {each['state']}" for each in waiting)
        waited = format_duration(waiter.timeout_ns or 0)
        error = RequestError(
            "timeout",
            f"not as wanted after {waited}: {shown}",
            hint="what was asked for stays asked for; `reconcile status` shows how it goes on",
            details={"waiting": waiting},
        )
        waiter.exchange.fail(error)


def waiting_list(controller: Controller, names: list[str]) -> list[dict[str, object]]:
    """Return what some watchers wait for."""
    found: list[dict[str, object]] = []
    for name in names:
        if controller.reconciler.watcher_spec(name) is not None:
            status = controller.status.of(name)
            found.append({"name": name, "state": status.state, "note": status.note})
    return found
