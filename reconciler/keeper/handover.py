"""What a keeper hands to its own new code when it replaces itself: everything that it holds, by descriptor.

The process stays, and with it its pid, its children, its locks. What execve(2) would close is made
inheritable, and what would be forgotten is written into memory that has no name (memfd_create(2)). All
signals are blocked meanwhile, so that none finds a program that does not expect it; one that comes waits.
If the new program cannot be executed, everything is as it was.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from reconciler.keeper.journal import FORMAT
from reconciler.model.plain import Plain, from_plain, to_plain


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An output stream: its FIFO, the beginning of a line, and the end of what was captured."""

    fd: int
    held: bytes = b""
    tail: bytes = b""
    skips: bool = False


@dataclass(frozen=True, slots=True)
class Handover:
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


def replace_code(python: str, config: Mapping[str, Plain], handover: Handover) -> NoReturn:
    """Become the keeper of another installation. Raises `OSError`; then nothing has changed."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    memory = _write(handover)
    inherited = [memory, *handover.descriptors]
    controller = [python if word == sys.executable else word for word in config["controller_argv"]]
    new = {**config, "controller_argv": controller, "ready_fd": None, "handover_fd": memory}
    argv = [python, *sys.orig_argv[1:-1], json.dumps(new)]
    try:
        for fd in inherited:
            os.set_inheritable(fd, True)
        os.execv(python, argv)
    finally:
        for fd in inherited:
            os.set_inheritable(fd, False)
        os.close(memory)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def take(memory: int) -> Handover:
    """Return what the former code of this process held. Raises `ValueError` when it cannot be read."""
    with open(memory, "rb") as file:
        file.seek(0)
        plain = json.load(file, object_hook=_bytes_of)
    if plain["format"] > FORMAT:
        msg = f"it is of format {plain['format']}, this version reads up to {FORMAT}"
        raise ValueError(msg)
    return from_plain(Handover, plain)


def _write(handover: Handover) -> int:
    memory = os.memfd_create("handover", os.MFD_CLOEXEC)
    plain = to_plain(handover, tagged=False) | {"format": handover.format}
    with open(memory, "w", encoding="ascii", closefd=False) as file:
        json.dump(plain, file, default=lambda data: {_BYTES: data.decode("latin-1")})
    return memory


_BYTES = "latin-1"
"""Key of a map that stands for bytes, which JSON does not know."""


def _bytes_of(plain: dict[str, Plain]) -> Plain:
    return plain[_BYTES].encode("latin-1") if plain.keys() == {_BYTES} else plain
