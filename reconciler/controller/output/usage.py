"""Processor time and memory: asked of the kernel in a background lane, on request or for limits that are watched.

All is read from /proc in one walk (proc_pid_stat(5)): with psutil it takes twice the time, while requests wait for
the interpreter.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from reconciler.model.value import Struct

INTERVAL_S: Final = 1.0
"""Processor time is measured over at least so long: whoever asks in between changes nobody's figure."""


class Usage(Struct, frozen=True):
    """What one process and all that it started use."""

    cpu_percent: float
    """Share of one processor in the last seconds; of a process nobody has asked for, since it was started."""
    memory_bytes: int
    """Memory of the whole tree; what processes share is counted once (Pss) where that can be read."""
    processes: int = 1
    threads: int = 1
    cpu_ns: int = 0
    """Processor time so far, with that of descendants that have ended and were waited for."""


class _Stat(NamedTuple):
    parent: int
    session: int
    born: int
    """Clock ticks after the boot: with the pid it names a process for good."""
    seconds: float
    """Processor time, with that of its children that have ended."""
    resident_bytes: int
    threads: int


class _Sample(NamedTuple):
    at_s: float
    spent_s: float


_samples: dict[tuple[int, int], tuple[_Sample, _Sample]] = {}
"""By pid and birth: an older look at a tree, and the latest. The lane's thread only."""
_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def usage_of(pids: Iterable[int]) -> dict[int, Usage]:
    """Return what the trees of these processes use; those that are gone are left out.

    To a tree belong all descendants, and who is left of the session of its first process, whoever is its
    parent by now.
    """
    now_s, processes, trees = _look_at(pids)
    found = {}
    for pid, members in trees.items():
        spent_s = sum(processes[each].seconds for each in members)
        percent = _percent((pid, processes[pid].born), _Sample(now_s, spent_s))
        memory = sum(_memory_bytes(each, processes[each]) for each in members)
        threads = sum(processes[each].threads for each in members)
        found[pid] = Usage(percent, memory, len(members), threads, round(spent_s * 1e9))
    for key in [
        key for key in _samples if key[0] not in processes or processes[key[0]].born != key[1]
    ]:
        del _samples[key]
    return found


class Watch:
    """Looks at the same trees again and again, as cheaply as that can be: one walk through /proc for all of them."""

    def __init__(self) -> None:
        self._before: dict[tuple[int, int], _Sample] = {}
        """By pid and birth."""

    def sample(self, most: Mapping[int, int | None]) -> dict[int, Usage]:
        """Return what the trees of these processes use, processor time since the look before (at the first one: none).

        `most` is how much memory each may use. Where the sum of what its processes have resident is less, that is
        told: what they share must be found out only where the sum is more, and takes a hundred times as long.
        """
        now_s, processes, trees = _look_at(most)
        found, before, self._before = {}, self._before, {}
        for pid, members in trees.items():
            key = (pid, processes[pid].born)
            now = _Sample(now_s, sum(processes[each].seconds for each in members))
            older = before.get(key, now)
            self._before[key] = now
            memory, limit = sum(processes[each].resident_bytes for each in members), most[pid]
            if limit is not None and memory > limit:
                memory = sum(_memory_bytes(each, processes[each]) for each in members)
            found[pid] = Usage(_share(older, now), memory)
        return found


def _look_at(pids: Iterable[int]) -> tuple[float, dict[int, _Stat], dict[int, set[int]]]:
    """Return the time since boot, all processes, and the members of each of these trees that is there."""
    now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    processes = {
        pid: stat
        for name in os.listdir("/proc")
        if name.isdigit() and (stat := _stat(pid := int(name)))
    }
    return now_s, processes, _trees(processes, [pid for pid in pids if pid in processes])


def _share(older: _Sample, now: _Sample) -> float:
    """Return how much of one processor was used between two looks, in percent."""
    spent_s = max(now.spent_s - older.spent_s, 0.0)
    return round(100 * spent_s / max(now.at_s - older.at_s, 0.01), 1)


def _percent(key: tuple[int, int], now: _Sample) -> float:
    older, latest = _samples.get(key) or (_Sample(key[1] * _TICK_S, 0.0),) * 2
    if now.at_s - latest.at_s >= INTERVAL_S:
        older = latest
    _samples[key] = (older, now if older is latest else latest)
    return _share(older, now)


def _trees(processes: Mapping[int, _Stat], roots: list[int]) -> dict[int, set[int]]:
    """Return the members of each tree. A process belongs to the nearest of the roots above it."""
    first = {*roots}
    owner: dict[int, int] = {}
    for pid in processes:
        path: list[int] = []
        at = pid
        while (
            at not in first and at not in owner and at in processes and len(path) < len(processes)
        ):
            path.append(at)
            at = processes[at].parent
        root = at if at in first else owner.get(at, 0)
        for each in path:
            session = processes[each].session
            owner[each] = root or (session if session in first else 0)
    trees = {root: {root} for root in roots}
    for pid, root in owner.items():
        if root:
            trees[root].add(pid)
    return trees


def _stat(pid: int) -> _Stat | None:
    """Return what /proc tells of a process; None when it is gone. The name may hold anything, also `)`."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    if len(fields) < 22 or fields[0] == b"Z":
        return None
    spent = sum(map(int, fields[11:15])) * _TICK_S
    resident_bytes = int(fields[21]) * _PAGE_BYTES
    return _Stat(
        int(fields[1]), int(fields[3]), int(fields[19]), spent, resident_bytes, int(fields[17])
    )


def _memory_bytes(pid: int, stat: _Stat) -> int:
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/smaps_rollup", "rb") as file:
        for line in file:
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    return stat.resident_bytes
