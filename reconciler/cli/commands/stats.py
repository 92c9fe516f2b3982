"""The commands stats and top: what processes use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args

import click

from reconciler.cli import completion, options
from reconciler.cli.commands.watching import keys
from reconciler.cli.connection.transport import DROPPED, TICK, selection
from reconciler.cli.errors import DONE
from reconciler.cli.views import terminal
from reconciler.cli.views.documents import print_json
from reconciler.cli.views.scrolling import scrolled
from reconciler.cli.views.stats import KEYS, Order, stats_page, top_page
from reconciler.model.answer import Stats
from reconciler.model.value import to_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from reconciler.cli.connection.client import Client
    from reconciler.cli.connection.transport import Map
    from reconciler.cli.session import Session

_KEY_TICK_S: Final = 0.1
_names = click.argument("names", metavar="[PATTERN]...", nargs=-1, shell_complete=completion.names)
_interval = click.option(
    "--interval",
    "interval_ns",
    metavar="DURATION",
    default="1s",
    show_default=True,
    callback=options.read_duration,
    help="How often to look; 500ms at least.",
)
_sort = click.option(
    "--sort",
    "order",
    type=click.Choice(get_args(Order)),
    help="Order of the rows: what uses most comes first.",
)


@click.command("stats")
@_names
@options.labels
@click.option(
    "-w", "--watch", is_flag=True, help="Go on until Ctrl-C: one JSON object a slot and line."
)
@click.option("--count", type=click.IntRange(1), help="With -w: look so many times.")
@_interval
@_sort
@options.output("table", "json")
@options.with_instance
def stats_command(
    session: Session,
    names: tuple[str, ...],
    labels: dict[str, str],
    watch: bool,
    count: int | None,
    interval_ns: int,
    order: Order | None,
    output: str,
) -> int:
    """Show processor time and memory of processes and all that they have started.

    CPU is the share of one processor over the last second or more. MEM counts what several processes share
    once, where the kernel tells it. TIME is all processor time so far, PROCS and THREADS are those of the
    whole tree. Nothing is measured while nobody asks.

    -w writes JSON lines for other programs; for people there is `reconcile top`.
    """
    client = session.client()
    params = selection(names, labels)
    if not watch:
        answer = client.ask(Stats, "stats", params)
        if output == "json":
            print_json(answer.document())
        else:
            terminal.stdout().show(*stats_page(answer.value, order or "name"))
        return DONE
    for looks, stats in enumerate(_samples(client, params, interval_ns), 1):
        for slot in stats.slots:
            print_json({"time_ns": stats.time_ns, **_plain(slot)}, indent=None)
        if looks == count:
            break
    return DONE


def _plain(value: object) -> Map:
    found: Any = to_whole(value)
    return dict(found)


def _samples(client: Client, params: Map, interval_ns: int) -> Iterator[Stats]:
    for kind, item in client.follow(("stats.follow", params | {"interval_ns": interval_ns})):
        if kind == "stats" and DROPPED not in item:
            yield client.read(Stats, kind, item).value


@click.command("top")
@_names
@options.labels
@_interval
@_sort
@options.with_instance
def top_command(
    session: Session,
    names: tuple[str, ...],
    labels: dict[str, str],
    interval_ns: int,
    order: Order | None,
) -> int:
    """Show what uses most, on the whole terminal, until q or Ctrl-C.

    c, m and n sort by CPU, memory and name; j and k scroll.
    """
    screen = terminal.stdout()
    if not screen.is_terminal:
        msg = "top needs a terminal; for programs: reconcile stats -w"
        raise click.UsageError(msg)
    client = session.client()
    name = client.instance.name
    params = selection(names, labels) | {"interval_ns": interval_ns}
    stats, offset, by = Stats(), 0, order or "cpu"
    with keys() as read, terminal.Live(screen) as live:
        for kind, item in client.follow(
            ("stats.follow", params), tick=_KEY_TICK_S if read else None
        ):
            pressed = read() if read else ""
            if "q" in pressed or "\x04" in pressed:
                break
            if kind == "stats" and DROPPED not in item:
                stats = client.read(Stats, kind, item).value
            elif kind == TICK and not pressed:
                continue
            by = next((KEYS[key] for key in reversed(pressed) if key in KEYS), by)
            height = max(screen.height - 1, 4)
            offset = scrolled(offset, pressed, height)
            lines, offset = top_page(
                name, stats, by, screen.width, height, offset, colour=screen.colour
            )
            live.paint(lines)
    return DONE
