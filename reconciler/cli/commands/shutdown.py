"""The command shutdown."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

from reconciler.cli import options
from reconciler.cli.commands.ending import ENDED, Ending
from reconciler.cli.commands.waiting import own_hook
from reconciler.cli.connection import instances
from reconciler.cli.connection.absence import named, still_run
from reconciler.cli.connection.client import Client
from reconciler.cli.errors import DONE, NOT_AS_DESIRED, CommandError, TimedOut
from reconciler.cli.views import terminal
from reconciler.cli.views.documents import print_json
from reconciler.model.answer import EventEntry
from reconciler.model.errors import RequestError
from reconciler.model.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reconciler.cli.session import Session
    from reconciler.cli.views.terminal import Terminal

_POLL_S: Final = 0.05


@click.command("shutdown")
@click.option("--now", is_flag=True, help="Kill instead of stopping in order.")
@click.option(
    "--exit-code",
    "code",
    type=click.IntRange(0, 255),
    default=0,
    help="Exit code that the manager ends with.",
)
@options.reason
@options.wait("Wait until the manager has ended.")
@options.output("text", "json")
@options.with_instance
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
    wait = wait and not own_hook()
    client = session.client()
    screen = terminal.stdout() if output == "text" else terminal.nowhere()
    hello = client.hello()
    name = hello.name or client.instance.name
    state_dir = hello.state_dir or client.instance.state_dir
    listener = instances.listener(client.instance)
    leaves = client.shutdown(now=now, code=code, reason=reason)
    keeper_pid = listener[0] if listener else 0
    ending = _wait_until_gone(client, keeper_pid, timeout_ns, screen, now=now) if wait else None
    client.close()
    left = named(state_dir) if wait else []
    if output == "json":
        killed = ending.killed if ending is not None else []
        print_json({"name": name, "stopped": wait, "left": left, "killed": killed})
    elif left:
        screen.write(f"{name}: the manager has ended; {still_run(left)}\n")
    else:
        said = f"{name}: stopping" if ending is None else ending.outcome(name)
        screen.write(f"{said}\n")
    return NOT_AS_DESIRED if left and not leaves else DONE


def _wait_until_gone(
    client: Client, keeper_pid: int, timeout_ns: int, screen: Terminal, *, now: bool
) -> Ending:
    """Wait until nobody listens and the keeper has ended, and show what that waits for."""
    begun_ns = time.monotonic_ns()
    with terminal.Live(screen) as live, Client(instance=client.instance) as second:
        ending = Ending(screen, live, now=now)
        for _ in _moments(second, ending):
            gone = instances.is_dead(keeper_pid, unseen=True)
            if gone and not instances.is_running(client.instance):
                break
            if time.monotonic_ns() - begun_ns > timeout_ns:
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
    """Yield now and then without end; `ending` gets the events for as long as the manager sends them."""
    try:
        for kind, item in client.follow(("events.follow", {"until_end": True}), tick=_POLL_S):
            if kind == "event":
                event = client.read(EventEntry, kind, item).value
                ending.take(event)
                if event.type in ENDED:
                    break
            yield
    except (CommandError, RequestError):
        pass  # It has ended, or is too busy to answer: wait for its end.
    client.close()
    while True:
        yield
        time.sleep(_POLL_S)
