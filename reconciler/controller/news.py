"""The newest events, numbered: what `reconcile events` shows."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from reconciler.model.news import News

KEPT: Final = 10_000
NUMBERS_PER_RESERVATION: Final = 10_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One event as clients see it."""

    seq: int
    time_ns: int
    type: str
    watcher: str
    slot: int
    message: str
    details: Mapping[str, object]


class NewsRoom:
    """Numbers news and keeps the newest. Numbers grow over controllers' lives, not always by one."""

    def __init__(self, first: int) -> None:
        self._entries: deque[Entry] = deque(maxlen=KEPT)
        self._next = first
        self.reserved = first

    def add(self, news: News, wall_ns: int) -> Entry:
        """Number one piece of news and keep it."""
        entry = Entry(
            self._next, wall_ns, news.type, news.watcher, news.slot, news.message, news.details
        )
        self._next += 1
        self._entries.append(entry)
        return entry

    @property
    def newest(self) -> int:
        """Return the number of the newest entry that was given one."""
        return self._next - 1

    def since(self, seq: int, limit: int) -> list[Entry]:
        """Return entries with a larger number than `seq`, oldest first, at most the newest `limit`."""
        # Numbers are consecutive in here, so the place of one is known without looking.
        first = self._next - len(self._entries)
        skip = max(seq + 1 - first, len(self._entries) - limit, 0)
        return list(islice(self._entries, skip, None))

    def needs_numbers(self) -> bool:
        """Tell whether the store must set more numbers aside, so that none is ever given twice."""
        return self._next + NUMBERS_PER_RESERVATION // 2 > self.reserved
