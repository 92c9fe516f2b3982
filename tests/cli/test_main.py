"""Command lines: how they end, whatever the command."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from reconciler import __version__
from reconciler.cli.commands_table import COMMANDS
from reconciler.cli.main import main
from reconciler.model.errors import RequestError
from tests.cli.answers import RUNNING_WEB, refusing, status
from tests.cli.manager import Manager

ROOT = Path(__file__).parents[2]


RECONCILE = str(Path(sys.executable).with_name("reconcile"))


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
        "statistics",
        "stop",
        "stop --frobnicate web",
        "scale web",
        "scale web=--1",
        "decr web 0",
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

    assert "no command 'stauts'; did you mean stats or status?" in capsys.readouterr().err


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


def test_an_interrupt_ends_quietly(manager: Manager) -> None:
    asked = threading.Event()

    def follow(_: object) -> object:
        asked.set()
        return {"stream": 1}

    manager.answers["logs.follow"] = follow
    process = subprocess.Popen(
        [sys.executable, "-m", "reconciler.cli", "logs", "-f"],
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


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("htop", "use: reconcile top"),
        ("ps", "use: reconcile status"),
        ("tail", "use: reconcile logs -f"),
        ("kill", "use: reconcile signal KILL NAME"),
        ("describe", "use: reconcile status -o wide"),
        ("down", "use: reconcile shutdown"),
        ("aply", "did you mean apply?"),
        ("tree", "use: reconcile status -o wide"),
        ("stopp", "did you mean stop or top?"),
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


STANDS = """
import os, sys
from reconciler.cli.connection import ahead
ahead.begin = lambda: os._exit(os.pipe()[0])
from reconciler.cli.__main__ import main
main()
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_nothing_of_a_manager_that_starts_gets_the_number_of_a_closed_stream(closed: str) -> None:
    command = f'"$0" -c "$1" run {closed}'
    done = subprocess.run(["sh", "-c", command, sys.executable, STANDS], check=False)
    assert done.returncode > 2


def test_a_spec_is_read_also_without_an_input(tmp_path: Path) -> None:
    (tmp_path / "reconcile.yaml").write_text("watchers: 1\n")
    command = f"{shlex.quote(RECONCILE)} --runtime-dir /nowhere run <&-"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("reconcile.yaml:1:11: watchers: ")


INTERRUPTS = """
import sys
class CtrlC:
    def find_spec(self, name, *_):
        if name == "reconciler.cli.outcomes":
            raise KeyboardInterrupt
sys.meta_path.insert(0, CtrlC())
from reconciler.cli.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize("command", ["status", "up"])
def test_ctrl_c_while_a_command_comes_up_is_no_traceback(command: str, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", INTERRUPTS, command]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


NO_READER = """
import sys
sys.executable = "/nowhere/python"
from reconciler.cli.__main__ import main
sys.exit(main())
"""


def test_a_reader_that_cannot_be_started_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "reconcile.yaml").write_text("watchers: {}\n")
    argv = [sys.executable, "-c", NO_READER, "--runtime-dir", str(tmp_path / "run"), "up"]
    # With such a variable nothing is forked, all is executed.
    env = {**os.environ, "PYTHONPATH": "/nowhere"}
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, check=False, env=env)
    said = "reconcile: cannot use /nowhere/python: no such file or directory\n"
    assert (done.returncode, done.stderr) == (1, said)
