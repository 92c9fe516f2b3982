"""Claims about background tasks: what waits for what, and what becomes of failures."""

from __future__ import annotations

import threading
from typing import get_args

import pytest
from conftest import raised

from reconciler.controller.runtime import clock, lanes
from reconciler.controller.runtime.lanes import MAX_WAITING_TASKS, TASK_LIMIT_NS, LaneName, Lanes
from reconciler.controller.runtime.reactor import Reactor
from reconciler.model.errors import RequestError


class Desk:
    """A reactor with lanes, and what came of tasks."""

    def __init__(self) -> None:
        self.reported: list[str] = []
        self.found: list[object] = []
        self.failed: list[str] = []
        self.reactor = Reactor(raised)
        self.lanes = Lanes(self.reactor, self._report)

    def _report(self, where: str, error: BaseException) -> str:
        self.reported.append(where)
        return repr(error)

    def run(self, lane: LaneName, ask: object, **more: object) -> None:
        self.lanes.run(lane, ask, self.found.append, self.failed.append, **more)  # type: ignore[arg-type]

    def until(self, count: int) -> None:
        while len(self.found) + len(self.failed) < count:
            self.reactor.wait(None)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.mark.parametrize("slow", get_args(LaneName))
def test_a_task_that_hangs_delays_only_its_like(desk: Desk, slow: LaneName) -> None:
    goes_on = threading.Event()
    desk.run(slow, goes_on.wait)
    desk.run(slow, lambda: f"after {slow}")
    others = [lane for lane in get_args(LaneName) if lane != slow]
    for lane in others:
        desk.run(lane, lambda lane=lane: lane)
    desk.until(len(others))
    assert sorted(map(str, desk.found)) == sorted(others)
    goes_on.set()
    desk.until(len(others) + 2)
    assert desk.found[-2:] == [True, f"after {slow}"]


def test_users_take_turns_in_a_lane(desk: Desk) -> None:
    goes_on, order = threading.Event(), list[str]()
    desk.run("logs", goes_on.wait)
    for number in range(3):
        desk.run("logs", lambda number=number: order.append(f"viewer {number}"), uid=1000)
    desk.run("logs", lambda: order.append("admin"), uid=0)
    goes_on.set()
    desk.until(5)
    assert order == ["viewer 0", "admin", "viewer 1", "viewer 2"]


def test_one_user_cannot_fill_a_lane(desk: Desk) -> None:
    goes_on = threading.Event()
    desk.run("logs", goes_on.wait)
    with pytest.raises(RequestError, match="uid 1000") as error:  # noqa: PT012  (one of them is too many)
        for _ in range(MAX_WAITING_TASKS + 1):
            desk.run("logs", lambda: None, uid=1000)
    assert error.value.code == "overloaded"
    desk.run("logs", lambda: "another user", uid=1001)
    desk.run("logs", lambda: "the manager itself")
    goes_on.set()
    desk.until(MAX_WAITING_TASKS + 3)
    assert {"another user", "the manager itself"} <= set(desk.found)


@pytest.mark.parametrize("error", [KeyError("x"), MemoryError(), SystemExit(1)])
def test_what_a_task_raises_is_its_own_failure(desk: Desk, error: BaseException) -> None:
    def fails() -> None:
        raise error

    desk.run("files", fails)
    desk.until(1)
    assert (desk.failed, desk.reported) == ([repr(error)], ["working in the lane files"])
    desk.lanes.run("files", lambda: 1, lambda _: fails_in_the_loop(), desk.failed.append)
    desk.run("files", lambda: "the next one")
    desk.until(3)
    assert desk.found == ["the next one"]
    assert desk.failed[1:] == ["ValueError('in the loop')"]


def fails_in_the_loop() -> None:
    msg = "in the loop"
    raise ValueError(msg)


def test_a_task_that_nobody_waits_for_any_more_is_left_out(desk: Desk) -> None:
    goes_on, done, is_wanted = threading.Event(), list[int](), [True]
    desk.run("logs", goes_on.wait)
    desk.run("logs", lambda: done.append(1), is_wanted=lambda: is_wanted[0])
    is_wanted[0] = False
    desk.run("logs", lambda: "last")
    goes_on.set()
    desk.until(2)
    assert (desk.found, done) == ([True, "last"], [])


def test_a_task_that_takes_too_long_is_done_without(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ns, goes_on = [clock.now_ns()], threading.Event()
    monkeypatch.setattr(clock, "now_ns", lambda: now_ns[0])
    desk.run("files", goes_on.wait)
    desk.run("files", lambda: "comes too late")
    desk.run("names", lambda: "not concerned")
    desk.until(1)
    now_ns[0] += TASK_LIMIT_NS
    desk.until(3)
    assert (desk.found, desk.failed) == (["not concerned"], ["no answer within 1m"] * 2)
    desk.run("files", lambda: "goes on")
    goes_on.set()
    desk.until(4)
    assert desk.found == ["not concerned", "goes on"]
    assert lanes.COLLECTED_PER_TURN > 3
