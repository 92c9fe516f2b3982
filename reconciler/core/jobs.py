"""One-shot jobs: each slot is fired once in a generation, and never again by itself.

The run is on the disk before the process is, so a crash can lose a run but never repeat it. A run that is
written down and has no process was never started when the same keeper is still there, for it forgets nothing;
under another keeper it is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.core import gates, generations, running, secrets, starting, stopping
from reconciler.core.backoff import due_ns, ended_by_operator, failures_after
from reconciler.core.hooks import drive, hold, hook_of, keep, said
from reconciler.core.template import same_template
from reconciler.model.action import RecordGeneration, RecordRun, Remember
from reconciler.model.job import Run
from reconciler.model.process import Exit, Exited, Memory, ProcessRecord, Running
from reconciler.model.value import replace

if TYPE_CHECKING:
    from reconciler.core.plan import Draft
    from reconciler.model.job import Outcome
    from reconciler.model.spec import WatcherSpec


def plan_job(draft: Draft, want: int, base_hash: str) -> None:
    """Take the next step with a one-shot job."""
    job = draft.observed.job
    trigger = generations.due_trigger(draft.spec, draft.observed, base_hash, draft.world.facts)
    lost = generations.lost_slots(draft.spec, job, want)
    former = _of_service(draft) if job.generation is None and job.known else []
    if want and (trigger is not None or lost or former) and secrets.ready(draft):
        slots = (
            None
            if trigger is not None
            else (*lost, *generations.to_fire(draft.spec, job, want), *former)
        )
        facts = draft.world.facts
        generation = generations.next_generation(job, base_hash, trigger or "lost", facts, slots)
        draft.act(RecordGeneration(draft.name, generation))
        return
    if want and (trigger is not None or lost):
        for slot in lost if trigger is None else draft.desired_slots(want):
            gates.hold_at_gate(draft, slot)
    if _count_as_runs(draft, want):
        return
    for slot, record in draft.mains().items():
        if draft.is_full:
            return
        _see_to(draft, slot, record, want)
    _close_orphaned_runs(draft, want)
    if want:
        for slot in generations.to_fire(draft.spec, job, want, draft.desired_slots(want)):
            if draft.is_full:
                return
            _fire(draft, slot)
    for slot in draft.observed.writing:  # should we die before its row is on the disk
        _keep_verdicts(draft, slot)
    _complete(draft, want)
    _let_rest(draft, want)


def _let_rest(draft: Draft, want: int) -> None:
    """Leave slots out of the next plans that run, or have run, until something of them changes."""
    job, spec = draft.observed.job, draft.spec
    if spec.hooks.after_start is not None or spec.spawn_interval:
        return  # one slot's step depends on the others
    waiting = {
        *generations.to_fire(spec, job, want, draft.desired_slots(want)),
        *draft.observed.writing,
    }
    restless = waiting | draft.restless | draft.held.keys()
    for slot in {*draft.desired_slots(want), *draft.mains()} - restless:
        run, record = job.runs.get(slot), draft.mains().get(slot)
        if run is None or run.outcome is not None:
            if record is None or (slot <= want and stopping.is_reaped(draft, record)):
                draft.resting[slot] = None
        elif record is not None and record.memory.generation != run.generation:
            continue
        elif record is not None and _is_left_alone(draft, record, want):
            start, timeout = getattr(record.phase, "started_at_ns", 0), spec.timeout
            draft.resting[slot] = None if timeout is None else start + timeout


def _is_left_alone(draft: Draft, record: ProcessRecord, want: int) -> bool:
    """Tell whether a run goes on, and nothing is to be done for it."""
    memory, hooks = record.memory, draft.spec.hooks
    return (
        isinstance(record.phase, Running)
        and memory.stopping_since_ns is None
        and (memory.greeted or hooks.after_spawn is None)
        and not running.is_asked(draft, record)
        and _why_stop(draft, record.id.slot, record, want) is None
    )


# ---- a service that has become a job --------------------------------------------------------------


def _of_service(draft: Draft) -> list[int]:
    """Return the slots whose process was started while the watcher was a service, and counts as a run.

    It runs, or has ended well: what failed is fired again, as it would have been started again.
    """
    return [
        slot
        for slot, record in draft.mains().items()
        if not record.memory.generation
        and record.incarnation
        and record.memory.stopping_since_ns is None
        and (
            not isinstance(record.phase, Exited)
            or outcome_of(draft.spec, record, record.phase.exit) == "succeeded"
        )
    ]


def _count_as_runs(draft: Draft, want: int) -> bool:
    """Let the processes of the former service be runs of the generation; True when there is more to do.

    The row comes first, then the process is told of its generation, so a crash in between is no second run.
    """
    job = draft.observed.job
    if job.generation is None:
        return False
    due = generations.to_fire(draft.spec, job, want, draft.desired_slots(want))
    for slot in _of_service(draft):
        record, run = draft.observed.records[draft.id(slot)], job.runs.get(slot)
        same = same_template(record.template_hash, job.generation.run_hash)
        if slot in draft.observed.writing or not same:
            continue
        if run is not None and run.outcome is None:
            memory = replace(record.memory, generation=run.generation)
            draft.act(Remember(record.id, record.incarnation, memory))
        elif slot in due:
            draft.act(RecordRun(draft.name, _row(draft, slot)))
    return bool(draft.actions)


# ---- a slot's process -----------------------------------------------------------------------------


def _see_to(draft: Draft, slot: int, record: ProcessRecord, want: int) -> None:
    """Take the next step with a slot that has a process, dead or alive."""
    if isinstance(record.phase, Exited):
        if stopping.reap(draft, record):
            _settle(draft, slot, record, want)
        else:
            draft.held[slot] = stopping.remains(draft, record)
        return
    reason = _why_stop(draft, slot, record, want)
    if record.memory.stopping_since_ns is not None:
        stopping.stop(draft, record, record.memory.stop_reason)
    elif reason is not None and (want or not draft.waits_to_stop):
        stopping.stop(draft, record, reason)
    elif isinstance(record.phase, Running) and running.run_after_spawn(draft, record):
        running.carry_out_reload(draft, record)


def _why_stop(draft: Draft, slot: int, record: ProcessRecord, want: int) -> str | None:
    if not want:
        return draft.why_not_wanted
    if slot > want:
        return "surplus"
    generation = draft.observed.job.generation
    older = generation is not None and record.memory.generation < generation.number
    if older and generation is not None and generation.replace and slot in (generation.slots or ()):
        return "replaced"
    timeout = draft.spec.timeout
    if timeout is not None and isinstance(record.phase, Running):
        if draft.is_due(record.phase.started_at_ns + timeout):
            return "timeout"
    return None


def _settle(draft: Draft, slot: int, record: ProcessRecord, want: int) -> None:
    """Write down how a run ended, unless the program never ran and may be tried again."""
    assert isinstance(record.phase, Exited)
    run = draft.observed.job.runs.get(slot)
    if run is None or run.generation != record.memory.generation or run.outcome is not None:
        return
    error = record.phase.exit.error
    stopped = record.memory.stopping_since_ns is not None
    if error is not None and not stopped and slot <= want:
        failures = failures_after(draft.spec.backoff, record.memory, record.phase)
        if error.is_shortage or failures <= draft.spec.max_retry:
            if not draft.is_due(due_ns(draft.spec.backoff, record)):
                gates.hold_death(draft, record)
            elif gates.gates_open(draft, slot):
                memory = replace(
                    Memory(attempt=failures), generation=run.generation, start=record.memory.start
                )
                starting.spawn(draft, slot, record.template_hash, memory, record)
            return
    phase = record.phase
    lived = None if phase.started_at_ns is None else phase.at_ns - phase.started_at_ns
    outcome = outcome_of(draft.spec, record, phase.exit)
    if outcome == "failed" and ended_by_operator(record.memory, phase):
        outcome = "stopped"
    note = said(draft, "after_spawn", slot) if outcome == "vetoed" else run.note
    ended = replace(
        run, outcome=outcome, exit=phase.exit, duration_ns=lived, pid=phase.pid, note=note
    )
    draft.act(RecordRun(draft.name, ended))


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


def _fire(draft: Draft, slot: int) -> None:
    """Bring a slot one step nearer to its run in the current generation, up to the row on the disk."""
    job = draft.observed.job
    generation, last, record = job.generation, job.runs.get(slot), draft.main(slot)
    assert generation is not None
    busy = record is not None and not draft.is_gone(record)
    if busy or slot in draft.observed.writing or (last is not None and last.outcome is None):
        return  # the older run ends first, never two generations in one slot
    if not gates.may_spawn(draft, slot):
        _keep_verdicts(draft, slot)
        gates.hold_at_gate(draft, slot)
        return
    for role, place in (("before_start", 0), ("before_spawn", slot)):
        if hook_of(draft, role) is None or (role == "before_start" and draft.has_live_mains()):
            continue
        verdict = drive(draft, role, place, generation.number)
        if verdict.state == "vetoed":
            draft.act(
                RecordRun(
                    draft.name, replace(_row(draft, slot), outcome="vetoed", note=verdict.message)
                )
            )
        if verdict.state != "passed":
            hold(draft, slot, role, place)
            _keep_verdicts(draft, slot)  # before_start may be asked anew while before_spawn runs
            return
    draft.act(RecordRun(draft.name, _row(draft, slot)))


def _keep_verdicts(draft: Draft, slot: int) -> None:
    """Let what the hooks before a run have said stand: whoever fires it does not ask them again."""
    generation = draft.observed.job.generation
    if generation is not None:
        keep(draft, "before_start", 0, generation.number)
        keep(draft, "before_spawn", slot, generation.number)


def _row(draft: Draft, slot: int) -> Run:
    generation, facts = draft.observed.job.generation, draft.world.facts
    assert generation is not None
    return Run(
        slot,
        generation.number,
        facts.keeper_id,
        facts.boot_id,
        draft.now_ns,
        trigger=generation.trigger,
        who=generation.who,
    )


def _close_orphaned_runs(draft: Draft, want: int) -> None:
    """Start runs that lie on the disk and have no process yet, or say that they are lost."""
    job, facts = draft.observed.job, draft.world.facts
    open_runs = draft.observed.open_runs
    for slot in sorted(open_runs if draft.awake is None else open_runs & draft.awake):
        run, record = job.runs[slot], draft.main(slot)
        has_process = record is not None and record.memory.generation == run.generation
        if slot in draft.observed.writing or has_process:
            continue
        if draft.is_full:
            return
        if run.keeper_id != facts.keeper_id:
            same_boot = run.boot_id == facts.boot_id
            what = "manager's keeper ended" if same_boot else "machine went down"
            note = f"the {what} while it ran"
            draft.act(RecordRun(draft.name, replace(run, outcome="lost", note=note)))
        elif not job.known:
            # It may be an older row, of a run that has ended since.
            note = "its ledger was damaged before its end was known"
            draft.act(RecordRun(draft.name, replace(run, outcome="lost", note=note)))
        elif slot > want:
            note = "stopped before its process was started"
            draft.act(RecordRun(draft.name, replace(run, outcome="stopped", note=note)))
        elif (record is None or draft.is_gone(record)) and gates.gates_open(draft, slot):
            generation = job.generation
            assert generation is not None
            memory = Memory(
                generation=run.generation, start=run.fired_at_ns, fresh=_has_after_start(draft)
            )
            starting.spawn(draft, slot, generation.run_hash, memory, record)


def _has_after_start(draft: Draft) -> bool:
    return draft.spec.hooks.after_start is not None


# ---- the end --------------------------------------------------------------------------------------


def _complete(draft: Draft, want: int) -> None:
    """Run the hooks of a job whose slots have all ended, then forget its processes."""
    job, mains = draft.observed.job, draft.mains()
    if want and not draft.world.stop_now:
        _after_start(draft)
    open_runs = draft.observed.open_runs or draft.observed.writing
    alive = any(
        not isinstance(r.phase, Exited) or not stopping.is_reaped(draft, r) for r in mains.values()
    )
    due = generations.to_fire(draft.spec, job, want, draft.desired_slots(want))
    if not mains or open_runs or alive or due or draft.actions:
        return
    draft.look_at_all()
    number = job.generation.number if job.generation else 0
    outcome = generations.overall_outcome(job, want)
    reason = "completed" if want else draft.why_not_wanted
    details: dict[str, object] = {
        "reason": reason,
        "outcome": outcome,
        "exit_code": generations.exit_code(job, want),
    }
    if not draft.world.stop_now:
        for role in ("before_stop", "after_complete", "after_stop"):
            if drive(draft, role, 0, number, details).state == "pending":
                return
    for record in tuple(draft.mains().values()):
        if draft.is_full:
            return
        draft.forget(record)


def _after_start(draft: Draft) -> None:
    """Run after_start once in a generation, when the processes of its slots run; a job ignores its veto."""
    job, mains = draft.observed.job, draft.mains()
    fresh = [r for r in mains.values() if r.memory.fresh and isinstance(r.phase, Running)]
    if any(not running.after_spawn_passed(draft, record) for record in fresh):
        return
    if fresh and job.generation is not None and not draft.observed.writing:
        if drive(draft, "after_start", 0, job.generation.number).state != "pending":
            running.mark_started(draft, fresh)
