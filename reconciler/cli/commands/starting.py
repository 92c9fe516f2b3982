"""Becoming or starting a manager: what `run`, `up` and `apply` do once their options are read; imports no click."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

from reconciler.cli.connection import ahead, instances, loading, places
from reconciler.cli.connection.launch import (
    Start,
    become,
    hand_over,
    has_past,
    prepare,
    start_detached,
)
from reconciler.cli.errors import DONE, FAILED, Ended
from reconciler.cli.views import terminal
from reconciler.cli.views.layout import Cell
from reconciler.cli.views.mistakes import show_mistakes, show_warnings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.cli.connection.instances import Instance
    from reconciler.cli.connection.loading import Loaded
    from reconciler.cli.session import Session
    from reconciler.cli.views.terminal import Terminal
    from reconciler.specfile.source import Source


def run(session: Session, spec: Sequence[str], exit_with: tuple[str, ...] = ()) -> int:
    """Become the manager, with no output but its own log."""
    loaded = loading.load(loading.find(spec))
    show_warnings(loaded.warnings)
    start = prepared(session, loaded, "run", terminal.stderr(), "reconcile: ", exit_with)
    if loaded.spec is None:
        show_mistakes(loaded.errors)
        if not has_past(start.instance.state_dir):
            return FAILED
        terminal.stderr().write("reconcile: continuing with the spec that was applied last\n")
    if hand_over(start):
        os._exit(DONE)  # the keeper waits for that
    return become(start)


def up(
    session: Session, spec: Sequence[str], timeout_ns: int, exit_with: tuple[str, ...] = ()
) -> int:
    """Become the manager, and show status and logs of it."""
    loaded = valid(loading.find(spec))
    show_warnings(loaded.warnings)
    start = prepared(session, loaded, "up", terminal.stdout(), exit_with=exit_with)
    keeper = os.getpid() if ahead.waiting is None else ahead.waiting.pid
    if hand_over(start, viewed=True):
        _view(start.instance, keeper, timeout_ns)
    if os.fork() == 0:
        _view(start.instance, keeper, timeout_ns)
    return become(start, viewed=True)


def valid(source: Source) -> Loaded:
    """Return a spec that was read; where it has mistakes, shows them and ends the command."""
    loaded = loading.load(source)
    if loaded.spec is None:
        show_mistakes(loaded.errors)
        raise Ended(FAILED)
    return loaded


def prepared(
    session: Session,
    loaded: Loaded,
    command: str,
    screen: Terminal,
    prefix: str = "",
    exit_with: tuple[str, ...] = (),
) -> Start:
    """Return what `command` is to start.

    Warns of a manager of somebody else with the same name, and tells a user without a home where the state lies.
    """
    start = prepare(
        session.choice(),
        loaded,
        command,
        replaces_source=session.replaces_source,
        exit_with=exit_with,
    )
    for other, user in instances.of_others():
        if other.name == start.instance.name:
            warning = f"{user} runs a manager named {other.name}, too ({other.runtime_dir})"
            terminal.stderr().show((Cell("warning: ", "busy"), Cell(warning)))
    state_dir = start.instance.state_dir
    if places.is_temporary(state_dir):
        where = f"{prefix}logs and state are in {state_dir}: uid {os.geteuid()} has no writable home folder"
        screen.show((Cell(f"{where}; choose another place with --state-dir"),))
    return start


def start_in_background(session: Session, start: Start, screen: Terminal) -> None:
    """Start a manager in the background, which the session then means."""
    start_detached(start)
    screen.show((Cell(f"started the manager {start.instance.name} in the background"),))
    session.name, session.runtime_dir = start.instance.name, start.instance.runtime_dir


def _view(instance: Instance, keeper_pid: int, timeout_ns: int) -> NoReturn:
    """Show status and logs, in a child of the keeper that owns nothing: its death stops nothing."""
    code = FAILED
    try:
        from reconciler.cli.commands.viewer import view

        code = view(instance, keeper_pid, timeout_ns)
    except Exception:
        # The end below would leave no trace of it.
        import traceback

        text = "cannot show status and logs any more; the manager keeps running, see: reconcile logs -f"
        print(f"{text}\n{traceback.format_exc()}", end="", file=sys.stderr, flush=True)
    finally:
        # Never back into the code of the process that is about to be the keeper.
        os._exit(code)
