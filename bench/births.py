"""What the workers tell of themselves: 16 bytes each, through a FIFO that we sleep on."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from bench.programs import BenchError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

RECORD: Final = struct.Struct("=QII")
ROOM: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Birth:
    """One start of a worker: its clock at the first instruction, its pid, which of the workers it is."""

    at_ns: int
    pid: int
    index: int


class Births:
    """The reading end of the FIFO that all workers of one manager write to."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        # With an end of our own to write to, it never looks closed between two workers.
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, ROOM)
        self._rest = b""
        """What was read and not asked for yet."""
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def take(self, count: int, within_s: float) -> list[Birth]:
        """Sleep until `count` workers were born. Raises `BenchError` when that takes too long."""
        until = time.monotonic() + within_s
        while len(self._rest) < count * RECORD.size:
            left = until - time.monotonic()
            if left <= 0 or not self._poll.poll(left * 1000):
                born = len(self._rest) // RECORD.size
                msg = f"only {born} of {count} workers were born within {within_s:g} s"
                raise BenchError(msg)
            self._rest += os.read(self._fd, ROOM)
        taken, self._rest = self._rest[: count * RECORD.size], self._rest[count * RECORD.size :]
        return [Birth(*values) for values in RECORD.iter_unpack(taken)]

    def wait(self, within_s: float) -> None:
        """Sleep until somebody is born, or so long."""
        self._poll.poll(within_s * 1000)

    def those_by_now(self) -> list[Birth]:
        """Return whoever was born and not taken yet, without waiting."""
        while self._poll.poll(0):
            self._rest += os.read(self._fd, ROOM)
        return self.take(len(self._rest) // RECORD.size, 0)

    def assert_quiet(self) -> None:
        """Raise `BenchError` when somebody was born whom nobody waited for."""
        if self._rest or self._poll.poll(0):
            msg = "a worker was started that nobody had killed"
            raise BenchError(msg)
