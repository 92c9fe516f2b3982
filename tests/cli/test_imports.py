"""What a command costs before it does anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reconciler.cli.__main__ import command_of
from reconciler.cli.commands_table import COMMANDS, GROUPS
from tests.cli.answers import RUNNING_WEB, status
from tests.cli.manager import Stream

if TYPE_CHECKING:
    from tests.cli.manager import Manager

ROOT = Path(__file__).parents[2]
HEAVY = {
    "dataclasses",
    "rich",
    "yaml",
    "asyncio",
    "prompt_toolkit",
    "sqlite3",
    "subprocess",
}


RECONCILE = Path(sys.executable).with_name("reconcile")
"""What is installed; the code that it runs is that of this checkout."""
LINES = {
    "shutdown": "shutdown --no-wait",
    "upgrade": "upgrade",
    "ls": "ls",
    "plan": "plan",
    "apply": "apply --no-wait",
    "history": "history",
    "diff": "diff",
    "rollback": "rollback --no-wait",
    "status": "status -l team=shop",
    "status for programs": "status -l team=shop -o json",
    "stats": "stats",
    "top": "top --help",
    "why": "why web",
    "logs": "logs",
    "events": "events",
    "runs": "runs web",
    "wait": "wait web",
    "list": "list",
    "numprocesses": "numprocesses",
    "options": "options web",
    "listsockets": "listsockets",
    "incr": "incr web",
    "decr": "decr web 2",
    "start": "start web",
    "stop": "stop web",
    "restart": "restart web",
    "reload": "reload web",
    "signal": "signal HUP web",
    "scale": "scale web=2",
    "resume": "resume web",
    "rerun": "rerun web",
    "exec": "exec web -- true",
    "explain": "explain cmd",
    "schema": "schema",
    "completion": "completion zsh",
    "version for programs": "version -o json",
    "help": "--help",
}
"""Command lines that start no process; for bash click asks that shell for its version."""
SHOWS_YAML = {"explain"}
"""What shows values as a spec writes them."""
STARTING = {"up", "run", "validate", "install-service", "doctor"}
"""Commands that read a spec, which a process of its own does."""


def imported_by(*command: str | Path) -> set[str]:
    """Run a command in a fresh interpreter and return the modules that it has imported."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    lines = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines()]
    return {line for line in lines if " " not in line}


@pytest.mark.parametrize("command", LINES)
def test_a_command_imports_nothing_heavy(manager: Manager, command: str) -> None:
    manager.answers |= {name: {"results": []} for name in GROUPS["Operate"]}
    manager.answers |= {name: {"changes": []} for name in ("plan", "apply", "diff", "rollback")}
    manager.answers |= {
        "upgrade": {},
        "shutdown": {},
        "hello": {"name": "shop"},
        "status": status(RUNNING_WEB),
        "logs": {"entries": []},
        "stats": {"slots": []},
        "options": {"fields": [{"field": "cmd"}]},
        "events": {"events": []},
        "runs": {"runs": []},
        "history": {"revisions": []},
        "exec": {"env": {"PATH": "/usr/bin:/bin"}, "uid": os.geteuid(), "gid": os.getegid()},
        "orders.follow": Stream("progress", [{"converged": True, "done": True}]),
        "wait.follow": Stream("progress", [{"converged": True, "done": True}]),
    }

    loaded = imported_by(RECONCILE, *LINES[command].split())

    assert loaded & HEAVY == ({"yaml"} if command in SHOWS_YAML else set())
    assert "reconciler.cli.main" in loaded


def test_who_completes_imports_nothing_heavy(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.answers["status"] = status(RUNNING_WEB)
    monkeypatch.setenv("_RECONCILE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "reconcile stop w")
    monkeypatch.setenv("COMP_CWORD", "2")

    assert imported_by(RECONCILE) & HEAVY == set()
    assert manager.asked("status") == [{"lean": True}]


@pytest.mark.parametrize("line", ["status", "status -o json", "--name shop status web --failed"])
def test_the_status_is_told_without_what_takes_longer_than_all_else(
    manager: Manager, line: str
) -> None:
    manager.answers["status"] = status(RUNNING_WEB)

    loaded = imported_by(RECONCILE, *line.split())

    heavy = {"click", "msgspec", "inspect", "decimal", "subprocess", "threading"}
    assert loaded & (HEAVY | heavy) == set()
    assert "reconciler.cli.main" not in loaded


@pytest.mark.parametrize("line", ["version", "--version", "-V"])
def test_the_version_is_told_before_anything_is_imported(line: str) -> None:
    loaded = imported_by(RECONCILE, line)

    assert loaded & {"typing", "msgspec", "msgpack", "click", "inspect", "socket"} == set()
    assert {each for each in loaded if each.startswith("reconciler")} == {
        "reconciler",
        "reconciler.cli",
        "reconciler.cli.__main__",
        "reconciler.cli.version",
    }


def test_who_reads_a_spec_imports_nothing_to_start_processes(tmp_path: Path) -> None:
    assert {each.split()[0] for each in LINES} - {"help"} | STARTING | {"shell"} == {*COMMANDS}
    spec = tmp_path / "reconcile.yaml"
    spec.write_text("watchers: {web: {cmd: sleep 1000}}")

    assert "subprocess" not in imported_by(RECONCILE, "validate", spec)


def test_a_manager_is_started_without_what_shows_one() -> None:
    loaded = imported_by(
        "-c", "from reconciler.cli import main; from reconciler.cli.commands import launch"
    )

    shows = ("connection.client", "connection.transport", "commands.waiting", "views.status")
    assert loaded & {f"reconciler.cli.{name}" for name in shows} == set()
    quickly = imported_by("-c", "import reconciler.cli.quick, reconciler.cli.commands.starting")
    assert quickly & {"click", "subprocess", "threading"} == set()


def test_the_package_itself_costs_nothing() -> None:
    loaded = imported_by("-c", "import reconciler")

    assert {name for name in loaded if name.startswith("reconciler.")} == set()


def test_the_client_needs_no_command_line() -> None:
    loaded = imported_by("-c", "from reconciler import Client")

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
