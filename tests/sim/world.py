"""One history: a machine, a disk, a controller that may die at any effect, and people who edit and command."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from reconciler.core.intents import restarted, scaled, started, stopped
from reconciler.core.reconciler import Reconciler
from reconciler.keeper.keeper import Keeper
from reconciler.model.action import Notify, RecordGeneration, RecordIntent, RecordRun
from reconciler.model.address import InternetAddress
from reconciler.model.event import (
    IntentChanged,
    JobChanged,
    KeeperIntroduced,
    PulseAsked,
    RunRecorded,
    ShutdownAsked,
    SignalAsked,
    SpecApplied,
)
from reconciler.model.intent import NO_INTENT, Intent, Voice
from reconciler.model.job import Generation, Job, Run
from reconciler.model.observed import Facts
from reconciler.model.process import LaunchError, ProcessId
from reconciler.model.spec import HookSpec, HooksSpec, SocketSpec, Spec, StopSpec, WatcherSpec
from reconciler.model.units import MILLISECOND_NS, SECOND_NS
from reconciler.wire.link import LinkDecoder, encode
from tests.contract.fake_kernel import FakeKernel, Program
from tests.sim.faults import Faults, swarm

if TYPE_CHECKING:
    from collections.abc import Callable

    from reconciler.keeper.kernel import Child
    from reconciler.model.action import Action, StoreAction
    from reconciler.model.event import Event
    from reconciler.model.process import Exit, Launch
    from tests.contract.fake_kernel import Process

MS, S = MILLISECOND_NS, SECOND_NS
STORM_NS = 25 * S
"""How long faults strike; then the world must come to rest."""
CALM_NS = 400 * S
PIDS = 60
VOICE = Voice("somebody", "", 0)
HOOK = HookSpec(cmd=("hook",), timeout=4 * S)
HOOK_NAMES = (
    "before_start",
    "after_start",
    "before_spawn",
    "after_spawn",
    "before_signal",
    "before_stop",
    "after_stop",
    "before_reap",
    "after_reap",
)


class Machine(FakeKernel):
    """The fake kernel, and a witness of every death."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.deaths: list[tuple[int, Process, Exit]] = []
        self.controllers = 0
        self.leaders: set[tuple[ProcessId, int, int]] = set()

    def spawn(self, id: ProcessId, incarnation: int, *rest: object) -> Child:
        child = super().spawn(id, incarnation, *rest)  # type: ignore[arg-type]
        self.leaders.add((id, incarnation, child.pid))
        return child

    def start_controller(self, *, last_good: bool) -> int:
        self.controllers += 1
        return super().start_controller(last_good=last_good)

    def _die(self, process: Process, exit_: Exit) -> None:
        if process.ended is None:
            self.deaths.append((self.now, process, exit_))
        super()._die(process, exit_)


@dataclass
class Disk:
    """What has been committed: all that a new controller knows beside the keeper."""

    spec: Spec = field(default_factory=Spec)
    revision: int = 0
    retiring: dict[str, WatcherSpec] = field(default_factory=dict)
    intents: dict[str, Intent] = field(default_factory=dict)
    generations: dict[str, Generation] = field(default_factory=dict)
    runs: dict[str, dict[int, Run]] = field(default_factory=dict)

    def job(self, name: str) -> Job:
        return Job(self.generations.get(name), dict(self.runs.get(name, {})))


class Died(Exception):
    """The controller was killed between two effects."""


@dataclass
class Controller:
    """A controller as the real one works: events in, one step, effects out one by one."""

    world: World
    ready_ns: int
    core: Reconciler
    decoder: LinkDecoder = field(default_factory=LinkDecoder)
    inbox: list[Event] = field(default_factory=list)
    writes: list[tuple[int, StoreAction]] = field(default_factory=list)
    wake_ns: int | None = None

    def due_ns(self) -> int | None:
        world = self.world
        dues = [due for due, _ in self.writes[:1]]
        if self.wake_ns is not None:
            dues.append(self.wake_ns)
        if self.inbox or world.kernel.to_controller:
            dues.append(max(world.kernel.now, self.ready_ns))
        return max(self.ready_ns, min(dues)) if dues else None

    def round(self) -> None:
        """Do what the real loop does once. Raises `Died`."""
        now = self.world.kernel.now
        if now < self.ready_ns:
            return
        while self.writes and self.writes[0][0] <= now:
            self._commit(self.writes.pop(0)[1])
        heard = self.world.kernel.hear(self.world.reads())
        told = self.decoder.events(heard)
        self.inbox += [event for event in told if event != PulseAsked()]
        if PulseAsked() in told:
            self.world.kernel.feed(encode(Notify("WATCHDOG=1")))
        due = self.wake_ns is not None and now >= self.wake_ns
        if not self.inbox and not due:
            return
        events, self.inbox = self.inbox, []
        step = self.core.step(events, now)
        self.wake_ns = step.wake_at_ns
        in_time = self.wake_ns is None or self.wake_ns > now or self.core._backlog
        assert in_time, "asks to be woken in the past"
        self.world.trace(f"step {len(events)} events, {len(step.actions)} actions")
        for action in step.actions:
            self.world.may_die()
            self._carry_out(action)
        self.world.may_die()
        if self.core.retiring().keys() != self.world.disk.retiring.keys():
            self.world.disk.retiring = dict(self.core.retiring())

    def _carry_out(self, action: Action) -> None:
        match action:
            case RecordRun() | RecordGeneration() | RecordIntent():
                self.writes.append((self.world.commit_ns(), action))
            case _:
                self.world.said(action)
                self.world.kernel.feed(encode(action))

    def _commit(self, action: StoreAction) -> None:
        disk = self.world.disk
        match action:
            case RecordGeneration(name, generation):
                disk.generations[name] = generation
            case RecordRun(name, run):
                disk.runs.setdefault(name, {})[run.slot] = run
                self.inbox.append(RunRecorded(name, run))
            case RecordIntent(name, intent):
                disk.intents[name] = intent
        self.world.trace(f"committed {action}")


class World:
    """Everything of one seed. `run` plays it; checkers are called after every instant."""

    def __init__(self, seed: int, *, tracing: bool = False) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.faults: Faults = swarm(self.rng)
        self.tracing = tracing
        self.lines: list[str] = []
        self.digest = 0
        self.calm = False
        self.kernel = Machine(script=self._script, pids=PIDS)
        if "slow link" in self.faults.strength:
            self.kernel.capacity = 600
        self.keeper = Keeper(self.kernel, KeeperIntroduced("keeper-1", "boot-1", 1, 0, "session"))
        self.disk = Disk()
        self.controller: Controller | None = None
        self.controllers = 0
        self.launches: dict[tuple[ProcessId, int], Launch] = {}
        self.actions: list[tuple[int, Action]] = []
        self.touched_ns: dict[str, int] = {}
        """When an edit or a command concerned a watcher last."""
        self.versions: dict[str, int] = {}
        self.on_spawn: list[Callable[[ProcessId, int, Launch, Program], None]] = []
        self.on_instant: list[Callable[[], None]] = []
        self.shutdown_ns: int | None = None

    # ---- the history --------------------------------------------------------------------------

    def run(self) -> None:
        """Play the storm, then the calm."""
        self.edit(self._first_spec())
        next_deed = self._next_deed_ns()
        while self.kernel.now < STORM_NS:
            self._advance(min(next_deed, STORM_NS))
            if self.kernel.now >= next_deed:
                self._deed()
                next_deed = self._next_deed_ns()
        self.calm = True
        self.kernel.taken.clear()
        self.kernel.shortages.clear()
        self.kernel.capacity = 200_000
        self._advance(STORM_NS + CALM_NS)

    def rest(self) -> None:
        """Let another hour pass."""
        self._advance(self.kernel.now + 3600 * S)

    def _advance(self, until_ns: int) -> None:
        """Let everything happen that is due until then, instant by instant."""
        idle = 0
        while True:
            before = len(self.lines), self.kernel.now
            due = self._step_all()
            for check in self.on_instant:
                check()
            if due is None or due > until_ns:
                self.kernel.advance(until_ns)
                return
            idle = idle + 1 if (len(self.lines), self.kernel.now) == before else 0
            assert idle < 200, f"spins at {self.kernel.now / S:.3f}s"
            self.kernel.advance(max(due, self.kernel.now))

    def _step_all(self) -> int | None:
        dues = [self.keeper.step()]
        if self.kernel.controllers != self.controllers:  # its pid may be that of the last one
            self.controllers = self.kernel.controllers
            self.controller = self._new_controller()
        if self.controller is not None:
            try:
                self.controller.round()
            except Died:
                self._controller_died()
        if self.controller is not None:
            dues.append(self.controller.due_ns())
        dues.append(self.kernel.next_due_ns())
        return min((due for due in dues if due is not None), default=None)

    # ---- the controller's surroundings --------------------------------------------------------

    def _new_controller(self) -> Controller:
        facts = Facts("sim", "", "", "/logs", "/control.sock", "python", "runner.py")
        delay = self.rng.randrange(300 * MS)
        core = Reconciler(facts)
        controller = Controller(self, self.kernel.now + delay, core)
        disk = self.disk
        controller.inbox += [
            JobChanged(n, disk.job(n)) for n in sorted(disk.generations | disk.runs)
        ]
        controller.inbox += [IntentChanged(n, i) for n, i in sorted(disk.intents.items())]
        if disk.revision:
            controller.inbox.append(SpecApplied(disk.spec, disk.revision, dict(disk.retiring)))
        self.trace(f"controller {self.controllers} starts")
        return controller

    def _controller_died(self) -> None:
        assert self.controller is not None
        torn = 0
        if self.kernel.to_keeper and self.faults.hits(self.rng, "torn frames"):
            torn = self.rng.randrange(1, 1 + min(40, len(self.kernel.to_keeper)))
        kept = self.rng.randrange(len(self.controller.writes) + 1)
        for _, action in self.controller.writes[
            :kept
        ]:  # commits are in order: a prefix may be through
            self.controller._commit(action)
        self.trace(f"controller killed, {torn} bytes torn, {kept} writes kept")
        if self.kernel.controller_pid is not None:
            self.kernel.end_controller(torn_bytes=torn)
        self.controller = None

    def may_die(self) -> None:
        """Kill the controller between two of its effects, now and then."""
        if not self.calm and "controller kills" in self.faults.strength:
            if self.rng.random() < self.faults.strength["controller kills"] * 0.05:
                raise Died

    def commit_ns(self) -> int:
        slow = not self.calm and self.faults.hits(self.rng, "slow disk")
        return self.kernel.now + (self.rng.randrange(2 * S) if slow else self.rng.randrange(MS))

    def reads(self) -> int | None:
        slow = not self.calm and "slow link" in self.faults.strength
        return self.rng.randrange(1, 400) if slow else None

    def said(self, action: Action) -> None:
        self.actions.append((self.kernel.now, action))
        self.trace(f"{type(action).__name__} {getattr(action, 'id', getattr(action, 'name', ''))}")

    def trace(self, line: str) -> None:
        text = f"{self.kernel.now / S:10.4f} {line}"
        self.digest = zlib.crc32(text.encode(), self.digest)
        self.lines.append(text if self.tracing else "")

    # ---- programs -----------------------------------------------------------------------------

    def _script(self, id: ProcessId, incarnation: int, launch: Launch) -> Program:
        program = self._program(id)
        self.launches[id, incarnation] = launch
        self.trace(f"spawn {id} incarnation {incarnation}: {program}")
        for check in self.on_spawn:
            check(id, incarnation, launch, program)
        return program

    def _program(self, id: ProcessId) -> Program:
        rng, hits = self.rng, (lambda fault: not self.calm and self.faults.hits(self.rng, fault))
        if id.role != "main":
            return self._hook_program(rng, hits)
        spec = self.disk.spec.watchers.get(id.owner)
        is_job = spec is not None and spec.is_job
        forks = hits("fork road")
        if id.owner != "bystander" and hits("exec errors"):
            return Program(error=LaunchError("exec", "ENOENT", "/gone"), forks=forks)
        ignores = frozenset({"TERM"}) if hits("ignored TERM") else frozenset()
        ends_within = rng.randrange(3 * S) if hits("slow ends") else 0
        children: tuple[Program, ...] = ()
        if hits("survivors"):
            children += (
                Program(ignores=frozenset({"TERM"}) if rng.random() < 0.5 else frozenset()),
            )
        if hits("escaped survivors"):
            children += (Program(escapes=True),)
        lives, code = None, 0
        if is_job:
            lives, code = rng.randrange(1, 6 * S), rng.choice((0, 0, 3)) if not self.calm else 0
        elif id.owner != "bystander" and hits("quick exits"):
            lives, code = rng.randrange(1, 200 * MS), rng.choice((0, 1))
        elif id.owner != "bystander" and hits("exits"):
            lives, code = rng.randrange(1, 20 * S), rng.choice((0, 1))
        return Program(lives, code, ignores, ends_within, forks=forks, children=children)

    def _hook_program(self, rng: random.Random, hits: Callable[[str], bool]) -> Program:
        if hits("hanging hooks"):
            return Program(ignores=frozenset({"TERM"}))
        code = 100 if hits("hook vetoes") else 1 if hits("hook errors") else 0
        return Program(rng.randrange(1, 300 * MS), code)

    # ---- people -------------------------------------------------------------------------------

    def _next_deed_ns(self) -> int:
        busy = "busy people" in self.faults.strength
        return self.kernel.now + self.rng.randrange(1, (S if busy else 4 * S))

    def _first_spec(self) -> Spec:
        watchers = {"bystander": WatcherSpec(cmd=("bystander",), numprocesses=2)}
        for name in ("web", "api", "job"):
            watchers[name] = self._new_watcher(name)
        return Spec(sockets={"http": listener(8000)}, watchers=watchers)

    def _new_watcher(self, name: str) -> WatcherSpec:
        rng = self.rng
        hooks = HooksSpec(**{each: HOOK for each in HOOK_NAMES if rng.random() < 0.15})
        self.versions[name] = self.versions.get(name, 0) + 1
        return WatcherSpec(
            cmd=(name, f"v{self.versions[name]}"),
            numprocesses=rng.randrange(1, 4),
            restart="never" if name.startswith("job") else "always",
            use_sockets=("http",) if name == "web" else (),
            stop=StopSpec(timeout=rng.randrange(1, 5) * S),
            spawn_interval=rng.choice((0, 0, S)),
            hooks=hooks,
        )

    def _deed(self) -> None:
        """Let somebody do something, or the machine fail somehow."""
        rng = self.rng
        if rng.random() < 0.3 and "shortages" in self.faults.strength:
            self.kernel.shortages.extend([LaunchError("fork", "EAGAIN")] * rng.randrange(1, 4))
        if rng.random() < 0.3 and "taken ports" in self.faults.strength:
            address = InternetAddress("127.0.0.1", rng.choice((8000, 9000)))
            if self.kernel.taken.pop(address, None) is None:
                self.kernel.taken[address] = "address already in use"
        if self.controller is None or self.kernel.now < self.controller.ready_ns:
            return  # they wait in the backlog
        rng.choice(
            (self._edit_one, self._edit_one, self._command, self._command, self._edit_list)
        )()

    def _edit_one(self) -> None:
        """Change one field of one watcher, or the port."""
        rng, spec = self.rng, self.disk.spec
        name = rng.choice(sorted(spec.watchers))
        old = spec.watchers[name]
        what = "label" if name == "bystander" else rng.choice(("scale", "command", "label", "port"))
        if what == "port":
            port = 9000 if str(spec.sockets["http"].listen).endswith("8000") else 8000
            self.touched_ns["web"] = self.kernel.now
            self.edit(replace(spec, sockets={"http": listener(port)}))
            return
        if what == "scale":
            new = replace(old, numprocesses=rng.randrange(0, 4))
        elif what == "command":
            self.versions[name] += 1
            new = replace(old, cmd=(name, f"v{self.versions[name]}"))
        else:
            new = replace(old, labels={"n": str(rng.random())})
        if what != "label":
            self.touched_ns[name] = self.kernel.now
        self.edit(replace(spec, watchers={**spec.watchers, name: new}))

    def _edit_list(self) -> None:
        """Add, remove or rename a watcher."""
        rng, spec = self.rng, self.disk.spec
        watchers = dict(spec.watchers)
        name = rng.choice(("web", "api", "job", "extra", "jobs"))
        self.touched_ns[name] = self.kernel.now
        if name in watchers:
            del watchers[name]
        else:
            watchers[name] = self._new_watcher(name)
        self.edit(replace(spec, watchers=watchers))

    def edit(self, spec: Spec) -> None:
        """Apply a spec as the controller does: on the disk first, then before the core."""
        removed = {n: s for n, s in self.disk.spec.watchers.items() if n not in spec.watchers}
        retiring = {**self.disk.retiring, **removed}
        self.disk.retiring = {n: s for n, s in retiring.items() if n not in spec.watchers}
        self.disk.spec, self.disk.revision = spec, self.disk.revision + 1
        self.trace(f"revision {self.disk.revision}: {sorted(spec.watchers)}")
        if self.controller is not None:
            event = SpecApplied(spec, self.disk.revision, dict(self.disk.retiring))
            self.controller.inbox.append(event)

    def _command(self) -> None:
        """Let an operator say something about one watcher."""
        rng, controller = self.rng, self.controller
        assert controller is not None
        names = sorted(set(self.disk.spec.watchers) - {"bystander"})
        if not names:
            return
        name = rng.choice(names)
        spec, intent = self.disk.spec.watchers[name], self.disk.intents.get(name, NO_INTENT)
        self.touched_ns[name] = self.kernel.now
        what = rng.choice(
            ("stop", "start", "start", "restart", "scale", "unscale", "signal", "rerun")
        )
        self.trace(f"somebody says {what} {name}")
        if what == "signal":
            controller.inbox.append(
                SignalAsked(name, None, "USR1" if rng.random() < 0.3 else "CONT")
            )
        elif what == "rerun" and spec.is_job and name in controller.core.spec.watchers:
            self._rerun(name)
        else:
            slots = None if rng.random() < 0.5 else (1,)
            said = {
                "stop": lambda: stopped(intent, VOICE),
                "start": lambda: started(intent, VOICE, autostart=True),
                "scale": lambda: scaled(intent, VOICE, rng.randrange(0, 4)),
                "unscale": lambda: scaled(intent, VOICE, None),
                "restart": lambda: restarted(intent, slots, at_once=rng.random() < 0.3),
            }.get(what)
            if said is not None:
                self.disk.intents[name] = said()
                controller.inbox.append(IntentChanged(name, self.disk.intents[name]))

    def _rerun(self, name: str) -> None:
        controller = self.controller
        assert controller is not None
        if controller.writes:
            return  # the real server waits until what was said before is on the disk
        asked = controller.core.rerun(name, None, failed=False, overlap=None)
        known = controller.core.observed(name).job
        self.disk.generations[name] = asked.generation
        controller.inbox.append(JobChanged(name, replace(known, generation=asked.generation)))

    def shut_down(self) -> None:
        """Ask for an orderly end."""
        assert self.controller is not None
        self.shutdown_ns = self.kernel.now
        self.controller.inbox.append(ShutdownAsked())


def listener(port: int) -> SocketSpec:
    return SocketSpec(listen=InternetAddress("127.0.0.1", port))
