"""The newest events, numbered, in memory: what `reconcile events` shows. `event_log` is their place on the disk.

What people order and what is applied has room of its own, so that nothing that happens by itself pushes it out. What a
watcher does again and again is counted: the first are events of their own, each further one takes the place of the one
before it and says how many there were, and since when.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from reconciler.controller.state.records import KEPT_EVENTS, KEPT_ORDERS, is_order
from reconciler.model.answer import EventEntry
from reconciler.model.event import Event
from reconciler.model.units import MINUTE_NS
from reconciler.model.value import Part

Means = Callable[[EventEntry], bool]
"""Tells whether somebody asks for an event."""

BURST: Final = 5
"""Alike events of one slot that stay one by one."""
REPEATS_NS: Final = 10 * MINUTE_NS
"""What comes again later than this is told again as itself."""
REPEATS_REMEMBERED: Final = 20_000
"""Kinds of events that are told apart: two for each of 10,000 slots. When there are more, all begin anew."""
_OF_ONE_PROCESS: Final = frozenset({"pid", "survivors"})
"""Details that do not make an event another one."""


class _Repeat(Part):
    seq: int
    first_ns: int
    last_ns: int
    count: int = 1


class RecentEvents:
    """Numbers events and keeps the newest. Numbers grow over controllers' lives, not always by one."""

    def __init__(self, first: int) -> None:
        self.first = first
        """The first number that is given here."""
        self._next = first
        self._entries: dict[int, EventEntry] = {}
        self._rooms: dict[bool, deque[int]] = {True: deque(), False: deque()}
        """Numbers of what is kept, and of what was replaced since; by whether it is an order."""
        self._is_whole = first <= 1
        """What earlier controllers told is among them."""
        self._repeats: dict[tuple[str, str, int, str], _Repeat] = {}
        self.replaced: int | None = None
        """The number of the event whose place the newest one has taken."""

    def add(self, event: Event, wall_ns: int) -> EventEntry:
        """Number an event and keep it."""
        # A path may be no UTF-8; what is stored and sent is.
        message = event.message.encode(errors="backslashreplace").decode()
        details = self._counted(event, wall_ns)
        told = EventEntry(
            self._next, wall_ns, event.type, event.watcher, event.slot, message, details
        )
        self._next += 1
        self._keep(told)
        return told

    @property
    def newest(self) -> int:
        """Return the number of the newest entry that was given one."""
        return self._next - 1

    @property
    def oldest_ns(self) -> int | None:
        """Return from when on all is kept, also of what no order is; None: from the beginning on."""
        oldest = self._oldest(False)
        full = self._is_whole and self._count(False) >= KEPT_EVENTS
        return self._entries[oldest].time_ns if oldest is not None and full else None

    def since(self, seq: int, limit: int, means: Means | None = None) -> list[EventEntry]:
        """Return entries with a larger number than `seq`, oldest first, at most the newest `limit`."""
        entries = self._newest_first(seq)
        meant = entries if means is None else filter(means, entries)
        return list(islice(meant, limit))[::-1]

    def count_since(self, seq: int, means: Means) -> int:
        """Return how many entries are meant that have a larger number."""
        return sum(map(means, self._newest_first(seq)))

    def missed(self, seq: int) -> int:
        """Return how many entries with a larger number are not kept any more, at most.

        Numbers that a controller set aside and never gave count too where nothing from that time is left.
        """
        oldest = self._oldest(False)
        if oldest is None:
            oldest = next(iter(self._entries), self._next)
        if oldest <= seq:
            return 0
        kept = sum(seq < number < oldest for number in self._rooms[True])
        return oldest - seq - 1 - kept

    def lacks(self, seq: int, limit: int) -> bool:
        """Tell whether `since` would need what earlier controllers told and is not known here."""
        return not self._is_whole and seq + 1 < self.first and len(self._entries) < limit

    def recall(self, earlier: Sequence[EventEntry]) -> None:
        """Take what earlier controllers told, oldest first."""
        self._is_whole = True
        self._entries = {each.seq: each for each in earlier} | self._entries
        for each in reversed(earlier):
            self._rooms[is_order(each.type)].appendleft(each.seq)
        for kind in (True, False):
            self._evict(kind)

    def _newest_first(self, seq: int) -> Iterator[EventEntry]:
        for number in reversed(self._entries):
            if number <= seq:
                return
            yield self._entries[number]

    def _keep(self, told: EventEntry) -> None:
        kind = is_order(told.type)
        self._entries[told.seq] = told
        self._rooms[kind].append(told.seq)
        self._evict(kind)
        if len(self._rooms[kind]) > 2 * KEPT_EVENTS:
            # Behind an old event that stays, what was replaced would never come to its turn.
            self._rooms[kind] = deque(each for each in self._rooms[kind] if each in self._entries)

    def _evict(self, kind: bool) -> None:
        while self._count(kind) > (KEPT_ORDERS if kind else KEPT_EVENTS):
            oldest = self._oldest(kind)
            assert oldest is not None
            self._rooms[kind].popleft()
            del self._entries[oldest]

    def _count(self, kind: bool) -> int:
        orders = len(self._rooms[True])  # none of them is ever replaced
        return orders if kind else len(self._entries) - orders

    def _oldest(self, kind: bool) -> int | None:
        """Return the number of the oldest entry of a room; those that were replaced are dropped on the way."""
        room = self._rooms[kind]
        while room and room[0] not in self._entries:
            room.popleft()
        return room[0] if room else None

    def _counted(self, event: Event, wall_ns: int) -> Mapping[str, object]:
        """Return the details of an event; one that came often takes the place of the one before it."""
        self.replaced = None
        if not event.watcher or is_order(event.type):
            return event.details
        made = {key: event.details[key] for key in event.details if key not in _OF_ONE_PROCESS}
        key = event.type, event.watcher, event.slot, json.dumps(made, sort_keys=True, default=repr)
        repeat = self._repeats.get(key)
        if repeat is None or wall_ns - repeat.last_ns > REPEATS_NS:
            if len(self._repeats) >= REPEATS_REMEMBERED:
                self._repeats.clear()
            self._repeats[key] = _Repeat(self._next, wall_ns, wall_ns)
            return event.details
        before, repeat.seq, repeat.last_ns = repeat.seq, self._next, wall_ns
        repeat.count += 1
        if repeat.count <= BURST:
            return event.details
        if repeat.count > BURST + 1 and self._entries.pop(before, None) is not None:
            self.replaced = before
        return {**event.details, "count": repeat.count, "since_ns": repeat.first_ns}
