"""When to look at what again."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K", str, int)


class Wakes(Generic[K]):
    """By watcher, socket or slot the next instant at which to look again."""

    __slots__ = ("_at", "_heap")

    def __init__(self) -> None:
        self._at: dict[K, int] = {}
        self._heap: list[tuple[int, K]] = []

    def put(self, key: K, at_ns: int | None) -> None:
        """Look at `key` again at an instant and at no other one; None: only when something changes."""
        if at_ns is None:
            self._at.pop(key, None)
        elif self._at.get(key) != at_ns:
            self._at[key] = at_ns
            heapq.heappush(self._heap, (at_ns, key))
            if len(self._heap) > 2 * len(self._at) + 64:  # most of them are over
                self._heap = [(at_ns, key) for key, at_ns in self._at.items()]
                heapq.heapify(self._heap)

    def next_ns(self) -> int | None:
        """Return the first of these instants."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now_ns: int) -> Iterator[K]:
        """Yield those whose instant has come, and look at them no more."""
        while (at_ns := self.next_ns()) is not None and at_ns <= now_ns:
            key = heapq.heappop(self._heap)[1]
            del self._at[key]
            yield key


def earliest(*instants: int | None) -> int | None:
    """Return the first of those instants that there are."""
    return min((at_ns for at_ns in instants if at_ns is not None), default=None)
