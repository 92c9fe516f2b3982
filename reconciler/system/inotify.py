"""inotify(7), which Python's library lacks: what happens at files and in folders, told by a descriptor.

The number of a watch belongs to what lies at a path, not to the path: whoever watches the same folder by two
paths gets one number, and asks for all that both want.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from struct import Struct
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

MODIFY: Final = 0x2
ATTRIB: Final = 0x4
"""Also when a file loses its last name, while something still holds it open."""
CLOSE_WRITE: Final = 0x8
MOVED_FROM: Final = 0x40
MOVED_TO: Final = 0x80
CREATE: Final = 0x100
DELETE: Final = 0x200
DELETE_SELF: Final = 0x400
MOVE_SELF: Final = 0x800
UNMOUNT: Final = 0x2000
OVERFLOW: Final = 0x4000
"""More has happened than the kernel keeps: its watch is -1."""
DONT_FOLLOW: Final = 0x2000000
"""Watch a symbolic link itself."""

_MASK_ADD: Final = 0x20000000
_HEAD: Final = Struct("iIII")
_READ_BYTES: Final = 64 * 1024

Happening: TypeAlias = tuple[int, int, str]
"""The number of a watch, bits of what happened, and at which name in the folder; empty: at what is watched itself."""


class Inotify:
    """One instance."""

    def __init__(self) -> None:
        """Raises `OSError`: EMFILE when this user has no instance left."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise _error()

    def fileno(self) -> int:
        """Return the descriptor that is readable when something has happened."""
        return int(self._fd)

    def add(self, path: str, events: int) -> int:
        """Watch what lies at a path for these events as well; return its number.

        Raises `OSError`: ENOSPC when this user has no watch left.
        """
        number = self._libc.inotify_add_watch(self._fd, os.fsencode(path), events | _MASK_ADD)
        if number < 0:
            raise _error(path)
        return int(number)

    def read(self) -> Iterator[Happening]:
        """Return what has happened since the last call."""
        with suppress(BlockingIOError):
            while data := os.read(self._fd, _READ_BYTES):
                at = 0
                while at < len(data):
                    number, bits, _, length = _HEAD.unpack_from(data, at)
                    at += _HEAD.size + length
                    yield number, bits, os.fsdecode(data[at - length : at].rstrip(b"\0"))

    def close(self) -> None:
        """Watch nothing any more."""
        os.close(self._fd)


def _error(path: str | None = None) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), path)
