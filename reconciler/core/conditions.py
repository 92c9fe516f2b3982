"""What a slot does that has a process: worked out once, by the plan; whoever tells it reads it there."""

from __future__ import annotations

from typing import assert_never

from reconciler.core import (
    demand,
    events,
    gates,
    health,
    hooks,
    limits,
    notifications,
    readiness,
    rollout,
    stopping,
    watched_files,
)
from reconciler.core.plan import Plan
from reconciler.core.slots import SlotCondition
from reconciler.model.process import Exited, ProcessRecord, Requested, Running, Starting
from reconciler.model.value import replace


def of_process(plan: Plan, record: ProcessRecord, wanted_hash: str) -> SlotCondition:
    """Return what a slot does by its process alone. `wanted_hash` is what its process should be, empty of a job."""
    found = _of_process(plan, record, wanted_hash)
    runs = isinstance(record.phase, Running) and record.memory.stopping_since_ns is None
    return replace(found, runs=runs, ready=runs and rollout.is_available(plan, record))


def _of_process(plan: Plan, record: ProcessRecord, wanted_hash: str) -> SlotCondition:
    memory = record.memory
    match record.phase:
        case Exited(at_ns) as phase:
            return SlotCondition("Stopped", str(phase.exit), at_ns)
        case Requested(at_ns) | Starting(_, at_ns):
            if readiness.is_shaky(plan, record):
                found = SlotCondition("Failing", _in_a_row(record), at_ns)
            else:
                found = SlotCondition("Starting", "is being started", at_ns)
        case Running(_, at_ns) as phase:
            if memory.stopping_since_ns is not None:
                reason = events.stop_reason(memory)
                note = f"{reason}: SIGKILL was sent" if memory.killed else reason
                deadline_ns = stopping.deadline_ns(plan, record)
                found = SlotCondition("Stopping", note, memory.stopping_since_ns, deadline_ns)
            elif notifications.ends_by_itself(record):
                since_ns = notifications.ends_since_ns(record)
                found = SlotCondition("Stopping", "it ends by itself (STOPPING=1)", since_ns)
            elif (starting := _of_starting(plan, record, phase)) is not None:
                found = starting
            elif trouble := health.note(plan, record):
                note = _waiting(plan, record, trouble)
                found = SlotCondition("Failing", note, at_ns)
            else:
                found = _of_running(plan, record, wanted_hash, at_ns)
        case _:
            assert_never(record.phase)
    outdated = _is_outdated(plan, record, wanted_hash)
    older = outdated and rollout.is_of_older_spec(record, wanted_hash)
    found = replace(found, outdated=outdated, of_older_spec=older)
    if outdated and found.state == "Running" and not (found.note or rollout.is_kept(plan, found)):
        held = gates.before_roll(plan)
        found = found if held is None else replace(found, note=f"not replaced yet: {held.note}")
    return found


def _of_starting(plan: Plan, record: ProcessRecord, phase: Running) -> SlotCondition | None:
    """Return what a process has still to show before it counts: that it is ready, that it stays up."""
    missing = None if plan.spec.is_job else readiness.missing(plan, record)
    note = missing.note if missing is not None and record.memory.probed else ""
    if readiness.is_shaky(plan, record):
        note = f"{note}; {_in_a_row(record)}" if note else _in_a_row(record)
        # It is steady only once it is ready, and has failed if that comes too late.
        late_ns = None if missing is None else readiness.deadline_ns(plan, record)
        steady_ns = late_ns or readiness.steady_at_ns(plan, phase)
        return SlotCondition("Failing", note, phase.started_at_ns, steady_ns)
    if missing is None:
        return None
    next_ns = missing.due_ns or readiness.deadline_ns(plan, record)
    return SlotCondition("Starting", missing.note, phase.started_at_ns, next_ns)


def _waiting(plan: Plan, record: ProcessRecord, trouble: str) -> str:
    """Return that a process is unhealthy, and what its restart waits for."""
    assert plan.spec.health is not None
    if plan.spec.health.action == "none":
        return trouble
    coming = plan.coming.get(record.id.slot)
    return f"{trouble}; waiting " + ("for other slots" if coming is None else f"({coming.note})")


def _in_a_row(record: ProcessRecord) -> str:
    last = record.memory.last_failure
    return f"{record.memory.attempt} deaths in a row" + (f", last: {last}" if last else "")


def _of_running(
    plan: Plan, record: ProcessRecord, wanted_hash: str, since_ns: int
) -> SlotCondition:
    """Return that a slot's process runs, and what is to be said of it nevertheless."""
    memory, slot = record.memory, record.id.slot
    note = "" if memory.after_spawn_passed else hooks.said(plan, "after_spawn", slot)
    if not note and memory.reload_trouble:
        note = f"reload failed: {memory.reload_trouble}"
    if not note and slot in plan.coming:
        note = f"not replaced yet: {plan.coming[slot].note}"
    held_back = rollout.held_back_note(plan, record, wanted_hash) if wanted_hash else ""
    over = limits.over(plan.spec, plan.observed.exceeded, record)
    waiting = f"{over}; waiting for its turn to be replaced" if over else ""
    note = note or held_back or waiting or _log_note(plan, slot)
    note = note or limits.not_in_force(plan.spec.limits, record, plan.world.facts)
    note = note or watched_files.note(plan) or notifications.note(record)
    if not note and slot > plan.want:
        note = "serves while others are replaced (rollout.max_surge)"
    check_ns = demand.check_ns(plan)
    return SlotCondition("Running", note, since_ns, check_ns, held_back=bool(held_back))


def _is_outdated(plan: Plan, record: ProcessRecord, wanted_hash: str) -> bool:
    if not wanted_hash or isinstance(record.phase, Requested):
        return False
    return rollout.is_outdated(plan, record, wanted_hash)


def _log_note(plan: Plan, slot: int) -> str:
    """Return which log file of a slot cannot be written, or lies elsewhere. Several slots may share one."""
    found = plan.observed.unwritten.values()
    return next((events.log_trouble(each) for each in found if each.id.slot == slot), "")
