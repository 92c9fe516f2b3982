"""What a process wrote in its own life: the evidence against a revision, and the last line of one that ended by itself.

The log file of a slot goes on from life to life. Where a life begins is the size of the file when its start is asked
for: all that the one before had to say was written by then. What is not known, because another controller saw the
birth, is not shown: better nothing than the words of an older process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from reconciler.controller.output.log_files import end_of
from reconciler.controller.runtime.lanes import Lanes
from reconciler.model.action import Spawn
from reconciler.model.hiding import shown_lines
from reconciler.model.process import MAIN, Exited, FileSink, LogPlace, ProcessId, ProcessRecord
from reconciler.model.value import Part, Struct, field, replace
from reconciler.output.places import open_log

MAX_READ_BYTES: Final = 16 * 1024
MAX_BIRTHS: Final = 20_000
"""Two logs for each of 10,000 slots."""


class Span(Struct, frozen=True):
    """A part of a log file: from `begin` on, up to `end` when that is known."""

    path: str
    inode: int
    begin: int
    end: int | None = None


class LastLines(Part):
    """Where the present life of each slot began in its logs, and what the last one said."""

    lanes: Lanes
    touched: Callable[[tuple[str]], None]
    """Called with a watcher of which another line is shown."""
    _lives: dict[ProcessId, tuple[Span, ...]] = field(default_factory=dict)
    _said: dict[str, dict[int, str]] = field(default_factory=dict)
    _births: dict[str, str] = field(default_factory=dict)
    """By log the place where the first process of it begins that this controller has started."""

    def begin(self, spawn: Spawn) -> None:
        """Take note of where the output of a process begins that is about to be started."""
        if spawn.id.role != MAIN:
            return
        sinks = (spawn.launch.stderr, spawn.launch.stdout)  # what goes wrong is told on stderr
        paths = dict.fromkeys(sink.path for sink in sinks if isinstance(sink, FileSink))
        self._lives[spawn.id] = tuple(_end_of(path) for path in paths)
        for path in map(os.path.abspath, paths):
            if path not in self._births and len(self._births) < MAX_BIRTHS:
                self._births[path] = end_of(path)

    def places(self, id: ProcessId) -> tuple[LogPlace, ...]:
        """Return where the present life of a slot begins in its logs."""
        return tuple(
            LogPlace(each.path, each.inode, each.begin) for each in self._lives.get(id, ())
        )

    def ended(self, record: ProcessRecord) -> None:
        """Find out what a process said last that ended by itself."""
        id, phase = record.id, record.phase
        spans = self._lives.get(id)
        if (
            not spans
            or not isinstance(phase, Exited)
            or record.memory.stopping_since_ns is not None
        ):
            return
        if phase.exit.error is not None or phase.exit.code == 0:
            self._tell(id, "")
            return
        bounded = [
            replace(span, end=now.begin)
            if (now := _end_of(span.path)).inode == span.inode
            else span
            for span in spans
        ]
        self.lanes.run(
            "logs",
            lambda: last_of(bounded, 1),
            lambda lines: self._tell(id, lines[-1] if lines else ""),
            lambda _: None,
        )

    def forget(self, id: ProcessId) -> None:
        """Take note that a slot has no process any more."""
        self._lives.pop(id, None)
        if id.role == MAIN:
            self._tell(id, "")

    def of(self, watcher: str) -> Mapping[int, str]:
        """Return by slot the last line of the process that ended there last."""
        return self._said.get(watcher, {})

    def birth(self, path: str) -> str | None:
        """Return the place in a log where the first process begins that this controller has started."""
        return self._births.get(path)

    def read(self, id: ProcessId, count: int, then: Callable[[list[str]], None]) -> None:
        """Hand over the last lines of the present life of a slot, none when it is not known where they lie."""
        spans = self._lives.get(id, ())
        self.lanes.run("logs", lambda: last_of(spans, count), then, lambda _: then([]))

    def _tell(self, id: ProcessId, line: str) -> None:
        said = self._said.setdefault(id.owner, {})
        if said.get(id.slot, "") != line:
            said[id.slot] = line
            self.touched((id.owner,))
        if not line:
            said.pop(id.slot, None)
        if not said:
            del self._said[id.owner]


def _end_of(path: str) -> Span:
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError:  # there is none yet
        return Span(path, 0, 0)
    return Span(path, status.st_ino, status.st_size)


def last_of(spans: Sequence[Span], count: int) -> list[str]:
    """Return the last lines of the first of these parts that holds any, without what is never shown."""
    for span in spans:
        try:
            lines = shown_lines(_read(span))
        except OSError:
            continue
        if lines:
            return lines[-count:]
    return []


def _read(span: Span) -> bytes:
    descriptor = open_log(span.path, os.O_RDONLY)
    try:
        status = os.fstat(descriptor)
        is_same = status.st_ino == span.inode and status.st_size >= span.begin
        begin = span.begin if is_same else 0  # rotated: all that is there is newer
        end = span.end if is_same and span.end is not None else status.st_size
        start = max(begin, end - MAX_READ_BYTES)
        data = os.pread(descriptor, max(end - start, 0), start)
        return data if start == begin else data.partition(b"\n")[2]
    finally:
        os.close(descriptor)
