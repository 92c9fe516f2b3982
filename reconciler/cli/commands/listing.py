"""Commands that list one thing each, for scripts: list, numprocesses, options, listsockets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from reconciler.cli import completion, options
from reconciler.cli.errors import DONE, Refused
from reconciler.cli.views import terminal
from reconciler.cli.views.documents import print_json
from reconciler.cli.views.layout import Cell, Table, table_or
from reconciler.cli.views.status import socket_table
from reconciler.model.answer import Options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.cli.session import Session
    from reconciler.model.answer import OptionEntry
    from reconciler.model.status import Status

_names = click.argument("names", metavar="[PATTERN]...", nargs=-1, shell_complete=completion.names)


@click.command("list")
@_names
@options.labels
@options.output("text", "json")
@options.with_instance
def list_command(
    session: Session, names: tuple[str, ...], labels: dict[str, str], output: str
) -> int:
    """List the names of all watchers; of those that are named, the pids of their processes."""
    status = _status(session, names, labels)
    pids = {
        watcher.name: [slot.pid for slot in watcher.slots if slot.pid is not None]
        for watcher in status.watchers
    }
    if output == "json":
        print_json(pids)
    elif names or labels:
        terminal.stdout().show(*((Cell(str(pid)),) for each in pids.values() for pid in each))
    else:
        terminal.stdout().show(*((Cell(name),) for name in pids))
    return DONE


@click.command("numprocesses")
@_names
@options.labels
@options.output("text", "json")
@options.with_instance
def numprocesses_command(
    session: Session, names: tuple[str, ...], labels: dict[str, str], output: str
) -> int:
    """Print how many processes run: of all watchers together, or of those that are named."""
    watchers = _status(session, names, labels).watchers
    counts = {
        watcher.name: sum(slot.pid is not None for slot in watcher.slots) for watcher in watchers
    }
    if output == "json":
        print_json(counts)
    else:
        terminal.stdout().write(f"{sum(counts.values())}\n")
    return DONE


@click.command("listsockets")
@options.output("table", "json")
@options.with_instance
def listsockets_command(session: Session, output: str) -> int:
    """List the sockets that the manager holds: where they listen, with which backlog, and who uses them."""
    answer = session.client().ask_status()
    if output == "json":
        print_json(answer.document("sockets")["sockets"])
    else:
        table = socket_table(answer.value.sockets, wide=True)
        terminal.stdout().show(table_or("no sockets", table))
    return DONE


@click.command("options")
@click.argument("watcher", metavar="NAME", shell_complete=completion.names)
@click.argument("fields", metavar="[FIELD]...", nargs=-1)
@click.option("--changed", is_flag=True, help="Only what is not at its default.")
@options.output("table", "json")
@options.with_instance
def options_command(
    session: Session, watcher: str, fields: tuple[str, ...], changed: bool, output: str
) -> int:
    """Show every field of a watcher as it is in force, or those that are named: reconcile options web stop.

    All that files, includes, defaults and overrides come to. Values that are secret by their name are
    hidden. What a field means: reconcile explain FIELD.
    """
    found = session.client().ask(Options, "options", {"name": watcher}).value.fields
    chosen = [entry for entry in found if _is_meant(entry, fields)]
    if fields and not chosen:
        msg = f"no field of {watcher} is called {' or '.join(fields)}"
        raise Refused(msg, "for all of them: reconcile explain")
    if changed:
        chosen = [entry for entry in chosen if not entry.is_default]
    if output == "json":
        print_json({entry.field: entry.value for entry in chosen})
    else:
        terminal.stdout().show(table_or("all at their defaults", _table(chosen)))
    return DONE


def _is_meant(entry: OptionEntry, fields: Sequence[str]) -> bool:
    return not fields or any(f"{entry.field}.".startswith(f"{each}.") for each in fields)


def _table(entries: Sequence[OptionEntry]) -> Table:
    rows = [
        (Cell(entry.field), Cell(entry.value, "quiet" if entry.is_default else ""))
        for entry in entries
    ]
    return Table(("FIELD", "VALUE"), rows)


def _status(session: Session, names: tuple[str, ...], labels: dict[str, str]) -> Status:
    return session.client().status(*names, labels=labels)
