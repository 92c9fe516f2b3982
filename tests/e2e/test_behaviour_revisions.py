"""Revisions: what is not good is paused or rolled back by itself, and an older one comes back on demand."""

from __future__ import annotations

import json
import os
import re
import signal
from typing import Any

import pytest

from tests.e2e.stage import Stage, stage, until

pytestmark = pytest.mark.e2e

SPEC = """\
apply: {confirm_after: 800ms, on_failure: rollback, quiet_period: 100ms}
watchers:
  web:
    cmd: sleep 1001
    numprocesses: 3
  db:
    cmd: sleep 1002
"""
BROKEN = 'sh -c "echo cannot reach the moon; exit 3"'


def history(it: Stage) -> dict[int, dict[str, Any]]:
    answer = json.loads(it.run("history", "-o", "json").stdout)
    return {each["number"]: each for each in answer["revisions"]}


def outcome(it: Stage, wanted: str, revision: int) -> dict[str, Any]:
    """Wait until a revision is in force with this outcome, and return the status."""

    def reached() -> Any:
        status = it.status()
        return (status["revision"], status["outcome"]) == (revision, wanted) and status

    said = f"revision {revision} is {wanted}"
    return until(reached, said, show=lambda: history(it), every_s=0.3)


def test_a_bad_edit_is_rolled_back_by_itself_and_stays_rejected_until_it_changes() -> None:
    with stage(SPEC) as it:
        it.up()
        outcome(it, "good", 1)
        web, db = it.pids("web"), it.pids("db")
        it.edit("sleep 1001", BROKEN)
        status = outcome(it, "good", 3)
        # It dies again and again until the verdict is in force, and may have said so again by then.
        assert (status["spec_state"], {*status["log"]}) == (
            "rolled_back",
            {"cannot reach the moon"},
        )
        assert "web.1 ended with exit 3" in status["spec_message"]
        # Two of three never noticed, and what was not changed was not touched.
        assert {slot: pid for slot, pid in it.pids("web").items() if slot > 1} == {
            slot: pid for slot, pid in web.items() if slot > 1
        }
        assert it.pids("db") == db
        page = it.run("status", code=3).stdout
        assert "spec rolled back: revision 2 was rolled back to the content of 1" in page
        assert "    cannot reach the moon" in page
        refused = it.run("apply", "--yes", code=1).stderr
        assert "which was rolled back: web.1 ended with exit 3" in refused
        # A new controller does not try them either.
        os.kill(status["controller_pid"], signal.SIGKILL)
        until(lambda: it.status()["controller_pid"] != status["controller_pid"], "a new controller")
        assert it.settle()["spec_state"] == "rolled_back"
        it.edit(BROKEN, "sleep 1003")
        assert outcome(it, "good", 4)["spec_state"] == "applied"
        assert {n: each["outcome"] for n, each in history(it).items()} == {
            1: "good",
            2: "rolled_back",
            3: "good",
            4: "good",
        }


def test_a_pause_leaves_the_rest_alone_through_a_controllers_death_until_somebody_says_go_on() -> (
    None
):
    flag = "[ -e ../flag ] || exit 4; exec sleep 1003"
    with stage(SPEC.replace("rollback", "pause")) as it:
        it.up()
        outcome(it, "good", 1)
        web = it.pids("web")
        it.edit("sleep 1001", f'sh -c "{flag}"')
        status = outcome(it, "paused", 2)
        os.kill(status["controller_pid"], signal.SIGKILL)
        until(lambda: it.status()["controller_pid"] != status["controller_pid"], "a new controller")
        status = outcome(it, "paused", 2)
        assert status["reason"].startswith("web.1 ended with exit 4 after")
        assert {2: web[2], 3: web[3]}.items() <= it.pids("web").items()
        told = it.run("apply", "--yes", code=3).stdout
        assert "paused: web.1 ended with exit 4" in told
        (it.folder / "flag").touch()
        it.run("apply", "--continue", "--yes")
        assert not set(it.pids("web").values()) & set(web.values())
        outcome(it, "good", 2)


def test_an_operator_compares_goes_back_and_the_files_wait() -> None:
    with stage(SPEC) as it:
        it.up()
        outcome(it, "good", 1)
        it.edit("numprocesses: 3", "numprocesses: 1\n    env: {API_TOKEN: hush-hush, A: b}")
        outcome(it, "good", 2)
        shown = it.run("diff", "1", "2").stdout
        assert "env.API_TOKEN: (unset) -> (hidden)" in shown
        assert "numprocesses: 3 -> 1" in shown
        told = it.run("rollback", "--reason", "too few").stdout
        assert "to the content of revision 1:" in told
        status = it.settle()
        assert (status["revision"], status["spec_state"]) == (3, "rolled_back")
        assert len(it.pids("web")) == 3
        assert '("too few")' in history(it)[2]["reason"]
        assert "web" in it.run("plan", code=2).stdout
        # The files count again when somebody says so, or when they change.
        it.run("apply", "--yes")
        assert (it.status()["revision"], len(it.pids("web"))) == (4, 1)
        for command in ("history", "diff", "events", "status"):
            assert "hush-hush" not in it.run(command, code=None).stdout


def test_what_is_shown_was_written_by_what_failed() -> None:
    spec = """\
apply: {confirm_after: 800ms, quiet_period: 100ms}
watchers:
  web:
    cmd: sh -c 'echo "healthy and well"; exec sleep 1000'
    env: {V: "1"}
    hooks:
      before_spawn:
        cmd: sh -c 'test "$V" = 1 || { echo "V is not 1"; exit 1; }'
"""
    with stage(spec) as it:
        it.up()
        outcome(it, "good", 1)
        it.edit('V: "1"', 'V: "2"')
        assert outcome(it, "paused", 2)["log"] == ["V is not 1"]
        # A process is quoted by its own last line, also where an older one has said more.
        it.edit('V: "2"', 'V: "1"')
        outcome(it, "good", 3)
        it.edit("exec sleep 1000", 'echo "no config file" >&2; exit 1')
        words = "in a row: no config file"
        until(lambda: words in it.run("status", code=None).stdout, "its words", every_s=0.2)
        assert it.status()["log"][-1] == "no config file"
        it.edit('echo "healthy and well"; echo "no config file" >&2; exit 1', "exit 4")
        quiet = re.compile(r"exit 4, \d+ times in a row(, next|$)", re.MULTILINE)
        until(lambda: quiet.search(it.run("status", code=None).stdout), "a silent end", every_s=0.2)
