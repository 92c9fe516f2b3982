"""One history: a machine, a disk, a controller that may die at any effect, and people who edit and command."""

from __future__ import annotations

import contextlib
import random
import zlib
from dataclasses import replace as replace_fields
from typing import TYPE_CHECKING

from reconciler.core.reconciler import Reconciler
from reconciler.keeper.keeper import Keeper
from reconciler.model.action import Upgrade
from reconciler.model.observation import KeeperIntroduced
from reconciler.model.observed import Facts
from reconciler.model.process import Exit, ProcessId
from reconciler.model.units import MILLISECOND_NS as MS
from reconciler.model.units import SECOND_NS as S
from reconciler.model.value import replace
from tests.contract.fake_kernel import PIDS as FEW_PIDS
from tests.contract.fake_kernel import Replaced
from tests.sim.controller import Controller, Died, Disk
from tests.sim.faults import Faults, swarm
from tests.sim.machine import KeeperDied, Machine
from tests.sim.people import People
from tests.sim.probes import Conducts
from tests.sim.programs import ASKING, program_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from reconciler.model.action import Action, Probe, StoreAction
    from reconciler.model.observation import KeeperObservation
    from reconciler.model.process import Launch
    from reconciler.model.revision import Trial
    from tests.contract.fake_kernel import Process, Program

STORM_NS = 22 * S
"""How long faults strike; then the world must come to rest."""
CALM_NS = 400 * S
AGING_NS = 120 * S
"""How long processes are replaced at their age, when there are such, before that is taken back for the calm."""
TICKING_NS = 70 * S
"""How long schedules go on in the calm."""
WALL = (1_749_976_190, 1_806_195_590, 1_824_944_390)
"""What the wall clock may show at the beginning, in seconds."""
PIDS = 60
KEEPER_STALL_NS = 2 * S


class World:
    """Everything of one seed. `run` plays it; checkers are called after every instant.

    `faults` None takes those that the seed chooses.
    """

    def __init__(self, seed: int, *, faults: Faults | None = None, tracing: bool = False) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        own = swarm(self.rng, seed)
        self.faults = own if faults is None else faults
        self.tracing = tracing
        self.lines: list[str] = []
        self.digest = 0
        self.calm = self.ending = False
        self.shut_down_ns = 0
        self.storm_until_ns = STORM_NS
        few = "few pids" in self.faults.strength
        self.kernel = Machine(script=self._script, pids=FEW_PIDS + 4 if few else PIDS)
        if "slow link" in self.faults.strength:
            self.kernel.capacity = 600
        self.kernel.unkillable_ns = self._unkillable_ns
        self.kernel.other_lives_ns = self._other_lives_ns
        self.kernel.tells_exits = "untold exits" not in self.faults.strength
        self.keepers = self.upgrades = 0
        self.keeper_lives = True
        self.keeper = self._new_keeper()
        self.kernel.on_died.append(self._stop_command_ended)
        self.kernel.may_kill_keeper = self._may_kill_keeper
        self.keeper_due_ns = 0
        """Until when it is stopped, or dead when `keeper_lives` is False."""
        self.stepped_ns = 0
        self.unwatched: list[list[int]] = []
        """From when to when no keeper lived."""
        self.resumed_ns: set[int] = set()
        """When a keeper that had been stopped went on."""
        self.disk = Disk()
        self.disk_full_until_ns = self.journal_full_until_ns = 0
        self.controller: Controller | None = None
        self.controllers = 0
        self.disturbed_ns = 0
        """When the manager was last kept from its work: dead, stopped, or standing still."""
        self.people = People(self)
        self.launches: dict[tuple[int, ProcessId, int], Launch] = {}
        """By boot, name and incarnation."""
        self.actions: list[tuple[int, Action]] = []
        self.on_spawn: list[Callable[[ProcessId, int, Launch, Program], None]] = []
        self.on_said: list[Callable[[Action], None]] = []
        self.on_heard: list[Callable[[KeeperObservation], None]] = []
        self.on_committed: list[Callable[[StoreAction], None]] = []
        self.on_settle: list[Callable[[], None]] = []
        self.on_judged: list[Callable[[Trial], None]] = []
        self.on_instant: list[Callable[[], None]] = []
        self.on_power_loss: list[Callable[[], None]] = []
        self.on_keeper_death: list[Callable[[], None]] = []
        self.on_decided: list[Callable[[StoreAction], None]] = []
        self.on_answered: list[Callable[[Probe, bool], None]] = []
        self.answers = random.Random(f"answers {seed}")
        self.conducts = Conducts(self)
        self.leaps = random.Random(f"clock {seed}")
        self.wall_ns = self.leaps.choice(WALL) * S
        """What the wall clock is ahead of the other one."""
        self.leapt_ns = 0
        """When it was set last."""

    # ---- the history --------------------------------------------------------------------------

    def run(self, storm_ns: int = STORM_NS) -> None:
        """Play the storm, in which safety is checked at every instant, then the calm."""
        self.storm_until_ns = storm_ns
        self.people.edit(self.people.first_spec())
        next_deed = self.people.next_deed_ns()
        while self.kernel.now < self.storm_until_ns:
            self._advance(min(next_deed, self.storm_until_ns))
            if self.kernel.now >= next_deed:
                self.people.do_something()
                next_deed = self.people.next_deed_ns()
        self.calm = True
        self.kernel.taken.clear()
        self.kernel.shortages.clear()
        self.kernel.capacity, self.kernel.pids = 200_000, PIDS
        self.disk_full_until_ns = self.journal_full_until_ns = self.kernel.now
        length_ns = self._restless_ns()
        if length_ns:
            self._advance(self.kernel.now + length_ns)
            for check in self.on_settle:
                check()
        self.people.settle()  # also what a revision that is rolled back would bring again
        self._advance(self.kernel.now + CALM_NS)

    def _restless_ns(self) -> int:
        """Return for how long the calm goes on with what never comes to rest."""
        watchers = self.disk.spec.watchers.values()
        if any(each.max_age is not None for each in watchers):
            return AGING_NS
        return TICKING_NS if any(each.schedule is not None for each in watchers) else 0

    def rest(self) -> None:
        """Let another hour pass."""
        self._advance(self.kernel.now + 3600 * S)

    def shut_down(self) -> None:
        """Ask for an orderly end, and let it come."""
        self.ending, self.shut_down_ns = True, self.kernel.now
        self.people.shut_down()
        self._advance(self.kernel.now + CALM_NS)

    def _advance(self, until_ns: int) -> None:
        """Let everything happen that is due until then, instant by instant."""
        idle = 0
        while self.keeper.exit_code is None:
            before = len(self.lines), self.kernel.now
            due = self._step_all()
            for check in self.on_instant:
                check()
            if due is None or due > until_ns:
                break
            idle = idle + 1 if (len(self.lines), self.kernel.now) == before else 0
            assert idle < 200, f"spins at {self.kernel.now / S:.3f}s"
            self.kernel.advance(max(due, self.kernel.now))
        self.kernel.advance(max(until_ns, self.kernel.now))

    def _step_all(self) -> int | None:
        now = self.kernel.now
        self.kernel.disk_is_full = now < self.journal_full_until_ns
        if now < self.keeper_due_ns:  # it is stopped
            dues = [self.keeper_due_ns, *self._controller_dues()]
            return min([*dues, *(d for d in [self.kernel.next_due_ns()] if d and d > now)])
        if self.keeper_due_ns:
            self.keeper_due_ns = 0
            self.resumed_ns.add(now)
        try:
            if not self.keeper_lives:
                self._next_keeper()
            dues = self._step_keeper()
            self.stepped_ns = now
        except KeeperDied:
            self._keeper_died()
            dues = [self.keeper_due_ns]
        if self.controller is not None and self.kernel.link != "open":
            self._controller_died()  # the keeper has given it up
        if self.kernel.controllers != self.controllers:  # its pid may be that of the last one
            self.controllers = self.kernel.controllers
            self.controller = self._new_controller()
        dues += self._controller_dues()
        dues += [due for due in [self.kernel.next_due_ns()] if due is not None]
        return min(dues, default=None)

    def _step_keeper(self) -> list[int]:
        try:
            due = self.keeper.step()
        except Replaced:
            self.trace("the keeper becomes new code")
            self.upgrades += 1
            if self.controller is not None:
                self._controller_died()
            self.keeper = self._keeper()
            return [self.kernel.now]
        if due == self.kernel.now and self.kernel.late_outputs():
            due += 20 * MS  # a look at output that still comes takes its time on a real machine
        return [] if due is None else [due]

    def _controller_dues(self) -> list[int]:
        """Let the controller work, and return when it will have something to do."""
        if self.controller is not None:
            try:
                self.controller.round()
            except Died:
                self._controller_died()
        due = None if self.controller is None else self.controller.due_ns()
        return [] if due is None else [due]

    # ---- the manager --------------------------------------------------------------------------

    def _new_keeper(self) -> Keeper:
        self.keepers, self.upgrades = self.keepers + 1, 0
        return self._keeper()

    def _keeper(self) -> Keeper:
        """Return a keeper that takes over what it finds: a new one, or new code of the one that is there."""
        boot, now = f"boot-{self.kernel.boots}", self.kernel.now
        introduced = KeeperIntroduced(self.keeper_id, boot, 1, now, "session")
        return Keeper(self.kernel, replace(introduced, upgrades=self.upgrades))

    @property
    def keeper_id(self) -> str:
        """The present keeper, or the last one when none lives."""
        return f"keeper-{self.keepers}"

    def _keeper_died(self) -> None:
        """Let the keeper be dead for a while, and the controller with it."""
        self.trace("the keeper is killed")
        self.keeper_lives = False
        for check in self.on_instant:
            check()
        self.kernel.end_keeper()
        if self.controller is not None:
            self._controller_died()
        self.keeper_due_ns = self.kernel.now + self.rng.randrange(3 * S)
        # Who died since it last came to an end with all that had happened is as if nobody had looked.
        self.unwatched.append([self.stepped_ns, self.keeper_due_ns])
        self.disturbed_ns = self.keeper_due_ns
        for check in self.on_keeper_death:
            check()

    def _next_keeper(self) -> None:
        """Start the keeper after a dead one; it may die while it takes over."""
        self.trace(f"keeper {self.keepers + 1} starts")
        for check in self.on_keeper_death:
            check()  # who has died meanwhile is as if it had died with it
        self.keeper = self._new_keeper()
        self.keeper_lives = True
        self.unwatched[-1][1] = self.kernel.now

    def _may_kill_keeper(self) -> None:
        """Kill the keeper before or after one of its effects, now and then."""
        strength = 0.0 if self.calm else self.faults.strength.get("keeper kills", 0.0)
        if strength and self.rng.random() < strength * 0.02:
            raise KeeperDied

    def _new_controller(self) -> Controller:
        facts = Facts("sim", "", "", "/logs", "/control.sock", "python", "runner.py")
        delay = self.rng.randrange(300 * MS)
        self.disturbed_ns = self.kernel.now + delay
        controller = Controller(self, self.disturbed_ns, Reconciler(facts))
        controller.inbox += self.disk.observations()
        self.people.go_back_by(controller)
        self.trace(f"controller {self.controllers} starts")
        return controller

    def _controller_died(self) -> None:
        assert self.controller is not None
        torn = 0
        if self.kernel.to_keeper and self.faults.hits(self.rng, "torn frames"):
            torn = self.rng.randrange(1, 1 + min(40, len(self.kernel.to_keeper)))
        kept = self.rng.randrange(len(self.controller.writes) + 1)
        for _, action in self.controller.writes[:kept]:
            self.controller.commit(action)  # commits are in order: a prefix may be through
        self.trace(f"controller killed, {torn} bytes torn, {kept} writes kept")
        if self.kernel.controller_pid is not None:
            self.kernel.end_controller(torn_bytes=torn)
        self.controller = None
        self.disturbed_ns = self.kernel.now

    # ---- faults -------------------------------------------------------------------------------

    def hits(self, fault: str) -> bool:
        """Tell whether a fault strikes now; in the calm none does."""
        return not self.calm and self.faults.hits(self.rng, fault)

    def may_die(self) -> None:
        """Kill the controller between two of its effects, now and then."""
        strength = 0.0 if self.calm else self.faults.strength.get("controller kills", 0.0)
        if strength and self.rng.random() < strength * 0.05:
            raise Died

    def strike(self) -> None:
        """Let happen what happens to the manager and the machine as a whole."""
        rng, now = self.rng, self.kernel.now
        if self.controller is not None and self.hits("controller stalls"):
            hangs = 60 * S if rng.random() < 0.2 else 8 * S  # longer than the keeper puts up with
            self.controller.ready_ns = max(self.controller.ready_ns, now + rng.randrange(hangs))
            self.disturbed_ns = self.controller.ready_ns
        if self.keeper_lives and self.hits("keeper stalls"):
            self.keeper_due_ns = now + rng.randrange(KEEPER_STALL_NS)
            self.disturbed_ns = max(self.disturbed_ns, self.keeper_due_ns)
        self._ask_for_new_code()
        if self.hits("full disk"):
            self.disk_full_until_ns = now + rng.randrange(15 * S)
        if self.hits("full journal"):
            self.journal_full_until_ns = now + rng.randrange(15 * S)
        if not self.keeper_due_ns and self.keeper_lives and self.hits("pauses"):
            self.trace("the machine stands still")
            length = rng.randrange(S, 600 * S)
            self.kernel.pause(length)
            self.storm_until_ns += length
            self.disturbed_ns = self.kernel.now
        if self.hits("power losses"):
            self._lose_power()
        if self.hits("clock leaps"):
            self._set_clock()

    def _set_clock(self) -> None:
        """Set the wall clock: mostly by little, since what is far away is fired once and never seen again."""
        unit = self.leaps.choice((S, S, S, 60 * S, 86400 * S))
        leap = self.leaps.choice((-1, 1)) * self.leaps.randrange(1, 30) * unit // 2
        self.wall_ns, self.leapt_ns = self.wall_ns + leap, self.kernel.now
        self.trace(f"the clock leaps by {leap / S:.1f}s")

    def _ask_for_new_code(self) -> None:
        """Let somebody upgrade the manager, if there is one to be asked; now and then there is no such code."""
        controller, now = self.controller, self.kernel.now
        if controller is None or now < controller.ready_ns or self.kernel.link != "open":
            return
        if self.hits("upgrades"):
            self.kernel.no_such_code = self.rng.random() < 0.2
            controller.tell_keeper(Upgrade("python"))

    def _lose_power(self) -> None:
        self.trace("the power fails")
        for check in (*self.on_instant, *self.on_power_loss):
            check()
        self.kernel.lose_power()
        self.controller = None  # and with it what was not synced
        self.keeper_lives = True
        self.controllers = self.kernel.controllers
        while True:
            with contextlib.suppress(KeeperDied):
                self.keeper = self._new_keeper()
                break
        self.keeper_due_ns, self.disturbed_ns = 0, self.kernel.now

    def commit_ns(self) -> int:
        """Return when what is written now will lie on the disk."""
        length = self.rng.randrange(2 * S if self.hits("slow disk") else MS)
        return max(self.kernel.now, self.disk_full_until_ns) + length

    def reads(self) -> int | None:
        """Return how many bytes the controller reads at once; None: all."""
        slow = not self.calm and "slow link" in self.faults.strength
        return self.rng.randrange(1, 400) if slow else None

    def _unkillable_ns(self, process: Process) -> int:
        spared = process.id.owner == "controller"
        return self.rng.randrange(6 * S) if not spared and self.hits("unkillable") else 0

    def _other_lives_ns(self) -> int:
        return self.rng.randrange(1, 5 * S) if self.hits("other processes") else 0

    # ---- what is witnessed --------------------------------------------------------------------

    @property
    def journal_fails(self) -> bool:
        """Whether a keeper may not know what the one before it held; then it stops what it does not know."""
        return "full journal" in self.faults.strength and bool(self.unwatched)

    @property
    def leeway_ns(self) -> int:
        """How old a wish may be that an action still follows: a slow link and a slow disk lie between."""
        stalls = {"keeper stalls", "keeper kills"} & self.faults.strength.keys()
        return 3 * S + (KEEPER_STALL_NS if stalls else 0)

    def said(self, action: Action) -> None:
        self.actions.append((self.kernel.now, action))
        for check in self.on_said:
            check(action)
        self.trace(f"{type(action).__name__} {getattr(action, 'id', getattr(action, 'name', ''))}")

    def heard(self, observations: Sequence[KeeperObservation]) -> None:
        for observation in observations:
            for check in self.on_heard:
                check(observation)

    def judged(self, revision: int, trial: Trial) -> None:
        """Take note of a verdict on a revision; it is on the disk at once in here."""
        self.trace(f"revision {revision} is {trial.outcome}: {trial.reason}")
        if revision == self.disk.revision:
            for check in self.on_judged:
                check(trial)
        self.people.judged(revision, trial)

    def decided(self, action: StoreAction) -> None:
        """Take note of what a controller is about to write."""
        for check in self.on_decided:
            check(action)

    def committed(self, action: StoreAction) -> None:
        self.trace(f"committed {action}")
        for check in self.on_committed:
            check(action)

    def trace(self, line: str) -> None:
        text = f"{self.kernel.now / S:10.4f} {line}"
        self.digest = zlib.crc32(text.encode(), self.digest)
        self.lines.append(text if self.tracing else "")

    def _stop_command_ended(self, process: Process) -> None:
        """Let a stop command have the effect that people give it: the process ends, if it heeds anything."""
        if process.id.role != "stop" or not process.leads or process.ended != Exit(code=0):
            return
        for main in self.kernel.leaders():
            is_next = main.born > process.born  # it comes late, and was not started for this one
            if main.id == ProcessId(process.id.owner, process.id.slot) and not is_next:
                if not ASKING & main.program.ignores:
                    self.kernel.end(main.pid, Exit(code=0))

    def _script(self, id: ProcessId, incarnation: int, launch: Launch) -> Program:
        program = program_of(self, id)
        self.launches[self.kernel.boots, id, incarnation] = launch
        self.trace(f"spawn {id} incarnation {incarnation}: {_told(program)}")
        for check in self.on_spawn:
            check(id, incarnation, launch, program)
        return program


def _told(program: Program) -> str:
    """Return a program as text that is the same whatever the hash seed."""
    ignores, children = sorted(program.ignores), [_told(each) for each in program.children]
    plain = str(replace_fields(program, ignores=frozenset(), children=()))
    return f"{plain} ignores {ignores} children {children}"
