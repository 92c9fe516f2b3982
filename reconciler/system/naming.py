"""What others see of a process that was forked and executed nothing: its command line, and the marker of its instance.

Both are read from the memory of the process (proc_pid_cmdline(5), proc_pid_environ(5)), where execve(2) has put those
of the program that was executed last. There they can be written over, but they cannot grow.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_FIRST: Final = 3
"""The number in proc_pid_stat(5) of the first field after the name."""
_ARG_START, _ARG_END, _ENV_START, _ENV_END = (number - _FIRST for number in range(48, 52))


def has_room(variable: str) -> bool:
    """Tell whether this variable would go into what is seen of our environment."""
    start, end = _areas()[1]
    return end - start > len(os.fsencode(variable))


def rename(command: Sequence[str], variable: str) -> None:
    """Be seen with this command line, as much of it as goes in, and with this variable alone in the environment.

    For a process that has been forked and is about to be another program: it must have filled `os.environ` anew,
    or else its own environment is gone.
    """
    import ctypes

    line = b"\0".join(map(os.fsencode, command))
    for (start, end), text in zip(_areas(), (line, os.fsencode(variable)), strict=True):
        # The last byte stays zero: otherwise the kernel takes the environment for a part of the command line.
        ctypes.memmove(start, text[: end - start - 1].ljust(end - start, b"\0"), end - start)


def _areas() -> tuple[tuple[int, int], tuple[int, int]]:
    """Return where the command line and the environment lie in our memory."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    found = [int(fields[each]) for each in (_ARG_START, _ARG_END, _ENV_START, _ENV_END)]
    return (found[0], found[1]), (found[2], found[3])
