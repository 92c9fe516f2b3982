"""A process with `ready` counts as ready once its probe has passed in its life, and fails when that takes too long."""

from __future__ import annotations

from typing import Any

from reconciler.model.action import Spawn
from reconciler.model.observation import ProbeAnswered
from reconciler.model.probe import HttpTarget, LogTarget, Probing, TcpTarget
from reconciler.model.process import LogPlace
from reconciler.model.spec import BackoffSpec, HealthSpec, HooksSpec, MaxRestartsSpec, ReadySpec
from reconciler.model.status import LastProbe
from tests.core.stage import HOOK, S, Stage, process, spec, watcher

PATIENT = BackoffSpec(burst=0, initial=5 * S, max=60 * S, jitter=0)
ASKS = ReadySpec(exec=("check", "${slot}"), interval=2 * S, timeout=S, deadline=10 * S)


def web(ready: ReadySpec | None = ASKS, **fields: object) -> Stage:
    return Stage().apply(spec(web=watcher(ready=ready, backoff=PATIENT, **fields)))


def asked(stage: Stage) -> list[float]:
    """Return when the command was run."""
    return [at for at, each in stage.history if isinstance(each, Spawn) and each.id.role == "ready"]


def launch(stage: Stage) -> Any:
    return next(a.launch for _, a in stage.history if isinstance(a, Spawn) and a.id.role == "ready")


def seen(stage: Stage, slot: str = "web.1") -> tuple[str, str]:
    found = stage.slot(slot)
    return found.state, found.note


def test_a_process_is_ready_when_its_command_has_passed_and_is_asked_no_more() -> None:
    stage = web()
    assert launch(stage).argv == ("check", "1")
    assert launch(stage).env["RECONCILE_PID"] == str(stage.pid("web.1"))
    assert seen(stage) == ("Starting", "not ready: exec check has not answered yet")
    stage.wait(0.5).exit("web.1:ready", 1, output=b"starting\nno route\n")
    assert seen(stage.wait(1)) == ("Starting", "not ready: exec check: exit 1: no route")
    assert (stage.status("web").state, stage.status("web").as_desired) == ("Starting", False)
    stage.wait(1).exit("web.1:ready", 0).wait(60)
    assert asked(stage) == [0, 2]
    assert seen(stage) == ("Running", "")
    assert [e.message for e in stage.events if e.type == "process.ready"] == [
        "web.1 is ready after 2.5s"
    ]
    assert [str(id) for id in stage.records] == ["web.1"]


def test_the_status_tells_what_was_answered_last() -> None:
    def last(stage: Stage) -> LastProbe | None:
        return stage.slot("web.1").last_probe

    stage = Stage().wait(5).apply(spec(web=watcher(ready=HTTP, health=HealthSpec(tcp="80"))))
    place = "http 127.0.0.1:8000/healthz"
    assert last(stage) == LastProbe("ready", None, f"{place} has not answered yet", 0)
    stage.answer("web.1:ready", f"{place} answers 503").wait(1)
    assert last(stage) == LastProbe("ready", False, f"{place} answers 503", 5 * S)
    stage.answer("web.1:ready", passed=True)
    assert last(stage) == LastProbe("health", None, "tcp 127.0.0.1:80 has not answered yet", 0)
    stage.answer("web.1:health", "tcp 127.0.0.1:80 accepts connections", passed=True)
    assert last(stage) == LastProbe("health", True, "tcp 127.0.0.1:80 accepts connections", 6 * S)
    assert last(stage.apply(spec(web=watcher(ready=HTTP)))) == LastProbe("ready", True, "", 6 * S)
    assert last(stage.apply(spec(web=watcher()))) is None


def test_the_conditions_of_a_watcher_say_how_many_are_ready_and_healthy() -> None:
    def conditions(stage: Stage) -> dict[str, tuple[bool, str]]:
        found = stage.status("web").conditions
        return {c.type: (c.status, c.message) for c in found if c.type in {"Ready", "Healthy"}}

    health = HealthSpec(tcp="80", action="none")
    stage = Stage().apply(spec(web=watcher(ready=HTTP, health=health, numprocesses=3)))
    assert conditions(stage) == {"Ready": (False, "0 of 3 ready"), "Healthy": (True, "")}
    stage.answer("web.1:ready", passed=True).answer("web.2:ready", passed=True)
    assert conditions(stage)["Ready"] == (True, "2 of 3 ready")
    stage.answer("web.2:health", "tcp: refused")
    assert conditions(stage) == {
        "Ready": (False, "1 of 3 ready"),
        "Healthy": (False, "1 of 3, unhealthy: tcp: refused"),
    }


def test_the_last_answer_is_shown_while_the_command_runs_again() -> None:
    stage = web().exit("web.1:ready", 1).wait(2)
    assert asked(stage) == [0, 2]
    assert seen(stage) == ("Starting", "not ready: exec check: exit 1")


def test_it_may_have_to_pass_several_times_in_a_row() -> None:
    stage = web(ReadySpec(exec=("check",), successes=2, deadline=None, initial_delay=3 * S)).wait(2)
    assert asked(stage) == []
    for code in (0, 1, 0):
        stage.wait(1).exit("web.1:ready", code)
    assert seen(stage) == ("Starting", "not ready: exec check: exit 1")
    stage.wait(1).exit("web.1:ready", 0)
    assert (asked(stage), seen(stage)) == ([3, 4, 5, 6], ("Running", ""))


def test_a_command_that_hangs_is_killed_at_its_timeout_and_counts_as_a_failure() -> None:
    stage = web().wait(1.5)
    assert (1, "web.1:ready", "KILL") in stage.signals()
    assert seen(stage) == ("Starting", "not ready: exec check: no answer within 1s")
    assert asked(stage.wait(1)) == [0, 2]


def test_that_it_is_ready_survives_the_controller_and_so_does_what_was_answered() -> None:
    ready = ReadySpec(exec=("check",), successes=2)
    wanted = spec(web=watcher(ready=ready))
    stage = Stage().apply(wanted).exit("web.1:ready", 0).wait(1)
    stage.new_controller(wanted).exit("web.1:ready", 0)
    assert seen(stage) == ("Running", "")
    count = len(asked(stage))
    assert seen(stage.new_controller(wanted).wait(60)) == ("Running", "")
    assert len(asked(stage)) == count


def test_the_next_process_of_a_slot_has_to_show_it_anew() -> None:
    stage = web().exit("web.1:ready", 0).wait(60).exit("web.1", 1).wait(0.5)
    assert seen(stage) == ("Starting", "not ready: exec check has not answered yet")


def test_what_is_not_ready_by_the_deadline_has_failed_and_is_started_again_after_the_delay() -> (
    None
):
    stage = web()
    for _ in range(5):
        stage.exit("web.1:ready", 1).wait(2)
    trouble = "not ready within 10s: exec check: exit 1"
    assert stage.signals() == [(10, "web.1", "TERM")]
    assert seen(stage) == ("BackOff", trouble)
    assert stage.slot("web.1").next_ns == 15 * S
    ended = next(e.message for e in stage.events if e.type == "process.exited")
    assert ended == f"web.1 ended ({trouble}): killed by SIGTERM after 10s"
    stage.wait(5)
    assert (stage.alive(), stage.slot("web.1").attempt, stage.slot("web.1").restarts) == (
        ["web.1"], 1, 1,
    )  # fmt: skip
    for _ in range(5):
        stage.exit("web.1:ready", 1).wait(2)
    assert seen(stage) == ("BackOff", f"{trouble}, 2 times in a row")


def test_while_it_is_being_stopped_it_says_for_what() -> None:
    stage = web()
    stage.stubborn = frozenset({"web.1"})
    for _ in range(5):
        stage.exit("web.1:ready", 1).wait(2)
    assert seen(stage) == ("Stopping", "not ready within 10s: exec check: exit 1")


def test_a_slot_that_never_becomes_ready_gives_up_like_one_that_dies() -> None:
    stage = web(max_restarts=MaxRestartsSpec(count=1, window=60 * S))
    for _ in range(2):
        stage.wait(0.5).exit("web.1:ready", 1).wait(20)
    state, note = seen(stage)
    assert state == "Failed"
    assert note.endswith("last: not ready within 10s: exec check: no answer within 1s")


def test_nobody_is_stopped_before_anybody_has_asked() -> None:
    """A controller that comes late has the probe run first: what was asked before it is not known."""
    wanted = spec(web=watcher(ready=ASKS))
    stage = Stage().apply(wanted).exit("web.1:ready", 1)
    del stage.records[process("web.1:ready")]
    stage.now += 60 * S
    stage.new_controller(wanted)
    assert stage.signals() == []
    assert seen(stage.exit("web.1:ready", 0)) == ("Running", "")


def test_without_a_deadline_it_may_take_for_ever() -> None:
    stage = web(ReadySpec(exec=("check",), deadline=None))
    for _ in range(100):
        stage.exit("web.1:ready", 1).wait(1)
    assert seen(stage) == ("Starting", "not ready: exec check: exit 1")


def test_a_delay_is_ready_by_its_age() -> None:
    stage = web(ReadySpec(delay=90 * S)).wait(89)
    assert seen(stage) == ("Starting", "ready after 1m30s of uptime")
    assert stage.slot("web.1").next_ns == 90 * S
    assert seen(stage.wait(1)) == ("Running", "")


def test_a_probe_that_is_new_concerns_only_what_starts_later() -> None:
    stage = web(None).wait(60).apply(spec(web=watcher(ready=ASKS))).wait(60)
    assert (stage.alive(), asked(stage), seen(stage)) == (["web.1"], [], ("Running", ""))
    assert asked(stage.exit("web.1", 1).wait(0.5)) == [120]


def test_what_was_ready_without_a_probe_stays_so_when_there_is_one_again() -> None:
    stage = web().exit("web.1:ready", 1).apply(spec(web=watcher())).wait(5)
    assert seen(stage) == ("Running", "")
    stage.apply(spec(web=watcher(ready=ASKS))).wait(60)
    assert (seen(stage), stage.signals()) == (("Running", ""), [])


def test_a_roll_goes_on_when_the_new_process_is_ready_and_not_before() -> None:
    def wanted(cmd: str) -> object:
        return spec(web=watcher(cmd=(cmd,), ready=ASKS, numprocesses=2))

    stage = Stage().apply(wanted("old"))  # type: ignore[arg-type]
    stage.exit("web.1:ready", 0).exit("web.2:ready", 0).wait(60)
    stage.apply(wanted("new")).wait(5)  # type: ignore[arg-type]
    assert stage.spawned("web.")[-1] == "web.1:ready"
    assert [id for _, id, signal in stage.signals() if signal == "TERM"] == ["web.1"]
    stage.wait(1.5).exit("web.1:ready", 0)
    assert [id for _, id, signal in stage.signals() if signal == "TERM"] == ["web.1", "web.2"]


def test_a_revision_is_not_good_before_what_it_changed_is_ready() -> None:
    stage = Stage().try_out(spec(web=watcher(ready=ReadySpec(exec=("check",), deadline=None))))
    for _ in range(20):
        stage.exit("web.1:ready", 1).wait(1)
    assert stage.outcome == "pending"
    assert stage.outlook == (None, "web.1: not ready: exec check: exit 1")
    stage.exit("web.1:ready", 0).wait(9)
    assert stage.outcome == "pending"
    assert stage.wait(1).outcome == "good"


def test_a_revision_fails_when_what_it_changed_is_not_ready_in_time() -> None:
    stage = Stage().try_out(spec(web=watcher(ready=ASKS)))
    for _ in range(5):
        stage.exit("web.1:ready", 1).wait(2)
    assert stage.outcome == "paused"
    assert stage.trial is not None
    assert stage.trial.reason == "web.1 was not ready within 10s: exec check: exit 1"


HTTP = ReadySpec(http="http://127.0.0.1:${slot+7999}/healthz", interval=2 * S, initial_delay=S)


def told(stage: Stage) -> dict[str, int]:
    """Return what the controller asks, by process."""
    return {str(id): each.incarnation for id, each in stage.probing.items()}


def test_a_probe_over_the_network_is_asked_of_each_process_until_it_is_ready() -> None:
    stage = Stage().wait(5).apply(spec(web=watcher(ready=HTTP, numprocesses=2)))
    assert [each.probing for each in stage.probing.values()] == [
        Probing(HttpTarget("127.0.0.1", 7999 + slot, "/healthz"), 6 * S, 2 * S, S, 1, 1)
        for slot in (1, 2)
    ]
    place = "http 127.0.0.1:8000/healthz"
    assert seen(stage) == ("Starting", f"not ready: {place} has not answered yet")
    stage.answer("web.1:ready", f"{place} answers 503")
    assert seen(stage) == ("Starting", f"not ready: {place} answers 503")
    stage.answer("web.1:ready", passed=True)
    assert (seen(stage), told(stage)) == (("Running", ""), {"web.2:ready": 2})


def test_the_next_controller_asks_what_is_not_known_yet() -> None:
    wanted = spec(web=watcher(ready=HTTP, numprocesses=2))
    stage = Stage().apply(wanted).answer("web.1:ready", passed=True)
    stage.answer("web.2:ready").new_controller(wanted)
    assert told(stage) == {"web.2:ready": 2}
    assert stage.slot("web.2").note.endswith("has not answered yet")
    assert [e.message for e in stage.events if e.type == "process.ready"] == [
        "web.1 is ready after 0ms"
    ]


def test_a_process_that_ends_or_is_stopped_is_asked_no_more() -> None:
    stage = Stage().apply(spec(web=watcher(ready=HTTP, numprocesses=3, backoff=PATIENT)))
    stage.stubborn = frozenset({"web.3"})
    stage.exit("web.1", 1).apply(spec(web=watcher(ready=HTTP, numprocesses=2, backoff=PATIENT)))
    assert told(stage) == {"web.2:ready": 2}
    assert told(stage.wait(5)) == {"web.1:ready": 4, "web.2:ready": 2}
    assert told(stage.apply(spec()).wait(5)) == {}


def test_an_edit_of_what_is_asked_counts_at_once_and_an_older_answer_does_not() -> None:
    stage = Stage().apply(spec(web=watcher(ready=HTTP)))
    old = stage.probing[process("web.1:ready")]
    stage.apply(spec(web=watcher(ready=ReadySpec(tcp="${slot}00"))))
    new = stage.probing[process("web.1:ready")]
    assert new.probing.target == TcpTarget("127.0.0.1", 100)
    stage.tell(ProbeAnswered(old.id, old.incarnation, old.probing, True, "", stage.now))
    assert seen(stage) == ("Starting", "not ready: tcp 127.0.0.1:100 has not answered yet")
    assert seen(stage.answer("web.1:ready", passed=True)) == ("Running", "")


def test_what_could_not_be_asked_is_no_reason_to_stop_a_process() -> None:
    stage = Stage().apply(spec(web=watcher(ready=HTTP, backoff=PATIENT)))
    stage.answer("web.1:ready", "cannot be asked: too many open files", passed=None).wait(120)
    assert seen(stage) == ("Starting", "not ready: cannot be asked: too many open files")
    assert stage.answer("web.1:ready", "answers 503").signals() == [(120, "web.1", "TERM")]


def test_a_slot_whose_number_makes_no_address_says_so() -> None:
    ready = ReadySpec(tcp="${slot+65535}")
    stage = Stage().apply(spec(web=watcher(ready=ready)))
    note = "not ready: cannot ask slot 1: expected a port from 1 to 65535"
    assert (seen(stage), told(stage)) == (("Starting", note), {})


def test_probes_of_many_slots_are_kept_while_a_plan_reaches_only_some() -> None:
    stage = Stage().apply(spec(web=watcher(ready=HTTP, numprocesses=1200)))
    assert len(told(stage)) == 1200
    stage.apply(spec(web=watcher(ready=HTTP, numprocesses=1200, cmd=("new",))))
    assert len(told(stage)) == 1200


def test_a_line_is_looked_for_from_where_the_life_of_a_process_begins() -> None:
    stage = Stage()
    stage.log_places = (LogPlace("/logs/web-1.log", 7, 300),)
    wanted = spec(web=watcher(ready=ReadySpec(log="^ready", interval=2 * S), backoff=PATIENT))
    stage.apply(wanted)
    target = LogTarget("^ready", stage.log_places)
    assert stage.probing[process("web.1:ready")].probing == Probing(target, 0, 2 * S, S, 1, 1)
    stage.new_controller(wanted)
    assert stage.probing[process("web.1:ready")].probing.target == target
    stage.answer("web.1:ready", "log '^ready': no line matches yet")
    assert seen(stage) == ("Starting", "not ready: log '^ready': no line matches yet")
    assert seen(stage.answer("web.1:ready", passed=True)) == ("Running", "")


def test_a_process_whose_output_is_not_known_is_started_again_at_the_deadline() -> None:
    stage = Stage().apply(spec(web=watcher(ready=HTTP, backoff=PATIENT)))
    stage.apply(spec(web=watcher(ready=ReadySpec(log="up"), backoff=PATIENT))).wait(60)
    assert stage.signals() == [(60, "web.1", "TERM")]
    assert "where its output begins is not known" in stage.slot("web.1").note


def test_a_command_that_runs_when_its_process_is_stopped_is_killed() -> None:
    stage = web().apply(spec())
    assert (0, "web.1:ready", "KILL") in stage.signals()
    assert stage.records == {}


def test_after_ready_runs_once_for_each_process_and_keeps_nothing_back() -> None:
    hooks = HooksSpec(after_ready=HOOK)
    wanted = spec(web=watcher(ready=HTTP, hooks=hooks, backoff=PATIENT))
    stage = Stage().apply(wanted).wait(5)
    assert stage.spawned("after_ready") == []
    stage.answer("web.1:ready", passed=True)
    assert (stage.spawned("after_ready"), seen(stage)) == (["web.1:after_ready"], ("Running", ""))
    stage.exit("web.1:after_ready", 1).wait(60).new_controller(wanted).wait(60)
    assert (stage.alive(), len(stage.spawned("after_ready"))) == (["web.1"], 1)
    stage.exit("web.1", 1).answer("web.1:ready", passed=True)
    assert len(stage.spawned("after_ready")) == 2


def test_a_hook_after_the_start_comes_before_the_probe() -> None:
    stage = web(hooks=HooksSpec(after_spawn=HOOK)).wait(20)
    assert asked(stage) == []
    assert asked(stage.exit("web.1:after_spawn")) == [20]
