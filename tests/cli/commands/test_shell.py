from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from reconciler.cli.commands.shell import ShellCompleter, run_shell
from reconciler.cli.main import main
from reconciler.cli.session import Session
from tests.cli.answers import FAILED_JOB, RUNNING_WEB, status

if TYPE_CHECKING:
    from tests.cli.manager import Manager


def completions(text: str) -> list[str]:
    completer = ShellCompleter(Session())
    return [one.text for one in completer.get_completions(Document(text), CompleteEvent())]


def shell(*lines: str) -> int:
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_text("".join(line + "\r" for line in lines) + "\x04")
        return run_shell(Session())


def test_commands_are_completed() -> None:
    assert completions("sta") == ["status", "stats", "start"]
    assert "up" not in completions("")


def test_live_names_and_slots_are_completed(manager: Manager) -> None:
    manager.answers["status"] = status(RUNNING_WEB, FAILED_JOB)

    assert completions("restart w") == ["web", "web.1", "web.2"]
    assert completions("resume r") == ["report"]
    assert completions("scale ") == ["web=", "report="]


def test_options_are_completed() -> None:
    assert completions("rerun --fa") == ["--failed"]
    assert completions("stop --for") == ["--for"]


def test_values_of_options_signals_revisions_and_fields_are_completed(manager: Manager) -> None:
    manager.answers["history"] = {"revisions": [{"number": 12}, {"number": 3}]}

    assert completions("status -o ") == ["table", "wide", "json", "yaml", "name"]
    assert completions("signal HU") == ["HUP"]
    assert completions("rollback 1") == ["12"]
    assert completions("explain watchers.stop.t") == ["watchers.stop.timeout"]
    assert completions("signal USR1 ") == []
    assert completions("help sta") == ["status", "stats", "start"]


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_shells_are_told_how_to_complete(
    shell_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which(shell_name) is None and shell_name == "bash":
        pytest.skip("click asks bash for its version: apt install bash")
    assert main(["completion", shell_name]) == 0
    assert "_RECONCILE_COMPLETE" in capsys.readouterr().out


def test_the_installed_command_completes_live_names(manager: Manager) -> None:
    manager.answers["status"] = status(RUNNING_WEB)
    words = {
        "_RECONCILE_COMPLETE": "bash_complete",
        "COMP_WORDS": "reconcile stop w",
        "COMP_CWORD": "2",
    }
    command = Path(sys.executable).with_name("reconcile")
    done = subprocess.run(
        [command], env=os.environ | words, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["plain,web", "plain,web.1", "plain,web.2"], done.stderr


def test_without_a_manager_nothing_is_completed() -> None:
    assert completions("restart ") == []


def test_the_status_comes_first_and_one_connection_serves_all(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    manager.answers |= {
        "status": status(RUNNING_WEB),
        "stop": {"results": [{"name": "web", "message": "stopped"}]},
    }

    assert shell("reconcile stop web --no-wait", "", "quit", "status") == 0

    assert [method for method, _ in manager.calls] == ["status", "stop"]
    shown = capsys.readouterr().out
    assert shown.index("WATCHER") < shown.index("web: stopped")
    assert manager.accepted == 1


def test_a_mistake_does_not_end_the_shell(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    manager.answers["status"] = status(RUNNING_WEB)

    shell("frobnicate", "stop 'web", "up", "status --help", "status")

    assert [method for method, _ in manager.calls] == ["status", "status"]
    errors = capsys.readouterr().err
    assert "no command 'frobnicate'" in errors
    assert "cannot read the line: No closing quotation" in errors
    assert "up does not work in the shell" in errors


def test_bare_reconcile_on_a_pipe_is_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("Usage: reconcile")
