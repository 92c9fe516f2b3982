"""The command ls: the instances on this machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import click

from reconciler.cli import options
from reconciler.cli.connection.client import Client
from reconciler.cli.errors import DONE, CommandError
from reconciler.cli.views import terminal
from reconciler.cli.views.documents import DOCUMENTS, print_document
from reconciler.cli.views.layout import Cell, Table, table_or
from reconciler.cli.views.phrases import NOTHING
from reconciler.cli.views.status_screen import status_code
from reconciler.model.errors import RequestError
from reconciler.model.units import format_count
from reconciler.model.value import Struct

if TYPE_CHECKING:
    from collections.abc import Container

    from reconciler.cli.connection.instances import Instance
    from reconciler.cli.session import Session

_ANSWER_S: Final = 2.0


@click.command("ls")
@options.output("table", "json", "yaml", "name")
@options.with_instance
def ls_command(session: Session, output: str) -> int:
    """List the instances on this machine, including those of other users and those without a manager.

    Instances of other users are found in the standard places only. An instance whose manager has
    ended is listed as long as processes of it are running.
    """
    from reconciler.cli.connection import instances

    own = instances.running()
    if session.runtime_dir or session.name:
        given = session.instance()
        own += [given] if given not in own and instances.is_running(given) else []
    found = [_entry(instance) for instance in own]
    seen = {instance.runtime_dir for instance in own}
    found += [
        _entry(instance, user)
        for instance, user in instances.of_others()
        if instance.runtime_dir not in seen
    ]
    found += _without_manager(seen)
    if output in DOCUMENTS:
        print_document(found, output)
    elif output == "name":
        terminal.stdout().show(*((Cell(one.name),) for one in found))
    else:
        terminal.stdout().show(table_or("no manager is running", _instance_table(found)))
    return DONE


class _Entry(Struct, frozen=True):
    """What is known of one instance; `user` is who else runs it."""

    name: str
    runtime_dir: str
    user: str | None = None
    state: str = "running"
    pid: int | None = None
    revision: int | None = None
    watchers: int | None = None
    source: tuple[str, ...] = ()


def _without_manager(seen: Container[str]) -> list[_Entry]:
    """Return the instances of this user whose manager has ended while processes go on."""
    from reconciler.cli.connection import places
    from reconciler.cli.connection.absence import survivors
    from reconciler.wire.manager_file import read_manager_file

    try:
        with os.scandir(places.state_root()) as entries:
            folders = {entry.path: read_manager_file(entry.path) for entry in entries}
    except OSError:
        return []
    # A manager that runs with this state folder has its processes itself.
    gone = {path: last for path, last in folders.items() if last and last.runtime_dir not in seen}
    found = []
    for path, slots in sorted(survivors(gone).items()):
        last, state = gone[path], f"ended, {format_count(len(slots), 'process')} left"
        found.append(_Entry(last.name, last.runtime_dir, state=state, source=last.source))
    return found


def _entry(instance: Instance, user: str | None = None) -> _Entry:
    """Ask one instance how it is, but not for long: a busy one must not hide the others."""
    try:
        with Client(instance=instance, timeout=_ANSWER_S) as client:
            status = client.status()
    except CommandError as error:
        state = "denied" if "denied" in error.message else "no answer"
    except RequestError as error:
        state = error.code
    else:
        return _Entry(
            status.name or instance.name,
            instance.runtime_dir,
            user,
            "as desired" if status_code(status) == DONE else "not as desired",
            status.keeper_pid,
            status.revision,
            len(status.watchers),
            status.source,
        )
    return _Entry(instance.name, instance.runtime_dir, user, state)


def _instance_table(found: list[_Entry]) -> Table:
    rows = [
        (
            Cell(f"{one.name} ({one.user})" if one.user else one.name),
            Cell(one.state, "good" if one.state == "as desired" else "busy"),
            *(
                Cell(NOTHING if number is None else str(number))
                for number in (one.watchers, one.pid, one.revision)
            ),
            Cell(", ".join(one.source)),
        )
        for one in found
    ]
    columns = ("NAME", "STATE", "WATCHERS", "PID", "REVISION", "SOURCE")
    return Table(columns, rows, ("REVISION", "PID", "WATCHERS"))
