"""What a command costs before it does anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reconciler.cli.__main__ import command_of
from tests.cli.answers import RUNNING_WEB, status
from tests.shape.source import project

if TYPE_CHECKING:
    from tests.cli.manager import Manager

ROOT = Path(__file__).parents[2]
HEAVY = {
    "rich",
    "yaml",
    "asyncio",
    "watchfiles",
    "prompt_toolkit",
    "sqlite3",
    "subprocess",
}


SCRIPT = project()["project"]["scripts"]["reconcile"]
ENTRANCE = "from {} import {} as main\nmain()".format(*SCRIPT.split(":"))
"""What the installed command runs."""


def imported_by(code: str, *arguments: str) -> set[str]:
    """Run the code in a fresh interpreter and return the modules that it has loaded."""
    script = f"import sys\n{code}\nprint(*sys.modules, sep='\\n', file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "command", ["status", "status -o json", "stop web", "logs", "events", "plan"]
)
def test_a_command_imports_nothing_heavy(manager: Manager, command: str) -> None:
    manager.answers |= {
        "status": status(RUNNING_WEB),
        "stop": {"results": []},
        "logs": {"entries": []},
        "events": {"events": []},
        "plan": {"changes": []},
    }

    loaded = imported_by(ENTRANCE, *command.split())

    allowed = {"subprocess"} if command == "plan" else set()
    assert loaded & HEAVY <= allowed
    assert "reconciler.cli.connection.client" in loaded


def test_a_manager_is_started_without_what_shows_one() -> None:
    loaded = imported_by("from reconciler.cli import main, launch")

    shows = ("connection.client", "connection.transport", "progress", "render")
    assert loaded & {f"reconciler.cli.{name}" for name in shows} == set()


def test_the_package_itself_costs_nothing() -> None:
    loaded = imported_by("import reconciler")

    assert {name for name in loaded if name.startswith("reconciler.")} == set()


def test_the_client_needs_no_command_line() -> None:
    loaded = imported_by("from reconciler import Client")

    assert loaded & (HEAVY | {"click"}) == set()


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("up", "up"),
        ("--name a run spec.yaml", "run"),
        ("--runtime-dir x --state-dir=y --name up status", "status"),
        ("--version", ""),
        ("-h up", "up"),
        ("", ""),
    ],
)
def test_a_command_is_known_whatever_options_stand_before_it(line: str, command: str) -> None:
    assert command_of(line.split()) == command
