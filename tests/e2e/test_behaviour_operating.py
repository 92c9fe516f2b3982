"""What an operator says by hand, and what programs read: intents, exit codes, plain output, stable keys."""

from __future__ import annotations

import os
import signal

import pytest

from tests.e2e.stage import ROOT, Stage, free_port, is_alive, stage, until

pytestmark = pytest.mark.e2e

SPEC = """\
watchers:
  web:
    cmd: sleep 1001
    numprocesses: 2
    backoff: {burst: 100}
  other:
    cmd: sleep 1002
"""


def kill_controller(it: Stage) -> None:
    old = it.status()["controller_pid"]
    os.kill(old, signal.SIGKILL)
    until(lambda: it.status()["controller_pid"] != old, "another controller")
    until(lambda: it.status()["observed_revision"] == it.status()["revision"], "it knows all")


def test_up_prints_the_table_and_term_ends_all_with_exit_code_0() -> None:
    with stage(ROOT / "specs") as it:
        it.edit("127.0.0.1:8000", f"127.0.0.1:{free_port()}")
        it.up()
        born = it.processes()
        assert len(born) >= 4  # three processes and the controller
        until(
            lambda: "all as desired" in it.output.read_text(), "the table", show=it.output.read_text
        )
        said = it.output.read_text()
        assert "WATCHER" in said
        assert "Completed" in said
        assert "SOCKET" in said
        assert it.end(signal.SIGTERM) == 0, it.output.read_text()
        until(lambda: not any(map(is_alive, born)), "nothing is left", within_s=5)
        assert "stopped in order" in it.log("ticker")


def test_what_is_stopped_by_hand_stays_stopped_through_kills_edits_and_managers() -> None:
    with stage(SPEC) as it:
        it.up()
        it.run("stop", "web", "--reason", "moving house")
        kill_controller(it)
        it.edit("sleep 1001", "sleep 2001")
        it.edit("sleep 1002", "sleep 2002")
        until(lambda: it.status()["revision"] >= 2, "the edit")
        it.settle()
        assert it.pids("web") == {}
        assert it.watcher("web")["state"] == "Held"
        assert "moving house" in it.watcher("web")["note"]
        it.run("stop", "web", "--for", "1h", "--reason", "unpacking")
        ends_ns = it.watcher("web")["overrides"][0]["until_ns"]
        assert it.end() == 0
        it.up()
        (word,) = it.watcher("web")["overrides"]
        assert (word["what"], word["why"]) == ("stopped", "unpacking")
        assert abs(word["until_ns"] - ends_ns) < 10**9
        assert it.pids("web") == {}
        it.run("resume", "web")
        assert sorted(it.pids("web")) == [1, 2]


def test_scale_holds_until_the_spec_is_asked_for_again() -> None:
    with stage(SPEC) as it:
        it.up()
        before = it.pids("web")
        it.run("scale", "web=4")
        after = it.pids("web")
        assert sorted(after) == [1, 2, 3, 4]
        assert before.items() <= after.items()
        kill_controller(it)
        assert it.pids("web") == after
        it.run("scale", "web=spec")
        assert it.pids("web") == before


def test_restart_replaces_every_process_and_no_other() -> None:
    with stage(SPEC) as it:
        it.up()
        before, other = it.pids("web"), it.pids("other")
        it.run("restart", "web.2")
        assert it.pids("web")[1] == before[1]
        assert it.pids("web")[2] != before[2]
        it.run("restart", "web")
        assert not set(it.pids("web").values()) & set(before.values())
        assert it.pids("other") == other


def test_a_signal_reaches_the_slot_that_is_named() -> None:
    with stage(SPEC) as it:
        it.up()
        before = it.pids("web")
        it.run("signal", "KILL", "web.2")
        until(lambda: it.pids("web").get(2) not in {before[2], None}, "a new process in slot 2")
        assert it.pids("web")[1] == before[1]


def test_the_exit_code_of_status_tells_how_it_stands() -> None:
    broken = SPEC + "  broken:\n    cmd: ls /no/such/folder\n"
    with stage(SPEC) as it:
        said = it.run("status", code=4)
        assert "hint: start it with: reconcile up" in said.stderr
        assert "Traceback" not in said.stderr
        it.up()
        it.run("status", code=0)
        it.write(broken)
        until(lambda: it.run("status", code=None).returncode == 3, "exit code 3", every_s=0.2)
        missing = it.run("status", "wbe", code=None)
        assert missing.returncode not in {0, 3}
        assert "web" in missing.stderr  # a name that is near


def test_output_through_a_pipe_is_plain() -> None:
    with stage(SPEC) as it:
        it.environ.pop("NO_COLOR")
        it.up()
        for arguments in (["status"], ["status", "-o", "wide"], ["events"], ["plan"], ["ls"]):
            said = it.run(*arguments).stdout
            assert said
            assert "\x1b" not in said, arguments
            assert "\r" not in said, arguments


def test_the_keys_of_json_are_those_that_programs_rely_on() -> None:
    with stage(
        "sockets:\n  http: {listen: 127.0.0.1:0}\n" + SPEC + "    use_sockets: [http]\n"
    ) as it:
        it.up()
        status = it.status()
        assert {
            "name", "revision", "observed_revision", "keeper_pid", "controller_pid", "spec_errors",
            "settled", "watchers", "sockets",
        } <= status.keys()  # fmt: skip
        watcher = status["watchers"][0]
        assert {
            "name", "kind", "want", "state", "ready", "restarts", "note", "conditions", "slots",
            "overrides", "drift",
        } <= watcher.keys()  # fmt: skip
        assert {"type", "status", "reason", "message", "since_ns"} <= watcher["conditions"][
            0
        ].keys()
        slot = {"slot", "pid", "state", "since_ns", "attempt", "exit", "fired"}
        assert slot <= watcher["slots"][0].keys()
        socket = {"name", "listen", "type", "state", "used_by"}
        assert socket <= status["sockets"][0].keys()


def test_without_a_terminal_the_bare_command_is_its_help() -> None:
    with stage(SPEC) as it:
        said = it.run(stdin="status\n")
        assert said.stdout.startswith("Usage: reconcile")


def test_a_second_instance_is_refused_and_told_of_the_first() -> None:
    with stage(SPEC) as it:
        it.up()
        refused = it.run("up", str(it.specs), code=1)
        assert "already running" in refused.stderr
        assert str(it.status()["keeper_pid"]) in refused.stderr
