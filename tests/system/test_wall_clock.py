"""Claims about the wall clock: that it was set is noticed, once for each time."""

from __future__ import annotations

import select
import time
from contextlib import closing

import pytest

from reconciler.system.wall_clock import ClockLeaps


def set_clock() -> None:
    """Set the wall clock to what it shows: to the kernel a leap, to nobody else."""
    try:
        time.clock_settime_ns(time.CLOCK_REALTIME, time.clock_gettime_ns(time.CLOCK_REALTIME))
    except PermissionError:
        pytest.skip("nobody but root may set the clock")


def test_each_leap_of_the_wall_clock_is_noticed() -> None:
    with closing(ClockLeaps()) as leaps:
        poll = select.poll()
        poll.register(leaps, select.POLLIN)
        assert not poll.poll(0)
        for _ in range(2):
            set_clock()
            assert poll.poll(0)
            leaps.take()
            assert not poll.poll(0)
