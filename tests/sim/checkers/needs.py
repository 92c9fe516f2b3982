"""Who depends on whom: nobody is started, and nobody stopped for a successor, before what it depends on is there.

What a dependency has come to is seen at the machine and on the disk, and in the favour of the product: it counts as
there for as long as a word may be under way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.model.action import RecordGeneration
from reconciler.model.units import SECOND_NS as S
from tests.sim.programs import ASKING

if TYPE_CHECKING:
    from reconciler.model.action import StoreAction
    from reconciler.model.process import Launch, ProcessId
    from reconciler.model.spec import WatcherSpec
    from tests.contract.fake_kernel import Process, Program
    from tests.sim.checkers.facts import Facts

WORD_NS = S
"""A process is told to be ready a moment after it is, and told to be dead a moment after it is."""


class Needs:
    """I21: gates open before a start and before a stop for a successor. I22: dependents stop first."""

    def __init__(self, facts: Facts) -> None:
        self.facts, self.world, self.kernel = facts, facts.world, facts.kernel
        self._met_ns: dict[tuple[str, str], int] = {}
        """When a condition was last met by a watcher."""
        self._edited_ns: dict[str, int] = {}
        """When a watcher was edited last."""
        self._before: dict[str, WatcherSpec] = {}
        self._deployed_ns: dict[str, int] = {}
        """When the command of a watcher was edited last, and the generation of a job then."""
        self._generation: dict[str, int] = {}
        self._met_generation: dict[tuple[str, str], int] = {}
        """The newest generation of a job in which a condition was met."""
        self._revision = self._seen_hits = 0
        if self.world.people.needs is None:
            return
        self.world.on_instant.append(self.instant)
        self.world.on_spawn.append(self.spawned)
        self.world.on_decided.append(self.decided)
        self.world.on_power_loss.append(self._met_ns.clear)
        self.world.on_keeper_death.append(self.instant)

    def instant(self) -> None:
        self._note_edits()
        for hit in self.kernel.hits[self._seen_hits :]:
            if hit.signal in ASKING and self._is_main(hit.process):
                self._gives_way_in_time(hit.process)
        self._seen_hits = len(self.kernel.hits)
        for name in self.world.disk.spec.watchers:
            self._note_conditions(name)

    def _note_conditions(self, name: str) -> None:
        for condition in ("started", "ready", "succeeded", "completed"):
            if self.is_met(name, condition):
                self._met_ns[name, condition] = self.kernel.now
                newest = self.world.disk.generations.get(name)
                number = 0 if newest is None else newest.number
                self._met_generation[name, condition] = number

    def decided(self, action: StoreAction) -> None:
        if isinstance(action, RecordGeneration):
            self._note_edits()  # what an edit fires comes after it

    def _note_edits(self) -> None:
        disk = self.world.disk
        if disk.revision == self._revision:
            return
        self._revision = disk.revision
        for name, spec in disk.spec.watchers.items():
            before = self._before.get(name)
            if before is None or (before.cmd, before.depends_on) != (spec.cmd, spec.depends_on):
                self._edited_ns[name] = self.kernel.now
            if before is not None and before.cmd != spec.cmd:
                newest = disk.generations.get(name)
                self._deployed_ns[name] = self.kernel.now
                self._generation[name] = 0 if newest is None else newest.number
        self._before = dict(disk.spec.watchers)

    def is_met(self, name: str, condition: str) -> bool:
        """Tell whether a watcher has come to a condition, as the machine and the disk show it."""
        spec, want = self.world.disk.spec.watchers[name], self.facts.want(name)
        if spec.is_job:  # also one that was stopped has run
            intent = self.world.disk.intents.get(name)
            scale = None if intent is None else intent.scale
            want = spec.numprocesses if scale is None else scale
        slots = range(1, want + 1)
        if spec.is_job:
            runs = self.world.disk.runs.get(name, {})
            newest = self.world.disk.generations.get(name)
            rows = [runs.get(slot) for slot in slots]
            if newest is None or not slots or None in rows:
                return False
            fired = slots if newest.slots is None else [s for s in slots if s in newest.slots]
            if any(runs[slot].generation < newest.number for slot in fired):
                return False
            if condition == "started":  # its program was executed, or nobody saw whether it was
                return all(
                    row is not None
                    and (row.outcome in {None, "lost"} or row.duration_ns is not None)
                    for row in rows
                )
            if condition == "completed":
                return all(row is not None and row.outcome is not None for row in rows)
            return all(row is not None and row.outcome == "succeeded" for row in rows)
        alive = [p for p in self.facts.leaders(name) if p.id.slot in slots]
        alive += [p for p in self.facts.stand_ins() if p.id.owner == name]
        if condition == "started":
            enough = 1 if self.facts.may_rest(name) else len(slots)
            there = {p.id for p in alive} | self.facts.untold_ends(name)
            return bool(slots) and len(there) >= enough
        return bool(slots) and any(map(self.facts.answers.may_be_ready, alive))

    # ---- starts ---------------------------------------------------------------------------------

    def spawned(self, id: ProcessId, _incarnation: int, launch: Launch, _program: Program) -> None:
        spec = self.world.disk.spec.watchers.get(id.owner)
        if id.role != "main" or spec is None:
            return
        self.facts.note()
        self._note_edits()
        said_ns = self.facts.said_ns.get(id, self.kernel.now)
        lacks = self._lacking(id.owner, said_ns)
        assert not lacks, f"{id} is started before {lacks}"
        if launch.argv[-1] == spec.cmd[-1]:
            before = self._comes_before(id.owner, spec)
            assert not before, f"{id} is deployed before {before} has run"

    def _comes_before(self, name: str, spec: WatcherSpec) -> str:
        """Return a job that was deployed with a watcher and has not run as it is now: its former runs do not count."""
        if {"apply.on_failure", "order rollback"} & self.world.faults.strength.keys():
            return ""  # what is restored may be what has run
        for other, each in spec.dependencies.items():
            job = self.world.disk.spec.watchers[other]
            is_one_edit = self._deployed_ns.get(name, 0) == self._deployed_ns.get(other, 1)
            if not (is_one_edit and job.is_job and each.required and self.facts.want(other)):
                continue
            if "spec_change" not in job.rerun_on or not job.autostart:
                continue
            if job.schedule is not None and not job.schedule.run_at_start:
                continue  # an edit does not fire it
            number = self._met_generation.get((other, str(each.condition)), 0)
            if number <= self._generation[other]:
                return other
        return ""

    # ---- stops ----------------------------------------------------------------------------------

    def _gives_way_in_time(self, process: Process) -> None:
        """Nobody is stopped for a successor that cannot start yet."""
        id, disk = process.id, self.world.disk
        spec = disk.spec.watchers.get(id.owner)
        if spec is None or spec.is_job or not self.facts.has_record(process):
            return
        if self.facts.has_hook(id.owner, "after_spawn", "after_start") or self.world.journal_fails:
            return
        shown = self.facts.answers.of.get(process.born)
        if shown is not None and self.facts.answers.is_late(shown):
            return  # it is no good, whoever comes after it
        said_ns = self.facts.asked_said_ns.get((id, process.incarnation), self.kernel.now)
        if id.slot <= min(self.facts.wants(id.owner, said_ns)):
            lacks = self._lacking(id.owner, said_ns)
            assert not lacks, f"{id} is stopped for a successor before {lacks}"
            launch = self.world.launches[self.kernel.boots, id, process.incarnation]
            is_deployed = said_ns > self._deployed_ns.get(id.owner, 0) + self.world.leeway_ns
            is_deployed |= "slow link" not in self.world.faults.strength
            if is_deployed and launch.argv[-1] != spec.cmd[-1]:
                before = self._comes_before(id.owner, spec)
                assert not before, f"{id} gives way to what is deployed before {before} has run"

    def _lacking(self, name: str, at_ns: int) -> str:
        """Return what a watcher waits for that was not there at a time, nor shortly before; empty: all was."""
        since_ns = at_ns - self.world.leeway_ns - WORD_NS
        spec = self.world.disk.spec.watchers[name]
        if self._edited_ns.get(name, 0) >= since_ns:
            return ""  # it may be started by what was said before
        for other, each in spec.dependencies.items():
            if not each.required or self._edited_ns.get(other, 0) >= since_ns:
                continue
            if self._met_ns.get((other, str(each.condition)), -1) < since_ns:
                return f"{other} is {each.condition}"
        return ""

    # ---- at rest and at the end -------------------------------------------------------------------

    def waits(self, name: str, seen: frozenset[str] = frozenset()) -> bool:
        """Tell whether a watcher has a reason to wait, or one that it depends on has one; at rest."""
        spec = self.world.disk.spec.watchers.get(name)
        if spec is None:
            return False
        return any(
            not self.is_met(other, str(each.condition))
            or self.waits(other)
            or (not other.startswith("job") and self.facts.has_given_up(other))
            for other, each in spec.dependencies.items()
        )

    def ended(self) -> None:
        """I22: at the end of everything each was asked when all that depend on it were gone, or had been killed."""
        watchers = self.world.disk.spec.watchers
        died = {p.process.born: p.at_ns for p in self.kernel.deaths}
        mains = [p.process for p in self.kernel.deaths if self._is_main(p.process)]
        for process in mains:
            asked_ns = self.facts.asked_ns.get(process.born)
            if asked_ns is None or asked_ns < self.world.shut_down_ns:
                continue
            for other in mains:
                needs = watchers.get(other.id.owner)
                if needs is None or process.id.owner not in needs.dependencies:
                    continue
                gone_ns = min(
                    died[other.born], self.facts.killed_ns.get(other.born, died[other.born])
                )
                was_there = gone_ns > self.world.shut_down_ns
                assert not was_there or asked_ns >= gone_ns, (
                    f"{process.id} is asked to end before {other.id}, which depends on it"
                )

    def _is_main(self, process: Process) -> bool:
        return process.leads and process.id.role == "main"
