"""Scenario 2: gunicorn, uvicorn and nginx on managed sockets, replaced under load without a failed request."""

from __future__ import annotations

import itertools
import os
import socket
import struct
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import require_program
from tests.e2e.stage import ROOT, born_ticks, descendants, environ_of, free_port, stage, until

pytestmark = pytest.mark.e2e

EXAMPLE = ROOT / "examples/02-servers-on-one-socket"
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Load:
    """Clients that ask without a pause, each request on a connection of its own, and try nothing twice."""

    def __init__(self, targets: list[tuple[int, str]]) -> None:
        self.answers: Counter[str] = Counter()
        self.failed: list[tuple[int, str]] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=each) for each in targets]

    @contextmanager
    def running(self) -> Iterator[Load]:
        for each in self._threads:
            each.start()
        try:
            yield self
        finally:
            self._stop.set()
            for each in self._threads:
                each.join(30)

    def _ask(self, port: int, path: str) -> None:
        while not self._stop.is_set():
            try:
                self.answers[get(port, path)] += 1
            except (OSError, ValueError) as error:
                self.failed.append((port, f"{path}: {error!r}"))


def get(port: int, path: str = "/") -> str:
    """Return the body of an answer 200. Raises OSError or ValueError for anything else."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    head, _, body = answer.partition("\r\n\r\n")
    if " 200 " not in head.partition("\r\n")[0] or not body:
        msg = f"answered {answer[:200]!r}"
        raise ValueError(msg)
    return body


def listening_inode(pid: int, fd: int) -> str:
    return os.readlink(f"/proc/{pid}/fd/{fd}")


def test_servers_are_replaced_one_by_one_under_load_and_no_request_fails() -> None:
    require_program("gunicorn", "pip install gunicorn")
    require_program("uvicorn", "pip install uvicorn")
    nginx = require_program("nginx", "apt install nginx-light")
    here, there = Path(sys.executable).parent, Path(nginx).parent
    path = f"{here}:{os.environ.get('PATH', os.defpath)}:{there}"
    with stage(EXAMPLE, PATH=path) as it:
        front, web, api = free_port(), free_port(), free_port()
        for old, new in ((8020, front), (8021, web), (8022, api)):
            for file in ("reconcile.yaml", "nginx.conf"):
                at = it.specs / file
                at.write_text(at.read_text().replace(f":{old}", f":{new}"))
        it.up()
        before = {name: it.pids(name) for name in ("web", "api", "nginx")}
        assert [len(pids) for pids in before.values()] == [3, 3, 1]
        assert "LISTEN_FDS" not in environ_of(before["web"][1])
        announced = environ_of(before["api"][2])
        assert (announced["LISTEN_FDS"], announced["LISTEN_FDNAMES"]) == ("1", "api")
        assert announced["LISTEN_PID"] == str(before["api"][2])
        assert len({listening_inode(pid, 3) for pid in before["api"].values()}) == 1
        until(lambda: get(front, "/").startswith("gunicorn "), "gunicorn through nginx")
        until(lambda: get(front, "/api/").startswith("uvicorn "), "uvicorn through nginx")

        load = Load(
            [(web, "/"), (web, "/"), (api, "/"), (api, "/"), (front, "/"), (front, "/api/")]
        )
        with load.running():
            it.run("restart", "web", "api", "nginx", timeout_s=60)
            after = {name: it.pids(name) for name in before}
            new = [f"{server} {slot} {pid}\n" for server, name in (("gunicorn", "web"), ("uvicorn", "api"))
                   for slot, pid in workers(after[name], server)]  # fmt: skip
            until(lambda: all(load.answers[each] for each in new), "every new process answers",
                  show=lambda: (new, load.answers))  # fmt: skip
        names = {front: "nginx", web: "gunicorn", api: "uvicorn"}
        assert [(names[port], why) for port, why in load.failed] == []
        for name, pids in before.items():
            assert pids.keys() == after[name].keys()
            assert not set(pids.values()) & set(after[name].values())
            births = sorted(born_ticks(pid) or 0 for pid in after[name].values())
            gaps = [b - a for a, b in itertools.pairwise(births)]
            assert all(gap >= 0.9 * TICKS_A_SECOND for gap in gaps), (
                f"{name} not one by one: {gaps}"
            )


def workers(pids: dict[int, int], server: str) -> list[tuple[int, int]]:
    """Return slot and pid of those who answer: with gunicorn, the child of the slot's process."""
    if server == "uvicorn":
        return list(pids.items())
    return [
        (slot, until(lambda leader=pid: descendants(leader), "a worker")[0])  # type: ignore[misc]
        for slot, pid in pids.items()
    ]


WSGI = """\
def app(environ, start):
    start("200 OK", [("Content-Length", "3")])
    return [b"hi\\n"]
"""


def test_gunicorn_that_removes_the_file_of_its_socket_at_its_end_is_replaced_once() -> None:
    gunicorn = require_program("gunicorn", "pip install gunicorn")
    spec = f"""\
sockets:
  web: {{listen: "unix:${{env.PLACE}}/web.sock"}}
watchers:
  web: {{cmd: "{gunicorn} --bind fd://${{sockets.web}} --chdir . wsgi:app", numprocesses: 2}}
"""
    with tempfile.TemporaryDirectory(prefix="rec-") as place, stage(spec, PLACE=place) as it:
        (it.specs / "wsgi.py").write_text(WSGI)
        it.up()
        path = Path(place) / "web.sock"
        inode, before = path.stat().st_ino, it.pids("web")
        until(lambda: _get_by_file(path), "it serves")
        it.run("restart", "web", timeout_s=60)
        after = it.pids("web")
        assert not set(before.values()) & set(after.values())
        told = it.run("events").stdout
        for slot in (1, 2):
            assert (
                f"web.{slot} removed the file of socket web when it ended; it was put back" in told
            )
        assert told.count("web.1 started") == told.count("web.2 started") == 2
        assert (path.stat().st_ino, it.pids("web")) == (inode, after)
        assert it.status()["settled"]
        assert _get_by_file(path)


def _get_by_file(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(path))
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return client.makefile("rb").read().endswith(b"hi\n")


PHP = """\
[global]
error_log = /dev/stderr
daemonize = no
[www]
{account}listen = {listen}
pm = static
pm.max_children = 2
"""


@pytest.mark.parametrize("program", ["php-fpm", "fcgiwrap"])
def test_a_server_of_fastcgi_works_on_the_socket_as_it_is_handed_over(program: str) -> None:
    """On a socket that does not block, the one forks without end and the other ends at once."""
    versions = sorted(path.name for path in Path("/usr/sbin").glob("php-fpm*"))
    name = versions[-1] if program == "php-fpm" and versions else program
    path = require_program(name, f"apt install {program}")
    port = free_port()
    cmd = f"{path} -y ${{env.PWD}}/specs/fpm.conf -F" if program == "php-fpm" else f"{path} -f"
    more = (
        f'env: {{FPM_SOCKETS: "127.0.0.1:{port}=${{sockets.php}}"}}'
        if program == "php-fpm"
        else ("stdin_socket: php")
    )
    spec = f"""\
sockets: {{php: {{listen: "127.0.0.1:{port}"}}}}
watchers: {{php: {{cmd: "{cmd}", {more}}}}}
"""
    with stage(spec) as it:
        account = "user = nobody\ngroup = nogroup\n" if os.geteuid() == 0 else ""
        (it.specs / "fpm.conf").write_text(PHP.format(account=account, listen=f"127.0.0.1:{port}"))
        it.environ["PWD"] = str(it.folder)
        it.up()
        assert _fastcgi(port)
        main = it.pids("php")
        workers = descendants(main[1])
        assert _fastcgi(port)
        assert (it.pids("php"), descendants(main[1])) == (main, workers)


def _fastcgi(port: int) -> bool:
    """Tell whether a server of FastCGI answers an empty request at all, with whatever it says of it."""
    begin = struct.pack(">BBHHBBHB5x", 1, 1, 1, 8, 0, 0, 1, 0)
    empty = struct.pack(">BBHHBB", 1, 4, 1, 0, 0, 0)
    nothing = struct.pack(">BBHHBB", 1, 5, 1, 0, 0, 0)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(begin + empty + nothing)
        return len(client.makefile("rb").read()) > 0
