"""Becoming another program with all that is open: the process stays, and with it its pid, its children, its locks.

What execve(2) would close is made inheritable, and what would be forgotten is written into memory that has no name
(memfd_create(2)). All signals are blocked meanwhile, so that none finds a program that does not expect it; one that
comes waits. If the new program cannot be executed, everything is as it was.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def become(
    argv_with: Callable[[int], list[str]],
    data: bytes,
    descriptors: Iterable[int],
    unheard: Callable[[], Iterable[int]],
) -> NoReturn:
    """Become the program of an `argv` that names the memory in which `data` is, and keep these descriptors.

    `unheard` gives away the signals that have come already, but that nobody has answered. Raises `OSError`; then
    nothing has changed.
    """
    with ExitStack() as undo:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        undo.callback(signal.pthread_sigmask, signal.SIG_SETMASK, mask)
        for number in unheard():  # they wait for whoever unblocks them: the new program, or we
            os.kill(os.getpid(), number)
        memory = os.memfd_create("handover", os.MFD_CLOEXEC)
        undo.callback(os.close, memory)
        with open(memory, "wb", closefd=False) as file:
            file.write(data)
        for fd in (memory, *descriptors):
            undo.callback(os.set_inheritable, fd, False)
            os.set_inheritable(fd, True)
        argv = argv_with(memory)
        os.execv(argv[0], argv)
    raise AssertionError  # an exec that returns has raised
