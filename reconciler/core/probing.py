"""What is done so that it is known whether a process is ready and healthy, and what follows from it."""

from __future__ import annotations

from reconciler.core import events, health, probes, readiness, stopping
from reconciler.core.hooks import drive
from reconciler.core.plan import Plan
from reconciler.model.action import Remember
from reconciler.model.process import ProcessRecord, Running, pid_of
from reconciler.model.units import format_duration
from reconciler.model.value import replace


def go_on(plan: Plan, record: ProcessRecord) -> bool:
    """Take the next step of a running process towards being ready; False when what is remembered of it has changed."""
    memory, ready, phase = record.memory, plan.spec.ready, record.phase
    if readiness.is_ready(plan, record) and (not memory.probed or memory.ready_at_ns is not None):
        health.ask(plan, record)
        return _run_after_ready(plan, record) and health.watch(plan, record)
    if not memory.probed:
        return True
    assert isinstance(phase, Running)
    missing, deadline_ns = readiness.missing(plan, record), readiness.deadline_ns(plan, record)
    if missing is None:
        _is_ready(plan, record, phase)
        return False
    is_late = deadline_ns is not None and plan.is_due(deadline_ns)
    if is_late and missing.is_known:
        _is_too_late(plan, record, missing.note)
        return False
    if ready is not None and probes.is_asked(ready):
        probes.ask(plan, record, probes.READY, ready, phase.started_at_ns)
    return True


def _run_after_ready(plan: Plan, record: ProcessRecord) -> bool:
    """Run after_ready once, whatever comes of it; False when that it has ended is remembered now."""
    if record.memory.after_ready_ended or plan.spec.hooks.after_ready is None:
        return True
    details = {"pid": pid_of(record.phase)}
    verdict = drive(plan, "after_ready", record.id.slot, record.incarnation, details)
    if verdict.state == "pending":
        return True
    memory = replace(record.memory, after_ready_ended=True)
    plan.act(Remember(record.id, record.incarnation, memory))
    return False


def _is_ready(plan: Plan, record: ProcessRecord, phase: Running) -> None:
    """Remember that a process is ready: whatever its probe would say later, it was."""
    memory = replace(record.memory, ready_at_ns=plan.now_ns)
    plan.act(Remember(record.id, record.incarnation, memory))
    if plan.spec.ready is not None:
        plan.events.append(events.of_ready(record.id, plan.now_ns - phase.started_at_ns))


def _is_too_late(plan: Plan, record: ProcessRecord, note: str) -> None:
    """Stop a process that has not become ready in time."""
    assert plan.spec.ready is not None
    assert plan.spec.ready.deadline is not None
    within = format_duration(plan.spec.ready.deadline)
    trouble = note.replace("not ready", f"not ready within {within}", 1)
    failed = replace(record, memory=replace(record.memory, trouble=trouble))
    stopping.stop(plan, failed, "not_ready")
