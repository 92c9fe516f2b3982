"""Commands that become or start a manager: run, up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from reconciler.cli import options
from reconciler.cli.commands.starting import prepared, run, start_in_background, up, valid
from reconciler.cli.connection import loading
from reconciler.cli.errors import DONE
from reconciler.cli.views import terminal
from reconciler.cli.views.mistakes import show_warnings

if TYPE_CHECKING:
    from reconciler.cli.session import Session


_exit_with = click.option(
    "--exit-with",
    metavar="NAME",
    multiple=True,
    help="When this watcher ends, stop everything in order and exit with its code; repeatable. "
    "A job runs again each time.",
)


@click.command("run")
@options.spec
@options.replace_source
@_exit_with
@options.writable
@options.with_instance
def run_command(
    session: Session, spec: tuple[str, ...], replace_source: bool, exit_with: tuple[str, ...]
) -> int:
    """Run the manager in the foreground, with no output but its own log.

    For systemd and other supervisors. SIGTERM or SIGINT stops everything in order, SIGHUP reads the spec
    again. If the spec has mistakes and an earlier one was applied, that one keeps running.
    """
    session.replaces_source = replace_source
    return run(session, spec, exit_with)


@click.command("up")
@options.spec
@click.option(
    "-d",
    "--detach",
    is_flag=True,
    help="Run in the background; return when everything is as desired.",
)
@options.wait("With -d: wait until everything is as desired.")
@options.replace_source
@options.wait_jobs
@_exit_with
@options.writable
@options.with_instance
def up_command(
    session: Session,
    spec: tuple[str, ...],
    detach: bool,
    wait: bool,
    timeout_ns: int,
    replace_source: bool,
    wait_jobs: bool,
    exit_with: tuple[str, ...],
) -> int:
    """Start, apply, show the status once everything is as desired, then stream the logs.

    Ctrl-C stops everything in order. With one-shot jobs only, ends when all are done. --timeout
    limits how long it waits before it shows the status.
    """
    if (not wait or wait_jobs) and not detach:
        msg = f"{'--wait-jobs' if wait_jobs else '--no-wait'} has an effect only with --detach"
        raise click.UsageError(msg)
    session.replaces_source = replace_source
    if not detach:
        return up(session, spec, timeout_ns, exit_with)
    loaded = valid(loading.find(spec))
    show_warnings(loaded.warnings)
    screen = terminal.stdout()
    start = prepared(session, loaded, "up", screen, exit_with=exit_with)
    start_in_background(session, start, screen)
    if not wait:
        return DONE
    from reconciler.cli.commands.waiting import show_outcome, wait_until_as_desired

    client = session.client()
    outcome = wait_until_as_desired(client, screen, timeout_ns, runs=wait_jobs)
    show_outcome(screen, client, outcome, timeout_ns)
    return outcome.exit_code
