"""The keeper's own log: lines to descriptor 2, and nobody waits for its reader.

A full pipe, a terminal that was stopped with Ctrl-S, a journal that is restarted: each costs lines, which are
counted, and never the keeper. A line that was taken in part is finished before the next one begins.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from reconciler.output.manager_output import never_waiting

if TYPE_CHECKING:
    from collections.abc import Mapping

Level: TypeAlias = Literal["debug", "info", "warning", "error"]
LEVELS: Final[dict[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class OwnLog:
    """Writes lines from a level on; what finds no room is dropped, and the next line that fits tells how much."""

    def __init__(self, least: str, fd: int = 2) -> None:
        self._least = LEVELS.get(least, LEVELS["info"])
        _, self._write = never_waiting(fd)
        self._rest = b""
        self._dropped = 0

    def log(self, level: Level, message: str, **pairs: object) -> None:
        """Write a line, unless nobody takes it just now."""
        if LEVELS[level] < self._least:
            return
        self._send()
        if self._rest:
            self._dropped += 1
            return
        if self._dropped:
            told = {"lines": self._dropped}
            self._rest = _line("warning", "lines of this log were dropped", told)
        self._rest += _line(level, message, pairs)
        whole = len(self._rest)
        self._send()
        if len(self._rest) == whole:  # not a byte of it; what has begun is finished later
            self._rest, self._dropped = b"", self._dropped + 1
        else:
            self._dropped = 0

    def _send(self) -> None:
        with suppress(OSError):  # full, or nobody reads it any more
            while self._rest:
                self._rest = self._rest[self._write(self._rest) :]


def _line(level: str, message: str, pairs: Mapping[str, object]) -> bytes:
    shown = "".join(f" {key}={json.dumps(str(value))}" for key, value in pairs.items())
    wall = time.time_ns()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(wall // 10**9))
    line = f"{stamp}.{wall % 10**9 // 1000:06d}Z {level} keeper: {message}{shown}\n"
    return line.encode(errors="backslashreplace")
