"""The command status."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, cast

import click

from reconciler.cli import completion, options
from reconciler.cli.errors import DONE, NOT_AS_DESIRED
from reconciler.cli.views import terminal
from reconciler.cli.views.documents import DOCUMENTS, print_document
from reconciler.cli.views.layout import Cell
from reconciler.cli.views.status import View, failing, status_page
from reconciler.cli.views.summary import problem_count, summary
from reconciler.model.value import replace

if TYPE_CHECKING:
    from reconciler.cli.connection.transport import Map
    from reconciler.cli.session import Session
    from reconciler.model.status import Status

WIDE_ENOUGH_FOR_USAGE: Final = 96
"""Columns from which on a terminal has room for processor time and memory."""


@click.command("status")
@click.argument("names", metavar="[PATTERN]...", nargs=-1, shell_complete=completion.names)
@options.labels
@click.option(
    "-w",
    "--watch",
    is_flag=True,
    help="Show it on the whole terminal, problems first, until q or Ctrl-C.",
)
@click.option("--failed", is_flag=True, help="Only watchers that are not as desired.")
@options.output("table", "wide", "json", "yaml", "name")
@options.with_instance
def status_command(
    session: Session,
    names: tuple[str, ...],
    labels: dict[str, str],
    watch: bool,
    failed: bool,
    output: str,
) -> int:
    """Show desired and observed state, and why they differ.

    PATTERN is a name, a glob such as 'web*', or a slot such as web.2. Exit code 0 when everything is
    as desired, 3 when not.

    \b
    WANT      how many processes should run: the spec, or a manual override;
              `job` for a one-shot job
    STATE     what most needs attention: BackOff waits for its next try,
              Failing runs but died several times in a row just before,
              Waiting needs something that the note names, Scheduled waits for
              its next run, Rolling is being replaced, Held is stopped by an
              operator
    READY     processes that have been up for a second; of a job, slots that
              succeeded
    RESTARTS  unplanned restarts, after a process ended by itself, since the
              watcher was last started. Replacements by an edit, a restart or
              max_age are counted in REPLACED, see -o wide
    AGE       how long the oldest process has been running; if none runs,
              how long ago the last one changed
    CPU, MEM  of the processes and everything they have started
    NOTE      why it is not as desired, and what happens next
    """
    client = session.client()
    screen = terminal.stdout()
    wide = output == "wide"
    usage = wide or (screen.width or 0) >= WIDE_ENOUGH_FOR_USAGE
    view = View(usage, wide, bool(names or labels), failed)
    if watch:
        if output not in {"table", "wide"} or not screen.is_terminal:
            msg = "--watch needs a terminal and -o table or wide; see also: events -f -o json"
            raise click.UsageError(msg)
        from reconciler.cli.commands.watching import watch as show_on

        def ask() -> Status:
            status = client.status(*names, labels=labels, usage=usage)
            return _narrowed(status) if view.selected else status

        show_on(client, screen, ask, view)
        return DONE
    measures = usage and output in {"table", "wide"}
    answer = client.ask_status(*names, labels=labels, usage=measures)
    whole = answer.value
    shown = replace(whole, watchers=failing(whole)) if failed else whole
    if output in DOCUMENTS:
        document = answer.document()
        print_document(_only_failing(document) if failed else document, output)
    elif output == "name":
        screen.show(*((Cell(watcher.name),) for watcher in shown.watchers))
    else:
        page = _narrowed(shown) if view.selected or failed else shown
        blocks = status_page(page, time.time_ns(), view)
        screen.show(*blocks[:-1], summary(whole, selected=view.selected))
    return status_code(whole, selected=view.selected)


def _only_failing(document: Map) -> Map:
    watchers = cast("list[Map]", document["watchers"])
    return document | {"watchers": [each for each in watchers if not each["as_desired"]]}


def _narrowed(status: Status) -> Status:
    """Return the status with no other sockets than those of its watchers."""
    names = {watcher.name for watcher in status.watchers}
    sockets = tuple(socket for socket in status.sockets if names.intersection(socket.used_by))
    return replace(status, sockets=sockets)


def status_code(status: Status, *, selected: bool = False) -> int:
    """Return 0 when all that was asked for is as desired, else 3. Unselected, the spec and the revision count, too."""
    fine = all(watcher.as_desired for watcher in status.watchers)
    if not selected:
        fine = fine and problem_count(status) == 0
    return DONE if fine else NOT_AS_DESIRED
