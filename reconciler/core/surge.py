"""Slots beyond those wanted, which serve in place of others while these are replaced (`rollout.max_surge`).

They are slots as all others, above the highest number: no two processes ever have the same `${slot}`, so what is made
of it, such as a port or a file, has one owner at a time. They are started as the spec now says, count as soon as they
have taken over, and go when nobody is to be replaced any more. One that is outdated or too old itself goes first, as
soon as nobody is missing, and another one comes. The first of them to fail stops the roll.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.core import desired, rollout
from reconciler.core.plan import Plan
from reconciler.core.rollout import Roll
from reconciler.core.template import same_template, slot_hash
from reconciler.model.process import Exited, ProcessRecord


def beyond(plan: Plan) -> range:
    """Return which slots beyond those wanted may run while others are replaced."""
    first = plan.want + 1
    return range(first, first + desired.max_surge(plan.spec, plan.want))


def serving(plan: Plan, base_hash: str) -> int:
    """Return how many of those that are looked at serve, so that others may be missing."""
    mains = plan.slots.mains
    found = (mains[slot] for slot in plan.look(beyond(plan)) if slot in mains)
    return sum(
        rollout.is_settled(plan, record) and not _is_stale(plan, record, base_hash)
        for record in found
    )


def next_slots(plan: Plan, roll: Roll, hashes: Mapping[int, str], base_hash: str) -> dict[int, str]:
    """Return which slots beyond those wanted (`hashes`) shall run now, each with the hash of what it shall be."""
    known = {slot: plan.slots.main(slot) for slot in beyond(plan)}
    # It begins for those that have to wait for their turn, and goes on until the last of them has been replaced.
    waiting = 0 if roll.is_at_once else len(roll.put_off) + plan.slots.put_off_elsewhere
    if not waiting and all(record is None for record in known.values()):
        return {}
    settled = {slot for slot in plan.look(known) if rollout.is_settled(plan, known[slot])}
    missing = rollout.missing_slots(plan, hashes)
    is_needed = bool(missing) or plan.slots.awaited_elsewhere > 0
    may_stay = [
        slot
        for slot in plan.look(known)
        if not _is_stale(plan, known[slot], base_hash) or (is_needed and slot in settled)
    ]
    count = len({*roll.now, *roll.put_off, *missing})
    count += plan.slots.put_off_elsewhere + plan.slots.awaited_elsewhere
    kept = sorted(may_stay, key=lambda slot: (slot not in settled, slot))[:count]
    # Those are looked at as long as there are any; the one that is still to come from the next plan on.
    plan.restless.update(kept)
    looked_at = plan.slots.looked_at
    return {
        slot: _wanted_hash(plan, slot, known[slot], base_hash)
        for slot in kept
        if looked_at is None or slot in looked_at
    }


def _is_stale(plan: Plan, record: ProcessRecord | None, base_hash: str) -> bool:
    """Tell whether a process would be replaced itself, if it were a wanted one.

    An operator's restart is for those in whose place it serves.
    """
    if record is None:
        return False
    is_same = same_template(record.template_hash, base_hash)
    return (
        rollout.why_stale(plan, record, record.template_hash if is_same else base_hash) is not None
    )


def _wanted_hash(plan: Plan, slot: int, record: ProcessRecord | None, base_hash: str) -> str:
    """Return the hash of a slot: of what it is as long as it runs."""
    if record is not None and not isinstance(record.phase, Exited):
        return record.template_hash
    return slot_hash(base_hash, plan.observed.intent.restart_token(slot))
