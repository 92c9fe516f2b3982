"""How many slots of a watcher are in which state: kept as slots are looked at, so that nobody has to count them."""

from __future__ import annotations

from collections import Counter

from reconciler.core.slots import SlotCondition
from reconciler.model.status import SlotState


class Tally:
    """What the conditions of all slots of a watcher add up to."""

    __slots__ = ("_failed", "_stuck", "began", "outdated", "ready", "running", "states")

    def __init__(self) -> None:
        self.states: Counter[SlotState] = Counter()
        self.running = 0
        self.ready = 0
        self.began = 0
        self.outdated = 0
        self._failed: dict[int, str] | None = None
        """Why slots have failed for good, and why others wait for what does not come; None: none does."""
        self._stuck: dict[int, str] | None = None

    @property
    def why_failed(self) -> str:
        """Return why a slot has failed for good; empty when none has."""
        return next(iter((self._failed or {}).values()), "")

    @property
    def why_stuck(self) -> str:
        """Return what a slot waits for that does not come by itself; empty when none does."""
        return next(iter((self._stuck or {}).values()), "")

    def change(self, slot: int, before: SlotCondition | None, after: SlotCondition | None) -> None:
        """Take what a slot does now in place of what it did."""
        if before is after:
            return
        if before is not None and not before.surplus:
            self._count(before, -1)
            for notes in (self._failed, self._stuck):
                if notes is not None:
                    notes.pop(slot, None)
        if after is not None and not after.surplus:
            self._count(after, 1)
            if after.stuck:
                self._stuck = self._stuck or {}
                self._stuck[slot] = after.note
            elif after.state == "Failed" and after.next_ns is None:
                self._failed = self._failed or {}
                self._failed[slot] = after.note

    def _count(self, condition: SlotCondition, by: int) -> None:
        self.states[condition.state] += by
        self.running += by * condition.runs
        self.ready += by * condition.ready
        self.began += by * condition.began
        self.outdated += by * condition.outdated
