"""What a keeper hands to its own new code when it replaces itself: everything that it holds, by descriptor.

The process stays, and with it its pid, its children, its locks. What execve(2) would close is made
inheritable, and what would be forgotten is written as a journal into memory that has no name (memfd_create(2)). All
signals are blocked meanwhile, so that none finds a program that does not expect it; one that comes waits.
If the new program cannot be executed, everything is as it was.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, NoReturn

from reconciler.model.value import Struct, field, from_plain, replace
from reconciler.output.stream import Outgoing
from reconciler.wire.journal import read, write, written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from reconciler.wire.journal import Recalled

HANDOVER: Final = "handover"
"""Under this name the descriptors stand among the entries."""


class Handover(Struct, frozen=True):
    """What is open, by what it is for, and what no journal knows."""

    files: tuple[int, ...]
    """The limits that children get: of open files, soft and hard, and the soft one of core files."""
    control: int
    oom_score_adj: int | None = None
    """What children get of that; None: what the keeper has, and what a version says that knows nothing of it."""
    locks: tuple[int, ...] = ()
    pidfds: Mapping[int, int] = field(default_factory=dict)
    sockets: Mapping[int, int] = field(default_factory=dict)
    """By cookie."""
    outputs: Mapping[str, Outgoing] = field(default_factory=dict)
    """By the name of the FIFO."""
    unsent: bytes = b""
    """Whole lines on their way to the manager's own output."""

    @property
    def descriptors(self) -> list[int]:
        """Return all that must live on."""
        outputs = (each.fd for each in self.outputs.values())
        return [self.control, *self.locks, *self.pidfds.values(), *self.sockets.values(), *outputs]


def replace_code(
    argv_with: Callable[[int], list[str]],
    entries: Mapping[str, object],
    handover: Handover,
    unheard: Callable[[], Iterable[int]],
) -> NoReturn:
    """Become another program, which finds all that is held in the memory that its `argv` names.

    `unheard` gives away the signals that have come already, but that nobody has answered. Raises `OSError`; then
    nothing has changed.
    """
    with ExitStack() as undo:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        undo.callback(signal.pthread_sigmask, signal.SIG_SETMASK, mask)
        for number in unheard():  # they wait for whoever unblocks them: the new program, or we
            os.kill(os.getpid(), number)
        memory = os.memfd_create("handover", os.MFD_CLOEXEC)
        undo.callback(os.close, memory)
        write(memory, written({**entries, HANDOVER: handover}))
        for fd in (memory, *handover.descriptors):
            undo.callback(os.set_inheritable, fd, False)
            os.set_inheritable(fd, True)
        argv = argv_with(memory)
        os.execv(argv[0], argv)
    raise AssertionError  # an exec that returns has raised


def take(memory: int) -> tuple[Handover, Recalled]:
    """Return what the former code of this process held. Raises `NewerFormat`, and `ValueError` if it makes no sense."""
    with open(memory, "rb") as file:
        file.seek(0)
        _, recalled = read(file.read())
    return from_plain(Handover, recalled.entries.get(HANDOVER)), replace(recalled, is_own=True)
