"""The command exec: a command in the place of a watcher's process, in this terminal."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from reconciler.cli import completion, options
from reconciler.cli.errors import Refused
from reconciler.cli.views import terminal
from reconciler.cli.views.layout import Cell
from reconciler.model.answer import Surroundings
from reconciler.model.process import Exit, Launch, LaunchError

if TYPE_CHECKING:
    from reconciler.cli.session import Session


@click.command(
    "exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("place", metavar="NAME[.SLOT]", shell_complete=completion.names)
@click.argument("command", metavar="-- COMMAND...", nargs=-1, type=click.UNPROCESSED, required=True)
@options.reason
@options.with_instance
def exec_command(session: Session, place: str, command: tuple[str, ...], reason: str | None) -> int:
    """Run a command as a process of a watcher would be run, in this terminal.

    As its user and group, with its environment and secrets, in its folder, with its virtualenv, umask
    and limits, as the spec now says; the process need not run. It gets none of the watcher's sockets, and is
    not supervised. Signals and exit code are those of the command; 127 or 126 when it cannot be executed.

    Only for root and the user who runs the manager, since it shows secrets to whoever runs it. It is an event.

    Example: reconcile exec web.2 -- python manage.py shell
    """
    argv = command[1:] if command[0] == "--" else command
    if not argv:
        msg = "exec what? reconcile exec NAME -- COMMAND"
        raise click.UsageError(msg)
    with session.client() as client:
        found = client.ask(Surroundings, "exec", {"name": place, "reason": reason}).value
        owner = client.owner()
    _check(found, owner)
    error = _become(found, argv, is_trusted=owner[0] == 0)
    terminal.stderr().show((Cell("reconcile: ", "bad"), Cell(str(error))))
    return Exit(error=error).as_code


def _check(found: Surroundings, owner: tuple[int, int]) -> None:
    """Refuse to become anybody whom the one who answers could not become: root does not lend itself to others."""
    if found.uid < 0 or found.gid < 0:
        msg = "cannot run it: the manager does not say as whom"
        raise Refused(msg, "is it older than this command? reconcile upgrade")
    if owner[0] != 0 and (found.uid, found.gid) != owner:
        mine, wanted = f"uid {owner[0]}, gid {owner[1]}", f"uid {found.uid}, gid {found.gid}"
        msg = f"cannot run it as {wanted}: the manager itself runs as {mine}"
        raise Refused(msg, "only a manager that runs as root starts processes of other users")


def _become(found: Surroundings, argv: tuple[str, ...], *, is_trusted: bool) -> LaunchError:
    """Become the command, or return why that cannot be."""
    from reconciler.spawn.accounts import find_user
    from reconciler.spawn.environment import Place, programs_of
    from reconciler.spawn.launch_errors import LaunchFailed
    from reconciler.spawn.roads import Prepared, become, take_user

    env = dict(found.env)
    if "TERM" in os.environ and sys.stdin.isatty():
        env.setdefault("TERM", os.environ["TERM"])
    given = Launch(
        argv,
        working_dir=found.working_dir,
        umask=found.umask,
        user=found.uid,
        group=found.gid,
        limits=found.limits,
        nice=found.nice,
        cpu_affinity=found.cpu_affinity,
        oom_score_adj=found.oom_score_adj,
    )
    place = Place("", {}, found.umask, found.files, found.core)
    try:
        user = find_user(given)
        if user.changes and not is_trusted:
            # What root may grant beyond what that user may take is not the manager's to give.
            take_user(user)
            user = find_user(given)
        return become(Prepared(given, programs_of(given, env), env, user, ()), place)
    except LaunchFailed as refused:
        return refused.error
