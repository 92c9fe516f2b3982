"""Commands that somebody waits for, or asks for again and again, without what takes most of the time: imports.

No click, see `lines`; and no msgspec for what only shows: it reads the manager's answer (see `model.lightly`). What is
found, asked, started and shown is so by the same code as ever. An answer that is not read here goes the long way:
what msgspec says of it, nobody else says.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, Final, NoReturn

from reconciler import model
from reconciler.cli.lines import LONG

if TYPE_CHECKING:
    from reconciler.cli.lines import Line

UP_TIMEOUT_NS: Final = 60 * 10**9
"""As long as `up` waits that is told nothing else."""


def start(line: Line) -> int:
    """Become a manager as `run` or `up` says; return the exit code when that is refused."""
    from reconciler.cli import outcomes
    from reconciler.cli.commands import starting
    from reconciler.cli.session import Session

    session = Session()
    session.choose(*map(line.said.get, ("name", "runtime_dir", "state_dir")))
    if line.command == "run":
        return outcomes.guarded(lambda: starting.run(session, line.names))
    return outcomes.guarded(lambda: starting.up(session, line.names, UP_TIMEOUT_NS))


def status(line: Line) -> int:
    """Show the status as a command line asks and return the exit code."""
    gc.disable()  # what is imported stays until the end, which is near: there is nothing to be found
    model.shows_only = True
    try:
        from reconciler.cli import outcomes

        code = outcomes.guarded(lambda: _show(line.names, line.said))
    except Exception:  # whatever it is, the long way says what is to be said of it
        _go_the_long_way()
    gc.freeze()  # nor is it looked through at the end
    return code


def _go_the_long_way() -> NoReturn:
    """Begin anew: all that is imported here was made of other values. Nothing has been written yet."""
    os.environ[LONG] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _show(names: list[str], said: dict[str, str]) -> int:
    from reconciler.cli.connection import locate
    from reconciler.cli.connection.transport import DEFAULT_TIMEOUT_S, Transport, status_of
    from reconciler.cli.errors import CommandError
    from reconciler.cli.views import terminal
    from reconciler.cli.views.status_screen import FORMATS, Wanted, show_status
    from reconciler.model.errors import RequestError
    from reconciler.model.status import Status

    wanted = Wanted(names, {}, "failed" in said, said.get("output", FORMATS[0]))
    instance = locate.find(said.get("name"), said.get("runtime_dir"), said.get("state_dir"))
    screen = terminal.stdout()
    view = wanted.view(screen)
    asked = status_of(wanted.names, wanted.labels, usage=wanted.measures(view))
    remark = f"reconcile: {instance.remark}\n" if instance.remark else ""
    with Transport(instance, DEFAULT_TIMEOUT_S) as transport:
        try:
            answer = transport.ask(Status, "status", asked)
        except (CommandError, RequestError):
            terminal.stderr().write(remark)
            raise
    terminal.stderr().write(remark)
    return show_status(screen, wanted, view, answer.value, answer.document)
