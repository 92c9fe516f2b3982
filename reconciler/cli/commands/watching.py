"""`status --watch`: the status on the whole terminal, until the user has seen enough, with keys to scroll."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from typing import TYPE_CHECKING, Final

from reconciler.cli.connection.client import Client
from reconciler.cli.connection.transport import TICK
from reconciler.cli.views import terminal
from reconciler.cli.views.scrolling import page, scrolled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from reconciler.cli.views.status import View
    from reconciler.cli.views.terminal import Terminal
    from reconciler.model.status import Status

_REFRESH_S: Final = 1.0
_KEY_TICK_S: Final = 0.1


def watch(client: Client, screen: Terminal, ask: Callable[[], Status], view: View) -> None:
    """Show the status again at every event, every second, and at every key, until q or Ctrl-C."""
    offset, shown = 0, 0.0
    status = ask()
    with (
        keys() as read,
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
def keys() -> Iterator[Callable[[], str] | None]:
    """Give a function that returns the keys pressed since, None where there is no keyboard."""
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
