"""Services: which slots run, and what is done so that they do.

A watcher is started when any slot has a record; so `before_start` runs when none has, and never for a
respawn, a roll or a new controller. Dead records stay until they are replaced, or until `after_stop` has
run: what is still to be done is always to be read from the records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.core import (
    conditions,
    gates,
    hooks,
    rollout,
    running,
    starting,
    stopping,
)
from reconciler.core.backoff import is_completed
from reconciler.core.hooks import drive
from reconciler.core.slots import SlotCondition
from reconciler.core.template import same_slot, slot_hash
from reconciler.model.process import Exited, Running

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reconciler.core.plan import Draft, Verdict
    from reconciler.core.rollout import Roll
    from reconciler.model.process import ProcessRecord


def plan_service(draft: Draft, base_hash: str) -> None:
    """Take the next step with a service."""
    if draft.want == 0:
        _stop_whole(draft, draft.why_not_wanted)
        return
    refused = _after_start_refused(draft)
    if refused is not None:
        _undo_start(draft, refused)
        return
    token = draft.observed.intent.restart_token
    hashes = {slot: slot_hash(base_hash, token(slot)) for slot in draft.slots.desired(draft.want)}
    roll = rollout.next_slots(draft, hashes)
    surplus = (slot for slot in draft.slots.mains if slot > draft.want)
    for slot in draft.take_steps((*surplus, *hashes)):
        record = draft.slots.mains.get(slot)
        if slot in hashes:
            _keep_slot(draft, slot, hashes[slot], roll)
        elif record is not None:
            _drop_slot(draft, record)
        record = draft.slots.mains.get(slot)
        if record is not None and running.counts_for_others(draft, record):
            draft.restless.add(slot)
        if record is not None and slot not in draft.conditions:
            draft.conditions[slot] = conditions.of_process(draft, record, hashes.get(slot, ""))
    if not draft.unreached:
        _finish_start(draft)


# ---- one slot -------------------------------------------------------------------------------------


def _keep_slot(draft: Draft, slot: int, wanted_hash: str, roll: Roll) -> None:
    """Take the next step for a slot that shall run."""
    record = draft.slots.mains.get(slot)
    if record is None or isinstance(record.phase, Exited):
        _bring_back(draft, slot, wanted_hash, record)
        return
    if slot in roll.now and _may_be_replaced(draft, record):
        stopping.stop(draft, record, roll.now[slot])
    elif record.memory.stopping_since_ns is not None:
        stopping.stop(draft, record, record.memory.stop_reason)
    elif isinstance(record.phase, Running):
        running.attend(draft, record)
    if slot in roll.put_off:
        hooks.keep(draft, "before_spawn", slot, record.incarnation)
    if not rollout.is_available(draft, record):
        draft.awaited.add(slot)


def _may_be_replaced(draft: Draft, record: ProcessRecord) -> bool:
    """Tell whether a successor could start: what it has to wait for, it waits for while the old one serves."""
    slot, about = record.id.slot, record.incarnation
    if record.memory.stopping_since_ns is not None:
        hooks.keep(draft, "before_spawn", slot, about)
        return True
    held = gates.before_replacement(draft, slot, about)
    if held is not None:
        draft.coming[slot] = held
    return held is None


def _bring_back(draft: Draft, slot: int, wanted_hash: str, dead: ProcessRecord | None) -> None:
    """Start a slot that has no process, once everything that must come before it has come."""
    about = 0 if dead is None else dead.incarnation
    held = None if dead is None else _why_not_again(draft, dead, wanted_hash)
    held = held or gates.before_start(draft, slot, about)
    if held is None:
        starting.start(draft, slot, wanted_hash, dead)
    else:
        draft.conditions[slot] = held
    if held is None or held.state != "Completed":
        draft.awaited.add(slot)


def _why_not_again(draft: Draft, dead: ProcessRecord, wanted_hash: str) -> SlotCondition | None:
    """Return why a dead slot is not started again, unless the rest of it is still to be reaped."""
    # It may have passed while its predecessor still ran.
    hooks.keep(draft, "before_spawn", dead.id.slot, dead.incarnation)
    is_wanted = same_slot(dead.template_hash, wanted_hash) and not dead.memory.retry
    if is_wanted and stopping.is_in_background(draft.spec, dead):
        return stopping.in_background(dead)
    if not stopping.reap(draft, dead):
        return draft.conditions[dead.id.slot]
    return gates.after_death(draft, dead, wanted_hash)


def _drop_slot(draft: Draft, record: ProcessRecord) -> None:
    """Take the next step with a slot beyond those that shall run."""
    if not isinstance(record.phase, Exited):
        stopping.stop(draft, record, "surplus")
    elif stopping.reap(draft, record, "surplus"):
        draft.forget(record)


# ---- start and stop of the whole ------------------------------------------------------------------


def _after_start_refused(draft: Draft) -> Verdict | None:
    """Return the veto of after_start, as long as what it refused has not been undone."""
    hook = draft.spec.hooks.after_start
    record = draft.observed.records.get(draft.id(0, "after_start"))
    if hook is None or record is None:
        return None
    mains = draft.slots.mains.values()
    is_over = isinstance(record.phase, Exited)
    if is_over and (not mains or any(main.memory.fresh for main in mains)):
        draft.used.add(record.id)  # counts the vetoes in a row
    if record.memory.about not in {main.memory.start for main in mains}:
        return None
    verdict = hooks.judge(hook, record)
    return verdict if verdict.state == "vetoed" else None


def _undo_start(draft: Draft, refused: Verdict) -> None:
    """Stop what after_start refused, and forget it when the time for another start has come."""
    due_ns = hooks.retry_due_ns(draft, refused)
    draft.whole = SlotCondition("BackOff", refused.message, refused.since_ns, due_ns)
    for slot in draft.look(draft.slots.mains):
        record = draft.slots.mains[slot]
        if not isinstance(record.phase, Exited):
            stopping.stop(draft, record, "refused")
            draft.conditions[slot] = conditions.of_process(draft, record, "")
        elif stopping.reap(draft, record):
            draft.conditions[slot] = draft.whole
    for slot in draft.slots.desired(draft.want):
        draft.conditions.setdefault(slot, draft.whole)
    if not draft.observed.live and draft.is_due(due_ns):
        _forget_mains(draft)


def _finish_start(draft: Draft) -> None:
    """Run after_start once all slots of a start run, or have succeeded, and remember that it has passed."""
    mains = draft.slots.mains
    if draft.spec.hooks.after_start is None or not any(r.memory.fresh for r in mains.values()):
        return
    wanted = [r for slot, r in draft.slots.all_mains().items() if slot <= draft.want]
    started = [record for record in wanted if isinstance(record.phase, Running)]
    completed = [record for record in wanted if is_completed(draft.spec, record)]
    fresh = [record for record in (*started, *completed) if record.memory.fresh]
    if not fresh or len(started) + len(completed) < draft.want:
        return
    if any(not running.after_spawn_passed(draft, record) for record in started):
        return
    former = draft.observed.records.get(draft.id(0, "after_start"))
    start, attempt = fresh[0].memory.start, 0
    if former is not None and former.memory.about != start:
        attempt = former.memory.attempt + 1
    if drive(draft, "after_start", 0, start, attempt=attempt).state == "passed":
        running.mark_started(draft, fresh)


def _stop_whole(draft: Draft, reason: str) -> None:
    """Stop every slot, with the hooks around it."""
    some = draft.slots.any_main()
    if some is None:
        return
    start, details = some.memory.start, {"reason": reason}
    mains = draft.slots.mains
    alive = any(not isinstance(record.phase, Exited) for record in mains.values())
    may_begin = not alive or _may_stop_whole(draft, start, details)
    for slot in draft.take_steps(mains):
        record = mains[slot]
        if isinstance(record.phase, Exited):
            stopping.reap(draft, record, reason)
        elif may_begin or record.memory.stopping_since_ns is not None:
            # Who is being stopped already, for a roll or to scale down, is killed in time whatever the others wait for.
            stopping.stop(draft, record, reason)
        if not stopping.is_reaped(draft, record):
            draft.awaited.add(slot)
        if slot not in draft.conditions:
            draft.conditions[slot] = conditions.of_process(draft, record, "")
    if draft.awaited or draft.slots.awaited_elsewhere or draft.unreached:
        return
    if not draft.world.stop_now:
        if hooks.is_running(draft, "after_signal"):
            return
        if drive(draft, "after_stop", 0, start, details).state == "pending":
            return
    _forget_mains(draft)


def _may_stop_whole(draft: Draft, start: int, details: Mapping[str, object]) -> bool:
    """Tell whether it is this watcher's turn to be stopped, and `before_stop` has run."""
    if draft.waits_to_stop:
        note = "waiting until watchers of lower priority have stopped"
        draft.whole = SlotCondition("Stopping", note)
        return False
    if draft.world.stop_now:
        return True
    verdict = drive(draft, "before_stop", 0, start, details)
    draft.only_ends = verdict.state != "pending"
    if not draft.only_ends:
        draft.whole = hooks.held_by(draft, "before_stop", 0, verdict)
    return draft.only_ends


def _forget_mains(draft: Draft) -> None:
    for record in draft.slots.all_mains().values():
        if draft.is_full:
            return
        draft.forget(record)
