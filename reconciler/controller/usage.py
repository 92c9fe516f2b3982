"""Processor time, memory, and who holds a port: asked of the kernel on request, in a background lane.

The only home of psutil, which is imported when somebody first asks.
"""

from __future__ import annotations

import ipaddress
import time
from typing import TYPE_CHECKING

from reconciler.model.address import InternetAddress
from reconciler.model.value import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reconciler.model.socket import SocketTemplate


class Usage(Struct, frozen=True):
    """What one process uses; its children are not counted."""

    cpu_percent: float
    """Share of one processor since the last request, at the first one since the process started."""
    memory_bytes: int
    """Resident memory."""


_last: dict[int, tuple[float, float, float]] = {}
"""By pid: when the process was created, its processor time, and when that was read. The lane's thread only."""


def usage_of(pids: Iterable[int]) -> dict[int, Usage]:
    """Return what processes use; those that are gone are left out."""
    import psutil

    found, seen = {}, {}
    for pid in pids:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                created = process.create_time()
                times = process.cpu_times()
                memory = process.memory_info().rss
        except psutil.Error:
            continue
        now, spent = time.time_ns() / 1e9, times.user + times.system
        before = _last.get(pid)
        since, base = (
            (before[2], before[1])
            if before is not None and before[0] == created
            else (created, 0.0)
        )
        seen[pid] = (created, spent, now)
        found[pid] = Usage(round(100 * (spent - base) / max(now - since, 0.01), 1), memory)
    _last.clear()
    _last.update(seen)
    return found


def holder_of(wanted: SocketTemplate) -> str:
    """Return who keeps a socket from being bound, in words such as `nginx (pid 811)`; empty: it cannot be known."""
    import psutil

    if not isinstance(wanted.address, InternetAddress):
        return ""
    kind, port = "udp" if wanted.type == "dgram" else "tcp", wanted.address.port
    try:
        connections = psutil.net_connections(kind)
    except (psutil.Error, OSError):
        return ""
    for each in connections:
        if (
            each.laddr
            and each.laddr.port == port
            and each.pid
            and _conflicts(wanted.address.host, each.laddr.ip, ipv6_only=wanted.ipv6_only)
            and (kind == "udp" or each.status == "LISTEN")
        ):
            try:
                return f"{psutil.Process(each.pid).name()} (pid {each.pid})"
            except psutil.Error:
                return f"pid {each.pid}"
    return ""


def _conflicts(wanted: str, found: str, *, ipv6_only: bool) -> bool:
    """Tell whether a socket at `found` keeps one from being bound at `wanted`, both at the same port (ip(7), ipv6(7)).

    They do at one address, and where one stands for all of its family; `::` may stand for those of IPv4 too: of
    the other one nobody tells us whether it does. `wanted` may be a name, which may be that of any address.
    """
    try:
        one, other = (ipaddress.ip_address(each.partition("%")[0]) for each in (wanted, found))
    except ValueError:
        return True
    if one == other:
        return True
    if one.version == other.version:
        return one.is_unspecified or other.is_unspecified
    both = one if one.version == 6 else other
    return both.is_unspecified and not (both is one and ipv6_only)
