"""What a process says of itself is acted upon: how it ends, how long it is waited for, when it fails."""

from __future__ import annotations

import pytest

from reconciler.core.changes import changes
from reconciler.model.observation import SignalAsked
from reconciler.model.observed import WatcherObserved
from reconciler.model.process import Launch
from reconciler.model.spec import BackoffSpec, MaxRestartsSpec, ReadySpec, StopSpec
from tests.core.stage import FACTS, S, Stage, process, spec, watcher

SLOW = BackoffSpec(burst=0, initial=5 * S, max=5 * S, jitter=0)


def heard(**fields: object) -> Stage:
    """Return a stage on which a process runs that is heard, and is ready by its age."""
    return Stage().apply(spec(web=watcher(**{"watchdog": 30 * S, **fields}))).wait(2)


def launch_of(stage: Stage, name: str = "web.1") -> Launch:
    return next(
        a.launch for _, a in stage.history if hasattr(a, "launch") and a.id == process(name)
    )


# ---- who is heard ----------------------------------------------------------------------------------


def test_only_who_asks_for_it_gets_a_socket() -> None:
    assert not launch_of(Stage().apply(spec(web=watcher()))).notify
    launch = launch_of(heard())
    assert (launch.notify, launch.watchdog_ns) == (True, 30 * S)


def test_what_a_process_says_of_itself_is_shown() -> None:
    stage = heard().say("web.1", "STATUS=serving 3 clients")
    assert stage.slot("web.1").said == "serving 3 clients"
    assert stage.status("web").note == ""
    stage.exit("web.1", 7)
    assert stage.slot("web.1").said == ""  # that was the one before


# ---- when it is ready --------------------------------------------------------------------------------


def starting(cmd: str = "serve", **ready: object) -> Stage:
    told = ReadySpec(notify=True, **{"deadline": 20 * S, **ready})  # type: ignore[arg-type]
    return (
        Stage().apply(spec(web=watcher(cmd=tuple(cmd.split()), ready=told, backoff=SLOW))).wait(2)
    )


def test_a_process_is_ready_when_it_says_so() -> None:
    stage = starting()
    assert (launch_of(stage).notify, launch_of(stage).watchdog_ns) == (True, None)
    slot = stage.slot("web.1")
    assert (slot.state, slot.next_ns) == ("Starting", 20 * S)
    assert slot.note == "not ready: has sent nothing to its notify socket"
    stage.say("web.1", "READY=1")
    assert stage.status("web").as_desired
    assert stage.events[-1].message == "web.1 is ready after 2s"
    stage.wait(60)
    assert stage.alive() == ["web.1"]


def test_a_process_that_never_says_so_is_late_also_where_a_delay_stands_beside_it() -> None:
    stage = starting(delay=5 * S).wait(17)
    assert stage.slot("web.1").next_ns == 20 * S
    stage.wait(1)
    assert [name for _, name, _ in stage.signals()] == ["web.1"]


def test_ready_once_is_ready_for_a_new_controller_too() -> None:
    stage = starting()
    wanted = stage.reconciler.spec
    stage.said("web.1", "READY=1")  # nobody is there to be told
    assert stage.new_controller(wanted).status("web").as_desired


def test_a_probe_beside_it_has_to_pass_too() -> None:
    stage = starting(exec=("check",)).say("web.1", "READY=1")
    assert "exec check" in stage.slot("web.1").note
    stage.exit("web.1:ready")
    assert stage.status("web").as_desired


@pytest.mark.parametrize(
    ("cmd", "said", "note"),
    [
        ("serve", "", "has sent nothing to its notify socket"),
        ("serve", "READY=0", "has sent messages, but no READY=1"),
        ("serve", "STATUS=loads", 'has sent STATUS="loads" but no READY=1'),
        (
            "/usr/bin/redis-server --port 1",
            "",
            "has sent nothing to its notify socket: does redis-server run with --supervised systemd?",
        ),
        (
            "setpriv --reuid 1 haproxy -W",
            "",
            "has sent nothing to its notify socket: does haproxy run with -Ws?",
        ),
        ("nginx", "", "has sent nothing to its notify socket: nginx never does, use a probe"),
    ],
)
def test_who_is_not_ready_in_time_is_stopped_and_told_what_it_has_sent(
    cmd: str, said: str, note: str
) -> None:
    stage = starting(cmd)
    if said:
        stage.say("web.1", said)
    assert stage.slot("web.1").note == f"not ready: {note}"
    stage.wait(18)
    assert stage.signals() == [(20.0, "web.1", "TERM")]
    slot = stage.slot("web.1")
    assert (slot.state, slot.note) == ("BackOff", f"not ready within 20s: {note}")


def test_a_process_that_starts_gets_the_time_that_it_asks_for() -> None:
    stage = starting().say("web.1", "EXTEND_TIMEOUT_USEC=60000000").wait(59)
    assert stage.slot("web.1").next_ns == 62 * S
    assert stage.signals() == []
    stage.wait(1)
    assert stage.signals() == [(62.0, "web.1", "TERM")]


def test_no_watchdog_counts_before_a_process_has_said_that_it_is_ready() -> None:
    told = ReadySpec(notify=True)
    stage = Stage().apply(spec(web=watcher(ready=told, watchdog=S))).wait(5)
    stage.tell(stage.silent("web.1"))
    assert stage.signals() == []
    stage.say("web.1", "READY=1").wait(1)
    assert stage.status("web").as_desired
    stage.tell(stage.silent("web.1"))
    assert [signal for _, _, signal in stage.signals()] == ["TERM"]


def test_who_has_no_socket_yet_is_replaced_when_it_is_to_say_that_it_is_ready() -> None:
    before = spec(web=watcher(ready=ReadySpec(delay=S)))
    after = spec(web=watcher(ready=ReadySpec(notify=True)))
    stage = Stage().apply(before).wait(2).apply(after)
    assert stage.spawned() == ["web.1", "web.1"]
    (change,) = changes(before, after, lambda _: WatcherObserved(), FACTS)
    assert "ready.notify changed" in change.message
    none = spec(web=watcher())
    (change,) = changes(none, after, lambda _: WatcherObserved(), FACTS)
    assert "ready changed" in change.message
    assert [each.effect for each in change.fields] == ["restart"]
    probed = spec(web=watcher(ready=ReadySpec(exec=("check",))))
    (change,) = changes(none, probed, lambda _: WatcherObserved(), FACTS)
    assert [each.effect for each in change.fields] == ["live"]


# ---- the watchdog ------------------------------------------------------------------------------------


def test_a_process_that_is_silent_for_too_long_is_stopped_and_that_counts_as_a_failure() -> None:
    stage = heard(backoff=SLOW).wait(5)
    stage.tell(stage.silent("web.1"))
    assert stage.signals() == [(7.0, "web.1", "TERM")]
    trouble = "silent for more than 30s (watchdog)"
    assert stage.events[-1].message == f"web.1 ended ({trouble}): killed by SIGTERM after 7s"
    slot = stage.slot("web.1")
    assert (slot.state, slot.note, slot.next_ns) == ("BackOff", trouble, 12 * S)
    stage.wait(5)
    assert stage.slot("web.1").restarts == 1


def test_one_that_was_silent_again_and_again_says_so_also_while_it_runs() -> None:
    stage = heard()
    for _ in range(3):
        stage.tell(stage.silent("web.1")).wait(2)
    slot = stage.slot("web.1")
    note = "3 deaths in a row, last: silent for more than 30s (watchdog)"
    assert (slot.state, slot.note) == ("Failing", note)
    # What an operator ends in between counts for nothing, and hides nothing.
    stage.tell(SignalAsked("web", 1, "TERM", 1)).wait(2)
    assert stage.slot("web.1").note == note


def test_a_process_that_says_that_it_fails_is_stopped_at_once() -> None:
    stage = heard().say("web.1", "WATCHDOG=trigger")
    assert stage.signals() == [(2.0, "web.1", "TERM")]
    assert "(failing by its own word (WATCHDOG=trigger))" in stage.events[-2].message


def test_a_new_controller_stops_who_was_silent_meanwhile() -> None:
    stage = heard()
    wanted = stage.reconciler.spec
    stage.silent("web.1")  # nobody is there to be told
    stage.new_controller(wanted)
    assert stage.signals() == [(2.0, "web.1", "TERM")]


def test_a_silent_process_fails_the_revision_that_started_it() -> None:
    stage = Stage().try_out(spec(web=watcher(watchdog=2 * S))).wait(3)
    stage.tell(stage.silent("web.1"))
    assert stage.outcome == "paused"
    assert stage.verdicts[-1].trial.reason == "web.1 was silent for more than 2s (watchdog)"


# ---- ends that were announced ------------------------------------------------------------------------


def test_a_process_that_ends_by_itself_is_on_its_way_and_does_not_serve() -> None:
    stage = heard().say("web.1", "STOPPING=1")
    slot = stage.slot("web.1")
    assert (slot.state, slot.note, slot.since_ns) == (
        "Stopping",
        "it ends by itself (STOPPING=1)",
        2 * S,
    )
    assert not stage.status("web").as_desired
    assert stage.signals() == []


def test_a_roll_takes_a_slot_that_ends_by_itself_for_one_that_does_not_serve() -> None:
    stage = heard(numprocesses=2)
    stage.stubborn = frozenset({"web.1", "web.2"})
    stage.say("web.2", "STOPPING=1")
    stage.apply(spec(web=watcher(watchdog=30 * S, numprocesses=2, cmd=("other",))))
    assert [name for _, name, _ in stage.signals()] == ["web.2"]


def test_an_announced_end_is_no_failure_and_the_next_start_comes_at_once() -> None:
    limit = MaxRestartsSpec(count=1)
    stage = heard(backoff=SLOW, max_restarts=limit)
    for _ in range(5):
        stage.say("web.1", "STOPPING=1").exit("web.1").wait(3)
    assert stage.alive() == ["web.1"]
    slot = stage.slot("web.1")
    assert (slot.state, slot.restarts, slot.attempt) == ("Running", 5, 0)


def test_who_ends_again_and_again_starts_once_a_second_at_most() -> None:
    stage = heard(backoff=SLOW).say("web.1", "STOPPING=1").exit("web.1")
    for _ in range(5):
        stage.wait(0.25).say("web.1", "STOPPING=1").exit("web.1").wait(0.75)
    starts = [at for at, action in stage.history if hasattr(action, "launch")]
    assert starts == [0, 2, 3, 4, 5, 6, 7]


def test_an_announced_end_says_nothing_against_a_revision() -> None:
    stage = Stage().try_out(spec(web=watcher(watchdog=30 * S))).wait(3)
    stage.say("web.1", "STOPPING=1").exit("web.1").wait(1)
    assert stage.outcome == "pending"
    stage.wait(11)
    assert stage.outcome == "good"


@pytest.mark.parametrize("code", [1, 143])
def test_an_end_that_is_no_success_is_a_failure_whatever_was_announced(code: int) -> None:
    stage = heard(backoff=SLOW).say("web.1", "STOPPING=1").exit("web.1", code)
    assert stage.slot("web.1").state == "BackOff"


def test_who_announces_an_end_that_does_not_come_is_stopped() -> None:
    stage = heard().say("web.1", "STOPPING=1").wait(9)
    assert stage.signals() == []
    stage.wait(1)
    assert stage.signals() == [(12.0, "web.1", "TERM")]
    assert "(it went on after its STOPPING=1)" in stage.events[-2].message


def test_a_process_that_was_asked_to_end_and_says_so_is_stopped_as_any_other() -> None:
    stage = Stage()
    stage.stubborn = frozenset({"web.1"})
    stage.apply(spec(web=watcher(watchdog=30 * S))).wait(2).apply(spec())
    stage.say("web.1", "STOPPING=1").wait(9)
    assert stage.signals() == [(2.0, "web.1", "TERM")]
    assert stage.status("web").state == "Stopping"
    stage.wait(1)
    assert stage.signals()[-1] == (12.0, "web.1", "KILL")


# ---- more time ---------------------------------------------------------------------------------------


def stopping(timeout: int) -> Stage:
    stage = Stage()
    stage.stubborn = frozenset({"web.1"})
    stopped = watcher(watchdog=30 * S, stop=StopSpec(timeout=timeout))
    return stage.apply(spec(web=stopped)).wait(2).apply(spec())


def test_a_process_that_is_being_stopped_gets_the_time_that_it_asks_for() -> None:
    stage = stopping(10 * S).wait(5).say("web.1", "EXTEND_TIMEOUT_USEC=30000000").wait(29)
    assert [signal for _, _, signal in stage.signals()] == ["TERM"]
    stage.wait(1)
    assert stage.signals()[-1] == (37.0, "web.1", "KILL")


def test_to_ask_for_less_shortens_nothing() -> None:
    stage = stopping(10 * S).say("web.1", "EXTEND_TIMEOUT_USEC=1").wait(9)
    assert [signal for _, _, signal in stage.signals()] == ["TERM"]
    stage.wait(1)
    assert stage.signals()[-1] == (12.0, "web.1", "KILL")


def test_nobody_puts_off_the_end_for_ever() -> None:
    stage = stopping(10 * S)
    for _ in range(200):
        stage.say("web.1", "EXTEND_TIMEOUT_USEC=60000000").wait(30)
        if stage.signals()[-1][2] == "KILL":
            break
    assert stage.signals()[-1] == (3612.0, "web.1", "KILL")


# ---- reloads -----------------------------------------------------------------------------------------


def test_a_process_that_reloads_goes_on_to_count_as_ready() -> None:
    stage = heard().say("web.1", "READY=1").say("web.1", "RELOADING=1\nSTATUS=port taken")
    seen = stage.status("web")
    assert (seen.state, seen.ready, seen.as_desired) == ("Running", 1, True)
    assert seen.note == 'reloading, it has not said READY=1 since: it says "port taken"'
    assert stage.say("web.1", "READY=1\nSTATUS=").status("web").note == ""
