"""What is measured: all up, respawn, idle. Workers' own clocks say when they began; nothing polls."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.births import Births
from bench.managers import Wakes, controller_of, wakes
from bench.programs import BenchError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.births import Birth
    from bench.managers import Manager, Start
    from bench.programs import Programs

BOOT_S: Final = 60.0
RESPAWN_S: Final = 10.0
LONG_LIFE_S: Final = 1.2
"""A worker is killed only after it lived longer than a second."""
SETTLE_S: Final = 3.0
"""After the last start, until what follows a start (status, store, looking again) is over."""
PAUSE_S: Final = 0.03
"""Between two kills, so that each meets a manager that sleeps."""
MAX_ROUNDS: Final = 3
"""A worker dies no oftener: more quick deaths in a row are answered by a backoff, as they should be."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    repetitions: int
    kills: int
    """In each repetition."""
    idle_s: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One manager's life: milliseconds until all workers were up, of each respawn, and idle wake-ups."""

    up_ms: float
    respawn_ms: tuple[float, ...]
    idle: Wakes | None


def measure(
    start: Start, programs: Programs, count: int, effort: Effort, *, place: Path, idle: bool = False
) -> Sample:
    """Start a manager of `count` workers with its files in `place`, kill some of them, and stop it."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=place) as name:
        folder = Path(name)
        with Births(folder / "births") as births:
            manager = start(programs, folder, births.path, count)
            try:
                return _measure(manager, births, count, effort, idle=idle)
            except BenchError as error:
                last = manager.log.read_text(errors="replace")[-2000:]
                msg = f"{error}\n{last}" if last else str(error)
                raise BenchError(msg) from error
            finally:
                manager.stop()


def _measure(manager: Manager, births: Births, count: int, effort: Effort, *, idle: bool) -> Sample:
    living = {birth.index: birth for birth in births.take(count, BOOT_S)}
    up_ms = (max(birth.at_ns for birth in living.values()) - manager.started_ns) / 1e6
    time.sleep(SETTLE_S)
    found = None
    if idle:
        keeper = manager.process.pid
        controller = controller_of(keeper)
        before = wakes(keeper, controller)
        time.sleep(effort.idle_s)
        found = wakes(keeper, controller).since(before)
    respawns = tuple(_respawn(births, living, index) for index in _victims(count, effort.kills))
    births.assert_quiet()
    return Sample(up_ms, respawns, found)


def _victims(count: int, kills: int) -> Iterator[int]:
    """Name whom to kill: each once before any twice, in an order that is the same in every run."""
    if kills > count * MAX_ROUNDS:
        msg = f"{kills} kills among {count} workers would be answered by a backoff"
        raise BenchError(msg)
    order = random.Random(count).sample(range(count), count)
    for number in range(kills):
        yield order[number % count]


def _respawn(births: Births, living: dict[int, Birth], index: int) -> float:
    """Kill one worker that has lived long enough; return the milliseconds until its successor's birth."""
    old = living[index]
    age_s = (time.monotonic_ns() - old.at_ns) / 1e9
    time.sleep(max(PAUSE_S, LONG_LIFE_S - age_s))
    killed_ns = time.monotonic_ns()
    os.kill(old.pid, signal.SIGKILL)
    (new,) = births.take(1, RESPAWN_S)
    if new.index != index:
        msg = f"worker {index} was killed, but worker {new.index} was started"
        raise BenchError(msg)
    living[index] = new
    return (new.at_ns - killed_ns) / 1e6
