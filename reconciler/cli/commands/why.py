"""The command why: all that it says, the manager has told before, in the answers to status, events, runs and logs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

from reconciler.cli import completion, options
from reconciler.cli.errors import DONE
from reconciler.cli.views import terminal
from reconciler.cli.views.causes import ENDS, NOT_GOOD, Cause, Told, causes, comes_from, is_fine
from reconciler.cli.views.documents import DOCUMENTS, print_document
from reconciler.cli.views.layout import clean_output
from reconciler.cli.views.logs import split_lines
from reconciler.cli.views.phrases import TROUBLE
from reconciler.cli.views.status import failing
from reconciler.cli.views.why import why_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reconciler.cli.connection.client import Client
    from reconciler.cli.session import Session
    from reconciler.model.status import Status, WatcherStatus

MAX_EVENTS: Final = 50
"""Of a watcher: the end that counts is among the newest."""
MAX_RUNS: Final = 20
MOST_IN_CHAIN: Final = 50
"""Watchers; whoever asks about more looks at the status."""


@click.command("why")
@click.argument("names", metavar="[PATTERN]...", nargs=-1, shell_complete=completion.names)
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0, 1000),
    default=5,
    show_default=True,
    help="How many lines of output to show of what failed.",
)
@options.output("text", "json", "yaml")
@options.with_instance
def why_command(session: Session, names: tuple[str, ...], lines: int, output: str) -> int:
    """Say why watchers are as they are, and what happens next.

    PATTERN is a name, a glob, or a slot such as web.2; default: all that are not as desired. Below
    each sentence stands what it comes from: what it waits for, how its last process ended and what
    that wrote, who stopped it. The last one says what the manager does next and when, or what to type.
    """
    client = session.client()
    status = client.status(*names)
    asked = status.watchers if names else failing(status)
    some, rest = asked[:MOST_IN_CHAIN], len(asked[MOST_IN_CHAIN:])
    told = _told(client, status, some, lines)
    found = causes(told, [each.name for each in some])
    if rest:
        found = (*found, Cause("told", message=f"{rest} more are left out: name them"))
    if output in DOCUMENTS:
        print_document({"causes": found}, output)
    elif not found:
        terminal.stdout().show(*why_page([Cause(message="all is as desired")], 0))
    else:
        terminal.stdout().show(*why_page(found, time.time_ns()))
    return DONE


def _told(client: Client, status: Status, asked: tuple[WatcherStatus, ...], lines: int) -> Told:
    """Ask for all that makes the chains: of each watcher, and of those that it waits for, and so on."""
    watchers = {each.name: each for each in asked}
    todo = asked
    while todo and len(watchers) < MOST_IN_CHAIN:
        names = [name for each in todo for name in comes_from(each)]
        names += [status.culprit] if status.culprit and status.outcome in NOT_GOOD else []
        new = [name for name in dict.fromkeys(names) if name not in watchers]
        todo = client.status(*new).watchers if new else ()
        watchers |= {each.name: each for each in todo}
    events = {
        name: tuple(client.events(names=[name], types=[*ENDS], limit=MAX_EVENTS))
        for name in watchers
    }
    jobs = [each.name for each in watchers.values() if each.kind == "job"]
    runs = {name: client.runs(name, limit=MAX_RUNS) for name in jobs}
    said: dict[tuple[str, int], tuple[str, ...]] = {}
    for each in watchers.values():
        if lines and not is_fine(each):
            hooks = any(event.type == "hook.failed" for event in events[each.name][-1:])
            said.update(_output(client, each, lines, hooks=hooks))
    return Told(status, watchers, events, runs, said)


def _output(
    client: Client, watcher: WatcherStatus, count: int, *, hooks: bool
) -> Iterator[tuple[tuple[str, int], tuple[str, ...]]]:
    """Yield the last lines of each slot that is in trouble: on standard error, where it has that for itself."""
    slots = [s for s in watcher.slots if s.state in TROUBLE or (s.attempt and not s.as_desired)]
    for slot in slots[:MOST_IN_CHAIN]:
        found: dict[str, tuple[str, ...]] = {}
        for entry in client.logs(f"{watcher.name}.{slot.slot}", lines=count, hooks=hooks):
            if entry.data:
                lines = split_lines(entry.data)[-count:]
                found[entry.source] = tuple(clean_output(line) for line in lines)
        if found:
            yield (watcher.name, slot.slot), found.get("stderr") or next(iter(found.values()))
