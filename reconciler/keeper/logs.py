"""Output of the processes: one FIFO per stream, into files, the manager's own output, or memory.

The rules: the worker never waits for us longer than a round of the loop, it never gets SIGPIPE, and
no line is lost while there is room on the disk.

- The worker's end is for writing only: asyncio and its like take an end that can be read for a closed reader, or
  read their own output back. That the FIFO has a reader also while no keeper lives, and what is in it stays, is
  the work of one more descriptor, the worker's lifeline, which nobody reads from.
- A keeper that is killed at any instant loses no line. A plain file is fed by splice(2): the bytes never
  pass through this process. With timestamps, several writers, captured output and in the last 64 KiB
  before a rotation they have to be seen, and lie in a file meanwhile (`logs_taking`).
- A round takes `ROUND_BYTES` at most from one stream, then the others have their turn.
- A full or broken disk drops bytes and counts them; the next line that fits is written again.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import termios
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

from reconciler.keeper.handover import Outgoing
from reconciler.keeper.logs_file import LINE_BYTES, NO_PLACE, NOT_YET, LogFile
from reconciler.keeper.logs_manager import ManagerOutput
from reconciler.keeper.processes import NOT_NOW
from reconciler.model.event import LogChanged
from reconciler.model.process import CaptureSink, FileSink, ManagerSink, NullSink
from reconciler.model.units import SECOND_NS
from reconciler.model.value import replace
from reconciler.output.characters import cut_after, cut_before
from reconciler.output.stamps import stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from reconciler.keeper.logs_taking import Taking
    from reconciler.model.process import ProcessId, Sink

ROUND_BYTES: Final = 2**19
BUSY_PIPE_BYTES: Final = 2**20
LARGE_ROUND_BYTES: Final = 2**15
BUSY_ROUNDS: Final = 4
"""So many large rounds in a row enlarge the pipe: a user may have few large ones (pipe(7))."""
USUAL_PIPE_BYTES: Final = 2**16
QUIET_NS: Final = 10 * SECOND_NS
"""After so long without a large round a pipe has its usual size again: others of the user may need the share."""
MAX_TROUBLES: Final = 1000
"""So many files in trouble are remembered at a time, for the next controller."""
LIFELINE_FD: Final = 100
"""From here on: out of the way of shells, sockets, and whoever closes all up to a low limit."""
CUT_MARK: Final = b" [...]\n"
"""Ends each piece of a line that is longer than `LINE_BYTES`."""
GOES_ON_MARK: Final = b"[...] "
"""Begins each further piece."""


class Logs:
    """All output streams and the files they share. `dropped` counts bytes that found no place."""

    def __init__(
        self,
        fifo_dir: str,
        taking: Taking,
        register: Callable[[int, Callable[[], int]], None],
        unregister: Callable[[int], None],
        now_wall: Callable[[], float],
    ) -> None:
        os.makedirs(fifo_dir, 0o700, exist_ok=True)
        self.fifo_dir = fifo_dir
        self.taking = taking
        self._full = os.open("/dev/full", os.O_RDWR | os.O_CLOEXEC)
        self.register = register
        self.unregister = unregister
        self.now_wall = now_wall
        self.dropped = 0
        self.streams: dict[str, _Stream] = {}
        """All open FIFOs by their names."""
        self.enlarged: dict[_Stream, int] = {}
        """Those whose pipe is large, and when they were last busy (monotonic)."""
        self.handed: dict[str, Outgoing] = {}
        self._files: dict[str, LogFile] = {}
        self._manager: ManagerOutput | None = None
        self._rotated: dict[str, None] = {}
        self._troubles: dict[str, LogChanged] = {}
        self._changed: dict[str, LogChanged] = {}

    def open(self, process: ProcessId, stdout: Sink, stderr: Sink | None) -> Streams:
        """Open the sinks and make the FIFOs of a process; `stderr` None joins standard output.

        Raises `OSError` with the file's name; nothing is left behind then.
        """
        streams: list[_Stream] = []
        try:
            for name, sink in (("stdout", stdout), ("stderr", stderr)):
                if sink is not None:
                    streams.append(_Stream(self, process, sink))
                    streams[-1].start(name)
        except Exception:
            for stream in streams:
                stream.close()
            raise
        return Streams(streams)

    def outgoing(self) -> dict[str, Outgoing]:
        """Return all open FIFOs, for the new code of this process."""
        return {name: stream.outgoing() for name, stream in self.streams.items()}

    def unsent(self) -> bytes:
        """Return the lines that the manager's own output has not taken yet."""
        return self._manager.pending if self._manager is not None else b""

    def go_on(self, handed: Mapping[str, Outgoing], unsent: bytes) -> None:
        """Take what the former code of this process left; `reopen` finds the FIFOs among it."""
        self.handed = dict(handed)
        if unsent:
            self._manager = ManagerOutput(self)
            self._manager.put(unsent)

    def reopen(
        self,
        process: ProcessId,
        stdout: Sink,
        stderr: Sink | None,
        failed: Callable[[OSError], None],
    ) -> Streams:
        """Go on with the FIFOs of a process that a former keeper started, as far as there are any.

        `failed` hears of a sink that cannot be opened; the output then goes nowhere, and nobody waits. Raises
        `OSError` when a FIFO cannot be opened just now.
        """
        streams: list[_Stream] = []
        for name, sink in (("stdout", stdout), ("stderr", stderr)):
            if sink is None:
                continue
            try:
                stream = _Stream(self, process, sink, runs=True)
            except OSError as error:
                failed(error)
                stream = _Stream(self, process, NullSink())
            streams.append(stream)
            if not isinstance(sink, NullSink):
                stream.go_on(name, self.handed.pop(_fifo_name(process, name), None))
        return Streams(streams)

    @property
    def due_ns(self) -> int | None:
        """Return when to `shrink` (monotonic), None while no pipe is large."""
        return min(self.enlarged.values()) + QUIET_NS if self.enlarged else None

    def shrink(self) -> None:
        """Give the pipes of those who are busy no longer their usual size."""
        now_ns = time.monotonic_ns()
        for stream, busy_ns in list(self.enlarged.items()):
            if now_ns >= busy_ns + QUIET_NS:
                stream.shrink()

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

    def note_trouble(self, process: ProcessId, file: LogFile | ManagerOutput) -> None:
        """Remember whether a file or our own output is in trouble, when that is news; and what was lost, in the end."""
        known = self._troubles.get(file.path)
        found = file.trouble or file.astray
        change = LogChanged(process, file.path, found, lost=bool(file.trouble or not found))
        if not file.trouble:
            change = replace(change, lost_bytes=file.lost_bytes)
            file.lost_bytes = 0
        if known is None and not found:
            return
        if known is not None and (known.trouble, known.lost) == (change.trouble, change.lost):
            return
        self._changed[file.path] = change
        if found and len(self._troubles) < MAX_TROUBLES:
            self._troubles[file.path] = change
        else:
            self._troubles.pop(file.path, None)

    def note_rotation(self, file: LogFile) -> None:
        """Remember that a file was rotated."""
        file.rotated = False
        if file.options.compress and file.options.keep:
            self._rotated[file.path] = None

    def stamp(self) -> bytes:
        """Return the time now as it stands before a line."""
        return stamp(int(self.now_wall() * 1e6) * 1000) + b" "

    def target(self, sink: Sink, *, runs: bool = False) -> LogFile | ManagerOutput | None:
        """Return where a sink's bytes go, None for nowhere; a file is to be given back.

        Of a process that `runs` a file that cannot be opened for a shortage is opened later. One that is only
        to be started is better started later. Raises `OSError`.
        """
        if isinstance(sink, NullSink):
            return None
        if isinstance(sink, ManagerSink):
            if self._manager is None:
                self._manager = ManagerOutput(self)
            return self._manager
        options = sink if isinstance(sink, FileSink) else FileSink(sink.path)
        path = os.path.abspath(sink.path)
        file = self._files.get(path)
        if file is None:
            later = NOT_YET if runs else NO_PLACE
            file = self._files[path] = LogFile(path, options, self._full, later)
        file.users += 1
        file.options = options
        return file

    def give_back(self, target: LogFile | ManagerOutput | None) -> None:
        """Close a file when its last stream is gone."""
        if isinstance(target, LogFile):
            target.users -= 1
            if not target.users:
                del self._files[target.path]
                target.close()


class Streams:
    """Standard output and error of one process; they are one stream when stderr joins stdout."""

    def __init__(self, streams: list[_Stream]) -> None:
        self._all = streams
        self.stdout_fd = streams[0].worker_fd
        self.stderr_fd = streams[-1].worker_fd

    def close_worker_ends(self) -> None:
        """Close our copies of the worker's ends, once it has its own."""
        for stream in self._all:
            stream.close_worker_end()

    def drained(self) -> bool:
        """Read a round; tell whether all is read that was there at the first call.

        What comes later is written by others than the process that has ended, and not waited for.
        """
        return all([stream.drained() for stream in self._all])  # noqa: C419  (all are read)

    def tail(self) -> bytes:
        """Return the end of what was captured."""
        return b"".join(stream.tail for stream in self._all)

    def redirect(self, stdout: Sink, stderr: Sink | None) -> None:
        """Go on with other sinks; one that cannot be opened raises `OSError` and changes nothing.

        Streams that were one stay one, and what went to /dev/null from the start still does.
        """
        sinks = (stdout, stdout if stderr is None else stderr)
        changes = [
            (stream, sink)
            for stream, sink in zip(self._all, sinks, strict=False)
            if stream.can_go_on(sink)
        ]
        with ExitStack() as undo:
            targets = [stream.opened(sink, undo) for stream, sink in changes]
            undo.pop_all()
        for (stream, sink), target in zip(changes, targets, strict=True):
            stream.redirect(sink, target)

    def leave(self) -> None:
        """Read a last round and write what is left of a line; the FIFOs stay."""
        for stream in self._all:
            stream.leave()

    def close(self) -> None:
        """Read a last round, write what is left of a line, remove the FIFOs."""
        for stream in self._all:
            stream.close()


class _Stream:
    """One FIFO and where its bytes go."""

    def __init__(self, logs: Logs, process: ProcessId, sink: Sink, *, runs: bool = False) -> None:
        self.worker_fd = -1
        self._lifeline = -1
        self.tail = b""
        self._logs = logs
        self._process = process
        self._sink = sink
        self._target = logs.target(sink, runs=runs)
        self._fd = -1
        self._name = ""
        self._fifo = ""
        self._held = b""
        """The beginning of a line whose end has not come yet, where whole lines are needed."""
        self._skips = False
        """The last bytes dropped were a part of a line; its rest is dropped too."""
        self._empty = False
        self._owed: int | None = None
        self._busy_rounds = 0

    def start(self, name: str) -> None:
        """Make the FIFO and open both its ends; raises `OSError` with its name."""
        if isinstance(self._sink, NullSink):
            self.worker_fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            return
        self._name = _fifo_name(self._process, name)
        fifo = self._fifo = f"{self._logs.fifo_dir}/{self._name}"
        try:
            self._open_fifo(fifo)
            self._register()
        except OSError as error:
            error.filename = error.filename or fifo
            raise

    def _open_fifo(self, fifo: str) -> None:
        try:
            with suppress(FileNotFoundError):  # Of a former keeper, or a survivor writes to it.
                os.unlink(fifo)
            os.mkfifo(fifo, 0o600)
        except OSError as error:
            if error.errno not in NO_PLACE:
                raise
            # A pipe needs no place on the disk. Only the next keeper would not find it.
            self._fifo = ""
            self._fd, self.worker_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            os.set_blocking(self.worker_fd, True)
            fifo = f"/proc/self/fd/{self._fd}"
        else:
            self._fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self.worker_fd = os.open(fifo, os.O_WRONLY | os.O_CLOEXEC)
        # Not a copy of ours: the worker could let us wait by its flags.
        again = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._lifeline = _inheritable(again)
        finally:
            os.close(again)

    def _register(self) -> None:
        self._logs.register(self._fd, self.pump)
        self._logs.streams[self._name] = self

    def outgoing(self) -> Outgoing:
        """Return what the new code of this process goes on with."""
        return Outgoing(self._fd, self._held, self.tail, self._skips)

    def go_on(self, name: str, handed: Outgoing | None) -> None:
        """Read on from the FIFO that was handed to us, or open that of a former keeper. It may be gone."""
        self._name = _fifo_name(self._process, name)
        fifo = self._fifo = f"{self._logs.fifo_dir}/{self._name}"
        if left := self._logs.taking.give_left(self._name):
            self._deliver(left)
            self._logs.taking.done()
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            if handed is not None:
                self._fd, self._held = handed.fd, handed.held
                self.tail, self._skips = handed.tail, handed.skips
            else:
                self._fd = os.open(fifo, flags)
            if not stat.S_ISFIFO(os.fstat(self._fd).st_mode):
                raise FileNotFoundError(fifo)
            self._register()
            with suppress(OSError):
                if fcntl.fcntl(self._fd, fcntl.F_GETPIPE_SZ) > USUAL_PIPE_BYTES:
                    self._logs.enlarged[self] = time.monotonic_ns()
        except OSError as error:
            if error.errno in NOT_NOW:
                self._fifo = ""  # its file stays: the next keeper goes on with it
                self._end()
                raise
            self._end()
            return
        # One that nobody writes to any more would never become readable: its end is seen by reading.
        self.pump()

    def close_worker_end(self) -> None:
        for fd in (self.worker_fd, self._lifeline):
            if fd >= 0:
                os.close(fd)
        self.worker_fd = self._lifeline = -1

    def pump(self) -> int:
        """Move what is in the FIFO, a round at most, and return how much; end the stream without writers."""
        if self._fd < 0:
            return 0
        if isinstance(self._target, LogFile):
            self._target.look(self._logs.now_wall())
            self._logs.note_trouble(self._process, self._target)
        taken = 0
        self._empty = False
        try:
            while taken < ROUND_BYTES:
                size = self._move(ROUND_BYTES - taken)
                if not size:
                    self._end()
                    return taken
                taken += size
        except BlockingIOError:
            self._empty = True
        if self._owed is not None:
            self._owed -= taken
        self._busy_rounds = self._busy_rounds + 1 if taken >= LARGE_ROUND_BYTES else 0
        if self._busy_rounds == BUSY_ROUNDS:
            with suppress(OSError):  # EPERM: the user's share of pipe memory is used up.
                fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, BUSY_PIPE_BYTES)
                self._logs.enlarged[self] = 0
        if self._busy_rounds and self in self._logs.enlarged:
            self._logs.enlarged[self] = time.monotonic_ns()
        return taken

    def shrink(self) -> None:
        self._logs.enlarged[self] = time.monotonic_ns()
        with suppress(OSError):  # EBUSY: it holds more; tried again
            fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, USUAL_PIPE_BYTES)
            del self._logs.enlarged[self]

    def drained(self) -> bool:
        if self._owed is None and self._fd >= 0:
            self._owed = _unread_bytes(self._fd)
        self.pump()
        done = self._fd < 0 or self._empty or not self._owed or self._owed <= 0
        if done:
            self._finish_line()
        return done

    def can_go_on(self, sink: Sink) -> bool:
        self.pump()
        return self._fd >= 0 and sink != self._sink

    def opened(self, sink: Sink, undo: ExitStack) -> LogFile | ManagerOutput | None:
        target = self._logs.target(sink, runs=True)
        undo.callback(self._logs.give_back, target)
        return target

    def redirect(self, sink: Sink, target: LogFile | ManagerOutput | None) -> None:
        self._write_held()
        self._logs.give_back(self._target)
        self._sink, self._target, self._skips = sink, target, False

    def leave(self) -> None:
        self.pump()
        self._write_held()

    def close(self) -> None:
        self.close_worker_end()
        self.pump()
        self._end()

    def _end(self) -> None:
        """Let go of the FIFO and of the sink, once."""
        self._logs.enlarged.pop(self, None)
        if self._fd >= 0:
            with suppress(OSError, KeyError):  # It may have failed before it was registered.
                self._logs.unregister(self._fd)
            if self._logs.streams.get(self._name) is self:
                del self._logs.streams[self._name]
            with suppress(OSError):
                # The next incarnation may have made its own under the same name meanwhile.
                if os.path.samestat(os.fstat(self._fd), os.lstat(self._fifo)):
                    os.unlink(self._fifo)
            os.close(self._fd)
            self._fd = -1
        self._finish_line()
        self._logs.give_back(self._target)
        self._target = None

    def _move(self, limit: int) -> int:
        """Move some bytes and return how many, 0 when no writer is left.

        Raises `BlockingIOError` when there are none just now.
        """
        file = self._target
        if isinstance(file, LogFile) and self._may_splice(file):
            file.written_by(self)
            try:
                size = os.splice(
                    self._fd, file.fd, min(limit, file.splice_room()), flags=os.SPLICE_F_NONBLOCK
                )
            except BlockingIOError:
                raise
            except OSError:  # A full disk, or a file system without splice: write(2) will tell.
                file.splices = False
            else:
                file.size += size
                return size
        if isinstance(file, LogFile):
            return self._take(file, min(limit, LINE_BYTES))
        chunk = os.read(self._fd, min(limit, LINE_BYTES))
        if chunk:
            self._deliver(chunk)
        return len(chunk)

    def _take(self, file: LogFile, limit: int) -> int:
        """Write what is in the FIFO, a part at most, and return how much; no death loses or doubles it."""
        chunk = self._logs.taking.take(self._fd, self._name, file, limit)
        if chunk:
            self._deliver(chunk)
            self._logs.taking.done()
        return len(chunk)

    def _may_splice(self, file: LogFile) -> bool:
        seen = self._skips or self._held or isinstance(self._sink, CaptureSink)
        return not seen and not self._needs_lines(file) and file.splice_room() > 0

    def _needs_lines(self, target: LogFile | ManagerOutput) -> bool:
        """Tell whether whole lines must be written: others write there too, or each has a head."""
        headed = isinstance(self._sink, FileSink) and self._sink.timestamps
        return headed or not isinstance(target, LogFile) or target.users > 1

    def _deliver(self, chunk: bytes) -> None:
        if isinstance(self._sink, CaptureSink):
            kept = self.tail + chunk
            too_many = max(len(kept) - self._sink.limit_bytes, 0)
            self.tail = kept[cut_after(kept, too_many) if too_many else 0 :]
        if self._target is None:
            return
        if self._skips:
            skipped = chunk.find(b"\n") + 1 or len(chunk)
            self._skips = chunk[skipped - 1] != ord("\n")
            self._count_lost(skipped)
            chunk = chunk[skipped:]
        if self._needs_lines(self._target):
            self._put(self._whole_lines(chunk))
        else:
            held, self._held = self._held, b""
            self._put(held + chunk)

    def _whole_lines(self, chunk: bytes) -> bytes:
        """Return the lines that are complete with this chunk, and hold back what follows them."""
        pieces = b""
        while len(self._held) + (chunk.find(b"\n") + 1 or len(chunk)) > LINE_BYTES:
            text = self._held + chunk
            cut = cut_before(text, LINE_BYTES)
            pieces += text[:cut] + CUT_MARK
            self._held, chunk = GOES_ON_MARK, text[cut:]
        lines, end, rest = (self._held + chunk).rpartition(b"\n")
        self._held = rest
        return pieces + lines + end

    def _write_held(self) -> None:
        """Write the beginning of a line as a line, as nothing will follow it."""
        if self._held:
            held, self._held = self._held + b"\n", b""
            self._put(held)

    def _finish_line(self) -> None:
        """End the line that a writer left unfinished: what the next one says is none of it."""
        self._write_held()
        if isinstance(self._target, LogFile):
            self._target.finish_line(self)

    def _put(self, data: bytes) -> None:
        if not data or self._target is None:
            return
        sink = self._sink
        stamped = isinstance(sink, FileSink | ManagerSink) and sink.timestamps
        head = self._logs.stamp() if stamped else b""
        if isinstance(sink, ManagerSink):
            head += sink.prefix.encode()
        if head:
            data = head + data[:-1].replace(b"\n", b"\n" + head) + data[-1:]
        if isinstance(self._target, LogFile):
            self._target.written_by(self)
        else:
            self._target.writer = self._process
        dropped = self._target.put(data)
        if dropped:
            self._count_lost(dropped)
            self._skips = not data.endswith(b"\n")
        if dropped or self._target.trouble:
            self._logs.note_trouble(self._process, self._target)
        if isinstance(self._target, LogFile) and self._target.rotated:
            self._logs.note_rotation(self._target)

    def _count_lost(self, size: int) -> None:
        self._logs.dropped += size
        if self._target is not None:
            self._target.lost_bytes += size


def _inheritable(fd: int) -> int:
    """Return a copy that the next child inherits, at a high number where that may be. Raises `OSError`."""
    with suppress(OSError):  # EINVAL: beyond our own limit
        return fcntl.fcntl(fd, fcntl.F_DUPFD, LIFELINE_FD)
    return fcntl.fcntl(fd, fcntl.F_DUPFD, 0)


def _fifo_name(process: ProcessId, stream: str) -> str:
    return f"{_file_name(process)}.{stream}"


def _unread_bytes(fd: int) -> int:
    """Return how much a pipe holds; when that is not told, the most that one of ours may hold."""
    with suppress(OSError):
        (size,) = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4))
        return int(size)
    return BUSY_PIPE_BYTES


def _file_name(process: ProcessId) -> str:
    """Return a file name that no other process has: parts joined by @, which is escaped in them."""
    parts = (process.owner, str(process.slot), process.role)
    return "@".join(p.replace("%", "%25").replace("@", "%40").replace("/", "%2f") for p in parts)
