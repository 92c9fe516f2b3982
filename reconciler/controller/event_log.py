"""Events on their way to the disk, and back.

Events are told at once and written a moment later, many together and without a sync: a crash loop costs a
few writes a second, and nothing waits for them. A controller that is killed loses at most what it told in
the last `WRITE_PAUSE_NS`; a power loss may take what was not synced yet. A number is never given twice:
some are set aside beforehand, so numbers jump after such an end.

One batch is under way at a time. While the disk is full it stays so, and of what comes meanwhile the
newest `KEPT_EVENTS` wait, which is all that would be kept anyway. What earlier controllers told stays on
the disk until somebody asks for it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from reconciler.controller import clock
from reconciler.controller.entries import KEPT_EVENTS, EventsTold, NumbersReserved, ToldEvent
from reconciler.controller.tables import ends_told, stored_events
from reconciler.model.event import EndsTold
from reconciler.model.units import MILLISECOND_NS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from reconciler.controller.loop import Controller
    from reconciler.model.process import ProcessId

NUMBERS_PER_RESERVATION: Final = 1000
WRITE_PAUSE_NS: Final = 100 * MILLISECOND_NS
MAX_BATCH: Final = 500
"""More at a time would keep the interpreter from the loop."""


class EventLog:
    """Writes what the news room was told, and fetches what earlier controllers wrote."""

    def __init__(self, controller: Controller) -> None:
        """Set the first numbers aside."""
        self._controller = controller
        self._unwritten: deque[ToldEvent] = deque(maxlen=KEPT_EVENTS)
        self._replaced: deque[int] = deque(maxlen=KEPT_EVENTS)
        self._is_under_way = False
        self._reserved = 0
        self._recalling: list[Callable[[], None]] = []
        """Who waits for events of earlier controllers."""
        self._reserve()

    def add(self, told: ToldEvent) -> None:
        """Have an event written soon."""
        self._unwritten.append(told)
        self._replaced.extend(self._controller.news.take_replaced())
        if told.seq + NUMBERS_PER_RESERVATION // 2 > self._reserved:
            self._reserve()
        if not self._is_under_way and len(self._unwritten) == 1:
            self._write_soon()

    def written(self, entry: EventsTold) -> None:
        """Take note that a batch lies on the disk, and send the next one after a pause."""
        self._is_under_way = False
        self._reserved = max(self._reserved, entry.below)
        if self._unwritten:
            self._write_soon()

    def recall(self, seq: int, limit: int, then: Callable[[], None]) -> bool:
        """Fetch what earlier controllers told, when it is asked for: True, and `then` is called later."""
        controller = self._controller
        if not controller.news.lacks(seq, limit):
            return False
        path, before = controller.store.path, controller.news.first
        self._recalling.append(then)
        if len(self._recalling) == 1:  # all that ask meanwhile are answered by one look
            controller.lanes.run(
                "records",
                lambda: stored_events(path, before),
                self._recalled,
                lambda _: self._recalled(()),  # reported, and done without
            )
        return True

    def _recalled(self, found: Sequence[ToldEvent]) -> None:
        waiting, self._recalling = self._recalling, []
        self._controller.news.recall(found)
        for then in waiting:
            self._controller.border.guard("answering with older events", then)

    def ends_told(self, dead: Collection[ProcessId]) -> EndsTold:
        """Return which ends of dead processes earlier controllers told of."""
        return EndsTold(ends_told(self._controller.store.path, dead))

    def close(self) -> None:
        """Write what is left; the numbers that were set aside are given back."""
        below = self._controller.news.newest + 1
        self._controller.store.write(
            EventsTold(tuple(self._unwritten), below, tuple(self._replaced))
        )
        self._unwritten.clear()
        self._replaced.clear()

    def _write_soon(self) -> None:
        self._controller.reactor.at(self, clock.now_ns() + WRITE_PAUSE_NS, self._write)

    def _write(self) -> None:
        count = min(len(self._unwritten), MAX_BATCH)
        batch = tuple(self._unwritten.popleft() for _ in range(count))
        if batch:
            self._is_under_way = True
            below = self._controller.news.newest + 1 + NUMBERS_PER_RESERVATION
            newest = batch[-1].seq
            replaced = [self._replaced.popleft() for _ in range(len(self._replaced))]
            self._replaced.extend(number for number in replaced if number > newest)
            gone = tuple(number for number in replaced if number <= newest)
            self._controller.store.write(EventsTold(batch, max(self._reserved, below), gone))

    def _reserve(self) -> None:
        self._reserved = self._controller.news.newest + 1 + NUMBERS_PER_RESERVATION
        self._controller.store.write(NumbersReserved(self._reserved))
