"""How many slots are replaced at a time, how long each is left alone, and what stops a roll."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reconciler.core import goals, orders
from reconciler.core.intents import restarted
from reconciler.model.intent import NO_INTENT
from reconciler.model.observation import IntentChanged
from reconciler.model.order import Goal
from reconciler.model.process import Running
from reconciler.model.spec import HooksSpec, ReadySpec, RolloutSpec, WatchSpec
from tests.core.stage import HOOK, S, Stage, spec, watcher

if TYPE_CHECKING:
    from reconciler.model.spec import Spec


def web(cmd: str, count: int = 4, pause: int = 0, most: int | str = 1, **fields: object) -> Spec:
    """Return a spec of one watcher with so many slots, that is replaced so many at a time."""
    rollout = RolloutSpec(max_unavailable=most, pause=pause * S)
    return spec(web=watcher(cmd=(cmd,), numprocesses=count, rollout=rollout, **fields))


def settled(count: int = 4, **how: object) -> Stage:
    return Stage().apply(web("old", count, **how)).wait(10)  # type: ignore[arg-type]


def stops(stage: Stage) -> list[tuple[float, int]]:
    """Return which slots were asked to end, and when after the first ten seconds."""
    return [(at - 10, int(name[4:])) for at, name, _ in stage.signals() if ":" not in name]


@pytest.mark.parametrize(
    ("most", "at"),
    [(1, [0, 1, 2, 3, 4]), (2, [0, 0, 1, 1, 2]), ("50%", [0, 0, 1, 1, 2]), ("1%", [0, 1, 2, 3, 4]), (9, [0] * 5)],
)  # fmt: skip
def test_so_many_slots_are_replaced_at_a_time(most: int | str, at: list[int]) -> None:
    stage = settled(5, most=most)
    stage.apply(web("new", 5, most=most)).wait(20)
    assert stops(stage) == list(zip(at, range(1, 6), strict=True))
    assert stage.status("web").as_desired


def test_many_slots_at_a_time_cost_no_second_look() -> None:
    stage = settled(100, most="30%")
    stage.apply(web("new", 100, most="30%"))
    assert [slot for _, slot in stops(stage)] == [*range(1, 31)]


def test_a_slot_is_left_alone_for_the_pause_once_it_is_ready() -> None:
    stage = settled(3, pause=5)
    stage.apply(web("new", 3, pause=5)).wait(60)
    assert stops(stage) == [(0, 1), (6, 2), (12, 3)]
    assert stage.status("web").conditions[1].status  # Ready all the while, and UpToDate now


def test_the_pause_goes_on_under_another_controller() -> None:
    stage = settled(3, pause=20)
    stage.apply(web("new", 3, pause=20)).wait(15).new_controller(web("new", 3, pause=20)).wait(60)
    assert stops(stage) == [(0, 1), (21, 2), (42, 3)]


def test_the_pause_concerns_replacements_only() -> None:
    stage = settled(3, pause=60)
    stage.exit("web.2", 1).wait(5).apply(web("new", 3, pause=60)).wait(1)
    assert stops(stage) == [(5, 1)]


def test_one_that_died_before_it_took_over_is_left_alone_too() -> None:
    stage = settled(2, pause=5)
    stage.apply(web("new", 2, pause=5)).wait(0.5).exit("web.1", 1).wait(60)
    assert stops(stage) == [(0, 1), (6.5, 2)]


def test_an_edit_within_the_pause_begins_with_the_slot_that_was_replaced_last() -> None:
    stage = settled(2, pause=30)
    stage.apply(web("new", 2, pause=30)).wait(5).apply(web("newer", 2, pause=30)).wait(120)
    assert stops(stage) == [(0, 1), (5, 1), (36, 2)]


def test_an_edit_of_the_pause_counts_for_the_roll_that_is_under_way() -> None:
    stage = settled(2, pause=3600)
    stage.apply(web("new", 2, pause=3600)).wait(5).apply(web("new", 2)).wait(1)
    assert stops(stage) == [(0, 1), (5, 2)]


def test_a_roll_goes_no_further_when_a_new_process_has_failed_though_more_might_be_missing() -> (
    None
):
    stage = settled(5, most=2)
    stage.apply(web("bad", 5, most=2))
    for _ in range(80):
        stage.exit("web.1", 1) if "web.1" in stage.alive() else None
        stage.wait(0.5)
    assert {slot for _, slot in stops(stage)} == {1, 2}
    seen, said = (
        stage.status("web"),
        "1 of 5 replaced, slot 1 is not ready: exit 1, 10 times in a row",
    )
    assert (seen.state, seen.note) == ("Rolling", said)
    stage.apply(web("good", 5, most=2)).wait(60)
    assert stage.status("web").as_desired


def test_a_slot_whose_hook_has_not_passed_keeps_the_next_one_from_its_turn() -> None:
    hooks = HooksSpec(after_spawn=HOOK)
    stage = settled(2)
    stage.apply(web("new", 2, hooks=hooks)).wait(20)
    assert stops(stage) == [(0, 1)]
    stage.exit("web.1:after_spawn", 0)
    assert stops(stage) == [(0, 1), (20, 2)]


def test_what_is_not_ready_by_its_own_probe_is_replaced_at_once_for_nothing_is_lost() -> None:
    ready = ReadySpec(exec=("check",), deadline=None)
    stage = Stage().apply(web("old", 3, ready=ready)).wait(10)
    stage.apply(web("mended", 3, ready=ready)).wait(1)
    assert stops(stage) == [(0, 1), (0, 2), (0, 3)]


def test_a_restart_keeps_the_same_pace() -> None:
    stage = settled(4, most=2, pause=2)
    stage.tell(IntentChanged("web", restarted(NO_INTENT, None, at_once=False))).wait(60)
    assert stops(stage) == [(0, 1), (0, 2), (3, 3), (3, 4)]


def test_what_a_restart_replaces_at_once_counts_for_a_roll_that_is_under_way() -> None:
    stage = settled(3)
    stage.apply(web("new", 3))
    stage.now += S  # slot 1 has just become ready, and it is the turn of slot 2
    stage.tell(IntentChanged("web", restarted(NO_INTENT, (1,), at_once=True))).wait(20)
    assert stops(stage) == [(0, 1), (1, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize(("count", "pause"), [(3, 1), (9, 1), (2, 3), (2, 9)])
def test_all_have_their_turn_where_they_take_longer_than_their_age(count: int, pause: int) -> None:
    stage = Stage().apply(web("it", count, pause=pause, max_age=4 * S)).wait(60)
    slots = [slot for _, slot in stops(stage)]
    assert slots == [1 + turn % count for turn in range(len(slots))]
    assert len(slots) > 2 * count


def test_status_tells_how_far_a_roll_is() -> None:
    stage = settled(4)
    stage.stubborn = frozenset({"web.2"})
    stage.apply(web("new"))
    assert [stage.wait(wait).status("web").note for wait in (0, 1, 10)] == [
        "0 of 4 replaced, slot 1 is not ready: ready after 1s of uptime",
        "1 of 4 replaced, slot 2 is stopping: replaced",
        "1 of 4 replaced, slot 2 is not ready: ready after 1s of uptime",
    ]


def test_status_tells_that_a_roll_pauses() -> None:
    stage = settled(3, pause=5)
    stage.apply(web("new", 3, pause=5)).wait(2)
    assert stage.status("web").note == "1 of 3 replaced, a pause of 5s after slot 1"


def test_status_tells_once_that_a_slot_is_not_ready() -> None:
    ready = ReadySpec(exec=("check",))
    stage = settled(2).apply(web("new", 2, ready=ready)).wait(2)
    note = stage.status("web").note
    assert note.startswith("0 of 2 replaced, slot 1 is not ready: exec check")


def test_status_tells_why_a_roll_has_stopped() -> None:
    stage = settled(3).try_out(web("bad", 3))
    stage.wait(0.5).exit("web.1", 3).wait(60)
    assert (
        stage.status("web").note == "paused, 1 of 3 replaced: web.1 ended with exit 3 after 500ms"
    )
    assert stage.status("web").conditions[2].reason == "Paused"


def test_what_a_revision_that_is_not_good_does_not_keep_is_not_paused_by_it() -> None:
    watched, other = (
        watcher(numprocesses=2, watch=WatchSpec(paths=("/srv/app",))),
        watcher(numprocesses=2),
    )
    stage = Stage()
    stage.disk = {"watched": "1"}
    stage.apply(spec(watched=watched, other=other)).wait(10)
    stage.try_out(spec(watched=watched, other=other, bad=watcher())).wait(0.5).exit("bad.1", 1)
    assert stage.outcome == "paused"
    stage.tell(IntentChanged("other", restarted(NO_INTENT, None, at_once=False)))
    stage.edit("watched", "2")
    for name in ("watched", "other"):
        subject = stage.reconciler.subject(name, stage.now, 0)
        assert subject.status.note.startswith("0 of 2 replaced, slot 1 is not ready:")
        assert {goals.judge(Goal(name, kind), subject).state for kind in ("up", "ready")} <= {
            "open",
            "done",
        }
        assert orders.restart(subject).taken == "accepted"
        assert subject.status.conditions[2].reason == "Outdated"
    stage.wait(10)
    assert stage.status("watched").as_desired and stage.status("other").as_desired


@pytest.mark.parametrize(
    ("most", "count", "missing", "is_ready"),
    [
        (1, 3, 1, True), (1, 3, 2, False), ("50%", 4, 2, True), ("50%", 4, 3, False),
        (9, 4, 3, True), (9, 4, 4, False), (1, 1, 1, False),
    ],
)  # fmt: skip
def test_a_watcher_is_ready_as_long_as_no_more_are_missing_than_a_roll_may_take(
    most: int | str, count: int, missing: int, is_ready: bool
) -> None:
    stage = settled(count, most=most)
    for slot in range(1, missing + 1):
        stage.exit(f"web.{slot}", 1)
    ready = next(each for each in stage.status("web").conditions if each.type == "Ready")
    assert (ready.status, ready.message) == (is_ready, f"{count - missing} of {count} ready")


def test_of_those_that_are_too_old_the_oldest_has_its_turn_first() -> None:
    stage = settled(4, max_age=3 * S).wait(60)
    ages = [
        stage.now - r.phase.started_at_ns
        for r in stage.records.values()
        if isinstance(r.phase, Running)
    ]
    assert max(ages) < 6 * S
