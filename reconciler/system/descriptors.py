"""Descriptors that children inherit beside those that they were given."""

from __future__ import annotations

import fcntl
from contextlib import suppress
from typing import Final

LIFELINE_FD: Final = 100
"""From here on: out of the way of shells, sockets, and whoever closes all up to a low limit."""


def inheritable(fd: int) -> int:
    """Return a copy that the next child inherits, at a high number where that may be. Raises `OSError`."""
    with suppress(OSError):  # EINVAL: beyond our own limit
        return fcntl.fcntl(fd, fcntl.F_DUPFD, LIFELINE_FD)
    return fcntl.fcntl(fd, fcntl.F_DUPFD, 0)
