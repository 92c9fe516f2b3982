"""The process that reads a spec: begun early, asked once.

A hostile file can crash the compiled YAML parser, and reading needs libraries that no other command wants
to pay for. So it is a program of its own, for us as for the controller. It imports for about as long as the
command line does: begun as the very first thing, it comes up at the same time.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
import time
from contextlib import ExitStack
from typing import Final, NamedTuple

from reconciler.system import in_place

TIMEOUT_S: Final = 60.0
ARGV: Final = (sys.executable, "-I", "-m", "reconciler.specfile")


class Done(NamedTuple):
    """How a reader ended, as `os.waitstatus_to_exitcode` tells it, and what it said."""

    returncode: int
    stdout: bytes
    stderr: bytes


class _Reader(NamedTuple):
    pid: int
    question: int
    streams: tuple[int, int]
    """What it writes: its answer, and what it complains of."""


_begun: list[_Reader] = []


def begin(*, may_fork: bool = False) -> None:
    """Start a reader for the request that is to come. Without one it ends when this process does.

    `may_fork`: this process is as Python has begun it, but for what it has imported.
    """
    with ExitStack() as undo:
        (question_end, question), *outputs = [_pipe(undo) for _ in range(3)]
        theirs = (question_end, *(end for _, end in outputs))
        if may_fork and in_place.isolate():
            pid = in_place.fork(changes="child")
            if pid == 0:
                in_place.live(lambda: _be(theirs))
        else:
            moves = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(theirs)]
            pid = os.posix_spawn(ARGV[0], ARGV, os.environ, file_actions=moves)
        undo.pop_all()
    for fd in theirs:
        os.close(fd)
    _begun.append(_Reader(pid, question, (outputs[0][0], outputs[1][0])))


def _pipe(undo: ExitStack) -> tuple[int, int]:
    """Return the ends of a pipe; not at the numbers where the reader has its streams, which may be closed here."""
    ends, moved = os.pipe(), []
    try:
        for fd in ends:
            moved.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3))
            undo.callback(os.close, moved[-1])
    finally:
        for fd in ends:
            os.close(fd)
    return moved[0], moved[1]


def _be(fds: tuple[int, ...]) -> int:
    for target, fd in enumerate(fds):
        os.dup2(fd, target)
    os.closerange(3, max(map(int, os.listdir("/proc/self/fd"))) + 1)
    return in_place.begin(ARGV)


def ask(request: bytes) -> Done | None:
    """Ask the reader that was begun, or else a new one.

    Returns how it ended and what it said, None when it took too long.
    """
    if not _begun:
        begin()
    reader, said = _begun.pop(), None
    waited_for = {reader.question, *reader.streams}
    try:
        said = _talk(reader, request, waited_for)
    finally:
        for fd in waited_for:
            os.close(fd)
        if said is None:  # it takes too long, for us or for who has pressed Ctrl-C
            os.kill(reader.pid, signal.SIGKILL)
        _, status = os.waitpid(reader.pid, 0)
    return said and Done(os.waitstatus_to_exitcode(status), *said)


def _talk(reader: _Reader, request: bytes, waited_for: set[int]) -> tuple[bytes, bytes] | None:
    """Ask, and return all that is said on both streams; None when it takes too long.

    `waited_for` are the descriptors of the reader; those that are through are closed and taken out.
    """
    give_up_at = time.monotonic() + TIMEOUT_S
    said: dict[int, list[bytes]] = {fd: [] for fd in reader.streams}
    poll = select.poll()
    for fd in reader.streams:
        poll.register(fd, select.POLLIN)
    poll.register(reader.question, select.POLLOUT)
    os.set_blocking(reader.question, False)
    rest = memoryview(request)
    while waited_for:
        heard = poll.poll(max(give_up_at - time.monotonic(), 0) * 1000)
        if not heard:
            break
        for fd, _ in heard:
            if fd == reader.question:
                try:
                    rest = rest[os.write(fd, rest) :]
                except BrokenPipeError:  # it has died, and its other streams tell of what
                    rest = rest[:0]
                is_over = not rest
            else:
                said[fd].append(os.read(fd, 1 << 16))
                is_over = not said[fd][-1]
            if is_over:
                poll.unregister(fd)
                os.close(fd)
                waited_for.remove(fd)
    answer, complaint = (b"".join(said[fd]) for fd in reader.streams)
    return None if waited_for else (answer, complaint)
