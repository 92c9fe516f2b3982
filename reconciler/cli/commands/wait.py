"""The command wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args

import click

from reconciler.cli import completion, options
from reconciler.cli.commands.waiting import wait_for
from reconciler.cli.connection.transport import selection
from reconciler.cli.errors import DONE, TIMED_OUT
from reconciler.cli.views import terminal
from reconciler.cli.views.documents import print_json
from reconciler.cli.views.layout import Cell
from reconciler.model.order import Awaited
from reconciler.model.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reconciler.cli.commands.waiting import Outcome
    from reconciler.cli.session import Session
    from reconciler.cli.views.layout import Line

AWAITED: Final[tuple[str, ...]] = tuple(
    word for each in get_args(Awaited) for word in get_args(each)
)


@click.command("wait")
@click.argument("names", metavar="PATTERN...", nargs=-1, shell_complete=completion.names)
@options.labels
@click.option(
    "--for",
    "awaits",
    type=click.Choice(AWAITED),
    help="What to wait for; by default that services are ready and jobs have succeeded.",
)
@options.timeout
@options.output("text", "json")
@options.with_instance
def wait_command(
    session: Session,
    names: tuple[str, ...],
    labels: dict[str, str],
    awaits: str | None,
    timeout_ns: int,
    output: str,
) -> int:
    """Wait until watchers or slots are ready, have started, succeeded, completed or stopped.

    It counts what the spec now says: a process that is still to be replaced is not ready. Exit code 3
    as soon as one cannot come to it by itself, such as a job that has failed; 5 when the time is over.

    Example: reconcile wait web --for ready --timeout 30s
    """
    if not names and not labels:
        msg = "wait for what? Name watchers, or say '*' for all"
        raise click.UsageError(msg)
    client = session.client()
    screen = terminal.stdout()
    live = screen if output == "text" else terminal.nowhere()
    outcome = wait_for(client, live, timeout_ns, selection(names, labels), awaits)
    if output == "json":
        done, waiting, failed = outcome.exit_code == DONE, outcome.waiting, outcome.failed
        print_json({"done": done, "waiting": waiting, "failed": failed})
    else:
        screen.show(*_lines(outcome, awaits or "as expected", timeout_ns))
    return outcome.exit_code


def _lines(outcome: Outcome, awaited: str, timeout_ns: int) -> Iterator[Line]:
    """Yield what is wrong; nothing when all is well."""
    for failed in outcome.failed:
        yield Cell(f"{failed.name}: ", "title"), Cell(failed.message, "bad")
    if outcome.exit_code != TIMED_OUT:
        return
    for each in outcome.waiting:
        note = f": {each.note}" if each.note else ""
        said = f"not {awaited} after {format_duration(timeout_ns)}: {each.state}{note}"
        yield Cell(f"{each.name}: ", "title"), Cell(said, "bad")
