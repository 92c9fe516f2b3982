"""Services: which slots run, and what is done so that they do.

A watcher is started when any slot has a record; so `before_start` runs when none has, and never for a
respawn, a roll or a new controller. Dead records stay until they are replaced, or until `after_stop` has
run: what is still to be done is always to be read from the records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.core import (
    gates,
    hooks,
    own_sockets,
    readiness,
    rollout,
    running,
    secrets,
    starting,
    stopping,
)
from reconciler.core.backoff import due_ns, gave_up, is_completed
from reconciler.core.hooks import drive, drive_with_retry
from reconciler.core.template import same_slot, slot_hash
from reconciler.model.process import MAIN, Exited, Running
from reconciler.model.units import format_duration
from reconciler.model.value import replace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reconciler.core.plan import Draft, Verdict
    from reconciler.model.process import ProcessRecord


def plan_service(draft: Draft, want: int, base_hash: str) -> None:
    """Take the next step with a service."""
    if want == 0:
        stop_whole(draft, draft.why_not_wanted)
        return
    refused = after_start_refused(draft)
    if refused is not None:
        _undo_start(draft, refused)
        return
    hashes = _slot_hashes(draft, want, base_hash)
    roll = rollout.next_slots(draft, hashes)
    if draft.stale_rest and not roll.stale:  # it is their turn
        draft.look_at_all()
        hashes = _slot_hashes(draft, want, base_hash)
        roll = rollout.next_slots(draft, hashes)
    replaced: set[int] = set()
    for slot, record in tuple(draft.mains().items()):
        if draft.is_full:
            return
        if slot > want:
            _drop_slot(draft, record)
        elif slot in roll.now and _may_be_replaced(draft, record):
            stopping.stop(draft, record, roll.now[slot])
            replaced.add(slot)
        elif slot in roll.put_off:
            hooks.keep(draft, "before_spawn", slot, record.incarnation)
    soon = roll.next | roll.now.keys()
    for slot, wanted_hash in hashes.items():
        if draft.is_full:
            return
        if slot not in replaced:
            _keep_slot(draft, slot, wanted_hash, may_rest=slot not in soon)
            draft.stale_rest |= slot in draft.resting and slot in roll.stale
    _finish_start(draft, want)


def _slot_hashes(draft: Draft, want: int, base_hash: str) -> dict[int, str]:
    token = draft.observed.intent.restart_token
    return {slot: slot_hash(base_hash, token(slot)) for slot in draft.desired_slots(want)}


def _may_be_replaced(draft: Draft, record: ProcessRecord) -> bool:
    """Tell whether a successor could start: what it has to wait for, it waits for while the old one serves."""
    if record.memory.stopping_since_ns is not None:
        hooks.keep(draft, "before_spawn", record.id.slot, record.incarnation)
        return True
    if not gates.interval_is_over(draft, record.id.slot):
        hooks.keep(draft, "before_spawn", record.id.slot, record.incarnation)
        return False
    verdict = drive_with_retry(draft, "before_spawn", record.id.slot, record.incarnation)
    return verdict.state == "passed"


def _drop_slot(draft: Draft, record: ProcessRecord) -> None:
    """Take the next step with a slot beyond those that shall run."""
    if not isinstance(record.phase, Exited):
        stopping.stop(draft, record, "surplus")
    elif stopping.reap(draft, record, "surplus"):
        draft.forget(record)


# ---- one slot -------------------------------------------------------------------------------------


def _keep_slot(draft: Draft, slot: int, wanted_hash: str, *, may_rest: bool) -> None:
    """Take the next step for a slot that shall run."""
    record = draft.mains().get(slot)
    if record is None:
        _start_slot(draft, slot, wanted_hash, None)
        return
    if isinstance(record.phase, Exited):
        # It may have passed while its predecessor still ran.
        hooks.keep(draft, "before_spawn", slot, record.incarnation)
        is_wanted = same_slot(record.template_hash, wanted_hash) and not record.memory.retry
        in_background = is_wanted and stopping.is_in_background(draft.spec, record)
        if in_background or not stopping.reap(draft, record):
            draft.held[slot] = stopping.remains(draft, record)
        elif _may_start_again(draft, record, wanted_hash):
            _start_slot(draft, slot, wanted_hash, record)
        else:
            _hold_dead(draft, record)
    elif record.memory.stopping_since_ns is not None:
        stopping.stop(draft, record, record.memory.stop_reason)
    elif isinstance(record.phase, Running):
        calm = running.attend(draft, record)
        steady = readiness.is_ready(draft, record) and not readiness.is_shaky(draft, record)
        if steady and calm and may_rest:
            _let_rest(draft, record, record.phase.started_at_ns)


def _let_rest(draft: Draft, record: ProcessRecord, started_at_ns: int) -> None:
    """Leave a slot out of the next plans when it concerns no other one, nor the revision's verdict."""
    spec, slot = draft.spec, record.id.slot
    if spec.hooks.after_start is not None or slot in draft.restless:
        return
    if record.memory.in_a_row >= rollout.MOST_IN_A_ROW:
        return  # its replacement may be held back just now
    if spec.spawn_interval and not draft.is_due(started_at_ns + spec.spawn_interval):
        return  # the next slot waits for it
    draft.resting[slot] = None if spec.max_age is None else rollout.end_ns(spec, record)


def _may_start_again(draft: Draft, record: ProcessRecord, wanted_hash: str) -> bool:
    """Tell whether a dead slot shall be started now; asks to be woken when it is a matter of time."""
    assert isinstance(record.phase, Exited)
    if record.memory.stopping_since_ns is not None:
        return record.memory.stop_reason != "vetoed" or draft.is_due(
            due_ns(draft.spec.backoff, record)
        )
    spec, changed = draft.spec, not same_slot(record.template_hash, wanted_hash)
    if changed or record.memory.retry:
        return True
    if is_completed(spec, record):
        return False
    if gave_up(spec.max_restarts, record):
        retry_in = spec.max_restarts.retry_in if spec.max_restarts else None
        return retry_in is not None and draft.is_due(record.phase.at_ns + retry_in)
    return draft.is_due(due_ns(draft.spec.backoff, record))


def _hold_dead(draft: Draft, record: ProcessRecord) -> None:
    """Say why a dead slot is not started again, or not yet."""
    assert isinstance(record.phase, Exited)
    slot, phase, limit = record.id.slot, record.phase, draft.spec.max_restarts
    if is_completed(draft.spec, record):
        draft.hold(slot, "Completed", str(phase.exit), phase.at_ns)
    elif limit is not None and gave_up(limit, record):
        window = format_duration(limit.window)
        note = f"gave up after more than {limit.count} restarts in {window}; last: {phase.exit}"
        due_ns = None if limit.retry_in is None else phase.at_ns + limit.retry_in
        draft.hold(slot, "Failed", note, phase.at_ns, due_ns)
    else:
        gates.hold_death(draft, record)


def _death_due_ns(draft: Draft, record: ProcessRecord) -> int:
    return due_ns(draft.spec.backoff, record)


def _start_slot(draft: Draft, slot: int, wanted_hash: str, dead: ProcessRecord | None) -> None:
    """Start a slot, once everything that must come before it has come."""
    about = 0 if dead is None else dead.incarnation
    hooks.keep(draft, "before_spawn", slot, about)
    if not secrets.ready(draft):
        gates.hold_at_gate(draft, slot)
        return
    start = _start_of_watcher(draft)
    if start is None:
        hooks.hold(draft, slot, "before_start", 0)
        return
    if not gates.may_spawn(draft, slot):
        gates.hold_at_gate(draft, slot)
        return
    if drive_with_retry(draft, "before_spawn", slot, about).state != "passed":
        hooks.hold(draft, slot, "before_spawn", slot)
        return
    if not own_sockets.ready(draft, slot):
        gates.hold_at_gate(draft, slot)
        return
    memory = starting.inherited(draft, dead, start, wanted_hash)
    if dead is not None:
        failed_at_ns = rollout.failed_at_ns(draft, dead, wanted_hash)
        renewed = starting.why_renewed(dead, wanted_hash)
        again = rollout.in_a_row(dead, wanted_hash)
        memory = replace(memory, failed_at_ns=failed_at_ns, renewed=renewed, in_a_row=again)
    starting.spawn(draft, slot, wanted_hash, memory, dead)


def _start_of_watcher(draft: Draft) -> int | None:
    """Return when the watcher's present start began, or None while `before_start` has not passed."""
    for record in draft.mains().values():
        return record.memory.start
    if draft.awake is not None:  # the others run
        for id, record in draft.observed.records.items():
            if id.role == MAIN and id.slot not in draft.awake:
                return record.memory.start
    if drive_with_retry(draft, "before_start", 0, 0).state != "passed":
        return None
    return draft.now_ns


# ---- start and stop of the whole ------------------------------------------------------------------


def after_start_refused(draft: Draft) -> Verdict | None:
    """Return the veto of after_start, as long as what it refused has not been undone."""
    hook = draft.spec.hooks.after_start
    record = draft.observed.records.get(draft.id(0, "after_start"))
    if hook is None or record is None:
        return None
    mains = draft.mains().values()
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
    for slot, record in draft.mains().items():
        if not isinstance(record.phase, Exited):
            stopping.stop(draft, record, "refused")
        elif stopping.reap(draft, record):
            draft.hold(slot, "BackOff", refused.message, refused.since_ns, due_ns)
    if draft.has_live_mains() or not draft.is_due(due_ns):
        return
    _forget_mains(draft)


def _finish_start(draft: Draft, want: int) -> None:
    """Run after_start once all slots of a start run, or have succeeded, and remember that it has passed."""
    if draft.spec.hooks.after_start is None:
        return
    mains = draft.mains()
    started = [
        mains[s] for s in range(1, want + 1) if s in mains and isinstance(mains[s].phase, Running)
    ]
    completed = [r for r in mains.values() if r.id.slot <= want and is_completed(draft.spec, r)]
    fresh = [record for record in (*started, *completed) if record.memory.fresh]
    if not fresh or len(started) + len(completed) < want:
        return
    if any(not running.after_spawn_passed(draft, record) for record in started):
        return
    id = draft.id(0, "after_start")
    former = draft.observed.records.get(id)
    attempt = (
        0
        if former is None or former.memory.about == fresh[0].memory.start
        else former.memory.attempt + 1
    )
    verdict = drive(draft, "after_start", 0, fresh[0].memory.start, attempt=attempt)
    if verdict.state == "passed":
        running.mark_started(draft, fresh)


def stop_whole(draft: Draft, reason: str) -> bool:
    """Stop every slot, with the hooks around it; True when nothing of the watcher is left."""
    mains = draft.mains()
    if not mains:
        return True
    start = next(iter(mains.values())).memory.start
    alive = [record for record in mains.values() if not isinstance(record.phase, Exited)]
    details = {"reason": reason}
    may_begin = not alive or _may_stop_whole(draft, start, details)
    reaped = True
    for record in mains.values():
        if draft.is_full:
            return False
        if isinstance(record.phase, Exited):
            stopping.reap(draft, record, reason)
            reaped = reaped and stopping.is_reaped(draft, record)
            continue
        reaped = False
        # Who is being stopped already, for a roll or to scale down, is killed in time whatever the others wait for.
        if may_begin or record.memory.stopping_since_ns is not None:
            stopping.stop(draft, record, reason)
    if not reaped:
        return False
    if hooks.is_running(draft, "after_signal") and not draft.world.stop_now:
        return False
    if (
        not draft.world.stop_now
        and drive(draft, "after_stop", 0, start, details).state == "pending"
    ):
        return False
    _forget_mains(draft)
    return True


def _may_stop_whole(draft: Draft, start: int, details: Mapping[str, object]) -> bool:
    """Tell whether it is this watcher's turn to be stopped, and `before_stop` has run."""
    if draft.waits_to_stop:
        return False
    is_now = draft.world.stop_now
    return is_now or drive(draft, "before_stop", 0, start, details).state != "pending"


def _forget_mains(draft: Draft) -> None:
    for record in tuple(draft.mains().values()):
        if draft.is_full:
            return
        draft.forget(record)
