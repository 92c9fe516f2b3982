"""All output behind one descriptor, so that lines gather while little comes.

A wake-up for each line would keep the keeper busy when a hundred workers chat. So after a round that found
little, output is left alone for 10 ms and then read together. After one that found much the next follows at
once: who writes flat out is not held up by full pipes. Who has rested is read at once, so a first line waits
for nobody; and while all rest, nothing wakes.
"""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, Final

from reconciler.model.units import MILLISECOND_NS

if TYPE_CHECKING:
    from collections.abc import Callable

GATHER_NS: Final = 10 * MILLISECOND_NS
MUCH_BYTES: Final = 2**15
"""Half of what a pipe holds by default: 10 ms later it could be full."""


class Gathering:
    """Watches descriptors; each has a function that reads a round and returns how many bytes that were."""

    def __init__(
        self,
        register: Callable[[int, Callable[[], None]], None],
        unregister: Callable[[int], None],
    ) -> None:
        self._register = register
        self._unregister = unregister
        self._epoll = select.epoll()
        self._pumps: dict[int, Callable[[], int]] = {}
        self.due_ns: int | None = None
        """When output that gathers is to be read, by `look`; None: nothing gathers."""
        self._register(self._epoll.fileno(), self._ready)

    def register(self, fd: int, pump: Callable[[], int]) -> None:
        """Call `pump` when there is something to read, or a little later."""
        self._epoll.register(fd, select.EPOLLIN)
        self._pumps[fd] = pump

    def unregister(self, fd: int) -> None:
        """Watch a descriptor no more."""
        del self._pumps[fd]
        self._epoll.unregister(fd)

    def look(self) -> None:
        """Read what has gathered, when it is time; go back to watching when there was nothing, or much."""
        if self.due_ns is None or time.monotonic_ns() < self.due_ns:
            return
        found = self._round()
        if found is not None and found < MUCH_BYTES:
            self.due_ns = time.monotonic_ns() + GATHER_NS
        else:
            self.due_ns = None
            self._register(self._epoll.fileno(), self._ready)

    def _ready(self) -> None:
        found = self._round()
        if found is not None and found < MUCH_BYTES:
            self.due_ns = time.monotonic_ns() + GATHER_NS
            self._unregister(self._epoll.fileno())

    def _round(self) -> int | None:
        """Read a round of each that is ready; return the most that one of them had, None: none was ready."""
        found: int | None = None
        for fd, _ in self._epoll.poll(0):
            pump = self._pumps.get(fd)
            if pump is not None:  # another's round may have ended this one
                found = max(found or 0, pump())
        return found
