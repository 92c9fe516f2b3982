"""Claims about output that gathers: the first line waits for nobody, many are read together, rest costs nothing."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable

import pytest

from reconciler.keeper.logs_gather import GATHER_NS, MUCH_BYTES, Gathering


class Desk:
    """Two pipes behind one descriptor, and how often each was read."""

    def __init__(self) -> None:
        self.watched: dict[int, Callable[[], None]] = {}
        self.gathering = Gathering(self.watched.__setitem__, self.watched.__delitem__)
        self.pipes = [os.pipe2(os.O_NONBLOCK) for _ in range(2)]
        self.read: list[list[int]] = [[], []]
        for index, (end, _) in enumerate(self.pipes):
            self.gathering.register(end, lambda index=index: self.pump(index))

    def pump(self, index: int) -> int:
        size = len(os.read(self.pipes[index][0], 2**20))
        self.read[index].append(size)
        return size

    def write(self, index: int, size: int) -> None:
        os.write(self.pipes[index][1], b"x" * size)

    def turn(self) -> None:
        """Do what the loop does when a watched descriptor is ready, and when something is due."""
        for fd, ready in list(self.watched.items()):
            if select.select([fd], [], [], 0)[0]:
                ready()
        self.gathering.look()

    def turn_when_due(self) -> None:
        due_ns = self.gathering.due_ns
        assert due_ns is not None
        assert due_ns - time.monotonic_ns() <= GATHER_NS
        while time.monotonic_ns() < due_ns:
            select.select([], [], [], 0.001)
        self.turn()


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_the_first_line_is_read_at_once_and_the_next_ones_together(desk: Desk) -> None:
    desk.write(0, 100)
    desk.turn()
    assert desk.read[0] == [100]
    for _ in range(5):
        desk.write(0, 100)
        desk.write(1, 100)
        assert not desk.watched, "a line that gathers wakes nobody"
    desk.turn_when_due()
    assert desk.read == [[100, 500], [500]]


def test_when_all_rest_nothing_is_due_and_the_next_line_is_read_at_once(desk: Desk) -> None:
    desk.write(0, 100)
    desk.turn()
    desk.turn_when_due()
    assert desk.gathering.due_ns is None
    desk.write(1, 7)
    desk.turn()
    assert desk.read[1] == [7]


def test_who_writes_much_is_read_at_once_each_time(desk: Desk) -> None:
    for _ in range(3):
        desk.write(0, MUCH_BYTES)
        desk.turn()
        assert desk.gathering.due_ns is None
    assert desk.read[0] == [MUCH_BYTES] * 3


def test_much_that_has_gathered_ends_the_gathering(desk: Desk) -> None:
    desk.write(0, 100)
    desk.turn()
    desk.write(0, MUCH_BYTES)
    desk.turn_when_due()
    assert desk.gathering.due_ns is None
    assert desk.watched
