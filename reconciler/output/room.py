"""Being told when a descriptor that was full takes more; while none is full, nothing is watched.

An epoll descriptor that holds only ours is readable when there is room again: the selector above asks for that only.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Room:
    """Calls `go_on` as long as room was waited for and there is some; that returns how much it has written."""

    def __init__(
        self,
        watch: Callable[[int, Callable[[], int]], None],
        ignore: Callable[[int], None],
        go_on: Callable[[], int],
    ) -> None:
        self._watch, self._ignore = watch, ignore
        self._go_on = go_on
        self._epoll: select.epoll | None = None

    @property
    def is_awaited(self) -> bool:
        """Tell whether room is waited for."""
        return self._epoll is not None

    def wait(self, fd: int) -> None:
        """Wait for room. Raises `OSError` for a plain file and the like, of which nothing is told."""
        if self._epoll is not None:
            return
        room = select.epoll()
        try:
            room.register(fd, select.EPOLLOUT)
            self._watch(room.fileno(), self._go_on)
        except OSError:
            room.close()
            raise
        self._epoll = room

    def done(self) -> None:
        """Wait no more."""
        if self._epoll is not None:
            self._ignore(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None
