"""The command upgrade: replaces the manager's own code and keeps every process, socket and log line."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from reconciler.cli import options
from reconciler.cli.errors import DONE
from reconciler.cli.views import terminal
from reconciler.cli.views.documents import print_json
from reconciler.cli.views.layout import Cell, clean
from reconciler.model.answer import Hello
from reconciler.model.units import SECOND_NS

if TYPE_CHECKING:
    from reconciler.cli.session import Session


@click.command("upgrade")
@click.option(
    "--python",
    metavar="PATH",
    help="Interpreter of the new version; default: the one of this command.",
)
@click.option("--reason", metavar="TEXT", help="Why; shown in the events.")
@options.timeout
@options.output("text", "json")
@options.with_instance
def upgrade_command(
    session: Session, python: str | None, reason: str | None, timeout_ns: int, output: str
) -> int:
    """Replace the code of the running manager with that of this command.

    Install the new version first, beside the old one or over it. No process is restarted; connections,
    exit statuses and log lines are kept. If the new code cannot start, the old one keeps running and
    nothing has changed.
    """
    client = session.client()
    before = client.hello()
    answer = client.ask(
        Hello,
        "upgrade",
        {
            "number": before.upgrades + 1,
            "python": os.path.abspath(python or sys.executable),
            "reason": reason,
        },
        timeout_ns / SECOND_NS,
    )
    if output == "json":
        print_json({"from": before.version, **answer.plain})
        return DONE
    name, old, new = map(clean, (before.name, before.version, answer.value.version))
    what = f"restarted with version {new} again" if old == new else f"upgraded from {old} to {new}"
    pid = answer.value.keeper_pid
    terminal.stdout().show((Cell(f"{name}: {what}; kept keeper pid {pid} and all processes"),))
    return DONE
