"""A refused address is explained by who holds it: looked up off the loop, then told with the event itself.

The only home of psutil, which is imported when somebody first asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from reconciler.controller.runtime import clock
from reconciler.controller.runtime.lanes import Lanes
from reconciler.model.address import InternetAddress
from reconciler.model.observation import Observation, SocketChanged
from reconciler.model.socket import BindRefused, SocketRecord, SocketTemplate
from reconciler.model.units import SECOND_NS
from reconciler.model.value import Part, field, replace

ASK_AGAIN_NS: Final = 30 * SECOND_NS
"""Addresses are tried every few seconds; reading all connections of a machine that often is too dear."""


class PortHolders(Part):
    """What was found out, by address; `feed` puts the better message before the core."""

    lanes: Lanes
    feed: Callable[[Observation], None]
    _known: dict[str, tuple[int, str]] = field(default_factory=dict)
    _newest: dict[str, SocketRecord] = field(default_factory=dict)

    def forget(self, name: str) -> None:
        """Take note that a socket is bound or gone."""
        self._newest.pop(name, None)

    def ask(self, record: SocketRecord) -> None:
        """Find out who holds the address of a refused socket, and put the better message before the core."""
        address = record.template.address
        if not isinstance(address, InternetAddress):
            return
        self._newest[record.name] = record
        key = f"{record.template.type} {address}"
        now = clock.now_ns()
        fresh = {key: known for key, known in self._known.items() if now - known[0] < ASK_AGAIN_NS}
        self._known = fresh  # addresses of yesterday's spec are of no further use
        if key in fresh:
            self._tell(record, fresh[key][1])
            return
        self._known[key] = (now, "")

        def found(holder: str) -> None:
            if key in self._known:
                self._known[key] = (now, holder)
            self._tell(record, holder)

        self.lanes.run("processes", lambda: holder_of(record.template), found, lambda _: None)

    def _tell(self, record: SocketRecord, holder: str) -> None:
        # It may have been bound or closed meanwhile: then what is known now is not to be overwritten.
        if (
            not holder
            or self._newest.get(record.name) is not record
            or not isinstance(record.phase, BindRefused)
        ):
            return
        message = f"{record.phase.message}; it is held by {holder}"
        self.feed(SocketChanged(replace(record, phase=replace(record.phase, message=message))))


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
    host, only = wanted.address.host, wanted.ipv6_only
    there = [
        each
        for each in connections
        if each.laddr
        and each.laddr.port == port
        and _conflicts(host, each.laddr.ip, ipv6_only=only)
    ]
    for each in there:
        if each.pid and (kind == "udp" or each.status == "LISTEN"):
            try:
                return f"{psutil.Process(each.pid).name()} (pid {each.pid})"
            except psutil.Error:
                return f"pid {each.pid}"
    # A client's connection keeps its port for a minute after its end, and then nobody has it (TIME_WAIT).
    if there and all(each.raddr for each in there):
        return (
            "the connection of a client that was given this port, see net.ipv4.ip_local_port_range"
        )
    return ""


def _conflicts(wanted: str, found: str, *, ipv6_only: bool) -> bool:
    """Tell whether a socket at `found` keeps one from being bound at `wanted`, both at the same port (ip(7), ipv6(7)).

    They do at one address, and where one stands for all of its family; `::` may stand for those of IPv4 too: of
    the other one nobody tells us whether it does. `wanted` may be a name, which may be that of any address.
    """
    import ipaddress

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
