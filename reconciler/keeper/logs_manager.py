"""The manager's own standard output, shared by all streams that go there; it never blocks.

Setting O_NONBLOCK on descriptor 1 would set it for the shell that started us as well. So a pipe or
a terminal is opened a second time, a socket is sent to without waiting, a plain file never waits.
Whole lines that find no room are kept, and dropped beyond `PENDING_BYTES`. An epoll descriptor that
holds only our output is readable when there is room again: the selector above asks for that only.
"""

from __future__ import annotations

import os
import select
import socket
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from reconciler.keeper.terminals import without_orders

if TYPE_CHECKING:
    from collections.abc import Callable

    from reconciler.keeper.logs import Logs

PENDING_BYTES: Final = 2**20
_PIECE_BYTES: Final = 256
"""A terminal or pipe that polls as writable takes at least so much at once (tty: WAKEUP_CHARS)."""


class ManagerOutput:
    """Whole lines on their way to descriptor 1."""

    def __init__(self, logs: Logs, fd: int = 1) -> None:
        self._logs = logs
        self._fd, self._write = never_waiting(fd)
        self._is_terminal = os.isatty(fd)
        self._pending = b""
        self._room: select.epoll | None = None

    @property
    def pending(self) -> bytes:
        """Return the lines that wait for room."""
        return self._pending

    def put(self, lines: bytes) -> int:
        """Write whole lines now or later; return the bytes dropped. A terminal gets nothing that it would obey."""
        if self._is_terminal:
            lines = without_orders(lines)
        room = PENDING_BYTES - len(self._pending)
        fitting = len(lines) if len(lines) <= room else lines.rfind(b"\n", 0, room) + 1
        self._pending += lines[:fitting]
        if self._room is None:
            self._flush()
        return len(lines) - fitting

    def _flush(self) -> int:
        """Write what is pending as far as it is taken; return how much was."""
        before = len(self._pending)
        try:
            while self._pending:
                self._pending = self._pending[self._write(self._pending) :]
        except BlockingIOError:
            if self._room is None:
                self._wait_for_room()
        except OSError:  # Nobody reads it any more, or its disk is full.
            self._drop()
        if not self._pending and self._room is not None:
            self._logs.unregister(self._room.fileno())
            self._room.close()
            self._room = None
        return before - len(self._pending)

    def _wait_for_room(self) -> None:
        room = select.epoll()
        try:
            room.register(self._fd, select.EPOLLOUT)
            self._logs.register(room.fileno(), self._flush)
        except OSError:  # EPERM: a plain file or the like, which nothing would tell us about.
            room.close()
            self._drop()
            return
        self._room = room

    def _drop(self) -> None:
        self._logs.dropped += len(self._pending)
        self._pending = b""


def never_waiting(fd: int) -> tuple[int, Callable[[bytes], int]]:
    """Return the descriptor to poll, and a way to write that raises `BlockingIOError` when full."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        peer = socket.socket(fileno=os.dup(fd))
        return fd, lambda data: peer.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    if stat.S_ISREG(mode):
        return fd, lambda data: os.write(fd, data)
    with suppress(OSError):  # EACCES: a pipe of the user we were before su. No /proc.
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        again = os.open(f"/proc/self/fd/{fd}", flags)
        return again, lambda data: os.write(again, data)
    poll = select.poll()
    poll.register(fd, select.POLLOUT)

    def write_a_piece(data: bytes) -> int:
        # Another writer could fill the pipe in between, and we would wait: the last resort only.
        if not poll.poll(0):
            raise BlockingIOError
        return os.write(fd, data[:_PIECE_BYTES])

    return fd, write_a_piece
