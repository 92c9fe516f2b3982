"""The schedule of a job: which of its instants has come, and whether the job is fired for it.

The instants are worked out elsewhere and become known as facts; so does what is to be added to monotonic time. What is
written down (`Timetable`) says how far the schedule has come, so that none is fired twice and none is forgotten,
whatever happens to the manager, the machine and its clock:

    come        its time is there: the job is fired, with what `overlap` says of slots that still run
    missed      its time is over by more than a minute: `catch_up` decides about the newest one
    passed over what came before the newest that has come: at most one is fired at a time
    fired       for good, also when the clock comes by it once more

While nothing can be fired (stopped by an operator, no slots, `autostart: false`) the schedule is not in force, and
begins with the next instant when it is again. An edit of its times has it begin anew, too.
"""

from __future__ import annotations

from typing import Final

from reconciler.core import events, generations
from reconciler.core.backoff import share
from reconciler.core.plan import Plan
from reconciler.core.slots import SlotCondition, is_gone
from reconciler.model.action import FindInstants, RecordGeneration, RecordTimetable
from reconciler.model.job import Instant, Passed, Timetable
from reconciler.model.observation import FOUND, InstantsFound
from reconciler.model.observed import InstantsObserved
from reconciler.model.spec import ScheduleSpec, WatcherSpec
from reconciler.model.units import MINUTE_NS
from reconciler.model.value import replace

LATE_NS: Final = MINUTE_NS
"""Later than that an instant was missed; before, a controller was replaced, or a clock put right."""
RETRY_NS: Final = MINUTE_NS
"""When instants that could not be worked out are asked for again."""
NEXT_RUNS: Final = 5
MAX_FIRED: Final = 16
"""Stretches of time in which all instants were fired, which are remembered, should the clock be set back."""


def is_in_force(plan: Plan) -> bool:
    """Tell whether the clock fires this job."""
    return plan.spec.schedule is not None and plan.spec.is_job and can_fire(plan)


def can_fire(plan: Plan) -> bool:
    """Tell whether anything but an operator may fire this job."""
    return plan.want > 0 and plan.spec.autostart and plan.observed.job.known


def fire_if_due(plan: Plan, base_hash: str) -> bool:
    """Do what the schedule of a job asks for now; True when that was to fire it."""
    schedule, offset_ns = plan.spec.schedule, plan.world.wall_offset_ns
    if plan.world.shutting_down:
        return False  # what comes meanwhile the next manager finds
    table = plan.observed.job.timetable
    if schedule is None or not is_in_force(plan):
        if table is not None and table.since_ns is not None:
            plan.act(RecordTimetable(plan.name, replace(table, since_ns=None)))
        return False
    if offset_ns is None:
        is_begun = table is not None and table.timing == schedule.timing
        _ask(plan, table.since_ns if table is not None and is_begun else None)
        return False
    wall_ns = plan.now_ns + offset_ns
    table = _begun(plan, schedule, table, wall_ns)
    instant = None if table is None else _come(plan, schedule, table, wall_ns)
    if table is None or instant is None:
        return False
    return _take(plan, schedule, table, instant, base_hash)


def _begun(
    plan: Plan, schedule: ScheduleSpec, table: Timetable | None, wall_ns: int
) -> Timetable | None:
    """Return how far the schedule has come; None when it begins just now, which is written down."""
    timing = schedule.timing
    if table is None or table.timing != timing:
        # What was fired under other times may be an instant of these, too, should the clock be set back.
        fired = () if table is None else table.fired
        plan.act(RecordTimetable(plan.name, Timetable(timing, wall_ns, fired)))
    elif table.since_ns is None or wall_ns < table.since_ns:  # the clock was set back
        plan.act(RecordTimetable(plan.name, replace(table, since_ns=wall_ns)))
    else:
        return table
    return None


def _ask(plan: Plan, after_ns: int | None) -> None:
    known, asked = plan.observed.instants, FindInstants(plan.name, after_ns)
    if known.asked or asked in plan.actions:
        return
    if not known.trouble or plan.is_due(known.at_ns + RETRY_NS):
        plan.act(asked)


def _come(plan: Plan, schedule: ScheduleSpec, table: Timetable, wall_ns: int) -> Instant | None:
    """Return the newest instant that has come and is not dealt with; the plan is made again when the next one comes."""
    known, since_ns = plan.observed.instants, table.since_ns or 0
    left, is_all = sum(each.at_ns > wall_ns for each in known.times), len(known.times) < FOUND
    is_known = known.timing == schedule.timing and known.after_ns <= since_ns and not known.trouble
    # Those that were left out had come, but may come again when the clock is set back.
    is_known = is_known and not (known.left_out and known.times[0].at_ns > wall_ns)
    if not is_known or not (is_all or left >= NEXT_RUNS):
        _ask(plan, since_ns)
    if not is_known or not (is_all or left):
        return None  # there may be newer ones that have come
    open_ = [
        each
        for each in known.times
        if each.at_ns > since_ns
        and not any(first <= each.at_ns <= last for first, last in table.fired)
    ]
    dues_ns = [each.at_ns + _jitter_ns(plan.name, schedule, each) for each in open_]
    to_come = [due_ns for due_ns in dues_ns if due_ns > wall_ns]
    if to_come:
        plan.wake(min(to_come) - wall_ns + plan.now_ns)
    come = [each for each, due_ns in zip(open_, dues_ns, strict=True) if due_ns <= wall_ns]
    return come[-1] if come else None


def _jitter_ns(name: str, schedule: ScheduleSpec, instant: Instant) -> int:
    """Return how much later a job is fired than its instant says: always as much for the same instant."""
    if not schedule.jitter:
        return 0
    return schedule.jitter * share(f"{name}/{instant.at_ns}") // 1000


def _take(
    plan: Plan, schedule: ScheduleSpec, table: Timetable, instant: Instant, base_hash: str
) -> bool:
    """Fire the job for an instant that has come, or pass that over; True when it is fired."""
    job, overlap = plan.observed.job, plan.spec.overlap
    assert plan.world.wall_offset_ns is not None
    wall_ns = plan.now_ns + plan.world.wall_offset_ns
    late_ns = wall_ns - instant.at_ns - _jitter_ns(plan.name, schedule, instant)
    if late_ns > LATE_NS and schedule.catch_up == "skip":
        return _pass_over(plan, table, Passed(instant, "missed"))
    slots = range(1, plan.want + 1)
    waiting = {*generations.to_fire(plan.spec, job, plan.want)}
    busy = [slot for slot in slots if slot in waiting or _runs(plan, slot)]
    if overlap == "skip" and len(busy) == plan.want:
        return _pass_over(plan, table, Passed(instant, "overlap"))
    if overlap == "skip" and busy:
        plan.events.append(events.of_skipped_slots(plan.name, instant, busy))
    # Those that wait for their run of an earlier generation do not miss it.
    fired = [slot for slot in slots if overlap != "skip" or slot in waiting or slot not in busy]
    generation = generations.next_generation(
        job,
        base_hash,
        "schedule",
        plan.world.facts,
        tuple(fired),
        replaces=overlap == "replace",
        instant=instant,
    )
    timetable = Timetable(
        table.timing, instant.at_ns, _with(table, instant, plan.observed.instants)
    )
    plan.act(RecordGeneration(plan.name, generation, timetable))
    return True


def _runs(plan: Plan, slot: int) -> bool:
    record, observed = plan.slots.main(slot), plan.observed
    return slot in observed.open_runs or (record is not None and not is_gone(record))


def _pass_over(plan: Plan, table: Timetable, passed: Passed) -> bool:
    instant = passed.instant
    plan.act(RecordTimetable(plan.name, replace(table, since_ns=instant.at_ns, passed=passed)))
    plan.events.append(events.of_passed(plan.name, passed))
    return False


def _with(
    table: Timetable, instant: Instant, known: InstantsObserved
) -> tuple[tuple[int, int], ...]:
    """Return from which instant to which all were fired, with one more: it joins the stretch that ends before it."""
    before = [each.at_ns for each in known.times if each.at_ns < instant.at_ns]
    before += [] if before or known.left_out else [known.after_ns]
    joined = next((each for each in table.fired if before and each[1] == before[-1]), None)
    others = [each for each in table.fired if each is not joined]
    first_ns = joined[0] if joined is not None else instant.at_ns
    return (*others, (first_ns, instant.at_ns))[-MAX_FIRED:]


# ---- what is known, and shown ---------------------------------------------------------------------


def found(spec: WatcherSpec | None, answer: InstantsFound, now_ns: int) -> InstantsObserved | None:
    """Return what is known by an answer; None when it is about another schedule than that of the spec."""
    if spec is None or spec.schedule is None or spec.schedule.timing != answer.timing:
        return None
    return InstantsObserved(
        answer.timing, answer.after_ns, answer.times, answer.left_out, answer.trouble, now_ns
    )


def next_runs(plan: Plan, wall_offset_ns: int) -> tuple[Instant, ...]:
    """Return the next instants, none when the schedule is not in force."""
    schedule, known = plan.spec.schedule, plan.observed.instants
    if schedule is None or not is_in_force(plan) or known.timing != schedule.timing:
        return ()
    wall_ns = plan.now_ns + wall_offset_ns
    return tuple(each for each in known.times if each.at_ns > wall_ns)[:NEXT_RUNS]


def trouble(plan: Plan) -> SlotCondition | None:
    """Return what is wrong with a schedule that is in force, None when nothing is."""
    known = plan.observed.instants
    if not is_in_force(plan) or not known.trouble:
        return None
    return SlotCondition("Waiting", f"cannot work out its next run: {known.trouble}", known.at_ns)


def note(plan: Plan, runs: tuple[Instant, ...]) -> str:
    """Return when a job is fired next, and which instant was passed over since the last run."""
    table = plan.observed.job.timetable
    passed = None if table is None else table.passed
    parts = [f"next run {runs[0].shown}"] if runs else []
    if passed is not None:
        parts.append(events.passed_text(passed))
    return "; ".join(parts)
