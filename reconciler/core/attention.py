"""What the last plans found of the slots of each watcher, and which of them the next one has to look at.

One observation costs the same among all numbers of slots: a slot that was looked at needs no other look until something
of it changes, or an instant comes that its plan asked for. What may concern all of them has all looked at, and so has
a hook of the watcher as a whole.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Final

from reconciler.core.plan import WHOLE, Line, Plan
from reconciler.core.slots import SlotCondition, Slots
from reconciler.core.tally import Tally
from reconciler.core.wakes import Wakes, earliest
from reconciler.model.observed import WatcherObserved

NONE: Final[frozenset[int]] = frozenset()
"""An empty set takes as much room as one of eight; of most watchers all of these are empty, so they have this one."""
LOOK_AHEAD: Final = 4
"""Of the slots that wait for others, so many are looked at in each plan."""


class Found:
    """What was found of the slots of one watcher."""

    __slots__ = (
        *("_lines", "_wakes", "_whole_ns"),
        *("at_gate", "tally"),
        *("awaited", "beyond", "conditions", "failed", "only_ends", "resting", "restless"),
        *("serving", "to_look_at", "unhealthy", "whole"),
    )

    def __init__(self) -> None:
        self.conditions: dict[int, SlotCondition] = {}
        self.tally = Tally()
        self.at_gate: AbstractSet[int] = NONE
        self.whole: SlotCondition | None = None
        self.awaited: AbstractSet[int] = NONE
        self.failed: AbstractSet[int] = NONE
        self.unhealthy: AbstractSet[int] = NONE
        self.resting: AbstractSet[int] = NONE
        self.beyond: AbstractSet[int] = NONE
        self.serving: AbstractSet[int] = NONE
        self.to_look_at: AbstractSet[int] = NONE
        self.restless = NONE
        self.only_ends = False
        self._lines: dict[Line, WaitingLine] | None = None
        self._wakes: Wakes[int] | None = None
        self._whole_ns: int | None = None

    def look_at(self, slots: Iterable[int]) -> None:
        """Have slots looked at by the next plan."""
        for slot in slots:
            self.to_look_at = _with(self.to_look_at, slot)

    def next_look(self) -> frozenset[int]:
        """Return the slots that the next plan has to look at."""
        first = (line.first() for line in (self._lines or {}).values())
        return self.restless.union(self.to_look_at, *first)

    def in_line(self, name: Line, but: frozenset[int]) -> int:
        """Return how many slots wait in a line besides these."""
        line = (self._lines or {}).get(name)
        return 0 if line is None else line.count(but)

    def wake_due(self, now_ns: int) -> bool:
        """Have the slots looked at whose time has come; False when that of the whole has."""
        if self._whole_ns is not None and self._whole_ns <= now_ns:
            return False
        if self._wakes is not None:
            self.look_at(self._wakes.due(now_ns))
        return True

    def follow(self, plan: Plan) -> int | None:
        """Take what a plan found; return when to look again at the latest."""
        self._line_up(plan)
        if plan.slots.looked_at is None:
            self.only_ends = plan.only_ends
        for slot in plan.slots.looked_at or {*plan.conditions, *plan.wakes} - {WHOLE}:
            self._take(slot, plan)
        self.restless, self.whole = frozenset(plan.restless) or NONE, plan.whole
        self.to_look_at = {*plan.unreached} or NONE
        self._whole_ns = plan.wakes.get(WHOLE)
        next_ns = None if self._wakes is None else self._wakes.next_ns()
        if next_ns is None:
            self._wakes = None
        return earliest(next_ns, self._whole_ns)

    def _take(self, slot: int, plan: Plan) -> None:
        condition, before = plan.conditions.get(slot), self.conditions.get(slot)
        if condition is not None:
            self.conditions[slot] = condition
            self.tally.change(slot, before, condition)
        elif slot not in plan.unreached:
            self.conditions.pop(slot, None)
            self.tally.change(slot, before, None)
        for name in _SETS:
            kept, now = getattr(self, name), getattr(plan, name)
            if slot in now:
                setattr(self, name, _with(kept, slot))
            elif slot in kept:
                setattr(self, name, _without(kept, slot))
        wake_ns = plan.wakes.get(slot)
        if self._wakes is None and wake_ns is not None:
            self._wakes = Wakes()
        if self._wakes is not None:
            self._wakes.put(slot, wake_ns)

    def _line_up(self, plan: Plan) -> None:
        """Have those stand in line that the plan has found to wait, and no other ones of those that it looked at."""
        if plan.slots.looked_at is None:
            self._lines = None
        if self._lines is None and plan.lines:
            self._lines = {}
        for name in {*(self._lines or ()), *plan.lines}:
            assert self._lines is not None
            ranks = plan.lines.get(name, {})
            looked_at = ranks if plan.slots.looked_at is None else plan.slots.looked_at
            line = self._lines.setdefault(name, WaitingLine())
            for slot in looked_at:
                line.put(slot, ranks.get(slot))


_SETS: Final = ("at_gate", "unhealthy", "resting", "awaited", "failed", "beyond", "serving")
"""Of slots, under the same names as in a plan."""


def _with(slots: AbstractSet[int], slot: int) -> AbstractSet[int]:
    """Return a set with one slot more: the same one, unless it is `NONE`."""
    if not isinstance(slots, set):
        return {*slots, slot}
    slots.add(slot)
    return slots


def _without(slots: AbstractSet[int], slot: int) -> AbstractSet[int]:
    """Return a set without a slot that is in it: the same one, unless it is empty now."""
    assert isinstance(slots, set), "nothing is in the empty one"
    slots.discard(slot)
    return slots or NONE


class WaitingLine:
    """Slots that wait for others, by rank, then by number."""

    __slots__ = ("_order", "_ranks")

    def __init__(self) -> None:
        self._order: list[tuple[int, int]] = []
        self._ranks: dict[int, int] = {}

    def first(self) -> Iterator[int]:
        """Yield those that are looked at in each plan."""
        return (slot for _, slot in self._order[:LOOK_AHEAD])

    def count(self, but: frozenset[int]) -> int:
        """Return how many there are besides these."""
        return len(self._order) - sum(slot in self._ranks for slot in but)

    def put(self, slot: int, rank: int | None) -> None:
        """Have a slot wait at a rank; None: no more."""
        before = self._ranks.get(slot)
        if before == rank:
            return
        if before is not None:
            del self._order[bisect_left(self._order, (before, slot))]
            del self._ranks[slot]
        if rank is not None:
            insort(self._order, (rank, slot))
            self._ranks[slot] = rank


class Attention:
    """What was found, by watcher; of a watcher that is not known here all slots are to be looked at."""

    def __init__(self) -> None:
        self._found: dict[str, Found] = {}

    def found(self, name: str) -> Found | None:
        """Return what was found of a watcher; None when that is not so any more, or not of all its slots."""
        found = self._found.get(name)
        return None if found is None or found.to_look_at else found

    def at_gate(self, name: str) -> AbstractSet[int]:
        """Return the slots of a watcher that wait for another watcher; all are looked at if that is not known."""
        found = self._found.get(name)
        return NONE if found is None else found.at_gate

    def tally(self, name: str) -> Tally | None:
        """Return what the slots of a watcher add up to; None while not all of them were looked at."""
        found = self._found.get(name)
        return None if found is None or found.to_look_at else found.tally

    def wake_all(self, name: str) -> None:
        """Have all slots looked at."""
        self._found.pop(name, None)

    def wake(self, name: str, slot: int) -> None:
        """Have one slot looked at; what concerns no single one has all of them looked at."""
        if slot == WHOLE:
            self.wake_all(name)
        elif name in self._found:
            self._found[name].look_at((slot,))

    def wake_due(self, name: str, now_ns: int) -> None:
        """Have the slots looked at whose time has come."""
        if name in self._found and not self._found[name].wake_due(now_ns):
            self.wake_all(name)

    def slots(self, name: str, observed: WatcherObserved) -> Slots:
        """Return the slots of a watcher for its next plan."""
        found = self._found.get(name)
        is_whole = WHOLE in observed.helpers and not (found and found.only_ends and observed.live)
        if found is None or is_whole:
            return Slots(name, observed)
        looked_at = found.next_look()
        sets = found.awaited, found.failed, found.unhealthy, found.resting, found.serving
        elsewhere = (len(each) - len(each & looked_at) for each in sets)
        awaited, failed, unhealthy, resting, serving = elsewhere
        return Slots(
            name,
            observed,
            looked_at,
            awaited_elsewhere=awaited,
            failed_elsewhere=failed,
            unhealthy_elsewhere=unhealthy,
            resting_elsewhere=resting,
            serving_elsewhere=serving,
            put_off_elsewhere=found.in_line("to be replaced", but=looked_at),
            beyond=found.beyond,
        )

    def has_more(self, name: str, plan: Plan) -> bool:
        """Tell whether others have come to the front of a line, which have to be looked at now."""
        looked_at = plan.slots.looked_at
        if looked_at is None or plan.is_unfinished:
            return False
        return not self._found[name].next_look() <= looked_at

    def follow(self, name: str, plan: Plan) -> int | None:
        """Take from a plan what it found; return when the watcher is to be planned again at the latest."""
        found = self._found.get(name)
        if found is None or plan.slots.looked_at is None:
            found = self._found[name] = Found()
        return found.follow(plan)
