"""The two managers that are compared: started, watched and stopped by pid only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from bench.programs import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.programs import Programs

STOP_S: Final = 60.0
WATCHERS_PER_FILE: Final = 100


@dataclass(frozen=True, slots=True)
class Manager:
    """A running manager. `started_ns` is the monotonic clock just before it was started."""

    process: subprocess.Popen[bytes]
    started_ns: int
    log: Path

    def stop(self) -> None:
        """End it and all its workers; one that does not end by itself is killed, and said so."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            msg = f"the manager did not stop within {STOP_S:g} s"
            raise BenchError(msg) from None


Start: TypeAlias = "Callable[[Programs, Path, Path, int], Manager]"
"""Starts a manager of so many workers: programs, an empty folder, the workers' FIFO, how many."""


def start_floor(programs: Programs, folder: Path, fifo: Path, count: int) -> Manager:
    """Start the minimal manager in C."""
    return _start([str(programs.floor), str(count), str(programs.worker), str(fifo)], folder)


def start_reconcile(programs: Programs, folder: Path, fifo: Path, count: int) -> Manager:
    """Start this checkout with one watcher for each worker, a hundred in a file, all else by default."""
    specs = folder / "specs"
    specs.mkdir()
    for first in range(0, count, WATCHERS_PER_FILE):
        lines = ["watchers:"]
        for index in range(first, min(first + WATCHERS_PER_FILE, count)):
            lines += [f"  worker{index}:", f"    cmd: [{programs.worker}, {fifo}, '{index}']"]
        specs.joinpath(f"workers{first}.yaml").write_text("\n".join(lines) + "\n")
    runtime, state = str(folder / "run"), str(folder / "state")
    argv = [_command(), "run", "--name", "bench", "--runtime-dir", runtime, "--state-dir", state]
    return _start([*argv, str(specs)], folder)


def _command() -> str:
    """Return the `reconcile` that lies beside this interpreter."""
    command = Path(sys.executable).with_name("reconcile")
    if not command.exists():
        msg = f"cannot find {command.name} beside {sys.executable}; try: make bench"
        raise BenchError(msg)
    return str(command)


def _start(argv: list[str], folder: Path) -> Manager:
    log = folder / "manager.log"
    with log.open("wb") as output:
        started_ns = time.monotonic_ns()
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    return Manager(process, started_ns, log)


# ---- who wakes up --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wakes:
    """Voluntary context switches so far of an instance's keeper, controller loop and other threads."""

    keeper: int
    loop: int
    threads: int

    def since(self, before: Wakes) -> Wakes:
        """Return the difference."""
        return Wakes(
            self.keeper - before.keeper, self.loop - before.loop, self.threads - before.threads
        )


def wakes(keeper: int, controller: int) -> Wakes:
    """Count the wake-ups of a keeper (all threads) and a controller up to now."""
    of_controller = _switches(controller)
    loop = of_controller.pop(controller)
    return Wakes(sum(_switches(keeper).values()), loop, sum(of_controller.values()))


def controller_of(keeper: int) -> int:
    """Return the pid of the controller among a keeper's children. Raises `BenchError`."""
    children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    for pid in children:
        if b"reconciler.controller" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return int(pid)
    msg = f"cannot find the controller among the children of {keeper}"
    raise BenchError(msg)


def _switches(pid: int) -> dict[int, int]:
    found = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        lines = Path(f"/proc/{pid}/task/{task}/status").read_text().splitlines()
        found[int(task)] = next(
            int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches")
        )
    return found
