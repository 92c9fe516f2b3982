"""The addresses of a host: numbers at once, names by a lane, each name by one question at a time."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

from reconciler.controller.probes.exchange import Address
from reconciler.controller.runtime import clock
from reconciler.controller.runtime.lanes import Lanes
from reconciler.model.units import SECOND_NS
from reconciler.model.value import Part, field

Then: TypeAlias = Callable[[list[Address], str], None]
"""Called with the addresses, or with none and why."""

KEEP_NS: Final = 10 * SECOND_NS
"""How long a name's addresses are taken to be what they were."""
MAX_KEPT: Final = 1000


class Names(Part):
    """What is known of names, and who waits for one."""

    lanes: Lanes
    _known: dict[tuple[str, int], tuple[int, list[Address]]] = field(default_factory=dict)
    _waiting: dict[tuple[str, int], list[Then]] = field(default_factory=dict)

    def find(self, host: str, port: int, then: Then) -> None:
        """Have `then` called with the addresses of a host, at once where they are known."""
        key = (host, port)
        until_ns, addresses = self._known.get(key, (0, []))
        if addresses and clock.now_ns() < until_ns:
            then(addresses, "")
        elif key in self._waiting:
            self._waiting[key].append(then)
        else:
            self._waiting[key] = [then]
            self.lanes.run(
                "names",
                partial(_look_up, host, port),
                lambda found: self._found(key, *found),
                lambda cause: self._found(key, [], cause),
            )

    def _found(self, key: tuple[str, int], addresses: list[Address], cause: str) -> None:
        if len(self._known) >= MAX_KEPT:
            self._known.clear()
        self._known[key] = (clock.now_ns() + KEEP_NS, addresses)
        for then in self._waiting.pop(key, []):
            then(addresses, cause)


def numbers_of(host: str, port: int) -> list[Address]:
    """Return the address of a host that is written as a number; of a name none. Asks nobody."""
    try:
        return _look_up(host, port, socket.AI_NUMERICHOST)[0]
    except ValueError:
        return []


def _look_up(host: str, port: int, flags: int = 0) -> tuple[list[Address], str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except OSError as error:
        return [], (error.strerror or str(error)).lower()
    except UnicodeError:
        return [], "no name of a host"
    return [(family, (str(host), *rest)) for family, _, _, _, (host, *rest) in found], ""
