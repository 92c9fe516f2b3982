"""What one event costs does not grow with the number of watchers, nor of the slots of one, beyond a logarithm.

Work is counted, not timed: every bytecode that runs in `reconciler`, and every item that is taken from one of
the large mappings by something that is not bytecode, such as `dict(…)` or `sorted(…)`.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from math import log2
from typing import TYPE_CHECKING, Any

import pytest

from reconciler.core import changes, verdict, watchers
from reconciler.core.fold import MAX_REQUESTS
from reconciler.core.reconciler import ACTIONS_PER_STEP, PLANS_PER_STEP
from reconciler.model.intent import Intent
from reconciler.model.observation import (
    IntentChanged,
    KeeperIntroduced,
    LogChanged,
    RetryAsked,
    ShutdownAsked,
    SignalAsked,
    SnapshotEnded,
    SocketChanged,
    SpecApplied,
)
from reconciler.model.process import Exit, Exited, Running
from reconciler.model.revision import Trial
from reconciler.model.spec import (
    DaemonSpec,
    DependencySpec,
    HealthSpec,
    HookSpec,
    HooksSpec,
    RolloutSpec,
    ScheduleSpec,
    SocketSpec,
    Spec,
)
from reconciler.model.units import DAY_NS
from reconciler.model.value import replace
from tests.core.stage import HOOK, S, Stage, job, listener, process, spec, watcher
from tests.growth import Work, work_of

if TYPE_CHECKING:
    from reconciler.model.observation import Observation

FEW, SOME, MANY = 10, 500, 2000
PER_DOUBLING = 100
"""Bytecodes that each doubling may add: what a heap of all watchers needs, and some air."""


def many(count: int) -> Spec:
    return Spec(watchers={f"w{n}": watcher(cmd=("serve", str(n))) for n in range(count)})


def running(count: int) -> Stage:
    """Return a stage on which so many watchers have been running for a minute; its mappings count.

    Up to a thousand of them have a socket each.
    """
    sockets = {f"http{n}": listener(1000 + n) for n in range(min(count, 1000))}
    users = {f"w{n}": watcher(use_sockets=(f"http{n}",)) for n in range(len(sockets))}
    stage = Stage().apply(Spec(sockets=sockets, watchers=many(count).watchers | users)).wait(60)
    assert len(stage.alive()) == count
    core: Any = stage.reconciler
    core.spec = replace(core.spec, watchers=Work.counted(core.spec.watchers))
    for name in ("known", "_hashes", "last_incarnation", "retired"):
        setattr(core, name, Work.counted(getattr(core, name)))
    core.sockets = Work.counted(core.sockets)
    core.agenda._wakes._at = Work.counted(core.agenda._wakes._at)
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
    edited_spec = replace(core.spec, watchers=others | {"w7": edited})
    stage.tell(SpecApplied(edited_spec, stage.revision))
    core.spec = replace(core.spec, watchers=Work.counted(core.spec.watchers))


def a_socket(stage: Stage) -> None:
    stage.tell(SocketChanged(stage.sockets["http8"]))


@pytest.mark.parametrize("event", [an_exit, an_intent, a_backoff_that_is_over, a_socket, a_status])
def test_one_event_costs_the_same_among_ten_and_among_two_thousand(
    stages: dict[int, Stage], event: Callable[[Stage], None]
) -> None:
    few, much = (work_of(lambda each=each: event(stages[each])) for each in (FEW, MANY))
    assert few > 100, "nothing was counted"
    assert much <= few + PER_DOUBLING * log2(MANY / FEW)


def test_an_instant_of_one_schedule_costs_the_same_among_many_schedules() -> None:
    def work(count: int) -> int:
        rare = job(schedule=ScheduleSpec(every=365 * DAY_NS))
        often = job(schedule=ScheduleSpec(every=60 * S))
        stage = Stage().apply(spec(**{f"w{n}": rare for n in range(count)}, often=often)).wait(90)
        core: Any = stage.reconciler
        core.spec = replace(core.spec, watchers=Work.counted(core.spec.watchers))
        core.known = Work.counted(core.known)
        stage.exit("often.1")
        found = work_of(lambda: stage.wait(60))
        assert stage.spawned() == ["often.1", "often.1"]
        return found

    few, much = work(FEW), work(SOME)
    assert few > 100, "nothing was counted"
    assert much <= few + PER_DOUBLING * log2(SOME / FEW)


def depending(count: int) -> Stage:
    """Return a stage on which one watcher of so many slots is needed by so many others, which run as all do."""
    first = watcher(numprocesses=count)
    needs = {"first": DependencySpec("ready")}
    rest = {f"w{n}": watcher(depends_on=needs) for n in range(count)}
    stage = Stage().apply(spec(first=first, **rest)).wait(60)
    assert len(stage.alive()) == 2 * count
    core: Any = stage.reconciler
    for name in ("known", "standings", "waiting_since"):
        setattr(core, name, Work.counted(getattr(core, name)))
    seen = core.observed("first")
    core.known["first"] = replace(seen, records=Work.counted(seen.records))
    return stage


def test_an_exit_of_what_many_need_costs_the_same_while_it_is_ready_and_so_does_one_of_these() -> (
    None
):
    few, much = depending(10), depending(1000)
    for name in ("first.7", "w7.1"):
        works = [work_of(lambda each=each, name=name: each.exit(name, 1)) for each in (few, much)]
        assert works[0] > 100, "nothing was counted"
        assert works[1] <= works[0] + PER_DOUBLING * log2(1000 / 10)


def waiting_for_a_place(count: int) -> Stage:
    """Return a stage on which one of so many watchers is being replaced at a time, as all are to be."""
    daemon, watchers = DaemonSpec(max_concurrent_restarts=1), many(count).watchers
    edited = {name: replace(each, cmd=("new",)) for name, each in watchers.items()}
    stage = Stage().apply(Spec(daemon=daemon, watchers=watchers)).wait(60)
    stage.apply(Spec(daemon=daemon, watchers=edited)).wait(0.5)
    assert len(stage.signals()) == 1
    core: Any = stage.reconciler
    core.known = Work.counted(core.known)
    return stage


def test_the_next_one_has_its_turn_at_the_same_cost_however_many_wait() -> None:
    few, much = waiting_for_a_place(10), waiting_for_a_place(1000)
    works = [work_of(lambda each=each: each.wait(1)) for each in (few, much)]
    assert [len(each.signals()) for each in (few, much)] == [2, 2]
    assert works[1] <= works[0] + PER_DOUBLING * log2(1000 / 10)


def slots(count: int, sockets: dict[str, SocketSpec] | None = None, **fields: object) -> Stage:
    """Return a stage on which so many slots of one watcher have been running for a minute; its mappings count."""
    stage = Stage().apply(spec(sockets, w=watcher(numprocesses=count, **fields)))
    hooks: Any = fields.get("hooks")
    if hooks is not None and hooks.after_start is not None:
        stage.wait(2).exit("w:after_start")
    return counted(stage.wait(60), count)


def counted(stage: Stage, count: int) -> Stage:
    assert len(stage.alive()) == count
    core: Any = stage.reconciler
    seen = core.observed("w")
    runs = Work.counted(seen.job.runs)
    job = replace(seen.job, runs=runs)
    core.known["w"] = replace(seen, records=Work.counted(seen.records), job=job)
    core.sockets = Work.counted(core.sockets)
    return stage


def being_started(count: int) -> Stage:
    """Return a stage on which all slots run, none of them for a second yet, and a revision has to prove itself."""
    stage = Stage().apply(spec()).try_out(spec(w=watcher(numprocesses=count)))
    return counted(stage.wait(0.5), count)


def being_replaced(count: int, wait: float = 0.5, **rollout: Any) -> Stage:
    new = watcher(numprocesses=count, cmd=("new",), rollout=RolloutSpec(**rollout))
    return slots(count).apply(spec(w=new)).wait(wait)


def being_stopped(count: int) -> Stage:
    stage = slots(count, hooks=HooksSpec(before_stop=HOOK))
    stage.stubborn = frozenset(f"w.{slot}" for slot in range(1, count + 1))
    stage.tell(IntentChanged("w", Intent(hold="stopped"))).exit("w:before_stop").wait(1)
    assert len(stage.alive()) == count
    return stage


def a_backoff_of_a_slot(stage: Stage) -> None:
    for _ in range(5):
        stage.exit("w.5", 1)
    stage.wait(5)


def a_socket_of_a_slot(stage: Stage) -> None:
    stage.tell(SocketChanged(stage.sockets["own.3"]))


def an_end_of_a_job(stage: Stage) -> None:
    stage.exit("w.6", 0)
    assert stage.reconciler.jobs_done(stage.now, stage.last.touched) is None


def a_retry(stage: Stage) -> None:
    for _ in range(5):
        stage.exit("w.7", 1)
    assert isinstance(stage.records[process("w.7")].phase, Exited)
    stage.tell(RetryAsked("w", (7,)))
    assert isinstance(stage.records[process("w.7")].phase, Running)


def a_slot_that_is_unhealthy_and_healthy_again(stage: Stage) -> None:
    stage.answer("w.5:health").answer("w.6:health").wait(0.5).answer("w.6:health", passed=True)
    assert [id for _, id, _ in stage.signals()] == ["w.5"]


EVENTS_OF_A_SLOT: dict[str, Callable[[Stage], object]] = {
    "exit": lambda stage: stage.exit("w.3", 1),
    "end by a stop": lambda stage: stage.exit("w.4", None, signal="TERM"),
    "backoff": a_backoff_of_a_slot,
    "signal": lambda stage: stage.tell(SignalAsked("w", 4, "USR1")),
    "retry": a_retry,
    "health": a_slot_that_is_unhealthy_and_healthy_again,
    "log": lambda stage: stage.tell(LogChanged(process("w.2"), "/log", "full")),
    "socket": a_socket_of_a_slot,
    "replacement": lambda stage: stage.wait(1),
    "end of a job": an_end_of_a_job,
}
OWN = {"own": listener(81, reuseport=True)}
AFTER_START = HooksSpec(after_start=HOOK)
SCENES: dict[str, tuple[Callable[[int], Stage], tuple[str, ...]]] = {
    "plain": (slots, ("exit", "backoff", "signal", "retry", "log")),
    "aging": (
        partial(slots, max_age=3600 * S, health=HealthSpec(tcp="80")),
        ("health", "exit"),
    ),
    "asked": (partial(slots, hooks=HooksSpec(before_signal=HOOK)), ("exit",)),
    "one by one": (partial(slots, spawn_interval=S // 1000), ("exit", "backoff")),
    "after_spawn_passed": (partial(slots, hooks=AFTER_START), ("exit", "backoff")),
    "own sockets": (partial(slots, sockets=OWN, use_sockets=("own",)), ("exit", "socket")),
    "being started": (being_started, ("exit", "signal", "log")),
    "being replaced": (being_replaced, ("replacement", "log")),
    "others beyond": (
        partial(being_replaced, wait=1.5, max_surge="20%", pause=60 * S),
        ("exit", "log"),
    ),
    "being stopped": (being_stopped, ("end by a stop", "log")),
    "job": (partial(slots, restart="never", on_lost="rerun"), ("end of a job", "signal", "log")),
    "job one by one": (
        partial(slots, restart="never", spawn_interval=S // 1000),
        ("end of a job",),
    ),
}


@pytest.mark.parametrize("scene", SCENES)
def test_one_event_costs_the_same_among_ten_slots_and_among_two_thousand(scene: str) -> None:
    make, events = SCENES[scene]
    stages = [make(count) for count in (FEW, MANY)]
    for event in events:
        few, much = (work_of(lambda each=each: EVENTS_OF_A_SLOT[event](each)) for each in stages)  # noqa: B023  (called at once)
        assert few > 100, "nothing was counted"
        assert much <= few + PER_DOUBLING * log2(MANY / FEW), event


def start(wanted: Spec, answers: int = 10) -> Stage:
    """Start all of a spec that has to prove itself; so many answers of the keeper come at a time."""
    stage = Stage()
    stage.revision, core = 1, stage.reconciler
    trial = Trial(dict.fromkeys(wanted.watchers, 1), 0, 10 * S, "pause")
    pending: list[Observation] = [
        SpecApplied(wanted, 1, trial=trial),
        KeeperIntroduced("keeper-1", "boot-1", 1, 0, "session"),
        SnapshotEnded(),
    ]
    queue: list[Observation] = []
    while pending or stage.last.wake_at_ns == stage.now:
        stage.last = core.step(pending, stage.now)
        for action in stage.last.actions:
            queue += stage._carry_out(action)
        pending, queue = queue[:answers], queue[answers:]
    return stage


def test_many_slots_of_one_watcher_are_started_with_no_more_work_than_many_watchers() -> None:
    count = 100
    watchers_work = work_of(lambda: start(many(count)))
    slots_work = work_of(lambda: start(spec(w=watcher(numprocesses=count))))
    assert slots_work <= 1.3 * watchers_work
    # And twice as many take twice the work.
    assert work_of(lambda: start(spec(w=watcher(numprocesses=2 * count)))) <= 2.2 * slots_work


def test_what_the_first_of_a_chain_does_concerns_the_next_of_it_alone() -> None:
    def chain(length: int) -> Stage:
        names = [f"w{number}" for number in range(length)]
        watchers = {
            name: watcher(depends_on={before: DependencySpec("ready")})
            for before, name in pairwise(names)
        }
        return Stage().apply(spec(w0=watcher(), **watchers)).wait(0.5)

    stages = [chain(length) for length in (FEW, 10 * FEW)]
    few, much = (work_of(lambda stage=stage: stage.exit("w0.1", 1)) for stage in stages)
    assert few > 100
    assert much <= few + PER_DOUBLING * log2(10)


@pytest.mark.parametrize("rollout", [{"max_unavailable": "25%"}, {"max_surge": "25%"}])
def test_twice_as_many_slots_are_replaced_with_twice_the_work(rollout: dict[str, Any]) -> None:
    few, much = (
        work_of(lambda count=count: being_replaced(count, 30, **rollout)) for count in (30, 60)
    )
    assert much <= 2.2 * few


@pytest.mark.parametrize("restart", ["always", "never"])
def test_many_slots_are_started_stopped_and_brought_back_in_turns(restart: str) -> None:
    steps: list[int] = []
    stage = Stage()
    step = stage.reconciler.step

    def counted(events: Any, now_ns: int) -> Any:
        found = step(events, now_ns)
        steps.append(len(found.actions))
        return found

    stage.reconciler.step = counted  # type: ignore[method-assign]  # to see how much it does
    count, turn = 3 * ACTIONS_PER_STEP, 2 * ACTIONS_PER_STEP
    stage.apply(spec(w=watcher(numprocesses=count, restart=restart))).wait(60)
    assert len(stage.alive()) == count
    if restart == "always":
        ends = [stage._died(process(f"w.{slot}"), Exit(code=1)) for slot in range(1, count + 1)]
        stage.tell(*ends).wait(60)
        assert len(stage.alive()) == count
    stage.apply(spec()).wait(60)
    assert stage.alive() == []
    assert max(steps) < turn


def test_what_is_of_no_more_use_is_forgotten() -> None:
    stage = Stage()
    for n in range(50):
        stage.apply(spec(**{f"w{n}": watcher(), "keep": watcher()})).wait(12)
    core: Any = stage.reconciler
    assert len(core.known) == 2
    assert len(core.last_incarnation) <= 2
    assert {*core._hashes} == {"w49", "keep"}


def test_a_wake_up_that_is_over_makes_room() -> None:
    day = 86400 * S
    stage = Stage().apply(spec(a=watcher(max_age=30 * day), w=watcher(max_age=365 * day)))
    for _ in range(500):
        stage.wait(20).exit("w.1", 1).wait(1)
    core: Any = stage.reconciler
    assert len(core.agenda._wakes._heap) < 100
    assert sum(len(each._wakes._heap) for each in core.agenda.attention._found.values()) < 100


@pytest.mark.parametrize("slot", [None, 1])
def test_requests_that_wait_for_a_hook_are_bounded(slot: int | None) -> None:
    hooks = HooksSpec(before_signal=HookSpec(cmd=("x",), timeout=10**12))
    stage = Stage().apply(spec(w=watcher(numprocesses=2, hooks=hooks))).wait(5)
    for _ in range(100):
        stage.now += 1
        stage.tell(SignalAsked("w", slot, "USR1"))
    waiting = stage.reconciler.observed("w").requests
    assert {str(id): len(each) for id, each in waiting.items()} == dict.fromkeys(
        ["w.1"] if slot else ["w.1", "w.2"], MAX_REQUESTS
    )
    stage.exit("w.1", 1).wait(60)
    assert "w.1" not in map(str, stage.reconciler.observed("w").requests)


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


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows by the name of each watcher that is planned."""
    planned: list[str] = []
    plan_watcher = watchers.plan_watcher

    def noted(plan: Any, base: str) -> Any:
        planned.append(plan.name)
        return plan_watcher(plan, base)

    monkeypatch.setattr("reconciler.core.reconciler.plan_watcher", noted)
    return planned


@pytest.mark.parametrize("how", ["a stop", "a shutdown", "a removal"])
def test_who_is_stopped_is_planned_once_to_be_asked_and_once_at_its_end(
    planned: list[str], how: str
) -> None:
    stage = Stage().apply(many(100)).wait(60)
    stage.drains = frozenset(f"w{n}.1" for n in range(100))
    planned.clear()
    if how == "a removal":
        stage.apply(spec())
    elif how == "a shutdown":
        stage.tell(ShutdownAsked(now=False))
    else:
        stage.tell(*(IntentChanged(f"w{n}", Intent(hold="stopped")) for n in range(100)))
    assert len(stage.signals()) == len(planned) == 100
    planned.clear()
    for name in sorted(stage.drains):
        stage.exit(name, None, signal="TERM")
    assert len(planned) == 100
    assert not stage.alive()


def test_a_step_plans_some_of_those_whose_time_has_come_and_the_next_ones_the_others(
    planned: list[str],
) -> None:
    stage = Stage().apply(many(1000)).wait(0.5)
    planned.clear()
    core = stage.reconciler
    steps = 0
    stage.now += 5 * S
    while (wake_ns := core.step((), stage.now).wake_at_ns) is not None and wake_ns <= stage.now:
        assert len(planned) <= PLANS_PER_STEP
        planned.clear()
        steps += 1
    assert 1000 // PLANS_PER_STEP <= steps <= 1000 // 50


def test_an_edit_plans_the_watcher_that_was_edited_and_no_other(
    stages: dict[int, Stage], planned: list[str]
) -> None:
    stage = stages[MANY].wait(60)  # what died before is steady again
    planned.clear()
    an_edit_that_changes_nothing_of_others(stage)
    stage.wait(30)
    assert set(planned) == {"w7"}
    assert stage.records[process("w7.1")].incarnation > MANY
    assert stage.now > 30 * S


OF_EACH = 50
"""Bytecodes that an edit may cost for each watcher that it leaves alone: it is looked at, and is the very same."""


@pytest.mark.parametrize(
    "what", ["what changes", "what is on trial", "what is removed", "the step"]
)
def test_an_edit_costs_next_to_nothing_for_each_watcher_that_it_leaves_alone(what: str) -> None:
    def work(count: int) -> int:
        stage = Stage().apply(many(count)).wait(60)
        core = stage.reconciler
        old = core.spec
        new = replace(old, watchers={**old.watchers, "w3": watcher(cmd=("edited",))})
        calls: dict[str, Callable[[], object]] = {
            "what changes": lambda: changes.changes(old, new, core.observed, core.facts),
            "what is on trial": lambda: verdict.changed(old, new, core.observed, core.facts),
            "what is removed": lambda: changes.removal_refused(old, new, core.observed),
            "the step": lambda: core.step([SpecApplied(new, 2)], stage.now),
        }
        return work_of(calls[what])

    few, much = work(FEW), work(MANY)
    assert few > 10, "nothing was counted"
    assert much <= few + OF_EACH * (MANY - FEW)


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
        assert work_of(lambda: next(copies), "/tests/") >= 1000
    assert work_of(lambda: [n + 1 for n in range(1000)], "/tests/") > 1000


def test_whether_all_jobs_are_done_is_counted_not_looked_up() -> None:
    found = {}
    for count in (FEW, 500):
        jobs = {f"j{n}": watcher(cmd=("job", str(n)), restart="never") for n in range(count)}
        stage = Stage().apply(Spec(watchers=jobs))
        core: Any = stage.reconciler
        assert core.jobs_done(stage.now) is None
        stage.exit("j3.1", 0)
        found[count] = work_of(lambda: core.jobs_done(stage.now, {"j3"}))  # noqa: B023  (called at once)
        for n in range(count):
            if n != 3:
                stage.exit(f"j{n}.1", 0)
        assert core.jobs_done(stage.now, {*jobs}) == 0
    assert found[500] <= found[FEW] + PER_DOUBLING


def test_what_is_empty_of_most_watchers_they_have_in_common() -> None:
    stage = Stage().apply(many(50)).wait(60)
    stage.tell(SignalAsked("w3", 1, "USR1")).exit("w4.1", 1).wait(60)
    seen = [stage.reconciler.observed(f"w{n}") for n in range(50)]
    mappings = [getattr(each, name) for each in seen for name in each.__struct_fields__]
    empty = {id(each) for each in [*mappings, *(each.job.runs for each in seen)] if each == {}}
    assert len(empty) <= 2, "one for all, and one that a watcher needed for a while"


CONTAINERS_OF_EACH = 5
"""Lists, sets and objects that the core has for each watcher with a process: a collection looks all of them through."""


def test_a_watcher_is_few_containers() -> None:
    def containers(count: int) -> int:
        gc.collect()
        before = len(gc.get_objects())
        stage = Stage().apply(many(count)).wait(60)
        gc.collect()
        assert len(stage.alive()) == count
        return len(gc.get_objects()) - before

    few, much = containers(FEW), containers(MANY)
    assert few > FEW, "nothing was counted"
    assert much <= few + CONTAINERS_OF_EACH * (MANY - FEW)
