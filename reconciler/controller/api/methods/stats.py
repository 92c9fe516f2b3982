"""Methods about what processes use: once, and again and again while somebody looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from reconciler.controller.api.request import Request
from reconciler.controller.api.selectors import Wanted, labels_of, select, wanted
from reconciler.controller.api.streams import Stream, Streams
from reconciler.controller.output.status_board import StatusBoard
from reconciler.controller.output.usage import Usage, usage_of
from reconciler.controller.runtime import clock
from reconciler.controller.runtime.lanes import Lanes
from reconciler.core.reconciler import Reconciler
from reconciler.model.answer import SlotStats, Stats
from reconciler.model.status import SlotStatus
from reconciler.model.value import Part, asdict
from reconciler.wire import methods

MAX_SLOTS_SENT: Final = 2000
"""Slots of one notification: those that use most."""


class StatsMethods(Part):
    """`stats` and `stats.follow`."""

    core: Reconciler
    board: StatusBoard
    lanes: Lanes
    streams: Streams

    def stats(self, request: Request, asked: methods.Selecting) -> None:
        """Answer what the processes of watchers or slots use."""
        selection = wanted(asked)
        select(self.core, selection)
        slots = self.running(selection)
        request.in_lane(
            "processes",
            lambda: usage_of(slots),
            lambda found: request.reply(Stats(clock.wall_ns(), _stats(slots, found))),
        )

    def stats_follow(self, request: Request, asked: methods.FollowStats) -> None:
        """Send what they use at intervals; watchers that come later are looked at, too."""
        selection = wanted(asked)
        select(self.core, selection)
        self.streams.add(request, StatsStream(self, selection, asked.interval_ns))

    def running(self, selection: Wanted) -> dict[int, tuple[str, SlotStatus]]:
        """Return the slots that are meant now and have a process, by its pid."""
        found = {}
        for name in self.core.names():
            if selection.matches(name, labels_of(self.core, name)):
                chosen = selection.slots(name) if selection.names else None
                for slot in self.board.of(name).slots:
                    if slot.pid is not None and (chosen is None or slot.slot in chosen):
                        found[slot.pid] = (name, slot)
        return found


class StatsStream(Stream):
    """What processes use, looked at as often as its client wants it and reads it."""

    def __init__(self, stats: StatsMethods, selection: Wanted, interval_ns: int) -> None:
        self.stats, self.selection, self.interval_ns = stats, selection, interval_ns
        self._due_ns = 0
        self._is_looking = self._is_closed = False

    def pump(self) -> bool:
        """Have a look taken when it is time for one."""
        now_ns = clock.now_ns()
        if not self._is_looking and now_ns >= self._due_ns and self.connection.has_room:
            self._is_looking, self._due_ns = True, now_ns + self.interval_ns
            slots = self.stats.running(self.selection)
            looked: Callable[[dict[int, Usage]], object] = partial(self._looked, slots)
            self.stats.lanes.run(
                "processes",
                lambda: usage_of(slots),
                lambda found: self.streams.guard(self, partial(looked, found)),
                lambda _: self.connection.close(),
                uid=self.connection.peer.uid,
                is_wanted=lambda: not self._is_closed,
            )
        return False

    def _looked(
        self, slots: Mapping[int, tuple[str, SlotStatus]], found: Mapping[int, Usage]
    ) -> None:
        self._is_looking = False
        if self._is_closed:
            return
        rows = _stats(slots, found)
        left_out = max(len(rows) - MAX_SLOTS_SENT, 0)
        if left_out:
            by_use = sorted(rows, key=lambda row: (-row.cpu_percent, -row.memory_bytes))
            rows = tuple(by_use[:MAX_SLOTS_SENT])
        self.send(**asdict(Stats(clock.wall_ns(), rows, left_out)))
        self.reactor.at(self, self._due_ns, self._go_on)

    def _go_on(self) -> None:
        self.streams.pump(self)

    def close(self) -> None:
        """Take the next look back."""
        self._is_closed = True
        self.reactor.at(self, None, self._go_on)


def _stats(
    slots: Mapping[int, tuple[str, SlotStatus]], found: Mapping[int, Usage]
) -> tuple[SlotStats, ...]:
    return tuple(
        SlotStats(
            name,
            slot.slot,
            pid,
            slot.state,
            slot.since_ns,
            slot.restarts,
            used.cpu_percent,
            used.cpu_ns,
            used.memory_bytes,
            used.processes,
            used.threads,
        )
        for pid, (name, slot) in slots.items()
        if (used := found.get(pid)) is not None
    )
