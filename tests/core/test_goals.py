"""What is waited for without an order: when it has come about, and when it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reconciler.core import goals
from reconciler.core.intents import stopped
from reconciler.model.intent import NO_INTENT, RequestedBy
from reconciler.model.observation import IntentChanged
from reconciler.model.order import Awaited, Goal, Judged
from reconciler.model.spec import MaxRestartsSpec, ReadySpec
from reconciler.model.units import MINUTE_NS, SECOND_NS
from tests.core.stage import Stage, job, spec, watcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from reconciler.model.spec import WatcherSpec

ALICE = RequestedBy("alice")
ONCE = MaxRestartsSpec(count=1, window=MINUTE_NS)
SLOW = ReadySpec(delay=20 * SECOND_NS)


def judged(stage: Stage, awaited: Awaited, *slots: int) -> Judged:
    return goals.judge(Goal("it", awaited, slots), stage.reconciler.subject("it", stage.now, 0))


def nothing(_: Stage) -> None: ...


def ends(*codes: int) -> Callable[[Stage], None]:
    def end(stage: Stage) -> None:
        for slot, code in enumerate(codes, 1):
            stage.exit(f"it.{slot}", code)

    return end


def gives_up(stage: Stage) -> None:
    stage.exit("it.1", 7).wait(5).exit("it.1", 7).wait(5)


def is_stopped(stage: Stage) -> None:
    stage.tell(IntentChanged("it", stopped(NO_INTENT, ALICE))).wait(1)


OPEN, DONE = "open", "done"
HELD = "it is stopped by alice; `reconcile start it` starts it"
CASES: list[tuple[WatcherSpec, Callable[[Stage], None], dict[Awaited, str]]] = [
    (
        watcher(),
        nothing,
        {
            "started": DONE,
            "ready": DONE,
            "succeeded": "has restart: always, which is never succeeded: wait for ready",
            "completed": "has restart: always, which is never completed: wait for ready",
            "stopped": "is to run; `reconcile stop it` stops it",
        },
    ),
    (watcher(ready=SLOW), nothing, {"started": DONE, "ready": OPEN}),
    (watcher(numprocesses=2), ends(1), {"started": DONE, "ready": DONE, "stopped": "is to run"}),
    (watcher(), is_stopped, {"started": HELD, "ready": HELD, "stopped": DONE}),
    (
        watcher(autostart=False),
        nothing,
        {"ready": "autostart is false; `reconcile start it` starts it", "stopped": DONE},
    ),
    (
        watcher(max_restarts=ONCE),
        gives_up,
        {"ready": "gave up after more than 1 restarts", "completed": DONE, "stopped": DONE},
    ),
    (
        watcher(restart="on-failure"),
        nothing,
        {"ready": DONE, "succeeded": OPEN, "completed": OPEN, "stopped": OPEN},
    ),
    (
        watcher(restart="on-failure"),
        ends(0),
        {"succeeded": DONE, "completed": DONE, "stopped": DONE},
    ),
    (
        job(),
        nothing,
        {
            "started": DONE,
            "ready": "is a one-shot job, which is never ready: wait for succeeded",
            "succeeded": OPEN,
            "completed": OPEN,
            "stopped": OPEN,
        },
    ),
    (job(), ends(0), {"succeeded": DONE, "completed": DONE, "stopped": DONE}),
    (job(), ends(3), {"succeeded": "failed: exit 3", "completed": DONE, "stopped": DONE}),
    (job(numprocesses=2), ends(3), {"succeeded": "failed: exit 3", "completed": OPEN}),
]


@pytest.mark.parametrize(("it", "story", "expected"), CASES)
def test_what_is_waited_for_is_there_may_come_or_cannot(
    it: WatcherSpec, story: Callable[[Stage], None], expected: dict[Awaited, str]
) -> None:
    stage = Stage().apply(spec(it=it)).wait(5)
    story(stage)
    found = {awaited: judged(stage, awaited) for awaited in expected}
    assert {name: each.message or each.state for name, each in found.items()} == {
        name: found[name].message if found[name].message.startswith(text) else text
        for name, text in expected.items()
    }


def test_slots_that_are_named_count_alone_and_each_of_them() -> None:
    stage = Stage().apply(spec(it=watcher(numprocesses=3))).wait(5)
    for _ in range(5):
        stage.exit("it.2", 1)
    assert judged(stage, "ready").state == "done"  # one may be away, as in a roll
    assert judged(stage, "ready", 1, 3).state == "done"
    assert judged(stage, "ready", 1, 2).state == "open"
    assert judged(stage, "ready", 4).message == "has no slot 4 any more"


def test_what_is_still_to_be_replaced_is_not_ready() -> None:
    stage = Stage().apply(spec(it=watcher(numprocesses=3))).wait(5)
    stage.apply(spec(it=watcher(numprocesses=3, cmd=("other",))))
    assert judged(stage, "ready").state == "open"
    assert judged(stage.wait(10), "ready").state == "done"
    stage.try_out(spec(it=watcher(numprocesses=3, cmd=("broken",)))).wait(0.5).exit("it.1", 1).wait(
        5
    )
    assert judged(stage, "ready") == Judged("failed", "is not replaced: the revision is not good")


def test_what_was_removed_has_stopped_and_is_not_ready() -> None:
    assert goals.gone(Goal("it", "stopped")).state == "done"
    assert goals.gone(Goal("it", "ready")) == Judged("failed", "was removed meanwhile")
    stage = Stage()
    stage.stubborn = frozenset({"it.1"})
    stage.apply(spec(it=watcher())).wait(5).apply(spec())
    assert judged(stage, "ready") == Judged("failed", "is being removed")
    assert judged(stage, "stopped").state == "open"
