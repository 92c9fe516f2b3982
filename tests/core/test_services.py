from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reconciler.core.agenda import BACKLOG_PER_STEP
from reconciler.core.intents import reloaded, restarted, scaled, started, stopped
from reconciler.core.reconciler import Reconciler
from reconciler.model.action import Signal, Spawn
from reconciler.model.intent import Intent, RequestedBy
from reconciler.model.observation import (
    IntentChanged,
    JobChanged,
    KeeperIntroduced,
    LogChanged,
    RecordChanged,
    RetryAsked,
    ShutdownAsked,
    SignalAsked,
    SnapshotEnded,
    SpecApplied,
)
from reconciler.model.process import Exit, LaunchError, ProcessRecord
from reconciler.model.spec import (
    BackoffSpec,
    HooksSpec,
    MaxRestartsSpec,
    ReloadByCommand,
    ReloadBySignal,
    StopSpec,
    WatcherSpec,
)
from reconciler.model.value import from_plain, replace, to_plain
from tests.core.stage import FACTS, HOOK, S, Stage, job, listener, process, spec, watcher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.core.reconciler import Step
    from reconciler.model.observation import Observation

ALICE = RequestedBy("alice", "disk", 0)
NOTHING = Intent()


def test_missing_slots_are_started_at_once() -> None:
    stage = Stage().apply(spec(web=watcher(numprocesses=3)))
    assert stage.alive() == ["web.1", "web.2", "web.3"]


def test_an_unchanged_world_gives_an_empty_plan() -> None:
    wanted = spec({"http": listener()}, web=watcher(numprocesses=2, use_sockets=("http",)))
    stage = Stage().apply(wanted).wait(60)
    before = len(stage.history)
    stage.apply(wanted).wait(3600)
    assert len(stage.history) == before
    assert stage.last.wake_at_ns is None


def test_a_death_is_answered_at_once_and_counted() -> None:
    stage = Stage().apply(spec(web=watcher())).wait(60).exit("web.1", 1)
    assert stage.alive() == ["web.1"]
    assert stage.slot("web.1").restarts == 1
    assert stage.slot("web.1").attempt == 0


def test_a_start_that_a_keepers_death_undid_is_done_over_and_counts_once() -> None:
    limit = MaxRestartsSpec(count=2, window=60 * S)
    stage = Stage().apply(spec(web=watcher(max_restarts=limit, backoff=BackoffSpec(burst=0))))
    stage.exit("web.1", 1).wait(2)
    for _ in range(4):
        before, slot = len(stage.spawned()), stage.slot("web.1")
        assert (slot.restarts, slot.attempt) == (1, 1)
        stage.lost("web.1")
        assert len(stage.spawned()) == before + 1, "it is started again at once"
    stage.exit("web.1", 1).wait(2)
    assert (stage.slot("web.1").restarts, stage.slot("web.1").attempt) == (2, 2)


def test_a_start_that_a_keepers_death_undid_says_nothing_against_a_revision() -> None:
    stage = Stage().apply(spec(web=watcher())).wait(60)
    stage.try_out(spec(web=watcher(cmd=("serve", "better")))).wait(2).lost("web.1")
    assert stage.outcome == "pending"
    assert stage.wait(20).outcome == "good"


def told_ends(stage: Stage) -> list[tuple[str, float | None]]:
    """Return the news of ends, with the time of those that came before they were told of."""
    kinds = {"process.exited", "process.failed"}
    return [
        (each.message, None if each.at_ns is None else each.at_ns / S)
        for each in stage.events
        if each.type in kinds
    ]


def test_ends_that_no_controller_saw_are_told_by_the_next_in_order_and_once() -> None:
    wanted = spec(web=watcher(numprocesses=3, backoff=BackoffSpec(burst=0, initial=60 * S)))
    stage = Stage().apply(wanted).wait(5)
    stage.exit_untold("web.2", 3)
    stage.now += S
    stage.exit_untold("web.1", 4)
    stage.now += S
    stage.new_controller(wanted)
    missed = [
        ("web.2 ended while the controller was away: exit 3 after 5s", 5),
        ("web.1 ended while the controller was away: exit 4 after 6s", 6),
    ]
    assert told_ends(stage) == missed
    # They still wait for their next start: there is nothing new for yet another controller.
    assert stage.new_controller(wanted).alive() == ["web.3"]
    assert told_ends(stage) == missed


def test_an_end_that_was_told_is_not_told_again_by_the_next_controller() -> None:
    wanted = spec(web=watcher(backoff=BackoffSpec(burst=0, initial=60 * S)))
    stage = Stage().apply(wanted).wait(5).exit("web.1", 3).new_controller(wanted)
    assert told_ends(stage) == [("web.1 ended: exit 3 after 5s", None)]
    # Of its next life, and of one that could not begin, the end is told anew.
    stage.wait(70).exit_untold("web.1", 3).new_controller(wanted)
    assert len(told_ends(stage)) == 2
    stage.unstartable["web.1"] = LaunchError("exec", "ENOENT", "/serve", "no such file")
    before = told_ends(stage.exit("web.1", 3).wait(40))
    assert before[-1] == ("web.1 did not start: cannot execute /serve: no such file", None)
    assert told_ends(stage.new_controller(wanted).new_controller(wanted)) == before


def test_quick_deaths_wait_longer_and_longer_and_never_give_up() -> None:
    backoff = BackoffSpec(burst=2, initial=S, factor=2.0, max=4 * S, jitter=0)
    stage = Stage().apply(spec(web=watcher(backoff=backoff)))
    starts = []
    for _ in range(8):
        stage.exit("web.1", 1)
        assert stage.status("web").as_desired is False
        died = stage.now
        stage.wait(0)
        while not stage.alive():
            assert stage.last.wake_at_ns is not None
            stage.wait((stage.last.wake_at_ns - stage.now) / S)
        starts.append((stage.now - died) / S)
    assert starts == [0, 0, 1, 2, 4, 4, 4, 4]


def test_a_long_life_resets_the_backoff() -> None:
    stage = Stage().apply(spec(web=watcher()))
    for _ in range(4):
        stage.exit("web.1", 1)
    assert stage.alive() == []
    assert stage.status("web").state == "BackOff"
    stage.wait(1).wait(11).exit("web.1", 1)
    assert stage.alive() == ["web.1"]


def test_a_missing_program_is_told_and_tried_again() -> None:
    stage = Stage()
    stage.unstartable["web.1"] = LaunchError("exec", "ENOENT", "/no/such", "no such file")
    stage.apply(spec(web=watcher()))
    assert stage.status("web").state == "BackOff"
    assert "cannot execute /no/such: no such file" in stage.status("web").note
    stage.unstartable.clear()
    stage.wait(60)
    assert stage.alive() == ["web.1"]
    assert stage.slot("web.1").restarts == 0, "what never ran was not restarted"


def test_a_shortage_never_counts_and_heals_within_seconds() -> None:
    stage = Stage()
    stage.unstartable["web.1"] = LaunchError("fork", "EAGAIN")
    stage.apply(spec(web=watcher())).wait(600)
    stage.unstartable.clear()
    stage.wait(5)
    assert stage.slot("web.1").attempt == 0
    assert stage.alive() == ["web.1"]


def test_a_shortage_is_told_once_and_again_when_it_is_another_or_comes_back() -> None:
    def told() -> list[str]:
        return [each.message for each in stage.events if each.type == "process.failed"]

    stage = Stage()
    stage.unstartable["web.1"] = LaunchError("fork", "EAGAIN", message="no pids")
    stage.apply(spec(web=watcher())).wait(60)
    assert told() == ["web.1 did not start: cannot make a process: no pids"]
    assert stage.status("web").note == "cannot make a process: no pids"
    stage.unstartable["web.1"] = LaunchError("output", "EMFILE", message="no descriptors")
    stage.wait(60)
    assert len(told()) == 2
    stage.unstartable.clear()
    stage.wait(60)
    stage.unstartable["web.1"] = LaunchError("output", "EMFILE", message="no descriptors")
    stage.exit("web.1", 1).wait(60)
    assert len(told()) == 3


def test_a_log_that_cannot_be_written_shows_until_it_can() -> None:
    path = "/logs/web-2.log"
    stage = Stage().apply(spec(web=watcher(numprocesses=2)))
    stage.tell(LogChanged(process("web.2"), path, "no space left on device")).wait(60)
    assert stage.slot("web.2").note == f"cannot write {path}: no space left on device"
    assert stage.slot("web.1").note == ""
    assert stage.status("web").as_desired
    stage.tell(LogChanged(process("web.2"), path, ""))
    assert stage.slot("web.2").note == ""
    told = [(each.type, each.slot) for each in stage.events if each.type.startswith("log.")]
    assert told == [("log.failed", 2), ("log.recovered", 2)]
    stage.tell(LogChanged(process("gone.1"), path, "no space left on device"))
    assert stage.reconciler.names() == ["web"]


def test_max_restarts_holds_one_slot_and_siblings_go_on() -> None:
    limit = MaxRestartsSpec(count=3, window=60 * S)
    stage = Stage().apply(spec(web=watcher(numprocesses=2, max_restarts=limit)))
    for _ in range(4):
        stage.exit("web.1", 1).wait(1)
    assert stage.wait(3600).alive() == ["web.2"]
    assert stage.status("web").state == "Failed"
    assert "gave up" in stage.status("web").note
    stage.tell(RetryAsked("web"))
    assert stage.alive() == ["web.1", "web.2"]


def test_max_restarts_with_retry_in_tries_again() -> None:
    limit = MaxRestartsSpec(count=1, window=60 * S, retry_in=100 * S)
    stage = Stage().apply(spec(web=watcher(max_restarts=limit)))
    stage.exit("web.1", 1).exit("web.1", 1)
    assert stage.wait(99).alive() == []
    assert stage.wait(1).alive() == ["web.1"]


def test_on_failure_rests_after_success_until_its_command_changes() -> None:
    service = watcher(restart="on-failure")
    stage = Stage().apply(spec(web=service)).exit("web.1", 0).wait(3600)
    assert stage.alive() == []
    assert stage.status("web").state == "Completed"
    assert stage.status("web").as_desired
    stage.apply(spec(web=replace(service, description="other"))).wait(1)
    assert stage.alive() == []
    stage.apply(spec(web=replace(service, cmd=("other",))))
    assert stage.alive() == ["web.1"]
    assert stage.exit("web.1", 3).alive() == ["web.1"]


def test_numprocesses_changes_only_the_difference() -> None:
    stage = Stage().apply(spec(web=watcher(numprocesses=2))).wait(5)
    pids = stage.pid("web.1"), stage.pid("web.2")
    stage.apply(spec(web=watcher(numprocesses=4))).wait(5)
    assert stage.alive() == ["web.1", "web.2", "web.3", "web.4"]
    stage.apply(spec(web=watcher(numprocesses=1))).wait(5)
    assert stage.alive() == ["web.1"]
    assert stage.pid("web.1") == pids[0]
    assert stage.signals() == [
        (10.0, "web.2", "TERM"),
        (10.0, "web.3", "TERM"),
        (10.0, "web.4", "TERM"),
    ]


def test_a_changed_command_rolls_one_by_one_and_waits_for_each_to_settle() -> None:
    stage = Stage().apply(spec(web=watcher(numprocesses=3))).wait(10)
    stage.apply(spec(web=watcher(numprocesses=3, cmd=("new",)))).wait(10)
    assert stage.signals() == [
        (10.0, "web.1", "TERM"),
        (11.0, "web.2", "TERM"),
        (12.0, "web.3", "TERM"),
    ]
    assert stage.status("web").state == "Running"


def test_a_quick_death_of_the_new_one_stops_the_roll() -> None:
    stage = Stage().apply(spec(web=watcher(numprocesses=3))).wait(10)
    stage.apply(spec(web=watcher(numprocesses=3, cmd=("bad",))))
    for _ in range(20):
        if "web.1" in stage.alive():
            stage.exit("web.1", 1)
        stage.wait(0.5)
    assert {"web.2", "web.3"} <= set(stage.alive())
    assert [s for s in stage.signals() if s[1] != "web.1"] == []
    assert stage.status("web").state == "Rolling"


def test_restart_replaces_one_by_one_and_at_once_on_demand() -> None:
    stage = Stage().apply(spec(web=watcher(numprocesses=2))).wait(5)
    first = restarted(NOTHING, None, at_once=False)
    stage.tell(IntentChanged("web", first)).wait(5)
    assert [at for at, *_ in stage.signals()] == [5.0, 6.0]
    stage.tell(IntentChanged("web", restarted(first, None, at_once=True))).wait(5)
    assert [at for at, *_ in stage.signals()] == [5.0, 6.0, 10.0, 10.0]


def test_an_edit_after_a_restart_at_once_still_rolls() -> None:
    stage = Stage().apply(spec(web=watcher(numprocesses=2))).wait(5)
    stage.tell(IntentChanged("web", restarted(NOTHING, None, at_once=True))).wait(5)
    before = len(stage.signals())
    stage.apply(spec(web=watcher(numprocesses=2, cmd=("new",)))).wait(5)
    assert [at for at, *_ in stage.signals()[before:]] == [10.0, 11.0]


def test_after_a_restart_at_once_those_that_are_old_are_still_replaced_one_by_one() -> None:
    stage = Stage().apply(spec(web=watcher(numprocesses=2, max_age=100 * S))).wait(5)
    stage.tell(IntentChanged("web", restarted(NOTHING, None, at_once=True))).wait(105)
    assert [at for at, *_ in stage.signals()] == [5.0, 5.0, 105.0, 106.0]


def test_restart_of_one_slot_touches_no_other() -> None:
    stage = Stage().apply(spec(web=watcher(numprocesses=3))).wait(5)
    stage.tell(IntentChanged("web", restarted(NOTHING, (2,), at_once=False))).wait(5)
    assert stage.signals() == [(5.0, "web.2", "TERM")]


def test_a_stopped_watcher_rests_through_edits_and_new_controllers() -> None:
    service = watcher()
    stage = Stage().apply(spec(web=service)).wait(5)
    intent = stopped(NOTHING, ALICE)
    stage.tell(IntentChanged("web", intent)).wait(1)
    assert stage.alive() == []
    assert stage.status("web").state == "Held"
    assert stage.status("web").note == 'stopped by alice: "disk"'
    stage.apply(spec(web=replace(service, cmd=("new",)))).wait(5)
    stage.new_controller(spec(web=service), [IntentChanged("web", intent)]).wait(5)
    assert stage.alive() == []
    stage.tell(IntentChanged("web", started(intent, ALICE, autostart=True)))
    assert stage.alive() == ["web.1"]


@pytest.mark.parametrize("stubborn", [(), ("w.2",), ("w.1", "w.3")])
@pytest.mark.parametrize(
    "fields", [{}, {"stop": StopSpec(cmd=("end",))}, {"hooks": HooksSpec(after_signal=HOOK)}]
)
def test_what_is_known_of_a_watcher_that_is_stopped_is_what_another_plan_finds(
    fields: dict[str, object], stubborn: tuple[str, ...]
) -> None:
    stage = Stage().apply(spec(w=watcher(numprocesses=3, **fields))).wait(60)
    stage.drains = frozenset(f"w.{slot}" for slot in (1, 2, 3))

    def is_the_same_again() -> None:
        known = stage.status("w")
        stage.reconciler.agenda.touch("w")
        stage.tell()
        assert not stage.last.actions
        assert stage.status("w") == known

    stage.tell(IntentChanged("w", Intent(hold="stopped")))
    is_the_same_again()
    for name in sorted(stage.drains.difference(stubborn)):
        stage.exit(name, None, signal="TERM")
        is_the_same_again()
    stage.drains = frozenset()
    stage.wait(600)
    is_the_same_again()
    assert (len(stage.alive()), stage.status("w").state) == (0, "Held")


def test_autostart_false_waits_for_a_start() -> None:
    stage = Stage().apply(spec(web=watcher(autostart=False))).wait(5)
    assert stage.alive() == []
    assert stage.status("web").as_desired
    stage.tell(IntentChanged("web", started(NOTHING, ALICE, autostart=False)))
    assert stage.alive() == ["web.1"]


def test_scale_overrides_the_spec_until_undone() -> None:
    stage = Stage().apply(spec(web=watcher(numprocesses=2)))
    intent = scaled(NOTHING, ALICE, 4)
    assert len(stage.tell(IntentChanged("web", intent)).alive()) == 4
    assert len(stage.tell(IntentChanged("web", scaled(intent, ALICE, None))).alive()) == 2


def test_a_process_that_ignores_the_signal_is_killed_at_its_timeout() -> None:
    stage = Stage()
    stage.stubborn = frozenset({"web.1"})
    stage.apply(spec(web=watcher(stop=StopSpec(timeout=3 * S)))).wait(5)
    stage.tell(IntentChanged("web", stopped(NOTHING, ALICE))).wait(10)
    assert stage.signals() == [(5.0, "web.1", "TERM"), (8.0, "web.1", "KILL")]
    assert stage.records == {}


def test_a_new_controller_goes_on_with_the_same_grace_period() -> None:
    stage = Stage()
    stage.stubborn = frozenset({"web.1"})
    wanted = spec(web=watcher(stop=StopSpec(timeout=4 * S)))
    intent = IntentChanged("web", stopped(NOTHING, ALICE))
    stage.apply(wanted).wait(5).tell(intent).wait(2)
    stage.new_controller(wanted, [intent]).wait(10)
    assert stage.signals() == [(5.0, "web.1", "TERM"), (9.0, "web.1", "KILL")]


def test_the_grace_period_of_who_was_not_asked_yet_begins_with_the_controller_that_asks() -> None:
    stage = Stage()
    stage.stubborn = frozenset({"web.1"})
    wanted = spec(web=watcher(stop=StopSpec(timeout=4 * S)))
    intent = IntentChanged("web", stopped(NOTHING, ALICE))
    stage.apply(wanted).wait(5).last_words(intent, count=1)
    stage.now += 60 * S
    stage.new_controller(wanted, [intent]).wait(10)
    assert stage.signals() == [(65.0, "web.1", "TERM"), (69.0, "web.1", "KILL")]


def test_survivors_of_a_crash_are_killed_before_the_respawn() -> None:
    stage = Stage().apply(spec(web=watcher())).wait(20)
    stage.exit("web.1", 1, survivors=True)
    assert stage.signals() == [(20.0, "web.1", "KILL")]
    last_kill = max(i for i, (_, a) in enumerate(stage.history) if isinstance(a, Signal))
    last_spawn = max(i for i, (_, a) in enumerate(stage.history) if isinstance(a, Spawn))
    assert last_kill < last_spawn


def test_survivors_of_a_stop_may_finish_within_the_grace_period() -> None:
    stage = Stage().apply(spec(web=watcher(stop=StopSpec(timeout=5 * S)))).wait(20)
    stage.stubborn = frozenset({"web.1"})
    stage.tell(IntentChanged("web", stopped(NOTHING, ALICE)))
    stage.exit("web.1", 0, survivors=True).wait(2)
    assert [s for *_, s in stage.signals()] == ["TERM", "TERM"]
    stage.wait(3)
    assert [s for *_, s in stage.signals()] == ["TERM", "TERM", "KILL"]
    assert stage.records == {}


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (StopSpec(), [("TERM", "process"), ("TERM", "tree"), ("KILL", "tree")]),
        (StopSpec(ask="all"), [("TERM", "tree"), ("KILL", "tree")]),
        (StopSpec(ask="all", scope="group"), [("TERM", "group"), ("KILL", "group")]),
        (
            StopSpec(scope="group", signal="INT"),
            [("INT", "process"), ("INT", "group"), ("KILL", "group")],
        ),
        (StopSpec(cmd=("bye",)), [("TERM", "tree"), ("KILL", "tree")]),
    ],
)
def test_the_main_process_is_asked_then_what_it_leaves_and_all_that_is_left_is_killed_in_time(
    stop: StopSpec, expected: list[tuple[str, str]]
) -> None:
    stage = Stage().apply(spec(web=watcher(stop=replace(stop, timeout=5 * S)))).wait(20)
    stage.stubborn = frozenset({"web.1"})
    stage.tell(IntentChanged("web", stopped(NOTHING, ALICE))).wait(3)
    stage.exit("web.1", 0, survivors=True)
    if stop.cmd:
        stage.exit("web.1:stop")
    stage.wait(60)
    signals = [(at, a.signal, a.scope) for at, a in stage.history if isinstance(a, Signal)]
    assert [(signal, reach) for _, signal, reach in signals] == expected
    assert signals[-1][0] == 25.0
    assert stage.records == {}


def test_scope_process_leaves_survivors_alone() -> None:
    stage = Stage().apply(spec(web=watcher(stop=StopSpec(scope="process")))).wait(20)
    stage.exit("web.1", 1, survivors=True)
    assert stage.signals() == []
    assert stage.alive() == ["web.1"]


def test_a_stop_command_runs_in_place_of_the_signal() -> None:
    stop = StopSpec(cmd=("bye", "${slot}"), timeout=5 * S)
    stage = Stage().apply(spec(web=watcher(stop=stop))).wait(5)
    stage.tell(IntentChanged("web", stopped(NOTHING, ALICE)))
    assert stage.spawned(":stop") == ["web.1:stop"]
    assert stage.signals() == []
    stage.exit("web.1:stop").exit("web.1").wait(1)
    assert stage.records == {}


def test_a_stop_command_has_the_grace_period_at_a_shutdown_too() -> None:
    stop = StopSpec(cmd=("bye",), timeout=5 * S)
    stage = Stage().apply(spec(web=watcher(stop=stop))).wait(5)
    stage.tell(ShutdownAsked()).wait(4)
    assert stage.spawned(":stop") == ["web.1:stop"]
    assert stage.signals() == []
    stage.wait(2)
    # Then nobody waits for it any more.
    assert stage.signals() == [(10.0, "web.1", "KILL"), (10.0, "web.1:stop", "KILL")]


def test_nothing_is_started_beside_the_stop_command_of_the_one_before() -> None:
    stop = StopSpec(cmd=("bye",), timeout=5 * S)
    stage = Stage().apply(spec(web=watcher(stop=stop))).wait(5)
    stage.tell(IntentChanged("web", restarted(NOTHING, None, at_once=False))).exit("web.1").wait(3)
    assert stage.alive() == []
    assert "its stop command still runs" in stage.slot("web.1").note
    stage.exit("web.1:stop")
    assert stage.alive() == ["web.1"]
    intent = stage.reconciler.observed("web").intent
    stage.tell(IntentChanged("web", restarted(intent, None, at_once=False))).exit("web.1").wait(4)
    assert stage.alive() == []
    stage.wait(1)  # its time is that of the stop
    assert stage.signals() == [(13.0, "web.1:stop", "KILL")]
    assert stage.alive() == ["web.1"]


def restart(stage: Stage) -> Stage:
    intent = stage.reconciler.observed("web").intent
    return stage.tell(IntentChanged("web", restarted(intent, None, at_once=False)))


@pytest.mark.parametrize("is_killable", [True, False])
def test_what_a_former_stop_command_left_keeps_no_other_one_from_running(
    *, is_killable: bool
) -> None:
    stop = StopSpec(cmd=("bye",), timeout=5 * S)
    stage = Stage().apply(spec(web=watcher(stop=stop))).wait(5)
    stage.drains = frozenset() if is_killable else frozenset({"web.1:stop"})
    restart(stage).exit("web.1:stop", survivors=True).exit("web.1").wait(5)
    restart(stage)
    killed = (10.0, "web.1:stop", "KILL")
    if is_killable:
        assert stage.spawned(":stop") == ["web.1:stop"] * 2
        stage.exit("web.1").exit("web.1:stop").wait(1)
        assert stage.signals() == [killed]
    else:
        stage.wait(5)
        assert stage.signals() == [killed, (15.0, "web.1", "KILL")]
    assert stage.alive() == ["web.1"]


def test_signals_and_reloads_reach_running_processes_once() -> None:
    service = watcher(numprocesses=2, reload=ReloadBySignal("HUP"))
    stage = Stage().apply(spec(web=service)).wait(5)
    stage.tell(SignalAsked("web", 2, "USR1")).wait(1)
    stage.tell(IntentChanged("web", reloaded(NOTHING, None))).wait(10)
    assert stage.signals() == [(5.0, "web.2", "USR1"), (6.0, "web.1", "HUP"), (6.0, "web.2", "HUP")]


def reloading(stage: Stage, *slots: int) -> Stage:
    intent = stage.reconciler.observed("web").intent
    return stage.tell(IntentChanged("web", reloaded(intent, slots or None)))


def test_a_reload_with_the_end_of_after_start_is_carried_out_once() -> None:
    hooks = HooksSpec(after_start=HOOK)
    stage = Stage().apply(spec(web=watcher(reload=ReloadBySignal(signal="HUP"), hooks=hooks)))
    stage.wait(5).exit_untold("web:after_start", 0)
    passed = RecordChanged(stage.records[process("web:after_start")])
    stage.tell(passed, IntentChanged("web", reloaded(NOTHING, None))).wait(10)
    assert stage.signals() == [(5.0, "web.1", "HUP")]
    assert [event.type for event in stage.events].count("process.reloaded") == 1


def test_a_reload_command_runs_once_per_slot() -> None:
    stage = (
        Stage().apply(spec(web=watcher(numprocesses=2, reload=ReloadByCommand(("again",))))).wait(5)
    )
    reloading(stage)
    assert stage.spawned(":reload") == ["web.1:reload", "web.2:reload"]
    stage.exit("web.1:reload").exit("web.2:reload").wait(60)
    assert stage.spawned(":reload") == ["web.1:reload", "web.2:reload"]
    assert reloading(stage, 2).spawned(":reload")[2:] == ["web.2:reload"]


def test_reloads_that_come_while_the_command_runs_run_it_once_more() -> None:
    stage = Stage().apply(spec(web=watcher(reload=ReloadByCommand(("again",))))).wait(5)
    for _ in range(4):
        reloading(stage)
    assert len(stage.spawned(":reload")) == 1
    assert len(stage.exit("web.1:reload").wait(1).spawned(":reload")) == 2
    assert len(stage.exit("web.1:reload", 3).wait(60).spawned(":reload")) == 2
    assert stage.status("web").note == "reload failed: reload command: exit 3"
    assert stage.events[-1].message == "web.1 was not reloaded: reload command: exit 3"
    # A process that begins later has read what there is.
    stage.exit("web.1").wait(60)
    assert (len(stage.spawned(":reload")), stage.status("web").note) == (2, "")


def test_a_reload_command_that_had_ended_before_it_was_killed_says_how() -> None:
    stage = Stage().apply(spec(web=watcher(reload=ReloadByCommand(("again",))))).wait(5)
    stage.drains = frozenset({"web.1:reload"})
    reloading(stage).wait(60)
    assert [name for _, name, _ in stage.signals()] == ["web.1:reload"]
    stage.exit("web.1:reload", ago=30)
    assert (stage.status("web").note, stage.events[-1].message) == ("", "web.1 was reloaded")


def test_a_reload_outlives_the_controller_and_is_carried_out_once() -> None:
    wanted = spec(
        web=watcher(reload=ReloadBySignal("HUP"), hooks=HooksSpec(before_signal=HOOK)),
        api=watcher(reload=ReloadByCommand(("again",))),
    )
    stage = Stage().apply(wanted).wait(5)
    asked = reloaded(NOTHING, None)
    words = [IntentChanged("web", asked), IntentChanged("api", asked)]
    stage.tell(*words)  # the hook runs, and the command
    stage.new_controller(wanted, words).wait(1)
    stage.exit("web.1:before_signal").exit("api.1:reload").wait(1)
    stage.new_controller(wanted, words).wait(60)
    assert [name for _, name, _ in stage.signals()] == ["web.1"]
    assert stage.spawned(":reload") == ["api.1:reload"]


def test_what_came_of_a_signal_is_told_for_each_process() -> None:
    told: list[tuple[str, str]] = []
    stage = Stage().apply(
        spec(
            web=watcher(numprocesses=2, hooks=HooksSpec(before_signal=HOOK)),
            api=watcher(numprocesses=0),
        )
    )
    tell = stage.reconciler.step

    def step(events: Sequence[Observation], now_ns: int) -> Step:
        found = tell(events, now_ns)
        told.extend((str(each.request.id), each.trouble) for each in found.answered)
        return found

    stage.reconciler.step = step  # type: ignore[method-assign]  # listens in
    stage.wait(5).tell(SignalAsked("web", None, "USR1", 7), SignalAsked("api", None, "USR1", 7))
    assert told == [("api", "it does not run")]
    stage.exit("web.1:before_signal", 1).exit("web.2", 0).wait(1)
    assert told[1:] == [
        ("web.1", "before_signal hook (check) failed: exit 1"),
        ("web.2", "it ended before"),
    ]
    # One that is being stopped and does not end can be signalled too.
    stage.stubborn = frozenset({"web.1"})
    stage.tell(IntentChanged("web", stopped(NOTHING, ALICE))).exit("web.1:before_signal", 0).wait(1)
    stage.tell(SignalAsked("web", 1, "USR2", 8)).exit("web.1:before_signal", 0).wait(1)
    assert (told[3:], stage.signals()[-1][1:]) == ([("web.1", "")], ("web.1", "USR2"))


def test_a_roll_does_not_wait_for_a_slot_that_has_succeeded() -> None:
    old = watcher(numprocesses=3, restart="on-failure")
    stage = Stage().apply(spec(web=old)).wait(20)
    stage.apply(spec(web=replace(old, cmd=("new",)))).wait(0)
    stage.wait(1).exit("web.1", 0).wait(20)
    assert [name for _, name, _ in stage.signals()] == ["web.1", "web.2", "web.3"]
    assert stage.alive() == ["web.2", "web.3"]


def test_max_age_replaces_one_at_a_time() -> None:
    stage = Stage().apply(spec(web=watcher(numprocesses=2, max_age=100 * S))).wait(110)
    assert stage.signals() == [(100.0, "web.1", "TERM"), (101.0, "web.2", "TERM")]


def test_spawn_interval_spaces_the_starts() -> None:
    stage = Stage().apply(spec(web=watcher(numprocesses=3, spawn_interval=2 * S))).wait(10)
    times = [at for at, action in stage.history if isinstance(action, Spawn)]
    assert times == [0.0, 2.0, 4.0]


def test_priority_orders_starts_high_to_low() -> None:
    stage = Stage().apply(spec(a=watcher(priority=1), b=watcher(priority=9), c=watcher()))
    assert stage.spawned() == ["b.1", "a.1", "c.1"]


def test_a_removed_watcher_is_stopped_by_its_own_settings() -> None:
    other = watcher()
    stage = Stage().apply(spec(web=watcher(stop=StopSpec(signal="INT")), other=other)).wait(5)
    stage.apply(spec(other=other)).wait(1)
    assert stage.signals() == [(5.0, "web.1", "INT")]
    assert stage.reconciler.names() == ["other"]


def test_processes_that_no_spec_knows_are_stopped_but_never_before_a_spec_is_known() -> None:
    stage = Stage().apply(spec(web=watcher())).wait(5)
    stage.revision = 0
    stage.new_controller(spec())
    assert stage.alive() == ["web.1"]
    stage.apply(spec(other=watcher())).wait(1)
    assert stage.alive() == ["other.1"]


def test_shutdown_ends_everything_and_says_whether_it_had_to_kill() -> None:
    stage = Stage().apply(spec(web=watcher(numprocesses=2))).wait(5)
    assert stage.tell(ShutdownAsked()).wait(1).quit == 0
    stage = Stage()
    stage.stubborn = frozenset({"web.1"})
    stage.apply(spec(web=watcher())).wait(5)
    assert stage.tell(ShutdownAsked()).wait(11).quit == 1


@pytest.mark.parametrize(
    ("how", "killed"),
    [
        ({"code": 0}, False),
        ({"signal": "TERM"}, False),
        ({"signal": "KILL"}, True),
        ({}, True),  # nobody knows how
        ({"ago": 1}, True),
        ({"ago": 2}, False),  # before anybody was killed
    ],
)
def test_who_ended_in_time_and_whose_output_came_late_was_not_killed(
    how: dict[str, object], killed: bool
) -> None:
    stage = Stage()
    stage.drains = frozenset({"web.1"})
    stage.apply(spec(web=watcher())).wait(5)
    stage.tell(ShutdownAsked()).wait(11)
    assert stage.signals() == [(5.0, "web.1", "TERM"), (15.0, "web.1", "KILL")]
    stage.exit("web.1", **{"code": None, **how})  # type: ignore[arg-type]
    assert stage.quit == int(killed)
    told = [each for each in stage.events if each.type == "process.exited"]
    assert [each.details["killed"] for each in told] == [killed]


def test_an_end_says_why_it_was_asked_for_and_the_next_process_why_it_was_started() -> None:
    stage = Stage().apply(spec(web=watcher(max_age=60 * S))).wait(5)
    assert stage.slot("web.1").renewed == ""
    stage.exit("web.1", 1)
    assert stage.slot("web.1").renewed == "was restarted after its end"
    stage.wait(120)
    assert stage.slot("web.1").renewed == "was replaced at its max_age"
    told = [each.details["reason"] for each in stage.events if each.type == "process.exited"]
    assert told[:2] == ["", "max_age has passed"]


def test_a_new_controller_changes_nothing() -> None:
    wanted = spec({"http": listener()}, web=watcher(numprocesses=3, use_sockets=("http",)))
    stage = Stage().apply(wanted).wait(5)
    before = len(stage.history)
    stage.new_controller(wanted).wait(60)
    assert len(stage.history) == before


def test_the_launch_is_expanded_for_its_slot() -> None:
    service = watcher(
        cmd=("serve", "--fd=${sockets.http}", "$$HOME"),
        env={"ID": "${slot}"},
        use_sockets=("http",),
        numprocesses=2,
    )
    stage = Stage().apply(spec({"http": listener()}, web=service))
    launches = [a.launch for _, a in stage.history if isinstance(a, Spawn)]
    assert [(w.argv, w.env["ID"]) for w in launches] == [
        (("serve", "--fd=3", "$HOME"), "1"),
        (("serve", "--fd=3", "$HOME"), "2"),
    ]
    assert process("web.1") in stage.records


def test_of_many_watchers_some_are_started_in_each_step_by_priority() -> None:
    many = {f"w{n}": watcher() for n in range(BACKLOG_PER_STEP)}
    core = Reconciler(FACTS)
    core.step([KeeperIntroduced("keeper-1", "boot-1", 1, 0, "session"), SnapshotEnded()], 0)

    first = core.step([SpecApplied(spec(first=watcher(priority=9), **many), 1)], 0)
    then = core.step([], 0)
    last = core.step([], 0)

    assert first.actions[0].id == process("first.1")
    assert (len(first.actions), first.wake_at_ns) == (BACKLOG_PER_STEP, 0)
    assert (len(then.actions), then.wake_at_ns) == (1, None)
    assert last.actions == ()


def test_a_death_is_answered_while_many_watchers_wait_for_their_plan() -> None:
    stage = Stage().apply(spec(a=watcher())).wait(60)
    many = {f"w{n}": watcher() for n in range(3 * BACKLOG_PER_STEP)}
    stage.reconciler.step([SpecApplied(spec(a=watcher(priority=-9), **many), 2)], stage.now)

    step = stage.reconciler.step([stage._died(process("a.1"), Exit(code=1))], stage.now)

    assert process("a.1") in [action.id for action in step.actions if isinstance(action, Spawn)]


def test_the_status_of_a_watcher_that_waits_for_its_plan_is_told_anew() -> None:
    many = {f"w{n}": watcher() for n in range(2 * BACKLOG_PER_STEP)}
    core = Reconciler(FACTS)
    core.step([KeeperIntroduced("keeper-1", "boot-1", 1, 0, "session"), SnapshotEnded()], 0)
    step = core.step([SpecApplied(spec(**many), 1)], 0)
    assert step.touched == many.keys()


# ---- what goes into the background -----------------------------------------------------------------


def in_background(**fields: object) -> Stage:
    stage = Stage().apply(spec(web=watcher(**fields))).wait(5)
    return stage.exit("web.1", 1).wait(0.1).exit("web.1", 0, survivors=True).wait(60)


def test_who_ends_at_once_and_leaves_something_is_named_and_not_started_again_beside_it() -> None:
    stage = in_background()
    assert stage.signals() == []
    assert len(stage.spawned()) == 2
    slot = stage.slot("web.1")
    assert slot.state == "Failed"
    assert slot.note == (
        "ends at once with exit 0 and leaves child (pid 7) running: does it go into the background? "
        "With pid_file it is followed"
    )
    assert not stage.status("web").as_desired
    assert "leaves child (pid 7) running" in stage.events[-1].message
    stage.survivors_gone("web.1")
    assert stage.alive() == ["web.1"]


def test_what_went_into_the_background_is_asked_and_killed_in_time_at_a_stop() -> None:
    stage = in_background(stop=StopSpec(signal="INT", timeout=3 * S))
    stage.stubborn = frozenset({"web.1"})
    stage.tell(IntentChanged("web", stopped(NOTHING, ALICE))).wait(2)
    assert [(s, scope) for s, scope in reaches(stage)] == [("INT", "tree")]
    stage.wait(10)
    assert [s for s, _ in reaches(stage)] == ["INT", "KILL"]
    assert stage.records == {}


def test_what_went_into_the_background_gives_way_to_another_template_and_to_a_restart() -> None:
    for change in (
        lambda stage: stage.apply(spec(web=watcher(cmd=("other",)))),
        lambda stage: stage.tell(IntentChanged("web", restarted(NOTHING, None, at_once=False))),
        lambda stage: stage.tell(RetryAsked("web")),
    ):
        stage = in_background()
        change(stage).wait(5)
        assert [s for s, _ in reaches(stage)] == ["TERM"]
        assert stage.alive() == ["web.1"]


def test_what_ends_badly_or_late_or_is_a_job_leaves_nothing_running() -> None:
    for stage in (
        Stage().apply(spec(web=watcher())).wait(1).exit("web.1", 1, survivors=True),
        Stage().apply(spec(web=watcher())).wait(11).exit("web.1", 0, survivors=True),
        Stage().apply(spec(web=job())).wait(1).exit("web.1", 0, survivors=True),
    ):
        assert [s for s, _ in reaches(stage)] == ["KILL"]


def reaches(stage: Stage) -> list[tuple[str, str]]:
    return [(a.signal, a.scope) for _, a in stage.history if isinstance(a, Signal)]


# ---- the order of a stop ---------------------------------------------------------------------------


def stack(stubborn: bool = False, **more: WatcherSpec) -> Stage:
    """Return a stage with a database, which is needed until the last moment, a service and a job that use it."""
    stage = Stage()
    stage.stubborn = frozenset({"app.1", "load.1"} if stubborn else {"app.1"})
    quick = StopSpec(timeout=4 * S)
    wanted = {
        "db": watcher(priority=10),
        "app": watcher(priority=1, stop=quick),
        "load": job(priority=1, stop=quick),
        **more,
    }
    return stage.apply(spec(**wanted)).wait(5)


def asked(stage: Stage) -> list[tuple[float, str]]:
    return [(at, name) for at, name, signal in stage.signals() if signal == "TERM"]


def test_a_shutdown_waits_for_one_priority_before_it_asks_the_next() -> None:
    stage = stack().tell(ShutdownAsked()).wait(1)
    assert asked(stage) == [(5.0, "app.1"), (5.0, "load.1")]
    assert stage.status("db").note == "waiting until watchers of lower priority have stopped"
    stage.exit("app.1", 0).wait(1)
    assert asked(stage)[2:] == [(6.0, "db.1")]
    assert stage.quit == 0


def test_a_stop_of_several_and_a_removal_wait_too_but_not_longer_than_each_may_take() -> None:
    stops = [IntentChanged(name, stopped(NOTHING, ALICE)) for name in ("db", "app")]
    for deed in (
        lambda stage: stage.tell(*stops),
        lambda stage: stage.apply(spec(other=watcher())),
    ):
        stage = stack(other=watcher())
        deed(stage).wait(20)
        times = dict(map(reversed, asked(stage)))  # type: ignore[arg-type]  # pairs
        assert (times["app.1"], times["db.1"]) == (5.0, 9.0)
        assert "other.1" in stage.alive()


def test_a_stop_of_one_alone_and_one_at_once_wait_for_nobody() -> None:
    stage = stack().tell(IntentChanged("db", stopped(NOTHING, ALICE)))
    assert asked(stage) == [(5.0, "db.1")]
    stage = stack(stubborn=True).tell(ShutdownAsked(now=True))
    assert [s for *_, s in stage.signals()] == ["KILL"] * 3


def test_a_new_controller_keeps_the_order() -> None:
    stage = stack().tell(ShutdownAsked()).wait(1)
    wanted = stage.reconciler.spec
    jobs = [JobChanged("load", stage.reconciler.observed("load").job)]
    stage.new_controller(wanted, jobs).tell(ShutdownAsked()).wait(1)
    assert "db.1" not in [name for _, name in asked(stage)]
    stage.exit("app.1", 0).wait(1)
    assert stage.quit == 0


def test_what_rests_says_what_starts_it() -> None:
    resting = spec(manual=watcher(autostart=False), none=watcher(numprocesses=0))
    stage = Stage().apply(resting).wait(60)
    assert stage.status("manual").note == "autostart is false; `reconcile start manual` starts it"
    assert stage.status("none").note == "numprocesses is 0; `reconcile scale none=N` starts N"
    assert {stage.status(name).state for name in ("manual", "none")} == {"Stopped"}


def test_a_report_that_brings_nothing_new_of_a_part_leaves_the_very_same_part() -> None:
    """A spec of thousands is thousands of these, and the keeper's reports bring each of them anew."""
    stage = Stage().apply(spec(web=watcher())).wait(60)
    core = stage.reconciler
    before = core.observed("web").records[process("web.1")]
    again: ProcessRecord = from_plain(ProcessRecord, to_plain(before))
    assert again.settings is not before.settings
    stage.tell(RecordChanged(again))
    after = core.observed("web").records[process("web.1")]
    assert after == again
    for part in ("id", "template_hash", "memory", "settings"):
        assert getattr(after, part) is getattr(before, part)
