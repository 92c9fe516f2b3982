"""The command logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from reconciler.cli import completion, options
from reconciler.cli.errors import DONE
from reconciler.cli.views import terminal
from reconciler.cli.views.documents import print_json
from reconciler.cli.views.logs import in_order, log_name, show_log, show_logs, split_lines
from reconciler.cli.views.phrases import clock
from reconciler.model.value import replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reconciler.cli.session import Session
    from reconciler.model.answer import LogEntry

DEFAULT_LINES: Final = 100
MAX_LINES: Final = 10_000
"""The most that the manager sends of a log at once."""


@click.command("logs")
@click.argument("names", metavar="[PATTERN]...", nargs=-1, shell_complete=completion.names)
@options.labels
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until Ctrl-C.")
@click.option(
    "-n",
    "--lines",
    "--tail",
    "lines",
    type=click.IntRange(0, MAX_LINES),
    help=f"Last lines of each log.  [default: {DEFAULT_LINES}]",
)
@click.option(
    "--since",
    metavar="TIME",
    help="In the last 10m, or since 2026-01-02T03:04; by the line where logs.timestamps is on, else by the file.",
)
@click.option("--stderr", is_flag=True, help="Only standard error, where it has a file of its own.")
@click.option("--hooks", is_flag=True, help="What hooks, stop and reload commands wrote instead.")
@click.option("--no-prefix", is_flag=True, help="Without the name of the slot before each line.")
@options.output("text", "json")
@options.with_instance
def logs_command(
    session: Session,
    names: tuple[str, ...],
    labels: dict[str, str],
    follow: bool,
    lines: int | None,
    since: str | None,
    stderr: bool,
    hooks: bool,
    no_prefix: bool,
    output: str,
) -> int:
    """Show the output of the processes, also what rotations have put aside and compressed.

    Lines of several slots are in the order of their times where all have them (logs.timestamps), else slot after
    slot. A file that several slots write to is shown once. On a terminal control characters are escaped; through a
    pipe the bytes come as they were written.
    """
    since_ns = None if since is None else options.earliest(since)
    if follow and since_ns is not None:
        msg = "--since shows what was written, --follow what is being written: give one of them"
        raise click.UsageError(msg)
    count = lines if lines is not None else DEFAULT_LINES if since is None else MAX_LINES
    entries = session.client().logs(
        *names,
        labels=labels,
        lines=count,
        since_ns=since_ns,
        follow=follow,
        stderr=stderr,
        hooks=hooks,
    )
    shown = entries if follow else in_order(list(entries))
    if output == "json":
        for entry in shown:
            _print_json_lines(entry)
    else:
        show_logs(terminal.stdout(), shown, prefix=not no_prefix)
    if not follow:
        _show_what_is_missing(shown, chosen=lines is not None)
        if since_ns is not None and not any(each.data or each.error for each in shown):
            terminal.stderr().write(f"nothing was written since {clock(since_ns)}\n")
    return DONE


def _show_what_is_missing(entries: Iterable[LogEntry], *, chosen: bool) -> None:
    """Write to standard error what is missing in the answer, and how to get it."""
    told = {}
    for entry in entries:
        name = log_name(entry)
        if entry.cut:
            told[name] = f"{name}: only the last of it has room here; all of it: {entry.path}*"
        elif entry.more and not chosen:
            told[name] = f"{name}: older lines are left out; more of them: -n {MAX_LINES}"
        elif entry.undated:
            told[name] = (
                f"{name}: lines have no times that are known here, so these are all of files written to since "
                "then; logs.timestamps: true puts them there"
            )
    for text in told.values():
        terminal.stderr().write(f"{text}\n")


def _print_json_lines(entry: LogEntry) -> None:
    if entry.error:
        show_log(terminal.stderr(), replace(entry, data=b""), None)
    head = {"watcher": entry.watcher, "slot": entry.slot, "stream": entry.source}
    path = {} if entry.watcher else {"path": entry.path}
    for line in split_lines(entry.data):
        text = line.decode("utf-8", "backslashreplace")
        print_json(head | {"line": text} | path, indent=None)
