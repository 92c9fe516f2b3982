"""Looks for lines in the logs of processes, in a process of its own: `python -m reconciler.controller.probes.matcher`.

A pattern of a user may take for ever on a line that somebody else has written, and whoever runs it is deaf meanwhile:
`re` lets no other thread go on. So it runs here, where a timer interrupts it, on lines that are cut, a bounded piece of
a file at a time. Whatever becomes of this process, neither the loop of the controller nor the keeper waits for it.

It reads JSON, one object a line: `{"ask": KEY, "pattern": …, "places": [[path, inode, offset], …], "interval_ns": …}`
or `{"drop": KEY}`. It writes `[KEY, found, text]`: the line that matched, or why none has up to now.
"""

from __future__ import annotations

import json
import os
import re
import resource
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from reconciler.output.places import open_log
from reconciler.output.rotations import LogPart, parts_of

PIECE_BYTES: Final = 256 * 1024
"""So much of a file is read in one look; the next one comes at once when there is more."""
MAX_LINE_BYTES: Final = 8 * 1024
"""Of a longer line only the beginning is looked at."""
MATCH_S: Final = 0.25
"""Processor time that a pattern may take on one line."""
LOOK_S: Final = 0.05
"""After so much processor time others have their turn."""
MEMORY_LIMIT_BYTES: Final = 512 * 2**20
MAX_SHOWN: Final = 120
NOT_YET: Final = "no line matches yet"


class TooSlow(Exception):
    """A pattern has had its time."""


class Place:
    """How far a log was looked at since a life began in it."""

    def __init__(self, path: str, inode: int, offset: int) -> None:
        self.path = path
        self._inode = inode
        self._offset = offset
        self.has_more = False
        """More is there than was read last."""
        self._rest = b""
        """A line whose end has not been read yet."""
        self._lines: deque[bytes] = deque()
        """Lines that were read and not looked at yet."""

    def lines(self) -> Iterator[bytes]:
        """Yield the lines that were not looked at yet, each once and without its end; of much that is new a piece."""
        if not self._lines:
            self._read()
        while self._lines:
            yield self._lines.popleft()

    def _read(self) -> None:
        left = PIECE_BYTES
        for part in self._parts():
            if part.identity[1] != self._inode:
                self._inode, self._offset = part.identity[1], 0
            with suppress(OSError):
                data = _read(part, self._offset, left)
                self._offset += len(data)
                left -= len(data)
                self._cut(data)
            if left <= 0:
                break
        self.has_more = left <= 0

    def _parts(self) -> list[LogPart]:
        """Return the files of a log that hold what is to be read, the oldest first."""
        parts = [each for each in parts_of(self.path) if not each.is_compressed]
        where = [place for place, each in enumerate(parts) if each.identity[1] == self._inode]
        # Where it began is no more, or it began before there was a file: what is there now is all newer.
        return parts[: where[0] + 1][::-1] if where else parts[:1]

    def _cut(self, data: bytes) -> None:
        *whole, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:MAX_LINE_BYTES]
        self._lines.extend(line[:MAX_LINE_BYTES].rstrip(b"\r") for line in whole)


def _read(part: LogPart, offset: int, most: int) -> bytes:
    descriptor = open_log(part.path, os.O_RDONLY)
    try:
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) != part.identity:
            return b""  # rotated in between: the next look finds it under its new name
        return os.pread(descriptor, most, offset if offset <= status.st_size else 0)
    finally:
        os.close(descriptor)


class Asked:
    """One pattern, and the logs that it is looked for in."""

    def __init__(
        self, pattern: str, places: Sequence[tuple[str, int, int]], interval_ns: int
    ) -> None:
        self._text = pattern
        self._pattern: re.Pattern[str] | None = None
        self._places = [Place(*each) for each in places]
        self._interval_ns = interval_ns
        self.due_ns = 0
        self.said = ""
        """What was told last of why no line has matched."""

    def look(self, now_ns: int) -> str | None:
        """Return the first line that matches; None when none of what is there does, or there is more.

        Raises `TooSlow` for a line that is left out then, and `re.error`.
        """
        self.due_ns = now_ns + self._interval_ns
        until_s = time.process_time() + LOOK_S
        if self._pattern is None:
            with interrupted_after(MATCH_S):
                self._pattern = re.compile(self._text)
        for place in self._places:
            for line in place.lines():
                text = line.decode(errors="replace")
                with interrupted_after(MATCH_S):
                    found = self._pattern.search(text)
                if found:
                    return text
                if time.process_time() > until_s:
                    self.due_ns = now_ns
                    return None
            if place.has_more:
                self.due_ns = now_ns
        return None


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Raise `TooSlow` in what takes more processor time."""
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


class Matcher:
    """All that is asked."""

    def __init__(self, tell: Callable[[str, bool, str], None]) -> None:
        self._asked: dict[str, Asked] = {}
        self._tell = tell

    def take(self, order: dict[str, Any]) -> None:
        """Do what the controller says."""
        if "drop" in order:
            self._asked.pop(order["drop"], None)
        else:
            places = [
                (str(path), int(inode), int(offset)) for path, inode, offset in order["places"]
            ]
            asked = Asked(str(order["pattern"]), places, int(order["interval_ns"]))
            self._asked[order["ask"]] = asked

    def look(self, now_ns: int) -> int | None:
        """Look where it is time to; return when to look again, None: nothing is asked."""
        for key, asked in list(self._asked.items()):
            if asked.due_ns <= now_ns:
                self._look_for(key, asked, now_ns)
        return min((each.due_ns for each in self._asked.values()), default=None)

    def _look_for(self, key: str, asked: Asked, now_ns: int) -> None:
        said = NOT_YET
        try:
            line = asked.look(now_ns)
        except TooSlow:
            line, said = None, "the pattern takes too long on one of the lines"
            asked.due_ns = now_ns  # the others may match
        except (re.error, MemoryError, RecursionError, OverflowError) as error:
            line, said = None, f"the pattern cannot be used: {type(error).__name__}: {error}"
        if line is not None:
            del self._asked[key]
            self._tell(key, True, line[:MAX_SHOWN])
        elif not asked.said or said not in {asked.said, NOT_YET}:
            asked.said = said
            self._tell(key, False, said)


def _too_slow(_signal: int, _frame: object) -> None:
    raise TooSlow


def main() -> None:
    """Answer on standard output what is asked on standard input, until that is closed."""
    signal.signal(signal.SIGVTALRM, _too_slow)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    os.nice(5)
    matcher, rest = Matcher(_write), b""
    poll = select.poll()
    poll.register(sys.stdin.fileno(), select.POLLIN)
    while True:
        due_ns = matcher.look(time.monotonic_ns())
        wait_ms = None if due_ns is None else max((due_ns - time.monotonic_ns()) // 10**6 + 1, 0)
        if not poll.poll(wait_ms):
            continue
        data = os.read(sys.stdin.fileno(), 65536)
        if not data:
            return
        *orders, rest = (rest + data).split(b"\n")
        for order in orders:
            matcher.take(json.loads(order))


def _write(key: str, found: bool, text: str) -> None:
    data = json.dumps([key, found, text]).encode() + b"\n"
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]


if __name__ == "__main__":
    main()
