"""The wall clock and the instants of schedules, for the core, which has neither clock nor calendar.

Instants are worked out in a background lane: time zones are files, and what reads cron lines is imported there, when
the first job with a schedule asks. The clock is looked at in each round, which costs less than a microsecond; where
nothing else happens the kernel wakes us when it is set. None of this is there as long as no job has a schedule.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from reconciler.controller.runtime import clock
from reconciler.controller.runtime.lanes import Lanes
from reconciler.controller.runtime.reactor import READ, Reactor
from reconciler.core.reconciler import Reconciler
from reconciler.model.action import FindInstants
from reconciler.model.observation import ClockSet, InstantsFound, Observation
from reconciler.model.spec import ScheduleSpec, Spec
from reconciler.model.units import MILLISECOND_NS
from reconciler.model.value import Part
from reconciler.system.wall_clock import ClockLeaps

LEAP_NS: Final = 10 * MILLISECOND_NS
"""A clock that is set by less is not told: two readings of it may differ by as much on a busy machine."""


class Schedules(Part):
    """Answers what the core asks about instants, and tells it how the wall clock stands."""

    core: Reconciler
    reactor: Reactor
    lanes: Lanes
    feed: Callable[[Observation], None]
    offset_ns: Callable[[], int] = clock.measured_offset_ns
    """What turns monotonic time into time since the epoch."""
    _told_ns: int | None = None
    _leaps: ClockLeaps | None = None

    def find(self, asked: FindInstants) -> None:
        """Work out the instants of a schedule."""
        spec = self.core.spec.watchers.get(asked.watcher)
        if spec is None or spec.schedule is None:
            return
        if self._told_ns is None:
            self._tell(self.offset_ns())
        self._watch()
        now_ns = clock.now_ns() + (self._told_ns or 0)
        after_ns = now_ns if asked.after_ns is None else asked.after_ns
        name, schedule = asked.watcher, spec.schedule
        self.lanes.run(
            "files",
            partial(_found, name, schedule, after_ns, now_ns),
            self.feed,
            lambda cause: self.feed(_not_found(name, schedule, after_ns, cause)),
        )

    def look_at_clock(self) -> None:
        """Tell the core when the wall clock was set, if it has ever asked."""
        if self._told_ns is not None:
            offset_ns = self.offset_ns()
            if abs(offset_ns - self._told_ns) > LEAP_NS:
                self._tell(offset_ns)

    def follow(self, spec: Spec) -> None:
        """Let the clock be where no job of a spec has a schedule."""
        if self._leaps is not None and all(s.schedule is None for s in spec.watchers.values()):
            self.reactor.ignore(self._leaps)
            self._leaps.close()
            self._leaps = None

    def _tell(self, offset_ns: int) -> None:
        self._told_ns = offset_ns
        self.feed(ClockSet(offset_ns))

    def _watch(self) -> None:
        """Be woken when the clock is set; where that cannot be, it is noticed when something else wakes us."""
        if self._leaps is None:
            try:
                self._leaps = ClockLeaps()
            except OSError:
                return
            self.reactor.watch(self._leaps, READ, lambda _: self._leapt())

    def _leapt(self) -> None:
        if self._leaps is not None:
            self._leaps.take()
        self.look_at_clock()


def _found(name: str, schedule: ScheduleSpec, after_ns: int, now_ns: int) -> InstantsFound:
    """Return the instants of a schedule, or why they are not known. Runs in a thread."""
    from reconciler.schedule import instants, line

    try:
        return instants.found(name, schedule, after_ns, now_ns)
    except instants.UnknownZone as error:
        cause = f"there is no time zone {error} on this machine"
    except line.BadLine as error:
        cause = error.message
    return _not_found(name, schedule, after_ns, cause)


def _not_found(name: str, schedule: ScheduleSpec, after_ns: int, cause: str) -> InstantsFound:
    return InstantsFound(name, schedule.timing, after_ns, trouble=cause)
