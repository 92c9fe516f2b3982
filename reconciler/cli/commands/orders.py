"""Commands by which an operator intervenes: start, stop, restart, reload, signal, scale, resume, rerun."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli import completion, options
from reconciler.cli.commands.waiting import Outcome, own_hook, show_outcome, wait_until_done
from reconciler.cli.connection.transport import selection
from reconciler.cli.errors import DONE, FAILED, NOT_AS_DESIRED
from reconciler.cli.views import terminal
from reconciler.cli.views.documents import print_json
from reconciler.cli.views.layout import Cell
from reconciler.cli.views.orders import result_lines
from reconciler.model.units import parse_signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from reconciler.cli.connection.client import Client
    from reconciler.cli.connection.transport import Answer
    from reconciler.cli.session import Session
    from reconciler.model.answer import OrderResults

_waits = options.wait("Wait until the watchers have reached that state.")
_ends = click.option(
    "--for",
    "for_ns",
    metavar="DURATION",
    callback=options.read_duration,
    help="How long this stays in force, such as 2h; then the watcher follows the spec again.",
)


def _order(
    method: str,
    text: str,
    *own: Callable[[Any], Any],
    waits: Callable[[Any], Any] = _waits,
) -> click.Command:
    """Return the command of an order for watchers or slots; what its `own` options say goes to the manager."""

    def order(
        session: Session,
        names: tuple[str, ...],
        labels: dict[str, str],
        output: str,
        wait: bool,
        timeout_ns: int,
        **said: object,
    ) -> int:
        if not names and not labels:  # a forgotten name must not stop everything
            msg = f"{method} what? Name watchers, or say '*' for all"
            raise click.UsageError(msg)
        client = session.client()
        params = {key: value or None for key, value in said.items()}
        answer = client.order(method, selection(names, labels) | params)
        code = _finish(client, answer, output, timeout_ns if wait else None)
        if said.get("require_all") and any(result.running for result in answer.value.results):
            return NOT_AS_DESIRED
        return code

    command = options.output("text", "json")(options.with_instance(order))
    for option in (waits, *reversed(own), options.reason, options.labels):
        command = option(command)
    names = click.argument("names", metavar="PATTERN...", nargs=-1, shell_complete=completion.names)
    return click.command(method, help=text)(names(command))


start_command = _order(
    "start",
    """Start watchers, even with `autostart: false` or after a stop, and what they require.

    Slots that wait for their next try, or have failed permanently, are tried at once; a single one
    as well: web.2. A job that you name runs again.
    """,
    _ends,
)
stop_command = _order(
    "stop",
    """Stop watchers and keep them stopped, across edits and reboots, until start or resume.

    Each waits until all that depend on it have stopped, where these are stopped with it.

    Example: reconcile stop web --for 2h --reason disk
    """,
    _ends,
    click.option(
        "--with-dependents",
        is_flag=True,
        help="Also stop all watchers that depend on these, first.",
    ),
)
resume_command = _order(
    "resume", "Drop manual overrides (stop, start, scale) and follow the spec again."
)
restart_command = _order(
    "restart",
    """Replace the processes of watchers or slots, one by one.

    A job that you name is stopped and run again. Watchers that are stopped or have no processes
    are not started: exit code 1.
    """,
    click.option(
        "--all",
        "at_once",
        is_flag=True,
        help="Replace all slots at once instead of one by one; daemon.max_concurrent_restarts has no say.",
    ),
)
reload_command = _order(
    "reload",
    """Reload watchers as their field `reload` says: by a signal, a command, or replacement.

    Waits until the signal is sent or the command has ended; exit code 3 when that fails.
    """,
)
rerun_command = _order(
    "rerun",
    """Run a job again, as a new generation. Slots that still run are skipped and listed,
    unless the job's field `overlap` or --overlap says otherwise.

    With --wait, exit code 3 means that a run failed.
    """,
    click.option("--failed", is_flag=True, help="Only the slots whose last run failed."),
    click.option(
        "--overlap",
        type=click.Choice(["skip", "queue", "replace"]),
        help="Skip slots that still run, run them again once they have ended, or replace them.",
    ),
    click.option(
        "--require-all",
        is_flag=True,
        help="Exit code 3 when a slot is skipped because it still runs.",
    ),
    waits=options.wait("Wait until the runs have ended.", default=False),
)


def _finish(
    client: Client, answer: Answer[OrderResults], output: str, timeout_ns: int | None
) -> int:
    """Show what an order does, wait until it is done unless `timeout_ns` is None, and show how it ended.

    Exit code 1 when a named watcher refused it, or when it skipped all that a glob selects.
    """
    screen, results = terminal.stdout(), answer.value.results
    if output == "text":
        screen.show(*result_lines(results, time.time_ns()))
    outcome = Outcome(DONE)
    if timeout_ns is not None:
        live = screen if output == "text" else terminal.nowhere()
        goals = [result.goal for result in results if result.goal is not None]
        own = own_hook()
        if any(goal["name"] == own for goal in goals):
            goals = [goal for goal in goals if goal["name"] != own]
            live.show((Cell(f"{own}: not waiting for it, because this hook belongs to it"),))
        outcome = wait_until_done(client, live, timeout_ns, goals)
    if output == "json":
        fields = {"waited": timeout_ns is not None, "done": outcome.exit_code == DONE}
        waiting = {"waiting": outcome.waiting, "failed": outcome.failed}
        print_json(answer.document("results") | fields | waiting)
    elif timeout_ns is not None and outcome.exit_code != DONE:
        show_outcome(screen, client, outcome, timeout_ns)
    taken = {result.taken for result in results}
    if outcome.exit_code == DONE and ("refused" in taken or taken == {"skipped"}):
        return FAILED
    return outcome.exit_code


@click.command("signal")
@click.argument("signal", shell_complete=completion.signals)
@click.argument(
    "names", metavar="PATTERN...", nargs=-1, shell_complete=completion.names, required=True
)
@click.option(
    "--children",
    "reach",
    flag_value="children",
    help="Signal the children of each process, not the process.",
)
@click.option(
    "--tree",
    "reach",
    flag_value="tree",
    help="Signal each process and everything that it has started.",
)
@options.reason
@options.timeout
@options.output("text", "json")
@options.with_instance
def signal_command(
    session: Session,
    signal: str,
    names: tuple[str, ...],
    reach: str | None,
    timeout_ns: int,
    output: str,
    **said: object,
) -> int:
    """Send SIGNAL to the processes of watchers or slots: reconcile signal USR1 web.2.

    Returns once the signal is sent, after the hook before_signal; --timeout limits the wait.
    """
    try:
        word = parse_signal(signal)
    except ValueError as error:
        from reconciler.specfile.cures import for_kind

        hint = for_kind("signal", signal)
        msg = f"{error}, found '{signal}'" + (f"; {hint}" if hint else "")
        raise click.UsageError(msg) from None
    client = session.client()
    params = {"signal": word, "names": list(names), "timeout_ns": timeout_ns, "reach": reach}
    return _finish(client, client.order("signal", params | said), output, None)


@click.command("scale")
@click.argument(
    "numbers",
    metavar="NAME=N...",
    nargs=-1,
    required=True,
    shell_complete=completion.watchers_to_scale,
)
@options.reason
@_ends
@_waits
@options.output("text", "json")
@options.with_instance
def scale_command(
    session: Session,
    numbers: tuple[str, ...],
    wait: bool,
    timeout_ns: int,
    output: str,
    **said: object,
) -> int:
    """Set the number of processes: reconcile scale web=4 'w*=2'.

    web=+1 and web=-1 change it by so many, web=spec returns to the number in the spec.
    """
    found = [_number(text) for text in numbers]
    scale = {name: number for name, number, is_more in found if not is_more} or None
    by = {name: number for name, number, is_more in found if is_more} or None
    client = session.client()
    answer = client.order("scale", {"scale": scale, "by": by, **said})
    return _finish(client, answer, output, timeout_ns if wait else None)


def _number(text: str) -> tuple[str, int | None, bool]:
    """Return name and number, None for that of the spec, and whether it is by how many."""
    name, equals, number = text.partition("=")
    if name and equals and number == "spec":
        return name, None, False
    digits, is_more = number.lstrip("+-"), number[:1] in {"+", "-"}
    if (
        name
        and equals
        and digits.isdecimal()
        and number.isascii()
        and len(number) - len(digits) < 2
    ):
        return name, int(number), is_more
    msg = f"expected NAME=N, NAME=+N, NAME=-N or NAME=spec, found {text!r}"
    raise click.UsageError(msg)


def _by(sign: int, command: str, help_: str) -> click.Command:
    """Return the command that changes a number of processes: `scale NAME=+N` by another name, as Circus has it."""

    def change(
        session: Session,
        place: str,
        number: int,
        wait: bool,
        timeout_ns: int,
        output: str,
        **said: object,
    ) -> int:
        client = session.client()
        answer = client.order("scale", {"by": {place: sign * number}, **said})
        return _finish(client, answer, output, timeout_ns if wait else None)

    found = options.output("text", "json")(options.with_instance(change))
    for option in (_waits, _ends, options.reason):
        found = option(found)
    number = click.argument("number", metavar="[N]", type=click.IntRange(1), default=1)
    place = click.argument("place", metavar="NAME", shell_complete=completion.names)
    return click.command(command, help=help_)(place(number(found)))


incr_command = _by(1, "incr", "Run N more processes of a watcher, as `scale NAME=+N` does.")
decr_command = _by(-1, "decr", "Run N fewer processes of a watcher, as `scale NAME=-N` does.")
