"""Who is asked whether it is ready and healthy: how processes answer, and a controller's questions to them.

What a process answers, and when, is its conduct, found at its birth by dice of its own: no history without probes is
another one. What is told comes as late as it may: also when nobody asks any more, or the process is gone.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from reconciler.controller.probes.http import Outcome
from reconciler.controller.probes.tally import Tally
from reconciler.model.process import ProcessId
from reconciler.model.units import MILLISECOND_NS as MS
from reconciler.model.units import SECOND_NS as S

if TYPE_CHECKING:
    from reconciler.model.action import Probe
    from reconciler.model.observation import ProbeAnswered
    from tests.contract.fake_kernel import Process
    from tests.sim.world import World

LATE_NS: Final = 50 * MS
"""How long it takes at most until what was answered is told."""


@dataclass(frozen=True)
class Conduct:
    """How a process answers: from when on it is ready, and when it is sick."""

    ready_ns: int | None = 0
    """None: it never is; in the calm only where that has it restarted, as nothing else would end it."""
    sick_ns: int | None = None
    well_ns: int | None = None
    """None: it stays sick; in the calm as above."""


class Conducts:
    """How each process of a world answers, by its number in the life of the machine."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._of: dict[int, Conduct] = {}
        world.kernel.on_born.append(self._born)

    def _born(self, process: Process) -> None:
        world, now = self.world, self.world.kernel.now
        if process.id.role != "main" or process.id.owner == "bystander":
            return
        rng = random.Random(f"conduct {world.seed} {world.kernel.boots} {process.born}")
        ready_ns: int | None = now + rng.randrange(300 * MS)
        sick_ns, well_ns = None, None
        if self._strikes(rng, "late readiness"):
            ready_ns = now + rng.randrange(6 * S)
        if self._strikes(rng, "never ready"):
            ready_ns = None
        if self._strikes(rng, "sickness"):
            sick_ns = now + rng.randrange(8 * S)
            well_ns = None if rng.random() < 0.4 else sick_ns + rng.randrange(6 * S)
        self._of[process.born] = Conduct(ready_ns, sick_ns, well_ns)

    def _strikes(self, rng: random.Random, fault: str) -> bool:
        chance = rng.random()
        return not self.world.calm and chance < self.world.faults.strength.get(fault, 0.0)

    def passes(self, process: Process, purpose: str) -> bool:
        """Tell what a process answers now."""
        conduct, now = self._of.get(process.born, Conduct()), self.world.kernel.now
        spec = self.world.disk.spec.watchers.get(process.id.owner)
        if purpose == "ready":
            if conduct.ready_ns is not None:
                return conduct.ready_ns <= now
            ready = None if spec is None else spec.ready
            return self.world.calm and (ready is None or ready.deadline is None)
        if conduct.sick_ns is None or now < conduct.sick_ns:
            return True
        if conduct.well_ns is not None:
            return now >= conduct.well_ns
        is_restarted = spec is not None and spec.health and spec.health.action == "restart"
        return self.world.calm and not is_restarted

    def changes_ns(self, process: Process, purpose: str) -> int | None:
        """Return when a process will answer something else; in the calm, so None is never."""
        conduct, now = self._of.get(process.born, Conduct()), self.world.kernel.now
        dues = [conduct.ready_ns] if purpose == "ready" else [conduct.sick_ns, conduct.well_ns]
        return min((due for due in dues if due is not None and due > now), default=None)


@dataclass
class Asked:
    """One probe, and the question that is under way."""

    probe: Probe
    due_ns: int | None
    tally: Tally
    begun_ns: int | None = None
    hangs: bool = False
    told: bool | None = None


@dataclass
class Prober:
    """The questions of one controller."""

    world: World
    asked: dict[ProcessId, Asked] = field(default_factory=dict)
    told: list[tuple[int, ProbeAnswered]] = field(default_factory=list)
    """What was answered, and when it is told."""

    def ask(self, probe: Probe) -> None:
        due_ns = max(probe.probing.begin_ns, self.world.kernel.now)
        self.asked[probe.id] = Asked(probe, due_ns, Tally(probe))

    def drop(self, id: ProcessId) -> None:
        del self.asked[id]

    def due_ns(self) -> int | None:
        """Return when there is something to ask, to hear or to tell."""
        dues = [each.due_ns for each in self.asked.values() if each.due_ns is not None]
        return min([*dues, *(due for due, _ in self.told[:1])], default=None)

    def go_on(self) -> list[ProbeAnswered]:
        """Ask who is to be asked and hear who has answered; return what is to be told now."""
        now = self.world.kernel.now
        for each in self.asked.values():
            if each.due_ns is not None and each.due_ns <= now:
                if each.begun_ns is None:
                    self._begin(each)
                else:
                    self._hear(each, each.begun_ns)
        told = [answer for due, answer in self.told if due <= now]
        self.told = [each for each in self.told if each[0] > now]
        return told

    def _begin(self, asked: Asked) -> None:
        world, probing = self.world, asked.probe.probing
        takes_ns = world.answers.randrange(1, 20 * MS)
        if not world.calm and world.answers.random() < world.faults.strength.get(
            "slow answers", 0.0
        ):
            takes_ns = world.answers.randrange(2 * probing.timeout_ns)
        asked.begun_ns, asked.hangs = asked.due_ns, takes_ns > probing.timeout_ns
        asked.due_ns = world.kernel.now + min(takes_ns, probing.timeout_ns)

    def _hear(self, asked: Asked, begun_ns: int) -> None:
        world, now, probe = self.world, self.world.kernel.now, asked.probe
        process = self._who_listens(probe)
        ok = process is not None and world.conducts.passes(process, probe.id.role)
        ok &= not asked.hangs
        for check in world.on_answered:
            check(probe, ok)
        message = "ok" if ok else "no answer" if asked.hangs else "refused"
        answer = asked.tally.take(Outcome(ok, message), now)
        if answer is not None:
            asked.told = answer.passed
            earliest = self.told[-1][0] if self.told else 0
            self.told.append((max(earliest, now + world.answers.randrange(LATE_NS)), answer))
            world.trace(f"probe {probe.id} of {probe.incarnation}: {answer.passed}, {message}")
        interval_ns = probe.probing.interval_ns
        asked.begun_ns = None
        asked.due_ns = begun_ns + ((now - begun_ns) // interval_ns + 1) * interval_ns
        if world.calm and process is not None and asked.told is ok:
            # It goes on to answer the same, and nothing would come of it.
            changes_ns = world.conducts.changes_ns(process, probe.id.role)
            asked.due_ns = None if changes_ns is None else max(changes_ns, asked.due_ns)

    def _who_listens(self, probe: Probe) -> Process | None:
        """Return the process at the address of a slot: the one that is meant, or the one after it."""
        there = self.world.kernel.alive(ProcessId(probe.id.owner, probe.id.slot))
        return next((each for each in there if each.leads), there[0] if there else None)
