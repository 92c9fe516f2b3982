"""Which unhealthy processes are restarted now, or stopped.

Of several slots one after the other, each when all others but unhealthy ones serve: a probe that is wrong takes none
away that still works. When none serves, nothing is lost by restarting all. Those that stay down for good, stopped for
being unhealthy or given up, are waited for by nobody.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.core import gates, health, readiness, rollout
from reconciler.core.plan import Plan
from reconciler.model.process import ProcessRecord, Running
from reconciler.model.value import replace


def next_slots(plan: Plan, hashes: Mapping[int, str]) -> frozenset[int]:
    """Return which of these slots are restarted now, or stopped, because they are unhealthy."""
    probe, mains = plan.spec.health, plan.slots.mains
    if probe is None:
        return frozenset()
    plan.unhealthy.update(
        slot for slot in hashes if slot in mains and not readiness.is_healthy(plan, mains[slot])
    )
    plan.resting.update(
        slot
        for slot, wanted_hash in hashes.items()
        if slot in mains and gates.stays_down(plan, mains[slot], wanted_hash)
    )
    if probe.action == "none" or not plan.unhealthy:
        return frozenset()
    plan.stand_in("to be healthy", *plan.unhealthy)
    missing = len(rollout.missing_slots(plan, hashes)) + plan.slots.awaited_elsewhere
    unhealthy = len(plan.unhealthy) + plan.slots.unhealthy_elsewhere
    resting = len(plan.resting) + plan.slots.resting_elsewhere
    if missing >= plan.want:
        return frozenset(plan.unhealthy)
    return frozenset({min(plan.unhealthy)} if missing == unhealthy + resting else ())


def blamed(plan: Plan, record: ProcessRecord) -> ProcessRecord:
    """Return the record of a process that is stopped for being unhealthy, with what counts against it.

    One that was well for long enough before begins a new count of failures.
    """
    assert plan.spec.health is not None
    assert isinstance(record.phase, Running)
    memory, probe = record.memory, plan.spec.health
    well_ns = plan.now_ns - record.phase.started_at_ns - probe.failures * probe.interval
    is_first = well_ns >= plan.spec.backoff.reset_after
    attempt = 0 if is_first else memory.attempt
    return replace(
        record, memory=replace(memory, trouble=health.note(plan, record), attempt=attempt)
    )
