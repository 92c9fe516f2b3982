"""Command lines against a manager: what is asked of it, what is shown, and the exit code."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from reconciler import __version__
from reconciler.cli.commands_table import COMMANDS
from reconciler.cli.main import main
from reconciler.model.errors import RequestError
from reconciler.output.stamps import stamp
from tests.cli.answers import FAILED_JOB, HTTP, MAILER, RUNNING_WEB, status
from tests.cli.manager import Manager, Stream

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
RECONCILE = str(Path(sys.executable).with_name("reconcile"))
REPLACE_WEB = {"name": "web", "how": "replace", "message": "env.A changed", "slots": [1, 2]}
REMOVE_OLD = {"name": "old", "how": "remove", "message": "no longer in the spec"}


def refusing(error: RequestError) -> object:
    def answer(_: object) -> object:
        raise error

    return answer


# ---- exit codes ----


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (status(RUNNING_WEB), 0),
        (status(RUNNING_WEB, FAILED_JOB), 3),
        (status(MAILER), 3),
        (status(RUNNING_WEB, spec_state="invalid"), 3),
        (status(RUNNING_WEB, store_state="failing"), 3),
        # What is in doubt shows in its watchers; the damage itself is over.
        (status(RUNNING_WEB, store_state="damaged"), 0),
        (status(RUNNING_WEB, sockets=[HTTP | {"state": "Failed"}]), 3),
    ],
)
def test_status_tells_by_its_exit_code_whether_all_is_as_desired(
    manager: Manager, answer: dict[str, object], code: int
) -> None:
    manager.answers["status"] = answer

    assert main(["status"]) == code


def test_the_status_of_some_is_not_spoilt_by_others(manager: Manager) -> None:
    manager.answers["status"] = status(RUNNING_WEB, spec_state="invalid")

    assert main(["status", "web"]) == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RequestError("not_found", "cannot stop x: no such watcher"), 1),
        (RequestError("denied", "cannot stop x: denied"), 1),
        (RequestError("timeout", "cannot stop x: still running after 60s"), 5),
    ],
)
def test_a_refusal_is_a_message_and_an_exit_code(
    manager: Manager, capsys: pytest.CaptureFixture[str], error: RequestError, code: int
) -> None:
    error.details["hint"] = "did you mean y?"
    manager.answers["stop"] = refusing(error)

    assert main(["stop", "x"]) == code
    assert capsys.readouterr().err == f"reconcile: {error.message}\n  hint: did you mean y?\n"


def test_without_a_manager_the_exit_code_is_4(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 4
    assert main(["--name", "shop", "status"]) == 4
    assert "no manager named shop is running" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        "stats",
        "stop",
        "stop --frobnicate web",
        "scale web",
        "scale web=-1",
        "scale web=many",
        "signal 9 web",
        "signal TERM",
        "start web --timeout 5x",
        "stop web --for soon",
        "stop web --for 0s",
        "restart web --for 2h",
        "start web --timeout 0s",
        "status -o xml",
        "status -w -o json",
        "status -l team",
        "events --since yesterday",
        "up --no-wait",
    ],
)
def test_a_wrong_command_line_exits_with_64(manager: Manager, line: str) -> None:
    assert main(line.split()) == 64
    assert manager.calls == []


@pytest.mark.parametrize("command", [*COMMANDS, ""])
def test_every_command_has_a_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("prompt_toolkit")
    assert main([*command.split(), "--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage: reconcile")


def test_an_unknown_command_is_answered_with_near_ones(capsys: pytest.CaptureFixture[str]) -> None:
    main(["stauts"])

    assert "no command 'stauts'; did you mean status?" in capsys.readouterr().err


# ---- looking ----


def test_json_has_all_keys(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    manager.answers["status"] = status(MAILER)

    main(["status", "-o", "json"])

    (watcher,) = json.loads(capsys.readouterr().out)["watchers"]
    assert watcher["slots"][0]["exit"] == {"code": 78, "signal": None, "core": False, "error": None}
    assert watcher["conditions"] == []


def test_yaml_says_the_same_as_json(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    manager.answers["status"] = status(RUNNING_WEB, MAILER, sockets=[HTTP])

    main(["status", "-o", "json"])
    from_json = json.loads(capsys.readouterr().out)
    main(["status", "-o", "yaml"])

    assert yaml.safe_load(capsys.readouterr().out) == from_json


def test_names_come_one_a_line(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    manager.answers["status"] = status(RUNNING_WEB, MAILER)

    main(["status", "-o", "name", "-l", "team=shop", "w*"])

    assert capsys.readouterr().out == "web\nmailer\n"
    assert manager.asked("status") == [{"names": ["w*"], "labels": {"team": "shop"}}]


def test_output_is_asked_for_and_shown_after_the_slots_name(
    manager: Manager, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    manager.answers["logs"] = {
        "entries": [
            {"watcher": "web", "slot": 1, "stream": "stdout", "data": b"one\ntwo\n"},
            {"watcher": "worker", "slot": 10, "stream": "stderr", "data": b"\x1b[1mthree\n"},
        ]
    }

    assert main(["logs", "-n", "5"]) == 0
    assert manager.asked("logs") == [{"lines": 5}]
    assert capfdbinary.readouterr().out == (
        b"web.1     | one\nweb.1     | two\nworker.10 | \x1b[1mthree\n"
    )


def test_events_are_objects_one_a_line(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    manager.answers["events"] = {"events": [{"seq": 4, "time_ns": 5, "type": "spec.applied"}]}

    main(["events", "--since", "3", "-o", "json"])

    assert manager.asked("events") == [{"since": 3}]
    assert json.loads(capsys.readouterr().out)["type"] == "spec.applied"


def test_events_are_chosen_by_watcher_type_and_number(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    crash = {
        "seq": 9,
        "time_ns": 86_400 * 10**9 + 5,
        "type": "process.exited",
        "message": "web.1 ended",
        "details": {"count": 40, "since_ns": 86_400 * 10**9},
    }
    manager.answers["events"] = {"events": [crash], "left_out": 7, "kept_since_ns": 10**9}

    assert main(["events", "web*", "--type", "process", "-n", "5", "--since", "3"]) == 0
    assert main(["events", "-n", "5", "-f"]) == 64

    assert manager.asked("events") == [
        {"since": 3, "names": ["web*"], "types": ["process"], "limit": 5}
    ]
    shown = capsys.readouterr()
    assert re.search(r"web.1 ended \(40 times since \d\d:\d\d:\d\d\)$", shown.out.strip())
    assert (
        "are kept no more, but for orders and revisions\n7 older events are left out" in shown.err
    )


def test_logs_of_several_slots_are_in_the_order_of_their_times(
    manager: Manager, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    def line(second: int, text: bytes) -> bytes:
        return stamp(second * 10**9) + b" " + text + b"\n"

    one = {"watcher": "web", "slot": 1, "stream": "stdout", "path": "/logs/web-1.log"}
    first = {**one, "data": line(1, b"a") + b"of a\n" + line(4, b"d"), "more": True}
    second = {**one, "slot": 2, "data": line(2, b"b") + line(3, b"c"), "cut": True}
    shared = {**one, "watcher": "", "slot": 0, "data": line(5, b"e"), "path": "/logs/all.log"}
    manager.answers["logs"] = {"entries": [first, second, shared], "empty": ["x is discarded"]}

    assert main(["logs", "--no-prefix"]) == 0
    shown = capfdbinary.readouterr()
    assert [text[28:] or text for text in shown.out.split(b"\n")] == [
        *(b"a", b"of a", b"b", b"c", b"d", b"e", b"")
    ]
    assert shown.err.decode().splitlines() == [
        "x is discarded",
        "web.1: older lines are left out; more of them: -n 10000",
        "web.2: only the last of it has room here; all of it: /logs/web-1.log*",
    ]
    assert main(["logs", "--tail", "3", "--since", "1h", "--hooks"]) == 0
    asked = manager.asked("logs")
    assert asked[0] == {"lines": 100}
    assert (asked[1]["lines"], asked[1]["hooks"]) == (3, True)
    shown = capfdbinary.readouterr()
    assert b"all.log | " in shown.out
    assert b"older lines" not in shown.err
    assert main(["logs", "-f", "--since", "1h"]) == 64


def test_answers_for_programs_are_json_or_yaml_everywhere(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    run = {"name": "job", "slot": 1, "generation": 2, "pid": 77, "fired_ns": 10**9}
    manager.answers |= {
        "history": {"revision": 3, "revisions": []},
        "diff": {"old": 1, "new": 2, "changes": []},
        "runs": {"runs": [run]},
        "plan": {"revision": 3, "changes": [], "drift": []},
        "status": status(RUNNING_WEB),
    }
    for command in ("history", "diff", "runs *", "plan", "ls", "status"):
        said = []
        for output, read in (("json", json.loads), ("yaml", yaml.safe_load)):
            main([*command.split(), "-o", output])
            said.append(read(capsys.readouterr().out))
        assert said[0] == said[1], command
    assert main(["runs", "job", "-o", "wide"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert ("PID  ENDED" in head, " 77 " in row) == (True, True)


def test_ls_asks_each_instance(capsys: pytest.CaptureFixture[str]) -> None:
    from reconciler.cli.connection.places import runtime_root

    one = status(RUNNING_WEB, keeper_pid=811, source=["/srv/shop/specs"])
    with (
        Manager(os.path.join(runtime_root(), "shop"), status=one),
        Manager(
            os.path.join(runtime_root(), "sick"), status=refusing(RequestError("overloaded", "no"))
        ),
    ):
        assert main(["ls"]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "NAME  STATE       WATCHERS  PID  REVISION  SOURCE",
        "shop  as desired  1         811  42        /srv/shop/specs",
        "sick  overloaded  -         -    -",
    ]


# ---- operating ----


@pytest.mark.parametrize(
    ("line", "method", "params"),
    [
        ("start web --no-wait", "start", {"names": ["web"]}),
        (
            "stop web --no-wait --reason disk",
            "stop",
            {"names": ["web"], "reason": "disk"},
        ),
        ("restart web.2 --all --no-wait", "restart", {"names": ["web.2"], "at_once": True}),
        ("reload -l team=shop --no-wait", "reload", {"labels": {"team": "shop"}}),
        (
            "stop web --for 2h --no-wait",
            "stop",
            {"names": ["web"], "for_ns": 7200 * 10**9},
        ),
        (
            "start web --for 90 --reason test --no-wait",
            "start",
            {"names": ["web"], "for_ns": 90 * 10**9, "reason": "test"},
        ),
        (
            "scale web=4 --for 1m --no-wait",
            "scale",
            {"scale": {"web": 4}, "for_ns": 60 * 10**9},
        ),
        ("resume web --no-wait", "resume", {"names": ["web"]}),
        (
            "signal sigusr1 web api --timeout 5s",
            "signal",
            {"signal": "USR1", "names": ["web", "api"], "timeout_ns": 5 * 10**9},
        ),
        ("scale web=4 api=spec --no-wait", "scale", {"scale": {"web": 4, "api": None}}),
        (
            "rerun report --failed --overlap replace --require-all",
            "rerun",
            {"names": ["report"], "failed": True, "overlap": "replace", "require_all": True},
        ),
    ],
)
def test_an_operation_asks_for_what_was_said(
    manager: Manager, line: str, method: str, params: dict[str, object]
) -> None:
    manager.answers[method] = {"results": [{"name": "web", "message": "done"}]}

    assert main(line.split()) == 0
    assert manager.asked(method) == [params]


UP = {"name": "web", "kind": "up"}


def restarting(manager: Manager, *steps: Mapping[str, object]) -> None:
    manager.answers |= {
        "restart": {
            "results": [
                {"name": "web", "message": "replaces its processes one by one", "goal": UP},
                {"name": "api", "message": "nothing to wait for"},
            ]
        },
        "orders.follow": Stream("progress", steps),
        "status": status(MAILER),
    }


def test_an_operation_waits_until_it_has_come_about(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    rolling = {"waiting": [{"name": "web", "state": "Rolling"}]}
    restarting(manager, rolling, {"converged": True, "done": True})

    assert main(["restart", "we*"]) == 0
    assert manager.asked("restart") == [{"names": ["we*"]}]
    assert manager.asked("orders.follow") == [{"goals": [UP]}]
    assert capsys.readouterr().out.splitlines() == [
        "web: replaces its processes one by one",
        "api: nothing to wait for",
        "waiting for web: Rolling",
    ]


def test_an_operation_that_does_not_come_about_says_so(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    restarting(manager)
    manager.answers["orders.follow"] = {"stream": 1}

    assert main(["restart", "web", "--timeout", "100ms"]) == 5
    assert main(["restart", "web", "--timeout", "100ms", "-o", "json"]) == 5
    assert '"done": false' in capsys.readouterr().out


def test_many_goals_are_waited_for_in_parts(manager: Manager) -> None:
    restarting(manager, {"converged": True, "done": True})
    results = [{"name": f"w{n}", "goal": {"name": f"w{n}", "kind": "up"}} for n in range(700)]
    manager.answers["restart"] = {"results": results}

    assert main(["restart", "w*"]) == 0
    asked = manager.asked("orders.follow")
    assert [len(each["goals"]) for each in asked] == [500, 200]  # type: ignore[arg-type]  # lists


def test_an_order_that_fails_says_why_and_exits_with_3(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = [{"name": "mailer", "message": "slot 1: failed: exit 7"}]
    restarting(manager, {"failed": failed, "done": True})

    assert main(["restart", "web"]) == 3
    assert "mailer: slot 1: failed: exit 7" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("taken", "code"),
    [
        (("accepted",), 0),
        (("accepted", "skipped"), 0),
        (("skipped", "skipped"), 1),
        (("accepted", "refused"), 1),
    ],
)
def test_an_order_that_does_nothing_of_what_was_asked_does_not_exit_with_0(
    manager: Manager, taken: tuple[str, ...], code: int
) -> None:
    results = [{"name": "web", "message": "words", "taken": each} for each in taken]
    for method in ("stop", "signal", "scale", "rerun"):
        manager.answers[method] = {"results": results}

    assert main(["stop", "w*"]) == code
    assert main(["signal", "HUP", "w*"]) == code
    assert main(["scale", "w*=2"]) == code
    assert main(["rerun", "w*"]) == code


def test_without_a_terminal_nothing_is_removed_unless_yes_is_said(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    removal = {"kind": "watcher", "name": "old", "how": "remove", "message": "removed"}
    applying(manager, {"converged": True, "done": True}, changes=[removal])
    manager.answers["rollback"] = manager.answers["apply"]

    assert main(["apply"]) == 1
    assert main(["rollback"]) == 1
    assert manager.asked("apply") == [{"dry_run": True}]
    assert capsys.readouterr().err.count("--yes") == 2
    assert main(["apply", "--yes", "--only", "old"]) == 0
    assert manager.asked("apply.follow") == [{"revision": 43, "names": ["old"]}]


def test_apply_waits_for_the_runs_of_jobs_where_that_is_wanted(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    applying(manager, {"converged": True, "done": True}, changes=[])
    fires = {**RUNNING_WEB, "kind": "job"}
    manager.answers["status"] = status(fires)

    assert main(["apply", "--wait-jobs"]) == 0
    assert manager.asked("apply.follow") == [{"revision": 43, "runs": True}]
    assert capsys.readouterr().out.splitlines()[-1].endswith("all as desired, 1 job still running")


def test_plan_without_a_manager_shows_what_would_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "reconcile.yaml").write_text("watchers: {web: {cmd: sleep 1000}}\n")
    monkeypatch.chdir(tmp_path)

    assert main(["plan"]) == 2
    planned = capsys.readouterr().out
    assert main(["apply", "--dry-run"]) == 0
    assert planned == capsys.readouterr().out == "+ web  new\n1 to create\n"


def test_a_rerun_that_requires_all_tells_by_its_exit_code_what_still_ran(manager: Manager) -> None:
    running = {"name": "report", "generation": 4, "fired": [1], "running": [{"slot": 2, "pid": 7}]}
    manager.answers["rerun"] = {"results": [running]}

    assert main(["rerun", "report"]) == 0
    assert main(["rerun", "report", "--require-all"]) == 3


def test_shutdown_waits_until_the_manager_has_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = """
import sys, threading
from tests.cli.manager import Manager
gone = threading.Event()
manager = Manager(sys.argv[1], hello={"name": "shop"}, shutdown=lambda _: threading.Timer(0.1, gone.set).start() or {})
print("ready", flush=True)
gone.wait()
manager.close()
"""
    command = [sys.executable, "-c", program, str(tmp_path / "shop")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as keeper:
        assert keeper.stdout is not None
        keeper.stdout.readline()
        assert main(["--runtime-dir", str(tmp_path / "shop"), "shutdown"]) == 0
        assert keeper.wait(5) == 0

    assert capsys.readouterr().out == "shop: stopped\n"


def test_shutdown_gives_up_after_its_timeout(manager: Manager) -> None:
    manager.answers |= {"hello": {}, "shutdown": {}, "status": status(RUNNING_WEB)}

    assert main(["shutdown", "--timeout", "0.2"]) == 5


def test_upgrade_asks_for_the_next_one_and_says_what_became_of_it(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    manager.answers |= {
        "hello": {"name": "shop", "version": "1.0", "upgrades": 2},
        "upgrade": {"version": "1.1", "keeper_pid": 811, "controller_pid": 9, "upgrades": 3},
    }

    assert main(["upgrade"]) == 0

    (asked,) = [params for method, params in manager.calls if method == "upgrade"]
    assert (asked["number"], asked["python"]) == (3, sys.executable)
    said = capsys.readouterr().out
    assert said == "shop: upgraded from 1.0 to 1.1; kept keeper pid 811 and all processes\n"


# ---- plan and apply ----


@pytest.mark.parametrize(("changes", "code"), [([], 0), ([REPLACE_WEB], 2)])
def test_plan_tells_by_its_exit_code_whether_there_are_changes(
    manager: Manager, changes: list[object], code: int
) -> None:
    manager.answers["plan"] = {"revision": 42, "changes": changes}

    assert main(["plan"]) == code


def test_mistakes_of_a_plan_are_shown_with_their_places(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    mistake = {
        "path": "/x/a.yaml",
        "line": 2,
        "column": 3,
        "message": "unknown field",
        "excerpt": "  a: 1\n  ^",
    }
    error = RequestError("invalid_spec", "cannot plan: 1 mistake", details={"errors": [mistake]})
    manager.answers["plan"] = refusing(error)

    assert main(["plan"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "/x/a.yaml:2:3: unknown field",
        "      a: 1",
        "      ^",
        "reconcile: 1 mistake in the spec; nothing was changed",
    ]


def applying(manager: Manager, *steps: Mapping[str, object], changes: list[object]) -> None:
    manager.answers |= {
        "apply": lambda params: {
            "revision": 43,
            "changes": changes,
            "applied": not params.get("dry_run"),
        },
        "apply.follow": Stream("progress", steps),
        "status": status(RUNNING_WEB),
    }


def test_apply_shows_the_plan_then_waits(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = {"waiting": [{"name": "web", "state": "Rolling", "note": "slot 2: starting"}]}
    applying(manager, waiting, {"converged": True, "done": True}, changes=[REPLACE_WEB])

    assert main(["apply"]) == 0
    assert manager.asked("apply") == [{"dry_run": True}, {"base": 43}]
    assert manager.asked("apply.follow") == [{"revision": 43}]
    assert capsys.readouterr().out.splitlines() == [
        "~ web  env.A changed (slots 1-2)",
        "1 to replace",
        "waiting for web: Rolling: slot 2: starting",
        "shop · revision 42 · 1 watcher, 2 processes · all as desired",
    ]


def test_apply_ends_when_all_that_is_left_has_failed_for_good(manager: Manager) -> None:
    applying(manager, {"waiting": [{"name": "web", "state": "Failed"}]}, changes=[REPLACE_WEB])

    assert main(["apply"]) == 3


def test_apply_times_out(manager: Manager) -> None:
    applying(manager, changes=[])
    manager.answers["apply.follow"] = {"stream": 1}

    assert main(["apply", "--timeout", "0.1s"]) == 5


def test_a_dry_run_changes_nothing(manager: Manager) -> None:
    applying(manager, changes=[REPLACE_WEB])

    assert main(["apply", "--dry-run"]) == 0
    assert manager.asked("apply") == [{"dry_run": True}]


def test_apply_passes_its_options_on(manager: Manager, tmp_path: Path) -> None:
    applying(manager, changes=[])
    spec = tmp_path / "other.yaml"
    spec.write_text("watchers: {}\n")
    options = ["--only", "web", "--allow-removal", "--replace-source", "--no-wait"]

    assert main(["apply", str(spec), *options]) == 0
    assert manager.asked("apply")[1] == {
        "source": [str(spec)],
        "only": ["web"],
        "allow_removal": True,
        "replace_source": True,
        "base": 43,
    }


def test_apply_continue_is_passed_on_and_ends_with_the_verdict(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = {"outcome": "paused", "reason": "web.1 ended with exit 3 after 1s"}
    applying(manager, {"done": True, "remaining": 1, **verdict}, changes=[])

    assert main(["apply", "--continue"]) == 3
    assert manager.asked("apply")[1] == {"continue": True, "base": 43}
    assert capsys.readouterr().out.splitlines()[-1] == "paused: web.1 ended with exit 3 after 1s"


# ---- revisions ----


def test_the_history_is_a_table_for_people_and_whole_for_programs(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [
        {
            "number": 44,
            "applied_ns": 1,
            "who": "apply.on_failure",
            "restores": 42,
            "outcome": "good",
        },
        {"number": 43, "applied_ns": 1, "who": "alice", "commit": "a1b2c3d4e5", "dirty": True}
        | {"outcome": "rolled_back", "reason": "web.1 ended with exit 3"},
    ]
    manager.answers["history"] = {"revision": 44, "revisions": entries}

    assert main(["history"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["REVISION", "APPLIED", "BY", "COMMIT", "OUTCOME", "NOTE"]
    assert lines[1][3:] == [
        "apply.on_failure",
        "-",
        "good",
        *["the", "content", "of", "42", "again"],
    ]
    assert lines[2][3:6] == ["alice", "a1b2c3d-dirty", "rolled_back"]
    assert main(["history", "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["revision"], told["revisions"][0]["uid"], told["revisions"][1]["log"]) == (
        44,
        None,
        [],
    )


def test_a_difference_names_its_revisions(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    manager.answers["diff"] = lambda params: {
        "old": params.get("old", 42),
        "new": params.get("new", 43),
        "changes": [] if params.get("old") == 1 else [REPLACE_WEB],
    }

    assert main(["diff"]) == 0
    assert main(["diff", "1", "2"]) == 0
    assert manager.asked("diff") == [{}, {"old": 1, "new": 2}]
    assert capsys.readouterr().out.splitlines() == [
        "from revision 42 to 43:",
        "~ web  env.A changed (slots 1-2)",
        "no difference between revisions 1 and 2",
    ]


def test_a_rollback_shows_its_plan_and_is_made_on_the_revision_that_was_shown(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    applying(manager, {"converged": True, "done": True}, changes=[])
    manager.answers["rollback"] = lambda params: {
        "revision": 43 if params.get("dry_run") else 44,
        "restores": 42,
        "changes": [REPLACE_WEB],
    }

    assert main(["rollback", "42"]) == 0
    assert manager.asked("rollback") == [
        {"revision": 42, "dry_run": True},
        {"revision": 42, "base": 43},
    ]
    assert manager.asked("apply.follow") == [{"revision": 44}]
    assert capsys.readouterr().out.splitlines()[:3] == [
        "to the content of revision 42:",
        "~ web  env.A changed (slots 1-2)",
        "1 to replace",
    ]
    assert main(["rollback", "--dry-run", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["applied"] is False
    assert len(manager.asked("rollback")) == 3


# ---- on a terminal ----


def on_terminal(*arguments: str, keys: bytes = b"", **environ: str) -> tuple[str, int]:
    """Run the command on a terminal of 80 columns; return what it shows and its exit code."""
    ours, theirs = pty.openpty()
    subprocess.run(["stty", "cols", "80", "rows", "24"], stdin=theirs, check=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "reconciler.cli.main", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", **environ},
        start_new_session=True,
    )
    os.close(theirs)
    os.write(ours, keys)
    shown = b""
    try:
        while data := os.read(ours, 65536):
            shown += data
    except OSError:  # EIO: the other end is closed
        pass
    os.close(ours)
    return shown.decode().replace("\r\n", "\n"), process.wait(20)


def test_a_terminal_gets_colours_and_80_columns(manager: Manager) -> None:
    manager.answers["status"] = status(RUNNING_WEB, MAILER, sockets=[HTTP])

    shown, code = on_terminal("status")

    assert code == 3
    assert "\x1b[32mRunning\x1b[0m" in shown
    assert manager.asked("status") == [{}]


def test_no_color_is_respected(manager: Manager) -> None:
    manager.answers["status"] = status(RUNNING_WEB)

    shown, _ = on_terminal("status", NO_COLOR="1")

    assert "\x1b[" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_apply_asks_before_it_removes_something(manager: Manager) -> None:
    applying(manager, {"converged": True, "done": True}, changes=[REMOVE_OLD])

    shown, code = on_terminal("apply", keys=b"n\n")

    assert "remove old? [y/N]: " in shown
    assert (code, manager.asked("apply")) == (1, [{"dry_run": True}])


def test_apply_goes_on_after_a_yes(manager: Manager) -> None:
    applying(manager, {"converged": True, "done": True}, changes=[REMOVE_OLD])

    assert on_terminal("apply", keys=b"y\n")[1] == 0
    assert len(manager.asked("apply")) == 2


def test_an_interrupt_ends_quietly(manager: Manager) -> None:
    asked = threading.Event()

    def follow(_: object) -> object:
        asked.set()
        return {"stream": 1}

    manager.answers["logs.follow"] = follow
    process = subprocess.Popen(
        [sys.executable, "-m", "reconciler.cli.main", "logs", "-f"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        # Where the tests run in the background of a shell, they and all that they start ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert asked.wait(10)
    process.send_signal(signal.SIGINT)

    assert process.communicate(timeout=10) == (b"", b"\n")
    assert process.returncode == 130


def test_a_reader_that_goes_away_is_no_error(manager: Manager) -> None:
    names = [RUNNING_WEB | {"name": f"web{number}"} for number in range(20_000)]
    manager.answers["status"] = status(*names)
    command = f"{sys.executable} -m reconciler.cli.main status | head -n 1"

    done = subprocess.run(
        command,
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    assert (done.stderr, len(done.stdout.splitlines())) == ("", 1)


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("top", "use: reconcile status -w -o wide"),
        ("ps", "use: reconcile status"),
        ("list", "use: reconcile status"),
        ("tail", "use: reconcile logs -f"),
        ("kill", "use: reconcile signal KILL NAME"),
        ("describe", "use: reconcile status -o wide"),
        ("down", "use: reconcile shutdown"),
        ("aply", "did you mean apply?"),
        ("tree", "use: reconcile status -o wide"),
        ("stopp", "did you mean stop?"),
        ("frobnicate", "see: reconcile --help"),
        ("shop", "see: reconcile --help"),
    ],
)
def test_words_of_other_tools_are_answered_and_looking_never_with_a_change(
    word: str, answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word]) == 64
    assert f"no command '{word}'; {answer}" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["--version", "-V", "-v", "version"])
def test_the_version_is_told_whichever_way_it_is_asked_for(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([line]) == 0
    assert capsys.readouterr().out.startswith(f"reconcile {__version__} (Python 3.")


def test_help_is_grouped_and_a_command_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help"]) == 0
    page = capsys.readouterr().out
    assert [
        title for title in ("Run:", "Change:", "Look:", "Operate:", "Set up:") if title not in page
    ] == []
    assert main(["help", "status"]) == 0
    assert capsys.readouterr().out.startswith("Usage: reconcile status")


@pytest.mark.parametrize("options", [["-l", "a=1,b=2"], ["--selector", "a=1", "-l", "b=2"]])
def test_labels_may_stand_in_one_option_or_in_several(manager: Manager, options: list[str]) -> None:
    manager.answers["status"] = status(RUNNING_WEB)
    main(["status", *options])
    assert manager.asked("status")[0]["labels"] == {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    ("redirect", "said"),
    [
        (">/dev/full", "cannot write the answer: no space left on device"),
        (">&-", "cannot write the answer: standard output is closed"),
    ],
)
def test_an_answer_that_cannot_be_written_is_told_in_a_line(redirect: str, said: str) -> None:
    command = f"{shlex.quote(RECONCILE)} version {redirect}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"reconcile: {said}\n")


def test_arguments_that_are_no_text_and_a_closed_input_are_no_tracebacks(tmp_path: Path) -> None:
    for line in (b"plan '\xff.yaml'", b"status '\xff' <&-", b"explain '\xff'"):
        command = os.fsencode(RECONCILE) + b" --runtime-dir /nowhere " + line
        done = subprocess.run(
            [b"sh", b"-c", command], capture_output=True, cwd=tmp_path, check=False
        )
        assert done.returncode in {1, 4}
        assert b"Traceback" not in done.stderr


def test_a_signal_by_number_is_told_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["signal", "9", "web"]) == 64
    assert "found '9'; write: KILL" in capsys.readouterr().err
