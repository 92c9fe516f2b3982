"""Commands by which an operator intervenes: start, stop, restart, reload, signal, scale, resume,
rerun, shutdown."""

from __future__ import annotations

import functools
import os
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click

from reconciler.cli import completion, render, terminal
from reconciler.cli.connection import instances
from reconciler.cli.connection.absence import still_run
from reconciler.cli.connection.client import Client, selection
from reconciler.cli.connection.survivors import named
from reconciler.cli.ending import ENDED, Ending
from reconciler.cli.errors import DONE, FAILED, NOT_AS_DESIRED, CommandError, TimedOut
from reconciler.cli.layout import Cell
from reconciler.cli.look import wall_ns
from reconciler.cli.options import (
    labels_option,
    output_option,
    print_json,
    read_duration,
    seconds,
    timeout_option,
    with_instance,
)
from reconciler.cli.progress import Outcome, show_outcome, wait_until_done
from reconciler.model.answer import EventEntry
from reconciler.model.errors import RequestError
from reconciler.model.units import format_duration, parse_signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from reconciler.cli.connection.transport import Answer
    from reconciler.cli.session import Session
    from reconciler.model.answer import OrderResults

Decorated = TypeVar("Decorated", bound="Callable[..., object]")

_POLL_S: Final = 0.05
_REACHED: Final = "the watchers have reached that state"


def _selecting(function: Decorated) -> Decorated:
    """Add patterns and labels, by which an operation says whom it means, and its reason."""
    function = click.argument(
        "names", metavar="PATTERN...", nargs=-1, shell_complete=completion.names
    )(function)
    return labels_option(reasoned(function))


def reasoned(function: Decorated) -> Decorated:
    """Add --reason."""
    return click.option("--reason", metavar="TEXT", help="Why; shown in status and events.")(
        function
    )


def _ending(function: Decorated) -> Decorated:
    """Add --for."""
    return click.option(
        "--for",
        "for_ns",
        metavar="DURATION",
        callback=read_duration,
        help="How long this stays in force, such as 2h; then the watcher follows the spec again.",
    )(function)


def _waiting(until: str, *, default: bool = True) -> Callable[[Decorated], Decorated]:
    """Add --wait, which waits until something that the help names, and --timeout."""

    def decorate(function: Decorated) -> Decorated:
        function = timeout_option("60s")(function)
        return click.option(
            "--wait/--no-wait", default=default, show_default=True, help=f"Wait until {until}."
        )(function)

    return decorate


class Selected(NamedTuple):
    """Whom an operation means, and how its outcome is shown; `timeout_ns` None does not wait for it."""

    names: tuple[str, ...]
    labels: dict[str, str]
    output: str
    timeout_ns: int | None


def _operation(
    method: str, *options: Callable[[Any], Any], waits: Callable[[Any], Any] | None = None
) -> Callable[[Callable[..., int]], click.Command]:
    """Make the command of an operation on watchers or slots, with these options beside the common ones."""

    def decorate(function: Callable[..., int]) -> click.Command:
        @functools.wraps(function)
        def command(
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
            selected = Selected(names, labels, output, timeout_ns if wait else None)
            return function(session, selected, **said)

        shown = output_option("text", "json")(with_instance()(command))
        for option in (waits or _waiting(_REACHED), *reversed(options), _selecting):
            shown = option(shown)
        return click.command(method)(shown)

    return decorate


@_operation("start", _ending)
def start_command(session: Session, selected: Selected, **said: object) -> int:
    """Start watchers, even with `autostart: false` or after a stop.

    Slots that wait for their next try, or have failed permanently, are tried at once; a single one
    as well: web.2. A job that you name runs again.
    """
    return _operate(session, "start", selected, **said)


@_operation("stop", _ending)
def stop_command(session: Session, selected: Selected, **said: object) -> int:
    """Stop watchers and keep them stopped, across edits and reboots, until start or resume.

    Example: reconcile stop web --for 2h --reason disk
    """
    return _operate(session, "stop", selected, **said)


@_operation("resume")
def resume_command(session: Session, selected: Selected, **said: object) -> int:
    """Drop manual overrides (stop, start, scale) and follow the spec again."""
    return _operate(session, "resume", selected, **said)


@_operation(
    "restart",
    click.option(
        "--all", "at_once", is_flag=True, help="Replace all slots at once instead of one by one."
    ),
)
def restart_command(session: Session, selected: Selected, at_once: bool, **said: object) -> int:
    """Replace the processes of watchers or slots, one by one.

    A job that you name is stopped and run again. Watchers that are stopped or have no processes
    are not started: exit code 1.
    """
    return _operate(session, "restart", selected, at_once=at_once or None, **said)


@_operation("reload")
def reload_command(session: Session, selected: Selected, **said: object) -> int:
    """Reload watchers as their field `reload` says: by a signal, a command, or replacement.

    Waits until the signal is sent or the command has ended; exit code 3 when that fails.
    """
    return _operate(session, "reload", selected, **said)


@_operation(
    "rerun",
    click.option("--failed", is_flag=True, help="Only the slots whose last run failed."),
    click.option(
        "--overlap",
        type=click.Choice(["skip", "replace"]),
        help="Skip or replace slots that still run.",
    ),
    click.option(
        "--require-all",
        is_flag=True,
        help="Exit code 3 when a slot is skipped because it still runs.",
    ),
    waits=_waiting("the runs have ended", default=False),
)
def rerun_command(
    session: Session,
    selected: Selected,
    failed: bool,
    overlap: str | None,
    require_all: bool,
    **said: object,
) -> int:
    """Run a job again, as a new generation. Slots that still run are skipped and listed.

    With --wait, exit code 3 means that a run failed.
    """
    said |= {"failed": failed or None, "overlap": overlap, "require_all": require_all or None}
    client = session.client()
    answer = client.order("rerun", selection(selected.names, selected.labels) | said)
    code = _finish(client, answer, selected.output, selected.timeout_ns)
    if require_all and any(result.running for result in answer.value.results):
        return NOT_AS_DESIRED
    return code


def _operate(session: Session, method: str, selected: Selected, **options: object) -> int:
    """Do one operation on watchers that patterns and labels select."""
    client = session.client()
    answer = client.order(method, selection(selected.names, selected.labels) | options)
    return _finish(client, answer, selected.output, selected.timeout_ns)


def _finish(
    client: Client, answer: Answer[OrderResults], output: str, timeout_ns: int | None
) -> int:
    """Show what an order does, wait until it is done unless `timeout_ns` is None, and say how it ended.

    Exit code 1 when it was refused by a watcher that was named, or passed over all that a glob selects.
    """
    screen, results = terminal.stdout(), answer.value.results
    if output == "text":
        screen.show(*render.result_lines(results, wall_ns()))
    outcome = Outcome(DONE)
    if timeout_ns is not None:
        news = screen if output == "text" else terminal.nowhere()
        goals = [result.goal for result in results if result.goal is not None]
        own = _own_hook()
        if any(goal["name"] == own for goal in goals):
            goals = [goal for goal in goals if goal["name"] != own]
            news.show((Cell(f"{own}: not waiting for it, because this hook belongs to it"),))
        outcome = wait_until_done(client, news, timeout_ns, goals)
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


def _own_hook() -> str:
    """Return the watcher whose hook this command is called by, empty where it is no hook.

    What waits for the hook must not be waited for by it.
    """
    return os.environ.get("RECONCILE_WATCHER", "") if "RECONCILE_HOOK" in os.environ else ""


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
@reasoned
@timeout_option("60s")
@output_option("text", "json")
@with_instance()
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
    "wishes",
    metavar="NAME=N...",
    nargs=-1,
    required=True,
    shell_complete=completion.watchers_to_scale,
)
@reasoned
@_ending
@_waiting(_REACHED)
@output_option("text", "json")
@with_instance()
def scale_command(
    session: Session,
    wishes: tuple[str, ...],
    wait: bool,
    timeout_ns: int,
    output: str,
    **said: object,
) -> int:
    """Set the number of processes: reconcile scale web=4 'w*=2'.

    web=spec returns to the number in the spec.
    """
    scale = dict(_wish(text) for text in wishes)
    client = session.client()
    answer = client.order("scale", {"scale": scale, **said})
    return _finish(client, answer, output, timeout_ns if wait else None)


def _wish(text: str) -> tuple[str, int | None]:
    name, equals, number = text.partition("=")
    if name and equals and number == "spec":
        return name, None
    if name and equals and number.isdecimal() and number.isascii():
        return name, int(number)
    msg = f"expected NAME=N or NAME=spec, found {text!r}"
    raise click.UsageError(msg)


# ---- shutdown ------------------------------------------------------------------------------------


@click.command("shutdown")
@click.option("--now", is_flag=True, help="Kill instead of stopping in order.")
@click.option(
    "--exit-code",
    "code",
    type=click.IntRange(0, 255),
    default=0,
    help="Exit code that the manager ends with.",
)
@reasoned
@_waiting("the manager has ended")
@output_option("text", "json")
@with_instance()
def shutdown_command(
    session: Session,
    now: bool,
    code: int,
    wait: bool,
    timeout_ns: int,
    output: str,
    reason: str | None,
) -> int:
    """Stop everything in order, then end the manager.

    Called by a hook, it returns at once: the end waits for the hook.
    """
    wait = wait and not _own_hook()
    client = session.client()
    hello = client.hello()
    name = hello.name or client.instance.name
    state_dir = hello.state_dir or client.instance.state_dir
    listener = instances.listener(client.instance)
    leaves = client.shutdown(now=now, code=code, reason=reason)
    keeper_pid = listener[0] if listener else 0
    ending = _wait_until_gone(client, keeper_pid, timeout_ns, now=now) if wait else None
    client.close()
    left = named(state_dir) if wait else []
    if output == "json":
        killed = ending.killed if ending is not None else []
        print_json({"name": name, "stopped": wait, "left": left, "killed": killed})
    elif left:
        terminal.stdout().write(f"{name}: the manager has ended; {still_run(left)}\n")
    else:
        said = f"{name}: stopping" if ending is None else ending.last_words(name)
        terminal.stdout().write(f"{said}\n")
    return NOT_AS_DESIRED if left and not leaves else DONE


def _wait_until_gone(client: Client, keeper_pid: int, timeout_ns: int, *, now: bool) -> Ending:
    """Wait until nobody listens and the keeper's process is gone, and say whom that waits for."""
    screen = terminal.stdout()
    begun = time.monotonic()
    with terminal.Live(screen) as live, Client(instance=client.instance) as second:
        ending = Ending(screen, live, now=now)
        for _ in _moments(second, ending):
            if not instances.is_running(client.instance) and not _is_alive(keeper_pid):
                break
            if time.monotonic() - begun > seconds(timeout_ns):
                longest = format_duration(timeout_ns)
                msg = f"cannot stop {client.instance.name} within {longest}: it still runs"
                raise TimedOut(
                    msg,
                    "see: reconcile status; kill what does not stop: reconcile shutdown --now",
                )
            ending.look(client)
        live.clear()
    return ending


def _moments(client: Client, ending: Ending) -> Iterator[None]:
    """Yield now and then without end; `ending` hears of events as long as the manager tells of them."""
    try:
        for kind, item in client.follow(("events.follow", {"until_end": True}), tick=_POLL_S):
            if kind == "event":
                event = client.read(EventEntry, kind, item).value
                ending.take(event)
                if event.type in ENDED:
                    break
            yield
    except (CommandError, RequestError):
        pass  # it may be gone, or too busy for us: then its end is all that is seen
    client.close()
    while True:
        yield
        time.sleep(_POLL_S)


def _is_alive(pid: int) -> bool:
    """Tell whether the process lives; a zombie has ended, whoever is slow to collect it."""
    if not pid:
        return False
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in {b"Z", b"X"}
    except OSError:
        return False
