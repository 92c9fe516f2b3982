"""Scenario 6: a worker that leaks is replaced at its limit, one slot at a time, and no client notices."""

from __future__ import annotations

import json
import sys

import pytest

from tests.e2e.load import Client
from tests.e2e.stage import free_port, stage, until

pytestmark = pytest.mark.e2e

STARTED, EXITED = "process.started", "process.exited"
LEAKS = """
import signal, socket, sys
sock, held, ending = socket.socket(fileno=3), [], []
signal.signal(signal.SIGTERM, lambda *_: ending.append(1))
sock.settimeout(0.05)
while not ending:
    try:
        client = sock.accept()[0]
    except OSError:
        continue
    with client:
        client.recv(4096)
        if len(held) < 20:
            held.append(b"x" * 2**22)
        client.sendall(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\n\\r\\nok")
"""


def test_a_leaking_worker_is_replaced_at_max_memory_one_slot_at_a_time_and_no_request_fails() -> (
    None
):
    port = free_port()
    spec = f"""\
sockets: {{http: {{listen: "127.0.0.1:{port}"}}}}
watchers:
  web:
    cmd: [{sys.executable}, leaks.py]
    numprocesses: 2
    use_sockets: [http]
    limits: {{max_memory: 40MiB, max_count: 1}}
"""
    with stage(spec) as it:
        (it.specs / "leaks.py").write_text(LEAKS)
        it.up()
        client = Client(port)
        client.start()
        until(lambda: it.watcher("web")["replacements"] >= 2, "both are replaced")
        client.over.set()
        client.join()
        assert (client.failed, client.answered > 20) == ([], True)
        lines = it.run("events", "-n", "100", "-o", "json").stdout.splitlines()
        told = [json.loads(line) for line in lines]
        over = [each for each in told if each["type"] == "process.over_limit"]
        assert {each["slot"] for each in over} == {1, 2}
        assert all("is over max_memory 40MiB: " in each["message"] for each in over)
        lives = [each["type"] for each in told if each["type"] in {STARTED, EXITED}]
        assert lives[:6] == [STARTED, STARTED, EXITED, STARTED, EXITED, STARTED]
        assert it.watcher("web")["restarts"] == 0
