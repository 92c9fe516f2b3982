"""Log files: their last lines, and what is appended to them; what their rotations have left is a part of them.

A follower holds a place in each file, neither a buffer nor a descriptor: a reader who is slow makes nothing
grow, it only comes later. A renamed file is read to its end before the new one is opened. The place can be written
down, so that another controller goes on there.

A line is passed on when it is complete, or when its writer has been quiet for `QUIET_NS`: what a program asks, or
says last, often has no newline. The keeper ends the line of a writer that has died.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import Final

from reconciler.controller.runtime import clock
from reconciler.model.units import MICROSECOND_NS, SECOND_NS
from reconciler.model.value import Struct
from reconciler.output.rotations import (
    MAX_ROTATIONS,
    Identity,
    LogPart,
    OpenPart,
    part_at,
    parts_of,
)
from reconciler.output.stamps import time_of

BLOCK_BYTES: Final = 64 * 1024
MAX_TAIL_BYTES: Final = 2**20
"""Of what a follower begins with, however long its lines are."""
MAX_ANSWER_BYTES: Final = 32 * 2**20
MAX_LINE_BYTES: Final = 64 * 1024
"""A longer line is passed on in pieces."""
QUIET_NS: Final = SECOND_NS


class LogPlace(Struct, frozen=True):
    """Where one stream of one slot lies, or of several: slot 0 is of all, and no watcher of several."""

    watcher: str
    slot: int
    source: str
    """stdout or stderr."""
    path: str


class Tail(Struct, frozen=True):
    """The last lines of a log."""

    data: bytes
    offset: int = 0
    """Behind the last of them in the youngest file."""
    has_more: bool = False
    """There are older lines."""
    is_cut: bool = False
    """There was no room for as many lines as were asked for."""


# ---- what was written -----------------------------------------------------------------------------


def last_lines(
    places: Sequence[LogPlace], count: int, since_ns: int | None = None
) -> list[dict[str, object]]:
    """Return the last lines of each log as entries; logs that do not exist have none.

    An entry of a log that cannot be read has an `error` that says why. `since_ns` is a wall time: of lines that
    have their time in front of them only those since then are meant, of others (`undated`) whole files.
    """
    entries: list[dict[str, object]] = []
    room = MAX_ANSWER_BYTES
    for index, place in enumerate(places):
        entry: dict[str, object] = {
            "watcher": place.watcher,
            "slot": place.slot,
            "stream": place.source,
            "path": place.path,
        }
        try:
            found = _history(place.path, count, room // (len(places) - index), since_ns)
        except FileNotFoundError:
            continue
        except OSError as error:
            entries.append(entry | {"data": b"", "error": _cannot_read(place.path, error)})
            continue
        room -= len(found.data)
        undated = since_ns is not None and time_of(found.data) is None
        data = found.data if since_ns is None or undated else _since(found.data, since_ns)
        if data:
            has_more = found.has_more and len(data) == len(found.data)
            facts = {"more": has_more, "cut": found.is_cut, "undated": undated}
            entries.append(entry | {"data": data} | {key: True for key in facts if facts[key]})
    return entries


def _history(path: str, count: int, limit: int, since_ns: int | None) -> Tail:
    """Return the last lines of a log through all its files. Raises `OSError`."""
    parts = parts_of(path)
    if not parts or parts[0].path != path:
        OpenPart(path).close()  # says what is in the way
    if count == 0:
        return Tail(b"")
    meant = takewhile(lambda part: since_ns is None or part.changed_ns >= since_ns, parts)
    return _last_of_parts(path, meant, count, limit)


def _last_of_parts(path: str, parts: Iterable[LogPart], count: int, limit: int) -> Tail:
    """Return the last lines of some files of a log, the youngest first. Raises `OSError`."""
    data, has_more, is_cut = b"", False, False
    for part in parts:
        if count <= 0 or is_cut:
            return Tail(data, 0, True, is_cut)
        is_quiet = part.path != path or part.changed_ns + QUIET_NS <= clock.wall_ns()
        found = _tail_of(part, count, limit - len(data), with_rest=is_quiet)
        data = found.data + data
        count -= found.data.count(b"\n") + (found.data[-1:] not in {b"\n", b""})
        has_more, is_cut = found.has_more, found.is_cut
    return Tail(data, 0, has_more, is_cut)


def _tail_of(part: LogPart, count: int, limit: int, *, with_rest: bool) -> Tail:
    """Return the last lines of one file. One that is gone by now has none. Raises `OSError`."""
    try:
        file = OpenPart(part.path)
    except FileNotFoundError:
        return Tail(b"")
    try:
        if not file.is_compressed:
            return _last_of(file.read, file.status().st_size, count, limit, with_rest=with_rest)
        kept, start = b"", 0
        while block := file.read(BLOCK_BYTES, start + len(kept)):
            kept += block
            if len(kept) > 2 * (limit + BLOCK_BYTES):
                start, kept = start + len(kept) - limit, kept[-limit:]

        def read(size: int, offset: int) -> bytes:
            return kept[offset - start :][:size]

        return _last_of(read, start + len(kept), count, limit, with_rest=True, begin=start)
    finally:
        file.close()


def _last_of(
    read: Callable[[int, int], bytes],
    end: int,
    count: int,
    limit: int,
    *,
    with_rest: bool,
    begin: int = 0,
) -> Tail:
    """Return the last `count` lines before `end`, reading backwards; `with_rest` one without newline is the last."""
    data, start = b"", end
    while start > begin and data.count(b"\n") <= count and len(data) < limit:
        size = min(BLOCK_BYTES, start - begin)
        start -= size
        data = read(size, start) + data
    whole = len(data) if with_rest else data.rfind(b"\n") + 1
    lines = _lines(data[:whole])
    if start > 0 and len(lines) <= count:
        lines = lines[1:]  # its beginning was not read
    chosen = lines[len(lines) - count :] if count < len(lines) else lines
    has_more = start > 0 or len(chosen) < len(lines)
    return Tail(b"".join(chosen), start + whole, has_more, start > 0 and len(chosen) < count)


def _lines(data: bytes) -> list[bytes]:
    """Split at newlines only; a lone carriage return ends no line (progress bars)."""
    lines = [line + b"\n" for line in data.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _since(data: bytes, since_ns: int) -> bytes:
    """Return the lines from the first on whose time is not older."""
    earliest_ns = since_ns // MICROSECOND_NS * MICROSECOND_NS
    lines = _lines(data)
    for index, line in enumerate(lines):
        time_ns = time_of(line)
        if time_ns is not None and time_ns >= earliest_ns:
            return b"".join(lines[index:])
    return b""


def _cannot_read(path: str, error: OSError) -> str:
    return f"cannot read {path}: {(error.strerror or str(error)).lower()}"


# ---- what is being written -----------------------------------------------------------------------


def end_of(path: str) -> str:
    """Return the present end of a log as a place where a follower can resume."""
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError:  # there is none yet
        return "0:0:0:0"
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"


class Follower:
    """One reader's place in one log: which file, and how far it was read. Opened only to be read."""

    def __init__(self, place: LogPlace) -> None:
        self.place = place
        self.users: set[str] = set()
        """Watchers that write there, for whoever follows several."""
        self.notes: list[str] = []
        """What the reader was not told yet: why the file cannot be read, and what was missed."""
        self._trouble = ""
        """Why it could not be read last."""
        self.quiet_at_ns: int | None = None
        """When the beginning of a line is passed on if nothing follows it; None: there is none."""
        self._file: OpenPart | None = None
        self._identity: Identity | None = None
        """Of the file that is read, None as long as there was none."""
        self._offset = 0
        self._changed_ns = 0
        """When that file had been written to last when it was looked at."""
        self._size = 0
        """How much was in it then."""

    @property
    def position(self) -> str:
        """Return the place in words of which only `resume` makes anything."""
        device, inode = self._identity or (0, 0)
        return f"{device}:{inode}:{self._offset}:{self._changed_ns}"

    def resume(self, position: str) -> None:
        """Go on at a place that another follower of the same log has told. Raises `ValueError`."""
        device, inode, self._offset, self._changed_ns = map(int, position.split(":"))
        self._identity = (device, inode) if inode else None

    def begin(self, count: int) -> bytes:
        """Return the last whole lines, and go on from there; the file may not exist yet."""
        if not self._open_at(self.place.path) or self._file is None:
            return b""
        status = self._file.status()
        try:
            found = _last_of(
                self._file.read, status.st_size, count, MAX_TAIL_BYTES, with_rest=False
            )
            data, self._offset = found.data, found.offset
            left = count - data.count(b"\n")
            if left > 0 and not found.is_cut:
                path = self.place.path
                data = _last_of_parts(path, parts_of(path)[1:], left, MAX_TAIL_BYTES).data + data
        except OSError as error:
            self._note(error)
            data = b""
        self._size, self._changed_ns = status.st_size, status.st_mtime_ns
        self.close()
        return data

    @property
    def has_rest(self) -> bool:
        """Tell whether more was there at the last look than was passed on."""
        return self._size > self._offset

    def more(self, now_ns: int = 0) -> bytes:
        """Return what was appended, at most a block; empty when there is nothing now.

        What is left to be read may leave the file open, until `close`.
        """
        for _ in range(MAX_ROTATIONS):
            if self._file is not None or self._reopen():
                data = self._block(now_ns)
                if data:
                    return data
                self.close()
            else:
                self.quiet_at_ns = None  # what does not lie there any more is not waited for
            if self._identity is None or not self._go_to_next():
                return b""
        return b""

    def close(self) -> None:
        """Close the file; its place is kept."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _block(self, now_ns: int) -> bytes:
        assert self._file is not None
        before = 1 if self._offset else 0
        try:
            status = self._file.status()
            if not self._file.is_compressed:
                if status.st_size < self._offset:
                    self._miss("the file was cut", sure=False)
                    self._offset = before = 0
                self._changed_ns = status.st_mtime_ns
            data = self._file.read(BLOCK_BYTES + before, self._offset - before)
        except OSError as error:
            self._note(error)
            self.quiet_at_ns = None
            return b""
        is_amid = before and data[:1] != b"\n"
        data = data[before:]
        if is_amid and data[:1] == b"\n":  # of a line that was passed on without it
            self._offset, data = self._offset + 1, data[1:]
        size = self._offset + len(data)
        whole = data.rfind(b"\n") + 1
        if not whole and data and (len(data) >= MAX_LINE_BYTES or self._is_over(size, now_ns)):
            whole = len(data)
        if whole or not data:
            self.quiet_at_ns = None
        self._size = max(size, 0 if self._file.is_compressed else status.st_size)
        self._offset += whole
        return data[:whole]

    def _is_over(self, size: int, now_ns: int) -> bool:
        """Tell whether nothing follows what is there of a line: its file gets no more, or its writer is quiet."""
        now = part_at(self.place.path)
        if now is not None and now.identity != self._identity:
            return True
        if self.quiet_at_ns is None or size != self._size:
            self.quiet_at_ns = now_ns + QUIET_NS
        return bool(now_ns) and now_ns >= self.quiet_at_ns

    def _reopen(self) -> bool:
        """Open the file that was read last, whatever it is called by now; at first the one at its path."""
        if self._identity is not None and not self._is_current():
            parts = parts_of(self.place.path)
            index = self._index(parts)
            if index is not None:
                return self._open_at(parts[index].path)
        # Is it nowhere, then what is in the way to its place is told.
        return self._open_at(self.place.path)

    def _is_current(self) -> bool:
        now = part_at(self.place.path)
        return now is not None and now.identity == self._identity

    def _index(self, parts: Sequence[LogPart]) -> int | None:
        """Return which of the files was read last; None: it is not there any more."""
        for index, part in enumerate(parts):
            if part.identity == self._identity:
                return index
        # Packed meanwhile: the oldest that was written to when ours was read last, or later.
        since = [i for i, part in enumerate(parts) if part.changed_ns >= self._changed_ns]
        if self._changed_ns and since and parts[since[-1]].is_compressed:
            return since[-1]
        return None

    def _go_to_next(self) -> bool:
        """After the end of a file that was renamed, or is gone, go on with the next younger one."""
        if self._is_current():
            return False
        parts = parts_of(self.place.path)
        index = self._index(parts)
        if index is None:
            # Of all that are there, the oldest that may hold what came after.
            since = [i for i, part in enumerate(parts) if part.changed_ns >= self._changed_ns]
            if not since:
                return False
            self._miss("the file was removed", sure=len(parts) > 1)
            index = since[-1] + 1
        if index == 0:
            return False
        younger = parts[index - 1]
        self._identity, self._offset, self._size = younger.identity, 0, 0
        self._changed_ns, self.quiet_at_ns = younger.changed_ns, None
        return True

    def _miss(self, why: str, *, sure: bool) -> None:
        """Take note that what was not read yet is gone; how much that is, is known of the last look only."""
        known = self._size - self._offset
        if known > 0 or sure:
            count = f"at least {known} bytes were" if known > 0 else "output was"
            self.notes.append(f"{count} missed here: {why} before it was read")

    def _open_at(self, path: str) -> bool:
        try:
            file = OpenPart(path)
        except OSError as error:
            self._note(error)
            return False
        status = file.status()
        identity = (status.st_dev, status.st_ino)
        if self._identity is None:
            self._identity, self._offset = identity, 0
        if file.is_compressed:
            self._identity = identity
        elif identity != self._identity:  # renamed in this instant: looked for again
            file.close()
            return False
        self._file = file
        return True

    def _note(self, error: OSError) -> None:
        trouble = _cannot_read(self.place.path, error)
        if not isinstance(error, FileNotFoundError) and trouble != self._trouble:
            self._trouble = trouble
            self.notes.append(trouble)
