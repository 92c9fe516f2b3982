"""A plan that leaves slots out comes to the same as one that looks at all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.generations import rerun
from reconciler.core.intents import reloaded, restarted, scaled, stopped
from reconciler.core.plan import Plan
from reconciler.core.slots import Slots
from reconciler.core.watchers import plan_watcher
from reconciler.model.action import Spawn
from reconciler.model.intent import Intent, RequestedBy
from reconciler.model.observation import IntentChanged, JobChanged, SignalAsked
from reconciler.model.spec import (
    BackoffSpec,
    HookSpec,
    HooksSpec,
    MaxRestartsSpec,
    ReloadByCommand,
    ReloadBySignal,
    StopSpec,
)
from reconciler.model.value import replace
from tests.core.stage import FACTS, HOOK, S, Stage, job, listener, spec, watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from reconciler.model.spec import Spec, WatcherSpec

ALICE = RequestedBy("alice", "", 0)
WATCHERS: dict[str, Callable[..., WatcherSpec]] = {
    "plain": watcher,
    "aging": lambda **more: watcher(max_age=20 * S, max_age_variance=5 * S, **more),
    "slow": lambda **more: watcher(spawn_interval=2 * S, **more),
    "limited": lambda **more: watcher(max_restarts=MaxRestartsSpec(2, 60 * S), **more),
    "resting": lambda **more: watcher(restart="on-failure", **more),
    "after_spawn_passed": lambda **more: watcher(
        hooks=HooksSpec(after_start=HOOK, after_spawn=HOOK), **more
    ),
    "asked": lambda **more: watcher(
        hooks=HooksSpec(before_signal=HOOK), reload=ReloadBySignal("HUP"), **more
    ),
    "told": lambda **more: watcher(reload=ReloadByCommand(("again",)), **more),
    "bound": lambda **more: watcher(use_sockets=("own", "all"), **more),
    "job": lambda **more: job(backoff=BackoffSpec(burst=0), **more),
    "asked before": lambda **more: watcher(
        hooks=HooksSpec(before_start=HOOK, before_spawn=HOOK), max_age=30 * S, **more
    ),
    "seen off": lambda **more: watcher(
        hooks=HooksSpec(after_reap=HOOK, before_stop=HOOK, after_stop=HOOK),
        stop=StopSpec(cmd=("stop",)),
        **more,
    ),
    "slow and after_spawn_passed": lambda **more: watcher(
        spawn_interval=2 * S, hooks=HooksSpec(after_start=HOOK), **more
    ),
    "slow job": lambda **more: job(
        spawn_interval=2 * S, hooks=HooksSpec(after_start=HOOK, before_spawn=HOOK), **more
    ),
    "repeated job": lambda **more: job(
        on_lost="rerun", hooks=HooksSpec(before_start=HOOK, after_reap=HOOK), **more
    ),
    "timed": lambda **more: job(timeout=15 * S, hooks=HooksSpec(before_start=HOOK), **more),
}


def whole(kind: str, n: int, cmd: str) -> Spec:
    sockets = {"own": listener(81, reuseport=True), "all": listener(82)}
    return spec(sockets, w=WATCHERS[kind](numprocesses=n, cmd=(cmd,)))


@pytest.fixture(autouse=True, scope="module")
def _both_plans() -> Iterator[None]:
    """Have each plan made twice: one that looks at fewer slots does nothing that the other one does not."""

    def both(plan: Plan, base_hash: str) -> None:
        every = Plan(
            plan.name,
            plan.spec,
            plan.observed,
            plan.world,
            Slots(plan.name, plan.observed),
            plan.want,
            plan.retired,
            plan.room,
        )
        plan_watcher(plan, base_hash)
        plan_watcher(every, base_hash)
        # Of those that wait for others it looks at the first; the next ones have their turn within the same step.
        for found, whole in ((plan.actions, every.actions), (plan.answered, every.answered)):
            assert [each for each in whole if each in found] == [*found]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reconciler.core.reconciler.plan_watcher", both)
        patch.setattr("reconciler.core.attention.LOOK_AHEAD", 1)
        yield


def assert_nothing_was_left_out(stage: Stage) -> None:
    """Assert that a plan which looks at every slot finds nothing to do, nothing earlier, and says the same of each."""
    core: Any = stage.reconciler
    for name in core.names():
        slots = Slots(name, core.observed(name))
        plan = core.new_plan(name, slots, stage.now)
        plan_watcher(plan, core.base_hash(name))
        assert plan.actions == []
        if plan.wakes:
            assert core.agenda._wakes._at[name] <= min(plan.wakes.values())
        found = core.agenda.attention.found(name)
        assert (found.conditions, found.awaited) == (plan.conditions, plan.awaited)


def a_step(kind: str) -> st.SearchStrategy[Callable[[Stage], object]]:
    slots = st.integers(1, 5)

    def end(stage: Stage, slot: int, role: str, code: int) -> None:
        is_of_all = role in {":before_start", ":after_start", ":before_stop", ":after_stop"}
        name = f"w{role}" if is_of_all else f"w.{slot}{role}"
        alive = {str(id) for id, r in stage.records.items() if type(r.phase).__name__ == "Running"}
        if name in alive:
            stage.exit(name, code, survivors=role == "" and code == 2)

    def intent(stage: Stage, made: Callable[[Intent], Intent]) -> None:
        known = stage.reconciler.observed("w").intent
        stage.tell(IntentChanged("w", made(known)))

    def fire(stage: Stage, slot: int) -> None:
        core = stage.reconciler
        wanted, seen = core.spec.watchers["w"], core.observed("w")
        if wanted.is_job and slot <= wanted.numprocesses:
            again = rerun(wanted, seen, (slot,), core.base_hash("w"), FACTS)
            stage.tell(JobChanged("w", replace(seen.job, generation=again.generation)))

    of_slots = [
        ":before_spawn",
        ":before_signal",
        ":reload",
        ":after_spawn",
        ":after_reap",
        ":stop",
    ]
    of_all = [":before_start", ":after_start", ":before_stop", ":after_stop"]
    roles = st.sampled_from([*[""] * 5, *of_slots, *of_all])
    return st.one_of(
        st.floats(0.1, 15).map(lambda s: lambda stage: stage.wait(round(s, 1))),
        st.tuples(slots, roles, st.integers(0, 2)).map(lambda e: lambda stage: end(stage, *e)),
        slots.map(lambda n: lambda stage: stage.apply(whole(kind, n, "new"))),
        slots.map(lambda n: lambda stage: stage.try_out(whole(kind, n, "newer"))),
        slots.map(lambda slot: lambda stage: stage.tell(SignalAsked("w", slot, "USR1"))),
        slots.map(lambda slot: lambda stage: fire(stage, slot)),
        st.sampled_from(
            [
                lambda known: stopped(known, ALICE),
                lambda known: scaled(known, ALICE, 2),
                lambda known: restarted(known, (2,), at_once=False),
                lambda known: restarted(known, None, at_once=True),
                lambda known: reloaded(known, None),
                lambda known: reloaded(known, (2,)),
                lambda _: Intent(),
            ]
        ).map(lambda made: lambda stage: intent(stage, made)),
    )


@given(
    st.sampled_from(sorted(WATCHERS)).flatmap(
        lambda kind: st.tuples(st.just(kind), st.lists(a_step(kind), max_size=12))
    )
)
@settings(max_examples=150, deadline=None)
def test_slots_that_are_left_out_need_nothing(
    history: tuple[str, list[Callable[[Stage], object]]],
) -> None:
    kind, steps = history
    stage = Stage().apply(whole(kind, 4, "old")).wait(5)
    for step in steps:
        step(stage)
        assert_nothing_was_left_out(stage)
        seen = stage.status("w")
        assert seen.as_desired or seen.note, "nothing says why it is not as desired"


def test_a_roll_of_many_goes_on_to_its_end() -> None:
    stage = Stage().apply(whole("plain", 70, "old")).wait(5).apply(whole("plain", 70, "new"))
    stage.wait(80)
    assert len({record.template_hash for record in stage.records.values()}) == 1
    assert stage.status("w").as_desired


def test_a_slot_that_rests_still_keeps_the_next_one_waiting() -> None:
    stage = Stage().apply(spec(w=watcher(numprocesses=2, spawn_interval=5 * S))).wait(60)
    begun = stage.now
    stage.exit("w.1", 1).exit("w.2", 1).wait(10)
    starts = {str(a.id): at for at, a in stage.history if isinstance(a, Spawn)}
    assert (starts["w.1"] - begun / S, starts["w.2"] - begun / S) == (0, 5)


def test_a_hook_that_hangs_before_a_signal_is_ended_though_all_else_rests() -> None:
    hooks = HooksSpec(before_signal=HookSpec(cmd=("x",), timeout=20 * S))
    stage = Stage().apply(spec(w=watcher(numprocesses=2, hooks=hooks))).wait(60)
    stage.tell(SignalAsked("w", 1, "USR1")).wait(30)
    assert [name for _, name, signal in stage.signals() if signal == "KILL"] == [
        "w.1:before_signal"
    ]
