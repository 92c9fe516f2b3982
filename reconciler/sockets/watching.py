"""Tells when something happens at sockets, and costs nothing until then: a client waits, or a file may have vanished.

A listening socket is shared with those who accept. So it is taken off before it is closed: what epoll(7) watches is
the open file that they have too, and it would go on telling of a number that is another's by then.

The files themselves are watched (inotify(7)), not their folders: what others do beside them wakes nobody. Where no
watch can be had, a file that vanishes is noticed when its socket is bound the next time.
"""

from __future__ import annotations

import contextlib
import os
import select
from typing import TYPE_CHECKING, Final

from reconciler.system import inotify

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


class FileWatch:
    """The files that are watched. `told` is called when one of them may not be there any more."""

    def __init__(
        self, register: Callable[[int, Callable[[], None]], None], told: Callable[[], None]
    ) -> None:
        self._told = told
        self._watches: inotify.Inotify | None = None
        with contextlib.suppress(OSError):
            watches = inotify.Inotify()
            try:
                register(watches.fileno(), self._drain)
            except BaseException:  # nobody would hear it
                watches.close()
                raise
            self._watches = watches

    def watch(self, path: str) -> str:
        """Watch a file for as long as it exists; return in words why that cannot be, empty when it can.

        The bound socket keeps the file from being deleted: that it loses its last name is a change of its attributes.
        """
        if self._watches is None:
            return "no inotify instance can be had"
        try:
            self._watches.add(path, inotify.ATTRIB | inotify.MOVE_SELF | inotify.DONT_FOLLOW)
        except OSError as error:
            return os.strerror(error.errno or 0).lower()
        return ""

    def _drain(self) -> None:
        # What exactly happened does not matter: each socket is asked whether its file is there.
        if self._watches is not None:
            for _ in self._watches.read():
                pass
        self._told()
