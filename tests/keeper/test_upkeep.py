"""What users do to sockets is undone, and clients whom nobody accepts are noticed; on a kernel in memory."""

from __future__ import annotations

import select
import socket
from dataclasses import dataclass, field

import pytest

from reconciler.keeper.listeners import Listeners
from reconciler.keeper.records import Process
from reconciler.keeper.upkeep import MOST_RETURNS, Upkeep
from reconciler.model.action import Bind
from reconciler.model.address import InternetAddress, UnixAddress
from reconciler.model.observation import SocketRestored
from reconciler.model.process import Exit, Exited, Memory, ProcessId, ProcessRecord, Running
from reconciler.model.socket import Lost, SocketTemplate, Unaccepted
from reconciler.model.units import SECOND_NS as S
from reconciler.model.value import replace
from reconciler.sockets.watching import Clients
from tests.contract.fake_kernel import FakeKernel, Socket

PORT = SocketTemplate(InternetAddress("127.0.0.1", 8000), backlog=64)
FILE = SocketTemplate(UnixAddress("/run/app.sock"))


@dataclass
class Scene:
    """A socket `http` of the keeper's, and processes that use it."""

    template: SocketTemplate = PORT
    kernel: FakeKernel = field(default_factory=FakeKernel)
    told: list[str | SocketRestored] = field(default_factory=list)
    due: int | None = None
    looks: int = 0

    def __post_init__(self) -> None:
        self.sockets = Listeners(self.kernel)
        self.upkeep = Upkeep(self.kernel, self.sockets, self.told.append)
        self.sockets.bind(Bind("http", self.template), ())

    @property
    def socket(self) -> Socket:
        found = self.sockets.by_name["http"].socket
        assert isinstance(found, Socket)
        return found

    @property
    def unaccepted(self) -> Unaccepted | None:
        return self.sockets.by_name["http"].record.unaccepted

    def start(self, slot: int = 1) -> Process:
        id = ProcessId("web", slot)
        record = ProcessRecord(id, slot, "", Memory(), Running(slot, self.kernel.now))
        process = Process(record, sockets=("http",), pid=slot)
        self.upkeep.started(process)
        self.attend()
        return process

    def attend(self) -> None:
        self.looks += 1
        for each in self.kernel.happenings():
            if hasattr(each, "name"):
                self.upkeep.client_waits(each.name)
        self.due = self.upkeep.attend()

    def wait(self, seconds: float) -> None:
        end = self.kernel.now + round(seconds * S)
        self.attend()
        while self.due is not None and self.due <= end:
            self.kernel.now = self.due
            self.attend()
        self.kernel.now = end

    def restored(self) -> list[SocketRestored]:
        return [each for each in self.told if isinstance(each, SocketRestored)]


@pytest.mark.parametrize("template", [PORT, FILE, replace(PORT, type="dgram")])
def test_a_socket_at_which_nothing_happens_is_looked_at_no_more(template: SocketTemplate) -> None:
    scene = Scene(template)
    scene.start()
    scene.wait(61)
    assert scene.due is None
    assert scene.told == []


def test_a_backlog_that_a_user_changes_is_set_back_and_told_once() -> None:
    scene = Scene()
    for slot in (1, 2):
        scene.start(slot)
        scene.socket.backlog = 16  # as servers do at their start
        scene.wait(3)
        assert scene.socket.queue().backlog == 64
    assert scene.restored() == [
        SocketRestored("http", "backlog", tuple(ProcessId("web", s) for s in range(1, n)), 16)
        for n in (2, 3)
    ]
    scene.socket.backlog = 16
    scene.wait(100)
    assert len(scene.restored()) == 2


def test_a_backlog_that_the_kernel_does_not_grant_is_in_nobodys_hands() -> None:
    scene = Scene()
    held = scene.sockets.by_name["http"]
    scene.socket.granted = 20
    held.socket and held.socket.tune(PORT)
    held.record = replace(held.record, backlog=20)
    scene.start()
    scene.wait(100)
    assert scene.told == []


def test_clients_whom_nobody_accepts_are_told_after_some_seconds_and_when_that_is_over() -> None:
    scene = Scene()
    scene.start()
    scene.wait(100)
    scene.socket.waiting = frozenset({1, 2})
    scene.wait(5)
    assert scene.unaccepted is None
    since = scene.kernel.now - 4 * S
    scene.wait(2)
    assert scene.unaccepted == Unaccepted(2, since)
    scene.socket.waiting = frozenset({1, 2, 3})
    scene.wait(6)
    assert scene.unaccepted == Unaccepted(3, since)
    scene.socket.waiting = frozenset({3, 4, 5})
    scene.wait(6)
    assert scene.unaccepted is None
    assert scene.told == ["http"] * 3


@pytest.mark.parametrize("clients", [1, 4])
def test_a_busy_server_at_which_there_is_always_a_queue_is_no_news(clients: int) -> None:
    scene = Scene()
    scene.start()
    for number in range(400):  # as many come as are accepted
        scene.socket.waiting = frozenset(range(number, number + clients))
        scene.wait(0.25)
    assert scene.told == []
    assert scene.looks < 1000
    scene.socket.waiting = frozenset()
    scene.wait(100)
    assert scene.due is None


def test_clients_may_wait_while_nobody_lives_who_could_accept() -> None:
    scene = Scene()
    process = scene.start()
    scene.wait(100)
    process.pid = 0
    scene.upkeep.ended(process)
    scene.socket.waiting = frozenset({1})
    scene.wait(100)
    assert (scene.unaccepted, scene.due) == (None, None)
    scene.start(2)
    scene.wait(7)
    assert scene.unaccepted is not None


def test_a_file_that_is_removed_all_the_time_is_put_back_at_a_bounded_pace() -> None:
    scene = Scene(FILE)
    scene.start()
    returns = 0
    for _ in range(500):
        if scene.socket.is_intact():
            scene.kernel.remove_file(FILE.address)
            returns += 1
        scene.upkeep.touched()
        scene.wait(0.01)
    assert MOST_RETURNS <= returns <= MOST_RETURNS + 6
    assert not isinstance(scene.sockets.by_name["http"].record.phase, Lost)


def test_a_client_is_told_of_once_and_never_after_the_socket_was_closed() -> None:
    ready: list[object] = []
    told: list[str] = []
    clients = Clients(lambda fd, look: ready.append((fd, look)), told.append)
    with socket.create_server(("127.0.0.1", 0)) as server:
        clients.await_next(server.fileno(), "http")
        ((fd, look),) = ready  # type: ignore[misc]
        epoll = select.poll()
        epoll.register(fd, select.POLLIN)
        with (
            socket.create_connection(server.getsockname()),
            socket.create_connection(server.getsockname()),
        ):
            for again in range(2):
                assert epoll.poll(5000)
                look()
                assert told == ["http"] * (again + 1)
                assert not epoll.poll(0)
                clients.await_next(server.fileno(), "http")  # they still wait
            clients.forget(server.fileno())
            look()
            assert not epoll.poll(0)
    assert told == ["http"] * 2


def test_a_client_of_a_socket_that_no_living_process_has_is_told_until_one_is_started() -> None:
    scene = Scene()
    scene.upkeep.look_soon("http")
    scene.wait(100)
    assert scene.told == []
    assert scene.due is None
    scene.socket.waiting = frozenset({1})
    scene.wait(100)
    record = scene.sockets.by_name["http"].record
    assert (scene.told, record.client_since_ns) == (["http"], 100 * S)
    process = scene.start()
    scene.socket.waiting = frozenset()
    scene.wait(100)
    assert scene.sockets.by_name["http"].record.client_since_ns is None
    assert scene.told == ["http", "http"]
    process.record = replace(process.record, phase=Exited(scene.kernel.now, Exit(code=0)))
    scene.upkeep.ended(process)
    scene.wait(10)
    assert scene.told == ["http", "http"]
    scene.socket.waiting = frozenset({2})
    scene.wait(10)
    assert scene.told == ["http"] * 3
