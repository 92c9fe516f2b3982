"""What one death costs the keeper among few and among many, of its own children and of those that it has adopted."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from bench.accounting import account, used_since
from bench.lives import RESPAWN_S, running
from bench.managers import Reconcile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.lives import Effort, Life, Place
    from bench.samples import Samples

FEW: Final = 10
KINDS: Final = ("own", "adopted")
AFTER_S: Final = 0.05
_PR_SET_CHILD_SUBREAPER: Final = 36


def measure_deaths(place: Place, effort: Effort, samples: Samples) -> None:
    """Kill some of few and of many; then kill the keeper, and some of those that the next one has adopted."""
    for count in (FEW, effort.children):
        with reaping(), running(Reconcile, place, count, settle_s=effort.settle_s) as life:
            half = FEW // 2
            _kill(life, range(half), f"death_cpu_ms@{count} own", samples, adopted=False)
            life.manager.die_and_follow()
            time.sleep(effort.settle_s)
            victims = range(half, FEW)
            _kill(life, victims, f"death_cpu_ms@{count} adopted", samples, adopted=True)


def _kill(
    life: Life, indexes: Sequence[int], what: str, samples: Samples, *, adopted: bool
) -> None:
    """Kill these one by one; count the keeper's time until each has a successor, but for the first look of all."""
    keeper = [life.manager.process.pid]
    for index in indexes:
        before = account(keeper)
        pid = life.living[index].pid
        os.kill(pid, signal.SIGKILL)
        if adopted:
            os.waitpid(pid, 0)
        life.see(life.births.take(1, RESPAWN_S))
        time.sleep(AFTER_S)
        if index != indexes[0]:
            samples.add(what, life.manager.name, used_since(before).cpu_ns / 1e6)


@contextmanager
def reaping() -> Iterator[None]:
    """Be the parent of what loses its own below us, as init is; it is waited for by whoever ends it."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        _wait_for_those_that_ended()


def _wait_for_those_that_ended() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return
