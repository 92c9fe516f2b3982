"""The manager's own standard output, shared by all streams that go there; it never blocks.

Setting O_NONBLOCK on descriptor 1 would set it for the shell that started us as well. So a pipe or
a terminal is opened a second time, a socket is sent to without waiting, a plain file never waits.
Whole lines that find no room are kept, and dropped beyond `PENDING_BYTES`.
"""

from __future__ import annotations

import os
import select
import socket
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from reconciler.output.room import Room
from reconciler.output.terminals import without_orders

if TYPE_CHECKING:
    from collections.abc import Callable

    from reconciler.model.process import ProcessId

PENDING_BYTES: Final = 2**20
_PIECE_BYTES: Final = 256
"""A terminal or pipe that polls as writable takes at least so much at once (tty: WAKEUP_CHARS)."""


class ManagerOutput:
    """Whole lines on their way to descriptor 1. `told` hears when it takes lines again of which some were lost."""

    def __init__(
        self,
        watch: Callable[[int, Callable[[], int]], None],
        ignore: Callable[[int], None],
        told: Callable[[ProcessId, ManagerOutput], None],
        fd: int = 1,
    ) -> None:
        self._told = told
        self._fd, self._write = never_waiting(fd)
        self._is_terminal = os.isatty(fd)
        self.pending = b""
        """Lines that wait for room."""
        self._room = Room(watch, ignore, self._flush)
        self.path: Final = "the manager's own output"
        self.astray: Final = ""
        self.trouble = ""
        """Why lines are lost, empty when none are."""
        self.lost_bytes = 0
        self.writer: ProcessId | None = None
        """Whose lines came last."""

    def put(self, lines: bytes) -> int:
        """Write whole lines now or later; return the bytes dropped. A terminal gets nothing that it would obey."""
        if self._is_terminal:
            lines = without_orders(lines)
        room = PENDING_BYTES - len(self.pending)
        fitting = len(lines) if len(lines) <= room else lines.rfind(b"\n", 0, room) + 1
        self.pending += lines[:fitting]
        if not self._room.is_awaited:
            self._flush()
        if fitting < len(lines):
            self.trouble = "nobody reads it"
        return len(lines) - fitting

    def _flush(self) -> int:
        """Write what is pending as far as it is taken; return how much was."""
        before = len(self.pending)
        try:
            while self.pending:
                self.pending = self.pending[self._write(self.pending) :]
        except BlockingIOError:
            self._wait_for_room()
        except OSError as error:  # Nobody reads it any more, or its disk is full.
            self._drop(os.strerror(error.errno or 0).lower())
        else:
            self._recover()
        if not self.pending:
            self._room.done()
        return before - len(self.pending)

    def _wait_for_room(self) -> None:
        try:
            self._room.wait(self._fd)
        except OSError:  # EPERM: a plain file or the like, which nothing would tell us about.
            self._drop("it takes nothing, and nobody tells when it does")

    def _drop(self, trouble: str) -> None:
        self.lost_bytes += len(self.pending)
        self.pending, self.trouble = b"", trouble

    def _recover(self) -> None:
        """All that was pending is written: tell so where it was told that some is lost."""
        if self.trouble and self.writer is not None:
            self.trouble = ""
            self._told(self.writer, self)


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
