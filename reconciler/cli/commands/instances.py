"""The command ls: the instances on this machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import click

from reconciler.cli import options
from reconciler.cli.commands.status import status_code
from reconciler.cli.connection.client import Client
from reconciler.cli.errors import DONE, CommandError
from reconciler.cli.views import terminal
from reconciler.cli.views.documents import DOCUMENTS, print_document
from reconciler.cli.views.layout import Block, Cell, Table
from reconciler.model.errors import RequestError
from reconciler.model.units import format_count

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

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
    found = [_instance_fields(instance) for instance in own]
    seen = {instance.runtime_dir for instance in own}
    found += [
        _instance_fields(instance, user)
        for instance, user in instances.of_others()
        if instance.runtime_dir not in seen
    ]
    found += _without_manager(seen)
    screen = terminal.stdout()
    if output in DOCUMENTS:
        print_document(found, output)
    elif output == "name":
        screen.show(*((Cell(str(one["name"])),) for one in found))
    else:
        page: list[Block] = (
            [_instance_table(found)] if found else [(Cell("no manager is running", "quiet"),)]
        )
        screen.show(*page)
    return DONE


def _without_manager(seen: Container[str]) -> list[dict[str, object]]:
    """Return the instances of this user whose manager has ended while processes go on."""
    from reconciler.cli.connection import places
    from reconciler.cli.connection.survivors import survivors
    from reconciler.wire.manager_file import read_manager_file

    try:
        with os.scandir(places.state_root()) as entries:
            folders = {entry.path: read_manager_file(entry.path) for entry in entries}
    except OSError:
        return []
    # A manager that runs with this state folder has its processes itself.
    gone = {path: last for path, last in folders.items() if last and last.runtime_dir not in seen}
    return [
        {
            **_NOTHING_KNOWN,
            "name": gone[path].name,
            "runtime_dir": gone[path].runtime_dir,
            "state": f"ended, {format_count(len(slots), 'process')} left",
            "source": list(gone[path].source),
        }
        for path, slots in sorted(survivors(gone).items())
    ]


_NOTHING_KNOWN: Final[Mapping[str, object]] = {
    "name": "",
    "runtime_dir": "",
    "user": None,
    "state": "running",
    "pid": None,
    "revision": None,
    "watchers": None,
    "source": [],
}


def _instance_fields(instance: Instance, user: str | None = None) -> dict[str, object]:
    """Ask one instance how it is, but not for long: a busy one must not hide the others.

    `user` is who else runs it.
    """
    fields = {
        **_NOTHING_KNOWN,
        "name": instance.name,
        "runtime_dir": instance.runtime_dir,
        "user": user,
    }
    try:
        with Client(instance=instance, timeout=_ANSWER_S) as client:
            status = client.status()
    except (CommandError, RequestError) as error:
        return fields | {"state": _why_silent(error)}
    return fields | {
        "name": status.name or instance.name,
        "state": "as desired" if status_code(status) == DONE else "not as desired",
        "pid": status.keeper_pid,
        "revision": status.revision,
        "watchers": len(status.watchers),
        "source": list(status.source),
    }


def _why_silent(error: CommandError | RequestError) -> str:
    if isinstance(error, RequestError):
        return error.code
    return "denied" if "denied" in error.message else "no answer"


def _instance_table(found: list[dict[str, object]]) -> Table:
    rows = []
    for one in found:
        source = one["source"] if isinstance(one["source"], list) else []
        state = str(one["state"])
        rows.append(
            (
                Cell(f"{one['name']} ({one['user']})" if one["user"] else str(one["name"])),
                Cell(state, "good" if state == "as desired" else "busy"),
                *(
                    Cell("-" if one[key] is None else str(one[key]))
                    for key in ("watchers", "pid", "revision")
                ),
                Cell(", ".join(map(str, source))),
            )
        )
    return Table(
        ("NAME", "STATE", "WATCHERS", "PID", "REVISION", "SOURCE"),
        rows,
        ("REVISION", "PID", "WATCHERS"),
    )
