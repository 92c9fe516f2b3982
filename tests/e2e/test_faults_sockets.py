"""Faults of sockets: the rows K of the table in docs/reliability.md, one test each, on one running instance."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.asking import Asking
from tests.e2e.stage import Stage, free_port, stage, until

pytestmark = pytest.mark.e2e

SERVER = """\
import os, select, signal, socket

# What has been accepted is answered; TERM is taken between two clients.
ended, end = os.pipe()
signal.signal(signal.SIGTERM, lambda *_: os.write(end, b"."))
here = socket.socket(fileno=3)
here.setblocking(False)
while True:
    ready, _, _ = select.select([here, ended], [], [])
    if ended in ready:
        break
    try:
        client, _ = here.accept()
    except BlockingIOError:
        continue
    client.sendall(str(os.getpid()).encode())
    client.close()
"""
SPEC = """\
defaults:
  cmd: "{python} -S serve.py"

sockets:
  web: {{listen: "127.0.0.1:{web}"}}
  one: {{listen: "127.0.0.1:0"}}
  two: {{listen: "127.0.0.1:0"}}
  taken: {{listen: "127.0.0.1:{taken}"}}
  file: {{listen: "unix:{folder}/file.sock"}}
  stale: {{listen: "unix:{folder}/stale.sock"}}
  six: {{listen: "[::1]:{six}"}}
  moves: {{listen: "127.0.0.1:{moves}"}}

watchers:
  web: {{numprocesses: 2, use_sockets: [web]}}
  one: {{use_sockets: [one]}}
  two: {{use_sockets: [two]}}
  none: {{cmd: sleep 1000}}
  taken: {{use_sockets: [taken]}}
  file: {{use_sockets: [file]}}
  stale: {{use_sockets: [stale]}}
  six: {{use_sockets: [six]}}
  moves: {{use_sockets: [moves]}}
"""


class Ports:
    """Where the sockets of the instance are, and who holds the one that is taken."""

    def __init__(self) -> None:
        self.web, self.moves = free_port(), free_port()
        self.holder = socket.create_server(("127.0.0.1", 0))
        self.taken = self.holder.getsockname()[1]
        self.has_six = socket.has_ipv6 and _binds_six()
        self.six = free_port()


def _binds_six() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def ports() -> Iterator[Ports]:
    ports = Ports()
    yield ports
    ports.holder.close()


@pytest.fixture(scope="module")
def it(ports: Ports) -> Iterator[Stage]:
    with stage("") as it:
        text = SPEC.format(python=sys.executable, folder=it.folder, **vars(ports))
        if not ports.has_six:
            text = "".join(line for line in text.splitlines(True) if "six" not in line)
        it.spec.write_text(text)
        (it.specs / "serve.py").write_text(SERVER)
        # Of a service that died without a word: nobody answers there.
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(it.folder / "stale.sock"))
        it.up(wait=False)
        until(it._answers, "the manager answers")
        ask = Asking(it)
        for name in ("web", "one", "two", "none", "file", "stale", "moves"):
            until(lambda: ask.watcher(name)["as_desired"], name)  # noqa: B023
        yield it


@pytest.fixture(scope="module")
def ask(it: Stage) -> Asking:
    return Asking(it)


class Clients(threading.Thread):
    """Connects without a pause, each time anew, and tries nothing twice."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port, self.failed = port, list[str]()
        self.answers: Counter[int] = Counter()
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.001):
            try:
                self.answers[served_by(("127.0.0.1", self.port))] += 1
            except (OSError, ValueError) as error:
                self.failed.append(repr(error))

    @contextmanager
    def connecting(self) -> Iterator[Clients]:
        self.start()
        try:
            until(lambda: self.answers, "somebody answers")
            yield self
        finally:
            self._over.set()
            self.join(20)
        assert self.failed == []


def served_by(address: tuple[str, int] | str) -> int:
    """Return the pid that answers there. Raises OSError or ValueError."""
    if isinstance(address, str):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(10)
        client.connect(address)
    else:
        client = socket.create_connection(address, timeout=10)
    with client:
        return int(b"".join(iter(lambda: client.recv(64), b"")))


def answers(address: tuple[str, int] | str) -> int:
    """Return the pid that answers there, 0 for nobody."""
    try:
        return served_by(address)
    except (OSError, ValueError):
        return 0


def listeners(pid: int) -> set[str]:
    """Return the sockets that a process holds, by inode."""
    folder = Path(f"/proc/{pid}/fd")
    found = {os.readlink(folder / name) for name in os.listdir(folder)}
    return {each for each in found if each.startswith("socket:")}


def state_of(ask: Asking, name: str) -> dict[str, object]:
    return next(each for each in ask.status()["sockets"] if each["name"] == name)


# ---- under load ----------------------------------------------------------------------------------


def test_k01_no_client_is_refused_while_the_servers_are_replaced(ports: Ports, ask: Asking) -> None:
    with Clients(ports.web).connecting() as clients:
        before = set(ask.pids("web").values())
        ask.call("restart", "web", wait=True)
        after = set(ask.pids("web").values())
        assert not before & after
        until(lambda: after & set(clients.answers), "the new ones answer")


def test_k02_no_client_is_refused_while_the_manager_is_killed_and_started(
    it: Stage, ports: Ports, ask: Asking
) -> None:
    with Clients(ports.web).connecting() as clients:
        before, killed = ask.pids("web"), ask.status()
        assert it.foreground is not None
        for program in ("keeper_pid", "controller_pid"):
            os.kill(killed[program], signal.SIGKILL)
        it.foreground.wait()
        seen = clients.answers.total()
        until(lambda: clients.answers.total() > seen + 20, "all are answered without a manager")
        it.up(wait=False)
        until(it._answers, "the next manager answers")
        assert ask.status()["keeper_pid"] != killed["keeper_pid"]
        assert ask.pids("web") == before
        # The socket is the manager's again: those who held it may go.
        ask.call("restart", "web", wait=True)
        after = set(ask.pids("web").values())
        assert not after & set(before.values())
        until(lambda: after & set(clients.answers), "the new ones answer")


def test_k08_no_client_is_refused_while_another_service_joins(
    it: Stage, ports: Ports, ask: Asking
) -> None:
    with Clients(ports.web).connecting():
        before = ask.pids("web")
        it.write(it.spec.read_text() + "  joins: {cmd: sleep 1001}\n")
        until(lambda: "joins" in [w["name"] for w in ask.status()["watchers"]], "it is applied")
        ask.pid("joins")
        assert ask.pids("web") == before


# ---- one by one ----------------------------------------------------------------------------------


def test_k03_a_port_that_others_hold_is_told_and_taken_when_it_is_free(
    ports: Ports, ask: Asking
) -> None:
    refused = until(lambda: (s := state_of(ask, "taken"))["state"] == "Failed" and s, "refused")
    assert "in use" in str(refused["note"])
    # Tried every few seconds, told once: by each manager, and there may have been others before.
    last = max((e["seq"] for e in ask.events(lambda e: e["type"] == "manager.adopted")), default=0)
    (told,) = ask.events(lambda e: e["type"] == "socket.refused" and e["seq"] > last)
    assert str(ports.taken) in told["message"]
    assert ask.slot("taken")["state"] == "Waiting"
    assert answers(("127.0.0.1", ports.web)) in ask.pids("web").values()
    ports.holder.close()
    pid = until(lambda: answers(("127.0.0.1", ports.taken)), "it is served", within_s=10)
    assert ask.pids("taken") == {1: pid}


def test_k04_each_process_has_its_own_socket_and_no_other(ask: Asking) -> None:
    one, two, none = (listeners(ask.pid(name)) for name in ("one", "two", "none"))
    assert (len(one), len(two), len(none)) == (1, 1, 0)
    assert one != two


def test_k05_a_socket_file_that_is_deleted_is_bound_again(it: Stage, ask: Asking) -> None:
    path = str(it.folder / "file.sock")
    assert served_by(path) == ask.pid("file")
    os.unlink(path)
    until(lambda: answers(path) and answers(path) == ask.pid("file"), "again", within_s=10)


def test_k06_a_stale_socket_file_is_replaced(it: Stage, ask: Asking) -> None:
    assert served_by(str(it.folder / "stale.sock")) == ask.pid("stale")


def test_k07_a_socket_of_ipv6_is_served(ports: Ports, ask: Asking) -> None:
    if not ports.has_six:
        pytest.skip("this machine has no ::1")
    assert served_by(("::1", ports.six)) == ask.pid("six")


def test_k09_a_changed_port_is_served_and_the_old_one_closed(
    it: Stage, ports: Ports, ask: Asking
) -> None:
    old, new = ports.moves, free_port()
    assert answers(("127.0.0.1", old)) == ask.pid("moves")
    it.edit(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
    until(lambda: answers(("127.0.0.1", new)), "the new one is served", within_s=5)
    until(lambda: not answers(("127.0.0.1", old)), "the old one is closed", within_s=5)
    until(lambda: ask.watcher("moves")["as_desired"], "all is as desired")
    assert answers(("127.0.0.1", new)) == ask.pid("moves")
