"""What a watcher waits for of others.

Each plan of a watcher says how it stands (`core.standing`); whoever waits for it is looked at again when that changes.
It is a level: a dependency that needed three restarts opens the gate when it is ready, and one that closes it stops
nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from reconciler.core.plan import Plan, Standing
from reconciler.core.slots import SlotCondition
from reconciler.core.sockets import kept_back
from reconciler.core.template import same_template, sockets_of
from reconciler.model.process import ProcessRecord, Running
from reconciler.model.spec import DependencyCondition
from reconciler.model.status import DependencyStatus
from reconciler.model.units import format_duration

TO: Final[Mapping[DependencyCondition, str]] = {
    "started": "to start",
    "ready": "to be ready",
    "succeeded": "to succeed",
    "completed": "to end",
}


class Unmet(NamedTuple):
    """A dependency that holds back starts: who, in words what is waited for, how that stands, and for how long."""

    name: str
    what: str
    note: str
    is_stuck: bool
    timeout: int | None


def held(
    plan: Plan, slot: int, record: ProcessRecord | None, wanted_hash: str
) -> SlotCondition | None:
    """Return what holds back the start of a slot, in place of `record`, by the dependencies of its watcher.

    What differs from that record needs the newest of what it depends on; what is only started again does not.
    """
    if not plan.spec.depends_on:
        return None
    unmet_ones = list(unmet(plan, is_new=_is_new(record, wanted_hash)))
    kept = _kept_back(plan, record) if unmet_ones else ()
    first = next((each for each in unmet_ones if each.name not in kept), None)
    if first is None:
        return None
    plan.at_gate.add(slot)
    since_ns = plan.world.waiting_since.get(plan.name, {}).get(slot, plan.now_ns)
    if first.timeout is not None and plan.is_due(since_ns + first.timeout):
        note = f"{first.note}; gave up after {format_duration(first.timeout)}"
        return SlotCondition("Failed", note, since_ns, stuck=first.is_stuck)
    note, what = first.note, first.what
    return SlotCondition("Waiting", note, since_ns, stuck=first.is_stuck, waits_for=what)


def is_waited_for(plan: Plan, record: ProcessRecord, wanted_hash: str) -> bool:
    """Tell whether a process keeps those from going on for whom its successor has to wait."""
    kept = _kept_back(plan, record)
    is_new = _is_new(record, wanted_hash)
    return bool(kept) and any(each.name in kept for each in unmet(plan, is_new=is_new))


def _is_new(record: ProcessRecord | None, wanted_hash: str) -> bool:
    return record is None or not same_template(record.template_hash, wanted_hash)


def _kept_back(plan: Plan, record: ProcessRecord | None) -> set[str]:
    """Return who may wait until a process has ended: it does not wait for them in turn."""
    if record is None or not plan.spec.depends_on or not isinstance(record.phase, Running):
        return set()
    return kept_back(plan.world, sockets_of(plan.spec), record.id)


def unmet(plan: Plan, *, is_new: bool) -> Iterator[Unmet]:
    """Yield the dependencies of a watcher that hold back its starts, in the order of the spec."""
    trial = plan.world.trial
    is_stopped = trial is not None and trial.stops_roll
    for name, each in plan.spec.dependencies.items():
        assert each.condition is not None
        standing, what = plan.world.standings.get(name), f"waiting for {name} {TO[each.condition]}"
        if standing is None:
            yield Unmet(name, what, what, False, each.timeout)
        elif each.condition in standing.met:
            if is_new and not (standing.is_up_to_date or is_stopped):
                what = f"waiting for {name} to be replaced"
                yield Unmet(name, what, f"{what}: {standing.note}", False, each.timeout)
        else:
            why = standing.why_not(each.condition)
            if each.required or not why:
                note = f"{what}: {why or standing.note}"
                yield Unmet(name, what, note, bool(why), each.timeout)


def passed_over(plan: Plan) -> Iterator[str]:
    """Yield in words the dependencies that are not waited for although they do not stand as they should."""
    for name, each in plan.spec.dependencies.items():
        standing = plan.world.standings.get(name)
        if standing is None or each.required or each.condition in standing.met:
            continue
        if why := standing.why_not(each.condition):
            yield f"{name} is passed over: {why}"


def statuses(plan: Plan) -> tuple[DependencyStatus, ...]:
    """Return each dependency of a watcher, and whether it stands as is waited for."""
    standings = plan.world.standings
    return tuple(
        DependencyStatus(
            name, each.condition or "", each.condition in standings.get(name, Standing()).met
        )
        for name, each in plan.spec.dependencies.items()
    )


def note(plan: Plan) -> str:
    """Return which dependencies of what runs do not stand as they should, in words; empty: all do."""
    found = []
    for name, each in plan.spec.dependencies.items():
        standing = plan.world.standings.get(name)
        if standing is not None and each.condition not in standing.met:
            why = standing.why_not(each.condition)
            found.append(f"depends on {name}: {why or standing.note}")
    return "; ".join(found)


def is_renewed(plan: Plan, record: ProcessRecord) -> bool:
    """Tell whether a process is older than one of a dependency that was started anew and is to take it along."""
    if not plan.spec.depends_on or not isinstance(record.phase, Running):
        return False
    for name, each in plan.spec.dependencies.items():
        standing = plan.world.standings.get(name)
        if each.on_restart != "restart" or standing is None or not standing.is_settled:
            continue
        if standing.renewed_ns > record.phase.started_at_ns:
            return True
    return False
