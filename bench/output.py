"""What keeping the workers' output costs: one that writes flat out, and many that write a line at a time."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.accounting import account, memory_bytes, used_since
from bench.births import Births
from bench.lives import started
from bench.managers import Crew, Keeping
from bench.programs import BenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.lives import Effort, Place
    from bench.managers import Manager
    from bench.samples import Samples

LINE_BYTES: Final = 100
FILES: Final = 10
PER_SECOND: Final = 1000
WRITE_S: Final = 300.0
OF_LOGGERS: Final = frozenset({"lock", "state", "config", "newstate", "previous"})
"""Files that svlogd and s6-log have beside the output."""


def measure_flat_out(
    kind: type[Manager], place: Place, effort: Effort, samples: Samples, *, timestamps: bool = False
) -> None:
    """Let one worker write as fast as it can; count what is lost and cut, and see that memory is bounded."""
    what = "flat out with times" if timestamps else "flat out"
    size = effort.lines * LINE_BYTES
    with tempfile.TemporaryDirectory(prefix="b-", dir=place.folder) as name:
        folder = Path(name)
        # Enough is kept that nothing may be lost, the times before the lines included.
        keeping = Keeping(folder / "kept", size // FILES, 3 * FILES, timestamps)
        with Births(folder / "fifo") as told:
            crew = _writers(place, told.path, effort, 1, effort.lines, 0, keeping)
            with started(kind, place, folder, crew) as manager:
                (begun,) = told.take(1, effort.start_s + 20)
                before = memory_bytes(manager.pids())
                (ended,) = told.take(1, WRITE_S)
                after = memory_bytes(manager.pids())
                time.sleep(effort.after_s)
            seconds = (ended.at_ns - begun.at_ns) / 1e9
            samples.add(f"{what} MB/s", kind.name, size / 1e6 / seconds)
            samples.add(f"{what} grown MiB", kind.name, (after - before) / 2**20)
            _judge(place, kind, keeping, [0], effort.lines, samples, what)


def measure_many(kind: type[Manager], place: Place, effort: Effort, samples: Samples) -> None:
    """Let many workers write a line at a time; count the manager's processor time and what is lost."""
    what = f"{effort.writers} writers"
    lines = int(PER_SECOND * effort.write_s)
    with tempfile.TemporaryDirectory(prefix="b-", dir=place.folder) as name:
        folder = Path(name)
        keeping = Keeping(folder / "kept", 2 * lines * LINE_BYTES, 5)
        with Births(folder / "fifo") as told:
            crew = _writers(place, told.path, effort, effort.writers, lines, PER_SECOND, keeping)
            with started(kind, place, folder, crew) as manager:
                begun = told.take(effort.writers, effort.start_s + 30)
                pids = manager.pids()
                before = account(pids)
                ended = told.take(effort.writers, effort.write_s * 4 + 30)
                used = used_since(before)
                time.sleep(effort.after_s)
            seconds = (max(e.at_ns for e in ended) - min(b.at_ns for b in begun)) / 1e9
            samples.add(f"{what} cpu%", kind.name, used.cpu_ns / seconds / 1e7)
            _judge(place, kind, keeping, range(effort.writers), lines, samples, what)


def _writers(
    place: Place,
    fifo: Path,
    effort: Effort,
    count: int,
    lines: int,
    per_second: int,
    keeping: Keeping,
) -> Crew:
    commands = write_commands(place, fifo, effort, range(count), lines, per_second)
    return Crew(commands, max(1, count // 10), keeping)


def write_commands(
    place: Place, fifo: Path, effort: Effort, indexes: range, lines: int, per_second: int
) -> tuple[tuple[str, ...], ...]:
    """Return the commands of workers that write so many lines each, some time from now on; 0: flat out."""
    start = str(time.monotonic_ns() + int(effort.start_s * 1e9))
    program = str(place.programs.writer)
    words = (str(lines), str(per_second), start)
    return tuple((program, str(fifo), str(index), *words) for index in indexes)


def _judge(
    place: Place,
    kind: type[Manager],
    keeping: Keeping,
    indexes: Sequence[int],
    lines: int,
    samples: Samples,
    what: str,
) -> None:
    """Count the lines that are missing, cut or doubled in all files that were kept."""
    missing = cut = doubled = 0
    for index in indexes:
        files = sorted(
            str(path)
            for path in keeping.file(index).parent.iterdir()
            if path.is_file() and path.name not in OF_LOGGERS
        )
        done = subprocess.run(
            [place.programs.lines, str(index), str(lines), str(int(keeping.timestamps)), *files],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            msg = f"cannot read what {kind.name} kept: {done.stderr.strip()}"
            raise BenchError(msg)
        each = [int(word) for word in done.stdout.split()]
        missing, cut, doubled = missing + each[0], cut + each[1], doubled + each[2]
    samples.add(f"{what} missing", kind.name, missing)
    samples.add(f"{what} cut", kind.name, cut + doubled)
