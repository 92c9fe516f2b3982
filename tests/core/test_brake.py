"""How many slots of all watchers are replaced at a time: `daemon.max_concurrent_restarts`."""

from __future__ import annotations

import pytest

from reconciler.core.intents import restarted, stopped
from reconciler.model.intent import NO_INTENT, RequestedBy
from reconciler.model.observation import IntentChanged
from reconciler.model.process import Exited
from reconciler.model.spec import DaemonSpec, HooksSpec, RolloutSpec, Spec, WatcherSpec
from reconciler.model.value import replace
from tests.core.stage import HOOK, Stage, listener, process, watcher


def braked(most: int | None, **watchers: WatcherSpec) -> Spec:
    return Spec(daemon=DaemonSpec(max_concurrent_restarts=most), watchers=watchers)


def services(cmd: str, count: int = 4, **fields: object) -> dict[str, WatcherSpec]:
    return {f"w{n}": watcher(cmd=(cmd,), **fields) for n in range(count)}


def stops(stage: Stage) -> list[tuple[float, str]]:
    """Return who was asked to end, and when after the first ten seconds."""
    return [(at - 10, name) for at, name, _ in stage.signals() if ":" not in name]


def settled(most: int | None, count: int = 4, **fields: object) -> Stage:
    return Stage().apply(braked(most, **services("old", count, **fields))).wait(10)


@pytest.mark.parametrize(
    ("most", "at"), [(1, [0, 1, 2, 3]), (2, [0, 0, 1, 1]), (9, [0] * 4), (None, [0] * 4)]
)
def test_so_many_slots_of_all_watchers_are_replaced_at_a_time(
    most: int | None, at: list[int]
) -> None:
    stage = settled(most).apply(braked(most, **services("new"))).wait(20)
    assert [each for each, _ in stops(stage)] == at
    assert all(stage.status(f"w{n}").as_desired for n in range(4))


def test_who_waits_says_for_what() -> None:
    stage = settled(1).apply(braked(1, **services("new")))
    seen = stage.status("w3")
    assert (seen.state, seen.note) == (
        "Rolling",
        "not replaced yet: 1 other restart is under way (daemon.max_concurrent_restarts)",
    )


def test_each_has_its_turn_before_anybody_has_the_next() -> None:
    rollout = RolloutSpec(max_unavailable=2)
    stage = settled(1, 2, numprocesses=3, rollout=rollout)
    stage.apply(braked(1, **services("new", 2, numprocesses=3, rollout=rollout))).wait(20)
    turns = ["w0.1", "w0.2", "w1.1", "w0.3", "w1.2", "w1.3"]
    assert stops(stage) == [*enumerate(turns)]


def test_a_restart_of_all_at_once_waits_for_no_place_and_the_others_wait_for_it() -> None:
    stage = settled(1, 2, numprocesses=3)
    stage.tell(IntentChanged("w1", restarted(NO_INTENT, None, at_once=False)))
    stage.tell(IntentChanged("w0", restarted(NO_INTENT, None, at_once=True)))
    first = [(0, "w1.1"), (0, "w0.1"), (0, "w0.2"), (0, "w0.3")]
    assert stops(stage) == first
    assert stops(stage.wait(20)) == [*first, (1, "w1.2"), (2, "w1.3")]
    # An edit was not asked for in one go.
    stage.apply(braked(1, **services("new", 2, numprocesses=3)))
    assert len(stops(stage)) == len(first) + 3


def test_restarts_of_operators_wait_too_and_crashes_and_first_starts_do_not() -> None:
    stage = settled(1, 2)
    stage.stubborn = frozenset({"w0.1"})
    for name in ("w0", "w1"):
        stage.tell(IntentChanged(name, restarted(NO_INTENT, None, at_once=False)))
    stage.exit("w1.1", 1)
    assert "w1.1" in stage.alive()
    stage.apply(braked(1, **services("old", 2), new=watcher()))
    assert "new.1" in stage.alive()
    assert stops(stage.wait(5)) == [(0, "w0.1")]


def test_one_that_fails_keeps_nobody_waiting() -> None:
    stage = settled(1, 2)
    stage.apply(braked(1, **services("bad", 2))).wait(0.5).exit("w0.1", 1).wait(0.1)
    assert stops(stage) == [(0, "w0.1"), (0.5, "w1.1")]


def test_one_that_takes_its_time_to_end_keeps_the_others_waiting() -> None:
    stage = settled(1, 2)
    stage.stubborn = frozenset({"w0.1"})
    stage.apply(braked(1, **services("new", 2))).wait(30)
    assert stops(stage) == [(0, "w0.1"), (10, "w0.1"), (11, "w1.1")]


def test_one_that_waits_at_a_gate_with_no_process_takes_no_place() -> None:
    stage = settled(1, 2)
    stage.stubborn = frozenset({"w0.1"})
    stage.apply(braked(1, **services("new", 2))).wait(1)
    held = {"w0": watcher(cmd=("new",), secrets={"KEY": "k"}), "w1": watcher(cmd=("new",))}
    stage.apply(braked(1, **held)).wait(10)
    assert stage.slot("w0.1").state == "Waiting"
    assert stops(stage)[2:] == [(10, "w1.1")]


def test_one_that_is_stopped_meanwhile_takes_no_place() -> None:
    fields = {"hooks": HooksSpec(after_stop=HOOK)}
    stage = settled(1, 2, **fields)
    stage.drains = frozenset({"w0.1"})
    stage.apply(braked(1, **services("new", 2, **fields)))
    stage.tell(IntentChanged("w0", stopped(NO_INTENT, RequestedBy("alice"))))
    stage.exit("w0.1")
    assert stops(stage) == [(0, "w0.1"), (0, "w1.1")]


def test_nobody_waits_for_a_hook_that_is_still_to_say_whether_it_may_begin() -> None:
    hooks = HooksSpec(before_spawn=HOOK)
    specs = {"w0": watcher(hooks=hooks), "w1": watcher()}
    stage = Stage().apply(braked(1, **specs)).exit("w0.1:before_spawn", 0).wait(10)
    changed = {name: replace(each, cmd=("new",)) for name, each in specs.items()}
    stage.apply(braked(1, **changed))
    assert stops(stage) == [(0, "w1.1")]
    stage.exit("w0.1:before_spawn", 0).wait(5)
    assert stops(stage) == [(0, "w1.1"), (1, "w0.1")]


def test_a_new_controller_knows_who_is_being_replaced() -> None:
    stage = settled(2)
    stage.stubborn = frozenset({"w0.1"})
    wanted = braked(2, **services("new"))
    stage.apply(wanted).new_controller(wanted)
    assert stops(stage) == [(0, "w0.1"), (0, "w1.1")]
    stage.wait(60)
    assert all(stage.status(f"w{n}").as_desired for n in range(4))


def test_another_number_counts_at_once() -> None:
    stage = settled(1)
    stage.stubborn = frozenset({f"w{n}.1" for n in range(4)})
    stage.apply(braked(1, **services("new"))).wait(1)
    stage.apply(braked(3, **services("new"))).wait(1)
    assert stops(stage) == [(0, "w0.1"), (1, "w1.1"), (1, "w2.1")]
    stage.apply(braked(None, **services("new")))
    assert stops(stage)[3:] == [(2, "w3.1")]


def test_those_that_keep_a_socket_from_being_bound_end_together_all_the_same() -> None:
    web = watcher(use_sockets=("http",), numprocesses=3)
    first = replace(braked(1, web=web), sockets={"http": listener(81)})
    stage = Stage().apply(first).wait(10)
    stage.apply(replace(first, sockets={"http": listener(81, ipv6_only=True)})).wait(5)
    assert stops(stage) == [(0, "web.1"), (0, "web.2"), (0, "web.3")]
    assert len(stage.alive()) == 3


def test_who_is_removed_waits_no_more() -> None:
    stage = settled(1)
    stage.stubborn = frozenset({"w0.1"})
    stage.apply(braked(1, **services("new")))
    stage.apply(braked(1, **services("new", 2))).wait(30)
    assert stage.alive() == ["w0.1", "w1.1"]
    assert not isinstance(stage.records[process("w1.1")].phase, Exited)
    assert stops(stage)[-1] == (11, "w1.1")
