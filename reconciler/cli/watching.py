"""`status --watch`: the status on the whole terminal, the summary on top, problems first, with keys to scroll.

One row each; what does not fit is cut at the edge. Only the rows that are seen are drawn: the cost does not grow
with the number of watchers.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from typing import TYPE_CHECKING, Final, NamedTuple

from reconciler.cli import render, terminal
from reconciler.cli.connection.client import Client
from reconciler.cli.connection.transport import TICK
from reconciler.cli.layout import Cell, Table, paint, widths_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from reconciler.cli.layout import Block
    from reconciler.cli.terminal import Terminal
    from reconciler.model.status import Status

_REFRESH_S: Final = 1.0
_KEY_TICK_S: Final = 0.1
_HINT: Final = "j k: scroll · space b: page · g G: top, end · q: quit"


class View(NamedTuple):
    """How a status is looked at."""

    usage: bool = False
    slots: bool = False
    selected: bool = False
    failed: bool = False


def watch(client: Client, screen: Terminal, ask: Callable[[], Status], view: View) -> None:
    """Show the status again at every event, every second, and at every key, until q or Ctrl-C."""
    offset, shown = 0, 0.0
    status = ask()
    with (
        _keys() as read,
        terminal.Live(screen) as live,
        Client(instance=client.instance) as second,
    ):
        for kind, _ in second.follow(
            ("events.follow", {}), tick=_KEY_TICK_S if read else _REFRESH_S
        ):
            pressed = read() if read else ""
            if "q" in pressed or "\x04" in pressed:
                return
            since = time.monotonic() - shown
            if not pressed and since < (_REFRESH_S if kind == TICK else _REFRESH_S / 5):
                continue
            if not pressed or since >= _REFRESH_S:
                status = ask()
                shown = time.monotonic()
            height = max(screen.height - 1, 4)
            offset = scrolled(offset, pressed, height)
            lines, offset = page(status, view, screen.width, height, offset, colour=screen.colour)
            live.paint(lines)


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[], str] | None]:
    """Give what reads the keys that were pressed, None where nobody can press any."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield None
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)

    poll = select.poll()
    poll.register(fd, select.POLLIN)

    def read() -> str:
        return os.read(fd, 256).decode("ascii", "replace") if poll.poll(0) else ""

    tty.setcbreak(fd)
    try:
        yield read
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


_ARROWS: Final = {
    "\x1b[A": "k", "\x1b[B": "j", "\x1b[5~": "b", "\x1b[6~": " ", "\x1b[H": "g", "\x1b[F": "G",
    "\x1bOA": "k", "\x1bOB": "j", "\x1bOH": "g", "\x1bOF": "G",
}  # fmt: skip
_END: Final = 1 << 30


def scrolled(offset: int, pressed: str, height: int) -> int:
    """Return the first row after some keys; beyond the end is the end."""
    for keys, key in _ARROWS.items():
        pressed = pressed.replace(keys, key)
    for key in pressed:
        step = {"j": 1, "\n": 1, "k": -1, " ": height - 4, "b": 4 - height}.get(key, 0)
        offset = {"g": 0, "G": _END}.get(key, max(offset + step, 0))
    return offset


def page(
    status: Status, view: View, width: int | None, height: int, offset: int, *, colour: bool
) -> tuple[list[str], int]:
    """Return the lines of one screen from a row on, and which row that is: never beyond the end."""

    def drawn(*blocks: Block) -> list[str]:
        return paint(blocks, width=width, colour=colour)

    now_ns = time.time_ns()
    top, tables = render.watch_page(
        status,
        now_ns,
        usage=view.usage,
        slots=view.slots,
        selected=view.selected,
        failed=view.failed,
    )
    head = drawn(*top)
    most = max(height // 2, 1)
    if len(head) > most:
        head = [*head[: most - 1], f"... {len(head) - most + 1} more lines: reconcile status"]
    rows = sum(len(table.rows) + 2 for table in tables)
    room = max(height - len(head) - 1, 1)
    offset = max(min(offset, rows - room), 0)
    lines, left, skip = head, room, offset
    for table in tables:
        if skip >= len(table.rows) + 2:
            skip -= len(table.rows) + 2
        elif left > 0:
            # Its titles stay in sight: they stand in place of the first row that is.
            seen = drawn(*_cut(table, max(skip, 0), left))[:left]
            lines, left, skip = lines + seen, left - len(seen), 0
    where = f"{offset + 1}-{min(offset + room, rows)} of {rows} lines · " if rows > room else ""
    return [*lines, *drawn((Cell(where + _HINT, "quiet"),))], offset


def _cut(table: Table, first: int, room: int) -> list[Block]:
    """Return the rows of a table that are seen, under its titles and as wide as all of it; and an empty line."""
    some = table._replace(rows=table.rows[first : first + max(room - 1, 0)], least=widths_of(table))
    return [some, ()]
