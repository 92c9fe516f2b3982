"""`max_restarts` counts the deaths within its window, and no others."""

from __future__ import annotations

import pytest

from reconciler.model.spec import BackoffSpec, MaxRestartsSpec
from tests.core.stage import S, Stage, spec, watcher

WINDOW = 60 * S
AT_ONCE = BackoffSpec(burst=100, jitter=0)


def limited(
    count: int = 2, window: int = WINDOW, retry_in: int | None = None, **fields: object
) -> Stage:
    limit = MaxRestartsSpec(count, window, retry_in=retry_in)
    fields = {"backoff": AT_ONCE, **fields}
    return Stage().apply(spec(web=watcher(max_restarts=limit, **fields))).wait(1000)


def dies(stage: Stage, *at_ns: int, new_controller: bool = False) -> Stage:
    """Let the process die at these times, counted from now on."""
    begun = stage.now
    for at in at_ns:
        stage.wait((begun + at - stage.now) / S)
        if new_controller:
            stage.new_controller(stage.reconciler.spec)
        stage.exit("web.1", 1)
    return stage


@pytest.mark.parametrize("new_controller", [False, True])
@pytest.mark.parametrize(
    ("third", "gave_up"), [(WINDOW - 1, True), (WINDOW, True), (WINDOW + 1, False)]
)
def test_a_death_counts_up_to_the_edge_of_the_window(
    third: int, gave_up: bool, new_controller: bool
) -> None:
    stage = dies(limited(), 0, S, third, new_controller=new_controller)
    assert (stage.slot("web.1").state == "Failed") == gave_up
    assert (stage.alive() == []) == gave_up
    assert stage.wait(3600).alive() == ([] if gave_up else ["web.1"])


def test_deaths_that_are_spread_out_never_use_the_restarts_up() -> None:
    stage = dies(limited(), *range(0, 20 * WINDOW, WINDOW // 2 + S))
    assert stage.alive() == ["web.1"]


def test_what_was_given_up_is_tried_again_and_counts_anew() -> None:
    stage = dies(limited(retry_in=30 * S), 0, S, 2 * S)
    assert stage.slot("web.1").state == "Failed"
    assert stage.wait(29).alive() == []
    assert stage.wait(1).alive() == ["web.1"]
    # The deaths before it was given up lie within the window still, and do not count against the new try.
    assert dies(stage, 0, S).alive() == ["web.1"]
    assert dies(stage, S).alive() == []


def test_a_new_controller_tries_again_when_the_old_one_would_have() -> None:
    stage = dies(limited(retry_in=30 * S), 0, S, 2 * S).wait(20)
    stage.new_controller(stage.reconciler.spec)
    assert stage.wait(9).alive() == []
    assert stage.wait(1).alive() == ["web.1"]


def test_a_window_that_is_shorter_than_the_backoff_gives_nothing_up() -> None:
    waits = BackoffSpec(burst=0, initial=10 * S, max=10 * S, jitter=0)
    stage = limited(window=5 * S, backoff=waits)
    for _ in range(10):
        stage.exit("web.1", 1)
        assert stage.slot("web.1").state != "Failed"
        assert stage.wait(10).alive() == ["web.1"]


def test_deaths_of_one_slot_say_nothing_of_another() -> None:
    stage = limited(numprocesses=2)
    for _ in range(2):
        stage.exit("web.1", 1).exit("web.2", 1).wait(1)
    assert stage.alive() == ["web.1", "web.2"]
    assert stage.exit("web.2", 1).alive() == ["web.1"]
