"""When one ends, all end: whose end it is, with which exit code, and whatever controller dies meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reconciler.core.intents import restarted, scaled, stopped
from reconciler.core.reconciler import Reconciler
from reconciler.model.intent import NO_INTENT, NOBODY, RequestedBy
from reconciler.model.job import Job
from reconciler.model.observation import (
    IntentChanged,
    JobChanged,
    Observation,
    ShutdownAsked,
    SignalAsked,
)
from reconciler.model.process import Exit, LaunchError
from reconciler.model.spec import DependencySpec, HooksSpec, MaxRestartsSpec, WatcherSpec
from reconciler.model.units import SECOND_NS
from reconciler.model.value import replace
from tests.core.stage import FACTS, HOOK, Stage, job, process, spec, watcher

if TYPE_CHECKING:
    from collections.abc import Callable

ON_EXIT, ON_FAILURE = {"on_exit": "shutdown"}, {"on_failure": "shutdown"}
TWICE = MaxRestartsSpec(count=2, window=60 * SECOND_NS)


def with_two_more(**main: WatcherSpec) -> Stage:
    """Return a stage with some that matter beside two that do not."""
    wanted = spec(web=watcher(), db=watcher(priority=1), **main)
    return Stage().apply(wanted).wait(5)


def end(stage: Stage) -> int | None:
    """Return with what the manager has exited, and see to it that nothing is left when it has."""
    stage.wait(1)
    assert stage.quit is None or stage.alive() == []
    return stage.quit


@pytest.mark.parametrize(
    ("fields", "how", "code"),
    [
        (ON_EXIT, {"code": 0}, 0),
        (ON_EXIT, {"code": 7}, 7),
        (ON_EXIT, {"code": None, "signal": "KILL"}, 137),
        (ON_EXIT, {"code": None, "signal": "RTMIN+1"}, 163),
        (ON_EXIT, {"code": 7, "survivors": True}, 7),
        (ON_FAILURE, {"code": 7}, 7),
        (ON_FAILURE, {"code": None, "signal": "SEGV"}, 139),
        (ON_FAILURE, {"code": 0}, None),
        (ON_FAILURE | {"success_exit_codes": (0, 7)}, {"code": 7}, None),
        (ON_FAILURE | {"restart": "on-failure"}, {"code": 0}, None),
        (ON_EXIT | {"restart": "on-failure"}, {"code": 0}, 0),
        (ON_EXIT | {"restart": "on-failure"}, {"code": 7}, None),
        (ON_EXIT | ON_FAILURE | {"restart": "on-failure"}, {"code": 7}, 7),
        ({}, {"code": 7}, None),
    ],
)
def test_the_end_of_a_service_is_the_end_of_all_as_its_fields_say(
    fields: dict[str, object], how: dict[str, object], code: int | None
) -> None:
    stage = with_two_more(app=watcher(**fields))
    stage.exit("app.1", **how)  # type: ignore[arg-type]
    assert end(stage) == code


def test_a_watcher_that_was_named_at_the_start_ends_all_like_one_that_says_so() -> None:
    for build, code in ((watcher, 0), (job, 7)):
        stage = Stage()
        stage.facts = replace(FACTS, exit_with=("app",))
        stage.reconciler = Reconciler(stage.facts)
        stage.apply(spec(web=watcher(), app=build())).wait(5).exit("web.1", 3).exit("app.1", code)
        assert end(stage) == code
        told = next(each.message for each in stage.events if each.type == "manager.stopping")
        assert "and --exit-with names it: everything is stopped" in told


ALICE = RequestedBy("alice")


def endless(*observations: Observation, **fields: WatcherSpec) -> Stage:
    """Return a stage whose manager is to end with `app`."""
    stage = Stage()
    stage.facts = replace(FACTS, exit_with=("app",))
    stage.reconciler = Reconciler(stage.facts)
    return stage.tell(*observations).apply(spec(web=watcher(), **fields)).wait(5)


def why_endless(stage: Stage) -> list[str]:
    told = [each for each in stage.events if each.type == "manager.endless"]
    assert {each.watcher for each in told} <= {"app"}
    return [each.message for each in told]


NO_END = "app does not run, so its end, which --exit-with waits for, does not come: "
START = "it is stopped by alice; `reconcile start app` starts it"


@pytest.mark.parametrize(
    ("app", "known", "why"),
    [
        (watcher(), IntentChanged("app", stopped(NO_INTENT, ALICE)), START),
        (job(), IntentChanged("app", stopped(NO_INTENT, ALICE)), START),
        (
            watcher(),
            IntentChanged("app", scaled(NO_INTENT, ALICE, 0)),
            "it is scaled to 0; `reconcile scale app=N` starts N, app=spec as many as in the spec",
        ),
        (
            job(),
            JobChanged("app", Job(known=False)),
            "its run history was damaged; `reconcile rerun app` runs it",
        ),
    ],
)
def test_what_is_to_end_all_and_does_not_run_is_told_once(
    app: WatcherSpec, known: Observation, why: str
) -> None:
    stage = endless(known, app=app).wait(60)
    assert (stage.quit, why_endless(stage)) == (None, [NO_END + why])


def test_what_is_to_end_all_is_told_to_be_gone_once_an_edit_or_an_operator_has_taken_it_away() -> (
    None
):
    stage = endless(app=job()).wait(60)
    assert why_endless(stage) == []
    stage.tell(IntentChanged("app", stopped(NO_INTENT, ALICE))).wait(60)
    assert why_endless(stage) == [NO_END + START]
    stage.tell(IntentChanged("app", NO_INTENT)).wait(60)
    again = "generation 1 has run; `reconcile rerun app` runs it"
    assert why_endless(stage)[1:] == [NO_END + again]
    stage.apply(spec(web=watcher())).wait(60)
    assert why_endless(stage)[2:] == [f"{NO_END}it stands in no spec any more"]
    stage.tell(ShutdownAsked())
    assert len(why_endless(stage)) == 3


@pytest.mark.parametrize("build", [watcher, job])
def test_what_is_to_end_all_and_waits_is_no_reason_to_say_that_its_end_does_not_come(
    build: Callable[..., WatcherSpec],
) -> None:
    app = build(depends_on={"db": DependencySpec("ready")})
    assert why_endless(endless(db=watcher(autostart=False), app=app)) == []


def under_next_manager(former: Stage, *, adopts: bool) -> Stage:
    """Return a stage whose keeper is another one, with what the store knows, and the processes if it adopts them."""
    stage = Stage()
    stage.facts, stage.revision = replace(FACTS, exit_with=("app",)), 1
    stage.records = former.records if adopts else {}
    ledger = []
    for name in ("app", "other"):
        known = former.reconciler.observed(name).job
        assert known.generation is not None
        generation = replace(known.generation, keeper_id="keeper-0")
        runs = {slot: replace(run, keeper_id="keeper-0") for slot, run in known.runs.items()}
        ledger.append(JobChanged(name, Job(generation, runs)))
    return stage.new_controller(former.reconciler.spec, ledger).wait(5)


@pytest.mark.parametrize("code", [0, 7])
def test_a_job_that_was_named_at_the_start_runs_anew_under_each_manager(code: int) -> None:
    former = Stage().apply(spec(web=watcher(), app=job(), other=job()))
    former.exit("app.1", 7).exit("other.1", 7).wait(1)
    stage = under_next_manager(former, adopts=False)
    assert (stage.spawned("app"), stage.spawned("other")) == (["app.1"], [])
    assert stage.runs[0].run.trigger == "daemon_start"
    stage.new_controller(
        stage.reconciler.spec, [JobChanged("app", stage.reconciler.observed("app").job)]
    )
    assert end(stage.exit("app.1", code)) == code
    assert stage.spawned("app") == ["app.1"]


def test_a_job_that_was_named_at_the_start_and_is_adopted_ends_all_when_it_ends() -> None:
    former = Stage().apply(spec(web=watcher(), app=job(), other=job())).exit("other.1").wait(1)
    stage = under_next_manager(former, adopts=True)
    assert end(stage.exit("app.1", 7)) == 7
    assert stage.spawned("app") == []


def test_all_is_stopped_in_order_and_told() -> None:
    stage = with_two_more(app=watcher(**ON_EXIT)).exit("app.1", 7).wait(1)
    assert [name for _, name, _ in stage.signals()] == ["web.1", "db.1"]
    (told,) = [each for each in stage.events if each.type == "manager.stopping"]
    assert (told.watcher, told.slot, told.details["code"]) == ("app", 1, 7)
    assert told.message == (
        "app.1 has ended (exit 7) and its on_exit is shutdown: everything is stopped in order, exit code 7"
    )


def test_the_first_of_several_slots_decides_and_of_several_that_are_heard_of_at_once_the_first() -> (
    None
):
    apps = {name: watcher(numprocesses=2, **ON_EXIT) for name in ("one", "two")}
    stage = with_two_more(**apps)
    stage.exit_untold("two.2", 3).wait(1)
    stage.exit_untold("one.1", 4).new_controller(stage.reconciler.spec)
    assert end(stage) == 3


def test_what_has_ended_with_0_is_not_outdone_by_who_had_to_be_killed() -> None:
    stage = with_two_more(app=watcher(**ON_EXIT))
    stage.stubborn = frozenset({"web.1"})
    stage.exit("app.1", 0).wait(30)
    assert stage.quit == 0


@pytest.mark.parametrize(
    ("count", "code"), [(2, None), (3, 7)], ids=["restarts are left", "it is given up"]
)
def test_with_max_restarts_a_service_has_failed_when_it_is_given_up(
    count: int, code: int | None
) -> None:
    stage = with_two_more(app=watcher(max_restarts=TWICE, **ON_FAILURE))
    for _ in range(count):
        stage.exit("app.1", 7).wait(2)
    assert end(stage) == code


def test_what_is_given_up_is_a_failure_also_when_it_said_0() -> None:
    stage = with_two_more(app=watcher(max_restarts=TWICE, **ON_FAILURE))
    for _ in range(3):
        stage.exit("app.1", 0).wait(2)
    assert end(stage) == 1


@pytest.mark.parametrize(("errno", "code"), [("ENOENT", 127), ("EACCES", 126), ("EAGAIN", None)])
def test_what_cannot_be_executed_has_ended_as_in_a_shell_and_a_shortage_passes(
    errno: str, code: int | None
) -> None:
    stage = Stage()
    stage.unstartable["app.1"] = LaunchError("exec", errno, "/bin/app")
    stage.apply(spec(web=watcher(), app=watcher(**ON_EXIT)))
    assert end(stage) == code


DEEDS = {
    "stop": lambda it: it.tell(IntentChanged("app", stopped(NO_INTENT, NOBODY))),
    "restart": lambda it: it.tell(IntentChanged("app", restarted(NO_INTENT, None, at_once=True))),
    "scale": lambda it: it.tell(IntentChanged("app", scaled(NO_INTENT, NOBODY, 1))),
    "signal": lambda it: it.tell(SignalAsked("app", 1, "KILL", 1)),
    "edit": lambda it: it.apply(spec(app=watcher(cmd=("other",), **ON_EXIT, **ON_FAILURE))),
    "removal": lambda it: it.apply(spec(web=watcher())),
    "keeper killed": lambda it: it.lost("app.1"),
}


@pytest.mark.parametrize(
    ("deed", "kind"),
    # The run of a job is lost with its keeper: that one has not succeeded.
    [(d, k) for d in DEEDS for k in ("service", "job") if (d, k) != ("keeper killed", "job")],
)
def test_what_somebody_else_has_ended_is_no_end(deed: str, kind: str) -> None:
    build = watcher if kind == "service" else job
    stage = with_two_more(app=build(numprocesses=2, **ON_EXIT, **ON_FAILURE))
    assert stage.alive("app") == ["app.1", "app.2"]
    DEEDS[deed](stage).wait(30)
    assert (stage.quit, bool(stage.alive())) == (None, True)


def test_once_an_operator_ends_all_nobody_elses_code_counts() -> None:
    stage = with_two_more(app=watcher(**ON_EXIT))
    stage.stubborn = frozenset({"web.1", "app.1"})
    stage.tell(ShutdownAsked()).wait(1).exit("app.1", 7).wait(1).exit("web.1", 0)
    assert end(stage) == 0


@pytest.mark.parametrize(
    ("fields", "ends", "code"),
    [
        (ON_EXIT, [0, 0], 0),
        (ON_EXIT, [0], None),
        (ON_EXIT, [0, 7], 7),
        (ON_FAILURE, [7], 7),
        (ON_FAILURE, [0, 0], None),
        (ON_FAILURE, [0, 3], 3),
    ],
)
def test_a_job_ends_with_its_last_run_and_fails_with_the_first_that_does(
    fields: dict[str, object], ends: list[int], code: int | None
) -> None:
    stage = with_two_more(app=job(numprocesses=2, **fields))
    for slot, each in enumerate(ends, 1):
        stage.exit(f"app.{slot}", each)
    assert end(stage) == code


def test_a_run_that_takes_too_long_or_is_vetoed_has_failed() -> None:
    stage = with_two_more(app=job(timeout=10 * SECOND_NS, **ON_FAILURE)).wait(10)
    assert end(stage) == 143
    stage = with_two_more(app=job(hooks=HooksSpec(before_spawn=HOOK), **ON_FAILURE))
    assert end(stage.exit("app.1:before_spawn", 3)) == 1


@pytest.mark.parametrize("fields", [ON_EXIT, ON_FAILURE])
def test_a_run_of_a_former_manager_ends_nothing(fields: dict[str, object]) -> None:
    stage = with_two_more(app=job()).exit("app.1", 7).wait(1)
    known = stage.reconciler.observed("app").job
    former = replace(known, runs={1: replace(known.runs[1], keeper_id="keeper-0")})
    wanted = spec(web=watcher(), app=job(**fields))
    assert end(stage.new_controller(wanted, [JobChanged("app", former)])) is None
    assert end(stage.new_controller(wanted, [JobChanged("app", known)])) == 7


def test_a_rollback_that_undoes_what_has_failed_comes_first() -> None:
    stage = with_two_more(app=watcher(**ON_FAILURE))
    edited = spec(web=watcher(), app=watcher(cmd=("broken",), **ON_FAILURE))
    stage.try_out(edited, on_failure="rollback").wait(2).exit("app.1", 7)
    assert (end(stage), stage.outcome) == (None, "rolled_back")
    stage.apply(spec(web=watcher(), app=watcher(**ON_FAILURE))).wait(30).exit("app.1", 7)
    assert end(stage) == 7


def dies(stage: Stage, count: int, *observations: Observation) -> bool:
    """Let a controller be killed when the first `count` of what it wants are on their way; False: it wanted less."""
    pending: list[Observation] = [*observations]
    while True:
        step = stage.reconciler.step(pending, stage.now)
        pending = []
        for action in step.actions:
            if count == 0:
                return True
            count -= 1
            pending += stage._carry_out(action)
        if not pending and step.wake_at_ns != stage.now:
            return False


@pytest.mark.parametrize("is_edited", [False, True])
@pytest.mark.parametrize("kind", ["service", "job"])
def test_the_code_reaches_the_end_whatever_controller_dies(kind: str, *, is_edited: bool) -> None:
    build, counts = (watcher if kind == "service" else job), 0
    while True:
        stage = with_two_more(app=build(**ON_EXIT, **ON_FAILURE))
        wanted, generation = stage.reconciler.spec, stage.reconciler.observed("app").job.generation
        stage.stubborn = frozenset({"web.1"})
        ended = stage._died(process("app.1"), Exit(code=7))
        was_killed = dies(stage, counts, ended)
        if is_edited and stage.order is not None:  # what was decided stays decided
            wanted = spec(web=watcher(), db=watcher(priority=1))
        runs = {each.run.slot: each.run for each in stage.runs}
        ledger = [JobChanged("app", Job(generation, runs))] if generation else []
        stage.new_controller(wanted, ledger).wait(30)
        assert (stage.quit, stage.alive()) == (7, []), f"killed after {counts} actions"
        assert stage.spawned("app") == ["app.1"]
        if not was_killed:
            break
        counts += 1
    assert counts > 3
