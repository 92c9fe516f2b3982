"""The command events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from reconciler.cli import completion, options
from reconciler.cli.connection.client import LEFT_OUT
from reconciler.cli.errors import DONE
from reconciler.cli.views import terminal
from reconciler.cli.views.documents import print_json
from reconciler.cli.views.events import event_line

if TYPE_CHECKING:
    from reconciler.cli.connection.transport import Map
    from reconciler.cli.session import Session


@click.command("events")
@click.argument("names", metavar="[PATTERN]...", nargs=-1, shell_complete=completion.names)
@click.option("-f", "--follow", is_flag=True, help="Go on with new events until Ctrl-C.")
@click.option(
    "-n", "--limit", "--tail", "limit", type=click.IntRange(1, 12_000), help="The newest so many."
)
@click.option(
    "--type",
    "types",
    metavar="TYPE",
    multiple=True,
    help="Only events of this type: process.exited, process, '*.failed'; may be repeated.",
)
@click.option(
    "--since",
    metavar="SEQ|TIME",
    help="After this number, in the last 10m, or since 2026-01-02T03:04.",
)
@options.output("text", "json")
@options.with_instance
def events_command(
    session: Session,
    names: tuple[str, ...],
    follow: bool,
    limit: int | None,
    types: tuple[str, ...],
    since: str | None,
    output: str,
) -> int:
    """Show what has happened, in order; -o json writes one object per line.

    What a slot does again and again is one event that says how many there were, and since when. Orders of
    operators and revisions are kept apart, so that nothing pushes them out.
    """
    if follow and limit is not None:
        msg = "-n is for what has happened, --follow goes on with all: give one of them"
        raise click.UsageError(msg)
    number, since_ns = _since(since)
    screen = terminal.stdout()
    params: Map = {"since": number, "since_ns": since_ns or None, "limit": limit}
    params |= {"names": list(names) or None, "types": list(types) or None}
    for answer in session.client().event_answers(params, follow=follow):
        if answer.value.type == LEFT_OUT:
            terminal.stderr().write(f"{answer.value.message}\n")
        elif output == "json":
            print_json(answer.document(), indent=None)
        else:
            screen.show(event_line(answer.value))
    return DONE


def _since(text: str | None) -> tuple[int, int]:
    """Return the number after which, and the wall time from which, events are asked for."""
    if text is None:
        return 0, 0
    return (int(text), 0) if text.isdigit() else (0, options.earliest(text))
