"""The controller of a history, its disk, and all the instants at which it may die."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reconciler.model.action import (
    FindInstants,
    Notify,
    Probe,
    ReadSecrets,
    RecordGeneration,
    RecordIntent,
    RecordRun,
    RecordTimetable,
    RecordVerdict,
    Spawn,
    Unprobe,
)
from reconciler.model.job import Generation, Job, Run, Timetable
from reconciler.model.observation import (
    ClockSet,
    HeartbeatAsked,
    InstantsFound,
    IntentChanged,
    JobChanged,
    RunRecorded,
    SecretsRead,
    SecretsUnreadable,
    SpecApplied,
)
from reconciler.model.spec import Spec, WatcherSpec
from reconciler.model.units import MILLISECOND_NS as MS
from reconciler.schedule.instants import found
from reconciler.wire.link import LinkDecoder, encode
from tests.sim.probes import Prober

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reconciler.core.reconciler import Reconciler
    from reconciler.model.action import Action, KeeperAction, StoreAction
    from reconciler.model.intent import Intent
    from reconciler.model.observation import Observation
    from reconciler.model.revision import Trial
    from reconciler.model.spec import SecretSpec
    from tests.sim.world import World


@dataclass
class Disk:
    """What has been committed and synced: all that a new controller knows beside the keeper."""

    spec: Spec = field(default_factory=Spec)
    revision: int = 0
    retiring: dict[str, WatcherSpec] = field(default_factory=dict)
    intents: dict[str, Intent] = field(default_factory=dict)
    generations: dict[str, Generation] = field(default_factory=dict)
    runs: dict[str, dict[int, Run]] = field(default_factory=dict)
    timetables: dict[str, Timetable] = field(default_factory=dict)
    trial: Trial | None = None
    good: Spec | None = None
    """What is put in force again when a revision is not good."""

    def job(self, name: str) -> Job:
        runs, table = dict(self.runs.get(name, {})), self.timetables.get(name)
        return Job(self.generations.get(name), runs, timetable=table)

    def observations(self) -> list[Observation]:
        """Return what a controller that starts reads."""
        found: list[Observation] = []
        names = {*self.generations, *self.runs, *self.timetables}
        found += [JobChanged(n, self.job(n)) for n in sorted(names)]
        found += [IntentChanged(n, i) for n, i in sorted(self.intents.items())]
        if self.revision:
            found.append(SpecApplied(self.spec, self.revision, dict(self.retiring), self.trial))
        return found


class Died(Exception):
    """The controller was killed between two effects."""


@dataclass
class Controller:
    """A controller as the real one works: observations in, one step, effects out one by one."""

    world: World
    ready_ns: int
    core: Reconciler
    decoder: LinkDecoder = field(default_factory=LinkDecoder)
    inbox: list[Observation] = field(default_factory=list)
    writes: list[tuple[int, StoreAction]] = field(default_factory=list)
    wake_ns: int | None = None
    back_ns: int | None = None
    """When it will have read what it puts in force again, in place of a revision that is not good."""
    secrets: dict[str, Mapping[str, SecretSpec]] = field(default_factory=dict)
    """From where it has read the secrets of which watchers."""
    readings: list[tuple[int, str, Mapping[str, SecretSpec]]] = field(default_factory=list)
    """Of which watchers it reads the secrets, and when it will have."""
    wall_ns: int | None = None
    """What it has told of the wall clock; None: nobody has asked."""
    found: list[tuple[int, InstantsFound]] = field(default_factory=list)
    """Instants that it works out, and when it will have."""
    prober: Prober = field(init=False)

    def __post_init__(self) -> None:
        self.prober = Prober(self.world)

    def due_ns(self) -> int | None:
        world = self.world
        dues = [due for due, _ in self.writes[:1]] + [due for due, *_ in self.readings]
        dues += [due for due in (self.wake_ns, self.back_ns) if due is not None]
        dues += [due for due, _ in self.found]
        if (due_ns := self.prober.due_ns()) is not None:
            dues.append(due_ns)
        if self._has_missed_a_leap():
            dues.append(world.kernel.now)
        if self.inbox or world.kernel.to_controller:
            dues.append(max(world.kernel.now, self.ready_ns))
        return max(self.ready_ns, min(dues)) if dues else None

    def round(self) -> None:
        """Do what the real loop does once. Raises `Died`."""
        now = self.world.kernel.now
        if now < self.ready_ns:
            return
        if self.back_ns is not None and self.back_ns <= now:
            self.back_ns = None
            self.world.people.go_back()
        while self.writes and self.writes[0][0] <= now:
            self.commit(self.writes.pop(0)[1])
        self._finish_readings(now)
        self._look_at_clock(now)
        heard = self.decoder.observations(self.world.kernel.hear(self.world.reads()))
        self.world.heard(heard)
        self.inbox += [observation for observation in heard if observation != HeartbeatAsked()]
        if HeartbeatAsked() in heard:
            self.world.kernel.feed(encode(Notify("WATCHDOG=1")))
        self._ask(now)
        due = self.wake_ns is not None and now >= self.wake_ns
        if not self.inbox and not due:
            return
        observations, self.inbox = self.inbox, []
        step = self.core.step(observations, now)
        if any(isinstance(each, SpecApplied) for each in observations):
            needy = {name for name, each in self.core.spec.watchers.items() if each.secrets}
            self.secrets = {name: each for name, each in self.secrets.items() if name in needy}
        self.wake_ns = step.wake_at_ns
        in_time = self.wake_ns is None or self.wake_ns > now or self.core.agenda.has_backlog
        assert in_time, "asks to be woken in the past"
        self.world.trace(f"step {len(observations)} observations, {len(step.actions)} actions")
        for action in step.actions:
            self.world.may_die()
            self._carry_out(action)
        self.world.may_die()
        if self.core.retiring().keys() != self.world.disk.retiring.keys():
            self.world.disk.retiring = dict(self.core.retiring())
        trial = self.world.disk.trial
        if trial is not None and trial.outcome == "rolled_back" and self.back_ns is None:
            self.back_ns = now + MS

    def _carry_out(self, action: Action) -> None:
        match action:
            case RecordIntent(name, intent):
                # What people say is on the disk at once in here, and so is that it is over.
                self.world.disk.intents[name] = intent
                self.world.people.word_ended(name)
            case RecordVerdict(revision, trial):
                self.world.judged(revision, trial)
            case ReadSecrets(name):
                self.read_secrets(name)
            case FindInstants():
                self._find(action)
            case Probe():
                self.prober.ask(action)
            case Unprobe(id):
                self.prober.drop(id)
            case RecordRun() | RecordGeneration() | RecordTimetable():
                self.world.decided(action)
                # One thread writes, in order: nothing is there before what was said earlier.
                earliest = self.writes[-1][0] if self.writes else 0
                self.writes.append((max(earliest, self.world.commit_ns()), action))
            case _:
                self.tell_keeper(action)

    def _ask(self, now: int) -> None:
        """Go on asking; what is told comes before or after what the keeper says at that time."""
        for answer in self.prober.go_on():
            self.inbox.insert(0 if now % 2 else len(self.inbox), answer)

    def tell_keeper(self, action: KeeperAction) -> None:
        """Say something to the keeper. What holds secrets gets them here."""
        if isinstance(action, Spawn) and action.id.role == "main":
            spec = self.core.watcher_spec(action.id.owner)
            needed = {} if spec is None else spec.secrets
            found = self.secrets.get(action.id.owner, {})
            assert not needed or found == needed, f"{action.id} gets no secrets"
        self.world.said(action)
        self.world.kernel.feed(encode(action))

    def read_secrets(self, name: str) -> None:
        """Begin to read the secrets of a watcher."""
        world = self.world
        due = world.kernel.now + world.rng.randrange(100 * MS)
        self.readings.append((due, name, self.core.spec.watchers[name].secrets))

    def _finish_readings(self, now: int) -> None:
        done = [each[1:] for each in self.readings if each[0] <= now]
        self.readings = [each for each in self.readings if each[0] > now]
        for name, sources in done:
            if self.world.hits("unreadable secrets"):
                self.inbox.append(SecretsUnreadable(name, "it is not there", sources))
                continue
            self.secrets[name] = sources
            self.inbox.append(SecretsRead(name, f"value{self.world.people.secret}", sources))

    def _find(self, asked: FindInstants) -> None:
        """Begin to work out the instants of a schedule; with the first the clock is told."""
        world = self.world
        spec = self.core.spec.watchers.get(asked.watcher)
        assert spec is not None
        assert spec.schedule is not None
        if self.wall_ns is None:
            self.wall_ns = world.wall_ns
            self.inbox.append(ClockSet(self.wall_ns))
        wall_ns = world.kernel.now + self.wall_ns
        since_ns = wall_ns if asked.after_ns is None else asked.after_ns
        answer = found(asked.watcher, spec.schedule, since_ns, wall_ns)
        self.found.append((world.kernel.now + world.leaps.randrange(20 * MS), answer))

    def _has_missed_a_leap(self) -> bool:
        return self.wall_ns is not None and self.wall_ns != self.world.wall_ns

    def _look_at_clock(self, now: int) -> None:
        if self._has_missed_a_leap():
            self.wall_ns = self.world.wall_ns
            self.inbox.append(ClockSet(self.wall_ns))
        self.inbox += [answer for due, answer in self.found if due <= now]
        self.found = [each for each in self.found if each[0] > now]

    def commit(self, action: StoreAction) -> None:
        """Write and sync one entry, and say so."""
        disk = self.world.disk
        match action:
            case RecordGeneration(name, generation, timetable):
                disk.generations[name] = generation
                if timetable is not None:
                    disk.timetables[name] = timetable
            case RecordTimetable(name, timetable):
                disk.timetables[name] = timetable
            case RecordRun(name, run):
                disk.runs.setdefault(name, {})[run.slot] = run
                self.inbox.append(RunRecorded(name, run))
        self.world.committed(action)
