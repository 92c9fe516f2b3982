"""Slots beyond those wanted, which serve in place of others while these are replaced (`rollout.max_surge`).

They are slots as all others, above the highest number: no two processes ever have the same `${slot}`, so what is made
of it, such as a port or a file, has one owner at a time. They are started as the spec now says, count as soon as they
have taken over, and go when nobody is to be replaced any more. One that is outdated or too old itself goes first, as
soon as nobody is missing, and another one comes. The first of them to fail stops the roll.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from reconciler.core import desired, rollout
from reconciler.core.backoff import is_completed
from reconciler.core.plan import Plan
from reconciler.core.rollout import Roll
from reconciler.core.template import same_template, slot_hash
from reconciler.model.process import Exited, ProcessRecord


def beyond(plan: Plan) -> range:
    """Return which slots beyond those wanted may run while others are replaced."""
    first = plan.want + 1
    return range(first, first + desired.max_surge(plan.spec, plan.want))


def serving(plan: Plan, base_hash: str) -> int:
    """Return how many of them serve, so that others may be missing; one that has failed stops the roll.

    One that has succeeded counts: nobody waits for its like.
    """
    mains, slots = plan.slots.mains, beyond(plan)
    for slot in plan.look(slot for slot in mains if slot in slots):
        record = mains[slot]
        is_there = rollout.is_settled(plan, record) or is_completed(plan.spec, record)
        if is_there and not _is_stale(plan, record, base_hash):
            plan.serving.add(slot)
        elif same_template(record.template_hash, base_hash):
            if rollout.has_failed(plan, record, record.template_hash):
                plan.failed.add(slot)
    return len(plan.serving) + plan.slots.serving_elsewhere


def next_slots(plan: Plan, roll: Roll, hashes: Mapping[int, str], base_hash: str) -> dict[int, str]:
    """Return which slots beyond those wanted (`hashes`) shall run now, each with the hash of what it shall be.

    Of those that are looked at; it begins for those that have to wait for their turn, and goes on until the last of
    them has been replaced.
    """
    known = {slot: plan.slots.main(slot) for slot in plan.slots.among(beyond(plan))}
    waiting = 0 if roll.is_at_once else len(roll.put_off) + plan.slots.put_off_elsewhere
    if not waiting and not plan.slots.beyond and all(record is None for record in known.values()):
        return {}
    missing = rollout.missing_slots(plan, hashes)
    count = len({*roll.now, *roll.put_off, *missing})
    count += plan.slots.put_off_elsewhere + plan.slots.awaited_elsewhere
    if not count:
        plan.restless.update(plan.slots.beyond)  # they go, and so does what is told of them
        return {}
    is_missed = bool(missing) or plan.slots.awaited_elsewhere > 0
    for slot in plan.look(slot for slot, record in known.items() if record is not None):
        if rollout.keeps_a_socket(plan, known[slot]):
            continue  # without that nobody new could serve
        if not _is_stale(plan, known[slot], base_hash):
            plan.beyond.add(slot)
        elif is_missed and rollout.is_settled(plan, known[slot]):
            plan.beyond.add(slot)
            plan.restless.add(slot)  # until nobody is missing
    _add(plan, known, count)
    return {slot: _wanted_hash(plan, slot, known[slot], base_hash) for slot in sorted(plan.beyond)}


def _add(plan: Plan, known: Mapping[int, ProcessRecord | None], count: int) -> None:
    """Add as many as are lacking when so many slots are to be replaced: those that are looked at now, or else next."""
    slots = beyond(plan)
    lacking = min(count, len(slots)) - len(plan.beyond)
    lacking -= len(plan.slots.beyond) - len(plan.slots.beyond & known.keys())
    if lacking <= 0:
        return
    free = (slot for slot in slots if plan.slots.main(slot) is None)
    for slot in islice(free, lacking):
        (plan.beyond if slot in known else plan.restless).add(slot)


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
