"""In which order watchers are stopped: one of a higher priority only when all lower ones that go, too, are gone.

It counts for a shutdown, for a removal and for a stop of several. Each has its own time limit: one that was
killed is waited for no longer.
"""

from __future__ import annotations

from collections import Counter

from reconciler.core import desired
from reconciler.model.observed import WatcherObserved
from reconciler.model.process import ProcessId
from reconciler.model.spec import WatcherSpec


class StopOrder:
    """The watchers that are going and are not gone, by name with their priority."""

    def __init__(self) -> None:
        self._going: dict[str, int] = {}
        self._counts: Counter[int] = Counter()
        """How many go, by priority: there are few of these."""

    @property
    def lowest(self) -> int | None:
        """Return the lowest priority of those that are going; None when nobody is."""
        return min(self._counts, default=None)

    def note(self, name: str, priority: int | None) -> set[str]:
        """Take down that a watcher goes, None: it does not, or is gone; return those whose turn it may be now."""
        if self._going.get(name) == priority:
            return set()
        lowest, before = self.lowest, self._going.pop(name, None)
        if before is not None:
            self._counts[before] -= 1
            if not self._counts[before]:
                del self._counts[before]
        if priority is not None:
            self._counts[priority] += 1
            self._going[name] = priority
        now = self.lowest
        if now == lowest or now is None:
            return set()
        return {each for each, other in self._going.items() if other == now}


def priority_of_going(
    name: str, spec: WatcherSpec | None, observed: WatcherObserved, *, whole: bool
) -> int | None:
    """Return the priority of a watcher that is being stopped as a whole and is not gone, None of any other.

    `whole` tells that everything goes, or that it stands in no spec any more.
    """
    if spec is None or not (whole or desired.wanted(spec, observed.intent) == 0):
        return None
    mains = (observed.records[ProcessId(name, slot)] for slot in observed.live)
    return spec.priority if any(not record.memory.killed for record in mains) else None
