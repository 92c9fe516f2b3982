"""The plan of one watcher: which slots shall run, start and stop of the whole, and services.

A watcher is started when any slot has a record; so `before_start` runs when none has, and never for a
respawn, a roll or a new controller. Dead records stay until they are replaced, or until `after_stop` has
run: what is still to be done is always to be read from the records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.core import hooks, intents, jobs, readiness, rollout, secrets, settings, stopping
from reconciler.core.backoff import (
    due_ns,
    ended_by_operator,
    failures_after,
    gave_up,
    is_completed,
    recent_deaths,
)
from reconciler.core.hooks import drive, drive_with_retry, sweep
from reconciler.core.sockets import template_of, waiting_for, why_waiting
from reconciler.core.template import (
    held_name,
    launch,
    same_slot,
    same_template,
    slot_hash,
    sockets_of,
)
from reconciler.model.action import (
    Bind,
    RecordIntent,
    Remember,
    Signal,
    Spawn,
    Unbind,
)
from reconciler.model.event import Delivery
from reconciler.model.process import MAIN, Exited, Memory, ProcessRecord, Running, pid_of
from reconciler.model.socket import BindRefused, Bound
from reconciler.model.spec import ReloadByCommand, ReloadBySignal
from reconciler.model.units import format_duration
from reconciler.model.value import replace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reconciler.core.plan import Draft, Plan, Verdict
    from reconciler.model.intent import Intent
    from reconciler.model.socket import SocketRecord
    from reconciler.model.spec import WatcherSpec


BEING_STARTED: Final = "is being started"


def count(spec: WatcherSpec, intent: Intent) -> int:
    """Return how many slots a watcher has, by the spec and the operator's `scale`."""
    return spec.numprocesses if intent.scale is None else intent.scale


def wanted(spec: WatcherSpec, intent: Intent) -> int:
    """Return how many slots run, by the spec and the operator's override.

    Of a job: how many a generation has. Without `autostart` only an operator begins one.
    """
    starts = spec.autostart or spec.is_job or intent.hold == "started"
    return count(spec, intent) if starts and intent.hold != "stopped" else 0


def why_idle(name: str, spec: WatcherSpec, intent: Intent) -> str:
    """Return why nothing of a watcher shall run, with what changes that; empty when something shall."""
    if intent.hold == "stopped":
        by = f" by {intent.hold_voice.who}" if intent.hold_voice.who else ""
        return f"it is stopped{by}; `reconcile start {name}` starts it"
    if not count(spec, intent):
        if intent.scale is None:
            return f"numprocesses is 0; `reconcile scale {name}=N` starts N"
        return f"it is scaled to 0; `reconcile scale {name}=N` starts N, {name}=spec as many as in the spec"
    if not wanted(spec, intent):
        return f"autostart is false; `reconcile start {name}` starts it"
    return ""


def plan_watcher(draft: Draft, base_hash: str) -> Plan:
    """Return what to do for one watcher now. `base_hash` is the hash of what its spec runs."""
    if _words_end(draft):
        return draft.finish()
    settings.adjust(draft)
    want = (
        0
        if draft.retired or draft.world.shutting_down
        else wanted(draft.spec, draft.observed.intent)
    )
    draft.want = want
    if draft.spec.is_job:
        jobs.plan_job(draft, want, base_hash)
    else:
        _plan_service(draft, want, base_hash)
    _send_signals(draft)
    if not draft.is_unfinished:
        _tend_own_sockets(draft)
        sweep(draft)
    return draft.finish()


def _words_end(draft: Draft) -> bool:
    """Tell whether some of the operator's words are over now; it is planned again without them."""
    intent = draft.observed.intent
    end_ns = intents.next_end_ns(intent)
    if end_ns is None or not draft.is_due(end_ns):
        return False
    draft.act(RecordIntent(draft.name, intents.in_force(intent, draft.now_ns)))
    return True


def why_not_wanted(draft: Draft) -> str:
    """Return the reason that goes with stopping a whole watcher."""
    if draft.world.shutting_down:
        return "shutdown"
    return "removed" if draft.retired else "stopped"


# ---- services -------------------------------------------------------------------------------------


def _plan_service(draft: Draft, want: int, base_hash: str) -> None:
    if want == 0:
        stop_whole(draft, why_not_wanted(draft))
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
    if not _interval_is_over(draft, record.id.slot):
        hooks.keep(draft, "before_spawn", record.id.slot, record.incarnation)
        return False
    verdict = drive_with_retry(draft, "before_spawn", record.id.slot, record.incarnation)
    return verdict.state == "passed"


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
        if in_background or not stopping.bury(draft, record):
            draft.held[slot] = stopping.remains(draft, record)
        elif _may_start_again(draft, record, wanted_hash):
            _start_slot(draft, slot, wanted_hash, record)
        else:
            _hold_dead(draft, record)
    elif record.memory.stopping_since_ns is not None:
        stopping.stop(draft, record, record.memory.stop_reason)
    elif isinstance(record.phase, Running):
        calm = _attend(draft, record)
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
        return record.memory.stop_reason != "vetoed" or draft.is_due(_death_due_ns(draft, record))
    spec, changed = draft.spec, not same_slot(record.template_hash, wanted_hash)
    if changed or record.memory.retry:
        return True
    if is_completed(spec, record):
        return False
    if gave_up(spec.max_restarts, record):
        retry_in = spec.max_restarts.retry_in if spec.max_restarts else None
        return retry_in is not None and draft.is_due(record.phase.at_ns + retry_in)
    return draft.is_due(_death_due_ns(draft, record))


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
        hold_death(draft, record)


def hold_death(draft: Draft, record: ProcessRecord) -> None:
    """Say how a process ended that is started again after a while."""
    assert isinstance(record.phase, Exited)
    slot, phase = record.id.slot, record.phase
    failures = failures_after(draft.spec.backoff, record.memory, phase)
    vetoed = record.memory.stop_reason == "vetoed"
    note = (vetoed and hooks.said(draft, "after_spawn", slot)) or str(phase.exit)
    note += f", {failures} times in a row" if failures > 1 else ""
    draft.hold(slot, "BackOff", note, phase.at_ns, _death_due_ns(draft, record))


def _death_due_ns(draft: Draft, record: ProcessRecord) -> int:
    return due_ns(draft.spec.backoff, record)


def _start_slot(draft: Draft, slot: int, wanted_hash: str, dead: ProcessRecord | None) -> None:
    """Start a slot, once everything that must come before it has come."""
    about = 0 if dead is None else dead.incarnation
    hooks.keep(draft, "before_spawn", slot, about)
    if not secrets.ready(draft):
        hold_at_gate(draft, slot)
        return
    start = _start_of_watcher(draft)
    if start is None:
        hooks.hold(draft, slot, "before_start", 0)
        return
    if not may_spawn(draft, slot):
        hold_at_gate(draft, slot)
        return
    if drive_with_retry(draft, "before_spawn", slot, about).state != "passed":
        hooks.hold(draft, slot, "before_spawn", slot)
        return
    if not own_sockets_ready(draft, slot):
        hold_at_gate(draft, slot)
        return
    memory = _inherited(draft, dead, start, wanted_hash)
    if dead is not None:
        failed_at_ns = rollout.failed_at_ns(draft, dead, wanted_hash)
        renewed = _why_renewed(dead, wanted_hash)
        again = rollout.in_a_row(dead, wanted_hash)
        memory = replace(memory, failed_at_ns=failed_at_ns, renewed=renewed, in_a_row=again)
    spawn(draft, slot, wanted_hash, memory, dead)


def spawn(
    draft: Draft, slot: int, template_hash: str, memory: Memory, dead: ProcessRecord | None
) -> None:
    """Start the process of a slot, in place of its dead one."""
    draft.hold(slot, "Starting", BEING_STARTED, draft.now_ns)
    if draft.is_dry:
        return
    what = launch(draft.name, draft.spec, slot, draft.world.socket_specs, draft.world.facts)
    replaces = 0 if dead is None else dead.incarnation
    memory = replace(memory, reloaded=draft.observed.intent.reload_number(slot))
    draft.act(Spawn(draft.id(slot), what, template_hash, memory, replaces))


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


def _inherited(draft: Draft, dead: ProcessRecord | None, start: int, wanted_hash: str) -> Memory:
    """Return the memory of a new process: what its slot and its watcher went through."""
    fresh = draft.spec.hooks.after_start is not None and all(
        record.memory.fresh for record in draft.mains().values()
    )
    if dead is None:
        return Memory(start=start, fresh=fresh)
    assert isinstance(dead.phase, Exited)
    old = dead.memory
    # A start that nobody saw come to be is done over: the first one and this are the same start. One that never
    # was, because there was no program to execute, is none.
    never_ran = dead.phase.is_unseen or dead.phase.exit.error is not None
    planned = old.stopping_since_ns is not None and old.stop_reason != "vetoed"
    kept = Memory(
        restarts=old.restarts + (not never_ran and not planned),
        replacements=old.replacements + (not never_ran and planned),
        start=start,
        fresh=old.fresh,
    )
    anew = old.retry or not same_slot(dead.template_hash, wanted_hash)
    if planned or anew or gave_up(draft.spec.max_restarts, dead):
        return kept
    return replace(
        kept,
        attempt=failures_after(draft.spec.backoff, old, dead.phase),
        deaths_ns=recent_deaths(draft.spec.max_restarts, old, dead.phase),
    )


def _why_renewed(dead: ProcessRecord, wanted_hash: str) -> str:
    """Return why a process takes the place of one of the same template; empty when that had another one."""
    memory, phase = dead.memory, dead.phase
    if not same_template(dead.template_hash, wanted_hash):
        return ""
    if memory.stopping_since_ns is not None:
        return {"replaced": "was restarted", "expired": "was replaced at its max_age"}.get(
            memory.stop_reason, "was restarted"
        )
    if isinstance(phase, Exited) and ended_by_operator(memory, phase):
        sent = "reload" if memory.signalled.startswith("reload") else f"SIG{memory.signalled}"
        return f"was ended by an operator's {sent}"
    return "was restarted after its end"


# ---- gates that services and jobs share -----------------------------------------------------------


def may_spawn(draft: Draft, slot: int) -> bool:
    """Tell whether secrets, sockets and the pause between two slots let this slot start now."""
    return secrets.ready(draft) and _sockets_ready(draft, slot) and _interval_is_over(draft, slot)


def _interval_is_over(draft: Draft, slot: int) -> bool:
    """Tell whether the pause since the start of another slot (`spawn_interval`) is over."""
    interval = draft.spec.spawn_interval
    if not interval:
        return True
    newest = draft.newest_starts()
    if newest is None:  # one that is asked for but not running yet comes before this one
        return False
    start_ns = next((start_ns for start_ns, other in newest if other != slot), None)
    return start_ns is None or draft.is_due(start_ns + interval)


def gates_open(draft: Draft, slot: int) -> bool:
    """Tell whether a slot whose hooks have passed may start now; says why where it may not."""
    if may_spawn(draft, slot) and own_sockets_ready(draft, slot):
        return True
    hold_at_gate(draft, slot)
    return False


def hold_at_gate(draft: Draft, slot: int) -> None:
    """Say which gate keeps a slot from being started: secrets, a socket, or the pause after another slot."""
    reasons = (why_waiting(draft.world, name, slot) for name in sockets_of(draft.spec))
    reason = secrets.waiting_note(draft) or next(filter(None, reasons), "")
    if reason:
        draft.hold(slot, "Waiting", reason)
    elif slot not in draft.binding and draft.spec.spawn_interval:
        newest = draft.newest_starts() or ()
        interval = draft.spec.spawn_interval
        due_ns = next((at + interval for at, other in newest if other != slot), None)
        note = f"waiting for its turn: spawn_interval is {format_duration(interval)}"
        draft.hold(slot, "Waiting", note, 0, due_ns)
    else:
        draft.hold(slot, "Starting", BEING_STARTED)


def _sockets_ready(draft: Draft, slot: int) -> bool:
    """Tell whether every socket that a slot shares with others is bound as its spec says."""
    specs = draft.world.socket_specs
    shared = [name for name in sockets_of(draft.spec) if not specs[name].reuseport]
    return all(waiting_for(draft.world, name, slot) is None for name in shared)


def own_sockets_ready(draft: Draft, slot: int) -> bool:
    """Bind the sockets that a slot has for itself (reuseport); true once they are.

    The last gate before a start: one that listens gets its share of the clients, whoever accepts. Hence, too, one
    after the other, and first the one that was refused: none listens while its slot waits for another.
    """
    world = draft.world
    held = {name: held_name(name, slot, world.socket_specs) for name in _own_sockets(draft)}
    order = sorted(held, key=lambda name: not _is_refused(world.sockets.get(held[name])))
    for name in order:
        waiting = waiting_for(world, name, slot)
        if waiting is None:
            continue
        if waiting.bind is None:
            draft.binding.add(slot)  # asked for
        elif draft.is_due(waiting.due_ns):
            draft.binding.add(slot)
            draft.act(waiting.bind)
        return False
    return True


def _own_sockets(draft: Draft) -> list[str]:
    specs = draft.world.socket_specs
    used = dict.fromkeys(sockets_of(draft.spec))
    return [name for name in used if name in specs and specs[name].reuseport]


def _is_refused(record: SocketRecord | None) -> bool:
    return record is not None and isinstance(record.phase, BindRefused)


def _tend_own_sockets(draft: Draft) -> None:
    """Close the sockets of slots (reuseport) that neither live nor are just about to; tune those of the others."""
    own = _own_sockets(draft)
    if not own:
        return
    coming = {action.id.slot for action in draft.actions if isinstance(action, Spawn)}
    alive = {slot for slot, record in draft.mains().items() if not draft.is_gone(record)}
    living, sockets, specs = alive | coming, draft.world.sockets, draft.world.socket_specs
    if draft.awake is None:
        looked_at = [held for held in sockets if held.partition(".")[0] in own]
    else:
        looked_at = [held_name(name, slot, specs) for slot in sorted(draft.awake) for name in own]
    for held in looked_at:
        known, (name, _, slot) = sockets.get(held), held.partition(".")
        if known is None or not isinstance(known.phase, Bound):
            continue
        template = template_of(draft.world.socket_specs[name])
        if int(slot) not in living | draft.binding:
            draft.act(Unbind(held))
        elif known.template != template and known.template.identity == template.identity:
            if int(slot) not in draft.binding:
                draft.act(Bind(held, template))


# ---- running slots --------------------------------------------------------------------------------


def _attend(draft: Draft, record: ProcessRecord) -> bool:
    """See to a slot that runs and goes on; True when nothing is left to be done for it."""
    assert isinstance(record.phase, Running)
    if not greet(draft, record):
        return False
    carry_out_reload(draft, record)
    return not is_asked(draft, record)


def is_asked(draft: Draft, record: ProcessRecord) -> bool:
    """Tell whether operators want something of a process that has not been carried out yet."""
    number = draft.observed.intent.reload_number(record.id.slot)
    return record.id in draft.observed.requests or record.memory.reloaded < number


def is_greeted(draft: Draft, record: ProcessRecord) -> bool:
    """Tell whether after_spawn has passed for a process, or there is none."""
    return record.memory.greeted or draft.spec.hooks.after_spawn is None


def greet(draft: Draft, record: ProcessRecord) -> bool:
    """Run after_spawn once; a veto stops the process. True when it is greeted."""
    if is_greeted(draft, record):
        return True
    assert isinstance(record.phase, Running)
    details = {"pid": record.phase.pid}
    verdict = drive(draft, "after_spawn", record.id.slot, record.incarnation, details)
    if verdict.state == "passed":
        memory = replace(record.memory, greeted=True)
        draft.act(Remember(record.id, record.incarnation, memory))
    elif verdict.state == "vetoed":
        stopping.stop(draft, record, "vetoed")
    return False


def carry_out_reload(draft: Draft, record: ProcessRecord) -> None:
    """Carry out the newest reload that an operator asked for, unless this process has, or began after it."""
    slot = record.id.slot
    number, reload = draft.observed.intent.reload_number(slot), draft.spec.reload
    if record.memory.reloaded >= number:
        return
    # Noted before: what it ends says nothing against the program, whoever of us is there to see it.
    signalled = replace(record.memory, signalled=f"reload {number}", signalled_at_ns=draft.now_ns)
    noted = Remember(record.id, record.incarnation, signalled)
    if isinstance(reload, ReloadByCommand):
        if record.memory.signalled != signalled.signalled:
            draft.act(noted)
        verdict = hooks.run_reload(draft, slot, number, reload.cmd)
    elif isinstance(reload, ReloadBySignal):
        verdict = _before_signal(draft, record, number, reload.signal)
    else:  # edited meanwhile
        verdict = hooks.PASSED
    if verdict.state == "pending":
        return
    if verdict.state == "passed" and isinstance(reload, ReloadBySignal):
        draft.act(noted, Signal(record.id, record.incarnation, reload.signal, "process"))
    # Remembered last: a controller that dies in between reloads twice, never not at all.
    memory = signalled if verdict.state == "passed" else record.memory
    memory = replace(memory, reloaded=number, reload_trouble=verdict.message)
    draft.act(Remember(record.id, record.incarnation, memory))


def _send_signals(draft: Draft) -> None:
    """Send the oldest signal that an operator asked for to each process, also to one that is being stopped."""
    if not draft.observed.requests:
        return
    told = {each.id: each.memory for each in draft.actions if isinstance(each, Remember)}
    for id, (request, *_) in draft.observed.requests.items():
        record = draft.observed.records.get(id)
        if record is None or record.incarnation != request.incarnation:
            continue
        awaits_hook = draft.spec.hooks.after_spawn is not None and not record.memory.greeted
        if not isinstance(record.phase, Running) or (
            awaits_hook and record.memory.stopping_since_ns is None
        ):
            continue
        verdict = _before_signal(draft, record, request.at_ns, request.signal)
        if verdict.state == "pending":
            continue
        sent = verdict.state == "passed" or request.signal == "KILL"
        draft.answered.append(Delivery(request, "" if sent else verdict.message))
        if sent:  # noted first: what it ends says nothing against the program
            memory = told.get(id, record.memory)
            memory = replace(memory, signalled=request.signal, signalled_at_ns=draft.now_ns)
            draft.act(Remember(id, record.incarnation, memory))
            draft.act(Signal(id, record.incarnation, request.signal, request.reach))


def _before_signal(draft: Draft, record: ProcessRecord, about: int, signal: str) -> Verdict:
    """Ask the hook before_signal about a signal of an operator; the stop of the process comes first."""
    if draft.id(record.id.slot, "before_signal") in draft.verdicts:
        return hooks.PENDING
    details = {"pid": pid_of(record.phase), "signum": signal}
    return drive(draft, "before_signal", record.id.slot, about, details)


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
        elif stopping.bury(draft, record):
            draft.hold(slot, "BackOff", refused.message, refused.since_ns, due_ns)
    if draft.has_live_mains() or not draft.is_due(due_ns):
        return
    _forget_mains(draft)


def _finish_start(draft: Draft, want: int) -> None:
    """Run after_start once all slots of a start run, or have succeeded, and remember that it has passed."""
    if draft.spec.hooks.after_start is None:
        return
    mains = draft.mains()
    running = [
        mains[s] for s in range(1, want + 1) if s in mains and isinstance(mains[s].phase, Running)
    ]
    completed = [r for r in mains.values() if r.id.slot <= want and is_completed(draft.spec, r)]
    fresh = [record for record in (*running, *completed) if record.memory.fresh]
    if not fresh or len(running) + len(completed) < want:
        return
    if any(not is_greeted(draft, record) for record in running):
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
        mark_started(draft, fresh)


def mark_started(draft: Draft, fresh: list[ProcessRecord]) -> None:
    """Remember that after_start has passed for these processes."""
    for record in fresh:
        memory = replace(record.memory, fresh=False)
        draft.act(Remember(record.id, record.incarnation, memory))


def _drop_slot(draft: Draft, record: ProcessRecord) -> None:
    """Take the next step with a slot beyond those that shall run."""
    if not isinstance(record.phase, Exited):
        stopping.stop(draft, record, "surplus")
    elif stopping.bury(draft, record, "surplus"):
        draft.forget(record)


def stop_whole(draft: Draft, reason: str) -> bool:
    """Stop every slot, with the hooks around it; True when nothing of the watcher is left."""
    mains = draft.mains()
    if not mains:
        return True
    start = next(iter(mains.values())).memory.start
    alive = [record for record in mains.values() if not isinstance(record.phase, Exited)]
    details = {"reason": reason}
    may_begin = not alive or _may_stop_whole(draft, start, details)
    buried = True
    for record in mains.values():
        if draft.is_full:
            return False
        if isinstance(record.phase, Exited):
            stopping.bury(draft, record, reason)
            buried = buried and is_buried(draft, record)
            continue
        buried = False
        # Who is being stopped already, for a roll or to scale down, is killed in time whatever the others wait for.
        if may_begin or record.memory.stopping_since_ns is not None:
            stopping.stop(draft, record, reason)
    if not buried:
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


def is_buried(draft: Draft, record: ProcessRecord) -> bool:
    """Tell whether nothing is left of a dead process and its reap hooks have run."""
    hooks_done = record.memory.reaped or (
        draft.spec.hooks.before_reap is None and draft.spec.hooks.after_reap is None
    )
    return draft.is_gone(record) and hooks_done and stopping.stop_command(draft, record) is None


def _forget_mains(draft: Draft) -> None:
    for record in tuple(draft.mains().values()):
        if draft.is_full:
            return
        draft.forget(record)
