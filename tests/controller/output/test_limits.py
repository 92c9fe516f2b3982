"""Claims about what the core is told of processes that are above a limit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn

import pytest

from reconciler.controller.output.limits import Asked, LimitWatch
from reconciler.controller.output.usage import Usage, Watch
from reconciler.controller.runtime.lanes import Lanes
from reconciler.controller.runtime.reactor import Reactor
from reconciler.core.reconciler import Reconciler
from reconciler.model.observation import LimitExceeded
from reconciler.model.process import ProcessId
from reconciler.model.spec import LimitsSpec, Spec, WatcherSpec
from tests.core.stage import FACTS

if TYPE_CHECKING:
    from reconciler.model.observation import Observation

WEB = ProcessId("web", 1)
LIMITS = LimitsSpec(max_memory=100, max_cpu=90, max_count=3)


class Looks:
    """What comes of looks at web.1, whose figures we choose."""

    def __init__(self) -> None:
        self.told: list[Observation] = []
        self.limits = LIMITS
        reactor = Reactor(raised)
        lanes = Lanes(reactor, lambda where, error: raised(where, error))
        self.watch = LimitWatch(Reconciler(FACTS), reactor, lanes, self.told.append)

    def see(self, memory: int = 0, cpu: float = 0, times: int = 1, incarnation: int = 7) -> Looks:
        asked = [Asked(WEB, incarnation, 1000, self.limits)]
        for _ in range(times):
            self.watch._judge(asked, {1000: Usage(cpu, memory)}, 0)
        return self


def raised(where: str, error: BaseException) -> NoReturn:
    raise AssertionError(where) from error


@pytest.fixture
def looks() -> Looks:
    return Looks()


def above(used: int, limit: str = "max_memory", incarnation: int = 7) -> LimitExceeded:
    return LimitExceeded(WEB, incarnation, limit, used, 3)  # type: ignore[arg-type]


def test_what_was_above_in_three_samples_in_a_row_is_told_once_with_the_least_of_them(
    looks: Looks,
) -> None:
    assert looks.see(130, times=2).see(100).see(130).see(120).told == []
    assert looks.see(140).told == [above(120)]
    assert looks.see(150, times=9).told == [above(120)]


def test_what_is_no_longer_above_is_told_once(looks: Looks) -> None:
    looks.see(130, times=3).see(90, times=3)
    assert looks.told == [above(130), LimitExceeded(WEB, 7)]


def test_another_limit_is_told_with_other_figures(looks: Looks) -> None:
    looks.see(130, times=3).see(160)
    looks.limits = LimitsSpec(max_memory=135, max_count=2)
    assert looks.see(160).told == [above(130), LimitExceeded(WEB, 7, "max_memory", 160, 2)]


def test_processor_time_is_told_in_the_same_way(looks: Looks) -> None:
    assert looks.see(50, 90.9, times=3).see(50, 97.2, times=3).told == [above(97, "max_cpu")]


def test_memory_is_told_of_who_is_above_both(looks: Looks) -> None:
    looks.see(130, 99, times=3).see(50, 99)
    assert looks.told == [above(130), above(99, "max_cpu")]


def test_the_next_process_begins_without_samples(looks: Looks) -> None:
    looks.see(130, times=3).see(130, times=2, incarnation=8)
    assert looks.told == [above(130), LimitExceeded(WEB, 7)]
    assert looks.see(130, incarnation=8).told[2:] == [above(130, incarnation=8)]


def test_who_has_no_limit_any_more_is_forgotten(looks: Looks) -> None:
    looks.see(130, times=3).watch._judge([], {}, 0)
    assert looks.told[1:] == [LimitExceeded(WEB, 7)]
    assert not looks.watch._seen


def test_without_limits_there_is_neither_a_timer_nor_a_look(looks: Looks) -> None:
    looks.watch.follow(Spec(watchers={"web": WatcherSpec(cmd=("x",))}))
    assert not looks.watch._is_on
    assert (looks.watch.reactor._deadlines, [*looks.watch.lanes._under_way]) == ({}, [])
    looks.watch.follow(Spec(watchers={"web": WatcherSpec(cmd=("x",), limits=LIMITS)}))
    assert looks.watch._is_on
    assert len(looks.watch.lanes._under_way) == 1


def test_memory_that_is_shared_is_counted_once_where_the_sum_is_above_the_limit() -> None:
    me = os.getpid()
    plain = Watch().sample({me: None})[me].memory_bytes
    exact = Watch().sample({me: 1})[me].memory_bytes
    assert 2**20 < exact < plain
