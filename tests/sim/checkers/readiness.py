"""Whether processes are ready and healthy: who is stopped for not being so, who is not, and what follows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.model.process import ProcessId
from reconciler.model.units import SECOND_NS as S
from tests.sim.programs import ASKING

if TYPE_CHECKING:
    from reconciler.model.process import Launch
    from reconciler.model.spec import WatcherSpec
    from tests.contract.fake_kernel import Process, Program
    from tests.sim.checkers.answers import Shown
    from tests.sim.checkers.facts import Facts

PROMPT_NS: Final = 5 * S
"""In which time a manager that nothing disturbs does what is due."""


class Readiness:
    """I29: nobody that is well is stopped. I30: who is not is stopped, and that counts. I31: `after_ready`."""

    def __init__(self, facts: Facts) -> None:
        self.facts, self.world, self.kernel = facts, facts.world, facts.kernel
        self.answers = facts.answers
        self.blamed: dict[int, str] = {}
        """Who was stopped for nothing but not being well, by birth: `late`, `unhealthy`, or either."""
        self.in_a_row: dict[ProcessId, int] = {}
        """How many processes of a slot were late one after the other."""
        self._judged: set[int] = set()
        self._seen_hits = 0
        if not self.answers.is_used:
            return
        self.world.on_instant.append(self.instant)
        self.world.on_spawn.append(self.spawned)
        self.world.on_power_loss += [self.blamed.clear, self.in_a_row.clear]

    def instant(self) -> None:
        self.facts.note()
        for hit in self.kernel.hits[self._seen_hits :]:
            if hit.signal in ASKING and hit.process.leads and hit.process.id.role == "main":
                self._asked(hit.process)
        self._seen_hits = len(self.kernel.hits)
        for process in self.kernel.leaders():
            if process.born in self.facts.asked_ns:
                self._asked(process)
            elif (shown := self.answers.of.get(process.born)) is not None:
                self._is_asked_in_time(shown)

    # ---- who is stopped ---------------------------------------------------------------------------

    def _asked(self, process: Process) -> None:
        """A process for whose end there is no other reason is not well."""
        shown = self.answers.of.get(process.born)
        if shown is None or process.born in self._judged:
            return
        self._judged.add(process.born)
        if not self._is_left_alone(shown, self.kernel.now):
            return
        said_ns = self.facts.asked_said_ns.get(
            (process.id, process.incarnation), self.facts.asked_ns[process.born]
        )
        is_sick = self.answers.may_be_sick(process, said_ns - S)
        is_late = self._is_late_at(shown, said_ns)
        assert is_sick or is_late, f"{process.id} is stopped, though it was ready and healthy"
        self.blamed[process.born] = (
            "either" if is_sick and is_late else "late" if is_late else "unhealthy"
        )
        spec = self.world.disk.spec.watchers[process.id.owner]
        if not is_late:
            self._may_be_healed(process, spec, said_ns)

    def _is_late_at(self, shown: Shown, said_ns: int) -> bool:
        """Tell whether a process may have been stopped for its deadline: it was over, and it was not known ready."""
        deadline_ns, ready_ns = self.answers.deadline_ns(shown), shown.surely_ready_ns
        if deadline_ns is None or said_ns < deadline_ns:
            return False
        # What it had shown may have died with a controller before it was remembered.
        return ready_ns is None or said_ns - max(ready_ns, self._disturbed_ns(said_ns)) < S

    def _disturbed_ns(self, at_ns: int) -> int:
        return min(self.world.disturbed_ns, at_ns)

    def _is_left_alone(self, shown: Shown, now_ns: int) -> bool:
        """Tell whether there is no reason to stop a process but that it is not well."""
        world, process, owner = self.world, shown.process, shown.process.id.owner
        spec = world.disk.spec.watchers.get(owner)
        if spec is None or spec.is_job or world.ending or world.journal_fails:
            return False
        said_ns = min(self.facts.said_ns.get(process.id, 0), shown.born_ns)
        if self.facts.touched_ns(owner) >= said_ns - world.leeway_ns:
            return False
        if not self.facts.has_record(process) or process.id.slot > self.facts.want(owner):
            return False
        if self.facts.has_hook(owner, "after_spawn", "after_start"):
            return False
        if world.people.has_used(owner, "max_age"):
            return False
        if any(each.on_restart == "restart" for each in spec.dependencies.values()):
            return False
        # Who uses a socket that was bound anew gives way to one that has it.
        is_bound_anew = world.unwatched or any(each.closed for each in process.sockets)
        return not (process.sockets and is_bound_anew)

    def _may_be_healed(self, process: Process, spec: WatcherSpec, said_ns: int) -> None:
        """An unhealthy process is stopped if its spec has it so, and if no slot is missing that was not unhealthy."""
        owner = process.id.owner
        assert spec.health is not None, f"{process.id} is stopped, and nobody asks for its health"
        assert spec.health.action != "none", f"{process.id} is stopped for its health"
        if self.facts.may_rest(owner):
            return
        missing, serving = [], []
        for slot in range(1, self.facts.want(owner) + 1):
            other = next((p for p in self.facts.leaders(owner) if p.id.slot == slot), None)
            if slot == process.id.slot:
                continue
            if other is not None and self.answers.may_be_sick(other, said_ns - 2 * S):
                continue
            if other is None or other.born in self.facts.asked_ns:
                lost = self.facts.died_ns.get(ProcessId(owner, slot), -1)
                if other is not None:
                    lost = self.facts.asked_ns[other.born]
                lost = max(lost, self.world.disturbed_ns)
                if said_ns - lost > self.world.leeway_ns:
                    missing.append(slot)
            elif (ready_ns := self.answers.surely_ready_ns(other)) is not None:
                if said_ns - max(ready_ns, self.world.disturbed_ns) > self.world.leeway_ns:
                    serving.append(slot)
        assert not (missing and serving), (
            f"{process.id} is stopped for its health while {missing} are missing and {serving} serve"
        )

    # ---- who is to be stopped ---------------------------------------------------------------------

    def _is_asked_in_time(self, shown: Shown) -> None:
        """Who is not ready in time, or stays unhealthy while all others serve, is asked to end."""
        world, now, process = self.world, self.kernel.now, shown.process
        spec = world.disk.spec.watchers.get(process.id.owner)
        if spec is None or world.controller is None or not world.keeper_lives:
            return
        if spec.is_job or world.ending or world.journal_fails or not self.facts.has_record(process):
            return
        since_ns = max(
            world.disturbed_ns, self.facts.touched_ns(process.id.owner) + world.leeway_ns
        )
        if world.keeper_due_ns or self.facts.has_hook(
            process.id.owner, "after_spawn", "after_start"
        ):
            return
        ready, health, sick_ns = spec.ready, spec.health, shown.surely_sick_ns
        had_delay = any(
            each.delay is not None for each in self.answers.said(process.id.owner, "ready")
        )
        if ready is not None and ready.deadline is not None and not had_delay:
            asked_ns = ready.initial_delay + 2 * (ready.interval + ready.timeout)
            due_ns = max(shown.born_ns + ready.deadline, since_ns) + asked_ns + PROMPT_NS
            is_late = shown.is_asked and shown.ready_ns is None and now > due_ns
            assert not is_late, (
                f"{process.id} is not ready {(now - shown.born_ns) / S} s after its start"
            )
        if health is None or health.action == "none" or sick_ns is None:
            return
        is_due = now - max(sick_ns, since_ns) > PROMPT_NS + health.interval
        assert not is_due or self._waits(process.id), (
            f"{process.id} is unhealthy for {(now - sick_ns) / S} s"
        )

    def _waits(self, id: ProcessId) -> bool:
        """Tell whether an unhealthy process has to wait, for other slots or for what a successor would wait for."""
        spec, now = self.world.disk.spec.watchers[id.owner], self.kernel.now
        if spec.dependencies or self.facts.has_hook(id.owner, "before_spawn", "before_signal"):
            return True
        for slot in range(1, self.facts.want(id.owner) + 1):
            other = next((p for p in self.facts.leaders(id.owner) if p.id.slot == slot), None)
            if slot == id.slot:
                continue
            if other is None or other.born in self.facts.asked_ns:
                return True
            ready_ns = self.answers.surely_ready_ns(other)
            if ready_ns is None or now - ready_ns < PROMPT_NS + spec.rollout.pause:
                return True
            if self.answers.may_be_sick(other, now - PROMPT_NS):
                return True
        return False

    # ---- what follows -----------------------------------------------------------------------------

    def spawned(self, id: ProcessId, _incarnation: int, _launch: Launch, _program: Program) -> None:
        spec = self.world.disk.spec.watchers.get(id.owner)
        if spec is None or spec.is_job:
            return
        if id.role == "after_ready":
            there = [p for p in self.facts.leaders(id.owner) if p.id.slot == id.slot]
            ready = [p for p in there if self.answers.may_be_ready(p)]
            assert ready or not there, f"{id} runs before its process is ready"
        if id.role == "main":
            self._follows_from_the_last(id, spec)

    def _follows_from_the_last(self, id: ProcessId, spec: WatcherSpec) -> None:
        """A slot whose process was unhealthy may have to rest; one whose process was late waits as after a death."""
        last = max(
            (s for s in self.answers.of.values() if s.process.id == id), key=_birth, default=None
        )
        why = "" if last is None else self.blamed.get(last.process.born, "")
        is_late = why == "late" and not self.world.unwatched
        self.in_a_row[id] = self.in_a_row.get(id, 0) + 1 if is_late else 0
        if last is None or self.facts.touched_ns(id.owner) >= last.born_ns or self.world.unwatched:
            self.in_a_row[id] = 0
            return
        actions = {each.action for each in self.answers.said(id.owner, "health")}
        assert why != "unhealthy" or actions != {"stop"}, (
            f"{id} is started, though it was unhealthy"
        )
        said = self.world.people.used.get((id.owner, "backoff.burst"), [])
        bursts = [each for each in said if isinstance(each, int)]
        waits_ns = min(spec.backoff.initial, spec.backoff.max)
        waited_ns = self.kernel.now - self.facts.died_ns.get(id, 0)
        is_due = waited_ns >= waits_ns or self.in_a_row[id] <= max((spec.backoff.burst, *bursts))
        assert is_due, f"{id} is started {waited_ns / S} s after {self.in_a_row[id]} that were late"


def _birth(shown: Shown) -> int:
    return shown.process.born
