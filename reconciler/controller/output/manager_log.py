"""The manager's own log: constant messages with key=value pairs, as lines of text or JSON.

Nobody waits for it: a thread writes, a reader who has stopped (a full pipe, a terminal after Ctrl-S, a disk
that hangs) costs lines, which are counted. A file is rotated by its size, and opened again when its name
leads elsewhere; as the logs of processes, it is reached through no link that others may change.

Of lines that come again and again the first are written, the others are counted: a service that dies a hundred times a
second says the same two things each time. Each key has a window that begins with its first line; what does not fit
becomes one line with a number when the window ends. While it goes on the windows grow longer, so that a crash loop
writes a few lines an hour.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, TypeAlias

from reconciler.controller.runtime import clock
from reconciler.model.units import MINUTE_NS, SECOND_NS, format_duration
from reconciler.model.value import Part, Struct, field
from reconciler.output.places import folder_of, is_in, open_in
from reconciler.output.stamps import stamp

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
MAX_WAITING_LINES: Final = 4096
"""Lines that wait for a reader; what comes beyond is dropped and counted."""
MAX_LOG_BYTES: Final = 10 * 2**20
"""A larger file is rotated."""
KEPT_LOGS: Final = 5
"""Rotated files: `.1` is the newest."""
STDERR_FILE: Final = "reconcile.log"
"""What `up -d` calls the file of the manager's standard error, in the state folder."""
_STREAMS: Final = {"/dev/stdout": 1, "/dev/stderr": 2}
"""What the manager was started with. The names are links, and no link is followed."""
BURST: Final = 5
"""Lines of one key that are written one by one in a window."""
FIRST_WINDOW_NS: Final = 10 * SECOND_NS
LAST_WINDOW_NS: Final = 10 * MINUTE_NS
MAX_KEYS: Final = 20_000
"""Keys that are told apart: two for each of 10,000 watchers. When there are more, all windows end."""

Key: TypeAlias = tuple[object, ...]
"""Lines with the same key are repeats."""


class _Line(Struct, frozen=True):
    wall_ns: int
    level: str
    message: str
    pairs: Mapping[str, object]
    trace: str = ""
    key: Key = ()


class ManagerLog:
    """Takes lines at any time and in any thread; a log that cannot be written stops nothing."""

    def __init__(
        self,
        level: str = "info",
        format: str = "text",
        file: str | None = None,
        state_dir: str | None = None,
    ) -> None:
        """Write to `file`, else to standard error, which may be a file in `state_dir`."""
        self.level = level
        self.format = format
        self._repeats = Repeats()
        self._file = _File(file, state_dir)
        self._queue: deque[_Line] = deque()
        self._wanted = threading.Condition()
        self._dropped = 0
        self._reopens = file is not None
        self._is_busy = False
        threading.Thread(target=self._work, name="own-log", daemon=True).start()

    def write(
        self,
        level: str,
        message: str,
        *,
        trace: str = "",
        repeats: Key | None = None,
        **pairs: object,
    ) -> None:
        """Have one line written, when its level is asked for; `trace` follows it on lines of its own.

        Lines with the same `repeats` are the same thing said again; None: when they are the same to the letter.
        """
        if LEVELS[level] < LEVELS.get(self.level, 20):
            return
        said = {key: each for key, each in pairs.items() if each is not None}
        key = (message, *(repeats if repeats is not None else map(str, said.values())))
        line = _Line(time.time_ns(), level, message, said, trace, key)
        with self._wanted:
            if len(self._queue) >= MAX_WAITING_LINES:
                self._dropped += 1
                return
            self._queue.append(line)
            self._wanted.notify_all()

    def reopen(self) -> None:
        """Open the file again by its name: somebody has renamed it."""
        with self._wanted:
            self._reopens = True
            self._wanted.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until everything is written, but not longer than this; tell whether it is."""
        with self._wanted:
            return self._wanted.wait_for(self._is_written, seconds)

    def _is_written(self) -> bool:
        return not (self._queue or self._reopens or self._is_busy)

    # ---- in the thread ----

    def _work(self) -> None:
        while True:
            lines, dropped, reopens = self._next()
            with suppress(Exception):  # a border: whatever it is, the next lines are tried
                self._file.look(reopens=reopens)
                self._file.write(b"".join(self._bytes(lines, dropped)))
            with self._wanted:
                self._is_busy = False
                self._wanted.notify_all()

    def _next(self) -> tuple[list[_Line], int, bool]:
        with self._wanted:
            due = self._repeats.next_ns
            seconds = None if due is None else max(due - clock.now_ns(), 0) / 1e9
            self._wanted.wait_for(lambda: self._queue or self._reopens, seconds)
            found = (list(self._queue), self._dropped, self._reopens)
            self._queue.clear()
            self._dropped, self._reopens, self._is_busy = 0, False, True
            return found

    def _bytes(self, lines: list[_Line], dropped: int) -> list[bytes]:
        now_ns, wall_ns = clock.now_ns(), time.time_ns()
        found = [self._line(each) for each in lines if self._repeats.passes(each.key, now_ns)]
        for key, count, length_ns in self._repeats.ended(now_ns):
            what = " ".join(str(each) for each in key if each != "")
            pairs = {"what": what, "times": count, "within": format_duration(length_ns)}
            found.append(self._line(_Line(wall_ns, "info", "again and again", pairs)))
        if lost := dropped + self._file.take_lost():
            line = _Line(wall_ns, "warning", "log lines were dropped", {"lines": lost})
            found.append(self._line(line))
        return [each.encode(errors="backslashreplace") for each in found]

    def _line(self, line: _Line) -> str:
        when = stamp(line.wall_ns).decode()
        if self.format == "json":
            entry = {"time": when, "level": line.level, "message": line.message, **line.pairs}
            if line.trace:
                entry["trace"] = line.trace
            # JSON escapes but a part of what a terminal obeys
            return json.dumps(entry, default=str, ensure_ascii=self._file.is_terminal) + "\n"
        shown = "".join(f" {key}={_word(value)}" for key, value in line.pairs.items())
        trace = "".join(f"    {_plain(each)}\n" for each in line.trace.splitlines())
        return f"{when} {line.level} controller: {line.message}{shown}\n{trace}"


class _File:
    """Where the lines go. Used in the thread alone."""

    def __init__(self, path: str | None, state_dir: str | None) -> None:
        self._path = path
        self._descriptor = sys.stderr.fileno()
        self._lost = 0
        self._has_complained = False
        self._is_ours = False
        """It was opened here."""
        self._stderr_path = os.path.join(state_dir, STDERR_FILE) if state_dir is not None else None

    @property
    def is_terminal(self) -> bool:
        """Tell whether it is one."""
        return os.isatty(self._descriptor)

    def take_lost(self) -> int:
        """Return how many lines could not be written since asked last."""
        lost, self._lost = self._lost, 0
        return lost

    def look(self, *, reopens: bool) -> None:
        """Open the file when its name leads elsewhere, and rotate it when it is too large."""
        if self._path is None:
            if self._stderr_path is not None:
                self._rotate(self._stderr_path, in_place=True)
            return
        if reopens or not _is_at(self._descriptor, self._path):
            self._open(self._path)
        if self._rotate(self._path, in_place=False):
            self._open(self._path)

    def _rotate(self, path: str, *, in_place: bool) -> bool:
        """Rotate the file when it is too large and the path still leads to it; tell whether it was tried."""
        if os.fstat(self._descriptor).st_size <= MAX_LOG_BYTES:
            return False
        with suppress(OSError), folder_of(path) as (folder, name):
            if is_in(folder, name, os.fstat(self._descriptor)):
                _shift(folder, name)
                if in_place:
                    _copy_and_empty(self._descriptor, folder, name)
                else:
                    _rename(folder, name, f"{name}.1")
                return True
        return False

    def write(self, data: bytes) -> None:
        """Write it all, however long that takes."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:  # the disk is full, the pipe is broken
            self._lost += bytes(rest).count(b"\n")

    def _open(self, path: str) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW
        try:
            if path in _STREAMS:
                opened = os.dup(_STREAMS[path])
            else:
                with folder_of(path) as (folder, name):
                    opened = os.open(name, flags, 0o640, dir_fd=folder)
        except OSError as error:
            if not self._has_complained:
                self._has_complained = True
                message = f"cannot open the log file {path}: {error.strerror}\n"
                self.write(message.encode(errors="backslashreplace"))
            return  # what is open is written on
        if self._is_ours:
            os.close(self._descriptor)
        self._descriptor, self._is_ours, self._has_complained = opened, True, False


def _is_at(descriptor: int, path: str) -> bool:
    try:
        if path in _STREAMS:
            return os.path.sameopenfile(descriptor, _STREAMS[path])
        with folder_of(path) as (folder, name):
            return is_in(folder, name, os.fstat(descriptor))
    except OSError:
        return False


def _shift(folder: int, name: str) -> None:
    """Make room for a new `.1`; the oldest goes."""
    for number in range(KEPT_LOGS - 1, 0, -1):
        with suppress(FileNotFoundError):
            _rename(folder, f"{name}.{number}", f"{name}.{number + 1}")


def _rename(folder: int, name: str, new: str) -> None:
    os.replace(name, new, src_dir_fd=folder, dst_dir_fd=folder)


def _copy_and_empty(descriptor: int, folder: int, name: str) -> None:
    """Copy a file that is too large and empty it: the keeper has it open as well and appends to it.

    What the keeper writes in this instant may be lost.
    """
    with (
        open(open_in(folder, name, os.O_RDONLY), "rb") as source,
        open(
            open_in(folder, f"{name}.1", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640), "wb"
        ) as copy,
    ):
        while os.sendfile(copy.fileno(), source.fileno(), None, 2**20):
            pass
    os.ftruncate(descriptor, 0)


def _word(value: object) -> str:
    """Return a value so that one line stays one line and a terminal is never spoken to."""
    text = str(value)
    if text and text.isprintable() and not set(text) & set(" =\"'"):
        return text
    return json.dumps(text)


def _plain(text: str) -> str:
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


class _Window(Part):
    ends_ns: int
    length_ns: int
    written: int = 1
    counted: int = 0


class Repeats(Part):
    """Tells which lines are written, and what became of the others."""

    next_ns: int | None = None
    """When counted lines are to be told next, None while there are none."""
    _windows: dict[Key, _Window] = field(default_factory=dict)

    def passes(self, key: Key, now_ns: int) -> bool:
        """Tell whether a line is to be written; otherwise it is counted."""
        window = self._windows.get(key)
        if window is None or (window.ends_ns <= now_ns and not window.counted):
            self._windows[key] = _Window(now_ns + FIRST_WINDOW_NS, FIRST_WINDOW_NS)
            return True
        if window.written < BURST:
            window.written += 1
            return True
        window.counted += 1
        if window.counted == 1:
            self.next_ns = min(self.next_ns or window.ends_ns, window.ends_ns)
        return False

    def ended(self, now_ns: int) -> list[tuple[Key, int, int]]:
        """Return what was counted in windows that are over: key, number of lines, and length (ns)."""
        is_full = len(self._windows) > MAX_KEYS
        if not is_full and (self.next_ns is None or now_ns < self.next_ns):
            return []
        found = []
        for key, window in tuple(self._windows.items()):
            if not is_full and window.ends_ns > now_ns:
                continue
            if window.counted:
                found.append((key, window.counted, window.length_ns))
                length_ns = min(window.length_ns * 2, LAST_WINDOW_NS)
                self._windows[key] = _Window(now_ns + length_ns, length_ns, written=BURST)
            else:
                del self._windows[key]
        if is_full:
            self._windows.clear()
        ends = (each.ends_ns for each in self._windows.values() if each.counted)
        self.next_ns = min(ends, default=None)
        return found
