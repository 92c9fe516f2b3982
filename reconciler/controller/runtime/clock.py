"""The two clocks: one that never jumps, for decisions, and the wall's, for people."""

from __future__ import annotations

import time
from typing import Final

from reconciler.model.units import MICROSECOND_NS

_READINGS: Final = 5
_APART_NS: Final = 100 * MICROSECOND_NS


def now_ns() -> int:
    """Return monotonic nanoseconds; the keeper's times come from the same clock (CLOCK_MONOTONIC)."""
    return time.monotonic_ns()


def wall_ns() -> int:
    """Return nanoseconds since the epoch."""
    return time.time_ns()


def wall_offset_ns() -> int:
    """Return what turns a monotonic time into one since the epoch, as of now."""
    return time.time_ns() - time.monotonic_ns()


def measured_offset_ns() -> int:
    """Return the same as exactly as can be: of a few readings the one that nothing came between."""
    best_ns, offset_ns = 1 << 62, 0
    for _ in range(_READINGS):
        before_ns, wall, after_ns = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        if after_ns - before_ns < best_ns:
            best_ns, offset_ns = after_ns - before_ns, wall - (before_ns + after_ns) // 2
        if best_ns <= _APART_NS:
            break
    return offset_ns
