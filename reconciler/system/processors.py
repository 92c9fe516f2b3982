"""How many processors this process may use: by its affinity, and by the quotas of the control groups that it is in.

A quota has no processors of its own, only time: one of 1.5 keeps two of them busy, so it is rounded up.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

PROC: Final = "/proc/self"


def usable(proc: str = PROC) -> int:
    """Return the number of processors that this process, and what it starts, can keep busy; at least 1."""
    allowed = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError, IndexError):
        for quota in _quotas(proc):
            allowed = min(allowed, quota)
    return max(1, allowed)


def _quotas(proc: str) -> Iterator[int]:
    """Yield the quota of each group from ours up, in whole processors; of those that have one."""
    for folder, is_v2 in _folders(proc):
        with suppress(OSError, ValueError):
            if is_v2:
                time_us, period_us = _words(f"{folder}/cpu.max")
            else:
                time_us = _words(f"{folder}/cpu.cfs_quota_us")[0]
                period_us = _words(f"{folder}/cpu.cfs_period_us")[0]
            if time_us != "max" and int(time_us) > 0:
                yield -(-int(time_us) // int(period_us))


def _words(path: str) -> list[str]:
    with open(path) as file:
        return file.read().split()


def _folders(proc: str) -> Iterator[tuple[str, bool]]:
    """Yield the folders of our groups, each with those above it, and whether they are of version 2."""
    with open(f"{proc}/cgroup") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file]
    paths = {
        "cgroup2" if not controllers else "cgroup": path
        for _, controllers, path in lines
        if not controllers or "cpu" in controllers.split(",")
    }
    with open(f"{proc}/mountinfo", errors="surrogateescape") as file:
        mounts = [line.split() for line in file]
    for fields in mounts:
        root, place, separator = fields[3], fields[4], fields.index("-", 6)
        kind, options = fields[separator + 1], fields[separator + 3].split(",")
        path = paths.get(kind)
        if path is None or (kind == "cgroup" and "cpu" not in options):
            continue
        # In a container the mount shows the group of the container as its root.
        above = root.rstrip("/") + "/"
        parts = [each for each in path.removeprefix(above).split("/") if each]
        if not path.startswith(above):
            parts = []
        for length in range(len(parts), -1, -1):
            yield "/".join((place, *parts[:length])), kind == "cgroup2"
