"""Lines to a log daemon of this machine, the journal or syslog: a message for each line, never waited for.

Each is a datagram. What the daemon has no room for is kept, and dropped beyond `PENDING_BYTES`, which is counted. A
daemon that is restarted, or not there yet, is called again with the next line and once a second while something is
pending; short of two calls in vain nobody is told. What is pending when the keeper is killed is lost.

The journal (systemd's native protocol) gets fields: SYSLOG_IDENTIFIER, RECONCILE_INSTANCE, RECONCILE_WATCHER,
RECONCILE_SLOT, PRIORITY, SYSLOG_FACILITY, MESSAGE. One that is too large for a datagram goes as a sealed file in
memory. Syslog gets what the syslog(3) of glibc sends, since that is what all daemons read: RFC 3164 without a host, in
local time, with the slot where the process id stands; longer lines are cut into marked pieces.

A line that begins with `<0>` to `<7>` says its own priority (sd-daemon(3)).
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import struct
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from reconciler.model.units import SECOND_NS
from reconciler.output.characters import CUT_MARK, GOES_ON_MARK, cut_before
from reconciler.output.room import Room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from reconciler.model.process import DaemonSink, ProcessId

PLACES: Final = {"journal": "/run/systemd/journal/socket", "syslog": "/dev/log"}
"""The sockets of the daemons."""
PENDING_BYTES: Final = 2**20
SYSLOG_BYTES: Final = 8000
"""Of one message to syslog: rsyslog cuts what is longer than 8 KiB with its head."""
AGAIN_NS: Final = SECOND_NS
_DAEMON: Final = 3
"""LOG_DAEMON of syslog(3)."""
_PRIORITY: Final = re.compile(rb"<([0-7])>")
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_GONE: Final = frozenset(
    (errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOTCONN, errno.EPIPE, errno.EDESTADDRREQ)
)
"""The one that we are connected with has ended."""


class LogDaemon:
    """Messages on their way to one daemon. `told` hears when it takes none, and when it does again."""

    def __init__(
        self,
        to: str,
        path: str,
        watch: Callable[[int, Callable[[], int]], None],
        ignore: Callable[[int], None],
        told: Callable[[ProcessId, LogDaemon], None],
        now_wall: Callable[[], float],
    ) -> None:
        self.path = path
        self.astray: Final = ""
        self.trouble = ""
        """Why lines are lost, empty when none are."""
        self.lost_bytes = 0
        self.writer: ProcessId | None = None
        """Whose lines came last."""
        self.due_ns: int | None = None
        """When to `flush` since the daemon was not there (monotonic)."""
        self.pending: deque[bytes] = deque()
        self._pending_bytes = 0
        self._is_journal = to == "journal"
        self._told, self._now_wall = told, now_wall
        self._room = Room(watch, ignore, self.flush)
        self._socket: socket.socket | None = None
        self._failures = 0

    def put(self, lines: bytes, sink: DaemonSink) -> int:
        """Send whole lines now or later; return the bytes dropped."""
        dropped = 0
        for line in lines.split(b"\n"):
            if line and not self._add(_messages(sink, line, self._now_wall())):
                dropped += len(line) + 1
        if dropped:
            self.trouble = self.trouble or "nobody reads it"
        if not self._room.is_awaited and self.due_ns is None:
            self.flush()
        return dropped

    def send_on(self, messages: Iterable[bytes]) -> None:
        """Send what another object of this kind had pending."""
        self._add(messages)
        self.flush()

    def flush(self) -> int:
        """Send what is pending as far as it is taken; return how many bytes were."""
        before, self.due_ns = self._pending_bytes, None
        try:
            while self.pending:
                self._send(self.pending[0])
                self._pending_bytes -= len(self.pending.popleft())
        except BlockingIOError:
            self._await_room()
        except OSError as error:
            self._miss(error)
        else:
            self._recover()
        if not self.pending:
            self._room.done()
        return before - self._pending_bytes

    def _add(self, messages: Iterable[bytes]) -> bool:
        """Put messages behind those that are pending; False when there is no room for all of them."""
        for message in messages:
            if self._pending_bytes + len(message) > PENDING_BYTES:
                return False
            self.pending.append(message)
            self._pending_bytes += len(message)
        return True

    # ---- the socket ------------------------------------------------------------------------------

    def _send(self, message: bytes) -> None:
        """Send one message. Raises `OSError`, among them `BlockingIOError` when there is no room just now."""
        try:
            self._send_once(message)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            self._disconnect()
            self._send_once(message)

    def _send_once(self, message: bytes) -> None:
        if self._socket is None:
            kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            self._socket = socket.socket(socket.AF_UNIX, kind)
            self._socket.connect(self.path)
        try:
            self._socket.send(message)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            if self._is_journal:
                _send_in_memory(self._socket, message)
            else:  # no datagram of this machine takes it, now or later
                self.lost_bytes += len(message)

    def _disconnect(self) -> None:
        self._room.done()
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _await_room(self) -> None:
        assert self._socket is not None
        try:
            self._room.wait(self._socket.fileno())
        except OSError:  # no memory for epoll: looked at by the clock until there is
            self.due_ns = time.monotonic_ns() + AGAIN_NS

    def _miss(self, error: OSError) -> None:
        """The daemon is not there: call again."""
        self._disconnect()
        self.due_ns = time.monotonic_ns() + AGAIN_NS
        self._failures += 1
        if self._failures > 1:
            self.trouble = (error.strerror or str(error)).lower()
            if self.writer is not None:
                self._told(self.writer, self)

    def _recover(self) -> None:
        """All that was pending is sent: tell so where it was told that some is lost."""
        self._failures = 0
        if self.trouble and self.writer is not None:
            self.trouble = ""
            self._told(self.writer, self)


def _messages(sink: DaemonSink, line: bytes, now: float) -> Iterator[bytes]:
    """Yield a line as messages."""
    priority = sink.priority
    if (found := _PRIORITY.match(line)) is not None:
        priority, line = int(found[1]), line[found.end() :]
    if sink.to == "journal":
        yield _fields(sink, priority, line)
        return
    stamp = time.strftime("%b %e %H:%M:%S", time.localtime(now))
    head = f"<{_DAEMON * 8 + priority}>{stamp} {sink.watcher}[{sink.slot}]: ".encode()
    while len(line) > SYSLOG_BYTES:
        cut = cut_before(line, SYSLOG_BYTES)
        yield head + line[:cut] + CUT_MARK
        line = GOES_ON_MARK + line[cut:]
    yield head + line


def _fields(sink: DaemonSink, priority: int, line: bytes) -> bytes:
    """Return a message in the native protocol of the journal (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""
    head = (
        f"SYSLOG_IDENTIFIER={sink.watcher}\nRECONCILE_INSTANCE={sink.instance}\n"
        f"RECONCILE_WATCHER={sink.watcher}\nRECONCILE_SLOT={sink.slot}\n"
        f"PRIORITY={priority}\nSYSLOG_FACILITY={_DAEMON}\nMESSAGE\n"
    )
    return head.encode() + struct.pack("<Q", len(line)) + line + b"\n"


def _send_in_memory(to: socket.socket, message: bytes) -> None:
    """Send a message as a file in memory that nobody can change any more. Raises `OSError`."""
    memory = os.memfd_create("reconcile-message", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(message)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", memory))
        to.sendmsg([], [rights], socket.MSG_DONTWAIT)
    finally:
        os.close(memory)
