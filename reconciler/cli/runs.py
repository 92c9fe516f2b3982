"""The command `runs`: what the ledger holds of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from reconciler.cli import completion, terminal
from reconciler.cli.connection.client import selection
from reconciler.cli.errors import DONE
from reconciler.cli.layout import Block, Cell, Line, Style, Table
from reconciler.cli.options import (
    DOCUMENTS,
    labels_option,
    output_option,
    print_document,
    with_instance,
)
from reconciler.cli.render import clock, exit_text
from reconciler.model.answer import Runs
from reconciler.model.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.cli.session import Session
    from reconciler.model.answer import RunEntry


@click.command("runs")
@click.argument("names", metavar="PATTERN...", nargs=-1, shell_complete=completion.names)
@labels_option
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="Show at most this many.",
)
@output_option("table", "wide", "json", "yaml")
@with_instance()
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
    runs = answer.value.runs
    if output in DOCUMENTS:
        print_document(answer.document("runs"), output)
    else:
        page: list[Block] = (
            [runs_table(runs, wide=output == "wide")] if runs else [(Cell("no run yet", "quiet"),)]
        )
        terminal.stdout().show(*page)
    return DONE


def runs_table(runs: Sequence[RunEntry], *, wide: bool = False) -> Table:
    """Return one line for each run; `wide` with its pid and when it ended."""
    more = ("PID", "ENDED") if wide else ()
    columns = ("JOB", "RUN", "SLOT", "FIRED", "TRIGGER", *more, "TOOK", "OUTCOME", "EXIT")
    return Table(columns, [_row(run, wide=wide) for run in runs], ("TRIGGER", "EXIT"))


def _row(run: RunEntry, *, wide: bool) -> Line:
    outcome = run.outcome or "running"
    style: Style = {"succeeded": "good", "running": "busy"}.get(outcome, "bad")  # type: ignore[assignment]  # mypy widens
    took = run.duration_ns
    until = "-" if run.ended_ns is None else clock(run.ended_ns)
    ended = exit_text(run.exit) if run.exit is not None else run.note
    return (
        Cell(run.name),
        Cell(str(run.generation)),
        Cell(str(run.slot)),
        Cell(clock(run.fired_ns)),
        Cell(f"{run.trigger} {run.who}".strip()),
        *((Cell(str(run.pid or "-")), Cell(until)) if wide else ()),
        Cell("-" if took is None else format_duration(took)),
        Cell(outcome, style),
        Cell(ended or "-"),
    )
