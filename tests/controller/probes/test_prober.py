"""Real questions to small servers: what they answer, what hangs, and what is left of it."""

from __future__ import annotations

import os
import resource
import socket
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from servers import BUSY, OK, Desk, Server

from reconciler.controller.probes import names, prober
from reconciler.controller.probes.exchange import Exchange
from reconciler.controller.probes.http import Outcome
from reconciler.controller.probes.names import numbers_of
from reconciler.model.probe import HttpTarget, TcpTarget, UnixTarget

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCAL = "127.0.0.1"


@pytest.fixture
def desk() -> Desk:
    return Desk()


def closed_port() -> int:
    server = Server(OK)
    server.close()
    return server.port


def test_an_http_server_passes_by_its_status(desk: Desk) -> None:
    port = Server(OK).port
    assert desk.first(HttpTarget(LOCAL, port, "/x")) == (True, f"http {LOCAL}:{port}/x answers 200")


def test_a_status_that_does_not_pass_is_told_with_what_is_said(desk: Desk) -> None:
    port = Server(BUSY).port
    said = f"http {LOCAL}:{port}/ answers 503 Busy: the database is away"
    assert desk.first(HttpTarget(LOCAL, port)) == (False, said)


def test_a_port_and_a_unix_socket_pass_by_being_connected(desk: Desk, tmp_path: Path) -> None:
    port, path = Server(None).port, str(tmp_path / "socket")
    Server(None, path)
    assert desk.first(TcpTarget(LOCAL, port)) == (True, f"tcp {LOCAL}:{port} accepts connections")
    desk.told.clear()
    assert desk.first(UnixTarget(path)) == (True, f"unix {path} accepts connections")


def test_who_does_not_listen_is_told_with_the_systems_word(desk: Desk, tmp_path: Path) -> None:
    port, path = closed_port(), str(tmp_path / "none")
    assert desk.first(TcpTarget(LOCAL, port)) == (False, f"tcp {LOCAL}:{port}: connection refused")
    desk.told.clear()
    assert desk.first(UnixTarget(path)) == (False, f"unix {path}: no such file or directory")


def test_who_takes_a_connection_and_says_nothing_fails_at_the_timeout(desk: Desk) -> None:
    port = Server(None).port
    said = f"http {LOCAL}:{port}/: no answer within 50ms"
    assert desk.first(HttpTarget(LOCAL, port), timeout_ms=50) == (False, said)


def test_a_server_that_keeps_its_connection_open_has_answered_by_the_timeout(desk: Desk) -> None:
    server = Server(b"")
    server.answer = b"HTTP/1.1 200 OK\r\n\r\nand so on"
    assert desk.first(HttpTarget(LOCAL, server.port))[0] is True


def test_it_is_told_when_it_changes_and_not_each_time(desk: Desk) -> None:
    server = Server(BUSY)
    desk.ask(HttpTarget(LOCAL, server.port))
    desk.until(lambda: server.count >= 4)
    server.answer = OK
    desk.until(lambda: len(desk.told) > 1)
    desk.until(lambda: server.count >= 8)
    assert [each.passed for each in desk.told] == [False, True]
    assert desk.faults == []


def test_what_is_dropped_is_asked_no_more_and_keeps_nothing_open(desk: Desk) -> None:
    before = len(os.listdir("/proc/self/fd"))
    server = Server(None)
    id = desk.ask(HttpTarget(LOCAL, server.port))
    desk.until(lambda: server.open)
    desk.prober.drop(id)
    desk.until(lambda: not server.open)
    desk.reactor.wait(0)
    assert (server.count, desk.told) == (1, [])
    assert len(os.listdir("/proc/self/fd")) == before + 1  # the server's


def test_who_hangs_delays_nobody_else(desk: Desk) -> None:
    slow, quick = Server(None), Server(OK)
    desk.ask(HttpTarget(LOCAL, slow.port), 1)
    desk.ask(HttpTarget(LOCAL, quick.port), 2)
    desk.until(lambda: quick.count >= 5)
    assert [each.id.slot for each in desk.told] == [2]


def test_only_so_many_are_asked_at_once_and_the_others_after_them(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prober, "MAX_UNDER_WAY", 3)
    server = Server(None)
    for slot in range(1, 9):
        desk.ask(HttpTarget(LOCAL, server.port), slot, timeout_ms=30)
    most = 0

    def all_told() -> bool:
        nonlocal most
        most = max(most, len(desk.prober._by_descriptor))
        return len({each.id for each in desk.told}) == 8

    desk.until(all_told)
    assert most == 3


def test_a_host_may_be_a_name(desk: Desk) -> None:
    port = Server(OK).port
    assert desk.first(HttpTarget("localhost", port))[0] is True


def test_a_name_that_takes_its_time_delays_only_who_asks_for_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, found = Server(OK), threading.Event()
    numbers = names._look_up

    def look_up(host: str, port: int, flags: int = 0) -> object:
        if not flags:
            found.wait()
        return numbers(host, port, flags)

    monkeypatch.setattr(names, "_look_up", look_up)
    desk.ask(HttpTarget("localhost", server.port), 1, timeout_ms=40)
    desk.ask(HttpTarget(LOCAL, server.port), 2)
    desk.until(lambda: len(desk.told) == 2)
    assert {each.id.slot: each.message for each in desk.told} == {
        1: f"http localhost:{server.port}/: its name was not found in time",
        2: f"http {LOCAL}:{server.port}/ answers 200",
    }
    found.set()
    desk.until(lambda: desk.told[-1].passed and desk.told[-1].id.slot == 1)


def test_a_name_that_is_none_is_told(desk: Desk) -> None:
    passed, message = desk.first(TcpTarget("no-such-name.invalid", 80))
    assert passed is False
    assert message.startswith("tcp no-such-name.invalid:80: ")


def test_the_first_address_that_answers_counts() -> None:
    port = Server(OK).port
    addresses = [*numbers_of(LOCAL, closed_port()), *numbers_of(LOCAL, port)]
    exchange = Exchange(TcpTarget("db", port), addresses)
    outcome = exchange.begin()
    exchange.close()
    assert outcome == Outcome(True, f"tcp db:{port} accepts connections")


def test_a_connection_that_meets_itself_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody listens the kernel may choose the very port that is asked as the one to ask from."""
    port = closed_port()

    class FromThatPort(socket.socket):
        def connect_ex(self, address: object) -> int:
            self.bind((LOCAL, port))
            return super().connect_ex(address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "socket", FromThatPort)
    exchange = Exchange(TcpTarget(LOCAL, port), [(socket.AF_INET, (LOCAL, port))])
    assert exchange.begin() == Outcome(False, f"tcp {LOCAL}:{port}: connection refused")


@contextmanager
def no_descriptors() -> Iterator[None]:
    spare = os.dup(0)
    os.close(spare)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_that_we_cannot_ask_is_held_against_nobody(desk: Desk) -> None:
    port = Server(OK).port
    with no_descriptors():
        said = f"tcp {LOCAL}:{port} cannot be asked: too many open files"
        assert desk.first(TcpTarget(LOCAL, port)) == (None, said)
    assert desk.faults == []
