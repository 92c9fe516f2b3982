"""Judges of a history: they look at the machine, the disk and what was asked, never at the core."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from reconciler.model.action import Signal
from reconciler.model.process import ProcessId
from reconciler.model.units import SECOND_NS as S

if TYPE_CHECKING:
    from reconciler.model.process import Launch
    from reconciler.model.spec import WatcherSpec
    from tests.contract.fake_kernel import Process, Program
    from tests.sim.world import World

LEEWAY_NS = 3 * S
"""How old a wish may be that an action still follows: a slow link and a slow disk lie between."""
SPAWNS_IN_TEN_SECONDS = 8
"""Three at once, then waits of 0.5, 1, 2, 4 ... seconds: what a slot that dies at once may cost."""


class Checkers:
    """All invariants of one world. `instant` is called after each of its instants, `end` once at rest."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.kernel = world.kernel
        self.fired: set[tuple[ProcessId, int]] = set()
        self.wants: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self.spawns: dict[ProcessId, list[int]] = defaultdict(list)
        self.leaders: dict[int, tuple[ProcessId, int]] = {}
        self.passed: dict[ProcessId, int] = {}
        self.asked_to_end: dict[tuple[ProcessId, int], int] = {}
        self.bystanders: dict[ProcessId, int] = {}
        self.bound: dict[str, object] = {}
        self.withheld: set[str] = set()
        """Watchers that ever had a before_signal hook."""
        self.seen_actions = 0
        self.seen_deaths = 0
        world.on_spawn.append(self.spawned)
        world.on_instant.append(self.instant)

    # ---- at each spawn ------------------------------------------------------------------------

    def spawned(self, id: ProcessId, incarnation: int, launch: Launch, program: Program) -> None:
        now = self.kernel.now
        assert not any(map(self._is_leader, self.kernel.alive(id))), (
            f"{id} is started while it lives"
        )
        self._watch_deaths()
        if id.role == "main":
            self._main_spawned(id, incarnation, program, now)

    def _main_spawned(self, id: ProcessId, incarnation: int, program: Program, now: int) -> None:
        self._note_wants()
        allowed = [want for at, want in self.wants[id.owner] if at >= now - LEEWAY_NS]
        latest = [want for at, want in self.wants[id.owner] if at < now - LEEWAY_NS][-1:]
        assert id.slot <= max(allowed + latest, default=0), (
            f"{id} is started, wanted are {allowed + latest}"
        )
        assert not self.kernel.alive(id), f"{id} is started over survivors {self.kernel.alive(id)}"
        spec = self.world.disk.spec.watchers.get(id.owner)
        if spec is not None and spec.is_job:
            self._run_fired(id, program)
        elif spec is not None:
            if spec.hooks.after_spawn is None and spec.hooks.after_start is None:
                self._rate_is_bounded(id, now)
            self._gate_is_passed(id, spec)
        if spec is not None and spec.spawn_interval and program.error is None:
            others = [
                self.spawns[o][-1]
                for o in self.spawns
                if o.owner == id.owner
                and o.slot != id.slot
                and self.kernel.alive(o)
                and o.role == "main"
            ]
            recent = [at for at in others if now - at < spec.spawn_interval]
            assert not recent, (
                f"{id} follows another slot after {[(now - at) / S for at in recent]}s"
            )
        self.spawns[id].append(now)

    def _run_fired(self, id: ProcessId, program: Program) -> None:
        """S1, I2: the row is on the disk, open, and no process ever ran for it."""
        record = self.world.keeper._processes[id].record
        generation = record.memory.generation
        run = self.world.disk.runs.get(id.owner, {}).get(id.slot)
        assert run is not None, f"{id} is fired without a row"
        assert run.generation == generation, (
            f"{id} is fired for {generation}, on the disk is {run.generation}"
        )
        assert run.outcome is None, f"{id} is fired although {run.outcome} is written"
        assert (id, generation) not in self.fired, f"{id} is fired twice in generation {generation}"
        if program.error is None and not self.kernel.shortages:
            self.fired.add((id, generation))

    def _rate_is_bounded(self, id: ProcessId, now: int) -> None:
        """I8: a slot that dies by itself is not started without end."""
        touched = self.world.touched_ns.get(id.owner, 0)
        recent = [at for at in self.spawns[id] if at > max(now - 10 * S, touched)]
        assert len(recent) <= SPAWNS_IN_TEN_SECONDS, (
            f"{id} was started {len(recent)} times in ten seconds"
        )

    def _gate_is_passed(self, id: ProcessId, spec: WatcherSpec) -> None:
        """S8, I4: before_spawn passed since the last death, before_start since nothing ran."""
        if spec.hooks.before_spawn is not None:
            passed = self.passed.get(ProcessId(id.owner, id.slot, "before_spawn"))
            last = self.spawns[id][-1] if self.spawns[id] else -1
            assert passed is not None and passed >= last, (
                f"{id} is started without its before_spawn hook"
            )
        is_started = any(
            other.owner == id.owner and other.role == "main" and other != id
            for other in self.world.keeper._processes
        )
        if spec.hooks.before_start is not None and not is_started and not self.spawns[id]:
            assert ProcessId(id.owner, 0, "before_start") in self.passed, (
                f"{id} is started without before_start"
            )

    # ---- at each instant ----------------------------------------------------------------------

    def instant(self) -> None:
        self._note_wants()
        self._watch_deaths()
        self._watch_actions()
        self._watch_sockets()
        self._watch_bystanders()

    def _note_wants(self) -> None:
        disk, now = self.world.disk, self.kernel.now
        for name in {*disk.spec.watchers, *self.wants}:
            spec, intent = disk.spec.watchers.get(name), disk.intents.get(name)
            want = 0 if spec is None else spec.numprocesses
            if spec is not None and spec.hooks.before_signal is not None:
                self.withheld.add(name)
            if spec is not None and intent is not None:
                want = want if intent.scale is None else intent.scale
                want = 0 if intent.hold == "stopped" else want
            noted = self.wants[name]
            if not noted or noted[-1][1] != want:
                if noted:
                    noted.append((now, noted[-1][1]))  # until now
                noted.append((now, want))

    def _watch_deaths(self) -> None:
        """Note which hooks passed."""
        for at, process, how in self.kernel.deaths[self.seen_deaths :]:
            if how.code == 0:
                self.passed[process.id] = at
        self.seen_deaths = len(self.kernel.deaths)

    def _watch_actions(self) -> None:
        """I11: when the stop of an incarnation was asked for; S3: nobody is forgotten alive."""
        for at, action in self.world.actions[self.seen_actions :]:
            if isinstance(action, Signal) and action.signal != "KILL":
                self.asked_to_end.setdefault((action.id, action.incarnation), at)
            if isinstance(action, Signal) and action.signal == "KILL" and action.id.role == "main":
                self._kill_is_allowed(at, action)
        self.seen_actions = len(self.world.actions)

    def _kill_is_allowed(self, at: int, action: Signal) -> None:
        living = [
            p
            for p in self.kernel.processes.values()
            if p.id == action.id and p.incarnation == action.incarnation
        ]
        leader = [
            p
            for p in living
            if p.marker and p.group == p.pid and p.parent == 1 and self._is_leader(p)
        ]
        if not any(p.ended is None for p in leader):
            return  # only for what survives it
        specs = [
            self.world.disk.spec.watchers.get(action.id.owner),
            self.world.disk.retiring.get(action.id.owner),
        ]
        spec = next((s for s in specs if s is not None), None)
        if spec is None or action.id.owner in self.withheld:
            return  # a hook may withhold the first signal, and counts inside the grace period
        asked = self.asked_to_end.get((action.id, action.incarnation))
        assert asked is not None, f"KILL for {action.id}, which was never asked to end"
        assert at - asked >= spec.stop.timeout - S, (
            f"KILL for {action.id} after {(at - asked) / S}s"
        )

    def _is_leader(self, process: Process) -> bool:
        return (process.id, process.incarnation, process.pid) in self.kernel.leaders

    def _watch_sockets(self) -> None:
        """S4, I12: a socket that stays in the spec stays bound."""
        spec = self.world.disk.spec.sockets.get("http")
        wanted = None if spec is None else str(spec.listen)
        open_now = {place[0] for place, sockets in self.kernel.bound.items() if sockets}
        if self.bound.get("wanted") == wanted and self.bound.get("was open"):
            assert wanted in open_now, f"the socket at {wanted} is closed"
        self.bound = {"wanted": wanted, "was open": wanted in open_now}

    def _watch_bystanders(self) -> None:
        """I10, S2: who was never edited, commanded or broken keeps its pid through everything."""
        for process in self.kernel.alive():
            if (
                process.id.owner == "bystander"
                and process.id.role == "main"
                and self._is_leader(process)
            ):
                self.bystanders.setdefault(process.id, process.pid)
        for id, pid in self.bystanders.items():
            process = self.kernel.processes.get(pid)
            assert process is not None and process.id == id and process.ended is None, (
                f"{id} lost its process"
            )

    # ---- at rest ------------------------------------------------------------------------------

    def end(self) -> None:
        """L1, I6: what runs is what is wanted, and nothing more happens."""
        self._runs_as_wanted()
        self._jobs_are_done()
        before = len(self.world.actions), len(self.kernel.spawned), len(self.kernel.signals)
        self.world.rest()
        after = len(self.world.actions), len(self.kernel.spawned), len(self.kernel.signals)
        assert before == after, f"not at rest: {self.world.actions[before[0] :][:5]}"
        keeper_records = set(self.world.keeper._processes)
        assert all(id.role == "main" for id in keeper_records), f"left over: {keeper_records}"

    def _runs_as_wanted(self) -> None:
        disk = self.world.disk
        self._note_wants()
        running = {
            p.id: p for p in self.kernel.alive() if p.id.role == "main" and self._is_leader(p)
        }
        expected = set()
        for name, spec in disk.spec.watchers.items():
            if not spec.is_job:
                expected |= {
                    ProcessId(name, slot) for slot in range(1, self.wants[name][-1][1] + 1)
                }
        assert set(running) == expected, (
            f"running {sorted(map(str, running))}, wanted {sorted(map(str, expected))}"
        )
        for id, process in running.items():
            argv = self.world.launches[id, process.incarnation].argv
            assert argv == disk.spec.watchers[id.owner].cmd, f"{id} runs {argv}"
        others = [p for p in self.kernel.alive() if p.id not in running]
        assert not others, f"others live: {others}"

    def _jobs_are_done(self) -> None:
        disk = self.world.disk
        for name, spec in disk.spec.watchers.items():
            want = self.wants[name][-1][1]
            if not spec.is_job or not want:
                continue
            assert name in disk.generations, f"job {name} was never fired"
            for slot in range(1, want + 1):
                run = disk.runs.get(name, {}).get(slot)
                assert run is not None, f"{name}.{slot} was never fired"
                assert run.outcome is not None, f"{name}.{slot} has no outcome: {run}"
