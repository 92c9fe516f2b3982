"""Where output goes: the log files and the manager's own output, each shared by all streams that write there."""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING, Final, TypeAlias

from reconciler.model.observation import LogChanged
from reconciler.model.process import DaemonSink, FileSink, ManagerSink, NullSink
from reconciler.model.units import MILLISECOND_NS, SECOND_NS
from reconciler.output.log_daemon import PLACES, LogDaemon
from reconciler.output.log_file import NOT_YET, LogFile
from reconciler.output.manager_output import ManagerOutput
from reconciler.system.shortages import NO_PLACE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from reconciler.model.process import ProcessId, Sink

MAX_TROUBLES: Final = 1000
"""So many files in trouble are remembered at a time, for the next controller."""
TURN_NS: Final = 3 * MILLISECOND_NS
"""How long files are rotated by time before others have their turn."""
LONGEST_S: Final = 86_400.0
"""A wait for the next rotation is no longer: the wall clock may jump meanwhile."""

Target: TypeAlias = LogFile | ManagerOutput | LogDaemon
"""What is open for a sink."""


class Sinks:
    """What is open to write to, and what is to be told of it."""

    def __init__(
        self,
        watch: Callable[[int, Callable[[], int]], None],
        ignore: Callable[[int], None],
        now_wall: Callable[[], float],
        places: Mapping[str, str] = PLACES,
    ) -> None:
        self._full = os.open("/dev/full", os.O_RDWR | os.O_CLOEXEC)
        self._watch, self._ignore = watch, ignore
        self._now_wall = now_wall
        self._rotate_at = math.inf
        """When the next file is to be rotated by time, on the wall clock, or earlier."""
        self._files: dict[str, LogFile] = {}
        self._manager: ManagerOutput | None = None
        self._daemons: dict[str, LogDaemon] = {}
        self._places = places
        self._rotated: dict[str, None] = {}
        self._troubles: dict[str, LogChanged] = {}
        self._changed: dict[str, LogChanged] = {}

    def open(self, sink: Sink, *, runs: bool = False) -> Target | None:
        """Return where a sink's bytes go, None for nowhere; a file is to be given back.

        Of a process that `runs` a file that cannot be opened for a shortage is opened later. One that is only
        to be started is better started later. Raises `OSError`.
        """
        if isinstance(sink, NullSink):
            return None
        if isinstance(sink, ManagerSink):
            return self._own_output()
        if isinstance(sink, DaemonSink):
            return self._daemon(sink.to)
        options = sink if isinstance(sink, FileSink) else FileSink(sink.path, owned=sink.owned)
        path = os.path.abspath(sink.path)
        file, now = self._files.get(path), self._now_wall()
        if file is None:
            later = NOT_YET if runs else NO_PLACE
            file = self._files[path] = LogFile(path, options, self._full, now, later)
        file.users += 1
        file.take(options, now)
        self._rotate_at = min(self._rotate_at, file.rotate_at)
        return file

    def give_back(self, target: Target | None) -> None:
        """Close a file when its last stream is gone."""
        if isinstance(target, LogFile):
            target.users -= 1
            if not target.users:
                del self._files[target.path]
                target.close()

    @property
    def due_ns(self) -> int | None:
        """Return when to `tend` (monotonic), None while no file is rotated by time and no log daemon is missed."""
        dues = [each.due_ns for each in self._daemons.values() if each.due_ns is not None]
        if self._rotate_at < math.inf:
            wait_s = min(max(self._rotate_at - self._now_wall(), 0.0), LONGEST_S)
            dues.append(time.monotonic_ns() + math.ceil(wait_s * SECOND_NS))
        return min(dues, default=None)

    def tend(self) -> None:
        """Rotate the files whose time has come, and call again the log daemons that were not there."""
        self._rotate()
        for daemon in self._daemons.values():
            if daemon.due_ns is not None and time.monotonic_ns() >= daemon.due_ns:
                daemon.flush()

    def _rotate(self) -> None:
        """Rotate the files whose time has come, also those that nobody writes to just now; of many a part."""
        until_ns, now = time.monotonic_ns() + TURN_NS, self._now_wall()
        if now < self._rotate_at:
            return
        due = [file for file in self._files.values() if file.rotate_at <= now]
        for file in due:
            file.look(now)
            self.note_rotation(file)
            if time.monotonic_ns() > until_ns:
                break
        self._rotate_at = min((f.rotate_at for f in self._files.values()), default=math.inf)

    def _own_output(self) -> ManagerOutput:
        if self._manager is None:
            self._manager = ManagerOutput(self._watch, self._ignore, self.note_trouble)
        return self._manager

    def _daemon(self, to: str) -> LogDaemon:
        if to not in self._daemons:
            self._daemons[to] = LogDaemon(
                to, self._places[to], self._watch, self._ignore, self.note_trouble, self._now_wall
            )
        return self._daemons[to]

    def unsent(self) -> bytes:
        """Return the lines that the manager's own output has not taken yet."""
        return self._manager.pending if self._manager is not None else b""

    def unsent_messages(self) -> dict[str, tuple[bytes, ...]]:
        """Return the messages that log daemons have not taken yet."""
        return {to: tuple(daemon.pending) for to, daemon in self._daemons.items()}

    def send_on(self, unsent: bytes, messages: Mapping[str, Iterable[bytes]]) -> None:
        """Send what the former code of this process had not sent."""
        if unsent:
            self._own_output().put(unsent)
        for to, each in messages.items():
            self._daemon(to).send_on(each)

    def take_rotated(self) -> list[str]:
        """Return the paths that were rotated since the last call, where that is to be compressed.

        Not the names that the rotated files have: the next rotation changes them.
        """
        rotated, self._rotated = self._rotated, {}
        return list(rotated)

    def troubles(self) -> list[LogChanged]:
        """Return the files whose file system takes nothing just now."""
        return list(self._troubles.values())

    def take_changes(self) -> list[LogChanged]:
        """Return the files that have got into trouble or out of it since the last call."""
        changed, self._changed = self._changed, {}
        return list(changed.values())

    def note_trouble(self, process: ProcessId, target: Target) -> None:
        """Remember whether a file or our own output is in trouble, when that is news; and what was lost, in the end."""
        known = self._troubles.get(target.path)
        found = target.trouble or target.astray
        lost = bool(target.trouble or not found)
        lost_bytes = 0 if target.trouble else target.lost_bytes
        target.lost_bytes -= lost_bytes
        if (found, lost) == (("", True) if known is None else (known.trouble, known.lost)):
            return
        change = LogChanged(process, target.path, found, lost, lost_bytes)
        self._changed[target.path] = change
        if found and len(self._troubles) < MAX_TROUBLES:
            self._troubles[target.path] = change
        else:
            self._troubles.pop(target.path, None)

    def note_rotation(self, file: LogFile) -> None:
        """Remember it when a file was rotated, and when it is to be rotated by time."""
        self._rotate_at = min(self._rotate_at, file.rotate_at)
        if file.rotated and file.options.compress and file.options.keep:
            self._rotated[file.path] = None
        file.rotated = False
