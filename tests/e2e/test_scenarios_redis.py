"""Scenario 1: the app is started when Redis answers, not before, and `status` says what is missing."""

from __future__ import annotations

import json
import os
import signal
import socket
import time

import pytest

from tests.conftest import require_program
from tests.e2e.stage import ROOT, Stage, born_ticks, free_port, stage, until

pytestmark = pytest.mark.e2e

EXAMPLE = ROOT / "examples/01-redis-before-app"


@pytest.fixture
def port() -> int:
    require_program("redis-server", "apt install redis-server")
    return free_port()


def ask(port: int, question: str) -> str:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.2) as redis:
            redis.sendall(question.encode() + b"\r\n")
            return redis.recv(100).decode().strip()
    except OSError:
        return ""


def absent_redis(it: Stage, port: int, hook_timeout: str) -> None:
    it.edit('"6390"', f'"{port}"')
    it.edit("--appendonly no", "--appendonly no\n    autostart: false")
    it.edit("timeout: 30s ", f"timeout: {hook_timeout} ")


def test_the_app_is_started_once_redis_answers(port: int) -> None:
    with stage(EXAMPLE) as it:
        it.edit('"6390"', f'"{port}"')
        it.up()
        redis, app = it.pids("redis")[1], it.pids("app")[1]
        assert (born_ticks(redis) or 0) <= (born_ticks(app) or 0)
        until(
            lambda: it.log("app") == "started, Redis says :1\n",
            "one start",
            show=lambda: it.log("app"),
        )
        assert it.watcher("app")["restarts"] == 0
        assert ask(port, "GET starts") == "$1\r\n1"


def test_an_open_port_is_not_enough(port: int) -> None:
    with stage(EXAMPLE) as it:
        it.edit('"6390"', f'"{port}"')
        it.up()
        redis = it.pids("redis")[1]
        it.run("stop", "app")
        os.kill(redis, signal.SIGSTOP)  # it still accepts, but does not answer
        it.run("start", "app", "--no-wait")
        until(lambda: "before_start" in it.watcher("app")["note"], "the hook runs")
        assert it.pids("app") == {}
        assert it.log("app").count("started") == 1
        os.kill(redis, signal.SIGCONT)
        it.settle()
        until(lambda: "Redis says :2" in it.log("app"), "the second start")


def test_the_app_waits_for_a_redis_that_comes_late_and_delays_nobody(port: int) -> None:
    with stage(EXAMPLE) as it:
        absent_redis(it, port, "30s")
        it.up(wait=False)
        until(it.answers, "the manager answers")
        until(lambda: "before_start" in it.watcher("app")["note"], "the hook runs")
        assert it.watcher("app")["state"] == "Waiting"
        assert it.pids("app") == {}
        began = time.monotonic()
        it.run("start", "redis")  # the hook of the app runs on beside this
        assert time.monotonic() - began < 10
        it.settle()
        until(
            lambda: it.log("app") == "started, Redis says :1\n",
            "one start",
            show=lambda: it.log("app"),
        )


def test_without_redis_status_shows_the_timeout_of_the_hook(port: int) -> None:
    timed_out = "before_start hook (hooks.wait_for_redis) timed out after 300ms"
    with stage(EXAMPLE) as it:
        absent_redis(it, port, "300ms")
        it.up(wait=False)
        until(it.answers, "the manager answers")
        until(
            lambda: timed_out in it.watcher("app")["note"],
            timed_out,
            show=lambda: json.dumps(it.watcher("app"), indent=1),
        )
        watcher = it.watcher("app")
        assert watcher["state"] in {"BackOff", "Waiting"}
        assert watcher["slots"][0]["pid"] is None
        until(lambda: timed_out in it.run("status", code=3).stdout.replace("\n", " "), "the table")
        assert it.log("app") == ""
        it.run("start", "redis")  # it is never given up
        it.settle()
