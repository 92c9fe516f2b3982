"""Whatever happens is told here: numbered, kept, logged, sent to those who follow, and written; and read back.

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
from collections.abc import Callable, Collection, Sequence
from typing import Final

from reconciler.controller.output.events import RecentEvents
from reconciler.controller.runtime import clock
from reconciler.controller.runtime.borders import Border, Log
from reconciler.controller.runtime.lanes import Lanes
from reconciler.controller.runtime.reactor import Reactor
from reconciler.controller.state.queries import ends_told, stored_events
from reconciler.controller.state.records import KEPT_EVENTS, EventsWritten, NumbersReserved
from reconciler.controller.state.store import Store
from reconciler.model.answer import EventEntry
from reconciler.model.event import Event
from reconciler.model.observation import EndsTold
from reconciler.model.process import ProcessId
from reconciler.model.units import MILLISECOND_NS
from reconciler.model.value import Part, field

NUMBERS_PER_RESERVATION: Final = 1000
WRITE_PAUSE_NS: Final = 100 * MILLISECOND_NS
MAX_BATCH: Final = 500
"""More at a time would keep the interpreter from the loop."""
LEVELS: Final = {
    "failed": "warning",
    "fault": "error",
    "rejected": "error",
    "held": "warning",
    "missing": "warning",
    "writable": "warning",
    "watching": "warning",
    "damaged": "error",
    "denied": "warning",
    "paused": "warning",
    "rolled_back": "warning",
}
"""By the last word of an event's type; all else is info."""


class EventLog(Part):
    """Tells and writes events, and fetches what earlier controllers wrote."""

    recent: RecentEvents
    store: Store
    reactor: Reactor
    lanes: Lanes
    border: Border
    log: Log
    follow: Callable[[], None]
    """Sends an event that was just told to those who follow them."""
    _unwritten: deque[tuple[EventEntry, int | None]] = field(
        default_factory=lambda: deque(maxlen=KEPT_EVENTS)
    )
    """With the number of the event whose place each has taken."""
    _is_under_way: bool = False
    _reserved: int = 0
    _recalling: list[Callable[[], None]] = field(default_factory=list)
    """Who waits for events of earlier controllers."""

    def __post_init__(self) -> None:
        """Set the first numbers aside."""
        self._reserve()

    def tell(self, event: Event) -> None:
        """Number an event, keep it, log it, and send it to those who follow."""
        at_ns = clock.now_ns() if event.at_ns is None else event.at_ns
        entry = self.recent.add(event, clock.wall_offset_ns() + at_ns)
        self._write_later(entry)
        level = LEVELS.get(event.type.rpartition(".")[2], "info")
        watcher, slot = event.watcher or None, event.slot or None
        # What a process does again and again is counted there, what people ask for is written each time.
        is_asked = event.type.startswith("operator.") or watcher is None
        repeats = None if is_asked else (watcher, slot or "")
        self.log.write(
            level, event.type, repeats=repeats, watcher=watcher, slot=slot, text=event.message
        )
        self.follow()

    def _write_later(self, told: EventEntry) -> None:
        self._unwritten.append((told, self.recent.replaced))
        if told.seq + NUMBERS_PER_RESERVATION // 2 > self._reserved:
            self._reserve()
        if not self._is_under_way and len(self._unwritten) == 1:
            self._write_soon()

    def written(self, entry: EventsWritten) -> None:
        """Take note that a batch lies on the disk, and send the next one after a pause."""
        self._is_under_way = False
        self._reserved = max(self._reserved, entry.below)
        if self._unwritten:
            self._write_soon()

    def recall(self, seq: int, limit: int, then: Callable[[], None]) -> bool:
        """Fetch what earlier controllers told, when it is asked for: True, and `then` is called later."""
        if not self.recent.lacks(seq, limit):
            return False
        path, before = self.store.path, self.recent.first
        self._recalling.append(then)
        if len(self._recalling) == 1:  # all that ask meanwhile are answered by one look
            self.lanes.run(
                "records",
                lambda: stored_events(path, before),
                self._recalled,
                lambda _: self._recalled(()),  # reported, and done without
            )
        return True

    def _recalled(self, found: Sequence[EventEntry]) -> None:
        waiting, self._recalling = self._recalling, []
        self.recent.recall(found)
        for then in waiting:
            self.border.guard("answering with older events", then)

    def ends_told(self, dead: Collection[ProcessId]) -> EndsTold:
        """Return which ends of dead processes earlier controllers told of."""
        return EndsTold(ends_told(self.store.path, dead))

    def close(self) -> None:
        """Write what is left; the numbers that were set aside are given back."""
        self._write_some(len(self._unwritten), self.recent.newest + 1)

    def _write_soon(self) -> None:
        self.reactor.at(self, clock.now_ns() + WRITE_PAUSE_NS, self._write)

    def _write(self) -> None:
        if self._unwritten:
            self._is_under_way = True
            below = self.recent.newest + 1 + NUMBERS_PER_RESERVATION
            self._write_some(min(len(self._unwritten), MAX_BATCH), max(self._reserved, below))

    def _write_some(self, count: int, below: int) -> None:
        batch = [self._unwritten.popleft() for _ in range(count)]
        replaced = tuple(number for _, number in batch if number is not None)
        self.store.write(EventsWritten(tuple(entry for entry, _ in batch), below, replaced))

    def _reserve(self) -> None:
        self._reserved = self.recent.newest + 1 + NUMBERS_PER_RESERVATION
        self.store.write(NumbersReserved(self._reserved))
