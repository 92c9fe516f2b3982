"""What a world comes to when the faults have stopped, and when it is asked to end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.model.action import Bind
from reconciler.model.process import ProcessId

if TYPE_CHECKING:
    from tests.sim.checkers.facts import Facts
    from tests.sim.checkers.needs import Needs


class Rest:
    """I6, I15: what runs is what is wanted, nothing more happens, and an orderly end leaves nothing."""

    def __init__(self, facts: Facts, needs: Needs) -> None:
        self.facts, self.world, self.kernel = facts, facts.world, facts.kernel
        self.needs = needs

    def end(self) -> None:
        self._runs_as_desired()
        self._sockets_serve()
        self._jobs_are_done()
        self._words_are_over()
        before = self._effects()
        self.world.rest()
        assert before == self._effects(), f"not at rest: {self.world.actions[-5:]}"
        records = set(self.world.keeper.processes.by_id)
        # The verdict on a start stays until all of it has come about: what was given up may be tried again.
        over = {i for i in records if i.role != "main"}
        gates = {"before_start", "before_spawn", "after_spawn", "after_start"}
        begun = {i for i in over if i.role in gates}
        over -= {i for i in begun if self.facts.may_rest(i.owner) or self._waits(i.owner)}
        assert not over, f"left over: {over}"
        outputs = self.kernel.open_outputs()
        running = len(self.kernel.leaders()) + len(self.facts.stand_ins())
        most = running + sum(map(self.facts.may_be_in_background, self.facts.exits))
        assert running <= outputs <= most, f"{outputs} outputs are open for {running} processes"
        self._ends_in_order()

    def _effects(self) -> tuple[int, ...]:
        # An address that is taken is tried again for ever.
        tries = Bind if self.facts.taken_sockets() else ()
        actions = [each for each in self.world.actions if not isinstance(each[1], tries)]
        made = actions, self.kernel.spawned, self.kernel.hits
        return tuple(map(len, made))

    def _runs_as_desired(self) -> None:
        disk = self.world.disk
        stand_ins = self.facts.stand_ins()
        running = {p.id: p for p in self.kernel.leaders() if p.id.role == "main"}
        running |= {p.id: p for p in stand_ins if not self._is_job(p.id.owner)}
        expected = {
            ProcessId(name, slot)
            for name, spec in disk.spec.watchers.items()
            for slot in range(1, self.facts.want(name) + 1)
            if not spec.is_job
        }
        missing = expected - set(running)
        resting = {id for id in missing if self.facts.may_rest(id.owner) or self._waits(id.owner)}
        resting |= {id for id in missing if self.facts.may_be_in_background(id)}
        expected -= resting
        # Others serve in place of those as long as they are missing.
        short = {id.owner for id in resting}
        expected |= {
            id for id in running if id.owner in short and id.slot <= self.facts.most(id.owner)
        }
        assert set(running) == expected, (
            f"running {sorted(map(str, running))}, wanted {sorted(map(str, expected))}"
        )
        for id, process in running.items():
            launch = self.world.launches[self.kernel.boots, id, process.incarnation]
            spec = disk.spec.watchers[id.owner]
            if self._is_paused() or self.facts.has_given_up(id.owner) or self.needs.waits(id.owner):
                continue
            shell = spec.shell if isinstance(spec.shell, str) else "/bin/sh"
            argv = (shell, "-c", *spec.cmd) if spec.shell else spec.cmd
            assert launch.argv == argv, f"{id} runs {launch.argv}"
        left = [
            p
            for p in self.kernel.alive()
            if self.facts.may_be_left(p) or self.facts.may_be_nobodys(p)
        ]
        others = [p for p in self.kernel.alive() if p.id not in running and p not in stand_ins]
        others = [p for p in others if p not in left]
        assert not others, f"others live: {others}"
        assert not disk.retiring, f"still being removed: {sorted(disk.retiring)}"

    def _is_paused(self) -> bool:
        """Tell whether the newest revision is not good, so that what runs as before it stays so."""
        trial = self.world.disk.trial
        return trial is not None and trial.outcome == "paused"

    def _is_job(self, name: str) -> bool:
        spec = self.world.disk.spec.watchers.get(name)
        return spec is not None and spec.is_job

    def _waits(self, name: str) -> bool:
        """Tell whether a watcher starts later: it uses an address that is taken, or what it depends on is not there."""
        spec = self.world.disk.spec.watchers.get(name)
        if spec is None:
            return False
        if self.needs.waits(name):
            return True
        return bool(self.facts.taken_sockets() & {*spec.use_sockets, spec.stdin_socket})

    def _sockets_serve(self) -> None:
        """Every socket of the spec is bound where it says, and whoever uses it has this one and no former one."""
        disk, shared = (
            self.world.disk,
            {n: s for n, s in self.world.disk.spec.sockets.items() if not s.reuseport},
        )
        held = {each.listen: each for each in self.kernel.held() if not each.template.reuseport}
        wanted_at = {str(each.listen) for each in shared.values()}
        if taken := self.facts.taken_sockets():
            taken_at = {str(shared[name].listen) for name in taken}
            assert wanted_at - held.keys() == taken_at, f"bound: {sorted(held)}"
            return  # who uses it goes on with the former one
        assert held.keys() == wanted_at
        own = [each for each in self.kernel.held() if each.template.reuseport]
        users = [p for p in self.kernel.leaders() if p.id.role == "main" and p.id.owner == "api"]
        if "own" in disk.spec.sockets:
            given = [each for process in users for each in process.sockets]
            assert sorted(map(id, own)) == sorted(map(id, given)), (
                "each slot has a socket of its own"
            )
        for process in self.kernel.leaders():
            spec = disk.spec.watchers[process.id.owner]
            names = (*spec.use_sockets, *((spec.stdin_socket,) if spec.stdin_socket else ()))
            wanted = [held[str(shared[name].listen)] for name in names if name in shared]
            there = [each for each in process.sockets if not each.template.reuseport]
            if process.id.role != "main" or self.facts.has_given_up(process.id.owner):
                continue
            if self.needs.waits(process.id.owner):
                continue
            if not self._is_paused():
                assert there == wanted, f"{process.id} has {[s.listen for s in there]}"

    def _jobs_are_done(self) -> None:
        disk = self.world.disk
        for name, spec in disk.spec.watchers.items():
            want = self.facts.want(name)
            if not spec.is_job or not want or not spec.autostart or self._waits(name):
                continue
            stood_in = {p.id for p in self.facts.stand_ins()}
            assert name in disk.generations, f"job {name} was never fired"
            for slot in range(1, want + 1):
                run = disk.runs.get(name, {}).get(slot)
                assert run is not None, f"{name}.{slot} was never fired"
                ended = run.outcome is not None or ProcessId(name, slot) in stood_in
                assert ended, f"{name}.{slot} has no outcome: {run}"

    def _words_are_over(self) -> None:
        """What was said for a while is over when that while is, with nothing else to remind the manager."""
        for name, intent in self.world.disk.intents.items():
            end = intent.hold_by.until
            known = name in self.world.disk.spec.watchers
            assert not known or end is None or self.kernel.now < end.at_ns, f"{name} still rests"

    def _ends_in_order(self) -> None:
        """An orderly end leaves no process, no socket and no output, and says that nobody was killed."""
        stubborn = [p for p in self.kernel.alive() if "TERM" in p.program.ignores]
        slow = [p for p in self.kernel.leaders() if p.program.ends_within_ns]
        self.world.shut_down()
        code = self.world.keeper.exit_code
        assert code is not None, "the manager does not end"
        left_over = [
            p
            for p in self.kernel.alive()
            if self.facts.may_be_left(p) or self.facts.may_be_anothers(p)
        ]
        others = [p for p in self.kernel.alive() if p not in left_over]
        assert not others, f"left alive: {others}"
        held = [each for process in left_over for each in process.sockets]
        bound = [each for there in self.kernel.bound.values() for each in there if each not in held]
        assert not bound, "a socket is left open"
        assert not self.kernel.open_outputs(), "an output is left open"
        assert stubborn or slow or code == 0, f"all ended in time, and the exit code is {code}"
