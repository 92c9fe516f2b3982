"""Noticing that the wall clock was set: a timer of the kernel that such a leap cancels (timerfd_create(2)).

Also a machine that wakes from sleep cancels it: CLOCK_MONOTONIC stood still meanwhile. Slewing (adjtime) moves both
clocks alike and is no leap.
"""

from __future__ import annotations

import ctypes
import os
import time
from typing import Final

_FLAGS: Final = os.O_NONBLOCK | os.O_CLOEXEC
"""TFD_NONBLOCK and TFD_CLOEXEC have these values."""
_ABSTIME_CANCEL_ON_SET: Final = 1 | 2
_NEVER_S: Final = 2**33
"""An instant that does not come; the kernel takes no later ones than about the year 2262."""


class _Timer(ctypes.Structure):
    """struct itimerspec."""

    _fields_ = [(name, ctypes.c_long) for name in ("interval_s", "interval_ns", "s", "ns")]


class ClockLeaps:
    """A descriptor that is ready once the wall clock was set."""

    def __init__(self) -> None:
        """Begin to notice. Raises `OSError` where the system has no such timer, or no descriptor is left."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(time.CLOCK_REALTIME, _FLAGS)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "cannot watch the clock")
        try:
            self._arm()
        except OSError:
            self.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor."""
        return int(self._fd)

    def take(self) -> None:
        """Take note of a leap, and wait for the next one."""
        try:
            os.read(self._fd, 8)
        except OSError:  # ECANCELED is how a leap is said
            self._arm()

    def close(self) -> None:
        """Notice nothing any more."""
        os.close(self._fd)

    def _arm(self) -> None:
        timer = _Timer(0, 0, _NEVER_S, 0)
        if self._libc.timerfd_settime(self._fd, _ABSTIME_CANCEL_ON_SET, ctypes.byref(timer), None):
            raise OSError(ctypes.get_errno(), "cannot watch the clock")
