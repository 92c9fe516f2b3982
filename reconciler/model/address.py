"""Where a socket listens: the one address string of a spec, taken apart."""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from reconciler.model.units import Reads
from reconciler.model.value import Tagged

MAX_UNIX_PATH_BYTES: Final = 107
"""sun_path holds 108 bytes with its final zero (unix(7))."""

WILDCARDS: Final = frozenset({"0.0.0.0", "::"})

_V6 = re.compile(r"\[([0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?)\]:(\d{1,5})")
_HOST = re.compile(r"([A-Za-z0-9_.-]+):(\d{1,5})")
_NUMBER = re.compile(r"[0-9.]+|.*:.*")


class InternetAddress(Tagged, frozen=True):
    """A host and a port; `host` is a name or number as written, port 0 lets the kernel choose."""

    host: str
    port: int

    @property
    def is_v6(self) -> bool:
        """Tell whether the host is a literal IPv6 address."""
        return ":" in self.host

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.is_v6 else f"{self.host}:{self.port}"


class UnixAddress(Tagged, frozen=True):
    """A Unix socket file; the path may hold `${...}` until the spec is read, never after."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address: TypeAlias = InternetAddress | UnixAddress


def may_overlap(one: Address, other: Address) -> bool:
    """Tell whether a process that still listens at one address may keep others from being bound.

    All interfaces overlap with each, and a name may be the name of any number: nobody is asked here. A port
    that the kernel chooses is free, and the file of a Unix socket is gone once the manager has closed it.
    """
    if not isinstance(one, InternetAddress) or not isinstance(other, InternetAddress):
        return False
    if one.port != other.port or not one.port:
        return False
    hosts = {one.host, other.host}
    return len(hosts) == 1 or any(h in WILDCARDS or not _NUMBER.fullmatch(h) for h in hosts)


def parse_address(value: object) -> Address:
    """Return the address of `host:port`, `[v6]:port`, `unix:/path` or a bare port (all interfaces).

    Raises `ValueError` when it is none of them or out of range.
    """
    if isinstance(value, InternetAddress | UnixAddress):
        return value
    text = value if isinstance(value, str) else ""
    if isinstance(value, int) and not isinstance(value, bool):
        text = str(value)
    if text.startswith("unix:"):
        return _unix(text.removeprefix("unix:"))
    if text.isdecimal():
        return InternetAddress("0.0.0.0", _port(text))
    match = _V6.fullmatch(text) or _HOST.fullmatch(text)
    if match is None:
        msg = "expected an address such as 127.0.0.1:8000, [::1]:8000, unix:/run/app.sock or 8000"
        raise ValueError(msg)
    return InternetAddress(match[1], _port(match[2]))


def _unix(path: str) -> UnixAddress:
    size = len(path.encode())
    if not path.startswith("/"):
        msg = "expected an absolute path after unix:"
        raise ValueError(msg)
    if size > MAX_UNIX_PATH_BYTES or "\0" in path:
        msg = f"the path has {size} bytes, a Unix socket's holds at most {MAX_UNIX_PATH_BYTES}"
        raise ValueError(msg)
    return UnixAddress(path)


def _port(text: str) -> int:
    port = int(text)
    if port > 65535:
        msg = f"port {port} is out of range, expected 0 to 65535"
        raise ValueError(msg)
    return port


LISTEN = Reads("address", parse_address, "127.0.0.1:8000", None, ("integer",))
