"""How a watcher stands by its last plan, for those that wait for it."""

from __future__ import annotations

from collections.abc import Collection

from reconciler.core import desired
from reconciler.core.plan import Plan, Standing
from reconciler.core.slots import URGENCY
from reconciler.core.tally import Tally
from reconciler.model.process import Running
from reconciler.model.spec import DependencyCondition


def standing_of(plan: Plan, tally: Tally, renewed_ns: int, *, waits: bool) -> Standing:
    """Return how a watcher stands; `tally` and `renewed_ns` are of all its slots.

    `waits`: some of its slots wait for others.
    """
    count = _count(plan)
    is_up_to_date = not tally.outdated
    return Standing(
        frozenset(_met(plan, tally, count, waits=waits)),
        is_up_to_date,
        is_up_to_date and tally.ready >= count > 0,
        _note(plan, tally, count),
        _idle(plan, tally, count) or tally.why_stuck,
        tally.why_failed,
        renewed_ns,
    )


def stands(plan: Plan, slots: Collection[int], condition: DependencyCondition) -> tuple[bool, str]:
    """Tell whether slots of a watcher (none given: the whole) stand as is waited for, by what the spec now says.

    And why they do not come to it by themselves; empty: they may.
    """
    tally = Tally()
    for slot, found in plan.conditions.items():
        if not slots or slot in slots:
            tally.change(slot, None, found)
    count = len(slots) or _count(plan)
    least = count if slots else None
    waits = bool(plan.at_gate.intersection(slots) if slots else plan.at_gate)
    is_met = condition in _met(plan, tally, count, waits=waits, least=least) and not tally.outdated
    return is_met, _idle(plan, tally, count) or tally.why_stuck or (
        tally.why_failed if condition != "completed" else ""
    )


def _count(plan: Plan) -> int:
    """Return how many slots have to come to what is waited for: of a job also those that have run before a stop."""
    is_job = plan.spec.is_job
    return desired.count(plan.spec, plan.observed.intent) if is_job else plan.want


def _met(
    plan: Plan, tally: Tally, count: int, *, waits: bool, least: int | None = None
) -> set[DependencyCondition]:
    """Return what a watcher has come to; it is ready with at `least` so many slots, None: as its rollout says."""
    met: set[DependencyCondition] = set()
    if not count:
        return met
    succeeded = tally.states["Completed"]
    ended = succeeded + tally.states["Failed"]
    # A run that a hook vetoed, or that was stopped before it began, was not started.
    if tally.running + (tally.began if plan.spec.is_job else succeeded) >= count:
        met.add("started")
    if not plan.spec.is_job and tally.ready >= (least or desired.least_ready(plan.spec, count)):
        met.add("ready")
    if tally.states["Idle"] >= count:  # who connects is served
        met |= {"started", "ready"}
    # How a run has ended counts when it is on the disk: else the next controller may know otherwise.
    if waits or plan.observed.writing:
        return met
    if succeeded >= count:
        met.add("succeeded")
    if ended >= count:
        met.add("completed")
    return met


def _note(plan: Plan, tally: Tally, count: int) -> str:
    """Return what a watcher does: what its one slot does, or how many of its slots are ready."""
    if plan.whole is not None and plan.whole.note:
        return f"{plan.whole.state}: {plan.whole.note}"
    state = next((each for each in URGENCY if tally.states[each]), "Waiting")
    if count > 1:
        done = tally.states["Completed"] if plan.spec.is_job else tally.ready
        return f"{state}, {done} of {count} {'have succeeded' if plan.spec.is_job else 'are ready'}"
    only = plan.conditions.get(1)
    if only is None or not only.note:
        return state
    # Not how that stands in turn: each change of the first of a long chain would go through all of it.
    return f"{only.state}: {only.waits_for or only.note}"


def _idle(plan: Plan, tally: Tally, count: int) -> str:
    """Return why nothing of a watcher shall run; empty also when all of a job has succeeded before."""
    idle = desired.why_idle(plan.name, plan.spec, plan.observed.intent)
    return "" if plan.spec.is_job and tally.states["Completed"] >= count > 0 else idle


def renewal_ns(plan: Plan) -> int:
    """Return when the newest process was started that had another one before it, of those that are looked at.

    One that a client has started after a rest takes nobody along: that may be the client who asked for it.
    """
    mains = plan.slots.mains.values()
    renewed = (
        r for r in mains if (r.memory.restarts or r.memory.replacements) and not r.memory.rested
    )
    starts = (r.phase.started_at_ns for r in renewed if isinstance(r.phase, Running))
    return max(starts, default=0)
