"""Bugs planted on purpose: the simulation must find each, or its checkers are worth nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeAlias

from reconciler.core import backoff, hooks, jobs, reconciler, rollout, stopping, watchers
from reconciler.core import sockets as core_sockets
from reconciler.keeper import keeper as keeper_module
from reconciler.keeper.keeper import Keeper
from reconciler.model.action import Signal, Unbind
from reconciler.model.process import Exited
from reconciler.model.units import SECOND_NS

Patch: TypeAlias = tuple[object, str, Callable[[Any], Any]]


def _always(value: object) -> Callable[[Any], Any]:
    return lambda original: lambda *args, **options: value


def _no_gate(original: Any) -> Any:
    """before_spawn and before_start are taken as passed."""

    def drive(draft: Any, role: str, slot: int, about: int, details: Any = None) -> Any:
        if role in {"before_spawn", "before_start"}:
            return hooks.PASSED
        return original(draft, role, slot, about, details)

    return drive


def _without_record_first(original: Any) -> Any:
    """A run counts as written while it is on its way to the disk."""

    def close(draft: Any, want: int) -> None:
        draft.observed = replace(draft.observed, writing={})
        original(draft, want)

    return close


def _kill_at_once(original: Any) -> Any:
    return lambda draft, record: record.memory.stopping_since_ns


def _forgets_stopping(original: Any) -> Any:
    """What was asked of a process is not remembered."""

    def remember(draft: Any, record: Any, memory: Any) -> Any:
        return original(draft, record, replace(memory, asked=False))

    return remember


def _all_at_once(original: Any) -> Any:
    def stop(draft: Any, record: Any, reason: str) -> None:
        original(draft, record, reason)
        for other in draft.mains().values():
            if reason == "replaced" and not isinstance(other.phase, Exited):
                original(draft, other, reason)

    return stop


def _restarts_on_labels(original: Any) -> Any:
    return lambda spec, sockets: (
        original(spec, sockets) + str(sorted(spec.labels.items()))[:40].replace(".", "")
    )


def _closes_sockets(original: Any) -> Any:
    """Every plan of the sockets closes a wanted one that is bound."""

    def plan(world: Any, users_alive: Any) -> Any:
        found = original(world, users_alive)
        if world.now_ns > 5 * SECOND_NS and "http" in world.sockets and not found.actions:
            return replace(found, actions=(Unbind("http"),))
        return found

    return plan


def _signals_stale(original: Any) -> Any:
    """A signal reaches whatever incarnation is there now."""

    def act(self: Keeper, action: Any) -> None:
        if isinstance(action, Signal) and action.id in self._processes:
            action = replace(action, incarnation=self._processes[action.id].record.incarnation)
        original(self, action)

    return act


def _drops_link(original: Any) -> Any:
    """What the dead controller had still said is thrown away, and so is what it never got to know."""

    def died(self: Keeper) -> None:
        self._kernel.receive()
        self._actions.clear()
        for process in list(self._processes.values()):
            if isinstance(process.record.phase, Exited):
                self._forget(process)
        original(self)

    return died


def _spawns_doubly(original: Any) -> Any:
    """A spawn over a live record is not refused."""

    def spawn(self: Keeper, action: Any) -> None:
        self._processes.pop(action.id, None)
        original(self, action)

    return spawn


def _no_survivors(original: Any) -> Any:
    return lambda self, process, remains: None


def _trusts_late_news(original: Any) -> Any:
    """Survivors do not hold up a respawn."""

    def bury(draft: Any, record: Any) -> bool:
        original(draft, record)
        return True

    return bury


def _kills_instead(original: Any) -> Any:
    def ask(draft: Any, record: Any) -> Any:
        draft.act(Signal(record.id, record.incarnation, "KILL", "tree"))
        return original(draft, record)

    return ask


BUGS: dict[str, Patch] = {
    "no backoff": (backoff, "wait_ns", _always(0)),
    "hook gates are open": (watchers, "drive_with_retry", _no_gate),
    "a job is fired before its row": (jobs, "_close_orphaned_runs", _without_record_first),
    "every controller fires jobs anew": (
        jobs,
        "due_trigger",
        lambda f: (
            lambda s, j, b, k: (
                f(s, replace(j, generation=None), b, k)
                if j.runs and any(r.outcome for r in j.runs.values()) and len(j.runs) > 1
                else f(s, j, b, k)
            )
        ),
    ),
    "KILL without grace": (stopping, "deadline_ns", _kill_at_once),
    "KILL before TERM": (stopping, "_ask", _kills_instead),
    "the stop is forgotten": (stopping, "_remember", _forgets_stopping),
    "survivors do not matter": (stopping, "bury", _trusts_late_news),
    "the keeper sees no survivors": (Keeper, "_leave_behind", _no_survivors),
    "labels restart": (reconciler, "run_hash", _restarts_on_labels),
    "wanted sockets are closed": (reconciler, "plan_sockets", _closes_sockets),
    "the keeper spawns over a live record": (Keeper, "_spawn", _spawns_doubly),
    "a dead controller's words are lost": (Keeper, "_controller_died", _drops_link),
    "sockets are never retried": (
        core_sockets,
        "retry_due_ns",
        lambda f: lambda refused: f(refused) + 10**15,
    ),
    "surplus slots stay": (watchers, "_drop_slot", _always(None)),
    "outdated slots stay": (rollout, "why_stale", _always(None)),
    "leftover hooks stay": (watchers, "sweep", _always(None)),
    "outcomes are not written": (jobs, "_settle", _always(None)),
    "the pause between slots is ignored": (
        watchers,
        "may_spawn",
        lambda f: lambda draft, slot: watchers._sockets_ready(draft, slot),
    ),
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Run with one bug in the code."""
    place, attribute, make = BUGS[name]
    original = getattr(place, attribute)
    setattr(place, attribute, make(original))
    try:
        yield
    finally:
        setattr(place, attribute, original)


assert keeper_module.Keeper is Keeper
