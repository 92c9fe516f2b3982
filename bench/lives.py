"""One life of a manager: all up, idle, memory, status, respawn, edits, stop.

Workers' own clocks say when they began; nothing polls.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.accounting import account, children_cpu_ns, memory_bytes, thread_account, used_since
from bench.births import Births
from bench.managers import ROOT, Crew, Floor, Reconcile
from bench.programs import BenchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.births import Birth
    from bench.managers import Manager
    from bench.programs import Programs
    from bench.samples import Samples

BOOT_S: Final = 120.0
RESPAWN_S: Final = 20.0
LONG_LIFE_S: Final = 1.2
"""A worker is killed only after it lived longer than a second."""
MAX_ROUNDS: Final = 3
"""A worker dies no oftener: more quick deaths in a row are answered by a backoff, as they should be."""
QUIET_MS: Final = 500.0
"""How long files must rest before they are applied; a product's default, and not its cost."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    repetitions: int
    sizes: tuple[int, ...]
    reload_size: int
    kills: int
    """In each repetition; managers with a tick are killed by half as many."""
    idle_s: float
    edits: int
    asks: int
    lines: int
    """Of the one writer that writes flat out."""
    writers: int
    write_s: float
    crashers: int
    crash_s: float
    settle_s: float = 3.0
    """After the last start, until what follows a start (status, store, looking again) is over."""
    start_s: float = 3.0
    """From a manager's start to a writer's first line, so that starting is over."""
    calm_s: float = 12.0
    """After the last start, until nothing more follows from it: a life of 10 s counts as healthy."""
    after_s: float = 2.0
    """After an edit or a last line, until what follows it is over."""
    starts: int = 5
    """Of a few workers, each with files in memory and not."""
    children: int = 2000
    """Among so many the cost of a death is counted."""
    loud: int = 30
    """Writers that write flat out beside workers that are killed."""
    graph: int = 500
    """Watchers that depend on each other."""
    probed: int = 500
    probe_s: float = 20.0
    """Slots that are asked over HTTP, and how long that is measured."""

    @property
    def most(self) -> int:
        """Return the greatest size at which all managers are compared."""
        return max(self.sizes)


@dataclass(frozen=True, slots=True)
class Place:
    """Where everything happens: the compiled programs, and the folder in which each life has its own."""

    programs: Programs
    folder: Path


@dataclass(frozen=True, slots=True)
class Life:
    """A running manager, and its living workers by index."""

    manager: Manager
    births: Births
    living: dict[int, Birth]

    def see(self, births: Sequence[Birth]) -> None:
        """Note who was born."""
        for birth in births:
            self.living[birth.index] = birth


def sleepers(place: Place, fifo: Path, count: int) -> tuple[tuple[str, ...], ...]:
    """Return the commands of workers that only tell that they were born."""
    return tuple((str(place.programs.worker), str(fifo), str(n)) for n in range(count))


def in_files(count: int, most: int = 100) -> int:
    """Return over how many files so many watchers are spread: a hundred, or ten in each."""
    return max(1, min(most, count // 10))


@contextmanager
def running(
    kind: type[Manager],
    place: Place,
    count: int,
    *,
    files: int | None = None,
    applies_itself: bool = True,
    settle_s: float,
) -> Iterator[Life]:
    """Start a manager of sleeping workers, wait until all are up and settled; stop it at the end, whatever comes."""
    with tempfile.TemporaryDirectory(prefix="b-", dir=place.folder) as name:
        folder = Path(name)
        with Births(folder / "births") as births:
            commands = sleepers(place, births.path, count)
            crew = Crew(commands, files or in_files(count), None, applies_itself)
            with started(kind, place, folder, crew) as manager:
                life = Life(manager, births, {})
                life.see(births.take(count, BOOT_S))
                time.sleep(settle_s)
                yield life


@contextmanager
def started(kind: type[Manager], place: Place, folder: Path, crew: Crew) -> Iterator[Manager]:
    """Start a manager, and see that it is gone afterwards. Raises `BenchError` with the end of its log."""
    manager = kind(place.programs, folder, crew)
    manager.start()
    try:
        yield manager
    except BenchError as error:
        last = manager.log.read_text(errors="replace")[-2000:]
        msg = f"{kind.name}: {error}\n{last}".rstrip()
        raise BenchError(msg) from error
    finally:
        if manager.process.poll() is None:
            manager.stop()


# ---- what is measured in it ----------------------------------------------------------------------


def measure(
    kind: type[Manager], place: Place, count: int, effort: Effort, samples: Samples, *, first: bool
) -> None:
    """Measure one life of `count` workers; what takes long with managers that tick, only the `first` time."""
    with running(kind, place, count, settle_s=effort.settle_s) as life:
        up_ns = max(birth.at_ns for birth in life.living.values())
        samples.add(f"up_ms@{count}", kind.name, (up_ns - life.manager.started_ns) / 1e6)
        memory = memory_bytes(life.manager.pids())
        samples.add(f"memory_mib@{count}", kind.name, memory / 2**20)
        if count == effort.most and first:
            measure_idle(life, f"idle@{count}", effort, samples)
        if kind is not Floor:
            _ask(life, count, effort, samples)
        if first or kind.kill_every_s < 0.1:
            kills = effort.kills if kind.kill_every_s < 0.1 else effort.kills // 2
            took = respawns(life, min(kills, count * MAX_ROUNDS))
            samples.add(f"respawn_ms@{count}", kind.name, *took)
        life.births.assert_quiet()
        if count == effort.most and life.manager.can_add():
            _edit(life, count, effort, samples, f"add_ms@{count}")
        if isinstance(life.manager, Reconcile) and first:
            life.manager.end_controller()
            time.sleep(effort.settle_s + effort.after_s)
            memory = memory_bytes(life.manager.pids())
            samples.add(f"memory_mib@{count} after a death", kind.name, memory / 2**20)
        samples.add(f"stop_ms@{count}", kind.name, life.manager.stop())


def measure_idle(life: Life, what: str, effort: Effort, samples: Samples) -> None:
    """Leave a manager alone, and count how often it wakes and what that costs."""
    manager, name = life.manager, life.manager.name
    pids = manager.pids()
    controller = manager.controller() if isinstance(manager, Reconcile) else None
    keeper = [manager.process.pid]
    youngest_ns = max(birth.at_ns for birth in life.living.values())
    time.sleep(max(effort.calm_s - (time.monotonic_ns() - youngest_ns) / 1e9, 0))
    loop = thread_account(controller, controller) if controller else None
    before, keeper_before = account(pids), account(keeper)
    time.sleep(effort.idle_s)
    used = used_since(before)
    samples.add(f"{what} wakes", name, used.wakes / effort.idle_s)
    samples.add(f"{what} cpu%", name, used.cpu_ns / effort.idle_s / 1e7)
    if controller and loop:
        keepers = used_since(keeper_before)
        loops = thread_account(controller, controller).since(loop)
        threads = used.wakes - keepers.wakes - loops.wakes
        samples.add(f"{what} keeper wakes", name, keepers.wakes / effort.idle_s)
        samples.add(f"{what} loop wakes", name, loops.wakes / effort.idle_s)
        samples.add(f"{what} thread wakes", name, threads / effort.idle_s)
        thread_ns = used.cpu_ns - keepers.cpu_ns - loops.cpu_ns
        samples.add(f"{what} thread cpu%", name, thread_ns / effort.idle_s / 1e7)


def _ask(life: Life, count: int, effort: Effort, samples: Samples) -> None:
    """Ask for the status of all: over the socket, and by the command as a whole process."""
    name = life.manager.name
    took = ask(life.manager, effort.asks, 0.02)
    if took:
        samples.add(f"status_first_ms@{count}", name, took[0])
        samples.add(f"status_ms@{count}", name, *took[1:])
        took = ask(life.manager, effort.asks, 0.02, "worker0")
        if took:
            samples.add(f"status_one_ms@{count}", name, *took[1:])
    command = life.manager.status_command()
    if command is not None and count <= 100:
        for _ in range(max(effort.asks // 4, 2)):
            began_ns = time.monotonic_ns()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
            took_ms = (time.monotonic_ns() - began_ns) / 1e6
            samples.add(f"status_command_ms@{count}", name, took_ms)


def ask(manager: Manager, count: int, pause_s: float, one: str | None = None) -> list[float]:
    """Return how many ms each of some answers took, about all or about one; the first may have to be put together anew.

    Only ours is asked about one: nobody else's answer tells as much.
    """
    asker = manager.asker()
    if asker is None or (one is not None and not isinstance(manager, Reconcile)):
        return []
    words = [str(count), str(pause_s), *([] if one is None else [one])]
    done = subprocess.run([*asker, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        msg = f"cannot ask for the status: {done.stderr.strip()[-500:]}"
        raise BenchError(msg)
    took: list[float] = json.loads(done.stdout)
    return took


def respawns(life: Life, kills: int) -> list[float]:
    """Kill some workers, each when it has lived long enough; return the ms until each successor's birth."""
    count = len(life.living)
    order = random.Random(count).sample(sorted(life.living), count)
    killed_ns: dict[int, int] = {}
    took: list[float] = []
    pause_s = life.manager.kill_every_s

    def born(births: Sequence[Birth]) -> None:
        for birth in births:
            if birth.index not in killed_ns:
                msg = f"worker {birth.index} was started, but nobody had killed it"
                raise BenchError(msg)
            took.append((birth.at_ns - killed_ns.pop(birth.index)) / 1e6)
        life.see(births)

    for number in range(kills):
        index = order[number % count]
        while index in killed_ns:
            born(life.births.take(1, RESPAWN_S))
        age_s = (time.monotonic_ns() - life.living[index].at_ns) / 1e9
        time.sleep(max(pause_s, LONG_LIFE_S - age_s))
        killed_ns[index] = time.monotonic_ns()
        os.kill(life.living[index].pid, signal.SIGKILL)
        born(life.births.those_by_now())
    born(life.births.take(len(killed_ns), RESPAWN_S))
    return took


def _edit(life: Life, count: int, effort: Effort, samples: Samples, what: str) -> None:
    """Add one watcher to many, time and again; nobody else may be touched. `Reconcile` also saves in vain."""
    manager = life.manager
    quiet_ms = QUIET_MS if isinstance(manager, Reconcile) else 0.0
    for number in range(effort.edits):
        index = count + number
        program, fifo, _ = manager.crew.commands[0]
        told_ns = manager.add((program, fifo, str(index)))
        (birth,) = life.births.take(1, RESPAWN_S)
        if birth.index != index:
            msg = f"worker {index} was added, but worker {birth.index} was started"
            raise BenchError(msg)
        life.see([birth])
        samples.add(what, manager.name, (birth.at_ns - told_ns) / 1e6 - quiet_ms)
        time.sleep(effort.after_s)
        life.births.assert_quiet()
    if isinstance(manager, Reconcile):
        for _ in range(effort.edits):
            _save_in_vain(manager, effort, samples, what.replace("add_ms", "vain"))
        life.births.assert_quiet()


def _save_in_vain(manager: Reconcile, effort: Effort, samples: Samples, what: str) -> None:
    """Save a file as it is: what is read for it, and what it costs beside reading that file once more."""
    pids = manager.pids()
    before, children_ns = account(pids), children_cpu_ns(manager.controller())
    size = manager.save_again()
    time.sleep(effort.after_s)
    used = used_since(before)
    children_ns = children_cpu_ns(manager.controller()) - children_ns
    samples.add(f"{what} read", manager.name, used.read_bytes / size)
    samples.add(f"{what} cpu_ms", manager.name, (used.cpu_ns + children_ns) / 1e6)
    began_ns = time.process_time_ns()
    hashlib.sha256((manager.specs / "workers0.yaml").read_bytes()).digest()
    samples.add(f"{what} cpu_ms", "reading it", (time.process_time_ns() - began_ns) / 1e6)


def measure_one_file(place: Place, count: int, effort: Effort, samples: Samples) -> None:
    """Add one watcher to many that stand in one file."""
    with running(Reconcile, place, count, files=1, settle_s=effort.settle_s) as life:
        _edit(life, count, effort, samples, f"add_ms@{count} in one file")


def measure_idle_by_hand(place: Place, count: int, effort: Effort, samples: Samples) -> None:
    """Count wake-ups where edits are applied by command only."""
    with running(
        Reconcile, place, count, applies_itself=False, settle_s=effort.settle_s + effort.after_s
    ) as life:
        measure_idle(life, f"idle by hand@{count}", effort, samples)
