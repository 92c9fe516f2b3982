"""Which slots of a watcher its next plan has to look at, so that one event costs the same among all numbers of slots.

A plan lets slots rest: those of which it is known that they run as desired, and stale ones that are replaced only
after many others. Whatever could change that for one slot wakes it, and everything else wakes all.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reconciler.core.plan import Draft, Plan


class Attention:
    """The slots that are awake, by watcher; of a watcher that is not known here all are."""

    def __init__(self) -> None:
        self._awake: dict[str, set[int]] = {}
        self._sleepers: dict[str, list[tuple[int, int]]] = {}
        """Heaps of instants and of the slots that are to be looked at then."""
        self._until: dict[str, dict[int, int]] = {}
        """Which of these instants still count, by slot."""
        self._stale: set[str] = set()
        """Watchers of which stale slots rest."""

    def wake_all(self, name: str) -> None:
        """Have all slots looked at."""
        self._awake.pop(name, None)
        self._sleepers.pop(name, None)
        self._until.pop(name, None)
        self._stale.discard(name)

    def wake(self, name: str, slot: int) -> None:
        """Have one slot looked at; what concerns no single slot (0) concerns all."""
        if not slot:
            self.wake_all(name)
        elif name in self._awake:
            self._awake[name].add(slot)
            self._until[name].pop(slot, None)

    def wake_due(self, name: str, now_ns: int) -> None:
        """Have the slots looked at whose time has come."""
        sleepers = self._sleepers.get(name)
        while sleepers and sleepers[0][0] <= now_ns:
            at_ns, slot = heapq.heappop(sleepers)
            if self._until[name].get(slot) == at_ns:
                self.wake(name, slot)

    def limit(self, draft: Draft) -> None:
        """Have a draft look at the slots that are awake only."""
        awake = self._awake.get(draft.name)
        draft.awake = None if awake is None else frozenset(awake)
        draft.stale_rest = draft.name in self._stale

    def follow(self, name: str, plan: Plan) -> int | None:
        """Take from a plan which slots rest; return when the watcher is to be planned again at the latest."""
        if plan.awake is None:
            self.wake_all(name)
            return plan.wake_at_ns
        self._awake[name] = set(plan.awake)
        (self._stale.add if plan.stale_rest else self._stale.discard)(name)
        sleepers = self._sleepers.setdefault(name, [])
        until = self._until.setdefault(name, {})
        for slot, end_ns in plan.sleepers.items():
            until[slot] = end_ns
            heapq.heappush(sleepers, (end_ns, slot))
        if len(sleepers) > 2 * len(until) + 64:  # most of them are over
            sleepers[:] = sorted((end_ns, slot) for slot, end_ns in until.items())
        if not sleepers:
            return plan.wake_at_ns
        first_ns = sleepers[0][0]
        return first_ns if plan.wake_at_ns is None else min(first_ns, plan.wake_at_ns)
