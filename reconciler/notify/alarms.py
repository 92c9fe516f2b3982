"""When something of many is due: to put it off costs nothing, as those that are watched do that all the time."""

from __future__ import annotations

import heapq
from itertools import count
from typing import Generic, TypeVar

K = TypeVar("K")


class Alarms(Generic[K]):
    """At most one instant for each key."""

    def __init__(self) -> None:
        self._due_ns: dict[K, int] = {}
        self._heap: list[tuple[int, int, K]] = []
        self._looked_at_ns: dict[K, int] = {}
        """The entry of the heap that counts for a key: not later than that is due."""
        self._numbers = count()

    def put(self, key: K, due_ns: int | None) -> None:
        """Have a key due at another instant, None: never."""
        if due_ns is None:
            self._due_ns.pop(key, None)
            return
        self._due_ns[key] = due_ns
        if due_ns < self._looked_at_ns.get(key, due_ns + 1):
            self._push(key, due_ns)

    def __contains__(self, key: K) -> bool:
        return key in self._due_ns

    def take(self, now_ns: int) -> list[tuple[K, int]]:
        """Return what is due by now, with when it was, and forget it."""
        taken = []
        while (due_ns := self.next_ns()) is not None and due_ns <= now_ns:
            key = self._pop()
            taken.append((key, self._due_ns.pop(key)))
        return taken

    def next_ns(self) -> int | None:
        """Return when the next one is due."""
        while self._heap:
            at_ns, _, key = self._heap[0]
            if self._looked_at_ns.get(key) != at_ns:  # another entry came before it
                heapq.heappop(self._heap)
                continue
            due_ns = self._due_ns.get(key)
            if due_ns == at_ns:
                return at_ns
            self._pop()
            if due_ns is not None:  # it was put off
                self._push(key, due_ns)
        return None

    def _push(self, key: K, at_ns: int) -> None:
        self._looked_at_ns[key] = at_ns
        heapq.heappush(self._heap, (at_ns, next(self._numbers), key))

    def _pop(self) -> K:
        _, _, key = heapq.heappop(self._heap)
        del self._looked_at_ns[key]
        return key
