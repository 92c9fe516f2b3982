"""The plugins of examples/07-plugins beside a real manager: each mends what it is there for, and the numbers arrive."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from tests.conftest import require_program
from tests.e2e.stage import RECONCILE, ROOT, Stage, free_port, stage, until

pytestmark = pytest.mark.e2e

EXAMPLE = ROOT / "examples/07-plugins"


def mended(it: Stage) -> dict[str, str]:
    """Return which plugin has restarted what, and why."""
    lines = it.run("events", "--type", "operator.restart").stdout
    return {
        match[1]: match[2]
        for match in re.finditer(r'restart by plugin ([\w-]+) \("(.+?)"\): ', lines)
    }


def test_each_plugin_mends_what_it_is_there_for_and_sends_its_numbers() -> None:
    require_program("redis-server", "apt install redis-server")
    path = f"{Path(RECONCILE).parent}:{os.environ['PATH']}"
    with stage(EXAMPLE, PATH=path) as it:
        numbers = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        numbers.bind(("127.0.0.1", 0))
        numbers.setblocking(False)
        it.edit("8125", str(numbers.getsockname()[1]))
        for port in ("8070", "6391", "1664"):
            it.edit(port, str(free_port()))
        text = it.spec.read_text()
        text = re.sub(r"--every 10", "--every 0.3", text.replace("--silence 10", "--silence 1"))
        text = text.replace("python3 -u pulse.py", "env PULSE_S=0.1 python3 -u pulse.py")
        text = text.replace("numprocesses: 2", "numprocesses: 1")
        it.write(text.replace("redis --every", "redis --timeout 1 --every"))
        it.up()
        received: set[str] = set()

        def names() -> set[str]:
            while True:
                try:
                    received.add(numbers.recv(1000).decode().partition(":")[0])
                except BlockingIOError:
                    return received

        wanted = {
            "cruncher.cpu_percent_sum",
            "redis.used_memory",
            "web.http",
            "web.memory_bytes_max",
        }
        until(lambda: {f"reconcile.{each}" for each in wanted} <= names(), show=names)
        assert mended(it) == {}

        (it.specs / "pages" / "index.html").unlink()
        it.run("signal", "STOP", "redis", "cruncher")
        it.run("signal", "USR1", "pulse")
        until(lambda: names() and len(mended(it)) == 4, show=lambda: it.run("events").stdout)
        reasons = mended(it)
        assert "404" in reasons["http-observer"]
        assert "timed out" in reasons["redis-observer"]
        assert "was silent for 1s" in reasons["udp-watchdog"]
        assert "used 0.0%" in reasons["lower-limits"]
        until(lambda: "reconcile.cruncher.process.exited" in names(), show=names)
        (it.specs / "pages" / "index.html").write_text("well again")
        it.settle()
        assert {name for name in ("web", "redis", "pulse") if not it.pids(name)} == set()
