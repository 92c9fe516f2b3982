"""The command line: measure, print the tables, write bench/results.json. Exit code 0 means measured."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from bench import flames, page, report
from bench.deaths import measure_deaths
from bench.graphs import measure_graph
from bench.lives import Effort, Place, measure, measure_idle_by_hand, measure_one_file
from bench.loads import measure_load
from bench.managers import Floor, Manager, Reconcile
from bench.output import measure_flat_out, measure_many
from bench.peers import ALL_PEERS, Circus, Supervisor, peers
from bench.probes import measure_probes
from bench.programs import BenchError, compile_programs
from bench.samples import Samples
from bench.starts import measure_commands, measure_start
from bench.storms import measure_crashing, measure_reload, measure_slots

FULL: Final = Effort(
    repetitions=3,
    sizes=(10, 100, 1000),
    reload_size=5000,
    kills=60,
    idle_s=10.0,
    edits=5,
    asks=40,
    lines=10_000_000,
    writers=100,
    write_s=10.0,
    crashers=100,
    crash_s=10.0,
)
QUICK: Final = Effort(
    repetitions=1,
    sizes=(10,),
    reload_size=50,
    kills=2,
    idle_s=0.5,
    edits=1,
    asks=5,
    lines=200_000,
    writers=5,
    write_s=0.5,
    crashers=10,
    crash_s=0.3,
    settle_s=0.3,
    start_s=0.5,
    calm_s=0.0,
    after_s=0.7,
    starts=1,
    children=20,
    loud=3,
    graph=10,
    probed=5,
    probe_s=0.5,
)
QUICK_PEERS: Final = (Circus, Supervisor)
IN_MEMORY: Final = Path("/dev/shm")
FLAME_SIZE, FLAME_KILLS = 1000, 200
RESULTS: Final = Path(__file__).with_name("results.json")


Part = Callable[["Run"], None]


def main() -> int:
    """Run the benchmark. Reaches that are missed are printed; only what cannot be measured is a failure."""
    options = _options()
    try:
        if options.page:
            page.write(report.read(options.results))
            return 0
        if options.flames:
            return _draw_flames(options)
        return _measure_and_tell(options)
    except (BenchError, FileNotFoundError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1


def _measure_and_tell(options: argparse.Namespace) -> int:
    effort = QUICK if options.quick else FULL
    if options.repetitions:
        effort = replace(effort, repetitions=options.repetitions)
    if options.sizes:
        effort = replace(effort, sizes=tuple(options.sizes))
    load, began = os.getloadavg(), time.monotonic()
    run = _measure(options, effort)
    run.samples.notes.extend(run.failed)
    took_s = time.monotonic() - began
    results = report.Results(report.machine(load), effort, run.samples, took_s)
    print(report.text(results, judged=not options.quick))
    report.write(options.results, results)
    return 1 if run.failed else 0


def _draw_flames(options: argparse.Namespace) -> int:
    size, kills = (20, 10) if options.quick else (FLAME_SIZE, FLAME_KILLS)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        place = Place(compile_programs(Path(folder)), options.folder)
        flames.draw(place, size, kills, page.PICTURES)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="once and small, under a minute")
    parser.add_argument(
        "--page", action="store_true", help="measure nothing: write the last results into the docs"
    )
    parser.add_argument(
        "--flames", action="store_true", help="measure nothing: draw where the time goes"
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="only these parts")
    parser.add_argument(
        "--beside", nargs="*", metavar="NAME", help="only these managers beside ours and the floor"
    )
    parser.add_argument("--repetitions", type=int, help="how many lives of each manager")
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of watchers")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the JSON goes")
    parser.add_argument(
        "--folder",
        type=Path,
        default=IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else Path(tempfile.gettempdir()),
        help="where specs, state and logs lie meanwhile [%(default)s]: a file system in memory, so"
        " that a disk's time for making files is not taken for the manager's",
    )
    return parser.parse_args()


def _measure(options: argparse.Namespace, effort: Effort) -> Run:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        place = Place(compile_programs(Path(folder)), options.folder)
        there = peers()
        wanted = [each.name for each in (QUICK_PEERS if options.quick else ALL_PEERS)]
        wanted = wanted if options.beside is None else options.beside
        others = [each for each in there if each.name in wanted]
        run = Run(place, effort, (Floor, Reconcile, *others), Samples())
        for name in wanted:
            if name not in {each.name for each in there}:
                run.samples.notes.append(f"{name} is not installed; it is left out")
        for part in options.only:
            try:
                PARTS[part](run)
            except BenchError as error:
                # What was measured until then took minutes, and is not thrown away.
                run.failed.append(f"{part}: {error}")
    _say("")
    return run


@dataclass(frozen=True, slots=True)
class Run:
    """A run: where, how much, who, and what came of it."""

    place: Place
    effort: Effort
    kinds: tuple[type[Manager], ...]
    samples: Samples
    failed: list[str] = field(default_factory=list)
    """Parts of ours or of the floor that could not be measured to the end."""

    def each(self, kinds: Sequence[type[Manager]], what: str, call: Callable[..., None]) -> None:
        """Measure managers in turns. A peer that fails is noted; ours and the floor have to be measured."""
        for kind in kinds:
            _say(f"{what}: {kind.name}")
            try:
                call(kind, self.place)
            except (BenchError, OSError, subprocess.SubprocessError) as error:
                if kind in {Floor, Reconcile}:
                    raise
                self.samples.notes.append(f"{what}: {error}")


def _lives(run: Run) -> None:
    """Measure whole lives, in turns, so that what else the machine does meets all."""
    for repetition in range(run.effort.repetitions):
        for size in run.effort.sizes:
            run.each(
                run.kinds,
                f"{repetition + 1}/{run.effort.repetitions}: {size:,} watchers",
                lambda kind, place, size=size, first=repetition == 0: measure(
                    kind, place, size, run.effort, run.samples, first=first
                ),
            )


def _edits(run: Run) -> None:
    _say("one file")
    measure_one_file(run.place, run.effort.most, run.effort, run.samples)


def _idle(run: Run) -> None:
    _say("idle, edits applied by hand")
    measure_idle_by_hand(run.place, run.effort.most, run.effort, run.samples)


def _output(run: Run) -> None:
    effort, samples = run.effort, run.samples
    for _ in range(effort.repetitions):
        run.each(
            run.kinds,
            "one writer",
            lambda kind, place: measure_flat_out(kind, place, effort, samples),
        )
        run.each(
            [kind for kind in run.kinds if kind in {Reconcile, Circus}],
            "one writer, timestamps",
            lambda kind, place: measure_flat_out(kind, place, effort, samples, timestamps=True),
        )
    run.each(
        run.kinds, "many writers", lambda kind, place: measure_many(kind, place, effort, samples)
    )


def _crashing(run: Run) -> None:
    run.each(
        [kind for kind in run.kinds if kind in {Reconcile, Circus, Supervisor}],
        "crashing",
        lambda kind, place: measure_crashing(kind, place, run.effort, run.samples),
    )


def _reload(run: Run) -> None:
    _say("a large spec is read again")
    measure_reload(run.place, run.effort, run.samples)


def _slots(run: Run) -> None:
    _say("slots of one watcher")
    measure_slots(run.place, run.effort, run.samples)


def _starts(run: Run) -> None:
    for cold in (False, True):
        run.each(
            [kind for kind in run.kinds if kind in {Reconcile, Circus}],
            f"start with {'a cold' if cold else 'a warm'} file cache",
            lambda kind, place, cold=cold: measure_start(
                kind, place, run.effort, run.samples, cold=cold
            ),
        )
    _say("commands")
    measure_commands(run.place, run.effort, run.samples)


def _deaths(run: Run) -> None:
    _say("deaths among few and many")
    measure_deaths(run.place, run.effort, run.samples)


def _load(run: Run) -> None:
    _say("respawns beside writers")
    measure_load(run.place, run.effort, run.samples)


def _probes(run: Run) -> None:
    _say("probes")
    measure_probes(run.place, run.effort, run.samples)


def _graph(run: Run) -> None:
    _say("a graph of dependencies")
    measure_graph(run.place, run.effort, run.samples)


PARTS: Final[dict[str, Part]] = {
    "lives": _lives,
    "starts": _starts,
    "edits": _edits,
    "idle": _idle,
    "output": _output,
    "crashing": _crashing,
    "reload": _reload,
    "slots": _slots,
    "deaths": _deaths,
    "load": _load,
    "probes": _probes,
    "graph": _graph,
}


def _say(text: str) -> None:
    """Show on a terminal what is being measured, on a line that is written over."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
