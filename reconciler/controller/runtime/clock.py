"""The two clocks: one that never jumps, for decisions, and the wall's, for people."""

from __future__ import annotations

import time


def now_ns() -> int:
    """Return monotonic nanoseconds; the keeper's times come from the same clock (CLOCK_MONOTONIC)."""
    return time.monotonic_ns()


def wall_ns() -> int:
    """Return nanoseconds since the epoch."""
    return time.time_ns()


def wall_offset_ns() -> int:
    """Return what turns a monotonic time into one since the epoch, as of now."""
    return time.time_ns() - time.monotonic_ns()
