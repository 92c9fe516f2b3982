"""Claims about what becomes of the output of processes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import gzip
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from reconciler.controller.output.compress import compress_rotated
from reconciler.model.observation import LogChanged
from reconciler.model.process import (
    NOT_KNOWN,
    CaptureSink,
    DaemonSink,
    FileSink,
    ManagerSink,
    NullSink,
    Owned,
    ProcessId,
    Sink,
)
from reconciler.model.units import parse_period_ns
from reconciler.output import capture
from reconciler.output.capture import Capture, Streams
from reconciler.output.characters import CUT_MARK, GOES_ON_MARK
from reconciler.output.log_file import AGAIN_S, LINE_BYTES
from reconciler.output.manager_output import PENDING_BYTES, ManagerOutput
from reconciler.output.spool import Spool
from reconciler.output.stream import ROUND_BYTES, SPOOL_BYTES
from tests.descriptors import own_descriptors
from tests.growth import work_of

WEB = ProcessId("web", 1)
API = ProcessId("api", 1)
PATIENCE_S = 30.0


class Room:
    """Logs with the selector that a keeper gives them, and a clock that we set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 1_767_323_045.123456
        self.selector = select.epoll()
        self.callbacks: dict[int, Callable[[], None]] = {}
        spool = Spool(str(folder / "spool"), "boot-1")
        self.capture = Capture(
            str(folder / "fifos"), spool, self.register, self.unregister, lambda: self.now
        )
        self.sinks, self.pipes = self.capture.sinks, self.capture.pipes

    def register(self, fd: int, callback: Callable[[], None]) -> None:
        self.selector.register(fd, select.EPOLLIN)
        self.callbacks[fd] = callback

    def unregister(self, fd: int) -> None:
        self.selector.unregister(fd)
        del self.callbacks[fd]

    def path(self, name: str = "web.log") -> str:
        return str(self.folder / name)

    def open(self, stdout: Sink, stderr: Sink | None = None, process: ProcessId = WEB) -> Streams:
        return self.capture.open(process, stdout, stderr)

    def step(self, timeout: float = 0.0) -> int:
        ready = self.selector.poll(timeout)
        for fd, _ in ready:
            self.callbacks[fd]()
        return len(ready)

    def settle(self) -> None:
        """Carry out all that is ready now."""
        while self.step():
            pass

    def say(self, streams: Streams, data: bytes) -> None:
        """Write as the process does, and let it flow."""
        os.write(streams.stdout_fd, data)
        self.settle()

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, "waited too long"
            self.step(0.05)

    def run(self, program: str, streams: Streams, *arguments: str) -> subprocess.Popen[bytes]:
        worker = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", program, *arguments],
            stdout=streams.stdout_fd,
            stderr=streams.stderr_fd,
        )
        streams.close_worker_ends()
        return worker

    def close_readers(self) -> None:
        """Forget all that is read, as the next keeper finds it."""
        for fd in list(self.callbacks):
            self.unregister(fd)

    def lost(self) -> int:
        """Return how many bytes found no place of which it was not told yet."""
        targets = (*self.sinks._files.values(), *filter(None, (self.sinks._manager,)))
        return sum(target.lost_bytes for target in targets)

    def finish(self, worker: subprocess.Popen[bytes], streams: Streams) -> int:
        self.until(lambda: worker.poll() is not None)
        self.until(streams.drained)
        streams.close()
        return worker.returncode


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path)
    yield room
    room.selector.close()
    gc.collect()  # what it leaves open must not be closed while another test counts descriptors


def lines_of(path: str) -> list[bytes]:
    return Path(path).read_bytes().splitlines(keepends=True)


def in_order(path: str) -> list[str]:
    """The file and what was rotated from it, oldest first."""
    number = 1
    while os.path.lexists(f"{path}.{number}") or os.path.lexists(f"{path}.{number}.gz"):
        number += 1
    return [f"{path}.{n}" for n in range(number - 1, 0, -1)] + [path]


def open_descriptors() -> int:
    return len(own_descriptors())


WRITE_LINES = """
import sys
first, count = int(sys.argv[1]), int(sys.argv[2])
sys.stdout.write("".join(f"{n} {'x' * (n % 90)}\\n" for n in range(first, first + count)))
"""


LONGEST_LINE = len("2026-01-02T03:04:05.123456Z 100000 \n") + 90


def written(first: int, count: int) -> list[bytes]:
    return [f"{n} {'x' * (n % 90)}\n".encode() for n in range(first, first + count)]


# Streams and their FIFOs.


def test_bytes_arrive_in_the_file_as_they_were_written(room: Room) -> None:
    streams = room.open(FileSink(room.path()))
    os.write(streams.stdout_fd, b"one\ntwo without end")
    room.settle()
    assert Path(room.path()).read_bytes() == b"one\ntwo without end"
    streams.close()


BY_ASYNCIO = """
import asyncio, sys

async def main():
    loop = asyncio.get_running_loop()
    transports = []
    for stream in (sys.stdout, sys.stderr):
        transport, _ = await loop.connect_write_pipe(asyncio.Protocol, stream)
        transports.append(transport)
    for n in range(20):
        for transport in transports:
            transport.write(b"line %d\\n" % n)
        await asyncio.sleep(0)

asyncio.run(main())
"""


@pytest.mark.parametrize("stderr", [None, "err"], ids=["joined", "apart"])
def test_a_program_that_writes_by_asyncio_loses_no_line(room: Room, stderr: str | None) -> None:
    """It takes an end of a pipe that becomes readable for one whose reader has gone."""
    other = None if stderr is None else FileSink(room.path(stderr))
    streams = room.open(FileSink(room.path()), other)
    assert room.finish(room.run(BY_ASYNCIO, streams), streams) == 0
    written = [line for name in ("web.log", stderr or "") for line in lines_in(room, name)]
    assert sorted(written) == sorted([b"line %d\n" % n for n in range(20)] * 2)


def lines_in(room: Room, name: str) -> list[bytes]:
    return lines_of(room.path(name)) if name else []


def test_joined_streams_are_one_fifo(room: Room) -> None:
    streams = room.open(FileSink(room.path()))
    assert streams.stdout_fd == streams.stderr_fd
    assert len(os.listdir(room.pipes.fifo_dir)) == 1
    streams.close()


def test_separate_streams_have_separate_files(room: Room) -> None:
    streams = room.open(FileSink(room.path()), FileSink(room.path("web.err")))
    os.write(streams.stdout_fd, b"out\n")
    os.write(streams.stderr_fd, b"err\n")
    room.settle()
    assert (lines_of(room.path()), lines_of(room.path("web.err"))) == ([b"out\n"], [b"err\n"])
    streams.close()


def test_the_workers_ends_are_for_writing_and_closed_at_exec(room: Room) -> None:
    streams = room.open(FileSink(room.path()), FileSink(room.path("err")))
    for fd in (streams.stdout_fd, streams.stderr_fd):
        assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
        assert not os.get_inheritable(fd)
        assert not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK
    streams.close()


def test_nothing_is_left_when_all_is_closed(room: Room) -> None:
    before = open_descriptors()
    streams = room.open(FileSink(room.path()), CaptureSink(room.path("err")))
    streams.close_worker_ends()
    streams.close()
    streams.close()
    assert (open_descriptors(), room.callbacks, os.listdir(room.pipes.fifo_dir)) == (before, {}, [])


def test_nothing_is_left_when_the_second_sink_cannot_be_had_for_any_reason(room: Room) -> None:
    before = open_descriptors()
    with pytest.raises(ValueError, match="null"):
        room.open(FileSink(room.path()), FileSink(room.path("a\0b")))
    assert (open_descriptors(), room.callbacks, os.listdir(room.pipes.fifo_dir)) == (before, {}, [])


def test_a_stream_ends_by_itself_when_the_last_writer_is_gone(room: Room) -> None:
    before = open_descriptors()
    streams = room.open(FileSink(room.path()))
    os.write(streams.stdout_fd, b"last words\n")
    streams.close_worker_ends()
    room.settle()
    assert (room.step(), open_descriptors(), room.callbacks) == (0, before, {})
    assert os.listdir(room.pipes.fifo_dir) == []
    assert lines_of(room.path()) == [b"last words\n"]
    assert streams.drained()


@pytest.mark.parametrize("sink", [FileSink("/proc/none/web.log"), FileSink("/dev/full")])
def test_an_impossible_file_is_an_error_with_its_name(room: Room, sink: FileSink) -> None:
    before = open_descriptors()
    with pytest.raises(OSError, match=re.escape(os.path.dirname(sink.path))) as caught:
        room.open(FileSink(room.path()), sink)
    assert caught.value.filename is not None
    assert open_descriptors() == before
    assert os.listdir(room.pipes.fifo_dir) == []


def test_an_impossible_fifo_is_an_error_with_its_name(room: Room) -> None:
    before = open_descriptors()
    os.rmdir(room.pipes.fifo_dir)
    with pytest.raises(FileNotFoundError) as caught:
        room.open(FileSink(room.path()))
    assert str(caught.value.filename).startswith(room.pipes.fifo_dir)
    assert open_descriptors() == before


def test_a_log_is_never_opened_through_a_symlink(room: Room) -> None:
    target = room.folder / "precious"
    target.write_text("precious")
    (room.folder / "web.log").symlink_to(target)
    with pytest.raises(OSError) as caught:
        room.open(FileSink(room.path()))
    assert caught.value.errno == errno.ELOOP


def test_a_folder_that_becomes_a_link_redirects_nothing(room: Room) -> None:
    """What the user of a process can do by itself, who owns the folder above: with rotation, and all the time."""
    app, secret = room.folder / "app", room.folder / "secret"
    secret.mkdir()
    path = str(app / "logs" / "web.log")
    streams = room.open(FileSink(path, max_size=40, keep=1))
    app.chmod(0o777)
    fill(room, streams, b"before\n")
    (app / "logs").rename(app / "moved")
    (app / "logs").symlink_to(secret)
    lines = [b"line %d, by nobody\n" % n for n in range(8)]
    for line in lines:
        room.now += 2
        fill(room, streams, line)
    assert list(secret.iterdir()) == []
    assert (app / "moved" / "web.log").read_bytes() == b"before\n" + b"".join(lines)
    said = "its path can no longer be trusted: "
    said += f"{app}/logs is a symbolic link that others may change"
    change = LogChanged(WEB, path, said, lost=False)
    assert (room.sinks.take_changes(), room.sinks.troubles()) == (
        [change],
        [change],
    )
    (app / "logs").unlink()
    (app / "moved").rename(app / "logs")
    room.now += 2
    fill(room, streams, b"after\n")
    assert (room.sinks.take_changes(), room.sinks.troubles()) == (
        [LogChanged(WEB, path, "")],
        [],
    )
    assert contents(room, "app/logs/web.log") == [b"after\n"], "and is rotated again"
    streams.close()


def test_the_next_keeper_opens_no_log_through_such_a_link_either(room: Room) -> None:
    app, secret = room.folder / "app", room.folder / "secret"
    path = str(app / "logs" / "web.log")
    streams = room.open(FileSink(path))
    app.chmod(0o777)
    (app / "logs").rename(secret)
    (app / "logs").symlink_to(secret)
    with pytest.raises(OSError) as caught:
        room.open(FileSink(str(app / "logs" / "other")), None, API)
    assert caught.value.errno == errno.ELOOP
    room.close_readers()
    failed: list[OSError] = []
    again = room.capture.reopen(WEB, FileSink(str(app / "logs" / "new.log")), None, failed.append)
    room.say(streams, b"lost\n")
    assert (failed, [each.name for each in secret.iterdir()]) == ([], ["web.log"])
    (change,) = room.sinks.take_changes()
    assert (change.lost, "is a symbolic link" in change.trouble) == (True, True)
    streams.close()
    again.close()


def test_folders_above_a_log_are_made(room: Room) -> None:
    room.open(FileSink(room.path("a/b/web.log"))).close()
    assert os.stat(room.path("a/b")).st_mode & 0o777 == 0o755


def test_a_new_incarnation_leaves_the_fifo_of_a_survivor_alone(room: Room) -> None:
    old = room.open(FileSink(room.path()))
    new = room.open(FileSink(room.path()))
    os.write(old.stdout_fd, b"survivor\n")
    old.close()
    assert len(os.listdir(room.pipes.fifo_dir)) == 1
    os.write(new.stdout_fd, b"successor\n")
    room.settle()
    assert lines_of(room.path()) == [b"survivor\n", b"successor\n"]
    new.close()
    assert os.listdir(room.pipes.fifo_dir) == []


def test_names_of_fifos_never_collide(room: Room) -> None:
    several = [ProcessId("a", 1), ProcessId("a.1", 0), ProcessId("a@1", 0), ProcessId("../a", 1)]
    opened = [room.open(FileSink(room.path()), None, process) for process in several]
    assert len(os.listdir(room.pipes.fifo_dir)) == len(several)
    for streams in opened:
        streams.close()


# How much is read, and when it is enough.


def test_a_round_leaves_the_others_their_turn(room: Room) -> None:
    streams = room.open(FileSink(room.path(), max_size=0))
    pipe_bytes = fcntl.fcntl(streams.stdout_fd, fcntl.F_SETPIPE_SZ, 2 * ROUND_BYTES)
    os.write(streams.stdout_fd, b"x" * pipe_bytes)
    room.step()
    assert os.path.getsize(room.path()) == ROUND_BYTES
    streams.close()


def test_drained_waits_for_what_was_there_and_not_for_what_comes_later(room: Room) -> None:
    """A grandchild that writes for ever cannot hold back the news of an exit."""
    streams = room.open(FileSink(room.path(), max_size=0))
    pipe_bytes = fcntl.fcntl(streams.stdout_fd, fcntl.F_SETPIPE_SZ, 2 * ROUND_BYTES)
    os.write(streams.stdout_fd, b"x" * (pipe_bytes - 1))
    assert not streams.drained()
    os.write(streams.stdout_fd, b"y" * (ROUND_BYTES // 2))
    assert streams.drained()
    streams.close()


def test_only_a_busy_pipe_is_enlarged(room: Room) -> None:
    streams = room.open(FileSink(room.path(), max_size=0))
    size = fcntl.fcntl(streams.stdout_fd, fcntl.F_GETPIPE_SZ)
    os.write(streams.stdout_fd, b"x" * size)
    room.settle()
    assert fcntl.fcntl(streams.stdout_fd, fcntl.F_GETPIPE_SZ) == size
    for _ in range(10):
        os.write(streams.stdout_fd, b"x" * size)
        room.step()
    assert fcntl.fcntl(streams.stdout_fd, fcntl.F_GETPIPE_SZ) > size
    streams.close()


def enlarged(room: Room) -> tuple[Streams, int]:
    """Return streams whose pipe was enlarged, and its size before."""
    streams = room.open(FileSink(room.path(), max_size=0))
    size = fcntl.fcntl(streams.stdout_fd, fcntl.F_GETPIPE_SZ)
    assert room.capture.due_ns is None, "nothing wakes while no pipe is large"
    while fcntl.fcntl(streams.stdout_fd, fcntl.F_GETPIPE_SZ) == size:
        os.write(streams.stdout_fd, b"x" * size)
        room.step()
    return streams, size


def test_a_pipe_that_is_busy_no_longer_has_its_usual_size_again(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams, size = enlarged(room)
    room.capture.tend()
    assert fcntl.fcntl(streams.stdout_fd, fcntl.F_GETPIPE_SZ) > size, "it was busy just now"
    assert room.capture.due_ns is not None
    monkeypatch.setattr(capture, "QUIET_NS", 0)
    os.write(streams.stdout_fd, b"y" * 2 * size)
    room.capture.tend()
    assert fcntl.fcntl(streams.stdout_fd, fcntl.F_GETPIPE_SZ) > size, "it holds more than that"
    assert room.capture.due_ns is not None
    room.settle()
    room.capture.tend()
    assert fcntl.fcntl(streams.stdout_fd, fcntl.F_GETPIPE_SZ) == size
    assert room.capture.due_ns is None
    assert Path(room.path()).read_bytes().endswith(b"y" * 2 * size)
    streams.close()


def test_a_pipe_that_a_former_keeper_enlarged_is_known_and_one_that_is_closed_forgotten(
    room: Room,
) -> None:
    streams, _ = enlarged(room)
    next_room = Room(room.folder)
    again = next_room.capture.reopen(WEB, FileSink(room.path()), None, raises)
    assert next_room.capture.due_ns is not None
    for each, its in ((again, next_room), (streams, room)):
        each.close()
        assert its.capture.due_ns is None


def raises(error: OSError) -> None:
    raise error


@pytest.mark.parametrize("timestamps", [False, True])
def test_a_fast_writer_loses_nothing_over_many_rotations(room: Room, timestamps: bool) -> None:
    sink = FileSink(room.path(), timestamps, max_size=300_000, keep=1000)
    streams = room.open(sink)
    worker = room.run(WRITE_LINES, streams, "0", "100000")
    assert room.finish(worker, streams) == 0
    files = in_order(room.path())
    assert len(files) > 10
    assert all(os.path.getsize(file) < sink.max_size + LONGEST_LINE for file in files)
    found = [line for file in files for line in lines_of(file)]
    if timestamps:
        found = [line.split(b" ", 1)[1] for line in found]
    assert found == written(0, 100_000)
    assert (room.lost(), room.sinks.take_changes()) == (0, [])


def test_two_fast_writers_of_one_file_keep_their_lines_whole(room: Room) -> None:
    sink = FileSink(room.path(), max_size=500_000, keep=1000)
    first, second = room.open(sink), room.open(sink, None, API)
    one = room.run(WRITE_LINES, first, "0", "50000")
    two = room.run(WRITE_LINES, second, "50000", "50000")
    assert (room.finish(one, first), room.finish(two, second)) == (0, 0)
    found = [line for file in in_order(room.path()) for line in lines_of(file)]
    assert sorted(found) == sorted(written(0, 100_000))


def test_a_killed_keeper_gives_the_worker_no_sigpipe(room: Room) -> None:
    streams = room.open(FileSink(room.path()))
    read_end = next(iter(room.callbacks))
    room.unregister(read_end)
    os.close(read_end)
    assert os.write(streams.stdout_fd, b"nobody reads this") > 0
    streams.close_worker_ends()


def test_a_keeper_killed_at_any_instant_loses_nothing_of_a_plain_file(room: Room) -> None:
    streams = room.open(FileSink(room.path(), max_size=0))
    kept_open = os.dup(streams.stdout_fd)
    worker = room.run(WRITE_LINES, streams, "0", "300000")
    for size in range(10**6, 10**7, 10**6):
        keeper = os.fork()
        if keeper == 0:
            while True:
                room.step(-1)
        end = time.monotonic() + PATIENCE_S
        while os.path.getsize(room.path()) < size:
            assert time.monotonic() < end, "waited too long"
        os.kill(keeper, signal.SIGKILL)
        os.waitpid(keeper, 0)
    assert room.finish(worker, streams) == 0
    os.close(kept_open)
    assert lines_of(room.path()) == written(0, 300_000)


# Rotation.


def fill(room: Room, streams: Streams, *chunks: bytes) -> None:
    for chunk in chunks:
        os.write(streams.stdout_fd, chunk)
        room.settle()


def contents(room: Room, *names: str) -> list[bytes | None]:
    paths = [Path(room.path(name)) for name in names]
    return [path.read_bytes() if path.exists() else None for path in paths]


def test_rotation_happens_between_lines(room: Room) -> None:
    streams = room.open(FileSink(room.path(), max_size=10, keep=3))
    fill(room, streams, b"12345\n", b"678", b"90\nabc\n", b"def\n")
    assert contents(room, "web.log.2", "web.log.1", "web.log") == [
        None,
        b"12345\n67890\n",
        b"abc\ndef\n",
    ]
    streams.close()


def test_the_oldest_go_and_compressed_ones_count(room: Room) -> None:
    for name in ("web.log.1.gz", "web.log.2", "web.log.3.gz"):
        Path(room.path(name)).write_text(name)
    streams = room.open(FileSink(room.path(), max_size=5, keep=2))
    fill(room, streams, b"1234\n", b"5678\n")
    expected = ["web.log", "web.log.1", "web.log.2.gz"]
    assert sorted(os.listdir(room.folder)) == ["fifos", "spool", *expected]
    streams.close()


def test_keep_0_starts_anew(room: Room) -> None:
    streams = room.open(FileSink(room.path(), max_size=5, keep=0))
    fill(room, streams, b"1234\n", b"5678\n")
    assert contents(room, "web.log", "web.log.1") == [b"5678\n", None]
    streams.close()


def test_max_size_0_never_rotates(room: Room) -> None:
    streams = room.open(FileSink(room.path(), max_size=0))
    fill(room, streams, b"1234\n" * 5000, b"5678\n")
    assert contents(room, "web.log.1") == [None]
    streams.close()


def test_a_line_without_end_is_cut_in_the_end(room: Room) -> None:
    streams = room.open(FileSink(room.path(), max_size=1000, keep=5))
    for _ in range(40):
        fill(room, streams, b"x" * 4096)
    sizes = [os.path.getsize(path) for path in in_order(room.path())]
    assert sum(sizes) == 40 * 4096
    assert max(sizes) < 1000 + LINE_BYTES + 4096
    streams.close()


def test_a_file_whose_rotations_are_to_be_compressed_is_told_once(room: Room) -> None:
    streams = room.open(FileSink(room.path(), max_size=5, keep=5, compress=True))
    fill(room, streams, b"1234\n", b"5678\n", b"9012\n")
    assert room.sinks.take_rotated() == [room.path()]
    assert room.sinks.take_rotated() == []
    streams.close()


def test_a_rotated_file_keeps_its_mode(room: Room) -> None:
    Path(room.path()).touch(0o600)
    os.chmod(room.path(), 0o604)
    streams = room.open(FileSink(room.path(), max_size=5))
    fill(room, streams, b"1234\n", b"5678\n")
    assert os.stat(room.path()).st_mode & 0o777 == 0o604
    streams.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into any folder")
def test_a_rotation_that_is_not_allowed_loses_nothing(room: Room) -> None:
    folder = room.folder / "fixed"
    folder.mkdir()
    streams = room.open(FileSink(str(folder / "web.log"), max_size=5))
    folder.chmod(0o500)
    fill(room, streams, b"1234\n", b"5678\n", b"9012\n")
    assert (folder / "web.log").read_bytes() == b"1234\n5678\n9012\n"
    folder.chmod(0o700)
    room.now += 2
    fill(room, streams, b"x\n")
    assert (folder / "web.log.1").exists()
    streams.close()


def test_a_name_that_cannot_be_rotated_loses_nothing(room: Room) -> None:
    name = "w" * 254
    streams = room.open(FileSink(room.path(name), max_size=5))
    fill(room, streams, b"1234\n", b"5678\n", b"9012\n")
    assert contents(room, name) == [b"1234\n5678\n9012\n"]
    streams.close()


# What others do to our files.


def test_a_moved_file_is_left_and_a_new_one_begun(room: Room) -> None:
    streams = room.open(FileSink(room.path()))
    fill(room, streams, b"old\n")
    os.rename(room.path(), room.path("moved"))
    room.now += 2
    fill(room, streams, b"new\n")
    assert contents(room, "moved", "web.log") == [b"old\n", b"new\n"]
    streams.close()


def test_a_deleted_file_is_made_again_at_once_with_its_folder(room: Room) -> None:
    streams = room.open(FileSink(room.path("logs/web.log")))
    fill(room, streams, b"old\n")
    os.unlink(room.path("logs/web.log"))
    os.rmdir(room.path("logs"))
    fill(room, streams, b"new\n")
    assert contents(room, "logs/web.log") == [b"new\n"]
    streams.close()


def test_a_truncated_file_goes_on_at_its_new_end(room: Room) -> None:
    streams = room.open(FileSink(room.path()))
    fill(room, streams, b"copied and truncated\n")
    os.truncate(room.path(), 0)
    fill(room, streams, b"new\n")
    assert contents(room, "web.log") == [b"new\n"]
    streams.close()


def test_lines_that_others_append_are_not_overwritten(room: Room) -> None:
    streams = room.open(FileSink(room.path()))
    fill(room, streams, b"ours\n")
    with open(room.path(), "ab") as other:
        other.write(b"theirs\n")
    fill(room, streams, b"ours again\n")
    assert contents(room, "web.log") == [b"ours\ntheirs\nours again\n"]
    streams.close()


def test_a_file_that_took_our_place_is_not_rotated(room: Room) -> None:
    streams = room.open(FileSink(room.path(), max_size=20))
    fill(room, streams, b"ours, and longer\n")
    os.rename(room.path(), room.path("moved"))
    Path(room.path()).write_bytes(b"theirs\n")
    fill(room, streams, b"12345678\n")
    assert contents(room, "web.log.1", "web.log") == [None, b"theirs\n12345678\n"]
    streams.close()


# Rotation by time. It is 2026-01-02T03:04:05Z, a Friday.

MIDNIGHT = 1_767_398_400.0
DAILY = 86_400 * 10**9


def test_a_file_holds_what_was_written_within_one_day(room: Room) -> None:
    streams = room.open(FileSink(room.path(), rotate_ns=DAILY))
    for at, line in ((-1, b"1\n"), (0, b"2\n"), (1, b"3\n"), (86_399.9, b"4\n"), (86_400, b"5\n")):
        room.now = MIDNIGHT + at
        fill(room, streams, line)
    assert contents(room, *map(os.path.basename, in_order(room.path()))) == [
        b"1\n",
        b"2\n3\n4\n",
        b"5\n",
    ]
    streams.close()


def test_a_silent_file_is_rotated_when_its_time_comes_and_an_empty_one_is_not(room: Room) -> None:
    streams = room.open(FileSink(room.path(), rotate_ns=DAILY), FileSink(room.path("err")))
    assert room.capture.due_ns is not None
    assert room.capture.due_ns - time.monotonic_ns() == pytest.approx(
        (MIDNIGHT - room.now) * 1e9, abs=1e9
    )
    fill(room, streams, b"one\n")
    room.now = MIDNIGHT
    assert room.capture.due_ns <= time.monotonic_ns()
    for _ in range(2):
        room.capture.tend()
        assert contents(room, "web.log.2", "web.log.1", "web.log") == [None, b"one\n", b""]
        room.now += 86_400
    room.now -= 86_400
    assert room.capture.due_ns is not None
    assert room.capture.due_ns > time.monotonic_ns()
    streams.close()
    room.now += 86_400
    room.capture.tend()
    assert room.capture.due_ns is None


def test_a_line_that_time_overtakes_is_finished_in_its_file(room: Room) -> None:
    streams = room.open(FileSink(room.path(), rotate_ns=DAILY))
    fill(room, streams, b"one\nbegun ")
    room.now = MIDNIGHT
    room.capture.tend()
    assert room.capture.due_ns is None, "nothing but its end is waited for"
    fill(room, streams, b"on Friday", b"\nnext\n")
    assert contents(room, "web.log.1", "web.log") == [b"one\nbegun on Friday\n", b"next\n"]
    assert room.capture.due_ns is not None
    streams.close()


@pytest.mark.parametrize(
    ("written_at", "is_rotated"), [(MIDNIGHT - 5, True), (MIDNIGHT, False), (MIDNIGHT + 5, False)]
)
def test_the_next_keeper_rotates_what_the_former_one_did_not(
    room: Room, written_at: float, is_rotated: bool
) -> None:
    Path(room.path()).write_bytes(b"before\n")
    os.utime(room.path(), (written_at, written_at))
    room.now = MIDNIGHT + 10
    streams = room.open(FileSink(room.path(), rotate_ns=DAILY, compress=True))
    room.capture.tend()
    assert contents(room, "web.log.1") == [b"before\n" if is_rotated else None]
    assert room.sinks.take_rotated() == ([room.path()] if is_rotated else [])
    streams.close()


def test_an_edit_of_the_period_counts_for_the_open_file(room: Room) -> None:
    streams = room.open(FileSink(room.path()))
    fill(room, streams, b"one\n")
    hour = 3600 * 10**9
    os.utime(room.path(), (room.now, room.now))
    streams.redirect(FileSink(room.path(), rotate_ns=hour), None)
    room.now += 3600
    room.capture.tend()
    assert contents(room, "web.log.1", "web.log") == [b"one\n", b""]
    streams.redirect(FileSink(room.path()), None)
    room.capture.tend()
    room.now += 3600
    room.capture.tend()
    assert room.capture.due_ns is None
    streams.close()


@pytest.mark.parametrize(
    ("period", "until"),
    [
        ("15m", "2026-01-02T03:15:00"),
        ("hourly", "2026-01-02T04:00:00"),
        ("6h", "2026-01-02T06:00:00"),
        ("weekly", "2026-01-05T00:00:00"),
    ],
)
def test_periods_begin_at_round_times_in_utc(room: Room, period: str, until: str) -> None:
    streams = room.open(FileSink(room.path(), rotate_ns=parse_period_ns(period)))
    (file,) = room.sinks._files.values()
    assert datetime.fromtimestamp(file.rotate_at, UTC).isoformat() == f"{until}+00:00"
    streams.close()


def test_a_rotation_by_time_that_cannot_be_is_tried_again(room: Room) -> None:
    streams = room.open(FileSink(room.path(), rotate_ns=DAILY, keep=1))
    fill(room, streams, b"one\n")
    (room.folder / "web.log.1").mkdir()  # which unlink(2) does not take away
    room.now = MIDNIGHT
    for _ in range(2):
        room.capture.tend()
    assert contents(room, "web.log") == [b"one\n"]
    assert room.capture.due_ns is not None
    assert room.capture.due_ns > time.monotonic_ns()
    (room.folder / "web.log.1").rmdir()
    room.now += AGAIN_S
    room.capture.tend()
    assert contents(room, "web.log.1", "web.log") == [b"one\n", b""]
    streams.close()


# Mode and owner.


def mode_of(path: str) -> str:
    return f"{os.stat(path).st_mode & 0o7777:04o}"


def owner_of(path: str) -> tuple[int, int]:
    return os.stat(path).st_uid, os.stat(path).st_gid


def test_a_log_has_its_mode_from_the_first_instant_and_through_rotations(room: Room) -> None:
    before = os.umask(0o077)
    streams = room.open(FileSink(room.path(), max_size=5, keep=2, owned=Owned(0o640)))
    os.umask(before)
    fill(room, streams, b"1234\n", b"5678\n", b"9012\n")
    os.unlink(room.path())
    fill(room, streams, b"again\n")
    assert [mode_of(path) for path in in_order(room.path())] == ["0640"] * 3
    streams.close()


def test_an_edit_of_the_mode_counts_for_the_open_file_and_later_ones(room: Room) -> None:
    streams = room.open(FileSink(room.path(), max_size=5))
    fill(room, streams, b"1234\n", b"5678\n")
    streams.redirect(FileSink(room.path(), max_size=5, owned=Owned(0o600)), None)
    assert [mode_of(path) for path in in_order(room.path())] == ["0644", "0600"]
    fill(room, streams, b"9012\n")
    assert [mode_of(path) for path in in_order(room.path())] == ["0644", "0600", "0600"]
    streams.redirect(FileSink(room.path()), None)
    assert mode_of(room.path()) == "0600", "null leaves it as it is"
    streams.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away; try: sudo make test")
def test_a_log_belongs_to_its_owner_and_what_is_not_known_stays(room: Room) -> None:
    streams = room.open(FileSink(room.path(), max_size=5, owned=Owned(None, 1234, NOT_KNOWN)))
    fill(room, streams, b"1234\n", b"5678\n")
    assert [owner_of(path) for path in in_order(room.path())] == [(1234, 0)] * 2
    streams.redirect(FileSink(room.path(), owned=Owned(None, NOT_KNOWN, 4321)), None)
    assert owner_of(room.path()) == (1234, 4321)
    streams.close()


def test_a_file_of_another_name_is_not_given_away_and_that_is_told(room: Room) -> None:
    """A link to somebody's file, put in the place of a log by who may write in its folder."""
    precious = room.path("precious")
    Path(precious).touch(0o600)
    os.link(precious, room.path())
    streams = room.open(FileSink(room.path(), owned=Owned(0o666)))
    said = "cannot set its owner or mode: it has another name, too"
    assert (mode_of(precious), room.sinks.take_changes()) == (
        "0600",
        [LogChanged(WEB, room.path(), said, lost=False)],
    )
    os.unlink(precious)
    streams.redirect(FileSink(room.path(), owned=Owned(0o640)), None)
    assert mode_of(room.path()) == "0640"
    assert room.sinks.take_changes() == [LogChanged(WEB, room.path(), "")]
    streams.close()


# Lines: timestamps, length, capture.


def test_each_line_begins_with_the_time(room: Room) -> None:
    streams = room.open(FileSink(room.path(), timestamps=True))
    fill(room, streams, b"one\n\ntw", b"o\nrest")
    streams.close_worker_ends()
    room.settle()
    stamp = b"2026-01-02T03:04:05.123456Z "
    assert lines_of(room.path()) == [
        stamp + b"one\n",
        stamp + b"\n",
        stamp + b"two\n",
        stamp + b"rest\n",
    ]


def test_times_before_many_lines_are_as_much_work_as_before_few(room: Room) -> None:
    streams = room.open(FileSink(room.path(), timestamps=True, max_size=0))
    works = []
    for line in (b"-" * 8191 + b"\n", b"-" * 15 + b"\n"):
        room.say(streams, b"the first time\n")
        os.write(streams.stdout_fd, line * (32_768 // len(line)))
        works.append(work_of(room.settle, "/reconciler/output/"))
    assert works[0] == works[1]
    streams.close()


def test_much_output_with_times_asks_little_of_the_system(room: Room) -> None:
    """Beside moving the bytes: the note of what is on its way is for four times as much as is moved at a time."""
    streams = room.open(FileSink(room.path(), timestamps=True, max_size=0))
    fcntl.fcntl(streams.stdout_fd, fcntl.F_SETPIPE_SZ, 2 * ROUND_BYTES)
    takes: list[int] = []
    take = room.pipes.spool.take

    def counted(*arguments: Any) -> Iterable[bytes]:
        chunks = [*take(*arguments)]
        takes.append(len(chunks))
        return chunks

    room.pipes.spool.take = counted  # type: ignore[method-assign]
    os.write(streams.stdout_fd, b"0123456789abcde\n" * (ROUND_BYTES // 16))
    room.step()
    assert takes == [4] * (ROUND_BYTES // SPOOL_BYTES)
    streams.close()


def test_an_edit_of_the_form_of_times_counts_for_the_next_line(room: Room) -> None:
    streams = room.open(FileSink(room.path(), timestamps="unix"))
    fill(room, streams, b"one\ntwo\n")
    streams.redirect(FileSink(room.path(), timestamps="[%f]"), None)
    fill(room, streams, b"three\n")
    head = b"1767323045.123456 "
    assert lines_of(room.path()) == [head + b"one\n", head + b"two\n", b"[123456] three\n"]
    streams.close()


def test_an_endless_line_is_cut_into_marked_pieces(room: Room) -> None:
    streams = room.open(FileSink(room.path(), timestamps=True))
    for _ in range(40):
        fill(room, streams, b"x" * 4096)
    fill(room, streams, b"end\n")
    lines = [line.split(b" ", 1)[1] for line in lines_of(room.path())]
    size = LINE_BYTES - len(GOES_ON_MARK)
    assert lines == [
        b"x" * LINE_BYTES + CUT_MARK + b"\n",
        GOES_ON_MARK + b"x" * size + CUT_MARK + b"\n",
        GOES_ON_MARK + b"x" * (40 * 4096 - LINE_BYTES - size) + b"end\n",
    ]
    streams.close()


@pytest.mark.parametrize("character", ["\uac00", "\xe9", "\U0001f600", "x"])
@pytest.mark.parametrize("before", [0, 1, 2, 3])
def test_a_piece_of_a_long_line_ends_between_two_characters(
    room: Room, character: str, before: int
) -> None:
    streams = room.open(FileSink(room.path(), timestamps=True))
    text = "-" * before + character * 40_000
    data = text.encode() + b"\n"
    for start in range(0, len(data), 50_000):
        fill(room, streams, data[start : start + 50_000])
    marks = (CUT_MARK.decode(), GOES_ON_MARK.decode())
    pieces = [line.decode().rstrip("\n").split(" ", 1)[1] for line in lines_of(room.path())]
    assert len(pieces) == -(-len(data) // LINE_BYTES)
    assert "".join(p.removesuffix(marks[0]).removeprefix(marks[1]) for p in pieces) == text
    streams.close()


def test_bytes_that_are_no_text_are_cut_anywhere(room: Room) -> None:
    streams = room.open(FileSink(room.path(), timestamps=True))
    fill(room, streams, b"\x80" * 60_000, b"\x80" * 10_000 + b"\n")
    first, second = [line.split(b" ", 1)[1] for line in lines_of(room.path())]
    assert first == b"\x80" * LINE_BYTES + CUT_MARK + b"\n"
    assert second == GOES_ON_MARK + b"\x80" * (70_000 - LINE_BYTES) + b"\n"
    streams.close()


def test_a_line_that_its_writer_left_without_end_is_ended(room: Room) -> None:
    """So that what the next run says begins a line of its own; what waits for more is left as it is."""
    sink = FileSink(room.path())
    for _ in range(2):
        streams = room.open(sink)
        assert room.finish(room.run("print('fatal: no database', end='')", streams), streams) == 0
    assert lines_of(room.path()) == [b"fatal: no database\n"] * 2
    silent = room.open(sink)
    room.say(silent, b"Password: ")
    assert lines_of(room.path())[2:] == [b"Password: "]
    room.say(silent, b"1\n")
    silent.close()
    assert lines_of(room.path())[2:] == [b"Password: 1\n"]


def test_another_writer_begins_a_line_of_its_own(room: Room) -> None:
    sink = FileSink(room.path())
    first = room.open(sink)
    room.say(first, b"begun ")
    second = room.open(sink, None, API)
    room.say(second, b"other\n")
    second.close()
    room.say(first, b"goes on\n")
    first.close()
    assert lines_of(room.path()) == [b"begun \n", b"other\n", b"goes on\n"]


def test_the_end_of_captured_output_is_kept(room: Room) -> None:
    streams = room.open(CaptureSink(room.path(), limit_bytes=10))
    worker = room.run("print('a' * 100000); print('the end')", streams)
    room.until(lambda: worker.poll() is not None)
    room.until(streams.drained)
    assert streams.tail() == b"a\nthe end\n"
    assert os.path.getsize(room.path()) == 100_009
    streams.close()
    assert streams.tail() == b"a\nthe end\n"


def test_the_end_of_captured_output_begins_with_a_whole_character(room: Room) -> None:
    streams = room.open(CaptureSink(room.path(), limit_bytes=10))
    room.say(streams, "\uac00\uac01\uac02\uac03".encode())
    assert streams.tail().decode() == "\uac01\uac02\uac03"
    streams.close()


def test_an_unfinished_line_is_written_when_the_process_is_gone(room: Room) -> None:
    sink = FileSink(room.path())
    first, second = room.open(sink), room.open(sink, None, API)
    fill(room, first, b"no end")
    assert contents(room, "web.log") == [b""]
    assert first.drained()
    assert contents(room, "web.log") == [b"no end\n"]
    first.close()
    second.close()


def test_a_line_goes_on_when_the_other_writer_leaves_in_its_middle(room: Room) -> None:
    sink = FileSink(room.path())
    first, second = room.open(sink), room.open(sink, None, API)
    fill(room, first, b"one ")
    second.close()
    fill(room, first, b"line\n")
    assert contents(room, "web.log") == [b"one line\n"]
    first.close()


# Redirecting.


def test_a_redirected_stream_goes_on_in_the_other_file(room: Room) -> None:
    streams = room.open(FileSink(room.path()))
    fill(room, streams, b"here\n")
    streams.redirect(FileSink(room.path("other"), timestamps=True), None)
    fill(room, streams, b"there\n")
    streams.redirect(NullSink(), None)
    fill(room, streams, b"nowhere\n")
    assert contents(room, "web.log", "other") == [b"here\n", b"2026-01-02T03:04:05.123456Z there\n"]
    assert (room.lost(), room.sinks.take_changes()) == (0, [])
    streams.close()


def test_an_impossible_redirection_changes_nothing(room: Room) -> None:
    streams = room.open(FileSink(room.path()))
    with pytest.raises(OSError, match="/dev/full"):
        streams.redirect(FileSink("/dev/full"), None)
    fill(room, streams, b"still here\n")
    assert contents(room, "web.log") == [b"still here\n"]
    streams.close()


def test_a_new_size_is_taken_over_by_the_open_file(room: Room) -> None:
    streams = room.open(FileSink(room.path()))
    fill(room, streams, b"1234\n")
    streams.redirect(FileSink(room.path(), max_size=5), None)
    fill(room, streams, b"5678\n")
    assert contents(room, "web.log.1", "web.log") == [b"1234\n", b"5678\n"]
    streams.close()


# A full disk.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB; only root may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small file system takes root to mount; try: sudo make test")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("timestamps", [False, True])
def test_a_full_disk_drops_whole_lines_and_counts_and_resumes(
    room: Room, small_disk: Path, timestamps: bool
) -> None:
    path = str(small_disk / "web.log")
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"b" * 100_000)
    streams = room.open(FileSink(path, timestamps))
    writer = room.run(WRITE_LINES, streams, "0", "50000")
    worker_end = os.open(
        os.path.join(room.pipes.fifo_dir, os.listdir(room.pipes.fifo_dir)[0]),
        os.O_RDWR,
    )
    room.until(lambda: writer.poll() is not None)
    assert writer.returncode == 0
    room.settle()
    assert room.lost() > 1_000_000
    ballast.unlink()
    os.write(worker_end, b"there is room again\n")
    room.settle()
    lines = [line.split(b" ", 1)[1] if timestamps else line for line in lines_of(path)]
    assert lines[-1] == b"there is room again\n"
    known = set(written(0, 50_000))
    whole = [line for line in lines[:-1] if line in known]
    assert len(lines) - 1 - len(whole) <= 1
    os.close(worker_end)
    streams.close()


def test_what_is_lost_is_told_once_and_so_is_the_end_of_it(room: Room, small_disk: Path) -> None:
    path, ballast = str(small_disk / "web.log"), small_disk / "ballast"
    streams = room.open(FileSink(path))
    with contextlib.suppress(OSError):
        ballast.write_bytes(b"b" * 300_000)
    for _ in range(3):
        room.say(streams, b"x" * 5000 + b"\n")
        room.now += 0.5
    full = LogChanged(WEB, path, "no space left on device")
    assert (room.sinks.take_changes(), room.sinks.troubles()) == ([full], [full])
    lost = room.lost()
    ballast.unlink()
    for _ in range(3):
        room.now += 2
        room.say(streams, b"again\n")
    (change,) = room.sinks.take_changes()
    assert (change.trouble, room.sinks.troubles()) == ("", [])
    assert change.lost_bytes == lost > 0
    streams.close()


def test_where_nothing_new_can_be_made_a_process_runs_all_the_same(
    room: Room, small_disk: Path
) -> None:
    """As on a file system that has become read-only: neither a FIFO nor a log file can be made."""
    subprocess.run(["mount", "-o", "remount,nr_inodes=2", str(small_disk)], check=True)
    (small_disk / "last").touch()
    room.pipes.fifo_dir = str(small_disk)
    path = str(small_disk / "web.log")
    streams = room.open(FileSink(path))
    room.say(streams, b"lost\n")
    assert room.lost() == 5
    assert room.sinks.take_changes() == [LogChanged(WEB, path, "no space left on device")]
    os.unlink(small_disk / "last")
    for line in (b"kept 1\n", b"kept 2\n"):
        room.now += 2
        room.say(streams, line)
    assert lines_of(path) == [b"kept 1\n", b"kept 2\n"]
    assert room.sinks.troubles() == []
    streams.close()


# The manager's own output.


class Out:
    """A pipe in the place of the manager's standard output."""

    def __init__(self, room: Room) -> None:
        self.read_end, self.write_end = os.pipe()
        told = room.sinks.note_trouble
        self.sink = ManagerOutput(room.register, room.unregister, told, self.write_end)
        room.sinks._manager = self.sink


@pytest.fixture
def out(room: Room) -> Iterator[Out]:
    out = Out(room)
    yield out
    os.close(out.read_end)
    os.close(out.write_end)


def test_lines_to_the_manager_have_time_and_prefix(room: Room, out: Out) -> None:
    streams = room.open(ManagerSink("web.1 ", timestamps=True), ManagerSink("err "))
    os.write(streams.stdout_fd, b"one\ntw")
    room.settle()
    os.write(streams.stderr_fd, b"oops\n")
    room.settle()
    assert os.read(out.read_end, 1000) == b"2026-01-02T03:04:05.123456Z web.1 one\nerr oops\n"
    streams.close()


def test_a_slow_reader_gets_all_lines_later(room: Room, out: Out) -> None:
    streams = room.open(ManagerSink("web.1 "))
    writer = room.run(WRITE_LINES, streams, "0", "10000")
    room.until(lambda: writer.poll() is not None)
    room.settle()
    os.set_blocking(out.read_end, False)
    read = bytearray()

    def all_read() -> bool:
        try:
            read.extend(os.read(out.read_end, 2**20))
        except BlockingIOError:
            pass
        return read.count(b"\n") == 10_000

    room.until(all_read)
    assert read.splitlines(keepends=True) == [b"web.1 " + line for line in written(0, 10_000)]
    room.settle()
    assert room.callbacks == {}
    streams.close()


def test_nobody_waits_for_a_manager_whose_reader_sleeps(room: Room, out: Out) -> None:
    streams = room.open(ManagerSink())
    writer = room.run(WRITE_LINES, streams, "0", "100000")
    assert room.finish(writer, streams) == 0
    total = sum(map(len, written(0, 100_000)))
    lost = room.lost()
    assert total - PENDING_BYTES - 2**17 < lost < total - PENDING_BYTES
    assert os.get_blocking(out.write_end)
    stalled = LogChanged(WEB, "the manager's own output", "nobody reads it")
    assert room.sinks.take_changes() == [stalled], "told once"
    assert room.sinks.troubles() == [stalled]

    def read_on() -> bool:
        os.read(out.read_end, 2**20)
        return not room.sinks.troubles()

    room.until(read_on)
    told = [LogChanged(WEB, stalled.path, "", lost_bytes=lost)]
    assert room.sinks.take_changes() == told


def test_a_manager_whose_reader_is_gone_drops_and_counts(room: Room) -> None:
    out = Out(room)
    os.close(out.read_end)
    streams = room.open(ManagerSink())
    os.write(streams.stdout_fd, b"unheard\n")
    room.settle()
    assert room.lost() == len(b"unheard\n")
    assert room.sinks.take_changes() == [LogChanged(WEB, "the manager's own output", "broken pipe")]
    streams.close()
    os.close(out.write_end)


def test_lines_for_a_log_daemon_are_whole_and_the_last_one_needs_no_end(room: Room) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as daemon:
        daemon.bind(room.path("daemon"))
        room.sinks._places = {"syslog": room.path("daemon")}
        streams = room.open(DaemonSink("syslog", "shop", "web", 1))
        fill(room, streams, b"one\ntw", b"o\nrest")
        streams.close_worker_ends()
        room.settle()
        found = [daemon.recv(100).partition(b" web[1]: ")[2] for _ in range(3)]
    assert found == [b"one", b"two", b"rest"]


def test_compressed_files_are_those_that_gzip_reads(room: Room) -> None:
    """The names that we move are the ones that the compressing helper makes."""
    streams = room.open(FileSink(room.path(), max_size=5, keep=3, compress=True))
    fill(room, streams, b"1234\n", b"5678\n")
    (log,) = room.sinks.take_rotated()
    compress_rotated(log)
    fill(room, streams, b"9012\n")
    assert gzip.decompress(Path(room.path("web.log.2.gz")).read_bytes()) == b"1234\n"
    streams.close()


def test_a_terminal_gets_nothing_that_it_would_obey(room: Room) -> None:
    ours, theirs = os.openpty()
    try:
        told = room.sinks.note_trouble
        output = ManagerOutput(room.register, room.unregister, told, theirs)
        tricks = (
            "web.1 \x1b[31mred\x1b[0m \x1b[2J\x1b]0;owned\x07\tb\r\x9b1m \u202eturned \u2028 é\n"
        )
        assert output.put(tricks.encode()) == 0
        shown = os.read(ours, 4096).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    expected = r"web.1 red \x1b[2J\x1b]0;owned\x07" + "\tb" + r"\x0d\xc2\x9b1m \xe2\x80\xaeturned "
    assert shown == expected + "\u2028 é\r\n"
