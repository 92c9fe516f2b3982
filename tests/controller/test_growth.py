"""What one event costs the whole controller does not grow with the number of watchers, beyond a logarithm."""

from __future__ import annotations

from math import log2
from pathlib import Path
from typing import Any

import pytest
from conftest import Client, Instance, by_hand, service, until

from reconciler.controller.api.selectors import Wanted, select
from reconciler.core import status
from reconciler.core.plan import Plan
from reconciler.model.process import ProcessId
from reconciler.model.status import WatcherStatus
from tests.growth import work_of

FEW, MANY = 10, 2000
BYTES = 160
"""Of a watcher that is as desired, in a lean status."""
PER_DOUBLING = 150
"""Bytecodes that each doubling may add."""
TIMES = 3
"""The least of so many is what it costs: what falls due meanwhile by chance is another event's."""
ONE = ProcessId("w3", 1)


def in_rounds(instance: Instance, client: Client) -> int:
    """Return the work of the controller's rounds while a process ends and is started again."""
    controller = instance.controller
    assert controller is not None
    totals: list[int] = []
    one_round = controller._round
    for _ in range(TIMES):
        works: list[int] = []
        former = pid(client)
        controller._round = lambda works=works: works.append(work_of(one_round))  # type: ignore[misc]
        instance.keeper.exit(ONE, 1)
        # Not when the restart is counted: that is before the rounds in which the next process is heard of.
        until(lambda former=former: pid(client) not in {former, None})
        controller._round = one_round  # type: ignore[method-assign]
        totals.append(sum(works))
    return min(totals)


def pid(client: Client) -> int | None:
    found: int | None = client.call("status", names=["w3"])["watchers"][0]["slots"][0]["pid"]
    return found


def in_status(instance: Instance, what: str) -> int:
    """Return the work of answering how one watcher is that has just been touched, or how all are."""
    controller = instance.controller
    assert controller is not None
    board, answers, works = controller.output.board, controller.api.status, []
    board.packed(lean=True)

    def one() -> None:
        names = select(controller.core, Wanted((ONE.owner,))).slots
        answers.around(board.packed(names, lean=True), names)

    def ask() -> None:
        if what == "a status of one":
            board.touched([ONE.owner])
            works.append(work_of(one))
        else:
            works.append(work_of(lambda: answers.around(board.packed(lean=True), None)))

    for time in range(1, TIMES + 1):
        controller.runtime.lanes.hand_over(ask)
        until(lambda time=time: len(works) == time)
    return min(works)


@pytest.mark.parametrize("what", ["an exit", "a status of one", "a status of all"])
def test_one_event_costs_the_same_among_ten_and_among_two_thousand(
    tmp_path: Path, what: str
) -> None:
    def measured(count: int) -> int:
        folder = tmp_path / str(count)
        folder.mkdir()
        instance = Instance(folder)
        try:
            instance.store(by_hand(**{f"w{n}": service() for n in range(count)}))
            instance.start()
            until(lambda: len(instance.keeper.spawned()) == count)
            client = instance.client()
            until(lambda: client.call("status", names=["w3"])["settled"])
            if what != "an exit":
                return in_status(instance, what)
            return in_rounds(instance, client)
        finally:
            instance.stop()

    few, much = measured(FEW), measured(MANY)
    assert few > 100, "nothing was counted"
    assert much <= few + PER_DOUBLING * log2(MANY / FEW)


def test_a_lean_status_tells_of_a_watcher_in_few_bytes(instance: Instance) -> None:
    instance.store(by_hand(**{f"w{n}": service() for n in range(100)}))
    instance.start()
    client = instance.client()
    until(lambda: client.call("status")["settled"])
    controller = instance.controller
    assert controller is not None

    lean, whole = (controller.output.board.packed(lean=each) for each in (True, False))

    assert 0 < len(lean) <= 100 * BYTES < len(whole) / 4


def test_who_waits_for_a_stop_has_no_status_made(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.store(by_hand(**{f"w{n}": service() for n in range(30)}))
    instance.start()
    client = instance.client()
    until(lambda: client.call("status")["settled"])
    made: list[str] = []
    watcher_status = status.watcher_status

    def noted(plan: Plan, *more: Any) -> WatcherStatus:
        made.append(plan.name)
        return watcher_status(plan, *more)

    monkeypatch.setattr(status, "watcher_status", noted)
    assert client.call("stop", names=["w*"], wait=True)["failed"] == []
    assert made == []
    client.call("status")
    assert len(made) == 30
