"""What status shows of watchers and sockets: a print-out of what their plans say; nothing is worked out here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

from reconciler.core import dependencies, desired, generations, health, rollout, running, timetable
from reconciler.core.plan import Plan, World
from reconciler.core.slots import URGENCY, SlotCondition
from reconciler.core.template import same_template, told_sockets
from reconciler.model.intent import NO_INTENT, Intent, RequestedBy
from reconciler.model.job import Instant
from reconciler.model.process import Exited, Memory, ProcessRecord, pid_of
from reconciler.model.socket import BindRefused, Bound
from reconciler.model.spec import WatcherSpec
from reconciler.model.status import (
    CALM,
    Condition,
    Fired,
    LastProbe,
    Override,
    SlotState,
    SlotStatus,
    SocketStatus,
    WatcherState,
    WatcherStatus,
    usual_conditions,
)
from reconciler.model.units import format_duration
from reconciler.model.value import Struct, replace

Wall = Callable[[int], int]
"""From monotonic nanoseconds to nanoseconds since the epoch."""


class _View(Struct, frozen=True):
    plan: Plan
    said: Mapping[int, str]
    base_hash: str
    wall: Wall
    next_runs: tuple[Instant, ...]

    def records(self) -> Iterator[ProcessRecord]:
        """Yield the records of the slots' own processes."""
        mains = map(self.plan.slots.main, self.plan.conditions)
        return (record for record in mains if record is not None)


def watcher_status(
    plan: Plan, said: Mapping[int, str], base_hash: str, wall_offset_ns: int
) -> WatcherStatus:
    """Return the status of one watcher, by the conditions of a plan.

    `said` is what the last processes of its slots wrote last.
    """
    spec, observed = plan.spec, plan.observed
    runs = timetable.next_runs(plan, wall_offset_ns)
    view = _View(plan, said, base_hash, lambda at_ns: at_ns + wall_offset_ns, runs)
    slots = tuple(
        _quoted(view, _slot(view, slot, condition))
        for slot, condition in sorted(plan.conditions.items())
    )
    # Those beyond the wanted ones serve in place of others.
    ready = min(sum(_is_ready(view, slot) for slot in slots), _shown_want(view))
    state, note = _overall(view, slots)
    as_desired = _as_desired(view, slots, state)
    conditions = _conditions(view, slots, ready, note, as_desired=as_desired)
    since = _since(slots)
    restarts = sum(slot.restarts for slot in slots)
    found = WatcherStatus(
        plan.name,
        "job" if spec.is_job else "service" if spec.access is None else "plugin",
        _shown_want(view),
        state,
        ready,
        restarts,
        note,
        as_desired,
        since,
        conditions,
        slots,
        overrides(spec, observed.intent, wall_offset_ns),
        not plan.retired and drifts(spec, observed.intent),
        sum(slot.replacements for slot in slots),
        spec.numprocesses_formula if _shown_want(view) == spec.numprocesses else "",
        runs,
        dependencies.statuses(plan),
    )
    is_usual = as_desired and conditions == usual_conditions(found)
    return replace(found, told_conditions=None) if is_usual else found


def _since(slots: tuple[SlotStatus, ...]) -> int:
    """Return since when the longest of the running processes runs; when none runs, when the last slot changed."""
    running = [slot.since_ns for slot in slots if slot.state == "Running"]
    return min(running) if running else max((slot.since_ns for slot in slots), default=0)


def overrides(spec: WatcherSpec, intent: Intent, wall_offset_ns: int) -> tuple[Override, ...]:
    """Return the overrides of a watcher in force, for people."""
    found = []
    if intent.hold is not None:
        found.append(_override(intent.hold, intent.hold, intent.hold_by, wall_offset_ns))
    if intent.scale is not None:
        what = f"scaled to {intent.scale} instead of {spec.numprocesses}"
        scaled = _override("scaled", what, intent.scale_by, wall_offset_ns)
        found.append(replace(scaled, numprocesses=intent.scale))
    return tuple(found)


def _override(
    what: Literal["stopped", "started", "scaled"], said: str, by: RequestedBy, wall_offset_ns: int
) -> Override:
    until_ns = None if by.until is None else by.until.at_ns + wall_offset_ns
    return Override(
        what, said + (f" by {by.who}" if by.who else ""), by.who, by.why, by.wall_ns, until_ns
    )


def drifts(spec: WatcherSpec, intent: Intent) -> bool:
    """Tell whether a watcher runs otherwise than its spec alone would have it."""
    return desired.wanted(spec, intent) != desired.wanted(spec, NO_INTENT)


def _shown_want(view: _View) -> int:
    plan = view.plan
    shows_all = plan.spec.is_job and not plan.retired
    return desired.count(plan.spec, plan.observed.intent) if shows_all else plan.want


def _is_ready(view: _View, slot: SlotStatus) -> bool:
    serves = {"Completed", "Scheduled"} if view.plan.spec.is_job else {"Running"}
    return slot.state in serves


# ---- one slot -------------------------------------------------------------------------------------


def _slot(view: _View, slot: int, condition: SlotCondition) -> SlotStatus:
    record, run = view.plan.slots.main(slot), view.plan.observed.job.runs.get(slot)
    exit = run.exit if run is not None else None
    has_run = view.plan.spec.is_job and run is not None and run.outcome is not None
    if record is not None and has_run and isinstance(record.phase, Exited):
        record = None  # the run says all of it
    elif record is not None:
        exit = record.phase.exit if isinstance(record.phase, Exited) else None
    memory = Memory() if record is None else record.memory
    return SlotStatus(
        slot,
        condition.state,
        _since_of(view, slot, condition),
        None if record is None else pid_of(record.phase),
        memory.attempt,
        memory.restarts,
        memory.replacements,
        None if condition.next_ns is None else view.wall(condition.next_ns),
        record is not None and condition.outdated,
        exit,
        _fired(view, slot),
        condition.note,
        stuck=condition.stuck,
        said="" if record is None or record.notified is None else record.notified.status,
        ready=condition.ready,
        last_probe=None if record is None else _last_probe(view, record),
        renewed=memory.renewed,
    )


def _last_probe(view: _View, record: ProcessRecord) -> LastProbe | None:
    found = health.last_probe(view.plan, record)
    if found is None:
        return None
    kind, answer = found
    at_ns = view.wall(answer.at_ns) if answer.at_ns else 0
    return LastProbe(kind, answer.passed, answer.message, at_ns)


def _since_of(view: _View, slot: int, condition: SlotCondition) -> int:
    """Return since when a slot does what it does, in wall time; 0: unknown."""
    if condition.since_ns:
        return view.wall(condition.since_ns)
    record, run = view.plan.slots.main(slot), view.plan.observed.job.runs.get(slot)
    if record is not None and isinstance(record.phase, Exited) and not view.plan.spec.is_job:
        return view.wall(record.phase.at_ns)
    if run is None or condition.state in {"Waiting", "BackOff"}:
        return 0
    return run.ended_wall_ns or run.fired_wall_ns or view.wall(run.fired_at_ns)


def _quoted(view: _View, slot: SlotStatus) -> SlotStatus:
    """Return a slot that ends again and again with what its process said last."""
    line = view.said.get(slot.slot, "")
    ended = slot.exit is not None and slot.exit.error is None
    if not line or not (slot.state == "Failing" or (slot.state in {"BackOff", "Failed"} and ended)):
        return slot
    return replace(slot, note=f"{slot.note}: {line}")


def _fired(view: _View, slot: int) -> Fired | None:
    run = view.plan.observed.job.runs.get(slot)
    if run is None:
        return None
    return Fired(
        run.generation,
        run.fired_wall_ns or view.wall(run.fired_at_ns),
        run.outcome,
        run.duration_ns,
    )


# ---- the whole watcher ----------------------------------------------------------------------------


def _overall(view: _View, slots: tuple[SlotStatus, ...]) -> tuple[WatcherState, str]:
    """Return the one word and the one sentence that say most about a watcher."""
    plan, spec = view.plan, view.plan.spec
    states = {slot.state for slot in slots}
    note = _note(slots)
    if not plan.want:
        if states - {"Stopped", "Completed", "Failed"}:
            return "Stopping", plan.whole.note if plan.whole is not None else note
        return _resting(view, note)
    if plan.whole is not None and plan.whole.state == "BackOff":
        return "BackOff", plan.whole.note
    if spec.is_job:
        return _job_state(view, slots, states, note)
    if any(condition.held_back for condition in plan.conditions.values()):
        return "Failing", note
    if any(slot.outdated for slot in slots) or _is_rolling(view):
        return "Rolling", _roll_note(view, slots, note)
    for state in ("BackOff", "Failed", "Failing", "Waiting", "Stopping", "Starting"):
        if state in states:
            return state, note
    if len(states) == 1 and states <= {"Completed", "Idle"}:
        return states.pop(), note
    if _awaits_after_start(view):
        return "Running", note or "after_start hook runs"
    said = _said(view) if drifts(spec, plan.observed.intent) else ""
    return "Running", note or said or dependencies.note(plan)


def _roll_note(view: _View, slots: tuple[SlotStatus, ...], note: str) -> str:
    """Return how far a roll is, and which slot it waits for."""
    plan = view.plan
    if not any(slot.outdated for slot in slots):
        return note
    wanted = [slot for slot in slots if slot.slot <= plan.want]
    done = sum(slot.as_desired for slot in wanted)
    progress = f"{done} of {len(wanted)} replaced"
    if _keeps_some(view) and plan.world.trial is not None:
        return f"paused, {progress}: {plan.world.trial.reason}"
    if len(slots) == 1:
        return note or "to be replaced"
    noted = [slot for slot in slots if slot.note and not _stands_in(view, slot)]
    if noted:
        return f"{progress}, {_waited_for(_most_urgent(noted))}"
    resting = [each.id.slot for each in view.records() if rollout.is_in_pause(view.plan, each)]
    pause = format_duration(view.plan.spec.rollout.pause)
    return f"{progress}, a pause of {pause} after slot {resting[-1]}" if resting else progress


def _keeps_some(view: _View) -> bool:
    return any(rollout.is_kept(view.plan, each) for each in view.plan.conditions.values())


def _stands_in(view: _View, slot: SlotStatus) -> bool:
    """Tell whether a slot beyond the wanted ones serves: nobody waits for it any more."""
    return slot.slot > view.plan.want and slot.state == "Running"


def _waited_for(slot: SlotStatus) -> str:
    """Return what the next slot of a roll waits for."""
    if slot.state == "Stopping":
        return f"slot {slot.slot} is stopping: {slot.note}"
    if slot.state == "Running":
        return f"slot {slot.slot}: {slot.note}"
    return f"slot {slot.slot} is not ready: {slot.note.removeprefix('not ready: ')}"


def _is_rolling(view: _View) -> bool:
    return any(rollout.is_for_another(record.memory) for record in view.records())


def _resting(view: _View, note: str) -> tuple[WatcherState, str]:
    plan = view.plan
    if desired.is_held(plan.observed.intent):
        return "Held", _said(view)
    if plan.retired:
        return "Stopping", "removed from the spec"
    return "Stopped", desired.why_idle(plan.name, plan.spec, plan.observed.intent) or note


def _said(view: _View) -> str:
    """Return overrides as a note; the command line puts the times to it."""
    said = overrides(view.plan.spec, view.plan.observed.intent, 0)
    return "; ".join(f'{each.message}: "{each.why}"' if each.why else each.message for each in said)


def _job_state(
    view: _View, slots: tuple[SlotStatus, ...], states: set[SlotState], note: str
) -> tuple[WatcherState, str]:
    plan, last = view.plan, view.plan.observed.job.generation
    if plan.whole is not None:
        return plan.whole.state, plan.whole.note
    if timetable.is_in_force(plan) and "Unknown" not in states:
        return _scheduled(view, states, note)
    stale = last is not None and not same_template(last.run_hash, view.base_hash)
    why = generations.why_not_fired(plan.name, plan.spec, plan.observed, view.base_hash)
    for state in ("Stopping", "BackOff", "Waiting", "Starting", "Running", "Unknown"):
        if state in states:
            return state, note
    failed = {slot.slot for slot in slots if slot.state == "Failed"}
    if failed:  # one at its gate has not run, and is fired when that opens
        hint = f"; try: reconcile rerun {plan.name} --failed" if failed - plan.at_gate else ""
        return "Failed", note + hint
    if not slots and not plan.spec.autostart:
        return "Stopped", why
    if states == {"Completed"} or not slots:
        return "Completed", f"ran with an older spec: {why}" if stale else note
    return "Stopped", note


def _scheduled(view: _View, states: set[SlotState], note: str) -> tuple[WatcherState, str]:
    """Return what a job does that its schedule fires, and when it is fired next."""
    soon = timetable.note(view.plan, view.next_runs)
    for state in ("Stopping", "BackOff", "Waiting", "Starting", "Running", "Failed"):
        if state in states:
            return state, "; ".join(part for part in (note, soon) if part)
    return "Scheduled", soon


def _note(slots: tuple[SlotStatus, ...]) -> str:
    """Return the note of the slot that needs most attention; names it where there are several."""
    noted = [slot for slot in slots if slot.note]
    if not noted:
        return ""
    first = _most_urgent(noted)
    return first.note if len(slots) == 1 else f"slot {first.slot}: {first.note}"


def _most_urgent(slots: Sequence[SlotStatus]) -> SlotStatus:
    return min(slots, key=lambda slot: (URGENCY.index(slot.state), slot.slot))


def _as_desired(view: _View, slots: tuple[SlotStatus, ...], state: WatcherState) -> bool:
    """Tell whether nothing is left to do and nothing is wrong."""
    plan = view.plan
    if not plan.want:
        return plan.slots.any_main() is None and not plan.retired
    if plan.spec.is_job:
        facts, base_hash = plan.world.facts, view.base_hash
        due = generations.due_trigger(plan.name, plan.spec, plan.observed, base_hash, facts)
        return due is None and plan.whole is None and all(slot.as_desired for slot in slots)
    return (
        state in CALM
        and not _awaits_after_start(view)
        and len(slots) == plan.want
        and all(slot.as_desired for slot in slots)
    )


def _awaits_after_start(view: _View) -> bool:
    return any(running.awaits_after_start(view.plan, record) for record in view.records())


def _conditions(
    view: _View, slots: tuple[SlotStatus, ...], ready: int, note: str, *, as_desired: bool
) -> tuple[Condition, ...]:
    want = _shown_want(view)
    outdated = sum(slot.outdated for slot in slots)
    failing = [slot for slot in slots if slot.state in {"BackOff", "Failed", "Failing"}]
    state, trouble = (failing[0].state, failing[0].note) if failing else ("Healthy", "")
    is_ready = ready >= (
        want if view.plan.spec.is_job else desired.least_ready(view.plan.spec, want)
    )
    is_ready |= bool(slots) and all(slot.state == "Idle" for slot in slots)  # who comes is served
    stays = "Paused" if _keeps_some(view) else "Outdated"
    old = f"{outdated} of {len(slots)} slots are to be replaced" if outdated else ""
    found = (
        ("AsDesired", as_desired, "AsDesired" if as_desired else "Differs", note),
        ("Ready", is_ready, "Ready" if is_ready else "NotReady", f"{ready} of {want} ready"),
        ("UpToDate", not outdated, stays if outdated else "UpToDate", old),
        ("Failing", bool(failing), state, trouble),
        *_dependencies(view),
        *_health(view),
    )
    since = max((slot.since_ns for slot in slots), default=0)
    return tuple(Condition(*each, since) for each in found)


def _health(view: _View) -> Iterator[tuple[str, bool, str, str]]:
    """Yield whether no slot of a service is unhealthy."""
    if view.plan.spec.is_job:
        return
    notes = [note for record in view.records() if (note := health.note(view.plan, record))]
    message = f"{len(notes)} of {view.plan.want}, {notes[0]}" if notes else ""
    yield "Healthy", not notes, "Unhealthy" if notes else "Healthy", message


def _dependencies(view: _View) -> Iterator[tuple[str, bool, str, str]]:
    """Yield whether all that a watcher depends on stands as it should, if it depends on anything."""
    plan = view.plan
    if plan.spec.depends_on:
        lacks = dependencies.note(plan)
        over = "; ".join(dependencies.passed_over(plan))
        yield "DependenciesMet", not lacks, "Unmet" if lacks else "Met", over or lacks


def socket_status(
    world: World, name: str, users: Mapping[str, WatcherSpec], runs: Callable[[str], bool]
) -> SocketStatus:
    """Return the status of one socket; with reuseport, of all slots' sockets together.

    `runs` tells whether a process of a watcher does: only such a one can be the one that does not accept.
    """
    spec, used_by = world.socket_specs[name], tuple(sorted(users))
    records = [r for held, r in world.sockets.items() if held.partition(".")[0] == name]
    first = next((r.phase for r in records if isinstance(r.phase, BindRefused)), None)
    bound = next((r.phase for r in records if isinstance(r.phase, Bound)), None)
    backlog = min((r.backlog for r in records if r.backlog is not None), default=None)
    if first is not None:
        note = f"serves {first.serves}; {first.message}" if first.serves else first.message
        listen = first.serves or str(spec.listen)
        return SocketStatus(name, listen, spec.type, "Failed", used_by, note, backlog)
    listen = bound.listen if bound else str(spec.listen)
    waiting = sum(r.unaccepted.count for r in records if r.unaccepted is not None)
    if waiting:
        note = _unserved(name, {user: it for user, it in users.items() if runs(user)}, waiting)
        return SocketStatus(name, listen, spec.type, "Unserved", used_by, note, backlog, waiting)
    state: Literal["Bound", "Pending"] = "Bound" if bound or spec.reuseport else "Pending"
    return SocketStatus(name, listen, spec.type, state, used_by, "", backlog)


def _unserved(name: str, users: Mapping[str, WatcherSpec], waiting: int) -> str:
    """Return in words that nobody accepts, and why that may be: LISTEN_PID names what is started, not its children."""
    who = "1 client waits" if waiting == 1 else f"{waiting} clients wait"
    note = f"{who} and no process accepts"
    announced = sorted(u for u, spec in users.items() if name not in told_sockets(spec))
    if not announced:
        return note
    return (
        f"{note}: does {' or '.join(announced)} take the socket? LISTEN_FDS counts for the process that is started "
        f"only, not for what a shell or another starter runs: begin the command with exec, or pass ${{sockets.{name}}}"
    )
