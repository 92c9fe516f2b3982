"""Folds observations into the picture of the world: what each changes, whom it concerns, and what people are told."""

from __future__ import annotations

from typing import Final, assert_never

from reconciler.core import (
    demand,
    desired,
    events,
    generations,
    limits,
    secrets,
    timetable,
    watched_files,
)
from reconciler.core.assume import act
from reconciler.core.changes import is_alike
from reconciler.core.picture import Picture
from reconciler.core.plan import WHOLE
from reconciler.core.slots import is_gone
from reconciler.core.template import names_owners, sockets_of
from reconciler.model.action import RecordGeneration, RecordTimetable, Remember
from reconciler.model.job import Job, Run
from reconciler.model.observation import (
    AccountsFound,
    ClientsCounted,
    ClockSet,
    ControlRenewed,
    Delivery,
    EndsTold,
    FaultCaught,
    FilesSeen,
    HeartbeatAsked,
    InstantsFound,
    IntentChanged,
    JobChanged,
    KeeperIntroduced,
    LimitExceeded,
    LogChanged,
    LogRotated,
    Observation,
    OrphansChanged,
    ProbeAnswered,
    RecordChanged,
    RecordForgotten,
    Request,
    RetryAsked,
    RunRecorded,
    SecretsRead,
    SecretsUnreadable,
    ShutdownAsked,
    SignalAsked,
    SignalReceived,
    SnapshotEnded,
    SocketChanged,
    SocketClosed,
    SocketRestored,
    SpecApplied,
    UpgradeFailed,
)
from reconciler.model.observed import (
    NOTHING,
    InstantsObserved,
    SecretsObserved,
    WatcherObserved,
)
from reconciler.model.process import (
    MAIN,
    Exited,
    ProcessId,
    ProcessRecord,
    Requested,
    Running,
    pid_of,
)
from reconciler.model.socket import BindRefused, SocketRecord
from reconciler.model.spec import Spec
from reconciler.model.value import replace

_NO_INSTANTS: Final = WatcherObserved().instants
MAX_REQUESTS: Final = 16
"""Signals to one process that wait for its hooks; more are refused."""


def fold(it: Picture, observation: Observation, now_ns: int) -> None:
    """Take an observation into the picture."""
    match observation:
        case RecordChanged(record):
            _record(it, record)
        case RecordForgotten(id):
            it.last_incarnation.pop(id, None)  # no older news of it can follow
            if it.record(id) is not None:  # else we have asked for it, and know
                it.drop(id)
        case SocketChanged(socket):
            _socket(it, socket)
        case SocketClosed(name):
            it.sockets.pop(name, None)
            _touch_socket(it, name)
        case SocketRestored(name):
            it.events.append(events.of_restored(observation, it.sockets.get(name)))
        case SpecApplied():
            _spec(it, observation, now_ns)
        case IntentChanged(watcher, intent):
            it.note(watcher, intent=intent)
        case JobChanged(watcher, job):
            _job(it, watcher, job, now_ns)
        case RunRecorded(watcher, run):
            _run(it, watcher, run)
        case SecretsRead() | SecretsUnreadable():
            _secrets(it, observation, now_ns)
        case FilesSeen():
            _files(it, observation)
        case AccountsFound():
            _accounts(it, observation)
        case ProbeAnswered():
            _probe(it, observation)
        case ClientsCounted(watcher, clients):
            known = it.observed(watcher).demand
            if known.counting:  # else it was on its way when one was started
                it.note(watcher, demand=demand.counted(known, clients, now_ns))
        case ClockSet() | InstantsFound():
            _calendar(it, observation, now_ns)
        case SignalAsked():
            _signal(it, observation, now_ns)
        case RetryAsked(watcher, slots):
            _retry(it, watcher, slots, now_ns)
        case LimitExceeded():
            _limit(it, observation)
        case ShutdownAsked():
            _shutdown(it, observation)
        case SignalReceived(meaning, code):
            if meaning != "reload":
                _shutdown(it, ShutdownAsked(meaning == "stop_now", code))
        case KeeperIntroduced():
            _keeper(it, observation)
        case SnapshotEnded():
            _met(it)
        case LogChanged():
            _log(it, observation)
        case EndsTold(pids):
            dead = {id: found for id in pids if (found := it.record(id)) is not None}
            it.events.extend(events.of_missed_ends(dead, pids))
        case OrphansChanged(orphans):
            if it.knows_keeper:
                it.events.extend(events.of_orphans(it.orphans, orphans))
            it.orphans = orphans
        case FaultCaught():
            it.events.append(events.of_fault(observation))
        case ControlRenewed():
            it.events.append(events.of_control(observation))
        case LogRotated() | HeartbeatAsked() | UpgradeFailed():
            pass
        case _:
            assert_never(observation)


# ---- of the keeper --------------------------------------------------------------------------------


def _record(it: Picture, record: ProcessRecord) -> None:
    before = it.record(record.id)
    if it.knows_keeper and not _repeats(it, record):
        it.events.extend(events.of_record(before, record, it.watcher_spec(record.id.owner)))
    if before is not None and isinstance(before.phase, Requested):
        if record.incarnation <= before.phase.after:
            return  # the one that we have just replaced
    if before is not None and before.incarnation == record.incarnation:
        # What we remembered since the keeper wrote this is on its way to it and newer.
        record = replace(record, memory=before.memory)
    it.put(record)
    if isinstance(record.phase, Exited):
        if before is None or not isinstance(before.phase, Exited):
            it.shutdown.note_end(record)
        _touch_awaiting_sockets(it, record)


def _repeats(it: Picture, record: ProcessRecord) -> bool:
    """Tell whether a start failed for want of what the last one wanted too: tried often, told once."""
    if not isinstance(record.phase, Running | Exited):
        return False
    before = it.wanting.pop(record.id, None)
    error = record.phase.exit.error if isinstance(record.phase, Exited) else None
    if error is None or not error.is_shortage:
        return False
    it.wanting[record.id] = error
    return error == before


def _touch_awaiting_sockets(it: Picture, dead: ProcessRecord) -> None:
    """Have the sockets planned that wait for the end of a process: they are in its hands, or it uses their address."""
    take = it.holders.pop if is_gone(dead) else it.holders.get
    it.agenda.touch_sockets(take(dead.id, ()))
    spec = it.spec.watchers.get(dead.id.owner)
    used = () if spec is None else sockets_of(spec)
    it.agenda.touch_sockets(name for name in used if name in it.sockets and it.sockets[name].held)


def _socket(it: Picture, record: SocketRecord) -> None:
    if it.knows_keeper:
        it.events.extend(events.of_socket(it.sockets.get(record.name), record))
    it.sockets[record.name] = record
    for id in record.phase.held_by if isinstance(record.phase, BindRefused) else ():
        it.holders.setdefault(id, set()).add(record.name)
        it.agenda.touch_slot(id)
    _touch_socket(it, record.name)


def _touch_socket(it: Picture, name: str) -> None:
    it.agenda.touch_sockets((name,))
    owner, _, slot = name.partition(".")
    for user in it.users.get(owner, ()):
        it.agenda.touch_slot(ProcessId(user, int(slot or WHOLE)))


def _keeper(it: Picture, keeper: KeeperIntroduced) -> None:
    it.facts = replace(
        it.facts,
        keeper_id=keeper.keeper_id,
        boot_id=keeper.boot_id,
        controllers=keeper.controllers,
    )
    it.sockets, it.holders = {}, {}
    it.last_incarnation, it.standings = {}, {}
    it.brake.clear()
    for name, observed in it.known.items():
        it.known[name] = replace(
            observed,
            records={},
            helpers=NOTHING,
            live=set(),
            unwritten=NOTHING,
            exceeded=NOTHING,
        )
        it.agenda.attention.wake_all(name)


def _probe(it: Picture, answer: ProbeAnswered) -> None:
    probes = it.observed(answer.id.owner).probes
    asked = probes.get(answer.id)
    if asked is None or (asked.incarnation, asked.probing) != (answer.incarnation, answer.probing):
        return  # it was on its way when something else was asked
    probes[answer.id] = replace(asked, answer=answer)
    it.agenda.touch_slot(answer.id)


def _met(it: Picture) -> None:
    """Have everything planned: all that the keeper holds is known."""
    it.knows_keeper = True
    it.agenda.touch_sockets((*it.spec.sockets, *it.sockets))
    it.put_off(set(it.known) | set(it.names()))


def _log(it: Picture, log: LogChanged) -> None:
    name = log.id.owner
    if it.watcher_spec(name) is None and name not in it.known:
        return  # of one that is gone
    observed = it.observed(name)
    rest = {path: each for path, each in observed.unwritten.items() if path != log.path}
    if log.trouble:
        rest[log.path] = log
    if it.knows_keeper:
        it.events.append(events.of_log(log))
    it.known[name] = replace(observed, unwritten=rest)
    it.agenda.touch_slot(log.id)


def _limit(it: Picture, found: LimitExceeded) -> None:
    id, record = found.id, it.record(found.id)
    if record is None or record.incarnation != found.incarnation:
        return  # it is gone
    exceeded = it.observed(id.owner).exceeded
    before = exceeded.pop(id.slot, None)
    if found.limit is not None:
        exceeded = it.own(id.owner, "exceeded")
        exceeded[id.slot] = found
        is_news = before is None or before.incarnation != found.incarnation
        spec = it.spec.watchers.get(id.owner)
        if is_news and spec is not None and (over := limits.over(spec, exceeded, record)):
            is_beyond = id.slot > desired.wanted(spec, it.observed(id.owner).intent)
            it.events.append(events.of_limit(found, over, record, is_beyond=is_beyond))
    it.agenda.touch_slot(id)


# ---- of the store ---------------------------------------------------------------------------------


def _spec(it: Picture, applied: SpecApplied, now_ns: int) -> None:
    old, new = it.spec, applied.spec
    retired = {**it.retired, **applied.retiring}
    removed = sorted(old.watchers.keys() - new.watchers.keys())
    retired |= {name: old.watchers[name] for name in removed}
    it.spec, it.revision = new, applied.revision
    it.brake.most = new.daemon.max_concurrent_restarts
    for name in it.brake.next():
        it.agenda.plan_again(name)
    # A verdict stops all rolls, also those of watchers that its revision did not change.
    stopped = new.watchers if it.proof.trial is not None and it.proof.trial.stops_roll else ()
    on_trial = it.proof.begin(applied.revision, applied.trial)
    it.retired = {n: s for n, s in retired.items() if n not in new.watchers}
    it.users = {}
    for name, spec in new.watchers.items() if new.sockets else ():
        for socket in sockets_of(spec):
            it.users.setdefault(socket, set()).add(name)
    it.follow_graph()
    edited = _edited(old, new).union(removed, it.retired)
    for name in edited:
        it.forget_hash(name)
        it.standings.pop(name, None)
        _forget_secrets(it, name)
    _take_schedules(it, now_ns)
    strange = it.known.keys() - new.watchers.keys() - it.retired.keys()
    unknown = {name for name in strange if it.known[name].records}
    # Nobody has waited for some of these so far.
    needed = it.graph.dependents.keys() - it.standings.keys()
    it.put_off(edited | unknown | on_trial | needed | {*stopped})
    it.agenda.touch_sockets((*new.sockets, *it.sockets))


def _edited(old: Spec, new: Spec) -> set[str]:
    """Return the watchers of a spec that did not stand in the former one just so; most are the very same."""
    same_sockets = old.sockets == new.sockets
    return {
        name
        for name, spec in new.watchers.items()
        if not (same_sockets and old.watchers.get(name) is spec) and not _is_same(name, old, new)
    }


def _is_same(name: str, old: Spec, new: Spec) -> bool:
    before, after = old.watchers.get(name), new.watchers.get(name)
    if before is None or not is_alike(before, after):
        return False
    return all(old.sockets.get(s) == new.sockets.get(s) for s in sockets_of(before))


def _forget_secrets(it: Picture, name: str) -> None:
    """Forget what was read of sources that a watcher names no more: whoever holds the values lets go of them, too."""
    observed, spec = it.observed(name), it.spec.watchers.get(name)
    if observed.secrets.sources not in ({}, spec.secrets if spec is not None else {}):
        it.known[name] = replace(observed, secrets=SecretsObserved())


def _take_schedules(it: Picture, now_ns: int) -> None:
    """Forget instants of other times, and what a watcher without schedule is no longer to make up for.

    Also what a controller before this one would have forgotten: the watcher may come back with a later spec.
    """
    watchers = it.spec.watchers
    it.scheduled = {name for name, spec in watchers.items() if spec.schedule is not None}
    for name, observed in tuple(it.known.items()):
        if observed.instants is _NO_INSTANTS and observed.job.timetable is None:
            continue
        spec, table = watchers.get(name), observed.job.timetable
        schedule = None if spec is None else spec.schedule
        timing = "" if schedule is None else schedule.timing
        if observed.instants.timing not in {"", timing} or observed.instants.asked:
            it.known[name] = replace(observed, instants=InstantsObserved())
        if schedule is None and table is not None and table.since_ns is not None:
            act(it, RecordTimetable(name, replace(table, since_ns=None)), now_ns)


def _calendar(it: Picture, observation: ClockSet | InstantsFound, now_ns: int) -> None:
    if isinstance(observation, ClockSet):
        it.events.extend(events.of_clock(it.wall_offset_ns, observation.wall_offset_ns))
        it.wall_offset_ns = observation.wall_offset_ns
        it.put_off(it.scheduled)
        return
    watcher = observation.watcher
    instants = timetable.found(it.spec.watchers.get(watcher), observation, now_ns)
    if instants is not None:
        it.note(watcher, instants=instants)


def _secrets(it: Picture, found: SecretsRead | SecretsUnreadable, now_ns: int) -> None:
    spec = it.spec.watchers.get(found.watcher)
    if spec is None or spec.secrets != found.sources:
        return  # it was on its way when the spec changed
    before = secrets.known(it.observed(found.watcher).secrets, found.sources)
    it.events.extend(secrets.events_of(before, found))
    it.note(found.watcher, secrets=secrets.after(before, found, now_ns))


def _accounts(it: Picture, found: AccountsFound) -> None:
    it.facts = replace(it.facts, uids=found.uids, gids=found.gids)
    watchers = ((name, it.watcher_spec(name)) for name in it.names())
    it.put_off({name for name, spec in watchers if spec is not None and names_owners(spec.logs)})


def _files(it: Picture, seen: FilesSeen) -> None:
    spec, observed = it.spec.watchers.get(seen.watcher), it.observed(seen.watcher)
    watch = None if spec is None else spec.watch
    if watch is None or (seen.paths, seen.ignore) != (watch.paths, watch.ignore):
        return  # it was on its way when the spec changed
    before = watched_files.known(observed.files, watch)
    it.events.extend(watched_files.events_of(before, seen, observed.records.values()))
    it.note(seen.watcher, files=watched_files.after(before, seen))


def _job(it: Picture, watcher: str, job: Job, now_ns: int) -> None:
    known = it.observed(watcher).job
    # How far its schedule has come is decided here alone, and so is what it was fired for meanwhile.
    table = job.timetable if known.timetable is None else known.timetable
    own = replace(job, runs=dict(job.runs), timetable=table)  # it changes here, and nowhere else
    open_runs = dict.fromkeys(slot for slot, run in own.runs.items() if run.outcome is None)
    it.note(watcher, job=own, open_runs=open_runs)
    spec = it.spec.watchers.get(watcher)
    later = None if spec is None else generations.after_other(spec, known, own.generation)
    if later is not None:
        act(it, RecordGeneration(watcher, later), now_ns)


def _run(it: Picture, watcher: str, run: Run) -> None:
    """A run lies on the disk: what waited for it may go on. The store has put the wall time in."""
    writing = it.observed(watcher).writing
    waiting = writing.get(run.slot)
    is_it = waiting is not None and waiting.generation == run.generation
    if waiting is None or not is_it or waiting.outcome != run.outcome:
        return
    del writing[run.slot]
    it.note_run(watcher, run)
    it.agenda.touch_slot(ProcessId(watcher, run.slot))


# ---- of operators ---------------------------------------------------------------------------------


def _signal(it: Picture, asked: SignalAsked, now_ns: int) -> None:
    """Put a signal on the list of each process that lives; of the others it is known now that none is sent."""
    observed, at_ns = it.observed(asked.watcher), asked.at_ns or now_ns
    chosen = [ProcessId(asked.watcher, asked.slot or 0)]
    if asked.slot is None:
        chosen = [id for id in observed.records if id.role == MAIN] or chosen
    for id in chosen:
        record, waiting = observed.records.get(id), observed.requests.get(id, ())
        alive = record is not None and pid_of(record.phase) is not None
        incarnation = record.incarnation if record is not None and alive else 0
        request = Request(id, incarnation, at_ns, asked.signal, asked.reach)
        if not alive:
            it.answered.append(Delivery(request, "it does not run"))
        elif len(waiting) >= MAX_REQUESTS:
            why = f"{MAX_REQUESTS} signals already wait for its before_signal hook"
            it.answered.append(Delivery(request, why))
        else:
            it.own(id.owner, "requests")[id] = (*waiting, request)
            observed = it.observed(id.owner)
            it.agenda.touch_slot(id)


def _retry(it: Picture, watcher: str, slots: tuple[int, ...] | None, now_ns: int) -> None:
    records = it.observed(watcher).records
    ids = [*records] if slots is None else [ProcessId(watcher, slot) for slot in slots]
    for id in ids:
        record = records.get(id)
        if record is not None and id.role == MAIN and isinstance(record.phase, Exited):
            memory = replace(record.memory, retry=True)
            act(it, Remember(id, record.incarnation, memory), now_ns)


def _shutdown(it: Picture, asked: ShutdownAsked) -> None:
    if it.shutdown.ask(asked):
        it.put_off(set(it.known) | set(it.names()))
