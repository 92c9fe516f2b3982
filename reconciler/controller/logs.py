"""Log files: their last lines, and what is appended to them.

A follower holds a place in each file, not a buffer: a reader who is slow makes nothing grow, it only
comes later. A renamed file is read to its end before the new one is opened.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from reconciler.model.value import Struct
from reconciler.output.places import folder_of, open_log

if TYPE_CHECKING:
    from collections.abc import Iterable

BLOCK_BYTES: Final = 64 * 1024
MAX_TAIL_BYTES: Final = 2**20
"""Of one file, however long its lines are."""
MAX_ANSWER_BYTES: Final = 32 * 2**20
MAX_LINE_BYTES: Final = 64 * 1024
"""A longer line is passed on in pieces."""


class LogPlace(Struct, frozen=True):
    """Where one stream of one slot lies."""

    watcher: str
    slot: int
    source: str
    """stdout or stderr."""
    path: str


def last_lines(places: Iterable[LogPlace], count: int) -> list[dict[str, object]]:
    """Return the last whole lines of each file as entries; files that do not exist have none.

    An entry of a file that cannot be read has an `error` that says why, and no lines.
    """
    entries: list[dict[str, object]] = []
    room = MAX_ANSWER_BYTES
    for place in places:
        entry: dict[str, object] = {
            "watcher": place.watcher,
            "slot": place.slot,
            "stream": place.source,
        }
        try:
            data = _last_of(place.path, count, min(room, MAX_TAIL_BYTES))
        except FileNotFoundError:
            continue
        except OSError as error:
            cause = f"cannot read {place.path}: {(error.strerror or str(error)).lower()}"
            entries.append(entry | {"data": b"", "error": cause})
            continue
        room -= len(data)
        if data:
            entries.append(entry | {"data": data})
    return entries


def _last_of(path: str, count: int, limit: int) -> bytes:
    descriptor = open_log(path, os.O_RDONLY)
    try:
        return tail(descriptor, count, limit)[0]
    finally:
        os.close(descriptor)


def tail(descriptor: int, count: int, limit: int = MAX_TAIL_BYTES) -> tuple[bytes, int]:
    """Return the last `count` whole lines and the offset behind them, reading backwards."""
    end = os.fstat(descriptor).st_size
    data, start = b"", end
    while start > 0 and data.count(b"\n") <= count and len(data) < limit:
        size = min(BLOCK_BYTES, start)
        start -= size
        data = os.pread(descriptor, size, start) + data
    whole = data.rfind(b"\n") + 1
    offset = start + whole
    lines = _lines(data[:whole])
    if start > 0 and len(lines) <= count:
        lines = lines[1:]  # its beginning was not read
    return b"".join(lines[len(lines) - count :] if count < len(lines) else lines), offset


def _lines(data: bytes) -> list[bytes]:
    """Split at newlines only; a lone carriage return ends no line (progress bars)."""
    return [line + b"\n" for line in data.split(b"\n")[:-1]]


class Follower:
    """One reader's place in one log file."""

    def __init__(self, place: LogPlace) -> None:
        self.place = place
        self._descriptor = -1
        self._offset = 0

    def begin(self, count: int) -> bytes:
        """Open the file and return its last whole lines; it may not exist yet."""
        if not self._reopen():
            return b""
        try:
            data, self._offset = tail(self._descriptor, count)
        except OSError:
            return b""
        return data

    def more(self) -> bytes:
        """Return whole lines that were appended, at most a block; empty when there are none now."""
        if self._descriptor < 0 and not self._reopen():
            return b""
        data = self._block()
        if not data and self._was_replaced() and self._reopen():
            data = self._block()
        return data

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _block(self) -> bytes:
        try:
            if os.fstat(self._descriptor).st_size < self._offset:
                self._offset = 0  # truncated in place
            data = os.pread(self._descriptor, BLOCK_BYTES, self._offset)
        except OSError:
            return b""
        whole = data.rfind(b"\n") + 1
        if not whole and (len(data) >= MAX_LINE_BYTES or (data and self._was_replaced())):
            whole = len(data)  # a very long line, or the last one of a file that gets no more
        self._offset += whole
        return data[:whole]

    def _was_replaced(self) -> bool:
        """Tell whether another file lies there now; a place that cannot be trusted any more counts for nothing."""
        try:
            mine = os.fstat(self._descriptor)
        except OSError:
            return True
        try:
            with folder_of(self.place.path) as (folder, name):
                now = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:
            return False
        return not os.path.samestat(now, mine)

    def _reopen(self) -> bool:
        try:
            descriptor = open_log(self.place.path, os.O_RDONLY)
        except OSError:
            return False
        with suppress(OSError):
            self.close()
        self._descriptor, self._offset = descriptor, 0
        return True
