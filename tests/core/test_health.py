"""A process that is ready is asked on, and one that is unhealthy is restarted, stopped or told, one after the other."""

from __future__ import annotations

from typing import Any

from reconciler.model.action import Probe, Spawn, Unprobe
from reconciler.model.probe import Probing, TcpTarget
from reconciler.model.spec import BackoffSpec, HealthSpec, HooksSpec, MaxRestartsSpec, ReadySpec
from tests.core.stage import HOOK, S, Stage, spec, watcher

PATIENT = BackoffSpec(burst=1, initial=5 * S, max=60 * S, jitter=0)
HEALTH = HealthSpec(tcp="${slot+7999}")
SAID = "tcp 127.0.0.1:8000: connection refused"


def web(numprocesses: int = 1, health: HealthSpec | None = HEALTH, **fields: object) -> Any:
    fields = {"backoff": PATIENT, "numprocesses": numprocesses, "health": health} | fields
    return spec(web=watcher(**fields))


def serving(numprocesses: int = 1, **fields: object) -> Stage:
    """Return a stage on which all slots have been healthy for a minute."""
    stage = Stage().apply(web(numprocesses, **fields)).wait(60)
    for slot in range(1, numprocesses + 1):
        stage.answer(f"web.{slot}:health", passed=True)
    return stage


def fails(stage: Stage, *slots: int) -> Stage:
    for slot in slots:
        stage.answer(f"web.{slot}:health", SAID)
    return stage


def seen(stage: Stage, slot: str = "web.1") -> tuple[str, str]:
    found = stage.slot(slot)
    return found.state, found.note


def stopped(stage: Stage) -> list[str]:
    return [id for _, id, signal in stage.signals() if signal == "TERM"]


def events(stage: Stage) -> list[str]:
    return [each.message for each in stage.events if each.type.startswith("probe.")]


def test_what_is_ready_is_asked_on_for_as_long_as_it_runs() -> None:
    stage = Stage().apply(web(health=HealthSpec(tcp="80", initial_delay=5 * S)))
    assert not stage.probing
    stage.wait(1)
    assert [each.probing for each in stage.probing.values()] == [
        Probing(TcpTarget("127.0.0.1", 80), 6 * S, 10 * S, S, 3, 1)
    ]
    assert seen(stage) == ("Running", "")
    assert [str(id) for id in stage.answer("web.1:health", passed=True).wait(60).probing] == [
        "web.1:health"
    ]


def test_it_is_asked_once_it_has_shown_that_it_is_ready_and_not_before() -> None:
    stage = Stage().apply(web(ready=ReadySpec(tcp="80"))).wait(5)
    assert [str(id) for id in stage.probing] == ["web.1:ready"]
    stage.answer("web.1:ready", passed=True)
    assert [str(id) for id in stage.probing] == ["web.1:health"]


def test_an_unhealthy_process_is_restarted_and_that_counts_as_a_failure() -> None:
    stage = fails(serving(), 1)
    assert stopped(stage) == ["web.1"]
    ended = next(each.message for each in stage.events if each.type == "process.exited")
    assert ended == f"web.1 ended (unhealthy: {SAID}): killed by SIGTERM after 1m"
    slot = stage.slot("web.1")
    assert (stage.alive(), slot.attempt, slot.restarts) == (["web.1"], 1, 1)
    assert events(stage) == [f"web.1 is unhealthy: {SAID}"]


def test_one_that_is_unhealthy_again_and_again_waits_longer_each_time() -> None:
    stage = Stage().apply(web())
    for _ in range(2):
        fails(stage.wait(30), 1)
    assert seen(stage) == ("BackOff", f"unhealthy: {SAID}, 2 times in a row")
    assert stage.slot("web.1").next_ns == stage.now + 5 * S


def test_one_that_was_well_for_long_begins_a_new_count() -> None:
    stage = Stage().apply(web())
    for _ in range(5):
        fails(stage.wait(41), 1)
    assert stage.slot("web.1").attempt == 1


def test_a_slot_that_is_unhealthy_too_often_gives_up() -> None:
    stage = Stage().apply(web(max_restarts=MaxRestartsSpec(count=1, window=600 * S)))
    for _ in range(2):
        fails(stage.wait(60), 1)
    state, note = seen(stage)
    assert (state, note.partition("; ")[2]) == ("Failed", f"last: unhealthy: {SAID}")


def test_one_slot_is_restarted_after_the_other_when_the_others_serve_again() -> None:
    stage = fails(serving(3), 1, 3)
    assert stopped(stage) == ["web.1"]
    assert seen(stage, "web.3") == ("Failing", f"unhealthy: {SAID}; waiting for other slots")
    assert stopped(stage.wait(1)) == ["web.1", "web.3"]


def test_one_that_is_healthy_again_before_its_turn_is_left_alone() -> None:
    stage = fails(serving(3), 1, 3).answer("web.3:health", "tcp accepts", passed=True).wait(60)
    assert (stopped(stage), seen(stage, "web.3")) == (["web.1"], ("Running", ""))
    assert events(stage)[-1] == "web.3 is healthy again: tcp accepts"


def test_when_none_serves_all_are_restarted_at_once() -> None:
    stage = serving(3, ready=None)
    stage.stubborn = frozenset({"web.1"})
    fails(stage, 2, 3)
    assert stopped(stage) == ["web.2"]
    fails(stage, 1)
    assert stopped(stage) == ["web.2", "web.1", "web.3"]


def test_of_many_that_fail_none_is_forgotten() -> None:
    stage = fails(serving(40), *range(3, 41))
    assert stopped(stage) == ["web.3"]
    stage.wait(38)
    assert stopped(stage) == [f"web.{slot}" for slot in range(3, 41)]


def test_that_it_is_unhealthy_survives_the_controller() -> None:
    wanted = web(2, health=HealthSpec(tcp="80", action="none"))
    stage = fails(serving(2, health=HealthSpec(tcp="80", action="none")), 1)
    stage.new_controller(wanted)
    assert seen(stage) == ("Failing", f"unhealthy: {SAID}")
    assert events(stage) == [f"web.1 is unhealthy: {SAID}"]
    assert seen(stage.answer("web.1:health", passed=True)) == ("Running", "")


def test_one_that_is_only_told_runs_on_and_shows_the_newest_answer() -> None:
    stage = fails(serving(health=HealthSpec(tcp="80", action="none")), 1)
    stage.answer("web.1:health", "tcp: no answer within 1s").wait(60)
    assert (stopped(stage), seen(stage)) == ([], ("Failing", "unhealthy: tcp: no answer within 1s"))
    assert (stage.status("web").state, stage.status("web").as_desired) == ("Failing", False)
    assert len(events(stage)) == 1


def test_what_is_found_of_it_begins_no_new_row_of_answers() -> None:
    told = HealthSpec(tcp="80", action="none")
    stage = Stage().apply(web(health=told, hooks=HooksSpec(after_ready=HOOK))).wait(1)
    at = len(stage.history)
    stage.exit("web.1:after_ready").answer("web.1:health", SAID)
    assert seen(stage) == ("Failing", f"unhealthy: {SAID}")
    stage.answer("web.1:health", passed=True)
    assert seen(stage) == ("Running", "")
    assert [a for _, a in stage.history[at:] if isinstance(a, Probe | Unprobe)] == []


def test_a_command_that_has_failed_is_run_again_at_its_interval() -> None:
    told = HealthSpec(exec=("check",), interval=10 * S, failures=1, action="none")
    stage = Stage().apply(web(health=told)).wait(1)
    stage.exit("web.1:health", 1, output=b"no\n")
    assert seen(stage) == ("Failing", "unhealthy: exec check: exit 1: no")
    assert stage.spawned("health") == ["web.1:health"]
    stage.wait(10)
    assert stage.spawned("health") == ["web.1:health"] * 2
    assert seen(stage) == ("Failing", "unhealthy: exec check: exit 1: no")


def test_one_that_is_stopped_stays_down_until_it_is_started_or_edited() -> None:
    stop = HealthSpec(tcp="80", action="stop")
    stage = fails(serving(health=stop), 1).wait(600)
    assert (stage.alive(), seen(stage)) == ([], ("Failed", f"stopped: unhealthy: {SAID}"))
    assert stage.apply(web(health=stop, cmd=("mended",))).alive() == ["web.1"]


def test_what_stays_down_for_good_keeps_no_other_unhealthy_one_up() -> None:
    stop = HealthSpec(tcp="80", action="stop")
    stage = fails(serving(40, health=stop), *range(2, 40))
    assert stopped(stage.wait(1)) == [f"web.{slot}" for slot in range(2, 40)]
    assert stage.alive() == ["web.1", "web.40"]
    stage.new_controller(stage.reconciler.spec)
    assert stopped(fails(stage, 40).wait(1))[-1] == "web.40"


def test_one_that_has_given_up_keeps_no_other_unhealthy_one_up() -> None:
    once = MaxRestartsSpec(count=1, window=600 * S)
    stage = fails(fails(serving(4, max_restarts=once), 1).wait(60), 1).wait(60)
    assert seen(stage)[0] == "Failed"
    assert stopped(fails(stage, 2)) == ["web.1", "web.1", "web.2"]
    # That one is about to come back: it is waited for.
    assert stopped(fails(stage, 3)) == ["web.1", "web.1", "web.2"]
    assert stopped(stage.wait(1)) == ["web.1", "web.1", "web.2", "web.3"]


def test_no_health_any_more_holds_nothing_against_anybody() -> None:
    none = HealthSpec(tcp="80", action="none")
    stage = fails(serving(health=none), 1).apply(web(health=None))
    assert (seen(stage), stage.probing) == (("Running", ""), {})
    assert seen(stage.apply(web(health=none)).wait(5)) == ("Running", "")


def test_an_unhealthy_process_that_ends_by_itself_says_how() -> None:
    none = HealthSpec(tcp="80", action="none")
    stage = fails(serving(health=none), 1).wait(5).exit("web.1", 1)
    stage.wait(2).exit("web.1", 7).wait(2).exit("web.1", 7)
    assert seen(stage) == ("BackOff", "exit 7, 2 times in a row")


def test_a_roll_waits_for_a_slot_that_is_unhealthy() -> None:
    none = HealthSpec(tcp="80", action="none")
    stage = fails(serving(2, health=none), 1)
    stage.apply(web(2, health=none, cmd=("new",))).wait(0.5)
    assert stopped(stage) == ["web.1"]  # it serves nobody, and is the first
    assert stopped(stage.wait(0.5)) == ["web.1", "web.2"]


def test_a_revision_that_is_unhealthy_on_trial_is_not_good() -> None:
    stage = Stage().try_out(web()).wait(5)
    fails(stage, 1)
    assert stage.outcome == "paused"
    assert stage.trial is not None
    assert stage.trial.reason == f"web.1 is unhealthy: {SAID}"


def test_a_command_tells_of_health_too() -> None:
    health = HealthSpec(exec=("check",), interval=2 * S, failures=2)
    stage = Stage().apply(web(health=health)).wait(1)
    stage.exit("web.1:health", 1).wait(2)
    assert seen(stage) == ("Running", "")
    stage.exit("web.1:health", 1, output=b"lag of 90 s")
    assert stopped(stage) == ["web.1"]
    assert events(stage) == ["web.1 is unhealthy: exec check: exit 1: lag of 90 s"]
    asked = [
        at for at, each in stage.history if isinstance(each, Spawn) and each.id.role == "health"
    ]
    assert asked == [1, 3]


def test_its_restart_passes_the_gates_of_a_start_first() -> None:
    hooked = web(hooks=HooksSpec(before_spawn=HOOK))
    stage = Stage().apply(hooked).exit("web.1:before_spawn").wait(60)
    fails(stage, 1)
    note = f"unhealthy: {SAID}; waiting (before_spawn hook runs)"
    assert (stopped(stage), seen(stage)) == ([], ("Failing", note))
    assert stopped(stage.exit("web.1:before_spawn")) == ["web.1"]
    assert stage.spawned() == ["web.1:before_spawn", "web.1"] * 2, "it has passed, for this step"
