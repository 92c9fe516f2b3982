"""What may be started: one process in a slot, a job once, and never too many in too short a time."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from reconciler.model.units import MILLISECOND_NS as MS
from reconciler.model.units import SECOND_NS as S

if TYPE_CHECKING:
    from reconciler.model.process import Launch, ProcessId
    from reconciler.model.spec import WatcherSpec
    from tests.contract.fake_kernel import Process, Program
    from tests.sim.checkers.facts import Facts

SPAWNS_IN_TEN_SECONDS = 8
"""Three at once, then waits of 0.5, 1, 2, 4 ... seconds: what a slot that dies at once may cost."""
SHORT_SPAWNS_IN_TEN_SECONDS = 10
"""A start that a shortage has prevented is tried again every second, and does not count as a death."""


class Starts:
    """I1, I2, I8, I9."""

    def __init__(self, facts: Facts) -> None:
        self.facts, self.world, self.kernel = facts, facts.world, facts.kernel
        self.fired: set[tuple[ProcessId, int]] = set()
        self.spawns: dict[ProcessId, list[int]] = defaultdict(list)
        self.world.on_spawn.append(self.spawned)
        self.world.on_instant.append(self.instant)
        self.kernel.on_born.append(self.born)
        self.world.on_power_loss.append(self.spawns.clear)

    def spawned(self, id: ProcessId, _incarnation: int, launch: Launch, program: Program) -> None:
        self.facts.note()
        there = [p for p in self.kernel.leaders() if p.id == id and not self.facts.is_given_up(p)]
        assert not there, f"{id} is started while it lives"
        if id.role != "main":
            return
        self._one_in_a_slot(id)
        spec = self.world.disk.spec.watchers.get(id.owner)
        if spec is not None and spec.is_job:
            self._run_is_written(id)
        elif spec is not None:
            if not self.facts.has_hook(id.owner, "after_spawn", "after_start"):
                self._rate_is_bounded(id)
        if spec is not None and program.error is None:
            self._pause_is_kept(id, spec)
        self.spawns[id].append(self.kernel.now)

    def _one_in_a_slot(self, id: ProcessId) -> None:
        """I1: only a wanted slot, and only when nothing is left of what was there before."""
        most = self.facts.most(id.owner, self.facts.said_ns.get(id))
        assert id.slot <= most, f"{id} is started, wanted are {most}"
        there = [p for p in self.kernel.alive(id) if not self.facts.is_given_up(p)]
        there = [
            p for p in there if not (self.facts.may_be_left(p) or self.facts.may_be_nobodys(p))
        ]
        assert not there, f"{id} is started over survivors {there}"

    def _run_is_written(self, id: ProcessId) -> None:
        """I2: the row is on the disk, open, and no process ever ran for it."""
        generation = self.world.keeper.processes.by_id[id].record.memory.generation
        run = self.world.disk.runs.get(id.owner, {}).get(id.slot)
        assert run is not None, f"{id} is fired without a row"
        assert run.generation == generation, (
            f"{id} is fired for {generation}, on the disk is {run.generation}"
        )
        assert run.outcome is None, f"{id} is fired although {run.outcome} is written"
        # Who was started while the journal was full is unknown to the next keeper: it died before that one looked, or
        # was stopped by it.
        died_unseen = self.facts.was_unwatched(self.facts.died_ns.get(id, 0))
        unseen = self.world.journal_fails and (died_unseen or id in self.facts.died_unknown)
        assert unseen or (id, generation) not in self.fired, (
            f"{id} is fired twice in generation {generation}"
        )

    def born(self, process: Process) -> None:
        """I2: from here on this generation of the slot counts as fired."""
        self._fired_once(process)

    def _fired_once(self, process: Process) -> None:
        spec = self.world.disk.spec.watchers.get(process.id.owner)
        if spec is None or not spec.is_job or process.id.role != "main":
            return
        if process.program.error is None:
            generation = self.world.keeper.processes.by_id[process.id].record.memory.generation
            self.fired.add((process.id, generation))

    def _rate_is_bounded(self, id: ProcessId) -> None:
        """I8: a slot that dies by itself is not started without end, whoever of the manager dies too."""
        since = max(self.kernel.now - 10 * S, self.facts.touched_ns(id.owner))
        if self.world.journal_fails:
            # What a keeper could not write down, the deaths of a slot among it, its successor counts anew.
            since = max(since, self.world.unwatched[-1][1])
        recent = [at for at in self.spawns[id] if at > since]
        short = {"shortages", "few pids"} & self.world.faults.strength.keys()
        allowed = self._allowed(id.owner) + (SHORT_SPAWNS_IN_TEN_SECONDS if short else 0)
        assert len(recent) <= allowed, f"{id} was started {len(recent)} times in ten seconds"

    def _allowed(self, name: str) -> int:
        """Return how many starts in ten seconds a slot may have, by its back-off."""
        people, spec = self.world.people, self.world.disk.spec.watchers[name]
        backoff = spec.backoff
        # Who is replaced at its age has lived as long as it was to: the next one has a burst of its own.
        aged = 0 if spec.max_age is None else 10 * S // spec.max_age
        if not any(path.startswith("backoff.") for owner, path in people.used if owner == name):
            return SPAWNS_IN_TEN_SECONDS + aged * (backoff.burst + 1)
        waits, wait, left = 0, min(backoff.initial, backoff.max), 10 * S
        while left > 0:
            left -= max(wait, 50 * MS)
            wait, waits = min(int(wait * backoff.factor), backoff.max), waits + 1
        # Each life that is long enough gives another burst.
        bursts = 1 + 10 * S // backoff.reset_after + aged
        return bursts * (backoff.burst + 2) + waits

    def _pause_is_kept(self, id: ProcessId, spec: WatcherSpec) -> None:
        """Between the starts of two slots lies the pause that the spec asks for."""
        if self.facts.touched_ns(id.owner) > self.facts.said_ns.get(id, 0):
            return  # it was said by another spec, and a keeper that was stopped starts it late
        others = [p for p in self.facts.leaders(id.owner) if p.id.slot != id.slot]
        ages = [self.kernel.now - self.facts.born_ns[p.born] for p in others]
        recent = [age for age in ages if age < spec.spawn_interval]
        assert not recent, f"{id} follows another slot after {[age / S for age in recent]}s"

    def instant(self) -> None:
        """I1: no slot twice, never more than wanted. I9: nothing runs that the keeper has no record of."""
        if not self.facts.changed(self):
            return
        counts: dict[str, set[int]] = defaultdict(set)
        for process in self.kernel.leaders():
            id = process.id
            # One that was never written down is asked to end before anything is started.
            is_known = not self.world.keeper_lives or self.facts.has_record(process)
            assert is_known or process.born in self.facts.asked_ns, f"{id} lives and has no record"
            if id.role == "main" and process.born not in self.facts.asked_ns:
                assert id.slot not in counts[id.owner], f"{id} lives twice"
                counts[id.owner].add(id.slot)
