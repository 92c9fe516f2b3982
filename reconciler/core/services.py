"""Services: which slots run, and what is done so that they do.

A watcher is started when any slot has a record; so `before_start` runs when none has, and never for a
respawn, a roll or a new controller. Dead records stay until they are replaced, or until `after_stop` has
run: what is still to be done is always to be read from the records.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.core import (
    conditions,
    demand,
    ends,
    gates,
    handover,
    hooks,
    recovery,
    rollout,
    running,
    starting,
    stopping,
    surge,
)
from reconciler.core.backoff import is_completed
from reconciler.core.hooks import drive
from reconciler.core.plan import Plan, Verdict
from reconciler.core.rollout import Roll
from reconciler.core.slots import SlotCondition
from reconciler.core.template import same_slot, slot_hash
from reconciler.model.process import Exited, ProcessRecord, Running
from reconciler.model.value import replace


def plan_service(plan: Plan, base_hash: str) -> None:
    """Take the next step with a service."""
    if plan.want == 0:
        _stop_whole(plan, plan.why_not_wanted)
        return
    refused = _after_start_refused(plan)
    if refused is not None:
        _undo_start(plan, refused)
        return
    token = plan.observed.intent.restart_token
    hashes = {slot: slot_hash(base_hash, token(slot)) for slot in plan.slots.desired(plan.want)}
    roll = rollout.next_slots(plan, hashes, surge.serving(plan, base_hash))
    hashes |= surge.next_slots(plan, roll, hashes, base_hash)
    unhealthy, is_idle = recovery.next_slots(plan, hashes), demand.is_idle(plan)
    surplus = (slot for slot in plan.slots.mains if slot not in hashes)
    for slot in plan.take_steps((*surplus, *hashes)):
        record = plan.slots.mains.get(slot)
        if slot in hashes:
            reason = roll.now.get(slot) or ("unhealthy" if slot in unhealthy else None)
            _keep_slot(plan, slot, hashes[slot], roll, "idle" if is_idle else reason)
        elif record is not None:
            _drop_slot(plan, record)
        record = plan.slots.mains.get(slot)
        if record is not None and running.counts_for_others(plan, record):
            plan.restless.add(slot)
        if record is not None and slot not in plan.conditions:
            plan.conditions[slot] = conditions.of_process(plan, record, hashes.get(slot, ""))
        if slot not in hashes and slot in plan.conditions:
            plan.conditions[slot] = replace(plan.conditions[slot], surplus=True)
    if not plan.unreached:
        _finish_start(plan)


# ---- one slot -------------------------------------------------------------------------------------


def _keep_slot(plan: Plan, slot: int, wanted_hash: str, roll: Roll, reason: str | None) -> None:
    """Take the next step for a slot that shall run."""
    record = plan.slots.mains.get(slot)
    if record is None or isinstance(record.phase, Exited):
        _bring_back(plan, slot, wanted_hash, record)
        return
    is_failure = reason == "unhealthy"
    at_once = is_failure or roll.is_at_once or rollout.is_at_once(plan, record, wanted_hash)
    if record.memory.stopping_since_ns is not None:
        hooks.keep(plan, "before_spawn", slot, record.incarnation)  # its successor was let through
    elif reason not in {None, "idle"} and not _may_be_replaced(
        plan, record, wanted_hash, waits_for_place=not at_once
    ):
        reason = None
    if reason and is_failure and record.memory.stopping_since_ns is None:
        record = recovery.blamed(plan, record)
    running.go_on(plan, record, reason)
    if slot in roll.put_off:
        hooks.keep(plan, "before_spawn", slot, record.incarnation)
    rollout.note_takeover(plan, record)
    if not rollout.is_settled(plan, record):
        _await(plan, slot)
    elif plan.spec.demand is not None:
        demand.measure(plan, record)


def _may_be_replaced(
    plan: Plan, record: ProcessRecord, wanted_hash: str, *, waits_for_place: bool
) -> bool:
    """Tell whether a successor could start: what it has to wait for, it waits for while the old one serves."""
    held = gates.before_replacement(plan, record, wanted_hash, waits_for_place=waits_for_place)
    if held is not None:
        plan.coming[record.id.slot] = held
    else:
        plan.begun += 1
    return held is None


def _bring_back(plan: Plan, slot: int, wanted_hash: str, dead: ProcessRecord | None) -> None:
    """Start a slot that has no process, once everything that must come before it has come."""
    held = None if dead is None else _why_not_again(plan, dead, wanted_hash)
    held = held or gates.before_start(plan, slot, dead, wanted_hash)
    if held is None:
        plan.begun += dead is None and slot > plan.want
        starting.start(plan, slot, wanted_hash, dead)
    else:
        plan.conditions[slot] = held
        if slot > plan.want:
            plan.stand_in("to serve beyond", slot)
    if held is None or held.state not in {"Completed", "Idle"}:
        _await(plan, slot)


def _await(plan: Plan, slot: int) -> None:
    """Have the watcher as a whole wait for a slot; for one beyond those wanted nobody waits."""
    if slot <= plan.want:
        plan.awaited.add(slot)


def _why_not_again(plan: Plan, dead: ProcessRecord, wanted_hash: str) -> SlotCondition | None:
    """Return why a dead slot is not started again, unless the rest of it is still to be reaped."""
    # It may have passed while its predecessor still ran.
    hooks.keep(plan, "before_spawn", dead.id.slot, dead.incarnation)
    if (followed := handover.follow(plan, dead)) is not None:
        return followed
    is_wanted = same_slot(dead.template_hash, wanted_hash) and not dead.memory.retry
    if is_wanted and stopping.is_in_background(plan.spec, dead):
        return stopping.in_background(dead)
    if is_wanted and ends.ends_at_once(plan, dead):
        return ends.ENDING
    if not stopping.reap(plan, dead):
        return plan.conditions[dead.id.slot]
    held = gates.after_death(plan, dead, wanted_hash)
    ends.see_rest(plan, dead, held)
    return held


def _drop_slot(plan: Plan, record: ProcessRecord) -> None:
    """Take the next step with a slot beyond those that shall run."""
    if not isinstance(record.phase, Exited):
        stopping.stop(plan, record, "surplus")
    elif stopping.reap(plan, record, "surplus"):
        plan.forget(record)


# ---- start and stop of the whole ------------------------------------------------------------------


def _after_start_refused(plan: Plan) -> Verdict | None:
    """Return the veto of after_start, as long as what it refused has not been undone."""
    hook = plan.spec.hooks.after_start
    record = plan.observed.records.get(plan.id(0, "after_start"))
    if hook is None or record is None:
        return None
    mains = plan.slots.mains.values()
    is_over = isinstance(record.phase, Exited)
    if is_over and (not mains or any(main.memory.fresh for main in mains)):
        plan.used.add(record.id)  # counts the vetoes in a row
    if record.memory.about not in {main.memory.start for main in mains}:
        return None
    verdict = hooks.judge(hook, record)
    return verdict if verdict.state == "vetoed" else None


def _undo_start(plan: Plan, refused: Verdict) -> None:
    """Stop what after_start refused, and forget it when the time for another start has come."""
    due_ns = hooks.retry_due_ns(plan, refused)
    plan.whole = SlotCondition("BackOff", refused.message, refused.since_ns, due_ns)
    for slot in plan.look(plan.slots.mains):
        record = plan.slots.mains[slot]
        if not isinstance(record.phase, Exited):
            stopping.stop(plan, record, "refused")
            plan.conditions[slot] = conditions.of_process(plan, record, "")
        elif stopping.reap(plan, record):
            plan.conditions[slot] = plan.whole
    for slot in plan.slots.desired(plan.want):
        plan.conditions.setdefault(slot, plan.whole)
    if not plan.observed.live and plan.is_due(due_ns):
        plan.forget_all()


def _finish_start(plan: Plan) -> None:
    """Run after_start once all slots of a start run, or have succeeded, and remember that it has passed."""
    mains = plan.slots.mains
    if not any(running.awaits_after_start(plan, record) for record in mains.values()):
        return
    wanted = [r for slot, r in plan.slots.all_mains().items() if slot <= plan.want]
    started = [record for record in wanted if isinstance(record.phase, Running)]
    completed = [record for record in wanted if is_completed(plan.spec, record)]
    fresh = [record for record in (*started, *completed) if record.memory.fresh]
    if not fresh or len(started) + len(completed) < plan.want:
        return
    if any(not running.after_spawn_passed(plan, record) for record in started):
        return
    former = plan.observed.records.get(plan.id(0, "after_start"))
    start, attempt = fresh[0].memory.start, 0
    if former is not None and former.memory.about != start:
        attempt = former.memory.attempt + 1
    if drive(plan, "after_start", 0, start, attempt=attempt).state == "passed":
        running.mark_started(plan, fresh)


def _stop_whole(plan: Plan, reason: str) -> None:
    """Stop every slot, with the hooks around it."""
    some = plan.slots.any_main()
    if some is None:
        return
    start, details = some.memory.start, {"reason": reason}
    mains = plan.slots.mains
    alive = any(not isinstance(record.phase, Exited) for record in mains.values())
    may_begin = not alive or _may_stop_whole(plan, start, details)
    for slot in plan.take_steps(mains):
        record = mains[slot]
        if isinstance(record.phase, Exited):
            stopping.reap(plan, record, reason)
        elif may_begin or record.memory.stopping_since_ns is not None:
            # Who is being stopped already, for a roll or to scale down, is killed in time whatever the others wait for.
            so_far = len(plan.actions)
            record = mains[slot] = stopping.stop(plan, record, reason)
            if stopping.is_asked(plan, record):
                plan.foreseen += len(plan.actions) - so_far
        if not stopping.is_reaped(plan, record):
            plan.awaited.add(slot)
        if slot not in plan.conditions:
            plan.conditions[slot] = conditions.of_process(plan, record, "")
    if plan.awaited or plan.slots.awaited_elsewhere or plan.unreached:
        return
    if not plan.world.stop_now:
        if hooks.is_running(plan, "after_signal"):
            return
        if drive(plan, "after_stop", 0, start, details).state == "pending":
            return
    plan.forget_all()
    gone = plan.slots.among(plan.slots.forgotten)  # the next plan looks at the others
    for slot in gone:
        plan.conditions.pop(slot, None)
    plan.foreseen += len(gone)


def _may_stop_whole(plan: Plan, start: int, details: Mapping[str, object]) -> bool:
    """Tell whether it is this watcher's turn to be stopped, and `before_stop` has run."""
    if plan.waits_to_stop:
        plan.whole = SlotCondition("Stopping", plan.why_wait_to_stop)
        return False
    if plan.world.stop_now:
        return True
    verdict = drive(plan, "before_stop", 0, start, details)
    plan.only_ends = verdict.state != "pending"
    if not plan.only_ends:
        plan.whole = hooks.held_by(plan, "before_stop", 0, verdict)
    return plan.only_ends
