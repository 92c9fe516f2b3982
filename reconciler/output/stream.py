"""One output stream of a process: from its FIFO to its sink.

The rules: the worker never waits for us longer than a round of the loop, it never gets SIGPIPE, and
no line is lost while there is room on the disk.

- The worker's end is for writing only: asyncio and its like take an end that can be read for a closed reader, or
  read their own output back. That the FIFO has a reader also while no keeper lives, and what is in it stays, is
  the work of one more descriptor, the worker's lifeline, which nobody reads from.
- A keeper that is killed at any instant loses no line. A plain file is fed by splice(2): the bytes never
  pass through this process. With timestamps, several writers, captured output and in the last 64 KiB
  before a rotation they have to be seen, and lie in a file meanwhile (`spool`).
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
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from reconciler.model.process import CaptureSink, DaemonSink, FileSink, ManagerSink, NullSink
from reconciler.model.value import Part, Struct, field
from reconciler.output.characters import CUT_MARK, GOES_ON_MARK, cut_after, cut_before
from reconciler.output.log_daemon import LogDaemon
from reconciler.output.log_file import LINE_BYTES, LogFile
from reconciler.output.manager_output import ManagerOutput
from reconciler.output.stamps import stamp
from reconciler.system.descriptors import inheritable
from reconciler.system.shortages import NO_PLACE, NOT_NOW

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from reconciler.model.process import ProcessId, Sink
    from reconciler.output.sinks import Sinks, Target
    from reconciler.output.spool import Spool

ROUND_BYTES: Final = 2**19
SPOOL_BYTES: Final = 2**18
"""So much lies in the spool at most: what is done once for it costs little beside it."""
BUSY_PIPE_BYTES: Final = 2**20
LARGE_ROUND_BYTES: Final = 2**15
BUSY_ROUNDS: Final = 4
"""So many large rounds in a row enlarge the pipe: a user may have few large ones (pipe(7))."""
USUAL_PIPE_BYTES: Final = 2**16
MESSAGES_ROUND_BYTES: Final = 2**15
"""A round of what becomes messages: each line of it is work."""


class Outgoing(Struct, frozen=True):
    """A stream as new code of this process goes on with it: its FIFO, the beginning of a line, what was captured."""

    fd: int
    held: bytes = b""
    tail: bytes = b""
    skips: bool = False


class Pipes(Part):
    """What all streams have in common."""

    fifo_dir: str
    spool: Spool
    sinks: Sinks
    watch: Callable[[int, Callable[[], int]], None]
    ignore: Callable[[int], None]
    now_wall: Callable[[], float]
    open: dict[str, Stream] = field(default_factory=dict)
    """All open FIFOs by their names."""
    enlarged: dict[Stream, int] = field(default_factory=dict)
    """Those whose pipe is large, and when they were last busy (monotonic)."""


class Stream:
    """One FIFO and where its bytes go."""

    def __init__(
        self, all_: Pipes, process: ProcessId, name: str, sink: Sink, *, runs: bool = False
    ) -> None:
        """Open the sink; `name` is stdout or stderr. Raises `OSError`."""
        self.worker_fd = -1
        self._lifeline = -1
        self.tail = b""
        self._all = all_
        self._sinks = all_.sinks
        self._process = process
        self._sink = sink
        self._target = self._opened(sink, runs=runs)
        self._fd = -1
        self._name = fifo_name(process, name)
        self._fifo = f"{all_.fifo_dir}/{self._name}"
        self._held = b""
        """The beginning of a line whose end has not come yet, where whole lines are needed."""
        self._skips = False
        """The last bytes dropped were a part of a line; its rest is dropped too."""
        self._empty = False
        self._owed: int | None = None
        self._busy_rounds = 0

    def start(self) -> None:
        """Make the FIFO and open both its ends; raises `OSError` with its name."""
        if isinstance(self._sink, NullSink):
            self.worker_fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            return
        try:
            self._open_fifo()
            self._register()
        except OSError as error:
            error.filename = error.filename or self._fifo
            raise

    def _open_fifo(self) -> None:
        fifo = self._fifo
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
            self._lifeline = inheritable(again)
        finally:
            os.close(again)

    def _register(self) -> None:
        self._all.watch(self._fd, self.pump)
        self._all.open[self._name] = self

    def outgoing(self) -> Outgoing:
        """Return what the new code of this process goes on with."""
        return Outgoing(self._fd, self._held, self.tail, self._skips)

    def go_on(self, handed: Outgoing | None) -> None:
        """Read on from the FIFO that was handed to us, or open that of a former keeper. It may be gone."""
        if left := self._all.spool.give_left(self._name):
            self._deliver(left)
            self._all.spool.done()
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            if handed is not None:
                self._fd, self._held = handed.fd, handed.held
                self.tail, self._skips = handed.tail, handed.skips
            else:
                self._fd = os.open(self._fifo, flags)
            if not stat.S_ISFIFO(os.fstat(self._fd).st_mode):
                raise FileNotFoundError(self._fifo)
            self._register()
            with suppress(OSError):
                if fcntl.fcntl(self._fd, fcntl.F_GETPIPE_SZ) > USUAL_PIPE_BYTES:
                    self._all.enlarged[self] = time.monotonic_ns()
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
        """Close our copies of the worker's end and of its lifeline."""
        for fd in (self.worker_fd, self._lifeline):
            if fd >= 0:
                os.close(fd)
        self.worker_fd = self._lifeline = -1

    def pump(self) -> int:
        """Move what is in the FIFO, a round at most, and return how much; end the stream without writers."""
        if self._fd < 0:
            return 0
        if isinstance(self._target, LogFile):
            self._target.look(self._all.now_wall())
            self._sinks.note_trouble(self._process, self._target)
            self._sinks.note_rotation(self._target)
        taken, most = 0, ROUND_BYTES
        if isinstance(self._sink, DaemonSink):
            most = MESSAGES_ROUND_BYTES
        self._empty = False
        try:
            while taken < most:
                size = self._move(most - taken)
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
                self._all.enlarged[self] = 0
        if self._busy_rounds and self in self._all.enlarged:
            self._all.enlarged[self] = time.monotonic_ns()
        return taken

    def shrink(self) -> None:
        """Give the pipe its usual size again."""
        self._all.enlarged[self] = time.monotonic_ns()
        self._all.spool.empty()
        with suppress(OSError):  # EBUSY: it holds more; tried again
            fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, USUAL_PIPE_BYTES)
            del self._all.enlarged[self]

    def drained(self) -> bool:
        """Read a round; tell whether all is read that was there at the first call."""
        if self._owed is None and self._fd >= 0:
            self._owed = _unread_bytes(self._fd)
        self.pump()
        done = self._fd < 0 or self._empty or not self._owed or self._owed <= 0
        if done:
            self._finish_line()
        return done

    def can_go_on(self, sink: Sink) -> bool:
        """Tell whether another sink makes a difference, once all is read that is there."""
        self.pump()
        return self._fd >= 0 and sink != self._sink

    def opened(self, sink: Sink, undo: ExitStack) -> Target | None:
        """Open another sink. Raises `OSError`."""
        target = self._opened(sink, runs=True)
        undo.callback(self._sinks.give_back, target)
        return target

    def _opened(self, sink: Sink, *, runs: bool) -> Target | None:
        target = self._sinks.open(sink, runs=runs)
        if target is not None:
            self._sinks.note_trouble(self._process, target)
        return target

    def redirect(self, sink: Sink, target: Target | None) -> None:
        """Go on with a sink that was `opened`."""
        self._write_held()
        self._sinks.give_back(self._target)
        self._sink, self._target, self._skips = sink, target, False

    def leave(self) -> None:
        """Read a last round and write what is left of a line; the FIFO stays."""
        self.pump()
        self._write_held()

    def close(self) -> None:
        """Read a last round, write what is left of a line, remove the FIFO."""
        self.close_worker_end()
        self.pump()
        self._end()

    def _end(self) -> None:
        """Let go of the FIFO and of the sink, once."""
        self._all.enlarged.pop(self, None)
        if self._fd >= 0:
            with suppress(OSError, KeyError):  # It may have failed before it was registered.
                self._all.ignore(self._fd)
            if self._all.open.get(self._name) is self:
                del self._all.open[self._name]
            with suppress(OSError):
                # The next incarnation may have made its own under the same name meanwhile.
                if os.path.samestat(os.fstat(self._fd), os.lstat(self._fifo)):
                    os.unlink(self._fifo)
            os.close(self._fd)
            self._fd = -1
        self._finish_line()
        self._sinks.give_back(self._target)
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
        if not isinstance(file, LogFile):
            chunk = os.read(self._fd, min(limit, LINE_BYTES))
            if chunk:
                self._deliver(chunk)
            return len(chunk)
        # No more than one file takes: the next keeper looks through few rotations.
        most = min(file.options.max_size or SPOOL_BYTES, SPOOL_BYTES)
        limit, taken = min(limit, max(most, LINE_BYTES)), 0
        for chunk in self._all.spool.take(self._fd, self._name, file, limit):
            self._deliver(chunk)
            taken += len(chunk)
        if taken:
            self._all.spool.done()
        return taken

    def _may_splice(self, file: LogFile) -> bool:
        seen = self._skips or self._held or isinstance(self._sink, CaptureSink)
        return not seen and not self._needs_lines(file) and file.splice_room() > 0

    def _needs_lines(self, target: Target) -> bool:
        """Tell whether whole lines must be written: others write there too, or each has a head."""
        headed = isinstance(self._sink, FileSink) and self._sink.timestamps
        return bool(headed) or not isinstance(target, LogFile) or target.users > 1

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
            self._target.lost_bytes += skipped
            chunk = chunk[skipped:]
        if self._needs_lines(self._target):
            self._put_lines(chunk)
        else:
            held, self._held = self._held, b""
            self._put(held, chunk)

    def _put_lines(self, chunk: bytes) -> None:
        """Write the lines that are complete with this chunk, and hold back what follows them."""
        while len(self._held) + (chunk.find(b"\n") + 1 or len(chunk)) > LINE_BYTES:
            text = self._held + chunk
            cut = cut_before(text, LINE_BYTES)
            self._put(text[:cut], CUT_MARK + b"\n")
            self._held, chunk = GOES_ON_MARK, text[cut:]
        if end := chunk.rfind(b"\n") + 1:
            held, self._held = self._held, chunk[end:]
            self._put(held, chunk, end)
        else:
            self._held += chunk

    def _write_held(self) -> None:
        """Write the beginning of a line as a line, as nothing will follow it."""
        if self._held:
            held, self._held = self._held, b""
            self._put(held, b"\n")

    def _finish_line(self) -> None:
        """End the line that a writer left unfinished: what the next one says is none of it."""
        self._write_held()
        if isinstance(self._target, LogFile):
            self._target.finish_line(self)

    def _put(self, held: bytes, chunk: bytes, end: int | None = None) -> None:
        """Write what was held back and a chunk up to its `end`, behind which no line ends; each line has its head."""
        if self._target is None or not chunk:
            return
        pieces = self._headed(held, chunk, len(chunk) if end is None else end)
        if isinstance(self._target, LogFile):
            self._target.written_by(self)
            dropped = self._target.put(*pieces)
        else:
            self._target.writer = self._process
            dropped = self._send(b"".join(pieces))
        if dropped:
            self._target.lost_bytes += dropped
            self._skips = pieces[-1][-1:] != b"\n"
        if dropped or self._target.trouble:
            self._sinks.note_trouble(self._process, self._target)
        if isinstance(self._target, LogFile):
            self._sinks.note_rotation(self._target)

    def _headed(self, held: bytes, chunk: bytes, end: int) -> tuple[bytes | memoryview, ...]:
        """Return in pieces what is written, so that much is copied no oftener than it takes to put heads into it."""
        sink, head = self._sink, b""
        if isinstance(sink, FileSink | ManagerSink) and sink.timestamps:
            wall_ns = int(self._all.now_wall() * 1e6) * 1000
            head = stamp(wall_ns, sink.timestamps) + b" "
        if isinstance(sink, ManagerSink):
            head += sink.prefix.encode()
        text = chunk.replace(b"\n", b"\n" + head) if head else chunk
        # Behind the last line stands the head of one that has only begun, or not even that.
        left_out = len(head) + len(chunk) - end
        return head + held, memoryview(text)[: len(text) - left_out]

    def _send(self, lines: bytes) -> int:
        """Hand whole lines to the manager's own output or to a log daemon; return the bytes dropped."""
        if isinstance(self._target, LogDaemon):
            assert isinstance(self._sink, DaemonSink)
            return self._target.put(lines, self._sink)
        assert isinstance(self._target, ManagerOutput)
        return self._target.put(lines)


def fifo_name(process: ProcessId, stream: str) -> str:
    """Return the file name of a FIFO, which no other stream has: parts joined by @, which is escaped in them."""
    parts = (process.owner, str(process.slot), process.role)
    escaped = (p.replace("%", "%25").replace("@", "%40").replace("/", "%2f") for p in parts)
    return f"{'@'.join(escaped)}.{stream}"


def _unread_bytes(fd: int) -> int:
    """Return how much a pipe holds; when that is not told, the most that one of ours may hold."""
    with suppress(OSError):
        (size,) = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4))
        return int(size)
    return BUSY_PIPE_BYTES
