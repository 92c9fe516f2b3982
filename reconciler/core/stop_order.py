"""In which order watchers are stopped: one only when all that wait for it, and all of a lower priority, are gone.

It counts for a shutdown, for a removal and for a stop of several. Each has its own time limit: one that was
killed is waited for no longer.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from reconciler.core import desired
from reconciler.core.graph import Graph
from reconciler.model.observed import WatcherObserved
from reconciler.model.process import ProcessId
from reconciler.model.spec import WatcherSpec
from reconciler.model.units import format_few

MAX_NAMED: Final = 3


class StopOrder:
    """The watchers that are going and are not gone, by name with their priority."""

    def __init__(self) -> None:
        self._graph = Graph()
        self._going: dict[str, int] = {}
        self._counts: Counter[int] = Counter()
        """How many go, by priority: there are few of these."""
        self._before: dict[str, set[str]] = {}
        """By watcher those that go and wait for it."""
        self._edges: dict[str, tuple[str, ...]] = {}
        """For whom those wait that are going."""

    def follow(self, graph: Graph) -> tuple[str, ...]:
        """Take another graph; return who goes: each is to be noted again, and its turn may have come."""
        self._graph, going = graph, tuple(self._going)
        self._going, self._counts, self._before, self._edges = {}, Counter(), {}, {}
        return going

    def why_wait(self, name: str, spec: WatcherSpec) -> str:
        """Return why a watcher is not asked to end yet; empty: it is its turn."""
        before = self._before.get(name)
        if before:
            names = format_few(sorted(before), MAX_NAMED)
            have = (
                "has stopped, which depends" if len(before) == 1 else "have stopped, which depend"
            )
            return f"waiting until {names} {have} on it"
        lowest = min(self._counts, default=None)
        if lowest is None or self._graph.stop_priority(name, spec) <= lowest:
            return ""
        return "waiting until watchers of lower priority have stopped"

    def note(self, name: str, spec: WatcherSpec | None, *, is_going: bool) -> set[str]:
        """Take down whether a watcher is going and not gone; return those whose turn it may be now."""
        priority = None if spec is None or not is_going else self._graph.stop_priority(name, spec)
        if self._going.get(name) == priority:
            return set()
        lowest = min(self._counts, default=None)
        free = self._leave(name)
        if spec is not None and priority is not None:
            self._enter(name, spec, priority)
        now = min(self._counts, default=None)
        if now is None or now == lowest:
            return free
        return free | {each for each, other in self._going.items() if other == now}

    def _enter(self, name: str, spec: WatcherSpec, priority: int) -> None:
        self._counts[priority] += 1
        self._going[name] = priority
        self._edges[name] = tuple(spec.dependencies)
        for other in self._edges[name]:
            self._before.setdefault(other, set()).add(name)

    def _leave(self, name: str) -> set[str]:
        """Forget one that went; return those that nobody has to be gone before any more."""
        former = self._going.pop(name, None)
        if former is None:
            return set()
        self._counts[former] -= 1
        if not self._counts[former]:
            del self._counts[former]
        free = set()
        for other in self._edges.pop(name, ()):
            self._before[other].discard(name)
            if not self._before[other]:
                del self._before[other]
                free.add(other)
        return free


def is_going(
    spec: WatcherSpec | None, observed: WatcherObserved, name: str, *, whole: bool
) -> bool:
    """Tell whether a watcher is being stopped as a whole and is not gone.

    `whole` tells that everything goes, or that it stands in no spec any more.
    """
    if spec is None or not (whole or desired.wanted(spec, observed.intent) == 0):
        return False
    mains = (observed.records[ProcessId(name, slot)] for slot in observed.live)
    return any(not record.memory.killed for record in mains)
