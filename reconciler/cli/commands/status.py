"""The command status."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from reconciler.cli import completion, options
from reconciler.cli.errors import DONE
from reconciler.cli.views import terminal
from reconciler.cli.views.status_screen import FORMATS, Wanted, narrowed, show_status

if TYPE_CHECKING:
    from reconciler.cli.session import Session
    from reconciler.model.status import Status


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
@options.output(*FORMATS)
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
    wanted = Wanted(names, labels, failed, output)
    view = wanted.view(screen)
    if watch:
        if output not in {"table", "wide"} or not screen.is_terminal:
            msg = "--watch needs a terminal and -o table or wide; see also: events -f -o json"
            raise click.UsageError(msg)
        from reconciler.cli.commands.watching import watch as show_on

        def ask() -> Status:
            status = client.status(*names, labels=labels, usage=view.usage)
            return narrowed(status) if view.selected else status

        show_on(client, screen, ask, view)
        return DONE
    answer = client.ask_status(*names, labels=labels, usage=wanted.measures(view))
    return show_status(screen, wanted, view, answer.value, answer.document)
