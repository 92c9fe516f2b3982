"""The ways of `reconcile status` that are asked for again and again, without what takes most of the time: imports.

No click, which only reads the line and would find the same; no msgspec, which reads the manager's answer (see
`model.lightly`). What is found, asked and shown is found, asked and shown by the same code as ever. A line that is not
one of the forms below, and an answer that is not read here, go the long way: what click says of a line, and msgspec of
an answer, nobody else says.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

from reconciler import model

COMMAND = "status"
FLAGS = {"--failed": "failed"}
PLACES = {"--name": "name", "--runtime-dir": "runtime_dir", "--state-dir": "state_dir"}
"""Options that may stand before the command, too."""
VALUES = {**PLACES, "-o": "output", "--output": "output"}
OUTPUTS = ("table", "wide", "name", "json")
LONG = "_RECONCILE_LONG"
"""Set for a process that is to go the long way, since the quick one has failed."""
COMPLETES = "_RECONCILE_COMPLETE"
"""Set when a shell wants to know how a line may go on: click answers that."""


def read(arguments: list[str]) -> tuple[list[str], dict[str, str]] | None:
    """Return names and options of a command line; None when it is to be read by click."""
    names: list[str] = []
    said: dict[str, str] = {}
    waiting = iter(arguments)
    for argument in waiting:
        option, equals, value = argument.partition("=")
        known = VALUES if names else PLACES
        if not argument.isascii() or not argument.isprintable():
            return None
        if not argument.startswith("-"):
            names.append(argument)
        elif argument in FLAGS and names:
            said[FLAGS[argument]] = argument
        elif option in known and (equals == "" or option.startswith("--")):
            value = value if equals else next(waiting, "")
            if not value or value.startswith("-"):
                return None
            said[known[option]] = value
        else:
            return None
    if names[:1] != [COMMAND] or said.get("output", "table") not in OUTPUTS:
        return None
    return names[1:], said


def status(arguments: list[str]) -> int | None:
    """Show the status as a command line asks and return the exit code; None when that has to go the long way."""
    line = None if os.environ.pop(LONG, "") else read(arguments)
    if line is None or COMPLETES in os.environ or None in (sys.stdout, sys.stderr):
        return None
    gc.disable()  # what is imported stays until the end, which is near: there is nothing to be found
    model.shows_only = True
    try:
        from reconciler.cli import outcomes

        code = outcomes.guarded(lambda: _show(*line))
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
