"""Claims about coalescing: the first line waits for nobody, many are read together, rest costs nothing."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable

import pytest

from reconciler.keeper.borders import Faults
from reconciler.output.coalescing import (
    COALESCE_NS,
    MUCH_BYTES,
    SHORT_TURN_NS,
    TURN_NS,
    Coalescing,
)


class Loop:
    """Waits for descriptors, and counts how often one was put among them."""

    def __init__(self) -> None:
        self.watched: dict[int, Callable[[], None]] = {}
        self.others = False
        self.put = 0

    def watch(self, fd: int, ready: Callable[[], None]) -> None:
        self.watched[fd] = ready
        self.put += 1

    def others_wait(self, fd: int) -> bool:
        return self.others


class Desk:
    """Some pipes behind one descriptor, and how often each was read. A read may take a while."""

    def __init__(self, pipes: int = 2, read_ns: int = 0) -> None:
        self.read_ns, self.passed_ns = read_ns, 0
        self.loop = Loop()
        self.faults = Faults(lambda *_, **__: None)
        self.coalescing = Coalescing(self.loop, self.faults.border, self.now_ns)
        self.pipes = [os.pipe2(os.O_NONBLOCK) for _ in range(pipes)]
        self.read: list[list[int]] = [[] for _ in range(pipes)]
        for index, (end, _) in enumerate(self.pipes):
            self.coalescing.watch(end, lambda index=index: self.pump(index))

    def pump(self, index: int) -> int:
        size = len(os.read(self.pipes[index][0], 2**20))
        self.passed_ns += self.read_ns
        self.read[index].append(size)
        return size

    def now_ns(self) -> int:
        return time.monotonic_ns() if not self.read_ns else self.passed_ns

    def write(self, index: int, size: int) -> None:
        os.write(self.pipes[index][1], b"x" * size)

    def wakes(self) -> bool:
        return bool(select.select([*self.loop.watched], [], [], 0)[0])

    def turn(self) -> None:
        """Do what the loop does when a watched descriptor is ready, and when something is due."""
        gathers = self.coalescing.due_ns is not None
        for fd, ready in self.loop.watched.items():
            if select.select([fd], [], [], 0)[0]:
                ready()
        if gathers:
            self.coalescing.look()

    def turn_when_due(self) -> None:
        due_ns = self.coalescing.due_ns
        assert due_ns is not None
        assert due_ns - time.monotonic_ns() <= COALESCE_NS
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
        assert not desk.wakes(), "a line that gathers wakes nobody"
    desk.turn_when_due()
    assert desk.read == [[100, 500], [500]]


def test_when_all_rest_nothing_is_due_and_the_next_line_is_read_at_once(desk: Desk) -> None:
    desk.write(0, 100)
    desk.turn()
    desk.turn_when_due()
    assert desk.coalescing.due_ns is None
    desk.write(1, 7)
    desk.turn()
    assert desk.read[1] == [7]


def test_who_writes_much_is_read_at_once_each_time(desk: Desk) -> None:
    for _ in range(3):
        desk.write(0, MUCH_BYTES)
        desk.turn()
        assert desk.coalescing.due_ns is None
    assert desk.read[0] == [MUCH_BYTES] * 3


def test_much_that_was_left_alone_ends_the_rest(desk: Desk) -> None:
    desk.write(0, 100)
    desk.turn()
    desk.write(0, MUCH_BYTES)
    desk.turn_when_due()
    assert desk.coalescing.due_ns is None
    assert not desk.wakes()
    desk.write(0, 1)
    assert desk.wakes()


def test_a_burst_does_not_put_all_that_writes_in_place_anew(desk: Desk) -> None:
    for _ in range(3):
        desk.write(0, 100)
        desk.turn()
        desk.turn_when_due()
    assert desk.loop.put == 1, "the kernel goes through all of it each time"


def test_who_waits_for_its_turn_waits_for_a_short_one_of_output() -> None:
    desk = Desk(pipes=10, read_ns=SHORT_TURN_NS)
    for others, reads in ((False, TURN_NS // SHORT_TURN_NS), (True, 1)):
        desk.loop.others = others
        before = sum(map(len, desk.read))
        for index in range(10):
            desk.write(index, MUCH_BYTES)
        desk.turn()
        assert sum(map(len, desk.read)) - before == reads


def test_output_has_a_turn_and_who_had_none_comes_first_in_the_next() -> None:
    desk = Desk(pipes=10, read_ns=TURN_NS // 2)

    ready = set(range(10))

    def turn() -> list[int]:
        for index in ready:
            desk.write(index, MUCH_BYTES)
        before = [len(each) for each in desk.read]
        desk.turn()
        ready.clear()
        ready.update(index for index, each in enumerate(desk.read) if len(each) > before[index])
        return sorted(ready)

    turns = [turn() for _ in range(10)]
    assert all(len(each) == 2 for each in turns), "a death or a request waits for a few reads only"
    order = [index for each in turns for index in each]
    for begin in range(0, len(order) - 10, 10):
        assert sorted(order[begin : begin + 10]) == list(range(10)), (
            "nobody is read twice before all"
        )


def test_a_stream_that_cannot_be_read_costs_no_other_its_turn() -> None:
    desk = Desk(read_ns=1)  # by a clock of its own: a busy machine takes no part of the turn

    def fail() -> int:
        raise RuntimeError

    broken = os.pipe2(os.O_NONBLOCK)
    os.write(broken[1], b"x")
    desk.coalescing.watch(broken[0], fail)
    desk.write(1, 100)
    desk.turn()
    assert desk.read[1] == [100]
    assert [fault.doing for fault in desk.faults.take()] == ["reading output"]
    assert desk.coalescing.due_ns is not None, "it is not tried again without a pause"
