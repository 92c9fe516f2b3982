"""The command runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from reconciler.cli import completion, options
from reconciler.cli.connection.transport import selection
from reconciler.cli.errors import DONE
from reconciler.cli.views import terminal
from reconciler.cli.views.documents import DOCUMENTS, print_document
from reconciler.cli.views.layout import table_or
from reconciler.cli.views.runs import runs_table
from reconciler.model.answer import Runs

if TYPE_CHECKING:
    from reconciler.cli.session import Session


@click.command("runs")
@click.argument("names", metavar="PATTERN...", nargs=-1, shell_complete=completion.names)
@options.labels
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="Show at most this many.",
)
@options.output("table", "wide", "json", "yaml")
@options.with_instance
def runs_command(
    session: Session, names: tuple[str, ...], labels: dict[str, str], limit: int, output: str
) -> int:
    """List the runs of a job, newest first: when, why, and how they ended.

    The field `keep_runs` of the job sets how many runs of each slot are kept.
    """
    if not names and not labels:
        msg = "runs of what? Name jobs, or say '*' for all"
        raise click.UsageError(msg)
    params = selection(names, labels) | {"limit": limit}
    answer = session.client().ask(Runs, "runs", params)
    if output in DOCUMENTS:
        print_document(answer.document("runs"), output)
    else:
        table = runs_table(answer.value.runs, wide=output == "wide")
        terminal.stdout().show(table_or("no run yet", table))
    return DONE
