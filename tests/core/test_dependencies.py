"""Dependencies: what waits for what at a start and before a replacement, and what a stop waits for."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from reconciler.core import goals, orders
from reconciler.core.intents import reloaded, restarted, scaled, started, stopped
from reconciler.model.action import Spawn
from reconciler.model.intent import NO_INTENT, RequestedBy
from reconciler.model.observation import IntentChanged, JobChanged, RunRecorded, ShutdownAsked
from reconciler.model.order import Goal
from reconciler.model.process import Exit, LaunchError
from reconciler.model.spec import (
    BackoffSpec,
    DependencySpec,
    HookSpec,
    HooksSpec,
    MaxRestartsSpec,
    ReadySpec,
    ReloadBySignal,
    RolloutSpec,
    ScheduleSpec,
    StopSpec,
)
from reconciler.model.status import DependencyStatus
from reconciler.model.units import SECOND_NS as S
from reconciler.model.value import replace
from tests.core.stage import Stage, job, listener, process, spec, watcher

if TYPE_CHECKING:
    from reconciler.model.spec import Spec, WatcherSpec

ALICE = RequestedBy("alice")
SOON = BackoffSpec(jitter=0)


def on(condition: str = "ready", name: str = "db", **more: object) -> dict[str, DependencySpec]:
    """Return one dependency."""
    return {name: DependencySpec(condition, **more)}  # type: ignore[arg-type]


def note(stage: Stage, name: str = "web") -> str:
    return stage.status(name).note


# ---- what is waited for ------------------------------------------------------------------------------


def test_a_dependent_starts_when_its_dependency_is_ready() -> None:
    stage = Stage().apply(spec(db=watcher(), web=watcher(depends_on=on())))
    assert stage.alive() == ["db.1"]
    assert stage.slot("web.1").state == "Waiting"
    assert note(stage) == "waiting for db to be ready: Starting: ready after 1s of uptime"
    stage.wait(0.9)
    assert stage.alive() == ["db.1"]
    stage.wait(0.1)
    assert stage.alive() == ["db.1", "web.1"]


def test_the_status_says_of_each_dependency_whether_it_stands_as_it_should() -> None:
    more = on() | on("succeeded", "migrate")
    stage = Stage().apply(spec(db=watcher(), migrate=job(), web=watcher(depends_on=more)))
    found = stage.wait(2).status("web").depends_on
    assert found == (
        DependencyStatus("db", "ready", met=True),
        DependencyStatus("migrate", "succeeded", met=False),
    )
    stage.exit("migrate.1", 0).wait(2)
    assert all(each.met for each in stage.status("web").depends_on)
    stage.tell(IntentChanged("db", stopped(NO_INTENT, ALICE))).wait(20)
    assert [each.met for each in stage.status("web").depends_on] == [False, True]


def test_started_needs_no_readiness_but_every_slot() -> None:
    wanted = spec(db=watcher(numprocesses=2), web=watcher(depends_on=on("started")))
    stage = Stage()
    stage.unstartable = {"db.2": Exit(code=1).error}  # type: ignore[dict-item]
    stage.apply(wanted)
    assert stage.spawned() == ["db.1", "db.2", "web.1"]


@pytest.mark.parametrize("role", ["before_start", "before_spawn", "after_spawn"])
def test_a_run_that_a_hook_vetoed_before_it_began_has_not_started(role: str) -> None:
    hooks = HooksSpec(**{role: HookSpec(cmd=("/bin/false",))})
    wanted = spec(
        db=job(hooks=hooks),
        web=watcher(depends_on=on("started")),
        last=watcher(depends_on=on("completed")),
    )
    slot = "" if role == "before_start" else ".1"
    stage = Stage().apply(wanted).exit(f"db{slot}:{role}", 1).wait(30)
    if role == "after_spawn":  # its program was executed
        assert stage.alive() == ["last.1", "web.1"]
        return
    assert stage.alive() == ["last.1"]
    assert note(stage).startswith(f"waiting for db to start: vetoed: {role} hook")


def test_a_run_that_was_stopped_before_it_began_or_could_not_be_executed_has_not_started() -> None:
    waits = job(depends_on=on("ready", "api"))
    wanted = spec(api=watcher(autostart=False), db=waits, web=watcher(depends_on=on("started")))
    stage = held(Stage().apply(wanted), "db").wait(5)
    assert stage.alive() == []
    stage = Stage()
    stage.unstartable["db.1"] = LaunchError("exec", "ENOENT", "/no", "no such file")
    stage.apply(spec(db=job(max_retry=0), web=watcher(depends_on=on("started")))).wait(5)
    assert stage.alive() == []
    assert "no such file" in note(stage)


def test_a_service_of_many_is_ready_when_all_but_one_are() -> None:
    stage = Stage().apply(
        spec(db=watcher(numprocesses=3, backoff=SOON), web=watcher(depends_on=on()))
    )
    stage.exit("db.3", 1)
    stage.wait(0.5).exit("db.3", 1).wait(0.5)
    assert stage.alive() == ["db.1", "db.2", "db.3", "web.1"]


def test_the_only_process_has_to_be_ready() -> None:
    stage = Stage().apply(spec(db=watcher(), web=watcher(depends_on=on())))
    stage.wait(0.5).exit("db.1", 1).wait(0.9)
    assert stage.alive() == ["db.1"]
    stage.wait(0.1)
    assert stage.alive() == ["db.1", "web.1"]


def test_a_dependency_that_needed_three_restarts_opens_the_gate() -> None:
    stage = Stage().apply(spec(db=watcher(backoff=SOON), web=watcher(depends_on=on())))
    for _ in range(4):
        stage.exit("db.1", 3)
        stage.wait(0.5)
    assert stage.spawned("web") == []
    stage.wait(2)
    assert stage.alive() == ["db.1", "web.1"]


def test_the_note_follows_what_the_dependency_does() -> None:
    stage = Stage().apply(spec(db=watcher(backoff=SOON), web=watcher(depends_on=on())))
    for _ in range(4):
        stage.exit("db.1", 3)
    assert note(stage) == "waiting for db to be ready: BackOff: exit 3, 4 times in a row"


@pytest.mark.parametrize(
    ("condition", "code", "starts"),
    [
        ("succeeded", 0, True),
        ("succeeded", 3, False),
        ("completed", 0, True),
        ("completed", 3, True),
    ],
)
def test_a_job_is_waited_for_to_its_end(condition: str, code: int, starts: bool) -> None:
    wanted = spec(migrate=job(), web=watcher(depends_on=on(condition, "migrate")))
    stage = Stage().apply(wanted)
    assert stage.alive() == ["migrate.1"]
    stage.wait(2).exit("migrate.1", code)
    assert stage.alive() == (["web.1"] if starts else [])
    if not starts:
        assert note(stage) == "waiting for migrate to succeed: failed: exit 3"


@pytest.mark.parametrize("required", [True, False])
def test_who_waits_for_the_end_of_a_job_waits_for_all_of_it(required: bool) -> None:
    dependency = DependencySpec("completed", required=required)
    wanted = spec(mig=job(numprocesses=2), web=watcher(depends_on={"mig": dependency}))
    stage = Stage().apply(wanted).wait(1).exit("mig.1", 3).wait(5)
    assert (stage.alive("web"), stage.slot("web.1").stuck) == ([], False)
    assert stage.exit("mig.2", 0).wait(1).alive("web") == ["web.1"]


def test_all_slots_of_a_job_have_to_succeed() -> None:
    wanted = spec(seed=job(numprocesses=3), web=watcher(depends_on=on("succeeded", "seed")))
    stage = Stage().apply(wanted).exit("seed.1").exit("seed.3")
    assert note(stage) == "waiting for seed to succeed: Running, 2 of 3 have succeeded"
    stage.exit("seed.2")
    assert stage.alive() == ["web.1"]


def test_a_rerun_that_succeeds_opens_the_gate() -> None:
    stage = Stage().apply(spec(migrate=job(), web=watcher(depends_on=on("succeeded", "migrate"))))
    stage.exit("migrate.1", 1)
    again = stage.rerun("migrate", None)
    known = stage.reconciler.observed("migrate").job
    stage.tell(JobChanged("migrate", replace(known, generation=again.generation)))
    assert stage.alive() == ["migrate.1"]
    stage.exit("migrate.1", 0)
    assert stage.alive() == ["web.1"]


def test_a_service_that_rests_after_a_success_has_succeeded() -> None:
    wanted = spec(
        prepare=watcher(restart="on-failure"), web=watcher(depends_on=on("succeeded", "prepare"))
    )
    stage = Stage().apply(wanted).wait(3)
    assert stage.alive() == ["prepare.1"]
    stage.exit("prepare.1", 0)
    assert stage.alive() == ["web.1"]


def test_a_job_waits_for_a_service() -> None:
    stage = Stage().apply(spec(db=watcher(), migrate=job(depends_on=on())))
    assert stage.slot("migrate.1").note.startswith("waiting for db to be ready")
    assert stage.runs == []
    stage.wait(1)
    assert stage.alive() == ["db.1", "migrate.1"]


def test_a_chain_starts_one_after_the_other_and_branches_side_by_side() -> None:
    wanted = spec(
        a=watcher(),
        b=watcher(depends_on=on(name="a")),
        c=watcher(depends_on=on(name="a")),
        d=watcher(depends_on={**on(name="b"), **on(name="c")}),
    )
    stage = Stage().apply(wanted).wait(5)
    starts = [(at, str(a.id)) for at, a in stage.history if isinstance(a, Spawn)]
    assert starts == [(0, "a.1"), (1, "b.1"), (1, "c.1"), (2, "d.1")]


def test_a_slot_that_is_more_than_wanted_by_now_does_not_make_a_watcher_ready() -> None:
    stage = Stage().apply(spec(db=watcher(numprocesses=2, backoff=SOON))).wait(60)
    for _ in range(5):
        stage.exit("db.1", 1)
    assert stage.slot("db.1").state == "BackOff"
    stage.apply(spec(db=watcher(backoff=SOON), web=watcher(depends_on=on())))
    assert "web.1" not in stage.alive()
    stage.wait(60)
    assert stage.alive() == ["db.1", "web.1"]


@pytest.mark.parametrize("code", [0, 1])
def test_what_runs_of_a_job_that_was_scaled_down_have_come_to_does_not_count(code: int) -> None:
    web = watcher(depends_on=on("completed", "a"))
    stage = Stage().apply(spec(a=job(numprocesses=3), web=web))
    stage.exit("a.2", code).exit("a.3", code)
    stage.tell(IntentChanged("a", scaled(NO_INTENT, ALICE, 1))).wait(60)
    assert stage.alive() == ["a.1"]
    stage.exit("a.1", 1)
    assert stage.alive() == ["web.1"]


# ---- what does not come by itself ---------------------------------------------------------------------


def held(stage: Stage, name: str) -> Stage:
    return stage.tell(IntentChanged(name, stopped(NO_INTENT, ALICE)))


@pytest.mark.parametrize(
    ("db", "why"),
    [
        (watcher(autostart=False), "autostart is false; `reconcile start db` starts it"),
        (watcher(numprocesses=0), "numprocesses is 0; `reconcile scale db=N` starts N"),
    ],
)
def test_a_dependency_that_is_not_started_is_named(db: WatcherSpec, why: str) -> None:
    stage = Stage().apply(spec(db=db, web=watcher(depends_on=on()))).wait(60)
    assert note(stage) == f"waiting for db to be ready: {why}"
    assert stage.alive() == []
    stage = Stage().apply(spec(db=db, web=watcher(depends_on=on(required=False))))
    assert stage.alive() == ["web.1"]


def test_a_dependency_that_an_operator_stops_holds_back_the_next_start_only() -> None:
    stage = Stage().apply(spec(db=watcher(), web=watcher(depends_on=on()))).wait(5)
    held(stage, "db")
    assert stage.alive() == ["web.1"]
    why = "it is stopped by alice; `reconcile start db` starts it"
    assert note(stage) == f"depends on db: {why}"
    stage.exit("web.1", 1)
    assert stage.alive() == []
    assert note(stage) == f"waiting for db to be ready: {why}"
    stage.tell(IntentChanged("db", NO_INTENT)).wait(1)
    assert stage.alive() == ["db.1", "web.1"]


def test_a_dependency_that_is_not_required_is_waited_for_while_it_may_come() -> None:
    stage = Stage().apply(spec(db=watcher(), web=watcher(depends_on=on(required=False))))
    assert stage.alive() == ["db.1"]
    stage.wait(1)
    assert stage.alive() == ["db.1", "web.1"]


def test_a_dependency_that_gave_up_is_passed_over_where_it_is_not_required() -> None:
    limit = MaxRestartsSpec(count=1)
    for required in (True, False):
        stage = Stage().apply(
            spec(db=watcher(max_restarts=limit), web=watcher(depends_on=on(required=required)))
        )
        stage.exit("db.1", 1).exit("db.1", 1)
        assert stage.alive() == ([] if required else ["web.1"])
        if required:
            assert note(stage).startswith("waiting for db to be ready: gave up after")


def test_who_waits_for_one_that_is_stuck_is_stuck_too() -> None:
    wanted = spec(
        db=watcher(autostart=False),
        api=watcher(depends_on=on()),
        web=watcher(depends_on=on(name="api", required=False)),
    )
    assert Stage().apply(wanted).alive() == ["web.1"]


def test_after_its_time_limit_a_slot_has_failed_and_starts_all_the_same_when_it_can() -> None:
    stage = Stage().apply(
        spec(db=watcher(autostart=False), web=watcher(depends_on=on(timeout=5 * S)))
    )
    assert stage.slot("web.1").state == "Waiting"
    stage.wait(5)
    assert stage.slot("web.1").state == "Failed"
    assert note(stage).endswith("`reconcile start db` starts it; gave up after 5s")
    stage.tell(IntentChanged("db", started(NO_INTENT, ALICE, autostart=False))).wait(1)
    assert stage.alive() == ["db.1", "web.1"]


def test_a_job_that_has_waited_too_long_has_neither_started_nor_ended() -> None:
    waits = job(depends_on=on("ready", "api", timeout=10 * S))
    wanted = spec(api=watcher(autostart=False), db=waits, web=watcher(depends_on=on("started")))
    stage = Stage().apply(wanted).wait(20)
    assert (stage.slot("db.1").state, stage.alive()) == ("Failed", [])
    found = goals.judge(Goal("db", "completed"), stage.reconciler.subject("db", stage.now, 0))
    assert (found.state, found.message) == ("failed", stage.slot("db.1").note)
    assert note(stage, "db") == stage.slot("db.1").note  # nothing has run that could be run again


def test_a_job_that_waits_for_its_schedule_is_said_to() -> None:
    nightly = job(schedule=ScheduleSpec(every=3600 * S))
    stage = Stage().apply(spec(db=nightly, web=watcher(depends_on=on("succeeded"))))
    assert note(stage) == "waiting for db to succeed: Scheduled"


def test_a_start_says_of_what_has_waited_too_long_that_it_waits() -> None:
    web = watcher(depends_on=on(timeout=10 * S))
    stage = Stage().apply(spec(db=watcher(autostart=False), web=web)).wait(20)
    subject = stage.reconciler.subject("web", stage.now, 0)
    why = stage.reconciler.why_stuck("web", but=())
    decision = orders.start(replace(subject, awaits=why))
    assert decision.message == ("waits for db: autostart is false; `reconcile start db` starts it")
    assert decision.observations == ()
    # With what it requires nothing is in its way.
    decision = orders.start(subject)
    assert decision.message == "starts as soon as what it requires is there"


def test_the_time_limit_counts_from_the_beginning_of_each_wait() -> None:
    wanted = spec(db=watcher(), web=watcher(depends_on=on(timeout=5 * S)))
    stage = Stage().apply(wanted).wait(10)
    held(stage, "db").exit("web.1", 1).wait(4)
    assert stage.slot("web.1").state == "Waiting"
    stage.wait(1)
    assert stage.slot("web.1").state == "Failed"


# ---- gates before the stop of what they replace --------------------------------------------------------


def deploy(version: int, **web: object) -> tuple[WatcherSpec, WatcherSpec]:
    """Return a migration and a service that depends on it, both of a version."""
    env = {"V": str(version)}
    return job(env=env), watcher(env=env, depends_on=on("succeeded", "migrate"), **web)


@pytest.mark.parametrize("count", [1, 3])
def test_a_service_is_replaced_only_after_its_migration_has_succeeded(count: int) -> None:
    migrate, web = deploy(1, numprocesses=count)
    stage = Stage().apply(spec(migrate=migrate, web=web)).exit("migrate.1").wait(60)
    before = stage.alive("web")
    migrate, web = deploy(2, numprocesses=count)
    stage.try_out(spec(migrate=migrate, web=web))
    pids = [stage.pid(each) for each in before]
    stage.wait(30)
    assert [stage.pid(each) for each in before] == pids
    assert "not replaced yet: waiting for migrate to succeed: Running" in note(stage)
    stage.exit("migrate.1").wait(60)
    assert not {*pids} & {stage.pid(each) for each in before}
    assert stage.outcome == "good"


def test_a_migration_that_fails_leaves_the_old_processes_alone() -> None:
    migrate, web = deploy(1)
    stage = Stage().apply(spec(migrate=migrate, web=web)).exit("migrate.1").wait(60)
    pid = stage.pid("web.1")
    migrate, web = deploy(2)
    stage.try_out(spec(migrate=migrate, web=web)).exit("migrate.1", 7).wait(300)
    assert (stage.pid("web.1"), stage.outcome) == (pid, "paused")
    stage.exit("web.1", 1).wait(60)
    assert stage.alive() == []
    assert note(stage) == "waiting for migrate to succeed: failed: exit 7"


def test_what_waits_for_a_replacement_goes_on_when_a_verdict_has_stopped_that() -> None:
    def version(number: int, **more: WatcherSpec) -> Spec:
        env = {"V": str(number)}
        db = watcher(env=env, numprocesses=2, rollout=RolloutSpec(pause=60 * S))
        return spec(db=db, other=watcher(env=env), **more)

    stage = Stage().apply(version(1)).wait(60)
    stage.try_out(version(2, web=watcher(depends_on=on()))).wait(1.5)
    assert "waiting for db to be replaced" in note(stage)
    stage.exit("other.1", 3)
    assert (stage.outcome, stage.alive("web")) == ("paused", ["web.1"])


@pytest.mark.parametrize("names", [("a", "z"), ("z", "a")])
def test_a_replacement_waits_for_the_newest_of_its_dependency_whatever_the_names(
    names: tuple[str, str],
) -> None:
    db, web = names
    old = {db: watcher(), web: watcher(depends_on=on(name=db))}
    stage = Stage().apply(spec(**old)).wait(60)
    new = {name: replace(each, env={"V": "2"}) for name, each in old.items()}
    at = stage.now / S
    stage.apply(spec(**new)).wait(60)
    starts = [
        (time - at, str(a.id)) for time, a in stage.history if isinstance(a, Spawn) and time >= at
    ]
    assert starts == [(0, f"{db}.1"), (1, f"{web}.1")]


def test_a_process_that_died_comes_back_while_its_dependency_is_being_replaced() -> None:
    old = watcher(numprocesses=4)
    stage = Stage().apply(spec(db=old, web=watcher(depends_on=on()))).wait(60)
    stage.apply(spec(db=replace(old, env={"V": "2"}), web=watcher(depends_on=on())))
    stage.wait(1.5).exit("web.1", 1)
    assert "web.1" in stage.alive()


def test_a_gate_that_closes_again_stops_nobody() -> None:
    stage = Stage().apply(spec(db=watcher(backoff=SOON), web=watcher(depends_on=on()))).wait(60)
    for _ in range(5):
        stage.exit("db.1", 1)
    assert stage.alive() == ["web.1"]
    assert note(stage) == "depends on db: BackOff: exit 1, 4 times in a row"
    assert stage.status("web").state == "Running"


@pytest.mark.parametrize("before", [("http",), ()])
def test_a_socket_that_cannot_be_bound_leaves_the_old_process_serving(
    before: tuple[str, ...],
) -> None:
    """At another address, or one that the process did not have at all."""
    old, new = listener(8000, reuseport=True), listener(9000, reuseport=True)
    user = watcher(use_sockets=("http",))
    stage = Stage().apply(spec({"http": old}, web=watcher(use_sockets=before))).wait(60)
    pid = stage.pid("web.1")
    stage.refused_ports = {9000}
    stage.apply(spec({"http": new}, web=user)).wait(10)
    assert stage.pid("web.1") == pid
    stage.refused_ports = set()
    stage.wait(10)
    assert stage.pid("web.1") != pid


LISTENS, DUE = watcher(use_sockets=("http",)), watcher(depends_on=on(), numprocesses=2)
DUE_AND_LISTENS = replace(DUE, use_sockets=("http",))


@pytest.mark.parametrize("other", [DUE, DUE_AND_LISTENS, replace(DUE, use_sockets=("other",))])
@pytest.mark.parametrize("surge", [0, 1])
def test_who_keeps_an_address_from_what_it_waits_for_gives_way_first(
    other: WatcherSpec, surge: int
) -> None:
    """It has used the socket, still does, or has another one now."""

    def at(port: int, api: WatcherSpec) -> Spec:
        api = replace(api, rollout=RolloutSpec(max_surge=surge))
        return spec({"http": listener(port), "other": listener(7000)}, db=LISTENS, web=api)

    stage = Stage().apply(at(8000, DUE_AND_LISTENS)).wait(60)
    stage.apply(at(9000, other))  # amid the roll of db:
    stage.apply(at(8000, other)).wait(60)
    assert [stage.status(name).as_desired for name in ("db", "web")] == [True, True]


def test_an_address_that_goes_from_a_dependent_to_its_dependency_is_freed_first() -> None:
    web = watcher(use_sockets=("web",), depends_on=on())
    old = {"http": listener(8000), "web": listener(9000)}
    stage = Stage().apply(spec(old, db=LISTENS, mid=watcher(), web=web)).wait(60)
    new = {"http": listener(9000), "web": listener(9001)}
    mid, by_way_of = (
        watcher(depends_on=on(), env={"V": "2"}),
        replace(web, depends_on=on(name="mid")),
    )
    stage.apply(spec(new, db=LISTENS, mid=mid, web=by_way_of)).wait(60)
    assert [each.as_desired for each in map(stage.status, ("db", "mid", "web"))] == [True] * 3


def test_a_socket_that_is_handed_over_is_let_go_by_all_that_use_it_whoever_waits_for_whom() -> None:
    stage = Stage().apply(spec({"http": listener()}, db=LISTENS, web=DUE_AND_LISTENS)).wait(60)
    stage.refused_ports = {8000}  # its own users hold it
    stage.apply(spec({"http": listener(interface="lo")}, db=LISTENS, web=DUE_AND_LISTENS)).wait(1)
    assert stage.alive() == []
    stage.refused_ports = set()
    assert stage.wait(60).alive() == ["db.1", "web.1", "web.2"]


def test_who_is_in_the_way_of_others_waits_for_its_gates_like_anybody() -> None:
    migrate = job(cmd=("migrate", "1"))
    web = watcher(use_sockets=("web",), depends_on=on("succeeded", "migrate"))
    old = {"http": listener(8000), "web": listener(9000)}
    stage = Stage().apply(spec(old, db=LISTENS, migrate=migrate, web=web))
    stage.exit("migrate.1", 0).wait(60)
    new, again = {"http": listener(9000), "web": listener(9001)}, job(cmd=("migrate", "2"))
    stage.apply(spec(new, db=LISTENS, migrate=again, web=replace(web, env={"V": "2"}))).wait(60)
    assert (stage.signals(), stage.status("db").note) == (
        [],
        "not replaced yet: socket http: address in use",
    )
    stage.exit("migrate.1", 0).wait(60)
    assert [each.as_desired for each in map(stage.status, ("db", "web"))] == [True] * 2


# ---- a dependency that is started again -----------------------------------------------------------------


def test_a_dependent_is_replaced_when_its_dependency_was_started_again_and_is_ready() -> None:
    wanted = spec(db=watcher(), web=watcher(depends_on=on(on_restart="restart")))
    stage = Stage().apply(wanted).wait(60)
    pid = stage.pid("web.1")
    stage.exit("db.1", 1).wait(0.9)
    assert stage.pid("web.1") == pid
    stage.wait(0.1)
    assert stage.pid("web.1") != pid
    pid = stage.pid("web.1")
    stage.wait(600)
    assert stage.pid("web.1") == pid


def test_a_dependent_is_replaced_once_by_a_roll_and_not_by_a_scaling() -> None:
    db = watcher(numprocesses=3)
    web = watcher(depends_on=on(on_restart="restart"))
    stage = Stage().apply(spec(db=db, web=web)).wait(60)
    assert len(stage.spawned("web")) == 1
    stage.apply(spec(db=replace(db, env={"V": "2"}), web=web)).wait(60)
    assert len(stage.spawned("web")) == 2
    stage.tell(IntentChanged("db", scaled(NO_INTENT, ALICE, 5))).wait(60)
    assert len(stage.spawned("web")) == 2


def test_each_slot_waits_until_its_own_timeout() -> None:
    web = watcher(depends_on=on(timeout=30 * S))
    stage = Stage().apply(spec(db=watcher(autostart=False), web=web)).wait(20)
    stage.tell(IntentChanged("web", scaled(NO_INTENT, ALICE, 2))).wait(10)
    assert [each.state for each in stage.status("web").slots] == ["Failed", "Waiting"]
    stage.wait(20)
    assert [each.state for each in stage.status("web").slots] == ["Failed", "Failed"]


def test_a_timeout_goes_on_while_more_is_to_be_done_than_one_turn_allows() -> None:
    web = watcher(numprocesses=1000, reload=ReloadBySignal("HUP"), depends_on=on(timeout=30 * S))
    stage = Stage().apply(spec(db=watcher(), web=web)).wait(60)
    stage.tell(IntentChanged("db", stopped(NO_INTENT, ALICE)))
    more = scaled(NO_INTENT, ALICE, 1001)
    stage.tell(IntentChanged("web", more)).wait(20)
    assert stage.slot("web.1001").state == "Waiting"
    stage.tell(IntentChanged("web", reloaded(more, None))).wait(10)
    assert len(stage.signals()) == 1001
    assert stage.slot("web.1001").state == "Failed"


def test_of_thousands_of_slots_the_one_that_was_started_again_is_not_missed() -> None:
    """More is to be done with the others than one turn allows, when it starts and when it is ready."""
    db = watcher(numprocesses=1, ready=ReadySpec(delay=5 * S))
    wanted = spec(db=db, web=watcher(depends_on=on(on_restart="restart")))
    stage = Stage().apply(wanted).wait(60)
    pid = stage.pid("web.1")
    many = IntentChanged("db", scaled(NO_INTENT, ALICE, 2000))
    ended = stage._died(process("db.1"), Exit(code=1))
    stage.tell(ended, many).wait(4.9)
    assert stage.pid("web.1") == pid
    stage.wait(0.2)
    assert stage.pid("web.1") != pid


def test_a_new_controller_finds_that_a_dependency_was_started_again() -> None:
    wanted = spec(db=watcher(), web=watcher(depends_on=on(on_restart="restart")))
    stage = Stage().apply(wanted).wait(60).exit("db.1", 1)
    pid = stage.pid("web.1")
    stage.new_controller(wanted).wait(2)
    assert stage.pid("web.1") != pid
    assert len(stage.new_controller(wanted).wait(60).spawned("web")) == 2


# ---- the order of stops --------------------------------------------------------------------------------


def test_a_shutdown_stops_dependents_first_and_waits_for_them() -> None:
    quick = StopSpec(timeout=2 * S)
    wanted = spec(
        db=watcher(stop=quick),
        api=watcher(stop=quick, depends_on=on()),
        web=watcher(stop=quick, depends_on=on(name="api")),
        other=watcher(),
    )
    stage = Stage().apply(wanted).wait(5)
    stage.stubborn = frozenset({"api.1"})
    at = stage.now / S
    stage.tell(ShutdownAsked())
    assert note(stage, "db") == "waiting until api has stopped, which depends on it"
    stage.wait(10)
    asked = [(time - at, name) for time, name, signal in stage.signals() if signal == "TERM"]
    assert asked == [(0, "web.1"), (0, "other.1"), (0, "api.1"), (2, "db.1")]
    assert stage.quit == 1


def test_an_edit_that_frees_from_a_dependent_lets_a_stop_go_on() -> None:
    free = {"db": watcher(), "api": watcher()}
    stage = Stage().apply(spec(**free, web=watcher(depends_on=on()))).wait(5)
    stage.drains = frozenset({"api.1", "web.1"})
    said = stopped(NO_INTENT, ALICE)
    stage.tell(*(IntentChanged(name, said) for name in ("db", "api", "web")))
    assert stage.alive() == ["api.1", "db.1", "web.1"]
    stage.apply(spec(**free, web=watcher()))
    assert stage.alive() == ["api.1", "web.1"]


def test_a_stop_names_all_that_it_waits_for() -> None:
    wanted = spec(db=watcher(), api=watcher(depends_on=on()), web=watcher(depends_on=on()))
    stage = Stage().apply(wanted).wait(5)
    stage.drains = frozenset({"api.1", "web.1"})
    stage.tell(ShutdownAsked())
    assert note(stage, "db") == "waiting until api, web have stopped, which depend on it"


def test_a_slot_that_is_being_replaced_takes_none_of_the_others_along_before_their_turn() -> None:
    stage = Stage().apply(spec(db=watcher(numprocesses=3), web=watcher(depends_on=on()))).wait(5)
    stage.drains = frozenset({"db.1", "web.1"})
    stage.tell(IntentChanged("db", restarted(NO_INTENT, None, at_once=False)))
    stage.tell(ShutdownAsked())
    assert [name for _, name, _ in stage.signals()] == ["db.1", "web.1"]
    stage.exit("db.1")
    assert stage.alive() == ["db.2", "db.3", "web.1"]
    stage.exit("web.1")
    assert stage.quit == 0


def test_priority_is_an_order_among_those_that_do_not_depend_on_each_other() -> None:
    wanted = spec(db=watcher(), web=watcher(priority=9, depends_on=on()), low=watcher(priority=-1))
    stage = Stage().apply(wanted).wait(5)
    stage.drains = frozenset({"web.1", "low.1"})
    stage.tell(ShutdownAsked())
    assert [name for _, name, _ in stage.signals()] == ["low.1"]
    stage.drains = frozenset({"web.1"})
    stage.exit("low.1")
    assert [name for _, name, _ in stage.signals()] == ["low.1", "web.1"]
    stage.exit("web.1")
    assert [name for _, name, _ in stage.signals()] == ["low.1", "web.1", "db.1"]


def test_what_is_removed_together_goes_in_the_order_of_its_dependencies() -> None:
    wanted = spec(db=watcher(), web=watcher(depends_on=on()), other=watcher())
    stage = Stage().apply(wanted).wait(5)
    stage.drains = frozenset({"web.1"})
    stage.apply(spec(other=watcher()))
    assert [name for _, name, _ in stage.signals()] == ["web.1"]
    stage.exit("web.1")
    assert [name for _, name, _ in stage.signals()] == ["web.1", "db.1"]


def test_a_dependency_that_is_stopped_alone_waits_for_nobody() -> None:
    stage = Stage().apply(spec(db=watcher(), web=watcher(depends_on=on()))).wait(5)
    held(stage, "db")
    assert [name for _, name, _ in stage.signals()] == ["db.1"]


# ---- a spec of jobs alone -------------------------------------------------------------------------------


def test_jobs_that_wait_for_one_that_failed_are_over_too() -> None:
    wanted = spec(
        a=job(), b=job(depends_on=on("succeeded", "a")), c=job(depends_on=on("succeeded", "b"))
    )
    stage = Stage().apply(wanted)
    core = stage.reconciler
    assert core.jobs_done(stage.now) is None
    stage.exit("a.1", 1)
    assert core.jobs_done(stage.now) == 1
    assert stage.spawned() == ["a.1"]


# ---- many ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_graph_starts_in_the_time_of_its_longest_chain_and_stops_the_other_way(seed: int) -> None:
    luck = random.Random(seed)
    names = [f"w{number}" for number in range(100)]
    luck.shuffle(names)
    needs = {
        name: luck.sample(names[:place], min(place, luck.choice((0, 1, 1, 2, 5))))
        for place, name in enumerate(names)
    }
    wanted = {
        name: watcher(depends_on=dict.fromkeys(sorted(needs[name]), DependencySpec("ready")))
        for name in names
    }
    stage = Stage().apply(spec(**dict(sorted(wanted.items())))).wait(200)
    started = {str(a.id): at for at, a in stage.history if isinstance(a, Spawn)}
    for name in names:
        due = max((started[f"{each}.1"] + 1 for each in needs[name]), default=0)
        assert started[f"{name}.1"] == due
    stage.tell(ShutdownAsked())
    order = [name.removesuffix(".1") for _, name, _ in stage.signals()]
    assert sorted(order) == sorted(names)
    for name in names:
        assert all(order.index(name) < order.index(each) for each in needs[name])


def test_an_end_counts_when_it_is_on_the_disk() -> None:
    stage = Stage().apply(spec(a=job(), web=watcher(depends_on=on("completed", "a"))))
    stage.hold_runs = True
    stage.exit("a.1", 0)
    assert stage.alive() == []
    stage.tell(RunRecorded("a", stage.runs[-1].run))
    assert stage.alive() == ["web.1"]


def test_what_ran_before_anybody_depended_on_it_is_found_to_be_ready() -> None:
    stage = Stage().apply(spec(db=watcher())).wait(60)
    stage.apply(spec(db=watcher(), web=watcher(depends_on=on())))
    assert stage.alive() == ["db.1", "web.1"]


def test_how_one_stands_is_found_anew_when_somebody_depends_on_it_again() -> None:
    web = watcher(depends_on=on("completed", "a"))
    stage = Stage().apply(spec(a=job(), web=web)).wait(1)
    stage.apply(spec(a=job(), web=watcher(autostart=False))).exit("a.1", 0)
    stage.apply(spec(a=job(), web=web))
    assert stage.alive() == ["web.1"]


def test_a_run_of_a_former_generation_is_no_start_of_the_newest() -> None:
    stage = Stage().apply(spec(a=job(), web=watcher(depends_on=on("started", "a")))).wait(5)
    pid = stage.pid("web.1")
    edited = spec(a=job(env={"V": "2"}), web=watcher(env={"V": "2"}, depends_on=on("started", "a")))
    stage.apply(edited).wait(5)
    assert stage.pid("web.1") == pid
    stage.exit("a.1", 0).wait(5)
    assert stage.pid("web.1") != pid


def test_a_run_goes_on_until_the_one_that_takes_its_place_could_start() -> None:
    stage = Stage().apply(spec(db=watcher(), load=job(depends_on=on()))).wait(5)
    held(stage, "db")
    pid = stage.pid("load.1")
    again = stage.rerun("load", None, overlap="replace")
    known = stage.reconciler.observed("load").job
    stage.tell(JobChanged("load", replace(known, generation=again.generation))).wait(60)
    assert stage.pid("load.1") == pid
    assert "not replaced yet: waiting for db to be ready" in note(stage, "load")
    stage.tell(IntentChanged("db", NO_INTENT)).wait(5)
    assert stage.pid("load.1") != pid
