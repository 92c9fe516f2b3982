"""Claims about lines that become messages: what the journal and syslog get, and what happens when they take none."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.model.observation import LogChanged
from reconciler.model.process import DaemonSink, ProcessId
from reconciler.output import log_daemon
from reconciler.output.characters import CUT_MARK, GOES_ON_MARK
from reconciler.output.log_daemon import PENDING_BYTES, SYSLOG_BYTES, LogDaemon
from reconciler.output.sinks import Sinks

WEB = ProcessId("web", 2)
JOURNAL = DaemonSink("journal", "shop", "web", 2)
SYSLOG = DaemonSink("syslog", "shop", "web", 2, 3)
NOW = 1_767_323_045.123456


class Machine:
    """Sinks with a selector of their own, and a daemon that reads what the test lets it read."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "socket")
        self.callbacks: dict[int, Callable[[], int]] = {}
        self.selector = select.epoll()
        self.sinks = self.begin()
        self.daemon: socket.socket | None = None

    def begin(self) -> Sinks:
        places = {"journal": self.path, "syslog": self.path}
        self.sinks = Sinks(self.watch, self.ignore, lambda: NOW, places)
        return self.sinks

    def watch(self, fd: int, callback: Callable[[], int]) -> None:
        self.selector.register(fd, select.EPOLLIN)
        self.callbacks[fd] = callback

    def ignore(self, fd: int) -> None:
        self.selector.unregister(fd)
        del self.callbacks[fd]

    def serve(self) -> None:
        """Begin as the daemon, also in the place of one before."""
        self.daemon = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.daemon.bind(self.path)

    def end(self) -> None:
        assert self.daemon is not None
        self.daemon.close()
        os.unlink(self.path)

    def say(self, lines: bytes, sink: DaemonSink = JOURNAL) -> LogDaemon:
        """Put lines as a stream does."""
        daemon = self.sinks.open(sink)
        assert isinstance(daemon, LogDaemon)
        daemon.writer = WEB
        daemon.lost_bytes += daemon.put(lines, sink)
        self.sinks.note_trouble(WEB, daemon)
        return daemon

    def read(self) -> list[bytes]:
        """Read all that comes, as long as more comes."""
        assert self.daemon is not None
        found = []
        while True:
            try:
                found.append(_received(self.daemon))
            except BlockingIOError:
                if not self.selector.poll(0):
                    return found
                for fd, _ in self.selector.poll(0):
                    self.callbacks[fd]()

    def pass_a_while(self) -> None:
        """Let the time come at which the daemon is called again."""
        due_ns = self.sinks.due_ns
        assert due_ns is not None
        assert 0 < due_ns - time.monotonic_ns() <= log_daemon.AGAIN_NS
        for daemon in self.sinks._daemons.values():
            daemon.due_ns = 0
        self.sinks.tend()


def _received(daemon: socket.socket) -> bytes:
    data, rights, _, _ = daemon.recvmsg(2**20, socket.CMSG_SPACE(4))
    for _, _, sent in rights:
        (memory,) = struct.unpack("i", sent)
        with pytest.raises(PermissionError), open(memory, "wb", closefd=False) as file:
            file.write(b"changed")
        data += os.pread(memory, 2**20, 0)
        os.close(memory)
    return data


def fields(message: bytes) -> dict[str, bytes]:
    """Take a message apart as the journal does."""
    found = {}
    while message:
        head, _, message = message.partition(b"\n")
        name, equals, value = head.partition(b"=")
        if not equals:
            size = struct.unpack_from("<Q", message)[0]
            value, message = message[8 : 8 + size], message[8 + size + 1 :]
        found[name.decode()] = value
    return found


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.selector.close()


def test_the_journal_gets_a_message_with_its_fields_for_each_line(machine: Machine) -> None:
    machine.serve()
    machine.say(b"one\n\n<3>two = \xff\x00\n")
    first, second = map(fields, machine.read())
    expected = {
        "SYSLOG_IDENTIFIER": b"web",
        "RECONCILE_INSTANCE": b"shop",
        "RECONCILE_WATCHER": b"web",
        "RECONCILE_SLOT": b"2",
        "PRIORITY": b"6",
        "SYSLOG_FACILITY": b"3",
        "MESSAGE": b"one",
    }
    assert first == expected
    assert second == expected | {"PRIORITY": b"3", "MESSAGE": b"two = \xff\x00"}
    assert machine.callbacks == {}


def test_what_is_too_large_for_a_datagram_goes_as_a_sealed_file(machine: Machine) -> None:
    machine.serve()
    daemon = machine.say(b"small\n")
    assert daemon._socket is not None
    daemon._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    machine.say(b"x" * 60_000 + b"\n")
    assert [fields(each)["MESSAGE"] for each in machine.read()] == [b"small", b"x" * 60_000]


def test_syslog_gets_what_glibc_sends(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "CET-1")
        time.tzset()
        machine.serve()
        machine.say(b"one: two\n<5>three\n", SYSLOG)
    time.tzset()
    assert machine.read() == [
        b"<27>Jan  2 04:04:05 web[2]: one: two",
        b"<29>Jan  2 04:04:05 web[2]: three",
    ]


def test_a_long_line_becomes_marked_pieces_for_syslog(machine: Machine) -> None:
    machine.serve()
    text = ("\uac00" * 6000).encode()
    machine.say(text + b"\n", SYSLOG)
    pieces = [each.partition(b": ")[2] for each in machine.read()]
    assert len(pieces) == 3
    assert all(len(each) <= SYSLOG_BYTES + len(CUT_MARK) for each in pieces)
    cut = [each.removesuffix(CUT_MARK).removeprefix(GOES_ON_MARK).decode() for each in pieces]
    assert "".join(cut).encode() == text


def test_a_slow_daemon_gets_all_lines_later(machine: Machine) -> None:
    machine.serve()
    lines = [b"%d" % number for number in range(500)]
    machine.say(b"\n".join(lines) + b"\n")
    assert len(machine.callbacks) == 1, "it is waited for"
    assert [fields(each)["MESSAGE"] for each in machine.read()] == lines
    assert (machine.callbacks, machine.sinks.take_changes()) == ({}, [])


def test_a_daemon_that_reads_nothing_costs_lines_which_are_counted_and_told_once(
    machine: Machine,
) -> None:
    machine.serve()
    line = b"x" * 2000 + b"\n"
    daemon = None
    for _ in range(10):
        daemon = machine.say(line * 100)
    assert daemon is not None
    assert daemon._pending_bytes <= PENDING_BYTES
    stalled = LogChanged(WEB, machine.path, "nobody reads it")
    assert (machine.sinks.take_changes(), machine.sinks.troubles()) == ([stalled], [stalled])
    lost, read = daemon.lost_bytes, machine.read()
    assert len(read) * len(line) + lost == 1000 * len(line)
    assert machine.sinks.take_changes() == [LogChanged(WEB, machine.path, "", lost_bytes=lost)]


@pytest.mark.parametrize("sink", [JOURNAL, SYSLOG])
def test_a_daemon_that_is_restarted_misses_nothing_and_nobody_is_told(
    machine: Machine, sink: DaemonSink
) -> None:
    machine.serve()
    machine.say(b"one\n", sink)
    read = machine.read()
    machine.end()
    machine.say(b"two\n", sink)
    machine.say(b"three\n", sink)
    machine.serve()
    machine.pass_a_while()
    machine.say(b"four\n", sink)
    read += machine.read()
    found = [fields(each)["MESSAGE"] if sink is JOURNAL else each.split()[-1] for each in read]
    assert found == [b"one", b"two", b"three", b"four"]
    assert (machine.sinks.take_changes(), machine.sinks.due_ns) == ([], None)


def test_one_that_is_restarted_while_it_is_full_is_called_again(machine: Machine) -> None:
    machine.serve()
    machine.say(b"line\n" * 100)
    machine.end()  # and what it has not read goes with it
    machine.serve()
    for fd, _ in machine.selector.poll(1):
        machine.callbacks[fd]()
    assert len(machine.read()) > 50
    assert machine.callbacks == {}


def test_a_daemon_that_is_not_there_is_told_after_a_second_and_so_is_its_coming(
    machine: Machine,
) -> None:
    machine.say(b"one\n")
    assert machine.sinks.take_changes() == []
    machine.pass_a_while()
    absent = LogChanged(WEB, machine.path, "no such file or directory")
    assert machine.sinks.take_changes() == [absent]
    machine.pass_a_while()
    assert machine.sinks.take_changes() == []
    machine.serve()
    machine.pass_a_while()
    assert [fields(each)["MESSAGE"] for each in machine.read()] == [b"one"]
    assert machine.sinks.take_changes() == [LogChanged(WEB, machine.path, "")]
    assert machine.sinks.due_ns is None


def test_new_code_of_the_keeper_sends_what_the_former_one_had_not(machine: Machine) -> None:
    machine.say(b"one\ntwo\n")
    handed = machine.sinks.unsent_messages()
    machine.serve()
    machine.begin().send_on(b"", handed)
    machine.say(b"three\n")
    assert [fields(each)["MESSAGE"] for each in machine.read()] == [b"one", b"two", b"three"]
