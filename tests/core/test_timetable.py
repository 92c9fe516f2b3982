"""Jobs that the clock fires: when, how often, and what becomes of an instant that cannot be kept."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from reconciler.core import orders
from reconciler.core.changes import changes
from reconciler.core.intents import resumed, scaled, stopped
from reconciler.core.timetable import LATE_NS, MAX_FIRED
from reconciler.model.action import FindInstants, RecordTimetable, Spawn
from reconciler.model.intent import NO_INTENT, RequestedBy
from reconciler.model.job import Generation, Instant, Job, Passed, Timetable
from reconciler.model.observation import (
    InstantsFound,
    IntentChanged,
    JobChanged,
    ShutdownAsked,
)
from reconciler.model.process import Running
from reconciler.model.spec import ScheduleSpec, SecretSpec
from reconciler.model.units import MINUTE_NS, SECOND_NS
from reconciler.model.value import replace
from tests.core.stage import S, Stage, job, spec, watcher

if TYPE_CHECKING:
    from reconciler.model.spec import WatcherSpec

ALICE = RequestedBy("alice", "", 0)
HELD = stopped(NO_INTENT, ALICE)
BERLIN = ScheduleSpec(cron="0 3 * * *", timezone="Europe/Berlin")
MINUTELY = ScheduleSpec(every=MINUTE_NS)


def ns(text: str) -> int:
    """Return the instant of `2027-03-28 01:00`, in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND_NS


def utc(at_ns: int) -> str:
    """Return the time of an instant: day and minute, with seconds where there are some."""
    text = f"{datetime.fromtimestamp(at_ns / SECOND_NS, UTC):%m-%d %H:%M:%S}"
    return text.removesuffix(":00")


def at(text: str, **watchers: WatcherSpec) -> Stage:
    """Apply a spec at a time of the wall."""
    stage = Stage()
    stage.wall_ns = ns(text)
    return stage.apply(spec(**watchers))


def scheduled(schedule: ScheduleSpec = BERLIN, **fields: object) -> WatcherSpec:
    return job(schedule=schedule, **fields)


def starts(stage: Stage) -> list[str]:
    """Return when processes were started, by a wall clock that nobody ever set."""
    return [utc(round(t * S) + stage.wall_ns) for t, a in stage.history if isinstance(a, Spawn)]


def instants(stage: Stage, slot: int = 1) -> list[str]:
    """Return the instants for which a slot was fired, in order."""
    return [
        utc(each.run.instant_ns)
        for each in stage.runs
        if each.run.slot == slot and each.run.outcome is None and each.run.instant_ns is not None
    ]


def told(stage: Stage, kind: str) -> list[str]:
    return [each.message for each in stage.events if each.type == kind]


def until(stage: Stage, text: str, lasts: float | None = None) -> Stage:
    """Let time pass up to a time of the wall; what runs ends after so many seconds."""
    while True:
        end_ns = ns(text) - stage.wall_ns
        ends = [
            (each.phase.started_at_ns + round(lasts * S), str(each.id))
            for each in stage.records.values()
            if lasts is not None and isinstance(each.phase, Running)
        ]
        next_ns, name = min(ends, default=(end_ns, ""))
        due_ns = stage.last.wake_at_ns
        if due_ns is not None and due_ns < min(next_ns, end_ns):
            stage.wait((due_ns - stage.now) / S)
        elif next_ns < end_ns:
            stage.wait((max(next_ns, stage.now) - stage.now) / S).exit(name)
        else:
            return stage.wait((end_ns - stage.now) / S)


# ---- waiting, and being fired ---------------------------------------------------------------------


def test_a_job_with_a_schedule_waits_for_it_and_nothing_else_fires_it() -> None:
    stage = at("2027-03-01 12:00", job=scheduled())
    stage.apply(spec(job=scheduled(cmd=("new",), numprocesses=3, priority=1)))
    until(stage, "2027-03-02 01:59")
    shown = stage.status("job")
    assert (shown.state, shown.as_desired, shown.ready) == ("Scheduled", True, 3)
    assert shown.note == "next run 2027-03-02 03:00 CET"
    assert [each.shown for each in shown.next_runs] == [
        f"2027-03-0{day} 03:00 CET" for day in range(2, 7)
    ]
    assert [slot.state for slot in shown.slots] == ["Scheduled"] * 3
    assert stage.spawned() == []
    assert stage.reconciler.jobs_done(stage.now) is None


def test_each_instant_fires_all_slots_once() -> None:
    stage = at("2027-03-01 12:00", job=scheduled(numprocesses=2))
    until(stage, "2027-03-04 12:00", lasts=60)
    assert starts(stage) == [f"03-0{day} 02:00" for day in (2, 3, 4) for _ in range(2)]
    assert instants(stage, 2) == ["03-02 02:00", "03-03 02:00", "03-04 02:00"]
    assert {each.run.trigger for each in stage.runs} == {"schedule"}
    assert (
        told(stage, "job.fired")[0] == "job fires generation 1: scheduled for 2027-03-02 03:00 CET"
    )
    shown = stage.status("job")
    assert (shown.state, shown.note) == ("Scheduled", "next run 2027-03-05 03:00 CET")
    assert [slot.state for slot in shown.slots] == ["Completed", "Completed"]
    assert stage.reconciler.jobs_done(stage.now) is None


def test_a_run_that_failed_shows_until_the_next_one() -> None:
    stage = until(at("2027-03-01 12:00", job=scheduled()), "2027-03-02 02:00").exit("job.1", 3)
    shown = stage.status("job")
    assert (shown.state, shown.as_desired) == ("Failed", False)
    assert shown.note == "failed: exit 3; next run 2027-03-03 03:00 CET"
    until(stage, "2027-03-03 02:00")
    assert stage.status("job").state == "Running"
    assert stage.exit("job.1").status("job").state == "Scheduled"


def test_what_runs_is_stopped_at_its_timeout_as_always() -> None:
    stage = at("2027-03-01 12:00", job=scheduled(MINUTELY, timeout=10 * S))
    until(stage, "2027-03-01 12:02:30", lasts=1000)
    assert [(round(when), name) for when, name, _ in stage.signals()] == [
        (70, "job.1"),
        (130, "job.1"),
    ]
    assert stage.status("job").note == "timeout: killed by SIGTERM; next run 2027-03-01 12:03 UTC"


def test_a_new_slot_waits_for_the_next_instant_too() -> None:
    stage = until(at("2027-03-01 12:00", job=scheduled()), "2027-03-02 03:00", lasts=60)
    stage.apply(spec(job=scheduled(numprocesses=2)))
    assert stage.spawned() == ["job.1"]
    until(stage, "2027-03-03 03:00", lasts=60)
    assert stage.spawned() == ["job.1", "job.1", "job.2"]


def test_run_at_start_fires_like_a_job_without_schedule_besides() -> None:
    schedule = replace(BERLIN, run_at_start=True)
    stage = at("2027-03-01 12:00", job=scheduled(schedule))
    until(stage, "2027-03-01 13:00", lasts=60)
    stage.apply(spec(job=scheduled(schedule, cmd=("new",))))
    until(stage, "2027-03-02 12:00", lasts=60)
    assert [each.run.trigger for each in stage.runs if each.run.outcome is None] == [
        "first", "spec_change", "schedule",
    ]  # fmt: skip
    assert starts(stage) == ["03-01 12:00", "03-01 13:00", "03-02 02:00"]


def test_a_service_that_becomes_a_job_with_a_schedule_is_not_started_again() -> None:
    stage = at("2027-03-01 12:00", job=watcher()).wait(60)
    stage.apply(spec(job=scheduled()))
    assert stage.spawned() == ["job.1"]
    assert [(each.run.trigger, each.run.outcome) for each in stage.runs] == [("first", None)]
    stage.exit("job.1")
    assert starts(until(stage, "2027-03-02 12:00", lasts=60))[1:] == ["03-02 02:00"]


def test_a_job_that_has_no_schedule_any_more_is_fired_as_all_are() -> None:
    stage = at("2027-03-01 12:00", job=scheduled())
    stage.apply(spec(job=job()))
    assert stage.spawned() == ["job.1"]
    assert stage.timetables["job"].since_ns is None
    until(stage.exit("job.1"), "2027-03-04 12:00")
    assert stage.spawned() == ["job.1"]
    assert stage.status("job").next_runs == ()


# ---- overlap, over the clock changes ---------------------------------------------------------------

HALF_HOURLY = "*/30 * * * *"
CHANGES = [
    # Runs of 45 minutes at half-hourly instants of real time: each second one finds the former run.
    ("Europe/Berlin", HALF_HOURLY, "2027-03-28 00:10", "2027-03-28 02:10", 45, "skip",
     ["03-28 00:30", "03-28 01:30"], ["2027-03-28 03:00 CEST", "2027-03-28 04:00 CEST"]),
    ("Europe/Berlin", HALF_HOURLY, "2027-10-31 00:10", "2027-10-31 02:10", 45, "skip",
     ["10-31 00:30", "10-31 01:30"], ["2027-10-31 02:00 CET", "2027-10-31 03:00 CET"]),
    ("Europe/Berlin", HALF_HOURLY, "2027-10-31 00:10", "2027-10-31 02:40", 45, "queue",
     ["10-31 00:30", "10-31 01:15", "10-31 02:00"], []),
    ("Europe/Berlin", HALF_HOURLY, "2027-10-31 00:10", "2027-10-31 02:10", 45, "replace",
     ["10-31 00:30", "10-31 01:00", "10-31 01:30", "10-31 02:00"], []),
    # A daily run that takes longer than a day, over the day with one hour less and the one with one more.
    ("Europe/Berlin", "30 2 * * *", "2027-03-26 12:00", "2027-03-30 12:00", 24 * 60, "skip",
     ["03-27 01:30", "03-29 00:30"], ["2027-03-28 03:00 CEST", "2027-03-30 02:30 CEST"]),
    ("Europe/Berlin", "30 2 * * *", "2027-10-29 12:00", "2027-11-02 12:00", 24 * 60 - 30, "skip",
     ["10-30 00:30", "10-31 00:30", "11-01 01:30", "11-02 01:30"], []),
    ("America/New_York", "30 1 * * *", "2027-11-06 00:00", "2027-11-09 00:00", 24 * 60 + 30, "skip",
     ["11-06 05:30", "11-08 06:30"], ["2027-11-07 01:30 EDT"]),
    ("America/New_York", "30 1 * * *", "2027-11-06 00:00", "2027-11-09 00:00", 24 * 60 + 30, "queue",
     ["11-06 05:30", "11-07 06:00", "11-08 06:30"], []),
    ("America/New_York", "30 2 * * *", "2027-03-13 00:00", "2027-03-16 00:00", 24 * 60, "replace",
     ["03-13 07:30", "03-14 07:00", "03-15 06:30"], []),
    ("Australia/Lord_Howe", "*/15 * * * *", "2027-10-02 15:10", "2027-10-02 16:10", 20, "skip",
     ["10-02 15:15", "10-02 15:45"], ["2027-10-03 02:30 +11", "2027-10-03 03:00 +11"]),
    ("Australia/Lord_Howe", "*/15 * * * *", "2027-04-03 14:25", "2027-04-03 15:10", 20, "queue",
     ["04-03 14:30", "04-03 14:50"], []),
    ("Australia/Lord_Howe", "15 2 * * *", "2027-10-01 12:00", "2027-10-04 00:00", 24 * 60 - 15, "replace",
     ["10-01 15:45", "10-02 15:30", "10-03 15:15"], []),
    ("Africa/Cairo", "0 0 * * *", "2027-04-28 12:00", "2027-05-02 00:00", 23 * 60 + 30, "skip",
     ["04-28 22:00", "04-29 22:00", "05-01 21:00"], ["2027-05-01 00:00 EEST"]),
    ("Africa/Cairo", "0 0 * * *", "2027-04-28 12:00", "2027-05-01 22:00", 23 * 60 + 30, "queue",
     ["04-28 22:00", "04-29 22:00", "04-30 21:30", "05-01 21:00"], []),
    ("Africa/Cairo", "0 * * * *", "2027-10-28 18:30", "2027-10-28 22:30", 90, "replace",
     ["10-28 19:00", "10-28 20:00", "10-28 21:00", "10-28 22:00"], []),
]  # fmt: skip
"""Zone and line, from when to when, how many minutes a run takes, and `overlap`: when runs begin, what is skipped."""


@pytest.mark.parametrize(
    ("zone", "line", "since", "end", "minutes", "overlap", "begun", "skipped"), CHANGES
)
def test_what_still_runs_over_the_change_of_the_clocks(
    zone: str, line: str, since: str, end: str, minutes: int, overlap: str, begun: list[str], skipped: list[str]
) -> None:  # fmt: skip
    schedule = ScheduleSpec(cron=line, timezone=zone)
    stage = at(since, job=scheduled(schedule, overlap=overlap))
    until(stage, end, lasts=minutes * 60)
    assert starts(stage) == begun
    reason = "was skipped: the former run had not ended"
    assert told(stage, "job.skipped") == [f"job: {each} {reason}" for each in skipped]
    assert bool(stage.signals()) == (overlap == "replace")


def test_a_skipped_instant_shows_until_the_next_run() -> None:
    stage = until(
        at("2027-03-01 12:00", job=scheduled(MINUTELY)), "2027-03-01 12:02:30", lasts=1000
    )
    assert stage.status("job").state == "Running"
    skipped = "2027-03-01 12:02 UTC was skipped: the former run had not ended"
    assert stage.status("job").note == f"next run 2027-03-01 12:03 UTC; {skipped}"
    until(stage.exit("job.1"), "2027-03-01 12:03:30")
    assert stage.status("job").note == "next run 2027-03-01 12:04 UTC"


def test_skip_leaves_alone_only_the_slots_that_run() -> None:
    stage = until(
        at("2027-03-01 12:00", job=scheduled(MINUTELY, numprocesses=3)), "2027-03-01 12:01"
    )
    stage.exit("job.1").exit("job.3")
    until(stage, "2027-03-01 12:02")
    assert stage.spawned() == ["job.1", "job.2", "job.3", "job.1", "job.3"]
    assert told(stage, "job.skipped") == [
        "job: 2027-03-01 12:02 UTC was skipped in slot 2: the former run had not ended"
    ]
    stage.exit("job.2")
    assert stage.spawned("job.2") == ["job.2"]


def test_however_many_instants_come_one_run_is_queued() -> None:
    stage = at("2027-03-01 12:00", job=scheduled(MINUTELY, overlap="queue", numprocesses=2))
    until(stage, "2027-03-01 12:01").exit("job.2")
    for minute in (2, 3, 4):
        until(stage, f"2027-03-01 12:0{minute}").exit("job.2")
    stage.exit("job.1").exit("job.1")
    assert instants(stage, 1) == ["03-01 12:01", "03-01 12:04"]
    assert instants(stage, 2) == ["03-01 12:01", "03-01 12:02", "03-01 12:03", "03-01 12:04"]


def test_replace_stops_what_runs_and_waits_for_its_end() -> None:
    stage = at("2027-03-01 12:00", job=scheduled(MINUTELY, overlap="replace"))
    stage.stubborn = frozenset({"job.1"})
    until(stage, "2027-03-01 12:02:05")
    assert [(round(when), signal) for when, _, signal in stage.signals()] == [(120, "TERM")]
    until(stage, "2027-03-01 12:02:30")
    assert starts(stage) == ["03-01 12:01", "03-01 12:02:10"]  # SIGKILL at stop.timeout


# ---- a clock that is set ---------------------------------------------------------------------------


@pytest.mark.parametrize(("catch_up", "caught"), [("skip", []), ("once", ["03-06 02:00"])])
def test_a_clock_set_forward_fires_at_most_one_of_what_it_leapt_over(
    catch_up: str, caught: list[str]
) -> None:
    stage = at("2027-03-01 12:00", job=scheduled(replace(BERLIN, catch_up=catch_up)))  # type: ignore[arg-type]
    until(stage, "2027-03-02 12:00", lasts=60)
    stage.set_clock(ns("2027-03-06 12:00"))
    until(stage, "2027-03-07 12:00", lasts=60)
    assert instants(stage) == ["03-02 02:00", *caught, "03-07 02:00"]
    missed = ["job: 2027-03-06 03:00 CET was missed (catch_up: skip)"]
    assert told(stage, "job.missed") == ([] if caught else missed)
    if caught:
        assert "scheduled for 2027-03-06 03:00 CET, 10h late" in told(stage, "job.fired")[1]
    assert told(stage, "clock.set")[0].startswith("the wall clock went forward by 4d")


def test_a_clock_that_is_put_right_by_some_seconds_misses_nothing() -> None:
    stage = until(at("2027-03-01 12:00", job=scheduled()), "2027-03-02 01:59:50")
    stage.set_clock(ns("2027-03-02 02:00:40"))
    assert instants(stage) == ["03-02 02:00"]


def test_a_clock_set_back_fires_no_instant_twice_and_forgets_none() -> None:
    stage = until(at("2027-03-01 12:00", job=scheduled(MINUTELY)), "2027-03-01 12:05:30", lasts=5)
    stage.set_clock(ns("2027-03-01 12:02:30"))
    until(stage, "2027-03-01 12:07:30", lasts=5)
    assert instants(stage) == [f"03-01 12:0{minute}" for minute in range(1, 8)]
    stage.set_clock(ns("2027-03-01 11:58:30"))  # what was before all this was never fired
    until(stage, "2027-03-01 12:08:30", lasts=5)
    assert instants(stage)[7:] == ["03-01 11:59", "03-01 12:00", "03-01 12:08"]


def test_a_clock_that_leapt_there_and_back_fires_what_lies_between() -> None:
    stage = until(at("2027-03-01 12:00", job=scheduled(MINUTELY)), "2027-03-01 12:01:30", lasts=5)
    stage.set_clock(ns("2027-03-01 12:30:30"))
    until(stage, "2027-03-01 12:30:40", lasts=5)
    stage.set_clock(ns("2027-03-01 12:10:30"))
    until(stage, "2027-03-01 12:12:30", lasts=5)
    assert instants(stage) == ["03-01 12:01", "03-01 12:30", "03-01 12:11", "03-01 12:12"]


def test_a_clock_that_was_wrong_by_years_does_not_keep_a_job_from_being_fired() -> None:
    stage = at("2036-01-01 12:00", job=scheduled(replace(BERLIN, catch_up="once")))
    until(stage, "2036-01-02 12:00", lasts=60)
    stage.set_clock(ns("2027-03-01 12:00"))
    until(stage, "2027-03-03 12:00", lasts=60)
    stage.set_clock(ns("2036-01-02 12:00"))  # and once more
    until(stage, "2036-01-03 12:00", lasts=60)
    assert instants(stage) == ["01-02 02:00", "03-02 02:00", "03-03 02:00", "01-03 02:00"]


def test_a_clock_that_begins_in_1970_fires_what_it_missed_once() -> None:
    stage = at("2027-03-01 12:00", job=scheduled(replace(BERLIN, catch_up="once")))
    until(stage, "2027-03-02 12:00", lasts=60)
    known = stage.reconciler.observed("job").job
    stage.set_clock(ns("1970-01-01 00:00"))
    stage.new_controller(stage.reconciler.spec, [JobChanged("job", known)]).wait(300)
    stage.set_clock(ns("2027-03-02 12:10"))  # its last instant was fired before the clock was lost
    until(stage, "2027-03-02 13:00", lasts=60)
    assert instants(stage) == ["03-02 02:00"]
    stage.set_clock(ns("2027-03-05 12:00"))
    assert instants(stage) == ["03-02 02:00", "03-05 02:00"]


def test_what_was_fired_is_remembered_within_bounds() -> None:
    stage = at("2027-03-01 12:00:30", job=scheduled(MINUTELY))
    for _ in range(2 * MAX_FIRED):
        stage.set_clock(stage.now + stage.wall_ns + 10 * MINUTE_NS).exit("job.1")
    assert len(stage.timetables["job"].fired) == MAX_FIRED
    stage.wait(60).exit("job.1").wait(60)
    first, last = stage.timetables["job"].fired[-1]
    assert last - first == 2 * MINUTE_NS


# ---- a manager that was not there ------------------------------------------------------------------


def gone(stage: Stage, text: str) -> Stage:
    """Let the manager be away until a time of the wall."""
    known = stage.reconciler.observed("job").job
    stored = replace(known, timetable=stage.timetables["job"])
    wanted = stage.reconciler.spec
    stage.now = ns(text) - stage.wall_ns
    return stage.new_controller(wanted, [JobChanged("job", stored)])


@pytest.mark.parametrize(
    ("catch_up", "back", "caught"),
    [
        ("skip", "2027-03-05 12:00", []),
        ("once", "2027-03-05 12:00", ["03-05 02:00"]),
        ("skip", "2027-03-02 02:00:59", ["03-02 02:00"]),  # it was replaced meanwhile
        ("skip", "2027-03-02 02:01:01", []),
        ("once", "2027-03-02 01:59", []),
    ],
)
def test_what_came_while_the_manager_was_away(catch_up: str, back: str, caught: list[str]) -> None:
    stage = at("2027-03-01 12:00", job=scheduled(replace(BERLIN, catch_up=catch_up)))  # type: ignore[arg-type]
    gone(until(stage, "2027-03-01 13:00"), back)
    assert instants(stage) == caught
    assert len(told(stage, "job.missed")) == (not caught and catch_up == "skip")
    gone(stage, back)  # and says so once
    assert len(told(stage, "job.missed")) == (not caught and catch_up == "skip")
    until(stage, "2027-03-06 12:00", lasts=60)
    assert instants(stage)[-1:] == ["03-06 02:00"]


def test_a_missed_instant_shows_until_the_next_run() -> None:
    stage = gone(
        until(at("2027-03-01 12:00", job=scheduled()), "2027-03-01 13:00"), "2027-03-05 12:00"
    )
    missed = "2027-03-05 03:00 CET was missed (catch_up: skip)"
    assert stage.status("job").note == f"next run 2027-03-06 03:00 CET; {missed}"
    assert stage.timetables["job"].passed == Passed(
        Instant(ns("2027-03-05 02:00"), "2027-03-05 03:00 CET"), "missed"
    )


def test_what_was_applied_after_an_instant_has_not_missed_it() -> None:
    once = replace(BERLIN, catch_up="once")
    stage = at("2027-03-02 02:00:30", job=scheduled(once))
    assert instants(gone(stage, "2027-03-02 02:00:45")) == []
    assert instants(gone(stage, "2027-03-02 12:00")) == []


def test_a_controller_that_dies_around_an_instant_fires_it_once() -> None:
    begin = until(at("2027-03-01 12:00", job=scheduled()), "2027-03-02 01:59:59").now + 1 * S
    for count in range(4):
        stage = until(at("2027-03-01 12:00", job=scheduled()), "2027-03-02 01:59:59")
        stage.now = begin
        stage.last_words(count=count)
        known = stage.reconciler.observed("job").job
        newest = max((each for each in stage.generations.get("job", ())), default=0)
        written = replace(
            known,
            timetable=stage.timetables["job"],
            generation=known.generation if newest else None,
            runs={each.run.slot: each.run for each in stage.runs},
        )
        stage.new_controller(stage.reconciler.spec, [JobChanged("job", written)]).wait(30)
        assert stage.spawned() == ["job.1"], count
        assert instants(stage) == ["03-02 02:00"]


def test_an_instant_that_comes_at_the_end_is_left_to_the_next_manager() -> None:
    stage = until(
        at("2027-03-01 12:00", job=scheduled(MINUTELY), web=watcher()), "2027-03-01 12:00:55"
    )
    stage.stubborn = frozenset({"web.1"})
    stage.tell(ShutdownAsked()).wait(20)
    assert instants(stage) == []
    assert stage.timetables["job"].since_ns == ns("2027-03-01 12:00")
    assert instants(gone(stage, "2027-03-01 12:01:30")) == ["03-01 12:01"]


# ---- operators -------------------------------------------------------------------------------------


def order(stage: Stage, what: str, **how: object) -> orders.Decision:
    """Give an order as the controller does, and let happen what happens at once."""
    it = replace(stage.reconciler.subject("job", stage.now, stage.wall_ns), by=ALICE)
    decision: orders.Decision = getattr(orders, what)(it, **how)
    if decision.intent is not None:
        stage.tell(IntentChanged("job", decision.intent))
    if decision.generation is not None:
        known = stage.reconciler.observed("job").job
        stage.tell(JobChanged("job", replace(known, generation=decision.generation)))
    return decision


def test_a_rerun_fires_at_once_and_leaves_the_schedule_as_it_is() -> None:
    stage = at("2027-03-01 12:00", job=scheduled())
    assert order(stage, "rerun").message == "fires slot 1"
    before = stage.timetables["job"]
    until(stage, "2027-03-03 12:00", lasts=60)
    assert starts(stage) == ["03-01 12:00", "03-02 02:00", "03-03 02:00"]
    assert (before.since_ns, before.fired) == (ns("2027-03-01 12:00"), ())
    assert [each.run.trigger for each in stage.runs if each.run.outcome is None] == [
        "operator", "schedule", "schedule",
    ]  # fmt: skip


@pytest.mark.parametrize("overlap", ["skip", "queue", "replace"])
def test_a_rerun_does_not_take_the_place_of_what_is_queued(overlap: str) -> None:
    stage = at("2027-03-01 12:00", job=scheduled(MINUTELY, overlap="queue"))
    until(stage, "2027-03-01 12:02:30")
    order(stage, "rerun", overlap=overlap)
    stage.exit("job.1") if overlap != "replace" else stage.wait(0)
    assert starts(stage) == ["03-01 12:01", "03-01 12:02:30"]
    stage.exit("job.1").wait(10)
    assert len(stage.spawned()) == 2


def test_what_an_operator_wants_while_an_instant_comes_is_done_too() -> None:
    task = scheduled(MINUTELY, numprocesses=2)
    stage = until(at("2027-03-01 12:00", job=task), "2027-03-01 12:00:59")
    asked = stage.rerun(
        "job", (1,), who="alice"
    )  # it is on its way to the disk when the instant comes
    until(stage, "2027-03-01 12:01").exit("job.1").exit("job.2")
    known = stage.reconciler.observed("job").job
    stage.tell(JobChanged("job", replace(known, generation=asked.generation)))
    assert stage.generations["job"] == [1, 2]
    assert stage.spawned() == ["job.1", "job.2", "job.1"]
    assert [each.run.trigger for each in stage.runs if each.run.outcome is None] == [
        "schedule", "schedule", "operator",
    ]  # fmt: skip


def test_stop_holds_the_schedule_and_start_lets_it_go_on() -> None:
    stage = at("2027-03-01 12:00", job=scheduled(replace(BERLIN, catch_up="once")))
    order(stage, "stop")
    assert (stage.status("job").state, stage.status("job").next_runs) == ("Held", ())
    until(stage, "2027-03-03 12:00")
    assert (
        order(stage, "start").message
        == "is no longer stopped; waits for its schedule; `reconcile rerun job` runs it now"
    )
    assert stage.status("job").note == "next run 2027-03-04 03:00 CET"
    until(stage, "2027-03-04 12:00", lasts=60)
    assert instants(stage) == ["03-04 02:00"]  # what came meanwhile is nothing to catch up with


@pytest.mark.parametrize(
    ("intent", "said"),
    [
        (HELD, "follows its spec again: waits for its schedule"),
        (scaled(NO_INTENT, ALICE, 0), "follows its spec again: waits for its schedule"),
    ],
)
def test_resume_lets_the_schedule_go_on(intent: object, said: str) -> None:
    stage = at("2027-03-01 12:00", job=scheduled(replace(BERLIN, catch_up="once")))
    stage.tell(IntentChanged("job", intent))  # type: ignore[arg-type]
    until(stage, "2027-03-03 12:00")
    assert stage.spawned() == []
    assert order(stage, "resume").message == said
    assert instants(until(stage, "2027-03-04 12:00", lasts=60)) == ["03-04 02:00"]


def test_a_manager_that_starts_after_a_stop_was_taken_back_catches_up_with_nothing() -> None:
    stage = at("2027-03-01 12:00", job=scheduled(replace(BERLIN, catch_up="once")))
    stage.tell(IntentChanged("job", HELD))
    gone(stage, "2027-03-05 12:00").tell(IntentChanged("job", resumed(HELD)))
    assert instants(stage.wait(60)) == []


def test_start_by_name_fires_a_job_that_is_not_stopped() -> None:
    stage = at("2027-03-01 12:00", job=scheduled())
    assert order(stage, "start").fired == (1,)
    assert order(stage, "start").message == "runs already"


def test_autostart_false_suspends_the_schedule() -> None:
    stage = at("2027-03-01 12:00", job=scheduled(autostart=False))
    until(stage, "2027-03-03 12:00")
    assert stage.spawned() == []
    shown = stage.status("job")
    assert (shown.state, shown.next_runs) == ("Stopped", ())
    assert shown.note == "autostart is false; `reconcile rerun job` runs it"


def test_a_job_of_a_damaged_ledger_is_fired_again_when_somebody_has_rerun_it() -> None:
    stage = at("2027-03-01 12:00", job=scheduled())
    stage.tell(JobChanged("job", Job(known=False)))
    until(stage, "2027-03-02 12:00", lasts=60)
    assert (stage.spawned(), stage.status("job").state) == ([], "Unknown")
    asked = stage.rerun("job", None)
    known = stage.reconciler.observed("job").job
    stage.tell(JobChanged("job", replace(known, generation=asked.generation, known=True)))
    until(stage, "2027-03-03 12:00", lasts=60)
    assert starts(stage) == ["03-02 12:00", "03-03 02:00"]


# ---- edits -----------------------------------------------------------------------------------------


def test_an_edit_of_its_times_begins_with_the_next_of_them() -> None:
    once = replace(BERLIN, catch_up="once")
    stage = until(at("2027-03-01 12:00", job=scheduled(once)), "2027-03-02 12:00", lasts=60)
    stage.apply(spec(job=scheduled(replace(once, cron="0 10 * * *"))))
    until(stage, "2027-03-02 13:00", lasts=60)
    stage.apply(spec(job=scheduled(once)))
    until(stage, "2027-03-03 12:00", lasts=60)
    assert instants(stage) == ["03-02 02:00", "03-03 02:00"]


def test_an_edit_of_its_times_fires_no_instant_twice() -> None:
    stage = until(at("2027-03-01 12:00", job=scheduled(MINUTELY)), "2027-03-01 12:02:20", lasts=5)
    stage.apply(spec(job=scheduled(ScheduleSpec(every=2 * MINUTE_NS))))
    stage.set_clock(ns("2027-03-01 12:01:50"))
    until(stage, "2027-03-01 12:04:30", lasts=5)
    assert instants(stage) == ["03-01 12:01", "03-01 12:02", "03-01 12:04"]


def test_other_edits_leave_the_schedule_as_it_is() -> None:
    once = replace(BERLIN, catch_up="once", jitter=MINUTE_NS)
    stage = at("2027-03-01 12:00", job=scheduled())
    until(stage, "2027-03-01 20:00").apply(
        spec(job=scheduled(once, cmd=("new",), labels={"a": "b"}))
    )
    assert stage.timetables["job"].since_ns == ns("2027-03-01 12:00")


def test_a_job_that_was_removed_and_comes_back_catches_up_with_nothing() -> None:
    once = spec(job=scheduled(replace(BERLIN, catch_up="once")), web=watcher())
    stage = at("2027-03-01 12:00", **once.watchers)
    until(stage, "2027-03-01 13:00").apply(spec(web=watcher()))
    assert stage.timetables["job"].since_ns is None
    until(stage, "2027-03-04 12:00").apply(once)
    until(stage, "2027-03-05 12:00", lasts=60)
    assert [each for each in instants(stage) if each] == ["03-05 02:00"]


def test_a_controller_that_finds_a_removed_job_in_force_makes_good_for_the_one_before() -> None:
    stage = at("2027-03-01 12:00", web=watcher())
    table = Timetable(BERLIN.timing, ns("2027-02-01 00:00"))
    stage.new_controller(spec(web=watcher()), [JobChanged("job", Job(timetable=table))])
    assert stage.timetables["job"] == replace(table, since_ns=None)


def test_an_answer_about_times_that_were_edited_meanwhile_is_not_taken() -> None:
    stage = at("2027-03-01 12:00", job=scheduled(MINUTELY))
    stage.apply(spec(job=scheduled(BERLIN)))
    late = InstantsFound("job", MINUTELY.timing, 0, (Instant(ns("2027-03-01 12:00"), "x"),))
    stage.tell(late)
    until(stage, "2027-03-01 13:00")
    assert stage.spawned() == []
    assert stage.status("job").note == "next run 2027-03-02 03:00 CET"


# ---- the rest --------------------------------------------------------------------------------------


def test_a_schedule_that_cannot_be_worked_out_says_so_and_is_tried_again() -> None:
    stage = Stage()
    stage.wall_ns, stage.blind = ns("2027-03-01 12:00"), "there is no time zone Europe/Berlin"
    stage.apply(spec(job=scheduled()))
    shown = stage.status("job")
    assert (shown.state, shown.as_desired) == ("Waiting", False)
    assert shown.note == "cannot work out its next run: there is no time zone Europe/Berlin"
    stage.blind = ""
    stage.wait(59)
    assert stage.status("job").state == "Waiting"
    assert stage.wait(1).status("job").note == "next run 2027-03-02 03:00 CET"


def test_jitter_is_the_same_for_an_instant_and_spreads_jobs() -> None:
    schedule = ScheduleSpec(cron="@hourly", jitter=30 * MINUTE_NS)
    tasks = {f"job{number}": scheduled(schedule) for number in range(20)}
    stage = at("2027-03-01 11:30", **tasks)
    until(stage, "2027-03-01 12:59", lasts=5)
    begun = starts(stage)
    assert len(begun) == 20
    assert len({*begun}) > 15
    assert all("03-01 12:00" <= each < "03-01 12:30" for each in begun)
    again = until(at("2027-03-01 11:45", **tasks), "2027-03-01 12:59", lasts=5)
    assert starts(again) == begun


def test_what_is_late_because_of_its_jitter_is_not_missed() -> None:
    stage = at(
        "2027-03-01 11:30", job=scheduled(ScheduleSpec(cron="@hourly", jitter=50 * MINUTE_NS))
    )
    until(stage, "2027-03-01 12:59", lasts=5)
    assert (instants(stage), told(stage, "job.missed")) == (["03-01 12:00"], [])


def test_secrets_that_cannot_be_read_make_no_instant_missed() -> None:
    stage = at("2027-03-01 12:00", job=scheduled(secrets={"KEY": SecretSpec(file="/key")}))
    until(stage, "2027-03-02 03:00")
    assert stage.spawned() == []
    assert stage.status("job").state == "Waiting"
    stage.vault["job"] = "abc"
    stage.wait(30)
    assert (stage.spawned(), instants(stage)) == (["job.1"], ["03-02 02:00"])


def test_a_job_that_waits_for_its_schedule_proves_nothing_and_keeps_nobody_waiting() -> None:
    stage = at("2027-03-01 12:00", web=watcher())
    stage.try_out(spec(web=watcher(), job=scheduled()))
    assert stage.wait(1).outcome == "good"
    stage.try_out(spec(web=watcher(cmd=("new",)), job=scheduled(cmd=("new",))))
    stage.wait(11)
    assert stage.outcome == "good"


def test_a_run_that_is_queued_is_nothing_that_an_edit_brings_about() -> None:
    task = scheduled(MINUTELY, overlap="queue")
    stage = until(at("2027-03-01 12:00", web=watcher(), job=task), "2027-03-01 12:02:30")
    core, wanted = stage.reconciler, spec(web=watcher(), job=replace(task, labels={"a": "b"}))
    (change,) = changes(core.spec, wanted, core.observed, core.facts)
    assert (change.how, change.slots) == ("none", ())
    stage.try_out(wanted)
    assert stage.outcome == "good"


def test_a_run_that_had_to_prove_something_has_not_when_it_gets_a_schedule() -> None:
    stage = at("2027-03-01 12:00", web=watcher())
    stage.try_out(spec(web=watcher(), job=job()))
    assert stage.wait(5).outcome == "pending"
    stage.try_out(spec(web=watcher(), job=scheduled()))
    assert stage.wait(11).outcome == "good"


def test_one_that_is_fired_at_the_start_proves_itself_by_that() -> None:
    stage = at("2027-03-01 12:00", web=watcher())
    stage.try_out(spec(web=watcher(), job=scheduled(replace(BERLIN, run_at_start=True))))
    assert stage.wait(1).outcome == "pending"
    assert stage.exit("job.1").outcome == "good"


def test_instants_are_asked_for_in_lots_and_nothing_is_asked_in_between() -> None:
    stage = at("2027-03-01 12:00", job=scheduled(MINUTELY))
    until(stage, "2027-03-01 12:30:30", lasts=5)
    asked = [action for _, action in stage.history if isinstance(action, FindInstants)]
    written = [action for _, action in stage.history if isinstance(action, RecordTimetable)]
    assert (len(asked), len(written)) == (6, 1)
    assert len(stage.spawned()) == 30
    assert stage.last.wake_at_ns == 31 * MINUTE_NS


def test_what_was_written_by_a_version_without_schedules_is_read() -> None:
    stage = Stage()
    stage.wall_ns = ns("2027-03-01 12:00")
    former = Job(Generation(3, "other", "first", "boot-1", "keeper-1"))
    stage.new_controller(spec(job=scheduled()), [JobChanged("job", former)])
    until(stage, "2027-03-02 12:00", lasts=60)
    assert (instants(stage), stage.generations["job"]) == (["03-02 02:00"], [4])


def test_numbers_that_the_docs_name() -> None:
    assert (LATE_NS, MAX_FIRED) == (MINUTE_NS, 16)
