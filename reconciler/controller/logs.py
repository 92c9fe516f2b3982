"""Log files: their last lines, and what is appended to them.

A follower holds a place in each file, neither a buffer nor a descriptor: a reader who is slow makes nothing
grow, it only comes later. A renamed file is read to its end before the new one is opened.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from reconciler.model.value import Struct
from reconciler.output.places import folder_of, open_log

if TYPE_CHECKING:
    from collections.abc import Iterable

BLOCK_BYTES: Final = 64 * 1024
MAX_TAIL_BYTES: Final = 2**20
"""Of one file, however long its lines are."""
MAX_ANSWER_BYTES: Final = 32 * 2**20
MAX_ROTATIONS: Final = 1000
"""Rotated files among which the one that was read last is looked for."""
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
    """One reader's place in one log file: which file, and how far it was read. Opened only to be read."""

    def __init__(self, place: LogPlace) -> None:
        self.place = place
        self.trouble = ""
        """Why the file cannot be read, empty when it can."""
        self.told = ""
        """What the reader was told of that."""
        self._descriptor = -1
        self._identity: tuple[int, int] | None = None
        """Device and inode of the file that is read, None as long as there was none."""
        self._offset = 0

    @property
    def is_open(self) -> bool:
        """Tell whether it holds a descriptor."""
        return self._descriptor >= 0

    def begin(self, count: int) -> bytes:
        """Return the last whole lines, and go on from there; the file may not exist yet."""
        if not self._open_at(self.place.path):
            return b""
        try:
            data, self._offset = tail(self._descriptor, count)
        except OSError as error:
            self._note(error)
            data = b""
        self.close()
        return data

    def more(self) -> bytes:
        """Return whole lines that were appended, at most a block; empty when there are none now.

        What is left to be read may leave the file open, until `close`.
        """
        for _ in range(MAX_ROTATIONS):
            if self._descriptor >= 0 or self._reopen():
                data = self._block()
                if data:
                    return data
                self.close()
            if self._identity is None or not self._go_to_next():
                return b""
        return b""

    def close(self) -> None:
        """Close the file; its place is kept."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _block(self) -> bytes:
        try:
            if os.fstat(self._descriptor).st_size < self._offset:
                self._offset = 0  # truncated in place
            data = os.pread(self._descriptor, BLOCK_BYTES, self._offset)
        except OSError as error:
            self._note(error)
            return b""
        whole = data.rfind(b"\n") + 1
        if not whole and (len(data) >= MAX_LINE_BYTES or (data and self._was_replaced())):
            whole = len(data)  # a very long line, or the last one of a file that gets no more
        self._offset += whole
        return data[:whole]

    def _was_replaced(self) -> bool:
        now = _identity_at(self.place.path)
        return now is not None and now != self._identity

    def _reopen(self) -> bool:
        """Open the file that was read last, whatever it is called by now; at first the one at its path."""
        if self._identity is None:
            return self._open_at(self.place.path)
        # Is it nowhere, then what is in the way to its place is told.
        return self._open_at(_name(self.place.path, self._number() or 0))

    def _number(self) -> int | None:
        """Return the number of rotations since it was read last; None: it is not there any more."""
        for number in range(MAX_ROTATIONS):
            now = _identity_at(_name(self.place.path, number))
            if now == self._identity:
                return number
            if now is None and number:
                return None
        return None

    def _go_to_next(self) -> bool:
        """After the end of a file that was renamed, or is gone, go on with the next younger one."""
        number = self._number()
        if number == 0:
            return False
        younger = _name(self.place.path, 0 if number is None else number - 1)
        identity = _identity_at(younger)
        if identity is None:
            return False
        self._identity, self._offset = identity, 0
        return True

    def _open_at(self, path: str) -> bool:
        try:
            descriptor = open_log(path, os.O_RDONLY)
        except OSError as error:
            self._note(error)
            return False
        status = os.fstat(descriptor)
        identity = (status.st_dev, status.st_ino)
        if self._identity is None:
            self._identity, self._offset = identity, 0
        if identity != self._identity:  # renamed in this instant: looked for again
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def _note(self, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            cause = (error.strerror or str(error)).lower()
            self.trouble = f"cannot read {self.place.path}: {cause}"


def _name(path: str, number: int) -> str:
    """Return what a log file is called after so many rotations."""
    return f"{path}.{number}" if number else path


def _identity_at(path: str) -> tuple[int, int] | None:
    """Return what lies at a path, None: nothing, or nothing that can be trusted."""
    try:
        with folder_of(path) as (folder, name):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None
    return (status.st_dev, status.st_ino)
