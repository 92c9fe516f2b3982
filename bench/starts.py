"""Where a newcomer looks first: the first of a few processes, files in memory or not; commands beside Python itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.lives import running
from bench.managers import ROOT, Reconcile
from bench.peers import PEERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.lives import Effort, Place
    from bench.managers import Manager
    from bench.samples import Samples

FEW: Final = 10


def measure_start(
    kind: type[Manager], place: Place, effort: Effort, samples: Samples, *, cold: bool
) -> None:
    """Start a few; `cold`: after the files of Python and of the manager were dropped from memory."""
    for _ in range(effort.starts):
        if cold:
            drop_from_memory()
        with running(kind, place, FEW, settle_s=0) as life:
            began_ns = life.manager.started_ns
            births = sorted(birth.at_ns for birth in life.living.values())
            what = "cold" if cold else "warm"
            samples.add(f"first_ms {what}", kind.name, (births[0] - began_ns) / 1e6)
            samples.add(f"all_ms {what}", kind.name, (births[-1] - began_ns) / 1e6)


def measure_commands(place: Place, effort: Effort, samples: Samples) -> None:
    """Run commands as whole processes, in turns with a Python that does nothing."""
    with running(Reconcile, place, FEW, settle_s=effort.settle_s) as life:
        assert isinstance(life.manager, Reconcile)
        for _ in range(effort.asks):
            bare_ms = _took_ms([sys.executable, "-I", "-S", "-c", ""])
            samples.add("command_ms bare", Reconcile.name, bare_ms)
            commands = life.manager.status_command(), life.manager.version_command()
            for name, command in zip(("status", "version"), commands, strict=True):
                samples.add(f"command_ms {name}", Reconcile.name, _took_ms(command))


def _took_ms(command: Sequence[str]) -> float:
    began_ns = time.monotonic_ns()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    return (time.monotonic_ns() - began_ns) / 1e6


def drop_from_memory() -> None:
    """Drop what is read at a start and mapped by nobody, such as this process; the rest stays in memory."""
    for path in _files():
        try:
            file = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        try:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError:
            continue
        finally:
            os.close(file)


def _files() -> Iterator[Path]:
    for folder in (Path(os.__file__).parent, Path(sys.prefix), PEERS, ROOT / "reconciler"):
        for suffix in (".pyc", ".so"):
            yield from folder.rglob(f"*{suffix}")
