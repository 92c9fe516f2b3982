"""A socket of the real kind: who has sent what, what comes along, who waits."""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.model.process import ProcessId
from reconciler.notify import pid_files
from reconciler.notify.messages import MAX_BYTES, Message
from reconciler.notify.sockets import MOST_AT_ONCE, Heard, NotifySocket, NotifySockets

WEB = ProcessId("web", 1)
TOKEN = f"test-{os.getpid()}"


class Loop:
    """Watches nothing, and remembers what it was asked to."""

    def __init__(self) -> None:
        self.watched: dict[int, Callable[[], None]] = {}
        self.told: list[tuple[ProcessId, int]] = []

    def sockets(self, **handed: int) -> NotifySockets:
        told = lambda *key: self.told.append(key)  # noqa: E731
        return NotifySockets(TOKEN, self.watched.__setitem__, self.watched.pop, told, handed)


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def web(loop: Loop) -> Iterator[NotifySocket]:
    found = loop.sockets().open(WEB, 3)
    yield found
    found.close()
    assert loop.watched == {}


def address(it: NotifySocket) -> str:
    return "\0" + it.address[1:]


def say(it: NotifySocket, data: bytes, *descriptors: int) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        rights = array.array("i", descriptors)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else []
        sender.sendmsg([data], ancillary, 0, address(it))


def own(said: Message) -> Heard:
    return Heard(said, os.getpid(), os.getuid(), True)


def test_the_kernel_says_who_has_sent_what(web: NotifySocket, loop: Loop) -> None:
    assert web.address == f"@reconcile/{TOKEN}/3"
    say(web, b"READY=1")
    pid = os.fork()
    if pid == 0:
        say(web, b"STATUS=from a child that is gone")
        os._exit(0)
    os.waitpid(pid, 0)
    gone = Heard(Message(status="from a child that is gone"), pid, os.getuid(), True)
    assert web.take() == [own(Message(ready=True)), gone]
    assert web.take() == []
    (ready,) = loop.watched.values()
    ready()
    assert loop.told == [(WEB, 3)]


def test_what_is_taken_at_once_is_bounded(web: NotifySocket) -> None:
    for _ in range(MOST_AT_ONCE + 1):
        say(web, b"WATCHDOG=1")
    assert [len(web.take()) for _ in range(3)] == [MOST_AT_ONCE, 1, 0]


def test_of_a_large_datagram_the_beginning_counts(web: NotifySocket) -> None:
    say(web, b"READY=1\n" + b"x" * MAX_BYTES)
    say(web, b"x" * MAX_BYTES + b"\nREADY=1")
    say(web, b"")
    assert [each.said.ready for each in web.take()] == [True, False, False]


def test_descriptors_are_closed_and_those_of_a_barrier_when_it_is_answered(
    web: NotifySocket,
) -> None:
    before = os.listdir("/proc/self/fd")
    kept, passed = os.pipe()
    waits, barrier = os.pipe()
    os.set_blocking(kept, False)
    os.set_blocking(waits, False)
    say(web, b"FDSTORE=1\nFDNAME=x", passed)
    say(web, b"BARRIER=1", barrier)
    os.close(passed)
    os.close(barrier)
    assert [each.said.barrier for each in web.take()] == [False, True]
    assert os.read(kept, 1) == b""  # closed: nothing is stored
    with pytest.raises(BlockingIOError):
        os.read(waits, 1)
    web.answer()
    assert os.read(waits, 1) == b""
    os.close(kept)
    os.close(waits)
    assert os.listdir("/proc/self/fd") == before


def test_nobody_waits_for_what_lingers_in_a_socket_that_was_passed(web: NotifySocket) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
    client.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while client.send(b"x" * 65536):
            pass
    say(web, b"FDSTORE=1", client.fileno())
    client.close()
    assert web.take() == [own(Message())]  # else the test takes a minute
    server.close()


def test_new_code_goes_on_with_what_was_open(web: NotifySocket, loop: Loop) -> None:
    say(web, b"READY=1")
    owner = web._owner
    (fd,) = owner.handles().values()
    again = Loop()
    other = again.sockets(**{web.address: os.dup(fd)}).open(WEB, 3)
    assert other.take() == [own(Message(ready=True))]
    other.close()


def test_a_name_that_somebody_else_has_is_an_error(web: NotifySocket, loop: Loop) -> None:
    with pytest.raises(OSError, match="in use"):
        loop.sockets().open(WEB, 3)
    assert len(loop.watched) == 1


# ---- files that name a process ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "pid"),
    [
        (b"4711\n", 4711),
        (b"4711", 4711),
        (b" 4711 \n/var/lib/postgres\n", 4711),
        (b"", 0),
        (b"\n4711", 0),
        (b"-1", 0),
        (b"4711 4712", 0),
        (b"0x12", 0),
        (b"9" * 1000, 10**64 - 1),
        (b"\xff\0", 0),
    ],
)
def test_a_file_names_the_process_of_its_first_line(
    tmp_path: Path, content: bytes, pid: int
) -> None:
    (tmp_path / "pid").write_bytes(content)
    assert pid_files.read(str(tmp_path / "pid")) == pid


def test_what_is_no_file_of_its_own_names_nobody(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text("1")
    (tmp_path / "link").symlink_to("pid")
    os.mkfifo(tmp_path / "fifo")
    for name in ("nosuch", "link", "fifo", "", "nul\0", "pid/x"):
        assert pid_files.read(str(tmp_path / name)) == 0, name
