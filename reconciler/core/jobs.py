"""One-shot jobs: each slot is fired once in a generation, and never again by itself.

The run is on the disk before the process is, so a crash can lose a run but never repeat it. A run that is
written down and has no process was never started when the same keeper is still there, for it forgets nothing;
under another keeper it is lost.
"""

from __future__ import annotations

from reconciler.core import (
    conditions,
    desired,
    ends,
    gates,
    generations,
    running,
    starting,
    stopping,
    timetable,
)
from reconciler.core.backoff import ended_by_operator, failures_after
from reconciler.core.hooks import drive, held_by, hook_of, keep, said
from reconciler.core.plan import Plan
from reconciler.core.rollout import EDITS_APART_NS
from reconciler.core.slots import BEING_STARTED, SlotCondition, is_gone
from reconciler.core.template import same_template
from reconciler.model.action import RecordGeneration, RecordRun, Remember
from reconciler.model.job import Outcome, Run, Trigger
from reconciler.model.process import Exit, Exited, Memory, ProcessRecord, Running
from reconciler.model.spec import WatcherSpec
from reconciler.model.units import format_duration
from reconciler.model.value import replace


def plan_job(plan: Plan, base_hash: str) -> None:
    """Take the next step with a one-shot job."""
    if _begin_generation(plan, base_hash) or timetable.fire_if_due(plan, base_hash):
        return
    plan.whole, count = timetable.trouble(plan), desired.count(plan.spec, plan.observed.intent)
    for slot in plan.take_steps(_slots(plan)):
        is_due = _keep_slot(plan, slot)
        found = _condition(plan, slot, is_due=is_due)
        plan.conditions[slot] = replace(found, surplus=True) if slot > count else found
        if not is_due:
            ends.see_run(plan, slot)
    if not plan.unreached:
        _complete(plan)


def _slots(plan: Plan) -> list[int]:
    """Return the slots to look at: those to run, those that have run, those that a process or an open run has."""
    spec, observed, slots = plan.spec, plan.observed, plan.slots
    wanted = slots.desired(plan.want)
    if not spec.autostart:
        wanted = generations.to_fire(spec, observed.job, plan.want, wanted)
    count = desired.count(spec, observed.intent)
    ran = slots.among(observed.job.runs)
    opened = slots.among(observed.open_runs)
    return sorted({*wanted, *slots.mains, *opened, *(slot for slot in ran if slot <= count)})


def _begin_generation(plan: Plan, base_hash: str) -> bool:
    """Write down a new generation when something calls for one, and what it is made of is known."""
    job, want, facts = plan.observed.job, plan.want, plan.world.facts
    trigger = generations.due_trigger(plan.name, plan.spec, plan.observed, base_hash, facts)
    wanted = plan.slots.desired(want)
    lost = generations.lost_slots(plan.spec, job, want, wanted)
    former = [s for s, record in plan.slots.mains.items() if _is_of_service(plan, record)]
    if job.generation is not None or not job.known:
        former = []
    if not want or not (trigger is not None or lost or former):
        return False
    held = gates.unread(plan) or _fired_a_moment_ago(plan, trigger)
    if held is not None:
        plan.conditions |= dict.fromkeys(lost if trigger is None else wanted, held)
        return False
    slots = None
    if trigger is None:
        lost = generations.lost_slots(plan.spec, job, want)
        slots = (*lost, *generations.to_fire(plan.spec, job, want), *former)
    trigger = trigger or ("lost" if lost or not former else "first")
    generation = generations.next_generation(job, base_hash, trigger, facts, slots)
    plan.act(RecordGeneration(plan.name, generation))
    return True


def _fired_a_moment_ago(plan: Plan, trigger: Trigger | None) -> SlotCondition | None:
    """Return what holds back a generation for edited files: a job that edits them itself must not go on for ever."""
    job, boot_id = plan.observed.job, plan.world.facts.boot_id
    fired = (run.fired_at_ns for run in job.runs.values() if run.boot_id == boot_id)
    due_ns = max(fired, default=0) + EDITS_APART_NS
    if trigger != "files_changed" or plan.is_due(due_ns):
        return None
    note = f"watched files changed; it is fired for that at most every {format_duration(EDITS_APART_NS)}"
    return SlotCondition("Waiting", note, 0, due_ns)


def _keep_slot(plan: Plan, slot: int) -> bool:
    """Take the next step with a slot; True when it is still to be fired."""
    job, record, want = plan.observed.job, plan.slots.mains.get(slot), plan.want
    if record is not None and _count_as_run(plan, slot, record):
        return False
    if record is not None:
        _see_to(plan, slot, record)
    if slot in plan.observed.open_runs:
        _close_orphaned_run(plan, slot)
    is_due = bool(generations.to_fire(plan.spec, job, want, (slot,)))
    is_due = is_due and not plan.world.shutting_down  # the next manager fires it
    if is_due:
        _fire(plan, slot)
        plan.awaited.add(slot)
    if slot in plan.observed.writing:  # should we die before its row is on the disk
        _keep_verdicts(plan, slot)
    if record is not None and not stopping.is_reaped(plan, record):
        plan.awaited.add(slot)
    if record is not None and running.counts_for_others(plan, record):
        plan.restless.add(slot)
    return is_due


def _condition(plan: Plan, slot: int, *, is_due: bool) -> SlotCondition:
    """Return what a slot does: what its gates and its process say, else what its run has come to."""
    job, record, held = plan.observed.job, plan.slots.mains.get(slot), plan.conditions.get(slot)
    run = job.runs.get(slot)
    if record is not None and not isinstance(record.phase, Exited):
        # One that is still to be fired in this generation runs in a former one.
        found = conditions.of_process(plan, record, "")
        return replace(found, runs=False) if is_due else found
    if record is not None and (run is None or run.outcome is None):
        is_wanted = slot <= plan.want
        return held or (BEING_STARTED if is_wanted else conditions.of_process(plan, record, ""))
    doubted = job.generation.doubted if job.generation is not None else ()
    if not job.known or (run is None and slot in doubted):
        why = "its run history was damaged; it may have run: use rerun if it must run"
        return SlotCondition("Unknown", why)
    if held is not None or is_due:
        return held or BEING_STARTED
    if run is None:
        return SlotCondition("Scheduled" if timetable.is_in_force(plan) else "Stopped")
    return _of_run(run)


def _of_run(run: Run) -> SlotCondition:
    if run.outcome is None:
        return BEING_STARTED
    if run.outcome == "succeeded":
        took = f" after {format_duration(run.duration_ns)}" if run.duration_ns is not None else ""
        return SlotCondition("Completed", f"{run.exit}{took}", began=True)
    # Where nobody saw how it ended, nobody can tell that it had not begun.
    began = run.duration_ns is not None or run.outcome == "lost"
    return SlotCondition("Failed", run.result, began=began)


# ---- a service that has become a job --------------------------------------------------------------


def _is_of_service(plan: Plan, record: ProcessRecord) -> bool:
    """Tell whether a process was started while the watcher was a service, and counts as a run.

    It runs, or has ended well: what failed is fired again, as it would have been started again.
    """
    if record.memory.generation or not record.incarnation:
        return False
    if record.memory.stopping_since_ns is not None or not isinstance(record.phase, Exited):
        return record.memory.stopping_since_ns is None
    return outcome_of(plan.spec, record, record.phase.exit) == "succeeded"


def _count_as_run(plan: Plan, slot: int, record: ProcessRecord) -> bool:
    """Let a process of the former service be a run of the generation; True when that was to be done.

    The row comes first, then the process is told of its generation, so a crash in between is no second run.
    """
    job = plan.observed.job
    run = job.runs.get(slot)
    if job.generation is None or slot in plan.observed.writing:
        return False
    same = same_template(record.template_hash, job.generation.run_hash)
    if not same or not _is_of_service(plan, record):
        return False
    if run is not None and run.outcome is None:
        memory = replace(record.memory, generation=run.generation)
        plan.act(Remember(record.id, record.incarnation, memory))
    elif generations.to_fire(plan.spec, job, plan.want, (slot,)):
        plan.act(RecordRun(plan.name, _row(plan, slot)))
    else:
        return False
    return True


# ---- a slot's process -----------------------------------------------------------------------------


def _see_to(plan: Plan, slot: int, record: ProcessRecord) -> None:
    """Take the next step with a slot that has a process, dead or alive."""
    if isinstance(record.phase, Exited):
        if stopping.reap(plan, record):
            _settle(plan, slot, record)
        return
    reason = _why_stop(plan, slot, record)
    running.go_on(plan, record, reason if plan.want or not plan.waits_to_stop else None)


def _why_stop(plan: Plan, slot: int, record: ProcessRecord) -> str | None:
    if not plan.want:
        return plan.why_not_wanted
    if slot > plan.want:
        return "surplus"
    generation = plan.observed.job.generation
    older = generation is not None and record.memory.generation < generation.number
    if older and generation is not None and generation.replace and slot in (generation.slots or ()):
        held = gates.before_spawn(plan, slot)
        if held is None:
            return "replaced"
        plan.coming[slot] = held  # it goes on until its successor could start
    timeout = plan.spec.timeout
    if timeout is not None and isinstance(record.phase, Running):
        if plan.is_due(record.phase.started_at_ns + timeout):
            return "timeout"
    return None


def _settle(plan: Plan, slot: int, record: ProcessRecord) -> None:
    """Write down how a run ended, unless the program never ran and may be tried again."""
    assert isinstance(record.phase, Exited)
    run = plan.observed.job.runs.get(slot)
    if run is None or run.generation != record.memory.generation or run.outcome is not None:
        return
    error = record.phase.exit.error
    stopped = record.memory.stopping_since_ns is not None
    if error is not None and not stopped and slot <= plan.want:
        failures = failures_after(plan.spec, record)
        if error.is_shortage or failures <= plan.spec.max_retry:
            held = gates.backoff(plan, record) or gates.after_hooks(plan, slot)
            if held is not None:
                plan.conditions[slot] = held
                return
            start = record.memory.start
            memory = Memory(attempt=failures, generation=run.generation, start=start)
            starting.spawn(plan, slot, record.template_hash, memory, record)
            return
    phase = record.phase
    lived = None if phase.started_at_ns is None else phase.at_ns - phase.started_at_ns
    outcome = outcome_of(plan.spec, record, phase.exit)
    if outcome == "failed" and ended_by_operator(record.memory, phase):
        outcome = "stopped"
    note = said(plan, "after_spawn", slot) if outcome == "vetoed" else run.note
    ended = replace(
        run, outcome=outcome, exit=phase.exit, duration_ns=lived, pid=phase.pid, note=note
    )
    plan.act(RecordRun(plan.name, ended))


def outcome_of(spec: WatcherSpec, record: ProcessRecord, exit: Exit) -> Outcome:
    """Return the outcome of a run by how its process ended and whether it was asked to."""
    memory = record.memory
    if memory.stop_reason == "vetoed":
        return "vetoed"
    if memory.stopping_since_ns is not None and not record.ended_before_stop:
        return "timeout" if memory.stop_reason == "timeout" else "stopped"
    if exit == Exit():
        return "lost"  # it ended while nobody was there who could be told how
    return "succeeded" if exit.code in spec.success_exit_codes else "failed"


# ---- firing ---------------------------------------------------------------------------------------


def _fire(plan: Plan, slot: int) -> None:
    """Bring a slot one step nearer to its run in the current generation, up to the row on the disk."""
    job = plan.observed.job
    generation, last, record = job.generation, job.runs.get(slot), plan.slots.main(slot)
    assert generation is not None
    busy = record is not None and not is_gone(record)
    if busy or slot in plan.observed.writing or (last is not None and last.outcome is None):
        return  # the older run ends first, never two generations in one slot
    if slot > plan.want:  # nothing of it is asked any more, neither hooks nor secrets
        _close(plan, _row(plan, slot), "stopped", "stopped before its process was started")
        return
    held = gates.before_spawn(plan, slot)
    if held is not None:
        _keep_verdicts(plan, slot)
        plan.conditions[slot] = held
        return
    for role, place in (("before_start", 0), ("before_spawn", slot)):
        if hook_of(plan, role) is None:
            continue
        if role == "before_start" and plan.observed.live:
            plan.stand_in("to be first", slot)  # should the others end before it is fired
            continue
        verdict = drive(plan, role, place, generation.number)
        if verdict.state == "vetoed":
            _close(plan, _row(plan, slot), "vetoed", verdict.message)
        if (held := held_by(plan, role, place, verdict)) is not None:
            plan.conditions[slot] = held
            _keep_verdicts(plan, slot)  # before_start may be asked anew while before_spawn runs
            return
    plan.act(RecordRun(plan.name, _row(plan, slot)))


def _keep_verdicts(plan: Plan, slot: int) -> None:
    """Let what the hooks before a run have said stand: whoever fires it does not ask them again."""
    generation = plan.observed.job.generation
    if generation is not None:
        keep(plan, "before_start", 0, generation.number)
        keep(plan, "before_spawn", slot, generation.number)


def _row(plan: Plan, slot: int) -> Run:
    generation, facts = plan.observed.job.generation, plan.world.facts
    assert generation is not None
    return Run(
        slot,
        generation.number,
        facts.keeper_id,
        facts.boot_id,
        plan.now_ns,
        trigger=generation.trigger,
        who=generation.who,
        instant_ns=None if generation.instant is None else generation.instant.at_ns,
    )


def _close_orphaned_run(plan: Plan, slot: int) -> None:
    """Start a run that lies on the disk and has no process yet, or say that it is lost."""
    job, facts, record = plan.observed.job, plan.world.facts, plan.slots.main(slot)
    run = job.runs[slot]
    has_process = record is not None and record.memory.generation == run.generation
    if slot in plan.observed.writing or has_process:
        return
    if run.keeper_id != facts.keeper_id:
        same_boot = run.boot_id == facts.boot_id
        what = "manager's keeper ended" if same_boot else "machine went down"
        _close(plan, run, "lost", f"the {what} while it ran")
    elif not job.known:
        # It may be an older row, of a run that has ended since.
        _close(plan, run, "lost", "its ledger was damaged before its end was known")
    elif slot > plan.want:
        _close(plan, run, "stopped", "stopped before its process was started")
    elif record is None or is_gone(record):
        held = gates.after_hooks(plan, slot)
        if held is not None:
            plan.conditions[slot] = held
            return
        assert job.generation is not None
        fresh = plan.spec.hooks.after_start is not None
        memory = Memory(generation=run.generation, start=run.fired_at_ns, fresh=fresh)
        starting.spawn(plan, slot, job.generation.run_hash, memory, record)


def _close(plan: Plan, run: Run, outcome: Outcome, note: str) -> None:
    plan.act(RecordRun(plan.name, replace(run, outcome=outcome, note=note)))


# ---- the end --------------------------------------------------------------------------------------


def _complete(plan: Plan) -> None:
    """Run the hooks of a job whose slots have all ended, then forget its processes."""
    job, want, observed = plan.observed.job, plan.want, plan.observed
    if want and not plan.world.stop_now:
        _after_start(plan)
    is_over = not (plan.awaited or plan.slots.awaited_elsewhere or plan.actions)
    if not is_over or observed.open_runs or observed.writing:
        return
    ends.see_job(plan)
    if plan.slots.any_main() is None:
        return
    number = job.generation.number if job.generation else 0
    outcome, exit_code = generations.result(job, want)
    reason = "completed" if want else plan.why_not_wanted
    details: dict[str, object] = {"reason": reason, "outcome": outcome, "exit_code": exit_code}
    if not plan.world.stop_now:
        for role in ("before_stop", "after_complete", "after_stop"):
            if drive(plan, role, 0, number, details).state == "pending":
                return
    plan.forget_all()


def _after_start(plan: Plan) -> None:
    """Run after_start once in a generation, when the processes of its slots run; a job ignores its veto."""
    job, mains = plan.observed.job, plan.slots.mains
    fresh = [r for r in mains.values() if r.memory.fresh and isinstance(r.phase, Running)]
    if any(not running.after_spawn_passed(plan, record) for record in fresh):
        return
    if fresh and job.generation is not None and not plan.observed.writing:
        if drive(plan, "after_start", 0, job.generation.number).state != "pending":
            running.mark_started(plan, fresh)
