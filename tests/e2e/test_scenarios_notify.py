"""Scenario 7, and servers that say themselves how they are: sd_notify as real ones speak it."""

from __future__ import annotations

import json
import os
import pwd
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_program
from tests.e2e.stage import Stage, free_port, is_alive, stage, until
from tests.e2e.test_scenarios_servers import get

pytestmark = pytest.mark.e2e

SERVERS = """
defaults:
  ready: {{notify: true, deadline: 20s}}
watchers:
  redis:
    cmd: {redis} --port {redis_port} --save '' --supervised systemd
  haproxy:
    cmd: {haproxy} -Ws -f {folder}/haproxy.cfg
  unbound:
    cmd: {unbound} -d -c {folder}/unbound.conf
  php:
    cmd: {php} -F -y {folder}/php.conf
  php-daemon:
    cmd: {php} -D -y {folder}/php-daemon.conf
"""
POSTGRES = """
  initdb:
    restart: never
    user: {user}
    cmd: {bin}/initdb -D {data} --no-sync -A trust --locale=C
  postgres:
    depends_on: {{initdb: succeeded}}
    user: {user}
    cmd: {bin}/postgres -D {data} -p {port} -c fsync=off -k {data}
"""
HAPROXY = """
defaults
  mode http
  timeout connect 1s
  timeout client 1s
  timeout server 1s
listen front
  bind 127.0.0.1:{port}
  http-request return status 200 content-type text/plain string haproxy
"""
UNBOUND = """
server:
  interface: 127.0.0.1@{port}
  username: ""
  chroot: ""
  pidfile: ""
  directory: "{folder}"
  use-syslog: no
  logfile: ""
  num-threads: 1
"""
PHP = """
[global]
error_log = {folder}/{name}.log
systemd_interval = 1
[www]
listen = {folder}/{name}.sock
{user}
pm = static
pm.max_children = 1
"""


def test_servers_are_ready_when_they_say_so() -> None:
    programs = {
        "redis": require_program("redis-server", "apt install redis-server"),
        "haproxy": require_program("haproxy", "apt install haproxy"),
        "unbound": require_program("unbound", "apt install unbound"),
        "php": require_program(php_fpm(), "apt install php-fpm"),
    }
    bin_ = Path(require_program(postgres(), "apt install postgresql")).parent
    with stage("") as it:
        folder, ports = it.folder, [free_port() for _ in range(4)]
        is_root = os.geteuid() == 0
        text = SERVERS.format(folder=folder, redis_port=ports[0], **programs)
        data = folder / "postgres"
        data.mkdir(mode=0o700)
        if is_root:
            os.chown(data, *account("postgres"))
        user = "postgres" if is_root else str(os.getuid())
        text += POSTGRES.format(user=user, bin=bin_, data=data, port=ports[1])
        (folder / "haproxy.cfg").write_text(HAPROXY.format(port=ports[2]))
        (folder / "unbound.conf").write_text(UNBOUND.format(port=ports[3], folder=folder))
        worker = "user = nobody" if is_root else ""
        for name in ("php", "php-daemon"):
            (folder / f"{name}.conf").write_text(PHP.format(folder=folder, name=name, user=worker))
        it.write(text)
        it.run("up", "-d")
        ready = {each["message"].partition(" is ready")[0] for each in events(it, "process.ready")}
        names = ("redis", "haproxy", "unbound", "php", "php-daemon", "postgres")
        assert ready == {f"{name}.1" for name in names}
        assert said(it, "redis") == "Ready to accept connections"
        assert said(it, "php").startswith(("Ready to handle connections", "Processes active"))
        assert get(ports[2]) == "haproxy"
        # The main process that was started has put another one into the background, which goes on for it.
        (followed,) = events(it, "process.followed")
        assert followed["watcher"] == "php-daemon"
        assert it.pids("php-daemon") == {1: followed["details"]["pid"]}
        assert [each["restarts"] for each in it.status()["watchers"]] == [0] * 7
        it.run("shutdown")


def test_gunicorn_hands_over_to_another_main_process_by_its_pid_file() -> None:
    gunicorn = require_program("gunicorn", "pip install gunicorn")
    with stage("") as it:
        port, file = free_port(), it.folder / "gunicorn.pid"
        (it.specs / "app.py").write_text(
            "def app(environ, start):\n"
            "    start('200 OK', [('Content-Length', '2')])\n"
            "    return [b'ok']\n"
        )
        it.write(
            "watchers:\n"
            "  web:\n"
            f"    cmd: {gunicorn} --bind 127.0.0.1:{port} --pid {file} app:app\n"
            f"    pid_file: {file}\n"
            "    ready: {notify: true}\n"
        )
        it.run("up", "-d")
        old = it.pids("web")[1]
        os.kill(old, signal.SIGUSR2)
        new = until(lambda: Path(f"{file}.2").exists() and int(Path(f"{file}.2").read_text()))
        os.kill(old, signal.SIGTERM)
        until(lambda: it.pids("web") == {1: new}, "the new master is followed", show=it.status)
        assert not is_alive(old)
        assert get(port) == "ok"
        watcher = it.watcher("web")
        assert (watcher["state"], watcher["restarts"], watcher["replacements"]) == ("Running", 0, 0)
        assert watcher["slots"][0]["attempt"] == 0
        # It is the main process from here on: a stop ends that one.
        it.run("stop", "web")
        assert not is_alive(new)


def events(it: Stage, kind: str) -> list[dict[str, Any]]:
    told = it.run("events", "-o", "json", "-n", "1000").stdout
    return [each for line in told.splitlines() if (each := json.loads(line))["type"] == kind]


def said(it: Stage, name: str) -> str:
    return str(it.watcher(name)["slots"][0]["said"])


def php_fpm() -> str:
    found = sorted(Path("/usr/sbin").glob("php-fpm*"))
    return str(found[-1]) if found else "php-fpm"


def postgres() -> str:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return str(found[-1]) if found else "postgres"


def account(name: str) -> tuple[int, int]:
    entry = pwd.getpwnam(name)
    return entry.pw_uid, entry.pw_gid
