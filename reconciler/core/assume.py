"""An action is on its way: the picture says at once what it will come to."""

from __future__ import annotations

from typing import assert_never

from reconciler.core import events, secrets, watched_files
from reconciler.core.picture import Picture
from reconciler.model.action import (
    Action,
    Adjust,
    Bind,
    CountClients,
    EndOrphans,
    FindInstants,
    Follow,
    Forget,
    Notify,
    Probe,
    Quit,
    ReadSecrets,
    RecordGeneration,
    RecordIntent,
    RecordRun,
    RecordTimetable,
    RecordVerdict,
    Remember,
    ScanFiles,
    ShutDown,
    Signal,
    Spawn,
    Unbind,
    Unprobe,
    Upgrade,
)
from reconciler.model.observed import DemandObserved, ProbeObserved
from reconciler.model.process import MAIN, Exited, ProcessId, ProcessRecord, Requested
from reconciler.model.socket import BindRefused, BindRequested, SocketRecord
from reconciler.model.value import replace


def act(it: Picture, action: Action, now_ns: int) -> None:
    """Have an action carried out, and take it as done."""
    it.actions.append(action)
    match action:
        case Spawn(id, _, template_hash, memory, replaces):
            after = max(replaces, it.last_incarnation.pop(id, 0))
            it.put(ProcessRecord(id, 0, template_hash, memory, Requested(now_ns, after)))
            observed = it.observed(id.owner)
            is_news = memory.woken_at_ns is not None or observed.demand != DemandObserved()
            if id.role == MAIN and is_news:
                it.known[id.owner] = replace(observed, demand=DemandObserved(now_ns))
        case Remember(id, _, memory):
            it.put(replace(it.observed(id.owner).records[id], memory=memory))
        case Follow(id, _, pid):
            record = it.observed(id.owner).records[id]
            assert isinstance(record.phase, Exited)
            it.put(replace(record, phase=record.phase.goes_on_as(pid)))
        case Adjust(id, _, settings):
            it.put(replace(it.observed(id.owner).records[id], settings=settings))
        case Forget(id, incarnation):
            it.last_incarnation[id] = incarnation
            it.drop(id)
        case Bind():
            it.sockets[action.name] = _bound(it.sockets.get(action.name), action, now_ns)
        case Unbind(name):
            it.sockets.pop(name, None)
        case CountClients(watcher):
            observed = it.observed(watcher)
            counting = replace(observed.demand, counting=True)
            it.known[watcher] = replace(observed, demand=counting)
        case ReadSecrets(watcher):
            observed, spec = it.observed(watcher), it.spec.watchers[watcher]
            asked = replace(secrets.known(observed.secrets, spec.secrets), asked=True)
            it.known[watcher] = replace(observed, secrets=asked)
        case Probe(id, incarnation, probing):
            it.own(id.owner, "probes")[id] = ProbeObserved(incarnation, probing)
        case Unprobe(id):
            it.observed(id.owner).probes.pop(id, None)
        case ScanFiles(watcher):
            observed, watch = it.observed(watcher), it.spec.watchers[watcher].watch
            awaited = replace(watched_files.known(observed.files, watch), asked_ns=now_ns)
            it.known[watcher] = replace(observed, files=awaited)
        case RecordGeneration(watcher, generation, timetable):
            wall_ns = None if it.wall_offset_ns is None else now_ns + it.wall_offset_ns
            it.events.append(events.of_generation(watcher, generation, wall_ns))
            job = it.observed(watcher).job
            known = {} if timetable is None else {"timetable": timetable}
            it.note(watcher, job=replace(job, generation=generation, **known))
        case RecordTimetable(watcher, timetable):
            it.note(watcher, job=replace(it.observed(watcher).job, timetable=timetable))
        case FindInstants(watcher):
            observed = it.observed(watcher)
            finding = replace(observed.instants, asked=True)
            it.known[watcher] = replace(observed, instants=finding)
        case RecordRun(watcher, run):
            it.events.extend(events.of_run(watcher, run))
            it.note_run(watcher, run)
            it.own(watcher, "writing")[run.slot] = run
            it.agenda.touch_slot(ProcessId(watcher, run.slot))
        case RecordIntent(watcher, intent):
            it.note(watcher, intent=intent)
        case Signal() | EndOrphans() | RecordVerdict() | Notify() | Upgrade() | ShutDown() | Quit():
            pass
        case _:
            assert_never(action)


def _bound(known: SocketRecord | None, action: Bind, now_ns: int) -> SocketRecord:
    again = known is not None and isinstance(known.phase, BindRefused)
    is_same = known is not None and known.template == action.template
    requested = BindRequested(now_ns, again=True) if again and is_same else BindRequested(now_ns)
    return SocketRecord(action.name, action.template, requested, known.held if known else None)
