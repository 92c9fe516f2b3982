"""What a process reads: nothing, a socket, a file that it opens itself, or a terminal at which nobody types.

Of a terminal the process holds both ends: standard input, for reading only, and at a high number the other end, which
nobody uses. So a read waits for ever, whether a keeper lives or not, nothing is lost with a keeper, and what a program
writes to its input cannot hold it up. Output goes through pipes all the same: the other end of a terminal that carries
it could not be given to the next keeper everywhere (pidfd_getfd(2) takes the right to trace), and without that end a
program is hung up.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import termios
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from reconciler.model.process import FileInput, TerminalInput
from reconciler.spawn.launch_errors import step
from reconciler.system.descriptors import inheritable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reconciler.model.process import Launch

_ROWS, _COLUMNS = 24, 80
_QUIETLY: Final = os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC


@contextmanager
def standard_input(launch: Launch, otherwise: int) -> Iterator[int]:
    """Yield the descriptor that becomes standard input; what else the next child inherits is open meanwhile.

    Raises `LaunchFailed`.
    """
    if not isinstance(launch.stdin, TerminalInput):
        yield otherwise  # a file is opened by the child
        return
    opened: list[int] = []
    try:
        with step("stdin", "/dev/ptmx"):
            opened += os.openpty()
            fcntl.ioctl(opened[0], termios.TIOCSWINSZ, struct.pack("4H", _ROWS, _COLUMNS, 0, 0))
            opened.append(os.open(f"/proc/self/fd/{opened[1]}", _QUIETLY))
            opened.append(inheritable(opened[0]))
        yield opened[2]
    finally:
        for fd in opened:
            os.close(fd)


def open_input(launch: Launch) -> None:
    """Open the file that becomes standard input. Runs in the child, as its user. Raises `LaunchFailed`."""
    if isinstance(launch.stdin, FileInput):
        with step("stdin", launch.stdin.path):
            # A FIFO that nobody writes to is not waited for.
            fd = os.open(launch.stdin.path, _QUIETLY | os.O_NONBLOCK)
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            os.set_blocking(fd, True)
            os.dup2(fd, 0)
