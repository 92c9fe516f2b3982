"""The newest events, numbered, in memory: what `reconcile events` shows. `event_log` is their place on the disk."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from reconciler.controller.entries import KEPT_EVENTS, ToldEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.model.news import News


class NewsRoom:
    """Numbers news and keeps the newest. Numbers grow over controllers' lives, not always by one."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._next = first
        self._entries: deque[ToldEvent] = deque(maxlen=KEPT_EVENTS)
        self._earlier: Sequence[ToldEvent] | None = None
        """Of earlier controllers; None as long as nobody has asked for them."""

    def add(self, news: News, wall_ns: int) -> ToldEvent:
        """Number one piece of news and keep it."""
        # A path may be no UTF-8; what is stored and sent is.
        message = news.message.encode(errors="backslashreplace").decode()
        told = ToldEvent(
            self._next, wall_ns, news.type, news.watcher, news.slot, message, news.details
        )
        self._next += 1
        self._entries.append(told)
        return told

    @property
    def first(self) -> int:
        """Return the first number that is given here."""
        return self._first

    @property
    def newest(self) -> int:
        """Return the number of the newest entry that was given one."""
        return self._next - 1

    def since(self, seq: int, limit: int) -> list[ToldEvent]:
        """Return entries with a larger number than `seq`, oldest first, at most the newest `limit`."""
        # Numbers are consecutive in here, so the place of one is known without looking.
        skip = max(seq + 1 - self._oldest, len(self._entries) - limit, 0)
        found = list(islice(self._entries, skip, None))
        earlier = self._known_earlier()
        if skip or not earlier:
            return found
        place = max(bisect_right(earlier, seq, key=_seq_of), len(earlier) + len(found) - limit)
        return [*earlier[place:], *found]

    def missed(self, seq: int, first: int) -> int:
        """Return how many entries between two numbers are not kept any more, at most.

        Numbers that a controller set aside and never gave count too where nothing from that time is left.
        """
        earlier = self._known_earlier()
        oldest = earlier[0].seq if earlier else self._oldest
        return 0 if oldest <= seq else first - seq - 1

    def lacks(self, seq: int, limit: int) -> bool:
        """Tell whether `since` would need what earlier controllers told and is not known here."""
        return self._earlier is None and seq + 1 < self._first and len(self._entries) < limit

    def recall(self, earlier: Sequence[ToldEvent]) -> None:
        """Take what earlier controllers told, oldest first."""
        self._earlier = earlier

    @property
    def _oldest(self) -> int:
        return self._next - len(self._entries)

    def _known_earlier(self) -> Sequence[ToldEvent]:
        """Return those entries of earlier controllers that are still among the newest `KEPT_EVENTS`."""
        room = KEPT_EVENTS - len(self._entries)
        return self._earlier[-room:] if self._earlier and room else ()


def _seq_of(told: ToldEvent) -> int:
    return told.seq
