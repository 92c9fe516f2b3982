"""The command line: measure, print the table, write bench/results.json. Exit code 0 means measured."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import report
from bench.managers import start_floor, start_reconcile
from bench.measuring import Effort, measure
from bench.programs import BenchError, compile_programs

if TYPE_CHECKING:
    from bench.measuring import Sample

FULL: Final = Effort(repetitions=5, kills=30, idle_s=10.0)
QUICK: Final = Effort(repetitions=1, kills=20, idle_s=10.0)
SIZES: Final = (10, 1000)
IN_MEMORY: Final = Path("/dev/shm")
RESULTS: Final = Path(__file__).with_name("results.json")


def main() -> int:
    """Run the benchmark. Targets that are missed are printed; only what cannot be measured is a failure."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one repetition, under a minute")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the JSON goes")
    parser.add_argument(
        "--folder",
        type=Path,
        default=IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else Path(tempfile.gettempdir()),
        help="where specs, state and logs lie meanwhile [%(default)s]: a file system in memory, so"
        " that a disk's time for making files is not taken for the manager's",
    )
    options = parser.parse_args()
    effort = QUICK if options.quick else FULL
    load, began = os.getloadavg(), time.monotonic()
    try:
        ours, floor = _measure_all(effort, options.folder)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    found = report.rows(ours, floor, effort)
    print(report.table(found))
    took = time.monotonic() - began
    print(
        f"\nmedian (least - greatest); {effort.repetitions} x {effort.kills} kills at each size;"
        f" {os.cpu_count()} CPUs, load before {load[0]:.2f}; took {took:.0f} s"
    )
    report.write(options.results, found, effort, load)
    return 0


def _measure_all(
    effort: Effort, place: Path
) -> tuple[dict[int, list[Sample]], dict[int, list[Sample]]]:
    """Measure both managers in turns, so that what else the machine does meets both."""
    ours: dict[int, list[Sample]] = {size: [] for size in SIZES}
    floor: dict[int, list[Sample]] = {size: [] for size in SIZES}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        programs = compile_programs(Path(folder))
        for repetition in range(effort.repetitions):
            for size in SIZES:
                _say(f"{repetition + 1}/{effort.repetitions}: {size:,} watchers")
                least = measure(start_floor, programs, size, effort, place=place)
                floor[size].append(least)
                idle = size == max(SIZES)
                own = measure(start_reconcile, programs, size, effort, place=place, idle=idle)
                ours[size].append(own)
    _say("")
    return ours, floor


def _say(text: str) -> None:
    """Show on a terminal what is being measured, on a line that is written over."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
