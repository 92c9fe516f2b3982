"""Tells once when a client waits at a listening socket, and costs nothing until then (EPOLLONESHOT of epoll_ctl(2)).

A listening socket is shared with those who accept. So it is taken off before it is closed: what epoll(7) watches is
the open file that they have too, and it would go on telling of a number that is another's by then.
"""

from __future__ import annotations

import contextlib
import select
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_ONCE: Final = select.EPOLLIN | select.EPOLLONESHOT


class Clients:
    """The sockets at which clients are awaited. `told` is called with the name of one at which somebody waits."""

    def __init__(
        self, register: Callable[[int, Callable[[], None]], None], told: Callable[[str], None]
    ) -> None:
        self._told = told
        self._epoll = select.epoll()
        self._names: dict[int, str] = {}
        register(self._epoll.fileno(), self._ready)

    def await_next(self, fd: int, name: str) -> None:
        """Tell when the next client waits, or when the socket is shut down. Raises `OSError`."""
        if fd in self._names:
            self._epoll.modify(fd, _ONCE)
        else:
            self._epoll.register(fd, _ONCE)
        self._names[fd] = name

    def forget(self, fd: int) -> None:
        """Tell of a socket no more, which is about to be closed."""
        if self._names.pop(fd, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)

    def _ready(self) -> None:
        for fd, _ in self._epoll.poll(0):
            if fd in self._names:
                self._told(self._names[fd])
