"""Commands that look and change nothing: status, events, ls."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final, cast

import click

from reconciler.cli import completion, render, terminal
from reconciler.cli.connection.client import LEFT_OUT, Client, selection
from reconciler.cli.errors import DONE, NOT_AS_DESIRED, CommandError
from reconciler.cli.layout import Block, Cell, Table
from reconciler.cli.options import (
    DOCUMENTS,
    earliest,
    labels_option,
    output_option,
    print_document,
    print_json,
    with_instance,
)
from reconciler.model.errors import RequestError
from reconciler.model.status import Status
from reconciler.model.units import format_count
from reconciler.model.value import replace

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from reconciler.cli.connection.instances import Instance
    from reconciler.cli.connection.transport import Map
    from reconciler.cli.session import Session
    from reconciler.cli.terminal import Terminal

WIDE_ENOUGH_FOR_USAGE: Final = 96
"""Columns from which on a terminal has room for processor time and memory."""
_LIST_TIMEOUT_S: Final = 2.0


# ---- status --------------------------------------------------------------------------------------


@click.command("status")
@click.argument("names", metavar="[PATTERN]...", nargs=-1, shell_complete=completion.names)
@labels_option
@click.option(
    "-w",
    "--watch",
    is_flag=True,
    help="Show it on the whole terminal, problems first, until q or Ctrl-C.",
)
@click.option("--failed", is_flag=True, help="Only watchers that are not as desired.")
@output_option("table", "wide", "json", "yaml", "name")
@with_instance()
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
              Waiting needs something that the note names, Rolling is being
              replaced, Held is stopped by an operator
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
    if watch:
        if output not in {"table", "wide"} or not screen.is_terminal:
            msg = "--watch needs a terminal and -o table or wide; see also: events -f -o json"
            raise click.UsageError(msg)
        return _watch(client, screen, names, labels, wide=output == "wide", failed=failed)
    usage = output == "wide" or (screen.width or 0) >= WIDE_ENOUGH_FOR_USAGE
    usage_param = (usage and output in {"table", "wide"}) or None
    answer = client.ask(Status, "status", selection(names, labels) | {"usage": usage_param})
    whole, selected = answer.value, bool(names or labels)
    shown = replace(whole, watchers=render.failing(whole)) if failed else whole
    if output in DOCUMENTS:
        document = answer.document()
        print_document(_only_failing(document) if failed else document, output)
    elif output == "name":
        screen.show(*((Cell(watcher.name),) for watcher in shown.watchers))
    else:
        page = _narrowed(shown) if selected or failed else shown
        wide = output == "wide"
        blocks = render.status_page(page, wall_ns(), usage=usage, slots=wide, selected=selected)
        screen.show(*blocks[:-1], render.summary(whole, selected=selected))
    return status_code(whole, selected=selected)


def _only_failing(document: Map) -> Map:
    watchers = cast("list[Map]", document["watchers"])
    return document | {"watchers": [each for each in watchers if not each["as_desired"]]}


def _watch(
    client: Client,
    screen: Terminal,
    names: tuple[str, ...],
    labels: dict[str, str],
    *,
    wide: bool,
    failed: bool,
) -> int:
    """Show the status of these watchers until the user has seen enough."""
    from reconciler.cli.watching import View, watch

    usage, selected = wide or (screen.width or 0) >= WIDE_ENOUGH_FOR_USAGE, bool(names or labels)

    def ask() -> Status:
        status = client.status(*names, labels=labels, usage=usage)
        return _narrowed(status) if selected else status

    watch(client, screen, ask, View(usage, wide, selected, failed))
    return DONE


def _narrowed(status: Status) -> Status:
    """Return the status with no other sockets than those of its watchers."""
    names = {watcher.name for watcher in status.watchers}
    sockets = tuple(socket for socket in status.sockets if names.intersection(socket.used_by))
    return replace(status, sockets=sockets)


def status_code(status: Status, *, selected: bool = False) -> int:
    """Return 0 when all that was asked for is as desired, else 3. The spec counts when all was
    asked for."""
    fine = all(watcher.as_desired for watcher in status.watchers)
    if not selected:
        fine = fine and render.problem_count(status) == 0
    return DONE if fine else NOT_AS_DESIRED


# ---- events --------------------------------------------------------------------------------------


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
@output_option("text", "json")
@with_instance()
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
    for answer in session.client().told_events(params, follow=follow):
        if answer.value.type == LEFT_OUT:
            terminal.stderr().write(f"{answer.value.message}\n")
        elif output == "json":
            print_json(answer.document(), indent=None)
        else:
            screen.show(render.event_line(answer.value))
    return DONE


def _since(text: str | None) -> tuple[int, int]:
    """Return the number after which and the wall time from which events are wanted."""
    if text is None:
        return 0, 0
    return (int(text), 0) if text.isdigit() else (0, earliest(text))


# ---- ls ------------------------------------------------------------------------------------------


@click.command("ls")
@output_option("table", "json", "yaml", "name")
@with_instance()
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
        with Client(instance=instance, timeout=_LIST_TIMEOUT_S) as client:
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


def wall_ns() -> int:
    """Return the wall time, which ages are counted from."""
    return time.time_ns()
