"""Claims about schedules in the controller: what the core is told of clock and calendar, and when."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from reconciler.controller.runtime import clock
from reconciler.controller.runtime.lanes import Lanes
from reconciler.controller.runtime.reactor import Reactor
from reconciler.controller.specs.schedules import LEAP_NS, Schedules
from reconciler.core.reconciler import Reconciler
from reconciler.model.action import FindInstants
from reconciler.model.observation import FOUND, ClockSet, InstantsFound, SpecApplied
from reconciler.model.spec import ScheduleSpec, Spec, WatcherSpec
from reconciler.model.units import DAY_NS, HOUR_NS
from tests.core.stage import FACTS

if TYPE_CHECKING:
    from reconciler.model.observation import Observation
from conftest import raised

DAILY = ScheduleSpec(cron="0 3 * * *", timezone="Europe/Berlin")


class Desk:
    """A core with one scheduled job, and what it is told."""

    def __init__(self, schedule: ScheduleSpec | None = DAILY) -> None:
        self.told: list[Observation] = []
        self.offset_ns = 1_800_000_000 * 10**9 - clock.now_ns()
        self.reactor = Reactor(raised)
        self.spec = Spec(
            watchers={"job": WatcherSpec(cmd=("x",), restart="never", schedule=schedule)}
        )
        core = Reconciler(FACTS)
        core.step([SpecApplied(self.spec, 1)], 0)
        lanes = Lanes(self.reactor, raised)  # type: ignore[arg-type]
        self.schedules = Schedules(
            core, self.reactor, lanes, self.told.append, lambda: self.offset_ns
        )

    def asked(self, after_ns: int | None = None) -> InstantsFound:
        """Ask for instants, and wait for the answer."""
        before = len(self.told)
        self.schedules.find(FindInstants("job", after_ns))
        while not isinstance(self.told[-1] if len(self.told) > before else None, InstantsFound):
            self.reactor.wait(None)
        answer = self.told[-1]
        assert isinstance(answer, InstantsFound)
        return answer


def test_with_the_first_instants_the_clock_is_told() -> None:
    desk = Desk()
    answer = desk.asked()
    assert desk.told == [ClockSet(desk.offset_ns), answer]
    assert (answer.watcher, answer.timing, answer.left_out) == ("job", DAILY.timing, False)
    assert len(answer.times) == FOUND
    assert answer.times[0].shown == "2027-01-16 03:00 CET"
    again = desk.asked(answer.after_ns - 2 * DAY_NS)
    assert desk.told[2:] == [again]
    assert [each.shown for each in again.times[:2]] == [
        "2027-01-15 03:00 CET",
        "2027-01-16 03:00 CET",
    ]


def test_a_clock_that_is_set_is_told_and_one_that_wavers_is_not() -> None:
    desk = Desk()
    desk.schedules.look_at_clock()
    assert desk.told == []  # nobody has asked
    desk.asked()
    desk.offset_ns += LEAP_NS
    desk.schedules.look_at_clock()
    assert len(desk.told) == 2
    desk.offset_ns -= HOUR_NS
    desk.schedules.look_at_clock()
    desk.schedules.look_at_clock()
    assert desk.told[2:] == [ClockSet(desk.offset_ns)]


def test_what_cannot_be_worked_out_is_told() -> None:
    assert Desk(ScheduleSpec(cron="0 3 * * *", timezone="Nowhere")).asked().trouble == (
        "there is no time zone Nowhere on this machine"
    )
    assert "never fires" in Desk(ScheduleSpec(cron="0 3 31 2 *")).asked().trouble


def test_without_schedules_the_clock_is_not_watched_any_more() -> None:
    desk = Desk()
    desk.asked()
    assert desk.schedules._leaps is not None
    desk.schedules.follow(desk.spec)
    assert desk.schedules._leaps is not None
    desk.schedules.follow(Spec())
    assert desk.schedules._leaps is None


def test_a_controller_imports_no_calendar_before_a_schedule_asks() -> None:
    code = (
        "import sys, reconciler.controller.controller, reconciler.specfile.answering;"
        "print([each for each in ('cronsim', 'zoneinfo', 'reconciler.schedule') if each in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
