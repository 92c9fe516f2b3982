"""What a keeper hands to its own new code when it replaces itself: everything that it holds, by descriptor.

The process stays, and with it its pid, its children, its locks. What execve(2) would close is made
inheritable, and what would be forgotten is written into memory that has no name (memfd_create(2)). All
signals are blocked meanwhile, so that none finds a program that does not expect it; one that comes waits.
If the new program cannot be executed, everything is as it was.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, NoReturn

import msgspec

from reconciler.keeper.journal import FORMAT
from reconciler.model.value import Struct, field, replace
from reconciler.output.stream import Outgoing

if TYPE_CHECKING:
    from reconciler.keeper.config import KeeperConfig


class Handover(Struct, frozen=True):
    """All that a keeper holds. `entries` are as in the journal; descriptors go by what they are for."""

    entries: Mapping[str, object]
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
    format: int = FORMAT

    @property
    def descriptors(self) -> list[int]:
        """Return all that must live on."""
        outputs = [each.fd for each in self.outputs.values()]
        return [
            self.control,
            *self.locks,
            *self.pidfds.values(),
            *self.sockets.values(),
            *outputs,
        ]


def replace_code(
    python: str, config: KeeperConfig, handover: Handover, unheard: Callable[[], Iterable[int]]
) -> NoReturn:
    """Become the keeper of another installation. Raises `OSError`; then nothing has changed.

    `unheard` gives away the signals that have come already, but that nobody has answered.
    """
    with ExitStack() as undo:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        undo.callback(signal.pthread_sigmask, signal.SIG_SETMASK, mask)
        for number in unheard():  # they wait for whoever unblocks them: the new program, or we
            os.kill(os.getpid(), number)
        memory = _write(handover)
        undo.callback(os.close, memory)
        controller = [python if word == sys.executable else word for word in config.controller_argv]
        new = replace(config, controller_argv=tuple(controller), ready_fd=None, handover_fd=memory)
        argv = [python, *sys.orig_argv[1:-1], msgspec.json.encode(new).decode()]
        for fd in (memory, *handover.descriptors):
            undo.callback(os.set_inheritable, fd, False)
            os.set_inheritable(fd, True)
        os.execv(python, argv)
    raise AssertionError  # an exec that returns has raised


def take(memory: int) -> Handover:
    """Return what the former code of this process held. Raises `ValueError` when it cannot be read."""
    with open(memory, "rb") as file:
        file.seek(0)
        plain = msgspec.msgpack.decode(file.read())
    if plain["format"] > FORMAT:
        msg = f"it is of format {plain['format']}, this version reads up to {FORMAT}"
        raise ValueError(msg)
    return msgspec.convert(plain, Handover)


def _write(handover: Handover) -> int:
    # The format is said in any case: what is left out is taken for the reader's own.
    plain = msgspec.to_builtins(handover, builtin_types=(bytes,)) | {"format": handover.format}
    data = msgspec.msgpack.encode(plain)
    memory = os.memfd_create("handover", os.MFD_CLOEXEC)
    try:
        while data:
            data = data[os.write(memory, data) :]
    except OSError:
        os.close(memory)
        raise
    return memory
