"""Real programs are stopped: a pool of workers ends its task, and what goes into the background is found."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import require_program
from tests.e2e.stage import Stage, free_port, stage, until
from tests.keeper.rig import is_alive

pytestmark = pytest.mark.e2e

TASKS = """
import os, time
from celery import Celery
app = Celery("tasks", broker=os.environ["BROKER"])
app.conf.update(broker_connection_retry_on_startup=True, worker_enable_remote_control=False)
@app.task
def slow(begun, ended):
    open(begun, "w").close()
    time.sleep(2)
    open(ended, "w").close()
"""


@pytest.fixture
def port() -> int:
    require_program("redis-server", "apt install redis-server")
    return free_port()


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.2) as redis:
            redis.sendall(b"PING\r\n")
            return redis.recv(100) == b"+PONG\r\n"
    except OSError:
        return False


def test_a_celery_worker_finishes_its_task_and_its_broker_goes_last(
    port: int, tmp_path: Path
) -> None:
    celery = require_program("celery", "pip install celery[redis]")
    (tmp_path / "tasks.py").write_text(TASKS)
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    broker = {"BROKER": f"redis://127.0.0.1:{port}/0"}
    spec = f"""
watchers:
  redis: {{cmd: "redis-server --port {port} --bind 127.0.0.1 --save ''", priority: 10}}
  celery:
    cmd: {celery} -A tasks worker --concurrency 1 --without-gossip --without-mingle --without-heartbeat
    working_dir: {tmp_path}
    env: {{BROKER: "{broker["BROKER"]}"}}
    stop: {{timeout: 30s}}
"""
    with stage(spec) as it:
        it.up()
        send = f"import tasks; tasks.slow.delay({str(begun)!r}, {str(ended)!r})"
        environ = {**os.environ, **broker}
        subprocess.run([sys.executable, "-c", send], cwd=tmp_path, env=environ, check=True)
        until(begun.exists, "the task runs", show=lambda: it.log("celery"))
        it.run("stop", "*")
        assert ended.exists(), it.log("celery")
        stopped = [line for line in it.run("events").stdout.splitlines() if " ended" in line]
        assert [line.split(".1 ended")[0].split()[-1] for line in stopped] == ["celery", "redis"]


def test_redis_in_the_background_is_named_while_it_runs_and_gone_after_shutdown(port: int) -> None:
    spec = f"""
watchers:
  redis: {{cmd: redis-server --port {port} --bind 127.0.0.1 --daemonize yes --save ""}}
  other: {{cmd: sleep 1000}}
"""
    with stage(spec) as it:
        it.run("up", "-d", "--no-wait", code=None)
        until(lambda: answers(port), "redis answers")
        note = until(
            lambda: said(it), "it is named", show=lambda: it.run("status", code=None).stdout
        )
        pid = int(note.partition("(pid ")[2].partition(")")[0])
        assert note == (
            f"ends at once with exit 0 and leaves redis-server (pid {pid}) running: "
            "does it go into the background? With pid_file it is followed"
        )
        assert is_alive(pid)
        stops = f"redis: stopping what it left running: redis-server (pid {pid})"
        assert stops in it.run("stop", "redis").stdout
        assert not is_alive(pid)
        it.run("start", "redis", "--no-wait")
        until(lambda: answers(port), "redis answers again")
        it.run("shutdown")
        assert not answers(port)


def said(it: Stage) -> str:
    note = str(it.watcher("redis")["note"])
    return note if "background" in note else ""


def test_what_is_left_on_purpose_is_named_at_the_end() -> None:
    spec = "watchers: {w: {cmd: sh -c 'sleep 4321 & exec sleep 1234', stop: {scope: process}}}"
    with stage(spec) as it:
        it.up()
        it.run("restart", "w")
        # Between fork and exec it still has its parent's name.
        until(lambda: "w.1 left sleep (pid " in it.run("status", "-o", "wide").stdout, "named")
        ended = it.run("shutdown", code=3).stdout
        assert "sleep (pid " in ended
        left = [int(each.partition(")")[0]) for each in ended.split("(pid ")[1:]]
        assert [*map(is_alive, left)] == [True, True]
        for pid in left:
            os.kill(pid, 9)
