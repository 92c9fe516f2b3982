"""Whether a process that is ready goes on to be healthy.

That it is not is remembered on its record until its probe says otherwise: a new controller holds it against it, too.
"""

from __future__ import annotations

from reconciler.core import events, probes, readiness
from reconciler.core.plan import Plan
from reconciler.core.probe_commands import Answer
from reconciler.model.action import Remember
from reconciler.model.process import ProcessRecord, Running
from reconciler.model.status import ProbeKind
from reconciler.model.value import replace


def watch(plan: Plan, record: ProcessRecord) -> bool:
    """See whether a process that is ready is healthy; False when what is remembered of it has changed."""
    health, memory = plan.spec.health, record.memory
    if health is None:
        return not memory.trouble or _remember(plan, record, "")
    found = probes.answer(plan, record, probes.HEALTH, health)
    if found.passed is not None and found.passed is bool(memory.trouble):
        plan.events.append(events.of_health(record.id, found.message, healthy=found.passed))
        return _remember(plan, record, "" if found.passed else f"unhealthy: {found.message}")
    return True


def ask(plan: Plan, record: ProcessRecord) -> None:
    """Have a process that is ready asked, also by a plan that remembers something of it: else it is asked anew."""
    if plan.spec.health is not None:
        since_ns = readiness.since_ns(record)
        probes.ask(plan, record, probes.HEALTH, plan.spec.health, since_ns)


def _remember(plan: Plan, record: ProcessRecord, trouble: str) -> bool:
    memory = replace(record.memory, trouble=trouble)
    plan.act(Remember(record.id, record.incarnation, memory))
    return False


def note(plan: Plan, record: ProcessRecord) -> str:
    """Return in words that a process is unhealthy, as its probe says now; empty: it is healthy."""
    if readiness.is_healthy(plan, record):
        return ""
    assert plan.spec.health is not None
    found = probes.answer(plan, record, probes.HEALTH, plan.spec.health)
    return record.memory.trouble if found.passed is None else f"unhealthy: {found.message}"


def last_probe(plan: Plan, record: ProcessRecord) -> tuple[ProbeKind, Answer] | None:
    """Return what the newest probe of a process has come to, and what for it was asked; None: nobody asks."""
    ready, health, memory = plan.spec.ready, plan.spec.health, record.memory
    if not isinstance(record.phase, Running):
        return None
    if memory.probed and memory.ready_at_ns is None:
        if ready is None or not probes.is_asked(ready):
            return None
        return "ready", probes.answer(plan, record, probes.READY, ready)
    if health is not None:
        return "health", probes.answer(plan, record, probes.HEALTH, health)
    if ready is None or memory.ready_at_ns is None:
        return None
    return "ready", Answer(True, "", memory.ready_at_ns)
