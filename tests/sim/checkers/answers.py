"""What processes have shown of themselves when they were asked: whether each is ready, and whether it is healthy.

It is counted here from one answer after the other, as the numbers of the spec say it; what anybody made of them plays
no part. Numbers that were edited count in the favour of the product: a process that may be ready by one of them may be.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from reconciler.model.process import ProcessId
from reconciler.model.units import SECOND_NS as S

if TYPE_CHECKING:
    from reconciler.model.action import Probe
    from tests.contract.fake_kernel import Process
    from tests.sim.checkers.facts import Facts

NEVER: Final = -(10**18)


@dataclass
class Streak:
    """Answers in a row to one question."""

    probe: Probe
    passed: int = 0
    failed: int = 0


@dataclass
class Shown:
    """What a process has shown."""

    process: Process
    born_ns: int
    is_asked: bool | None
    """Whether it had to show that it is ready when it was started; None: that was just edited."""
    streaks: dict[str, Streak] = field(default_factory=dict)
    ready_ns: int | None = None
    """Since when it may count as ready by what it has answered."""
    surely_ready_ns: int | None = None
    sick_ns: int | None = None
    """Since when it may count as unhealthy; until it is well for certain."""
    was_sick_ns: int = NEVER
    surely_sick_ns: int | None = None


class Answers:
    """Keeps what was answered, of each process by its number in the life of the machine."""

    def __init__(self, facts: Facts) -> None:
        self.facts, self.world, self.kernel = facts, facts.world, facts.kernel
        self.of: dict[int, Shown] = {}
        self._named: dict[tuple[int, ProcessId, int], Shown] = {}
        self._asks: dict[str, list[tuple[int, bool]]] = defaultdict(list)
        """When a watcher came to say when its processes are ready, or to say it no more."""
        self._revision = 0
        self.is_used = bool({"ready", "health"} & self.world.people.says.keys())
        if not self.is_used:
            return
        self.world.on_instant.append(self.note)
        self.world.on_answered.append(self.answered)
        self.kernel.on_born.append(self._born)

    def note(self) -> None:
        """Take in what was edited; who is asked no more whether it is healthy is so."""
        disk, now = self.world.disk, self.kernel.now
        if disk.revision == self._revision:
            return
        self._revision = disk.revision
        for name, spec in disk.spec.watchers.items():
            asks, noted = spec.ready is not None, self._asks[name]
            if not noted or noted[-1][1] is not asks:
                noted.append((now, asks))
        for shown in self.of.values():
            now_said = disk.spec.watchers.get(shown.process.id.owner)
            is_asked = now_said is not None and now_said.health is not None
            if shown.sick_ns is not None and not is_asked:
                shown.sick_ns, shown.surely_sick_ns, shown.was_sick_ns = None, None, now

    def _born(self, process: Process) -> None:
        if process.id.role != "main":
            return
        shown = Shown(process, self.kernel.now, self._had_to_show(process.id))
        self.of[process.born] = shown
        self._named[self.kernel.boots, process.id, process.incarnation] = shown

    def _had_to_show(self, id: ProcessId) -> bool | None:
        """Tell whether a process had to show that it is ready when its start was said."""
        said_ns, noted = self.facts.said_ns.get(id, self.kernel.now), self._asks[id.owner]
        before = [asks for at, asks in noted if at < said_ns - S][-1:]
        values = {*before, *(asks for at, asks in noted if at >= said_ns - S)}
        return values.pop() if len(values) == 1 else None

    def answered(self, probe: Probe, ok: bool) -> None:
        main = ProcessId(probe.id.owner, probe.id.slot)
        shown = self._named.get((self.kernel.boots, main, probe.incarnation))
        if shown is None:
            return
        purpose, now = probe.id.role, self.kernel.now
        streak = shown.streaks.get(purpose)
        if streak is None or streak.probe is not probe:
            streak = shown.streaks[purpose] = Streak(probe)
        streak.passed, streak.failed = (streak.passed + 1, 0) if ok else (0, streak.failed + 1)
        least, most = self._bounds(main.owner, purpose, "successes")
        if purpose == "ready":
            if shown.ready_ns is None and streak.passed >= least:
                shown.ready_ns = now
            if shown.surely_ready_ns is None and streak.passed >= most:
                shown.surely_ready_ns = now
            return
        few, many = self._bounds(main.owner, purpose, "failures")
        if ok:
            shown.surely_sick_ns = None
        if streak.failed >= few and shown.sick_ns is None:
            shown.sick_ns = now
        if streak.failed >= many and shown.surely_sick_ns is None:
            shown.surely_sick_ns = now
        if streak.passed >= most and shown.sick_ns is not None:
            shown.sick_ns, shown.was_sick_ns = None, now

    def _bounds(self, owner: str, purpose: str, number: str) -> tuple[int, int]:
        """Return the least and the most that a number of a probe ever was."""
        numbers = [getattr(each, number) for each in self.said(owner, purpose)]
        return min(numbers), max(numbers)

    def said(self, owner: str, purpose: str) -> list[Any]:
        """Return how a watcher of this name was ever to be asked."""
        return self.world.people.used.get((owner, purpose), [])

    # ---- what it comes to -------------------------------------------------------------------------

    def may_be_ready(self, process: Process) -> bool:
        """Tell whether a process may count as ready now."""
        spec = self.world.disk.spec.watchers.get(process.id.owner)
        age_ns = self.kernel.now - self.facts.born_ns.get(process.born, 0)
        shown = self.of.get(process.born)
        if shown is None or not shown.is_asked or spec is None or spec.ready is None:
            return age_ns >= S or (shown is not None and shown.is_asked is None)
        delays = [each.delay for each in self.said(process.id.owner, "ready")]
        return shown.ready_ns is not None or any(d is not None and age_ns >= d for d in delays)

    def ready_ns(self, id: ProcessId, incarnation: int, *, surely: bool) -> int | None:
        """Return since when a process may count as ready, or must, by what it has answered; None: it has not."""
        shown = self._named.get((self.kernel.boots, id, incarnation))
        if shown is None:
            return None
        return shown.surely_ready_ns if surely else shown.ready_ns

    def surely_ready_ns(self, process: Process) -> int | None:
        """Return since when a process must count as ready; None: nobody can say."""
        shown = self.of.get(process.born)
        if shown is None or shown.is_asked is False:
            return self.facts.born_ns.get(process.born, 0) + S
        said = self.said(process.id.owner, "ready")
        delays = [each.delay for each in said if each.delay is not None]
        if shown.is_asked is None or (delays and len(delays) < len(said)):
            return None
        return shown.born_ns + max(delays) if delays else shown.surely_ready_ns

    def may_be_sick(self, process: Process, since_ns: int) -> bool:
        """Tell whether a process may have counted as unhealthy at some time since then."""
        shown = self.of.get(process.born)
        if shown is None:
            return False
        return shown.sick_ns is not None or shown.was_sick_ns >= since_ns

    def has_failed(self, owner: str, since_ns: int) -> bool:
        """Tell whether a process of a watcher may have been late or unhealthy since then."""
        return any(
            shown.sick_ns is not None or shown.was_sick_ns >= since_ns or self.is_late(shown)
            for shown in self.of.values()
            if shown.process.id.owner == owner
        )

    def deadline_ns(self, shown: Shown) -> int | None:
        """Return when a process has failed at the earliest unless it is ready; None: it never has."""
        deadlines = [
            each.deadline
            for each in self.said(shown.process.id.owner, "ready")
            if each.deadline is not None and each.delay is None
        ]
        return shown.born_ns + min(deadlines) if deadlines and shown.is_asked is not False else None

    def is_late(self, shown: Shown) -> bool:
        """Tell whether a process may count as one that was not ready in time."""
        deadline_ns = self.deadline_ns(shown)
        if deadline_ns is None or self.kernel.now < deadline_ns:
            return False
        return shown.surely_ready_ns is None or shown.surely_ready_ns > deadline_ns
