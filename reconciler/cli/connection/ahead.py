"""A keeper that is begun before anybody knows what it is to keep: it imports while the spec is read.

    reconcile run ─┬─ this process becomes the keeper, and waits for its orders
                   └─ a child goes on with the command: reads, checks, gives the orders

The process that a supervisor or a shell has started is the keeper from its first moment on. Where the command ends
without orders, the keeper that was to be ends as the command did. Imports little: it comes before everything else.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Final, NamedTuple

from reconciler.system import in_place

KEEPER: Final = (sys.executable, "-I", "-m", "reconciler.keeper")
"""The program of all keepers; what follows is its configuration, or `--await` and where it comes from."""


class Ahead(NamedTuple):
    """A keeper that waits."""

    pid: int
    orders: int
    """Pipe to it."""
    memory: int
    """Descriptor, the same here and there, of what the reader will have said of the spec."""


waiting: Ahead | None = None


def begin() -> None:
    """Begin one, in this very process: who returns is its child. Where that cannot be, nothing has happened."""
    global waiting
    held: list[int] = []
    keeper = os.getpid()
    try:
        held += os.pipe()
        held.append(os.memfd_create("spec"))
        command = in_place.fork(changes="parent")
    except OSError:
        for fd in held:
            os.close(fd)
        return
    heard, orders, memory = held
    if command:
        os.close(orders)
        argv = (*KEEPER, "--await", f"{command},{heard}")
        in_place.live(lambda: _be(argv, (heard, memory), command))  # never two that go on
    os.close(heard)
    waiting = Ahead(keeper, orders, memory)


def _be(argv: tuple[str, ...], fds: tuple[int, ...], command: int) -> int:
    """Be the keeper that waits, and return its exit code."""
    in_place.mortal()
    if in_place.isolate():
        return in_place.begin(argv)
    return _execute(argv, fds, command)


def _execute(argv: tuple[str, ...], fds: tuple[int, ...], command: int) -> int:
    """Execute the keeper; where that cannot be, return how the command ends, which comes to the same and says so."""
    try:
        for fd in fds:
            os.set_inheritable(fd, True)
        # It waits until the new program knows how to end by it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        os.execv(argv[0], argv)
    except OSError:
        os.close(fds[0])
        code = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
    return code if code >= 0 else 128 - code


def order(configuration: str, *, stays: bool) -> bool:
    """Give a keeper that waits its orders; False: none waits.

    `stays`: this process lives on, and the keeper does not wait for its end.
    """
    global waiting
    ahead, waiting = waiting, None
    if ahead is None:
        return False
    try:
        with open(ahead.orders, "w", encoding="utf-8", errors="surrogateescape") as pipe:
            pipe.write(f"{'stays' if stays else 'ends'} {configuration}")
    except BrokenPipeError:
        if os.getppid() != ahead.pid:
            os._exit(1)  # it was ended meanwhile, and with it all that was to come
        return False
    os.close(ahead.memory)
    return True
