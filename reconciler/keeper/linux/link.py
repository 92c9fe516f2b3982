"""The real link: a socket pair whose other end the controller inherits, with the control socket beside it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import selectors
import socket
from typing import TYPE_CHECKING, Final

from reconciler.keeper.kernel import LinkReadable
from reconciler.spawn.launch_errors import step
from reconciler.system.shortages import NOT_NOW

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from reconciler.keeper.linux.loop import Loop

READ_BYTES: Final = 256 * 1024
LINK_FD: Final = 3
CONTROL_FD: Final = 4
NUMBERS: Final[Mapping[str, str]] = {
    "RECONCILE_LINK_FD": str(LINK_FD),
    "RECONCILE_CONTROL_FD": str(CONTROL_FD),
}
"""By which variables the controller knows its ends."""
_FREE_FD: Final = 10
_SIOCOUTQ: Final = 0x5411
_SHORT: Final = NOT_NOW | {errno.EAGAIN, errno.ENOBUFS}
"""What says nothing of the other end of the link: the same is tried again."""


class Link:
    """Our end of the link, of one controller after the other."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._socket: socket.socket | None = None
        self.is_cut = False
        """It was shut down, so that its controller ends."""

    @contextlib.contextmanager
    def opened(self, control: socket.socket) -> Iterator[tuple[int, ...]]:
        """Open the link, for a controller with these descriptors from 3 on. Raises `LaunchFailed`."""
        with contextlib.ExitStack() as stack, contextlib.ExitStack() as undo:
            with step("fork"):
                ours, theirs = socket.socketpair()
                stack.enter_context(theirs)
                undo.enter_context(ours)
                ours.setblocking(False)
                self._loop.watch(ours.fileno(), self._readable)
                undo.callback(self._loop.ignore, ours.fileno())
                fds = []
                for source in (theirs, control):
                    fds.append(fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, _FREE_FD))
                    stack.callback(os.close, fds[-1])
            yield tuple(fds)
            undo.pop_all()
        self._socket, self.is_cut = ours, False

    def _readable(self) -> None:
        self._loop.tell(LinkReadable())

    def _writable(self) -> None:
        assert self._socket is not None
        self._loop.selector.modify(self._socket, selectors.EVENT_READ, self._readable)
        self._readable()

    def receive(self) -> bytes | None:
        """Return bytes of the link, b"" when the other end is closed, None when nothing is there."""
        assert self._socket is not None
        try:
            return self._socket.recv(READ_BYTES)
        except OSError as error:
            return None if error.errno in _SHORT else b""

    def send(self, data: bytes) -> int:
        """Send and return how many bytes it took; the loop wakes when it takes more."""
        assert self._socket is not None
        both = selectors.EVENT_READ | selectors.EVENT_WRITE
        try:
            sent = self._socket.send(data)
        except OSError as error:
            if error.errno not in _SHORT:
                return len(data)  # hung up: its death follows
            sent = 0
        if sent < len(data):
            try:
                self._loop.selector.modify(self._socket, both, self._writable)
            except OSError:  # no memory for epoll: what was sent was sent all the same
                self._readable()
        return sent

    def is_unread(self) -> bool:
        """Tell whether something that was sent has not been read (SIOCOUTQ, unix(7))."""
        if self._socket is None:
            return False
        return any(fcntl.ioctl(self._socket, _SIOCOUTQ, bytes(4)))  # an int

    def cut(self) -> None:
        """Shut it down: a controller without a link ends."""
        if self._socket is not None:
            self._socket.shutdown(socket.SHUT_RDWR)
            self.is_cut = True

    def close(self) -> None:
        """Close our end."""
        if self._socket is not None:
            self._loop.ignore(self._socket.fileno())
            self._socket.close()
            self._socket = None
