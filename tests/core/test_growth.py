"""What one event costs does not grow with the number of watchers, beyond a logarithm.

Work is counted, not timed: every bytecode that runs in `reconciler`, and every item that is taken from one of
the large mappings by something that is not bytecode, such as `dict(…)` or `sorted(…)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import log2
from typing import Any

import pytest

from reconciler.core import watchers
from reconciler.model.event import IntentChanged, ShutdownAsked, SpecApplied
from reconciler.model.intent import Intent
from reconciler.model.spec import Spec
from reconciler.model.value import replace
from tests.core.stage import S, Stage, process, watcher
from tests.growth import Work, work_of

FEW, MANY = 10, 5000
PER_DOUBLING = 100
"""Bytecodes that each doubling may add: what a heap of all watchers needs, and some air."""


def many(count: int) -> Spec:
    return Spec(watchers={f"w{n}": watcher(cmd=("serve", str(n))) for n in range(count)})


def running(count: int) -> Stage:
    """Return a stage on which so many watchers have been running for a minute; its mappings count."""
    stage = Stage().apply(many(count)).wait(60)
    assert len(stage.alive()) == count
    core: Any = stage.reconciler
    core.spec = replace(core.spec, watchers=Work.counted(core.spec.watchers))
    for name in ("_observed", "_hashes", "_wake_of", "_last_incarnation", "_retiring"):
        setattr(core, name, Work.counted(getattr(core, name)))
    return stage


@pytest.fixture(scope="module")
def stages() -> dict[int, Stage]:
    return {count: running(count) for count in (FEW, MANY)}


def an_exit(stage: Stage) -> None:
    stage.exit("w3.1", 1)


def an_intent(stage: Stage) -> None:
    stage.tell(IntentChanged("w4", Intent(hold="stopped")))
    stage.tell(IntentChanged("w4", Intent()))


def a_backoff_that_is_over(stage: Stage) -> None:
    for _ in range(5):
        stage.exit("w5.1", 1)
    stage.wait(5)


def a_status(stage: Stage) -> None:
    stage.status("w6")


def an_edit_that_changes_nothing_of_others(stage: Stage) -> None:
    core: Any = stage.reconciler
    edited = watcher(cmd=("serve", "anew"))
    others = dict(core.spec.watchers)
    stage.tell(SpecApplied(Spec(watchers=others | {"w7": edited}), stage.revision))
    core.spec = replace(core.spec, watchers=Work.counted(core.spec.watchers))


@pytest.mark.parametrize("event", [an_exit, an_intent, a_backoff_that_is_over, a_status])
def test_one_event_costs_the_same_among_ten_and_among_five_thousand(
    stages: dict[int, Stage], event: Callable[[Stage], None]
) -> None:
    few, much = (work_of(lambda each=each: event(stages[each])) for each in (FEW, MANY))
    assert few > 100, "nothing was counted"
    assert much <= few + PER_DOUBLING * log2(MANY / FEW)


def test_an_exit_costs_the_same_while_everything_stops() -> None:
    def half_stopped(count: int) -> Stage:
        stage = Stage()
        stage.stubborn = frozenset(f"w{n}.1" for n in range(count // 2, count))
        return stage.apply(many(count)).wait(60).tell(ShutdownAsked(now=False))

    def an_exit_of_the_last(stage: Stage) -> None:
        last = max(stage.records, key=lambda id: int(id.owner[1:]))
        stage.exit(str(last).replace(":main", ""), None, signal="TERM")

    few, much = (
        work_of(lambda each=each: an_exit_of_the_last(each))
        for each in map(half_stopped, (FEW, MANY))
    )
    assert few > 100, "nothing was counted"
    assert much <= few + PER_DOUBLING * log2(MANY / FEW)


def test_an_edit_plans_the_watcher_that_was_edited_and_no_other(
    stages: dict[int, Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[str] = []
    plan = watchers.plan_watcher

    def noted(draft: Any, base: str) -> Any:
        planned.append(draft.name)
        return plan(draft, base)

    monkeypatch.setattr("reconciler.core.reconciler.plan_watcher", noted)
    stage = stages[MANY]
    an_edit_that_changes_nothing_of_others(stage)
    stage.wait(30)
    assert set(planned) == {"w7"}
    assert stage.records[process("w7.1")].incarnation > MANY
    assert stage.now > 30 * S


def test_what_grows_is_seen() -> None:
    """The counter itself: a loop, a comprehension, and copies that no bytecode shows."""
    counted = Work.counted({n: n for n in range(1000)})

    def through(mapping: Any) -> Iterator[Any]:
        yield dict(mapping)
        yield {**mapping}
        yield sorted(mapping)
        yield set(mapping.values())
        yield list(mapping.items())

    copies = through(counted)
    for _ in range(5):
        assert work_of(lambda: next(copies), within="/tests/") >= 1000
    assert work_of(lambda: [n + 1 for n in range(1000)], within="/tests/") > 1000
