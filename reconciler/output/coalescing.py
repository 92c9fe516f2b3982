"""All output behind one descriptor, so that lines are read together while little comes.

A wake-up for each line would keep the keeper busy when a hundred workers chat. So after a round that found
little, output is left alone for 10 ms and then read together. After one that found much the next follows at
once: who writes flat out is not held up by full pipes. Who has rested is read at once, so a first line waits
for nobody; and while all rest, nothing wakes.

Output has a turn of a few milliseconds, and a short one when deaths, signals or requests wait for theirs. Who was
ready and had none comes first in the next turn, before anybody is read again: the time until then grows with the
number of writers, that of a death or a request does not.
"""

from __future__ import annotations

import select
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from reconciler.model.units import MILLISECOND_NS

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


COALESCE_NS: Final = 10 * MILLISECOND_NS
TURN_NS: Final = 3 * MILLISECOND_NS
"""After so long others have their turn, if there are any by then."""
SHORT_TURN_NS: Final = MILLISECOND_NS // 2
"""After so long others have it who wait for it: what follows a death takes two turns of theirs, or three."""
MUCH_BYTES: Final = 2**15
"""Half of what a pipe holds by default: 10 ms later it could be full."""


class Loop(Protocol):
    """What waits for the one descriptor, among others."""

    def watch(self, fd: int, ready: Callable[[], None]) -> None:
        """Call `ready` whenever something is to be read."""

    def others_wait(self, fd: int) -> bool:
        """Tell whether another one is ready."""


class Coalescing:
    """Watches descriptors; each has a function that reads a round and returns how many bytes that were."""

    def __init__(
        self,
        loop: Loop,
        border: Callable[[str], AbstractContextManager[object]],
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._loop = loop
        self._border = border
        self._now_ns = now_ns
        self._epoll = select.epoll()
        # Shut while output is left alone. To take ours out of the loop and put it back is no way: the kernel would go
        # through all that is in it, and may have no memory for it then.
        self._door = select.epoll()
        self._door.register(self._epoll.fileno(), select.EPOLLIN)
        self._pumps: dict[int, Callable[[], int]] = {}
        self._waiting: deque[int] = deque()
        """Who was ready at the beginning of this round and has not been read yet."""
        self._most: int | None = None
        """The most that one of this round had, None: none was ready."""
        self.due_ns: int | None = None
        """When output that was left alone is to be read, by `look`; None: none was."""
        self._loop.watch(self._door.fileno(), self._ready)

    def watch(self, fd: int, pump: Callable[[], int]) -> None:
        """Call `pump` when there is something to read, or a little later."""
        self._epoll.register(fd, select.EPOLLIN)
        self._pumps[fd] = pump

    def ignore(self, fd: int) -> None:
        """Watch a descriptor no more."""
        del self._pumps[fd]
        self._epoll.unregister(fd)

    def look(self) -> None:
        """Read what has come meanwhile, when it is time; go back to watching when there was nothing, or much."""
        if self.due_ns is None or self._now_ns() < self.due_ns:
            return
        self._turn()
        self.due_ns = self._next_ns()
        if self.due_ns is None:
            self._door.modify(self._epoll.fileno(), select.EPOLLIN)

    def _ready(self) -> None:
        self._turn()
        self.due_ns = self._next_ns()
        if self.due_ns is not None:
            self._door.modify(self._epoll.fileno(), 0)

    def _next_ns(self) -> int | None:
        """Return when the next turn is, None: when something is ready."""
        if self._waiting:
            return self._now_ns()
        waits = self._most is not None and self._most < MUCH_BYTES
        return self._now_ns() + COALESCE_NS if waits else None

    def _turn(self) -> None:
        """Go on with the round, or begin one, until it or the time is over."""
        began_ns = self._now_ns()
        if not self._waiting:
            self._most = None
            self._waiting.extend(fd for fd, _ in self._epoll.poll(0))
        while self._waiting:
            pump = self._pumps.get(self._waiting.popleft())
            if pump is None:  # another's round may have ended this one
                continue
            found = 0
            with self._border("reading output"):
                found = pump()
            self._most = max(self._most or 0, found)
            if self._is_over(self._now_ns() - began_ns):
                break

    def _is_over(self, took_ns: int) -> bool:
        if took_ns >= TURN_NS:
            return True
        return took_ns >= SHORT_TURN_NS and self._loop.others_wait(self._door.fileno())
