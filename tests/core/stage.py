"""A stage for the core: a keeper that does as it is told, a clock that we set, and short builders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reconciler.core import verdict
from reconciler.core.generations import Rerun, rerun
from reconciler.core.reconciler import Reconciler, Step
from reconciler.model.action import (
    Adjust,
    Bind,
    FindInstants,
    Follow,
    Forget,
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
)
from reconciler.model.address import InternetAddress
from reconciler.model.observation import (
    ClockSet,
    EndsTold,
    FilesSeen,
    InstantsFound,
    KeeperIntroduced,
    ProbeAnswered,
    RecordChanged,
    RecordForgotten,
    RunRecorded,
    SecretsRead,
    SecretsUnreadable,
    SignalReceived,
    SnapshotEnded,
    SocketChanged,
    SpecApplied,
)
from reconciler.model.observed import Facts
from reconciler.model.process import (
    Exit,
    Exited,
    LaunchError,
    LogPlace,
    Memory,
    Notified,
    ProcessId,
    ProcessRecord,
    Running,
    Survivor,
)
from reconciler.model.revision import Trial
from reconciler.model.socket import BindRefused, Bound, Lost, SocketRecord, SocketTemplate
from reconciler.model.spec import HookSpec, SocketSpec, Spec, WatcherSpec
from reconciler.model.units import SECOND_NS
from reconciler.model.value import replace
from reconciler.notify.messages import after, parse
from reconciler.schedule.instants import found

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.model.action import Action
    from reconciler.model.event import Event
    from reconciler.model.intent import Intent
    from reconciler.model.job import Timetable
    from reconciler.model.observation import Observation
    from reconciler.model.revision import OnFailure
    from reconciler.model.status import SlotStatus, WatcherStatus

S = SECOND_NS
FACTS = Facts(
    "test", "keeper-1", "boot-1", "/logs", "/run/control.sock", "/usr/bin/python3", "/runner.py"
)
HOOK = HookSpec(cmd=("check",))


def watcher(**fields: object) -> WatcherSpec:
    return WatcherSpec(**{"cmd": ("serve",), **fields})  # type: ignore[arg-type]


def job(**fields: object) -> WatcherSpec:
    return watcher(restart="never", **fields)


def listener(port: int = 8000, host: str = "127.0.0.1", **fields: object) -> SocketSpec:
    return SocketSpec(listen=InternetAddress(host, port), **fields)  # type: ignore[arg-type]


def spec(sockets: dict[str, SocketSpec] | None = None, **watchers: WatcherSpec) -> Spec:
    return Spec(sockets=sockets or {}, watchers=watchers)


def process(name: str) -> ProcessId:
    """Return the id that `web.1`, `web:before_start` or `web.1:before_spawn` names."""
    place, _, role = name.partition(":")
    owner, _, slot = place.partition(".")
    return ProcessId(owner, int(slot or 0), role or "main")


class Stage:
    """Plays the keeper and the store; `history` keeps every action with its time in seconds."""

    def __init__(self) -> None:
        self.now = 0
        self.records: dict[ProcessId, ProcessRecord] = {}
        self.sockets: dict[str, SocketRecord] = {}
        self.generations: dict[str, list[int]] = {}
        self.intents: dict[str, Intent] = {}
        """What was written down of words that are over."""
        self.runs: list[RecordRun] = []
        self.history: list[tuple[float, Action]] = []
        self.all_shared = True
        """No socket was asked for yet that shares its address with none."""
        self.refused_ports: set[int] = set()
        self.listens: dict[ProcessId, tuple[SocketTemplate, ...]] = {}
        """The sockets that the newest process of each name was given."""
        self.unstartable: dict[str, LaunchError] = {}
        self.hold_runs = False
        self.events: list[Event] = []
        self.vault: dict[str, str] = {}
        """The keyed hash of a watcher's secrets; one that is missing cannot be read."""
        self.log_places: tuple[LogPlace, ...] = ()
        """Where new processes begin in their logs, as the controller puts it into their memory."""
        self.probing: dict[ProcessId, Probe] = {}
        """What this controller asks of processes."""
        self.disk: dict[str, str] = {}
        """The digest of a watcher's files; of one that is missing no look comes to an end."""
        self.quit: int | None = None
        self.order: SignalReceived | None = None
        """What the keeper tells a new controller once everything is being stopped."""
        self.revision = 0
        self.trial: Trial | None = None
        self.verdicts: list[RecordVerdict] = []
        self.wall_ns = 0
        """What is to be added to our time to get time since the epoch; the core is told when it asks."""
        self.knows_wall = False
        self.blind = ""
        """Why no instants can be worked out just now."""
        self.timetables: dict[str, Timetable] = {}
        self._incarnation = 0
        self.facts = FACTS
        self.reconciler = Reconciler(self.facts)
        self.last: Step = Step((), None, frozenset(), ())
        self._begun = False

    def apply(self, wanted: Spec, trial: Trial | None = None) -> Stage:
        """Apply a spec, and let happen what happens at once."""
        self.revision += 1
        self.trial = trial
        observations: list[Observation] = [SpecApplied(wanted, self.revision, trial=trial)]
        if not self._begun:
            self._begun = True
            observations += [
                self._introduced(),
                SnapshotEnded(),
            ]
        return self.tell(*observations)

    def _introduced(self) -> KeeperIntroduced:
        return KeeperIntroduced("keeper-1", "boot-1", 1, 0, "session", controllers=self.controllers)

    def try_out(self, wanted: Spec, on_failure: OnFailure = "pause") -> Stage:
        """Apply a spec that has to prove itself for ten seconds."""
        core = self.reconciler
        changed = verdict.changed(core.spec, wanted, core.observed, core.facts, self.trial)
        return self.apply(wanted, Trial(changed, self.now, 10 * S, on_failure))

    @property
    def outcome(self) -> str:
        """Return what the store knows of the newest revision."""
        return "" if self.trial is None else self.trial.outcome

    @property
    def outlook(self) -> tuple[float | None, str]:
        """Return in how many seconds the trial is over, and why not sooner."""
        found = self.reconciler.outlook()
        assert found is not None
        due_ns = found.due_ns
        return None if due_ns is None else (due_ns - self.now) / S, found.reason

    def new_controller(self, wanted: Spec, jobs: Sequence[Observation] = ()) -> Stage:
        """Replace the controller: it knows what the store and the keeper's snapshot say."""
        self.reconciler, self.probing = Reconciler(self.facts), {}
        self.knows_wall = False
        records = [RecordChanged(record) for record in self.records.values()]
        bound = [SocketChanged(record) for record in self.sockets.values()]
        introduced = self._introduced()
        applied = SpecApplied(wanted, self.revision, trial=self.trial)
        told = EndsTold(self._ends_told())
        order = [self.order] if self.order is not None and self.quit is None else []
        return self.tell(
            *jobs, applied, introduced, *records, *bound, told, SnapshotEnded(), *order
        )

    def last_words(self, *observations: Observation, count: int) -> Stage:
        """Give observations to a controller that is killed when the first `count` of what it wants are on their way."""
        for action in self.reconciler.step(observations, self.now).actions[:count]:
            self._carry_out(action)
        return self

    def _ends_told(self) -> dict[ProcessId, int | None]:
        """Return which ends the store knows that people were told of last."""
        told: dict[ProcessId, int | None] = {}
        for each in self.events:
            if each.type in {"process.started", "process.exited", "process.failed"}:
                pid = 0 if each.type == "process.started" else each.details["pid"]
                told[ProcessId(each.watcher, each.slot)] = pid  # type: ignore[assignment]  # it is a pid
        dead = {id for id, record in self.records.items() if isinstance(record.phase, Exited)}
        return {id: pid for id, pid in told.items() if id in dead}

    def tell(self, *observations: Observation) -> Stage:
        """Give observations to the core and carry out what it wants, until it wants nothing more now."""
        pending: Sequence[Observation] = observations
        while True:
            self.last = self.reconciler.step(pending, self.now)
            self.events += self.last.events
            self._lose_nothing()
            pending = [
                observation
                for action in self.last.actions
                for observation in self._carry_out(action)
            ]
            if not pending and self.last.wake_at_ns != self.now:
                return self

    def _lose_nothing(self) -> None:
        """What is remembered of a process in one step is not taken back in the same one by who did not know of it."""
        known: dict[ProcessId, Memory] = {}
        for action in self.last.actions:
            if not isinstance(action, Remember) or action.id not in self.records:
                continue
            first, before = self.records[action.id].memory, known.get(action.id)
            for each in Memory.__struct_fields__ if before is not None else ():
                if each == "signalled":
                    continue  # which of two signals of one step was the last does not matter
                new, old, now = (getattr(it, each) for it in (before, first, action.memory))
                assert new == old or now != old, f"{action.id}: {each} is {new}, then {now} again"
            known[action.id] = action.memory

    def wait(self, seconds: float) -> Stage:
        """Let time pass, waking the core exactly when it asked for it."""
        end = self.now + round(seconds * S)
        while self.last.wake_at_ns is not None and self.last.wake_at_ns <= end:
            assert self.last.wake_at_ns > self.now, "a wake-up that does not lie ahead"
            self.now = self.last.wake_at_ns
            self.tell()
        self.now = end
        return self

    def set_clock(self, wall_ns: int) -> Stage:
        """Set the wall clock to a time since the epoch."""
        self.wall_ns = wall_ns - self.now
        return self.tell(ClockSet(self.wall_ns)) if self.knows_wall else self

    def exit(
        self,
        name: str,
        code: int | None = 0,
        *,
        survivors: bool = False,
        output: bytes = b"",
        ago: float = 0,
        **how: object,
    ) -> Stage:
        """Let a process end by itself; `output` is what the end of a hook's was, it is told so many seconds later."""
        exit = Exit(code=code, **how)  # type: ignore[arg-type]
        at_ns = self.now - round(ago * S)
        return self.tell(self._died(process(name), exit, output, at_ns, survivors=survivors))

    def answer(self, name: str, message: str = "", *, passed: bool | None = False) -> Stage:
        """Let a probe come to something: `web.1:ready`."""
        probe = self.probing[process(name)]
        answered = ProbeAnswered(
            probe.id, probe.incarnation, probe.probing, passed, message, self.now
        )
        return self.tell(answered)

    def exit_untold(self, name: str, code: int) -> Stage:
        """Let a process end while no controller is there to hear of it."""
        self._died(process(name), Exit(code=code))
        return self

    def say(self, name: str, text: str) -> Stage:
        """Let a process say something of itself (sd_notify(3))."""
        return self.tell(self.said(name, text))

    def said(self, name: str, text: str) -> Observation:
        """Return what the keeper tells when a process has said something of itself."""
        record = self.records[process(name)]
        assert record.notified is not None, f"{name} has no socket for that"
        said, pid = parse(text.encode()), getattr(record.phase, "pid", 0)
        return self._put(replace(record, notified=after(record.notified, said, pid, self.now)))

    def silent(self, name: str) -> Observation:
        """Return what the keeper tells when a process was not heard of in time."""
        record = self.records[process(name)]
        assert record.notified is not None
        late = replace(record.notified, late_at_ns=self.now)
        return self._put(replace(record, notified=late))

    def named(self, name: str, successor: int) -> Observation:
        """Return what the keeper tells when one of those that a dead process has left was named to go on."""
        record = self.records[process(name)]
        assert isinstance(record.phase, Exited)
        phase = replace(record.phase, successor=successor)
        return self._put(replace(record, phase=phase))

    def lost(self, name: str) -> Stage:
        """Let the keeper be killed around a start: the next one finds no process, and knows of none."""
        record = self.records[process(name)]
        return self.tell(self._put(replace(record, phase=Exited(self.now, Exit()))))

    def survivors_gone(self, name: str) -> Stage:
        record = self.records[process(name)]
        assert isinstance(record.phase, Exited)
        return self.tell(self._put(replace(record, phase=replace(record.phase, survivors=()))))

    def rerun(self, name: str, slots: tuple[int, ...] | None, **how: Any) -> Rerun:
        """Return what an operator's rerun of a job fires; takes effect when it is told as `JobChanged`."""
        core = self.reconciler
        wanted, known = core.spec.watchers[name], core.observed(name)
        return rerun(wanted, known, slots, core.base_hash(name), core.facts, **how)

    def alive(self, owner: str = "") -> list[str]:
        """Return the live main processes, as web.1."""
        return sorted(
            str(id)
            for id, record in self.records.items()
            if isinstance(record.phase, Running) and id.role == "main" and owner in {"", id.owner}
        )

    def pid(self, name: str) -> int:
        phase = self.records[process(name)].phase
        assert isinstance(phase, Running)
        return phase.pid

    def status(self, name: str) -> WatcherStatus:
        return self.reconciler.watcher_status(name, self.now, self.wall_ns)

    def slot(self, name: str) -> SlotStatus:
        id = process(name)
        return next(s for s in self.status(id.owner).slots if s.slot == id.slot)

    def spawned(self, name: str = "") -> list[str]:
        """Return what was started so far, in order."""
        return [str(a.id) for _, a in self.history if isinstance(a, Spawn) and name in str(a.id)]

    def signals(self) -> list[tuple[float, str, str]]:
        return [(at, str(a.id), a.signal) for at, a in self.history if isinstance(a, Signal)]

    # ---- the keeper -------------------------------------------------------------------------------

    stubborn: frozenset[str] = frozenset()
    """Processes that only KILL ends."""
    drains: frozenset[str] = frozenset()
    """Processes whose end is told late: a test says when, by `exit`."""
    controllers: tuple[str, ...] = ()
    """Which limits control groups can have."""
    unadjustable: frozenset[str] = frozenset()
    """Processes whose output cannot go on as other settings say."""

    def _carry_out(self, action: Action) -> list[Observation]:
        self.history.append((self.now / S, action))
        match action:
            case Spawn(id):
                return [self._spawn(action)]
            case Forget(id, incarnation):
                record = self.records.pop(id)
                assert record.incarnation == incarnation
                assert isinstance(record.phase, Exited)
                return [RecordForgotten(id)]
            case Remember(id, incarnation, memory):
                assert self.records[id].incarnation == incarnation
                self.records[id] = replace(self.records[id], memory=memory)
            case Signal(id, incarnation, signal):
                assert self.records[id].incarnation == incarnation
                deadly = signal in {"TERM", "INT", "KILL"}
                if str(id) in self.drains:
                    return []
                if deadly and (signal == "KILL" or str(id) not in self.stubborn):
                    return [self._died(id, Exit(signal=signal))]
            case Follow(id, incarnation, pid):
                record = self.records[id]
                assert record.incarnation == incarnation
                assert isinstance(record.phase, Exited)
                return [self._put(replace(record, phase=record.phase.goes_on_as(pid)))]
            case Bind(name):
                return [self._bind(name, action)]
            case Unbind(name):
                self.sockets.pop(name, None)
            case RecordRun(owner, run):
                self.runs.append(action)
                return [] if self.hold_runs else [RunRecorded(owner, run)]
            case ReadSecrets(owner):
                sources = self.reconciler.spec.watchers[owner].secrets
                if owner in self.vault:
                    return [SecretsRead(owner, self.vault[owner], sources)]
                message = "cannot read the secret KEY: it is missing"
                return [SecretsUnreadable(owner, message, sources)]
            case ScanFiles(owner):
                return self.seen(owner) if owner in self.disk else []
            case RecordGeneration(owner, generation, timetable):
                self.generations.setdefault(owner, []).append(generation.number)
                if timetable is not None:
                    self.timetables[owner] = timetable
            case RecordTimetable(owner, timetable):
                self.timetables[owner] = timetable
            case FindInstants(owner, after_ns):
                return self._find(owner, after_ns)
            case RecordVerdict(revision, trial):
                assert revision == self.revision, "a verdict of another revision"
                self.trial = trial
                self.verdicts.append(action)
            case Probe(id):
                self.probing[id] = action
            case Unprobe(id):
                del self.probing[id]
            case RecordIntent(owner, intent):
                self.intents[owner] = intent
            case ShutDown(code, now):
                self.order = SignalReceived("stop_now" if now else "stop", code)
            case Quit(code):
                self.quit = code
            case Adjust(id, incarnation, settings):
                assert self.records[id].incarnation == incarnation
                if str(id) not in self.unadjustable:
                    self.records[id] = replace(self.records[id], settings=settings)
                return [RecordChanged(self.records[id])]
        return []

    def _find(self, owner: str, after_ns: int | None) -> list[Observation]:
        """Work out instants as the controller does; with the first of them it tells how the clock stands."""
        told = [] if self.knows_wall else [ClockSet(self.wall_ns)]
        self.knows_wall = True
        schedule = self.reconciler.spec.watchers[owner].schedule
        assert schedule is not None
        wall_ns = self.now + self.wall_ns
        since_ns = wall_ns if after_ns is None else after_ns
        if self.blind:
            return [
                *told,
                InstantsFound(owner, schedule.timing, since_ns, trouble=self.blind),
            ]
        return [*told, found(owner, schedule, since_ns, wall_ns)]

    def seen(self, owner: str, *, trouble: str = "") -> list[Observation]:
        """Return how the files look that a watcher watches."""
        watch = self.reconciler.spec.watchers[owner].watch
        assert watch is not None
        digest = "" if trouble else self.disk[owner]
        return [FilesSeen(owner, watch.paths, watch.ignore, digest, trouble, ("app.py",), 1)]

    def edit(self, owner: str, digest: str) -> Stage:
        """Let the files change that a watcher watches."""
        self.disk[owner] = digest
        return self.tell(*self.seen(owner))

    def _spawn(self, action: Spawn) -> Observation:
        former = self.records.get(action.id)
        if former is not None:
            assert isinstance(former.phase, Exited), f"{action.id} lives"
            assert former.incarnation == action.replaces, f"{action.id} is not forgotten"
        self._incarnation += 1
        given = [self.sockets[name] for name in action.launch.sockets]
        self.listens[action.id] = tuple(each.held or each.template for each in given)
        error = self.unstartable.get(str(action.id))
        phase = (
            Exited(self.now, Exit(error=error))
            if error
            else Running(1000 + self._incarnation, self.now)
        )
        return self._put(
            ProcessRecord(
                action.id,
                self._incarnation,
                action.template_hash,
                replace(action.memory, log_places=self.log_places),
                phase,
                action.launch.settings,
                Notified(action.launch.watchdog_ns) if action.launch.notify else None,
            )
        )

    def _died(
        self,
        id: ProcessId,
        how: Exit,
        output: bytes = b"",
        at_ns: int | None = None,
        *,
        survivors: bool = False,
    ) -> Observation:
        record = self.records[id]
        if isinstance(record.phase, Exited):  # KILL for what survives of it
            return self._put(replace(record, phase=replace(record.phase, survivors=())))
        assert isinstance(record.phase, Running)
        is_left = record.settings.scope == "process"
        there = (Survivor(7, "child"),) if survivors else ()
        at_ns = self.now if at_ns is None else at_ns
        phase = Exited(at_ns, how, record.phase.pid, record.phase.started_at_ns)
        phase = replace(phase, **{"left" if is_left else "survivors": there}, output=output)
        return self._put(replace(record, phase=phase))

    def _bind(self, name: str, action: Bind) -> Observation:
        template, former = action.template, self.sockets.get(name)
        port = getattr(template.address, "port", 0)
        held = _open(former)
        self.all_shared = self.all_shared and template.reuseport
        # Of many that share an address none is in another's way: they need not be gone through each time.
        holders, is_ours = ((), False) if self.all_shared else self._in_the_way(name, template)
        if is_ours or (held is not None and held.identity == template.identity):
            holders = ()  # it is open in our own hands
        if port in self.refused_ports or holders or is_ours:
            attempts = (
                former.phase.attempts + 1 if former and isinstance(former.phase, BindRefused) else 1
            )
            phase = BindRefused("EADDRINUSE", "address in use", self.now, attempts, holders)
            self.sockets[name] = SocketRecord(name, template, phase, held)
        else:
            same = former and former.template.identity == template.identity
            kept = former.phase if former and same and isinstance(former.phase, Bound) else None
            phase = kept or Bound(str(template.address), self.now)
            self.sockets[name] = SocketRecord(name, template, phase)
        return SocketChanged(self.sockets[name])

    def _in_the_way(
        self, name: str, template: SocketTemplate
    ) -> tuple[tuple[ProcessId, ...], bool]:
        """Return the processes that hold such an address, and whether another socket of ours does."""
        holders = tuple(
            id
            for id, listens in self.listens.items()
            if id in self.records and isinstance(self.records[id].phase, Running)
            if any(each.may_exclude(template) for each in listens)
        )
        others = [_open(each) for other, each in self.sockets.items() if other != name]
        return holders, any(each is not None and each.may_exclude(template) for each in others)

    def _put(self, record: ProcessRecord) -> Observation:
        self.records[record.id] = record
        return RecordChanged(record)


def _open(record: SocketRecord | None) -> SocketTemplate | None:
    """Return how the socket is bound that is open for a record, if one is."""
    if record is None or isinstance(record.phase, Bound | Lost):
        return None if record is None else record.template
    return record.held
