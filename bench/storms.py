"""What much costs: exits at once, a large spec that is read again while workers crash, slots instead of watchers."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.accounting import account, used_since
from bench.births import Births
from bench.lives import BOOT_S, RESPAWN_S, ask, in_files, respawns, running, started
from bench.managers import Crew, Reconcile, ReconcileSlots
from bench.programs import BenchError

if TYPE_CHECKING:
    from bench.lives import Effort, Life, Place
    from bench.managers import Manager
    from bench.samples import Samples

ASK_EVERY_S: Final = 0.05
KILL_EVERY_S: Final = 0.02
CALM_KILLS: Final = 50
AFTER_KILLS: Final = 10


def measure_crashing(kind: type[Manager], place: Place, effort: Effort, samples: Samples) -> None:
    """Let many workers exit 1 at once, each time; count the manager's time, and how long a status takes."""
    what = f"{effort.crashers} crashing"
    with tempfile.TemporaryDirectory(prefix="b-", dir=place.folder) as name:
        folder = Path(name)
        with Births(folder / "births") as births:
            program = str(place.programs.worker)
            words = [(program, str(births.path), str(n), "exit") for n in range(effort.crashers)]
            crew = Crew(tuple(words), in_files(effort.crashers))
            with started(kind, place, folder, crew) as manager:
                births.take(1, BOOT_S)
                pids = manager.pids()
                before, began = account(pids), time.monotonic()
                asks = int(effort.crash_s / ASK_EVERY_S * 0.9)
                took = ask(manager, asks, ASK_EVERY_S)
                time.sleep(max(effort.crash_s - (time.monotonic() - began), 0))
                seconds = time.monotonic() - began
                used = used_since(before)
                starts = len(births.those_by_now()) + 1
        samples.add(f"{what} cpu%", kind.name, used.cpu_ns / seconds / 1e7)
        samples.add(f"{what} starts", kind.name, starts / seconds)
        samples.add(f"{what} status_ms", kind.name, *took)
    with running(kind, place, effort.crashers, settle_s=effort.settle_s) as life:
        took = ask(life.manager, asks // 2, ASK_EVERY_S)
        samples.add(f"{what} quiet status_ms", kind.name, *took[1:])


def measure_reload(place: Place, effort: Effort, samples: Samples) -> None:
    """Add a watcher to a large spec, and kill a worker time and again until it is there."""
    count = effort.reload_size
    what = f"reload@{count}"
    with running(Reconcile, place, count, settle_s=effort.settle_s) as life:
        up_ns = max(birth.at_ns for birth in life.living.values())
        samples.add(f"up_ms@{count}", Reconcile.name, (up_ns - life.manager.started_ns) / 1e6)
        order = random.Random(count).sample(range(count), count)
        crash = _Crashes(life, order)
        for _ in range(min(CALM_KILLS, count // 4)):
            crash.one()
        crash.wait()
        samples.add(f"{what} respawn_ms before", Reconcile.name, *crash.taken())
        program, fifo, _ = life.manager.crew.commands[0]
        told_ns = life.manager.add((program, fifo, str(count)))
        until = time.monotonic() + RESPAWN_S * 3
        while count not in life.living:
            crash.one()
            if time.monotonic() > until:
                msg = f"the added worker did not come within {RESPAWN_S * 3:g} s"
                raise BenchError(msg)
        for _ in range(AFTER_KILLS):
            crash.one()
        crash.wait()
        samples.add(f"{what} respawn_ms", Reconcile.name, *crash.taken())
        samples.add(f"{what} ms", Reconcile.name, (life.living[count].at_ns - told_ns) / 1e6)


def measure_slots(place: Place, effort: Effort, samples: Samples) -> None:
    """Start as many workers as watchers of one, and as slots of one watcher."""
    count = effort.reload_size
    for _ in range(effort.repetitions):
        for kind, what in ((Reconcile, f"up_ms@{count}"), (ReconcileSlots, f"up_ms@{count} slots")):
            with running(kind, place, count, files=1, settle_s=effort.settle_s) as life:
                up_ns = max(birth.at_ns for birth in life.living.values())
                samples.add(what, Reconcile.name, (up_ns - life.manager.started_ns) / 1e6)
                took = respawns(life, min(effort.kills, count // 4))
                samples.add(what.replace("up_ms", "exit_ms"), Reconcile.name, *took)


class _Crashes:
    """Kills workers one after the other, none twice as long as there are others."""

    def __init__(self, life: Life, order: list[int]) -> None:
        self._life = life
        self._order = order
        self._next = 0
        self._killed_ns: dict[int, int] = {}
        self._took: list[float] = []

    def one(self) -> None:
        """Kill one, and note who was born meanwhile."""
        index = self._order[self._next % len(self._order)]
        self._next += 1
        if index in self._killed_ns:
            self.wait()
        self._killed_ns[index] = time.monotonic_ns()
        os.kill(self._life.living[index].pid, signal.SIGKILL)
        time.sleep(KILL_EVERY_S)
        self._note()

    def wait(self) -> None:
        """Sleep until every successor was born."""
        until = time.monotonic() + RESPAWN_S
        while self._killed_ns:
            if time.monotonic() > until:
                msg = f"{len(self._killed_ns)} workers were not started again"
                raise BenchError(msg)
            self._life.births.wait(0.1)
            self._note()

    def taken(self) -> list[float]:
        """Return the ms of each respawn since the last call."""
        took, self._took = self._took, []
        return took

    def _note(self) -> None:
        births = self._life.births.those_by_now()
        for birth in births:
            killed_ns = self._killed_ns.pop(birth.index, None)
            if killed_ns is not None:
                self._took.append((birth.at_ns - killed_ns) / 1e6)
        self._life.see(births)
