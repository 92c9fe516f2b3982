"""Scenario 5: Redis is started by the first connection, ends when nobody uses it, and has its data again."""

from __future__ import annotations

import socket

import pytest

from tests.conftest import require_program
from tests.e2e.stage import ROOT, free_port, stage, until

pytestmark = pytest.mark.e2e

EXAMPLE = ROOT / "examples/06-redis-on-demand"


def ask(port: int, question: str) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as redis:
        redis.sendall(question.encode() + b"\r\n")
        return redis.recv(100).decode().strip()


def test_redis_runs_while_somebody_uses_it_and_keeps_its_data() -> None:
    require_program("redis-server", "apt install redis-server")
    port = free_port()
    with stage(EXAMPLE) as it:
        it.edit(":6391", f":{port}")
        it.up()
        assert it.watcher("redis")["state"] == "Idle"
        assert ask(port, "SET greeting hello") == "+OK"
        first = it.pids("redis")[1]
        until(lambda: it.watcher("redis")["state"] == "Idle", "rests again")
        assert "the last cold start took" in it.watcher("redis")["note"]
        assert ask(port, "GET greeting") == "$5\r\nhello"
        assert it.pids("redis")[1] != first
        assert it.watcher("redis")["restarts"] == 0
