from __future__ import annotations

import json

import pytest

from reconciler.core.intents import restarted, stopped
from reconciler.model.action import Spawn
from reconciler.model.intent import NO_INTENT, Intent, RequestedBy
from reconciler.model.observation import IntentChanged, KeeperIntroduced, SignalAsked, SnapshotEnded
from reconciler.model.process import LaunchError
from reconciler.model.spec import BackoffSpec, DependencySpec, HookSpec, HooksSpec, Spec, StopSpec
from reconciler.model.value import replace
from tests.core.stage import HOOK, S, Stage, process, spec, watcher

STOP = IntentChanged("web", stopped(Intent(), RequestedBy("", "", 0)))


def web(**hooks: HookSpec) -> Stage:
    return Stage().apply(spec(web=watcher(numprocesses=2, hooks=HooksSpec(**hooks))))


def test_before_start_comes_first_and_once_for_all_slots() -> None:
    stage = web(before_start=HOOK)
    assert stage.spawned() == ["web:before_start"]
    stage.exit("web:before_start").wait(5)
    assert stage.spawned() == ["web:before_start", "web.1", "web.2"]


def test_what_a_hook_is_told_fits_into_its_environment_however_many_slots_there_are() -> None:
    hooks = HooksSpec(before_signal=HOOK)
    stage = Stage().apply(spec(web=watcher(numprocesses=2_000, hooks=hooks))).wait(5)
    stage.tell(SignalAsked("web", 1, "USR1"))
    ((_, spawn),) = [each for each in stage.history if "before_signal" in str(each[1])]
    assert isinstance(spawn, Spawn)
    told = spawn.launch.env["RECONCILE_HOOK_ARGUMENTS"]
    assert told is not None
    assert len(json.loads(told)["watcher"]["pids"]) == 1000
    assert len(told) < 2**17


def test_before_start_does_not_run_for_respawns_rolls_or_new_controllers() -> None:
    hooks = HooksSpec(before_start=HOOK)
    service = watcher(hooks=hooks)
    stage = Stage().apply(spec(web=service)).exit("web:before_start").wait(20)
    stage.exit("web.1", 1).wait(20)
    stage.apply(spec(web=watcher(hooks=hooks, cmd=("new",)))).wait(20)
    stage.new_controller(spec(web=watcher(hooks=hooks, cmd=("new",)))).wait(20)
    assert stage.spawned("before_start") == ["web:before_start"]


def test_a_slot_that_is_dropped_just_now_does_not_count_as_what_runs() -> None:
    patient = BackoffSpec(burst=0, initial=60 * S, max=60 * S)
    two = watcher(numprocesses=2, backoff=patient, hooks=HooksSpec(before_spawn=HOOK))
    stage = Stage().apply(spec(web=two)).exit("web.2:before_spawn").exit("web.2", 1)
    stage.apply(spec(web=watcher(hooks=HooksSpec(before_start=HOOK))))
    assert stage.alive() == []
    stage.exit("web:before_start")
    assert stage.alive() == ["web.1"]


def test_a_veto_waits_and_asks_again() -> None:
    stage = web(before_start=HOOK).exit("web:before_start", 1)
    assert stage.status("web").state == "BackOff"
    assert "before_start hook (check) failed: exit 1" in stage.status("web").note
    stage.wait(5)
    assert stage.spawned() == ["web:before_start"] * 2
    stage.exit("web:before_start", 0)
    assert stage.alive() == ["web.1", "web.2"]


def test_a_hook_that_hangs_is_killed_and_status_says_so() -> None:
    stage = Stage()
    stage.stubborn = frozenset({"web:before_start"})
    hooks = HooksSpec(before_start=HookSpec(python="shop.wait", timeout=8 * S))
    stage.apply(spec(web=watcher(hooks=hooks))).wait(7)
    assert stage.status("web").state == "Waiting"
    stage.wait(1)
    assert stage.signals() == [(8.0, "web:before_start", "KILL")]
    assert (
        stage.status("web").note == "slot 1: before_start hook (shop.wait) timed out after 8s"
        or stage.status("web").note == "before_start hook (shop.wait) timed out after 8s"
    )


@pytest.mark.parametrize("role", ["after_start", "before_spawn"])
def test_a_hook_that_had_passed_before_it_was_killed_has_passed(role: str) -> None:
    """The controller stood still meanwhile, and hears of the end when it has sent the signal."""
    name = "w:after_start" if role == "after_start" else "w.1:before_spawn"
    stage = Stage().apply(spec(w=watcher(hooks=HooksSpec(**{role: HOOK}))))
    stage.drains = frozenset({name})
    stage.wait(40)
    assert stage.signals() == [(30.0, name, "KILL")]
    stage.exit(name, 0).wait(20)
    assert (stage.alive(), len(stage.signals())) == (["w.1"], 1)
    assert [each.type for each in stage.events if each.type.startswith("hook.")] == ["hook.passed"]


def test_a_hook_that_had_failed_before_it_was_killed_says_how() -> None:
    stage = web(before_start=HOOK)
    stage.drains = frozenset({"web:before_start"})
    stage.wait(40).exit("web:before_start", 3)
    assert "before_start hook (check) failed: exit 3" in stage.status("web").note


def test_a_slow_hook_delays_nobody_else() -> None:
    slow = watcher(hooks=HooksSpec(before_start=HOOK))
    stage = Stage().apply(spec(slow=slow, quick=watcher()))
    assert stage.alive() == ["quick.1"]
    assert stage.exit("quick.1", 1).alive() == ["quick.1"]


@pytest.mark.parametrize(
    ("hook", "code", "starts"),
    [
        (HookSpec(cmd=("x",), on_error="ignore"), 1, True),
        (HookSpec(cmd=("x",), on_error="abort"), 1, False),
        (HookSpec(python="a.b", on_error="ignore"), 1, True),
        (HookSpec(python="a.b", on_error="ignore"), 100, False),
        (HookSpec(cmd=("x",), on_error="ignore"), 100, True),
        (HookSpec(python="a.b"), 0, True),
    ],
)
def test_what_a_hook_says_is_what_happens(hook: HookSpec, code: int, starts: bool) -> None:
    stage = web(before_start=hook).exit("web:before_start", code)
    assert bool(stage.alive()) is starts


def test_before_spawn_gates_each_process_and_each_respawn() -> None:
    stage = web(before_spawn=HOOK)
    stage.exit("web.1:before_spawn")
    assert stage.alive() == ["web.1"]
    stage.exit("web.2:before_spawn").wait(20).exit("web.1", 1)
    assert stage.alive() == ["web.2"]
    stage.exit("web.1:before_spawn")
    assert stage.alive() == ["web.1", "web.2"]


@pytest.mark.parametrize("restart", ["always", "never"])
def test_a_verdict_stands_while_its_slot_waits_for_another(restart: str) -> None:
    hooks = HooksSpec(before_spawn=HOOK)
    web = watcher(numprocesses=2, spawn_interval=5 * S, hooks=hooks, restart=restart)
    stage = Stage().apply(spec(web=web))
    stage.exit("web.1:before_spawn").exit("web.2:before_spawn").wait(1)
    assert stage.alive() == ["web.1"]
    stage.wait(10)
    assert stage.alive() == ["web.1", "web.2"]
    assert stage.spawned("before_spawn") == ["web.1:before_spawn", "web.2:before_spawn"]


def test_a_verdict_is_not_used_twice_though_what_its_hook_left_behind_lives_on() -> None:
    stage = web(before_start=HOOK).exit("web:before_start", survivors=True).wait(5)
    assert stage.alive() == ["web.1", "web.2"]
    stage.tell(STOP).wait(1).tell(IntentChanged("web", Intent()))
    assert stage.alive() == []
    stage.survivors_gone("web:before_start").exit("web:before_start")
    assert stage.alive() == ["web.1", "web.2"]
    assert stage.spawned("before_start") == ["web:before_start"] * 2


def test_a_verdict_stands_while_the_process_ends_though_it_would_not_be_replaced_any_more() -> None:
    hooks = HooksSpec(before_spawn=HOOK)
    old = spec(web=watcher(hooks=hooks))
    stage = Stage().apply(old).exit("web.1:before_spawn").wait(5)
    stage.stubborn = frozenset({"web.1"})
    stage.apply(spec(web=watcher(cmd=("new",), hooks=hooks))).exit("web.1:before_spawn").wait(1)
    assert stage.signals() == [(5.0, "web.1", "TERM")]
    stage.apply(old).wait(60)
    assert stage.alive() == ["web.1"]
    assert stage.spawned("before_spawn") == ["web.1:before_spawn"] * 2


@pytest.mark.parametrize("code", [0, 1])
def test_what_a_hook_has_left_behind_is_killed_in_time_though_its_slot_waits(code: int) -> None:
    hooks = HooksSpec(before_spawn=HookSpec(cmd=("check",), timeout=5 * S))
    waits = watcher(hooks=hooks, depends_on={"db": DependencySpec("ready")})
    stage = Stage().apply(spec(db=watcher(), web=waits)).wait(1)
    stage.tell(IntentChanged("db", STOP.intent)).wait(1)
    stage.exit("web.1:before_spawn", code, survivors=True).wait(60)
    assert stage.signals()[1:] == [(6.0, "web.1:before_spawn", "KILL")]
    stage.survivors_gone("web.1:before_spawn").wait(60)
    assert stage.spawned("before_spawn") == ["web.1:before_spawn"]


def test_a_hook_that_is_asked_again_as_nobody_saw_its_end_is_killed_in_time_each_time() -> None:
    stage, name = Stage(), "web:before_start"
    stage.drains = frozenset({name})  # what it leaves behind ends when the test says so
    hook = HookSpec(cmd=("check",), timeout=5 * S)
    stage.apply(spec(web=watcher(hooks=HooksSpec(before_start=hook))))
    for _ in range(2):
        stage.exit(name, None, survivors=True).wait(10).survivors_gone(name)
    assert stage.signals() == [(5.0, name, "KILL"), (15.0, name, "KILL")]
    assert stage.exit(name).alive() == ["web.1"]


def test_after_spawn_is_told_the_pid_and_may_stop_the_process() -> None:
    stage = web(after_spawn=HOOK)
    stage.exit("web.1:after_spawn").exit("web.2:after_spawn", 1).wait(0)
    assert [(name, signal) for _, name, signal in stage.signals()] == [("web.2", "TERM")]
    assert "web.1" in stage.alive()


def test_what_after_spawn_said_is_shown_until_the_next_try() -> None:
    stage = web(after_spawn=HOOK).exit("web.1:after_spawn")
    for _ in range(4):  # the first ones are tried again at once
        stage.wait(8).exit("web.2:after_spawn", 1, output=b"no room\n")
    shown = stage.wait(0).slot("web.2")
    assert shown.state == "BackOff"
    assert shown.note == "after_spawn hook (check) failed: no room, 4 times in a row"
    assert shown.next_ns


def test_a_process_that_is_stopped_for_after_spawn_says_so() -> None:
    stage = web(after_spawn=HOOK)
    stage.stubborn = frozenset({"web.2"})
    stage.exit("web.2:after_spawn", 1).wait(5)
    assert stage.slot("web.2").state == "Stopping"
    assert stage.slot("web.2").note == "the after_spawn hook said no"
    stage.wait(30)
    ends = [each.message for each in stage.events if each.type == "process.exited"]
    assert ends[0].startswith("web.2 ended (the after_spawn hook said no): ")


def test_a_run_that_after_spawn_refused_says_what_the_hook_said() -> None:
    service = watcher(restart="never", hooks=HooksSpec(after_spawn=HOOK))
    stage = (
        Stage().apply(spec(job=service)).exit("job.1:after_spawn", 1, output=b"no room\n").wait(5)
    )
    note = "vetoed: after_spawn hook (check) failed: no room"
    assert stage.slot("job.1").note == note


def test_after_start_runs_once_when_all_run() -> None:
    stage = web(after_start=HOOK)
    assert stage.spawned() == ["web.1", "web.2", "web:after_start"]
    assert not stage.wait(5).status("web").as_desired
    stage.exit("web:after_start").wait(20).exit("web.1", 1).wait(20)
    assert stage.spawned("after_start") == ["web:after_start"]
    assert stage.status("web").as_desired


def test_a_slot_that_has_succeeded_does_not_keep_after_start_waiting() -> None:
    service = watcher(numprocesses=2, restart="on-failure", hooks=HooksSpec(after_start=HOOK))
    stage = Stage().apply(spec(web=service)).wait(1)
    stage.exit("web.1", 0).exit("web:after_start").wait(5)
    assert stage.alive() == ["web.2"]
    assert process("web:after_start") not in stage.records
    assert stage.status("web").as_desired


def test_after_start_is_killed_in_time_though_a_process_dies_meanwhile() -> None:
    hooks = HooksSpec(after_start=HookSpec(cmd=("check",), timeout=3 * S))
    service = watcher(numprocesses=2, hooks=hooks, backoff=BackoffSpec(burst=0, initial=30 * S))
    stage = Stage()
    stage.stubborn = frozenset({"web:after_start"})
    stage.apply(spec(web=service)).wait(1).exit("web.1", 1).wait(4)
    assert stage.signals()[0][1:] == ("web:after_start", "KILL")


def test_a_veto_of_after_start_stops_all_and_starts_again_later() -> None:
    stage = web(after_start=HOOK).wait(1).exit("web:after_start", 1)
    assert stage.alive() == []
    assert stage.status("web").state == "BackOff"
    assert [slot.note for slot in stage.status("web").slots] == [
        "after_start hook (check) failed: exit 1"
    ] * 2
    assert all(slot.state == "BackOff" and slot.next_ns for slot in stage.status("web").slots)
    stage.wait(5)
    assert stage.alive() == ["web.1", "web.2"]
    assert stage.spawned("after_start") == ["web:after_start"] * 2
    stage.exit("web:after_start", 0).wait(5)
    assert stage.status("web").as_desired


def test_stop_hooks_surround_the_stop() -> None:
    stage = web(before_stop=HOOK, after_stop=HOOK).wait(5).tell(STOP)
    assert stage.signals() == []
    stage.exit("web:before_stop", 1)  # cannot be vetoed
    assert stage.alive() == []
    assert stage.records.keys() >= {process("web:after_stop")}
    stage.exit("web:after_stop").wait(5)
    assert stage.records == {}
    assert stage.spawned("stop") == ["web:before_stop", "web:after_stop"]


def test_before_stop_is_waited_for_in_the_midst_of_a_roll_that_is_killed_in_time() -> None:
    stage = Stage()
    stage.stubborn = frozenset({"web.1"})
    hooks, stop = HooksSpec(before_stop=HOOK), StopSpec(timeout=5 * S)
    stage.apply(spec(web=watcher(numprocesses=2, hooks=hooks, stop=stop))).wait(20)
    stage.apply(spec(web=watcher(numprocesses=2, hooks=hooks, stop=stop, cmd=("new",))))
    assert stage.signals() == [(20.0, "web.1", "TERM")]
    stage.tell(STOP).wait(6)
    assert stage.signals() == [(20.0, "web.1", "TERM"), (25.0, "web.1", "KILL")]
    stage.exit("web:before_stop").wait(5)
    assert stage.signals()[2:] == [(26.0, "web.2", "TERM")]
    assert stage.records == {}


def test_before_signal_may_withhold_all_but_kill() -> None:
    stage = Stage().apply(
        spec(web=watcher(hooks=HooksSpec(before_signal=HOOK), stop=StopSpec(timeout=5 * S)))
    )
    stage.wait(5).tell(STOP).exit("web.1:before_signal", 1).wait(10)
    assert stage.signals() == [(10.0, "web.1", "KILL")]


def test_a_signal_is_answered_when_the_keeper_and_its_processes_are_others() -> None:
    stage = Stage().apply(spec(web=watcher(hooks=HooksSpec(before_signal=HOOK)))).wait(5)
    stage.tell(SignalAsked("web", 1, "USR1"))
    other = KeeperIntroduced("keeper-2", "boot-1", 1, 0, "session")
    step = stage.reconciler.step([other, SnapshotEnded()], stage.now)
    assert [each.trouble for each in step.answered] == ["it ended before"]


def test_before_signal_counts_inside_the_grace_period() -> None:
    stage = Stage()
    stage.stubborn = frozenset({"web.1"})
    stage.apply(
        spec(web=watcher(hooks=HooksSpec(before_signal=HOOK), stop=StopSpec(timeout=5 * S)))
    )
    stage.wait(5).tell(STOP).wait(3).exit("web.1:before_signal").wait(10)
    assert stage.signals() == [(8.0, "web.1", "TERM"), (10.0, "web.1", "KILL")]


def test_a_vetoed_signal_command_is_dropped_and_the_next_one_asks_again() -> None:
    stage = Stage().apply(spec(web=watcher(hooks=HooksSpec(before_signal=HOOK)))).wait(5)
    stage.tell(SignalAsked("web", None, "USR1")).exit("web.1:before_signal", 1).wait(1)
    assert stage.signals() == []
    stage.tell(SignalAsked("web", None, "USR2")).exit("web.1:before_signal", 0)
    assert [signal for *_, signal in stage.signals()] == ["USR2"]


def test_reap_hooks_run_in_order_once_per_death_before_the_respawn() -> None:
    stage = (
        Stage()
        .apply(spec(web=watcher(hooks=HooksSpec(before_reap=HOOK, after_reap=HOOK))))
        .wait(20)
    )
    stage.exit("web.1", 7)
    assert stage.alive() == []
    stage.exit("web.1:before_reap", 1).exit("web.1:after_reap", 0)
    assert stage.spawned() == ["web.1", "web.1:before_reap", "web.1:after_reap", "web.1"]


def test_after_signal_follows_the_stop_signal() -> None:
    stage = Stage()
    stage.stubborn = frozenset({"web.1"})
    stage.apply(spec(web=watcher(hooks=HooksSpec(after_signal=HOOK)))).wait(5).tell(STOP)
    assert stage.spawned("after_signal") == ["web.1:after_signal"]


def test_a_hook_added_to_a_running_watcher_does_not_run_for_the_past() -> None:
    stage = Stage().apply(spec(web=watcher())).wait(5)
    hooks = HooksSpec(before_start=HOOK, after_start=HOOK, before_spawn=HOOK)
    stage.apply(spec(web=watcher(hooks=hooks))).wait(60)
    assert stage.spawned() == ["web.1"]
    assert stage.status("web").as_desired


# ---- what said nothing, was edited, or has to come before ------------------------------------------

SHORT = LaunchError("fork", "EAGAIN", message="resource temporarily unavailable")


@pytest.mark.parametrize("role", ["before_start", "before_spawn"])
@pytest.mark.parametrize("restart", ["always", "never"])
def test_a_hook_that_there_was_no_room_for_is_no_veto_and_runs_later(
    role: str, restart: str
) -> None:
    name = "w:before_start" if role == "before_start" else "w.1:before_spawn"
    stage = Stage()
    stage.unstartable[name] = SHORT
    stage.apply(spec(w=watcher(restart=restart, hooks=HooksSpec(**{role: HOOK})))).wait(5)
    assert stage.alive() == []
    assert f"{role} hook cannot be run just now: " in stage.status("w").note
    stage.unstartable.clear()
    stage.wait(2).exit(name)
    assert stage.alive() == ["w.1"]


@pytest.mark.parametrize("role", ["after_spawn", "after_start"])
def test_no_room_for_a_hook_after_the_start_stops_nothing(role: str) -> None:
    name = "w.1:after_spawn" if role == "after_spawn" else "w:after_start"
    stage = Stage()
    stage.unstartable[name] = SHORT
    stage.apply(spec(w=watcher(hooks=HooksSpec(**{role: HOOK})))).wait(10)
    assert (stage.signals(), stage.alive()) == ([], ["w.1"])
    stage.unstartable.clear()
    stage.wait(2).exit(name)
    assert (stage.signals(), stage.alive()) == ([], ["w.1"])


@pytest.mark.parametrize("restart", ["always", "never"])
def test_a_hook_whose_end_nobody_saw_is_asked_again(restart: str) -> None:
    hooks = HooksSpec(before_start=HOOK)
    stage = Stage().apply(spec(w=watcher(restart=restart, hooks=hooks)))
    stage.exit("w:before_start", None).wait(0)
    assert stage.spawned() == ["w:before_start"] * 2
    stage.exit("w:before_start")
    assert stage.alive() == ["w.1"]


@pytest.mark.parametrize("edit", [{"hooks": HooksSpec(before_start=HookSpec(python="h.mended"))},
                                  {"env": {"DATABASE": "there"}}])  # fmt: skip
def test_an_edited_hook_is_tried_at_once_and_told_by_its_own_name(edit: dict[str, object]) -> None:
    broken: dict[str, object] = {"hooks": HooksSpec(before_start=HookSpec(python="h.broken"))}
    patient = BackoffSpec(initial=600 * S, max=600 * S)
    stage = Stage().apply(spec(w=watcher(backoff=patient, **broken)))
    stage.exit("w:before_start", 1).wait(5)
    assert stage.spawned() == ["w:before_start"]
    stage.apply(spec(w=watcher(backoff=patient, **(broken | edit)))).wait(0)
    assert stage.spawned() == ["w:before_start"] * 2
    assert stage.status("w").note == "before_start hook runs"


def test_the_note_is_the_last_line_that_a_hook_wrote() -> None:
    hook = HookSpec(python="h.f")
    stage = Stage().apply(spec(web=watcher(hooks=HooksSpec(before_start=hook))))
    stage.exit("web:before_start", 1, output=b"Traceback:\n  File x\nKeyError: 'nobody'\n\n")
    assert stage.status("web").note == "before_start hook (h.f) failed: KeyError: 'nobody'"
    stage.wait(5).exit("web:before_start", 100, output=b"not today\n")
    assert stage.status("web").note == "before_start hook (h.f) returned False: not today"


def test_the_old_process_serves_until_before_spawn_lets_its_successor_start() -> None:
    hooks = HooksSpec(before_spawn=HOOK)
    stage = Stage().apply(spec(w=watcher(hooks=hooks))).exit("w.1:before_spawn").wait(20)
    stage.apply(spec(w=watcher(hooks=hooks, cmd=("new",)))).wait(3)
    assert (stage.alive(), stage.signals()) == (["w.1"], [])
    assert stage.status("w").note == "not replaced yet: before_spawn hook runs"
    stage.exit("w.1:before_spawn", 1).wait(0)
    assert (stage.alive(), stage.signals()) == (["w.1"], [])
    assert "not replaced yet: before_spawn hook (check) failed" in stage.status("w").note
    stage.wait(1).exit("w.1:before_spawn").wait(0)
    assert [(name, signal) for _, name, signal in stage.signals()] == [("w.1", "TERM")]
    stage.wait(2)
    assert stage.alive() == ["w.1"]
    assert stage.spawned("before_spawn") == ["w.1:before_spawn"] * 3


def test_a_verdict_stands_while_another_slot_is_replaced_first() -> None:
    hooks = HooksSpec(before_spawn=HOOK)
    stage = Stage().apply(spec(web=watcher(numprocesses=2, hooks=hooks)))
    stage.exit("web.1:before_spawn").exit("web.2:before_spawn").wait(20)
    second = restarted(NO_INTENT, (2,), at_once=False)
    stage.tell(IntentChanged("web", second)).wait(0)  # it is asked for web.2, and still runs
    stage.tell(IntentChanged("web", restarted(second, (1,), at_once=False))).wait(0)
    stage.exit("web.1:before_spawn").exit("web.2:before_spawn").wait(20)
    assert [name for _, name, _ in stage.signals()] == ["web.1", "web.2"]
    assert stage.spawned("before_spawn") == [f"web.{slot}:before_spawn" for slot in (1, 2, 2, 1)]
    assert stage.records.keys() == {process("web.1"), process("web.2")}


def test_a_verdict_goes_with_the_step_that_it_was_asked_for() -> None:
    hooks = HooksSpec(before_spawn=HOOK)
    stage = Stage().apply(spec(web=watcher(numprocesses=2, hooks=hooks)))
    stage.exit("web.1:before_spawn").exit("web.2:before_spawn").wait(20)
    second = restarted(NO_INTENT, (2,), at_once=False)
    both = restarted(second, (1,), at_once=False)
    stage.tell(IntentChanged("web", second)).tell(IntentChanged("web", both))
    stage.exit("web.1:before_spawn").exit("web.2:before_spawn").wait(0)
    assert process("web.2:before_spawn") in stage.records
    first_only = replace(both, restart_tokens={1: both.restart_tokens[1]})
    stage.tell(IntentChanged("web", first_only)).wait(0)
    assert process("web.2:before_spawn") not in stage.records
    assert stage.alive() == ["web.1", "web.2"]


def test_a_roll_waits_for_the_pause_between_starts_before_it_stops_anything() -> None:
    def service(word: str) -> Spec:
        return spec(w=watcher(numprocesses=2, spawn_interval=5 * S, cmd=(word,)))

    stage = Stage().apply(service("a")).wait(30).apply(service("b")).wait(20)
    assert [at for at, _, _ in stage.signals()] == [30.0, 35.0]


def test_after_start_waits_for_after_spawn_of_all() -> None:
    stage = web(after_spawn=HOOK, after_start=HOOK).exit("web.1:after_spawn")
    assert "web:after_start" not in stage.spawned()
    stage.exit("web.2:after_spawn").wait(0)
    assert "web:after_start" in stage.spawned()


def test_after_stop_waits_for_after_signal() -> None:
    stage = Stage().apply(spec(w=watcher(hooks=HooksSpec(after_signal=HOOK, after_stop=HOOK))))
    stage.wait(2).tell(IntentChanged("w", stopped(Intent(), RequestedBy("", "", 0)))).wait(1)
    assert stage.spawned()[-1] == "w.1:after_signal"
    assert "w:after_stop" not in stage.spawned()
    stage.exit("w.1:after_signal").wait(0)
    assert "w:after_stop" in stage.spawned()


def test_a_hook_runs_in_the_virtualenv_of_its_slot() -> None:
    hooks = HooksSpec(before_spawn=HookSpec(python="m.f"))
    stage = Stage().apply(spec(w=watcher(virtualenv="/srv/venv-${slot}", hooks=hooks)))
    launch = next(action.launch for _, action in stage.history if isinstance(action, Spawn))
    assert launch.argv[0] == "/srv/venv-1/bin/python"
    assert launch.env["VIRTUAL_ENV"] == "/srv/venv-1"


@pytest.mark.parametrize("role", ["before_start", "before_spawn"])
def test_a_hook_that_has_said_no_is_a_problem_while_it_is_asked_again(role: str) -> None:
    stage = Stage().apply(spec(w=watcher(hooks=HooksSpec(**{role: HOOK}))))
    slot = "w" if role == "before_start" else "w.1"
    assert stage.slot("w.1").state == "Waiting"
    for times in ("once", "2 times"):
        stage.exit(f"{slot}:{role}", 1).wait(5)
        status = stage.slot("w.1")
        assert (status.state, status.note) == (
            "BackOff",
            f"{role} hook runs, it has said no {times}",
        )
    stage.exit(f"{slot}:{role}", 0)
    assert stage.slot("w.1").state != "BackOff"
