"""I4: in which order hooks, starts and ends come, and that none is run twice for one step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.model.process import ProcessId
from tests.sim.programs import ASKING

if TYPE_CHECKING:
    from reconciler.model.process import Launch
    from reconciler.model.spec import WatcherSpec
    from tests.contract.fake_kernel import Process, Program
    from tests.sim.checkers.facts import Facts


class Hooks:
    """before_start < before_spawn < spawn < after_spawn < after_start; before_stop < TERM < exit < after_stop."""

    def __init__(self, facts: Facts) -> None:
        self.facts, self.world, self.kernel = facts, facts.world, facts.kernel
        self.passed_ns: dict[ProcessId, int] = {}
        """When a hook passed last."""
        self.passed_begun_ns: dict[ProcessId, int] = {}
        """When the run of it that passed had begun."""
        self.passed_about: dict[ProcessId, int] = {}
        """What that run was asked for."""
        self.refused_ns: dict[str, int] = {}
        """When the start of a watcher was refused last, so that it has another one."""
        self.begun_ns: dict[ProcessId, int] = {}
        """When a process of this name was started last."""
        self.begun_about: dict[ProcessId, int] = {}
        """What it was asked for, if it is a hook."""
        self.asked: set[int] = set()
        """Processes that TERM has reached, by birth."""
        self._seen_deaths = self._seen_hits = 0
        # What has passed before a boot opens nothing after it.
        self.world.on_power_loss += [self.passed_ns.clear, self.begun_ns.clear]
        self.world.on_spawn.append(self.spawned)
        self.world.on_instant.append(self.instant)

    def spawned(self, id: ProcessId, _incarnation: int, launch: Launch, program: Program) -> None:
        self._note_verdicts()
        spec = self.world.disk.spec.watchers.get(id.owner)
        if id.role != "main":
            self._hook_is_in_order(id, spec)
        elif spec is not None and not spec.is_job and not self.world.journal_fails:
            self._gates_are_passed(id, spec)
        if program.error is None:
            self.begun_ns[id] = self.kernel.now
            self.begun_about[id] = self._about(id)

    def _gates_are_passed(self, id: ProcessId, spec: WatcherSpec) -> None:
        """No start without the hooks before it."""
        if self.facts.touched_ns(id.owner) > self.facts.said_ns.get(id, 0):
            return  # it was said by another spec, and a keeper that was stopped starts it late
        if spec.hooks.before_spawn is not None:
            passed = self.passed_ns.get(ProcessId(id.owner, id.slot, "before_spawn"))
            assert passed is not None and passed >= self.begun_ns.get(id, -1), (
                f"{id} is started without its before_spawn hook"
            )
        others = [
            each
            for each in self.world.keeper.processes.by_id
            if each.owner == id.owner and each.role == "main" and each != id
        ]
        is_first = id not in self.begun_ns and not self.facts.replaces.get(id)
        if spec.hooks.before_start is not None and not others and is_first:
            assert ProcessId(id.owner, 0, "before_start") in self.passed_ns, (
                f"{id} is started without before_start"
            )

    def _hook_is_in_order(self, id: ProcessId, spec: WatcherSpec | None) -> None:
        main = ProcessId(id.owner, id.slot)
        if id.role == "after_spawn":
            assert main in self.begun_ns, f"{id} runs before anything was started"
        if id.role in {"before_reap", "after_reap"}:
            there = [p for p in self.facts.leaders(id.owner) if p.id == main]
            assert not there, f"{id} runs while {main} lives"
        if id.role == "after_stop":
            there = self.facts.leaders(id.owner)
            assert not there, f"{id} runs while {[str(p.id) for p in there]} live"
        if id.role == "after_start" and spec is not None and not spec.is_job:
            begun = [
                each for each in self.begun_ns if each.owner == id.owner and each.role == "main"
            ]
            assert begun, f"{id} runs before anything was started"
        if id.role == "after_spawn":
            self._greeting_is_remembered(id, main)
        self._step_is_taken_once(id, main)

    def _greeting_is_remembered(self, id: ProcessId, main: ProcessId) -> None:
        """A process is after_spawn_passed once, also by a controller that was not there: the keeper was told of it."""
        there = [p for p in self.facts.leaders(id.owner) if p.id == main]
        passed = self.passed_ns.get(id, -1)
        if self._is_lenient(id.owner):
            return
        if not there or "torn frames" in self.world.faults.strength or self.world.journal_fails:
            return
        remembered = self.facts.remembered_ns.get((main, there[0].incarnation), -1)
        if any(map(self.facts.was_unwatched, (passed, remembered))):
            return  # the verdict, or what was to be remembered of it, was lost with a keeper
        is_its_own = self.passed_begun_ns.get(id, -1) >= self.facts.born_ns[there[0].born]
        assert not is_its_own or passed > remembered, f"{id} runs again"

    def _step_is_taken_once(self, id: ProcessId, main: ProcessId) -> None:
        """A gate that has passed is not asked again until what it opened has happened."""
        if self._is_lenient(id.owner):
            return
        if "power losses" in self.world.faults.strength or self.world.journal_fails:
            return  # a start that died with the machine was one, and is not seen here
        since = self.passed_begun_ns.get(id, 0) - self.world.leeway_ns
        another = max(self.facts.touched_ns(id.owner), self.refused_ns.get(id.owner, -1))
        if id.role != "before_spawn" or another >= since:
            return  # it was asked for another start
        passed = self.passed_ns.get(id)
        taken = self.facts.said_ns.get(main, -1)
        known = passed is not None and not self.facts.was_unwatched(passed)
        if (
            not self.kernel.tells_exits
        ):  # nobody is told how a hook ended that began under a former keeper
            begun = self.passed_begun_ns.get(id, 0)
            known &= all(end <= begun for _, end in self.world.unwatched)
        if self._is_of_another_generation(id) or self._may_have_lapsed(id.owner):
            return
        if id.slot > min(self.facts.wants(id.owner)):
            return  # nobody needs a slot beyond any more when the others are replaced sooner
        assert not known or passed <= taken, f"{id} runs again though it has passed"

    def _may_have_lapsed(self, name: str) -> bool:
        """Tell whether a process is to be replaced with one of a dependency, and not while that itself goes again."""
        spec = self.world.disk.spec.watchers.get(name)
        needed = () if spec is None else spec.dependencies.values()
        return any(each.on_restart == "restart" for each in needed)

    def _is_of_another_generation(self, id: ProcessId) -> bool:
        """Tell whether a hook is asked for a newer generation of a job than it has passed for.

        So is one whose generation is on no disk, and so is made again. A slot that still waits for its run goes over
        to the next generation, which others of its job may call for: one that was lost is fired again.
        """
        generation = self.world.disk.generations.get(id.owner)
        spec, about = self.world.disk.spec.watchers.get(id.owner), self._about(id)
        if spec is None or not spec.is_job:
            return False
        is_unwritten = generation is None or generation.number < about
        return is_unwritten or self.passed_about.get(id, about) < about

    def _about(self, id: ProcessId) -> int:
        """Return what a hook is asked for: of a job, the generation."""
        return self.world.keeper.processes.by_id[id].record.memory.about

    def instant(self) -> None:
        self._note_verdicts()
        for hit in self.kernel.hits[self._seen_hits :]:
            if hit.signal in ASKING and hit.process.leads and hit.process.id.role == "main":
                self._stop_is_announced(hit.process, hit.at_ns)
                self.asked.add(hit.process.born)
        self._seen_hits = len(self.kernel.hits)

    def _note_verdicts(self) -> None:
        for death in self.kernel.deaths[self._seen_deaths :]:
            passed = death.exit.code == 0 or self._is_lenient(death.process.id.owner)
            if passed and death.process.leads:
                self.passed_ns[death.process.id] = death.at_ns
                self.passed_about[death.process.id] = self._passed_about(death.process.id)
                self.passed_begun_ns[death.process.id] = self.begun_ns.get(death.process.id, 0)
            if death.exit.code != 0 and death.process.id.role == "after_start":
                self.refused_ns[death.process.id.owner] = death.at_ns
        self._seen_deaths = len(self.kernel.deaths)

    def _passed_about(self, id: ProcessId) -> int:
        """Return what a hook that has passed was asked for: of a job, a generation; one on no disk is made again."""
        about, spec = self.begun_about.get(id, 0), self.world.disk.spec.watchers.get(id.owner)
        written = self.world.disk.generations.get(id.owner)
        if spec is None or not spec.is_job:
            return about
        return min(about, 0 if written is None else written.number)

    def _is_lenient(self, name: str) -> bool:
        """Tell whether errors of hooks of a watcher of this name may be passed over."""
        return self.world.people.has_used(name, "hook.on_error")

    def _stop_is_announced(self, process: Process, at_ns: int) -> None:
        """before_stop has been started before the first TERM of a stop of the whole."""
        owner = process.id.owner
        if not self.facts.has_record(process):
            return  # a stray that a killed keeper has not written down
        disk = self.world.disk
        spec = disk.spec.watchers.get(owner) or disk.retiring.get(owner)
        if spec is None or spec.hooks.before_stop is None or spec.is_job:
            return
        said = self.facts.asked_said_ns.get((process.id, process.incarnation), at_ns)
        if process.born in self.asked or self.facts.want_at(owner, said):
            return  # it is being stopped already, or this is a roll
        if self.facts.touched_ns(owner) > said:
            return  # it is another watcher of this name by now
        if self.facts.has_hook(owner, "after_spawn", "after_start"):
            return  # the end of a start that was refused
        # Said, not begun: on a machine that is short of pids the hook may have failed to start.
        hook = ProcessId(owner, 0, "before_stop")
        begun, ended = self.facts.said_ns.get(hook), self.facts.died_ns.get(hook, at_ns)
        assert begun is not None and begun <= at_ns, f"{process.id} is stopped without before_stop"
        # With before_signal, the signal of a roll that had begun may come later.
        may_run = self.world.ending or self.facts.has_hook(owner, "before_signal")
        runs = any(each.id == hook for each in self.kernel.leaders())
        assert may_run or not runs, f"{process.id} is stopped while before_stop runs"
        # One that was begun for a stop that was taken back, and still ran at the next, is that one's too.
        still_ran = ended >= self.facts.touched_ns(owner)
        assert self.facts.said_ns[process.id] <= begun or still_ran, (
            f"{process.id} is stopped with the before_stop of another stop"
        )
