"""Slots beyond those wanted serve in place of others while these are replaced (`rollout.max_surge`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reconciler.core.intents import restarted, scaled
from reconciler.model.action import Signal, Spawn
from reconciler.model.intent import NO_INTENT, NOBODY
from reconciler.model.observation import IntentChanged
from reconciler.model.process import Running
from reconciler.model.spec import (
    DaemonSpec,
    DependencySpec,
    HealthSpec,
    HooksSpec,
    ReadySpec,
    RolloutSpec,
)
from reconciler.model.value import replace
from tests.core.stage import HOOK, S, Stage, job, listener, process, spec, watcher

if TYPE_CHECKING:
    from reconciler.model.spec import Spec


def web(
    cmd: str, count: int = 3, surge: int | str = 1, most: int | str | None = None, **fields: object
) -> Spec:
    """Return a spec of one watcher with so many slots, and so many beyond them."""
    fields = {"cmd": (cmd,), "numprocesses": count, **fields}
    pause = fields.pop("pause", 0) * S  # type: ignore[operator]
    rollout = RolloutSpec(max_unavailable=most, max_surge=surge, pause=pause)
    return spec(web=watcher(rollout=rollout, **fields))


def settled(count: int = 3, **how: object) -> Stage:
    return Stage().apply(web("old", count, **how)).wait(10)  # type: ignore[arg-type]


def story(stage: Stage, since: float = 10) -> list[tuple[float, str]]:
    """Return what was started (+) and asked to end (-), and when."""
    signs = {Spawn: "+", Signal: "-"}
    return [
        (at - since, f"{signs[type(action)]}{action.id.slot}")
        for at, action in stage.history
        if at >= since and isinstance(action, Spawn | Signal) and action.id.role == "main"
    ]


def unready(version: str, **how: object) -> Spec:
    """Return a spec whose processes are ready when a probe says so."""
    ready = ReadySpec(exec=("check",), deadline=None)
    return web(version, ready=ready, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "surge", "most", "seen"),
    [
        (1, 1, None, [(0, "+2"), (1, "-1"), (1, "+1"), (2, "-2")]),
        (2, 1, 0, [(0, "+3"), (1, "-1"), (1, "+1"), (2, "-2"), (2, "+2"), (3, "-3")]),
        (2, "50%", None, [(0, "+3"), (1, "-1"), (1, "+1"), (2, "-2"), (2, "+2"), (3, "-3")]),
        (2, 9, None, [(0, "+3"), (0, "+4"), (1, "-1"), (1, "-2"), (1, "+1"), (1, "+2"), (2, "-3"), (2, "-4")]),
        (2, 1, 1, [(0, "-1"), (0, "+3"), (0, "+1"), (1, "-2"), (1, "+2"), (2, "-3")]),
        (2, 0, 1, [(0, "-1"), (0, "+1"), (1, "-2"), (1, "+2")]),
    ],
)  # fmt: skip
def test_nobody_ends_before_another_one_serves_in_its_place(
    count: int, surge: int | str, most: int | None, seen: list[tuple[float, str]]
) -> None:
    stage = settled(count, surge=surge, most=most)
    stage.apply(web("new", count, surge, most)).wait(20)
    assert story(stage) == seen
    assert stage.status("web").as_desired
    assert stage.alive("web") == [f"web.{slot}" for slot in range(1, count + 1)]


@pytest.mark.parametrize(("most", "least"), [(0, 5), (1, 4), (2, 3)])
@pytest.mark.parametrize("surge", [1, 2, 3])
def test_so_many_serve_all_the_while_and_no_more_than_so_many_live(
    surge: int, most: int, least: int
) -> None:
    stage = settled(5, surge=surge, most=most)
    stage.apply(web("new", 5, surge, most))
    for _ in range(100):
        stage.wait(0.1)
        serving = [slot for slot in stage.status("web").slots if slot.state == "Running"]
        assert len(serving) >= least
        assert len(stage.alive("web")) <= 5 + surge
    assert stage.status("web").as_desired


def test_many_slots_are_replaced_as_many_at_a_time_as_serve_beside_them() -> None:
    stage = settled(100, surge="30%")
    stage.apply(web("new", 100, surge="30%")).wait(1)
    assert story(stage)[:30] == [(0, f"+{slot}") for slot in range(101, 131)]
    ends = [what for at, what in story(stage) if at and what[0] == "-"]
    assert ends == [f"-{slot}" for slot in range(1, 31)]
    stage.wait(20)
    assert stage.status("web").as_desired
    assert sum(what[0] == "+" for _, what in story(stage)) == 130


def test_who_waits_for_the_watcher_sees_it_ready_all_the_while() -> None:
    stage = settled(1)
    stage.apply(web("new", 1))
    for _ in range(40):
        ready = next(each for each in stage.wait(0.1).status("web").conditions if each.type == "Ready")  # fmt: skip
        assert ready.status


def test_a_version_that_is_never_ready_replaces_nobody() -> None:
    stage = Stage().apply(unready("old", count=2)).wait(1)
    for name in ("web.1", "web.2"):
        stage.exit(f"{name}:ready", 0)
    stage.wait(10).apply(unready("bad", count=2)).wait(600)
    assert [what for _, what in story(stage, 11)] == ["+3"]
    seen = stage.status("web")
    assert (seen.state, seen.ready) == ("Rolling", 2)
    assert seen.note.startswith("0 of 2 replaced, slot 3 is not ready: ")


@pytest.mark.parametrize("on_failure", ["pause", "rollback"])
def test_the_revision_fails_with_the_one_beyond_and_that_goes(on_failure: str) -> None:
    stage = settled(2)
    stage.try_out(web("bad", 2), on_failure)  # type: ignore[arg-type]
    stage.exit("web.3", 1)
    assert stage.outcome == {"pause": "paused", "rollback": "rolled_back"}[on_failure]
    if on_failure == "rollback":
        stage.apply(web("old", 2))
    stage.wait(100)
    assert not any(what.startswith("-") for _, what in story(stage))
    assert stage.alive("web") == ["web.1", "web.2"]
    assert stage.status("web").ready == 2


def test_one_beyond_that_dies_is_started_again_and_the_roll_waits() -> None:
    stage = settled(2)
    stage.apply(web("new", 2)).wait(0.5).exit("web.3", 1).wait(20)
    assert story(stage)[:4] == [(0, "+3"), (0.5, "+3"), (1.5, "-1"), (1.5, "+1")]
    assert stage.status("web").as_desired


def test_one_beyond_that_fails_stops_the_roll_though_others_might_be_missing() -> None:
    stage = settled(4, most=1)
    stage.apply(web("new", 4, most=1))
    for _ in range(20):
        stage.exit("web.5", 1) if "web.5" in stage.alive() else None
        stage.wait(0.5)
    assert {what for _, what in story(stage) if what[0] == "-"} == {"-1"}
    stage.wait(60)
    assert stage.status("web").as_desired


def test_one_beyond_that_dies_while_it_serves_is_missed_as_any_other() -> None:
    stage = settled(2)
    stage.apply(web("new", 2)).wait(1.5).exit("web.3", 1).wait(20)
    assert story(stage) == [
        *[(0, "+3"), (1, "-1"), (1, "+1"), (1.5, "+3")],
        *[(2.5, "-2"), (2.5, "+2"), (3.5, "-3")],
    ]


def test_what_dies_in_a_roll_keeps_the_one_beyond() -> None:
    stage = settled(1)
    stage.apply(web("new", 1)).wait(1.5).exit("web.1", 1).wait(0.9)
    assert stage.alive("web") == ["web.1", "web.2"]
    assert story(stage.wait(20))[-1] == (2.5, "-2")


def test_the_pause_comes_after_the_first_one_beyond_too() -> None:
    stage = settled(1, pause=5)
    stage.apply(web("new", 1, pause=5)).wait(30)
    assert story(stage) == [(0, "+2"), (6, "-1"), (6, "+1"), (12, "-2")]


def test_a_restart_is_served_beside_too_but_for_one_of_all_at_once() -> None:
    stage = settled(1)
    stage.tell(IntentChanged("web", restarted(NO_INTENT, None, at_once=False))).wait(20)
    assert story(stage) == [(0, "+2"), (1, "-1"), (1, "+1"), (2, "-2")]
    stage = settled(2)
    stage.tell(IntentChanged("web", restarted(NO_INTENT, None, at_once=True))).wait(20)
    assert story(stage) == [(0, "-1"), (0, "-2"), (0, "+1"), (0, "+2")]


def test_another_restart_meanwhile_takes_no_one_beyond_along() -> None:
    stage = settled(1)
    first = restarted(NO_INTENT, None, at_once=False)
    stage.tell(IntentChanged("web", first)).wait(0.5)
    stage.tell(IntentChanged("web", restarted(first, None, at_once=False))).wait(20)
    assert story(stage) == [(0, "+2"), (1, "-1"), (1, "+1"), (2, "-2")]


@pytest.mark.parametrize("at", [0.5, 1.0, 1.5, 2.0, 2.5])
def test_the_next_controller_goes_on(at: float) -> None:
    stage = settled(2)
    stage.apply(web("new", 2)).wait(at).new_controller(web("new", 2)).wait(20)
    seen = [(0, "+3"), (1, "-1"), (1, "+1"), (2, "-2"), (2, "+2"), (3, "-3")]
    assert story(stage) == seen


@pytest.mark.parametrize("at", [0.5, 1.5, 2.5])
def test_an_edit_meanwhile_replaces_the_one_beyond_when_nobody_misses_it(at: float) -> None:
    stage = settled(2)
    stage.apply(web("new", 2)).wait(at).apply(web("newer", 2))
    for _ in range(100):
        states = [slot.state for slot in stage.wait(0.1).status("web").slots]
        assert states.count("Running") >= 2
    assert stage.status("web").as_desired


def test_one_beyond_becomes_one_of_those_wanted_when_there_are_to_be_more() -> None:
    stage = settled(1)
    stage.apply(web("new", 1)).wait(0.5)
    stage.tell(IntentChanged("web", scaled(NO_INTENT, NOBODY, 2))).wait(20)
    assert story(stage) == [(0, "+2"), (0.5, "+3"), (1.5, "-1"), (1.5, "+1"), (2.5, "-3")]


def test_those_that_are_too_many_give_way_to_the_one_beyond() -> None:
    stage = settled(3)
    stage.apply(web("new", 1)).wait(20)
    seen = [(0, "-2"), (0, "-3"), (0, "+2"), (1, "-1"), (1, "+1"), (2, "-2")]
    assert sorted(story(stage)) == sorted(seen)


def test_one_beyond_that_is_too_old_itself_goes_when_nobody_is_missing() -> None:
    stage = settled(4, max_age=8 * S)
    for _ in range(600):
        stage.wait(0.1)
        serving = [slot for slot in stage.status("web").slots if slot.state == "Running"]
        assert len(serving) >= 4
        for record in stage.records.values():
            assert isinstance(record.phase, Running)
            assert stage.now - record.phase.started_at_ns < 13 * S


def test_the_one_beyond_waits_for_what_a_new_process_waits_for() -> None:
    hooks, needs = HooksSpec(before_spawn=HOOK), {"migrate": DependencySpec("succeeded")}
    old, new = (
        web("old", 1, hooks=hooks, depends_on=needs),
        web("new", 1, hooks=hooks, depends_on=needs),
    )
    migrate = job(cmd=("migrate",))
    stage = Stage().apply(spec(migrate=migrate, **old.watchers)).exit("migrate.1", 0)
    stage.exit("web.1:before_spawn", 0).wait(10)
    again = job(cmd=("migrate", "more"))
    stage.apply(spec(migrate=again, **new.watchers)).wait(60)
    assert process("web.2:before_spawn") not in stage.records
    stage.exit("migrate.1", 0).wait(10)
    assert stage.alive("web") == ["web.1"]
    stage.exit("web.2:before_spawn", 0).wait(1)
    assert stage.alive("web") == ["web.1", "web.2"]
    stage.exit("web.1:before_spawn", 0).wait(20)
    assert stage.alive("web") == ["web.1"]
    assert stage.status("web").as_desired


def test_a_stop_takes_the_one_beyond_along() -> None:
    stage = settled(2)
    stage.apply(web("new", 2)).wait(0.5)
    stage.tell(IntentChanged("web", replace(NO_INTENT, hold="stopped"))).wait(20)
    assert stage.alive("web") == []
    assert not stage.records


def test_the_one_beyond_takes_a_place_of_those_that_are_replaced_over_all_watchers() -> None:
    many = {f"w{n}": watcher(cmd=("old",), rollout=RolloutSpec(max_surge=1)) for n in range(4)}
    new = {name: replace(each, cmd=("new",)) for name, each in many.items()}
    braked = DaemonSpec(max_concurrent_restarts=1)
    stage = Stage().apply(replace(spec(**many), daemon=braked)).wait(10)
    stage.apply(replace(spec(**new), daemon=braked))
    most = 0
    for _ in range(200):
        stage.wait(0.1)
        coming = [
            r for id, r in stage.records.items() if id.slot == 2 and not r.memory.took_over_ns
        ]
        most = max(most, len(coming))
    assert most == 1
    assert all(stage.status(name).as_desired for name in many)


def test_the_one_beyond_has_a_socket_of_its_own_for_its_time() -> None:
    sockets = {"http": listener(reuseport=True)}
    stage = Stage().apply(replace(web("old", 1, use_sockets=("http",)), sockets=sockets)).wait(10)
    stage.apply(replace(web("new", 1, use_sockets=("http",)), sockets=sockets)).wait(0.5)
    assert sorted(stage.sockets) == ["http.1", "http.2"]
    stage.wait(20)
    assert sorted(stage.sockets) == ["http.1"]
    assert stage.status("web").as_desired


def test_an_unhealthy_one_beyond_is_replaced() -> None:
    health = HealthSpec(tcp="80", failures=1)
    stage = Stage().apply(web("old", 1, health=health, pause=60)).wait(10)
    stage.apply(web("new", 1, health=health, pause=60)).wait(5)
    stage.answer("web.2:health", "refused").wait(1)
    assert story(stage) == [(0, "+2"), (5, "-2"), (5, "+2"), (6, "-1"), (6, "+1")]


def test_one_beyond_that_is_unhealthy_and_is_to_be_left_alone_goes_with_the_roll() -> None:
    health = HealthSpec(tcp="80", failures=1, action="none")
    stage = Stage().apply(web("old", 1, health=health)).wait(10)
    stage.apply(web("new", 1, health=health)).wait(1.5)
    assert stage.alive() == ["web.1", "web.2"]
    stage.answer("web.2:health", "refused").wait(60)
    assert stage.alive() == ["web.1"]
    assert stage.status("web").as_desired


def test_one_beyond_that_is_in_the_way_of_a_socket_goes() -> None:
    def at(port: int) -> Spec:
        fields = web("it", 2, use_sockets=("http",)).watchers
        return spec({"http": listener(port)}, **fields)

    stage = Stage().apply(at(8000)).wait(10)
    stage.apply(at(9000)).wait(1.5)
    assert stage.alive() == ["web.1", "web.2", "web.3"]
    stage.apply(at(8000)).wait(0.2)
    stage.apply(at(9000)).wait(60)
    assert stage.alive() == ["web.1", "web.2"]
    assert stage.status("web").as_desired


def test_one_beyond_that_has_succeeded_keeps_nobody_from_being_replaced() -> None:
    stage = settled(2, restart="on-failure")
    stage.apply(web("new", 2, restart="on-failure")).wait(0.5)
    stage.exit("web.3", 0).wait(60)
    assert stage.alive() == ["web.1", "web.2"]
    assert stage.status("web").as_desired
