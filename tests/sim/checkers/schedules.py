"""Whether the clock fires jobs when it should: judged by counting seconds and minutes by the machine's own clock."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from reconciler.model.action import RecordGeneration, RecordRun, RecordTimetable
from reconciler.model.process import ProcessId
from reconciler.model.units import SECOND_NS as S

if TYPE_CHECKING:
    from reconciler.model.action import StoreAction
    from reconciler.model.job import Passed
    from reconciler.model.spec import ScheduleSpec, WatcherSpec
    from tests.sim.checkers.facts import Facts

CALM_NS = 6 * S
"""So long after the last disturbance all that was to be decided lies on the disk."""
UNHEARD_NS = 6 * S
"""So old may be what a controller knows of a process, by a slow link."""
LATE_NS = 60 * S


def period_ns(schedule: ScheduleSpec) -> int:
    """Return how far the instants are apart that people ask for in here: each is a multiple of that since the epoch."""
    if schedule.every is not None:
        return schedule.every
    minute = (schedule.cron or "").split()[0]
    return 60 * S * (1 if minute == "*" else int(minute.removeprefix("*/")))


class Schedules:
    """I23: no instant is fired twice, too early or by who is not to; and none is missed that should be fired."""

    def __init__(self, facts: Facts) -> None:
        self.facts, self.world, self.kernel = facts, facts.world, facts.kernel
        self.dealt: dict[str, dict[int, int]] = defaultdict(dict)
        """By job the instants that were fired or passed over, each with when that lay on the disk."""
        self.fired: dict[str, set[int]] = defaultdict(set)
        self.armed: dict[str, int] = {}
        """From when on (of the wall) instants of a job may not be missed."""
        self.asked: dict[str, tuple[object, ...]] = {}
        self.changed_ns: dict[str, int] = {}
        """When something was last said of its schedule, or of whether it is to be fired at all."""
        self.begun: dict[str, int] = {}
        """What the clock showed when a schedule came into force, or less, to which it was set back since."""
        self.times: dict[str, tuple[int | None, bool]] = {}
        self.edited: set[str] = set()
        """Jobs whose times were edited."""
        self.busy_ns: dict[ProcessId, int] = {}
        self._stamp: object = None
        if "schedule" in self.world.faults.strength:
            self.world.on_committed.append(self.committed)
            self.world.on_decided.append(self.decided)
            self.world.on_instant.append(self.instant)

    @property
    def wall_ns(self) -> int:
        """What the wall clock shows."""
        return self.kernel.now + self.world.wall_ns

    def _spec(self, name: str) -> WatcherSpec | None:
        """Return the spec of a job that the clock is to fire just now."""
        spec = self.world.disk.spec.watchers.get(name)
        if spec is None or spec.schedule is None or not spec.is_job or not spec.autostart:
            return None
        return spec if self.facts.want(name) else None

    # ---- what must not be -----------------------------------------------------------------------

    def decided(self, action: StoreAction) -> None:
        """Judge what a controller has just decided."""
        if isinstance(action, RecordGeneration) and action.generation.trigger == "schedule":
            assert action.generation.instant is not None
            self._may_fire(action.watcher, action.generation.instant.at_ns)
        elif isinstance(action, RecordTimetable) and action.timetable.passed is not None:
            passed = action.timetable.passed
            if passed.instant.at_ns == action.timetable.since_ns:
                self._may_pass_over(action.watcher, passed)

    def _may_fire(self, name: str, instant_ns: int) -> None:
        spec = self._spec(name)
        assert spec is not None, f"{name} is fired by its schedule, and shall not be"
        assert spec.schedule is not None
        assert instant_ns % period_ns(spec.schedule) == 0, f"{instant_ns} is none of its instants"
        self._note_changes(name)
        # Who dies before it is written down that a schedule was not in force is followed by one who does not know.
        is_known = self.world.disturbed_ns < self.changed_ns[name]
        assert not is_known or instant_ns >= self.begun[name], f"{instant_ns} came before {name}"
        late_ns = self.wall_ns - instant_ns
        assert late_ns >= 0, f"{name} is fired {-late_ns / S}s too early"
        if spec.schedule.catch_up == "skip":
            most = LATE_NS + spec.schedule.jitter
            assert late_ns <= most, f"{name} is fired {late_ns / S}s late"

    def _may_pass_over(self, name: str, passed: Passed) -> None:
        spec, late_ns = self._spec(name), self.wall_ns - passed.instant.at_ns
        assert spec is not None
        assert spec.schedule is not None
        if passed.why == "missed":
            assert spec.schedule.catch_up == "skip", f"{name} does not catch up"
            assert late_ns > LATE_NS, f"{name} missed what was due {late_ns / S}s ago"
            return
        assert spec.overlap == "skip", f"{name} skips, and overlap is {spec.overlap}"
        self._note_busy()
        since = self.kernel.now - UNHEARD_NS
        free = [
            slot
            for slot in range(1, self.facts.want(name) + 1)
            if self.busy_ns.get(ProcessId(name, slot), -1) < since
        ]
        assert not free, f"{name} skips {passed.instant.at_ns}, and slots {free} are free"

    def committed(self, action: StoreAction) -> None:
        """Take note of what lies on the disk: what was fired shall not be fired again."""
        if isinstance(action, RecordTimetable):
            passed = action.timetable.passed
            if passed is not None:
                self.dealt[action.watcher].setdefault(passed.instant.at_ns, self.kernel.now)
        elif isinstance(action, RecordGeneration) and action.generation.trigger == "schedule":
            assert action.generation.instant is not None
            name, at_ns = action.watcher, action.generation.instant.at_ns
            assert at_ns not in self.fired[name], f"{name} is fired twice for {at_ns}"
            self.fired[name].add(at_ns)
            self.dealt[name][at_ns] = self.kernel.now

    # ---- what must be ---------------------------------------------------------------------------

    def instant(self) -> None:
        """See that what has come was dealt with, once the manager had time for it."""
        self._note_busy()
        now, world = self.kernel.now, self.world
        calm_since = max(world.disturbed_ns, world.leapt_ns, world.disk_full_until_ns)
        for name in {*world.disk.spec.watchers, *self.asked}:
            self._note_changes(name)
            since = max(calm_since, self.changed_ns.get(name, 0), self.facts.touched_ns(name))
            spec = self._spec(name)
            if spec is None or spec.schedule is None or world.controller is None:
                continue
            is_ready = now >= world.controller.ready_ns and not world.controller.writes
            if now - since < CALM_NS or not is_ready:
                continue
            self.armed[name] = min(self.armed.get(name, self.wall_ns), self.wall_ns)
            self._was_dealt_with(name, spec.schedule)

    def _was_dealt_with(self, name: str, schedule: ScheduleSpec) -> None:
        """The newest instant that came a while ago, and was not too old to be fired then, was fired or passed over."""
        seen_ns, period = self.wall_ns - CALM_NS - schedule.jitter, period_ns(schedule)
        newest = seen_ns // period * period
        if newest <= self.armed[name]:
            return
        dealt = self.dealt[name]
        later = any(t > newest and at >= self.kernel.now - 2 * CALM_NS for t, at in dealt.items())
        between = name in self.edited and bool(dealt) and newest < max(dealt)
        assert newest in dealt or later or between, (
            f"{name} was not fired for {newest}, {(self.wall_ns - newest) / S}s ago"
        )

    def _note_changes(self, name: str) -> None:
        spec = self._spec(name)
        schedule = None if spec is None else spec.schedule
        want = 0 if spec is None else self.facts.want(name)
        asked = schedule, want, None if spec is None else spec.overlap
        before = self.asked.get(name)
        self.begun[name] = min(self.begun.get(name, self.wall_ns), self.wall_ns)
        if before == asked:
            return
        times = None if schedule is None else period_ns(schedule)
        if self.times.get(name) != (times, bool(want)):
            self.times[name] = times, bool(want)
            self.begun[name] = self.wall_ns
        self.asked[name], self.changed_ns[name] = asked, self.kernel.now
        if before is None or before[0] != schedule:
            self.armed.pop(name, None)
            if before is not None and name in self.fired:
                self.edited.add(name)

    def _note_busy(self) -> None:
        """Take note of slots that have something to run, or to end."""
        now, disk, controller = self.kernel.now, self.world.disk, self.world.controller
        for _, action in controller.writes if controller is not None else ():
            slots: tuple[int, ...] = ()
            if isinstance(action, RecordRun) and action.run.outcome is None:
                slots = (action.run.slot,)
            elif isinstance(action, RecordGeneration):
                slots = action.generation.slots or tuple(range(1, 4))
            self.busy_ns |= dict.fromkeys((ProcessId(action.watcher, s) for s in slots), now)
        for process in self.kernel.alive():
            if process.id.role == "main":
                self.busy_ns[process.id] = now
        for name, spec in disk.spec.watchers.items():
            if spec.schedule is None:
                continue
            newest, runs = disk.generations.get(name), disk.runs.get(name, {})
            for slot in range(1, self.facts.want(name) + 1):
                run = runs.get(slot)
                chosen = newest is not None and (newest.slots is None or slot in newest.slots)
                number = 0 if newest is None else newest.number
                is_due = chosen and (run is None or run.generation < number)
                # One that was scaled up waits for its first run.
                is_due |= run is None and spec.autostart and spec.schedule.run_at_start
                if is_due or (run is not None and run.outcome is None):
                    self.busy_ns[ProcessId(name, slot)] = now
