"""Reads from a file which process it names: a hint from outside, which whoever asks holds against what it knows.

Known weakness: on a file system that a server or a program answers for, a look may take as long as that likes.
"""

from __future__ import annotations

import os
import stat
from typing import Final

MAX_BYTES: Final = 64
"""Of a file that holds a number and perhaps a line break, and (postgres, sshd ...) more lines."""


def read(path: str) -> int:
    """Return the number on the first line of a file, 0 when there is none.

    Whoever may write into the folder may put anything there, so nothing is opened that is no regular file.
    """
    try:
        found = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, ValueError):
        return 0
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            return 0
        file = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            line = os.read(file, MAX_BYTES).split(b"\n")[0].strip()
        finally:
            os.close(file)
    except OSError:
        return 0
    finally:
        os.close(found)
    return int(line) if line.isdigit() else 0
