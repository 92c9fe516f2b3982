"""Tells when one of our socket files is removed, renamed or changed, and costs nothing until then (inotify(7)).

The files themselves are watched, not their folders: what others do beside them wakes nobody. Where no
watch can be had, a file that vanishes is noticed when its socket is bound the next time.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_IN_MOVE_SELF: Final = 0x800
_IN_ATTRIB: Final = 0x4
"""Told when a file loses its last name, too: the bound socket keeps it from being deleted."""
_IN_DONT_FOLLOW: Final = 0x2000000
_READ_BYTES: Final = 64 * 1024


class FileWatch:
    """The files that are watched. `told` is called when one of them may not be there any more."""

    def __init__(
        self, register: Callable[[int, Callable[[], None]], None], told: Callable[[], None]
    ) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._told = told
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd >= 0:
            register(self._fd, self._drain)

    def watch(self, path: str) -> str:
        """Watch a file for as long as it exists; return in words why that cannot be, empty when it can."""
        flags = _IN_ATTRIB | _IN_MOVE_SELF | _IN_DONT_FOLLOW
        if self._fd >= 0:
            if self._libc.inotify_add_watch(self._fd, os.fsencode(path), flags) >= 0:
                return ""
            return os.strerror(ctypes.get_errno()).lower()
        return "no inotify instance can be had"

    def _drain(self) -> None:
        # What exactly happened does not matter: each socket is asked whether its file is there.
        with contextlib.suppress(BlockingIOError):
            while os.read(self._fd, _READ_BYTES):
                pass
        self._told()
