"""How many slots of all watchers are being replaced, and who waits for a place (`daemon.max_concurrent_restarts`).

A slot is being replaced from the moment at which its process is asked to end for another one, until that one has taken
over or has failed: its record says so, and so a new controller knows. One that waits at a gate takes no place: what it
waits for may itself be waiting for one. Crashes and first starts wait for nobody.

Whoever finds no place stands in line, in the order in which they came; whoever has got one stands behind the others
again. An event costs the same however many wait.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from typing import Final

from reconciler.core.plan import Plan
from reconciler.core.rollout import is_for_another
from reconciler.model.process import Exited, ProcessId, ProcessRecord
from reconciler.model.status import SlotState

_HELD: Final[frozenset[SlotState]] = frozenset({"Waiting", "BackOff", "Failed", "Stopped"})
"""What a slot does that has no process and takes no place: it waits, or is not to run any more."""


class Brake:
    """Knows who is being replaced, and who waits. `most` None: nobody waits."""

    def __init__(self) -> None:
        self.most: int | None = None
        self._replaced: set[ProcessId] = set()
        self._held: set[ProcessId] = set()
        """Those of them that have no process, and wait at a gate, or are being stopped with the whole watcher."""
        self._line: OrderedDict[str, None] = OrderedDict()
        """Who waits, first come first; the first of a plain dict is found the later the more have left it."""

    @property
    def under_way(self) -> int:
        """Return how many slots are being replaced."""
        return len(self._replaced) - len(self._held)

    def note(self, id: ProcessId, record: ProcessRecord | None) -> None:
        """Take down how a slot's own process is; None: there is none."""
        self._held.discard(id)
        is_replaced = record is not None and _is_being_replaced(record)
        (self._replaced.add if is_replaced else self._replaced.discard)(id)

    def clear(self) -> None:
        """Forget all processes."""
        self._replaced, self._held = set(), set()

    def places(self, name: str) -> int | None:
        """Return of how many slots of a watcher the replacement may begin now; None: of any number."""
        if self.most is None:
            return None
        free = max(0, self.most - self.under_way)
        spare = max(0, free - len(self._line))
        return spare + (name in islice(self._line, free))

    def follow(self, name: str, plan: Plan) -> Iterator[str]:
        """Take from a plan whether the watcher waits; yield those whose turn it is now."""
        for slot, condition in plan.conditions.items():
            id = plan.id(slot)
            if condition.state in _HELD and id in self._replaced:
                self._held.add(id)
        if not plan.is_unfinished:
            self._line_up(name, plan)
        yield from self.next()

    def _line_up(self, name: str, plan: Plan) -> None:
        if not plan.waits_for_place or plan.begun:
            self._line.pop(name, None)
        if plan.waits_for_place:
            self._line.setdefault(name)

    def next(self) -> Iterator[str]:
        """Yield those whose turn it is."""
        free = len(self._line) if self.most is None else max(0, self.most - self.under_way)
        yield from [*islice(self._line, free)]

    def forget(self, name: str) -> None:
        """Let a watcher wait no more."""
        self._line.pop(name, None)


def _is_being_replaced(record: ProcessRecord) -> bool:
    memory = record.memory
    if memory.generation:
        return False  # a run of a job takes no other one's place
    if memory.stopping_since_ns is not None or isinstance(record.phase, Exited):
        return is_for_another(memory)
    return memory.roll == "successor" and not memory.took_over_ns
