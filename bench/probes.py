"""What it costs to ask 500 slots over HTTP each second: `python -m bench.probes`.

Runs the manager twice, without and with `health`, on processes that only sleep; one server answers for all slots. Says
what share of a core the controller took, and how long it was from the end of a process that was killed to the start of
the next one.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SLOTS, FIRST_PORT = 500, 21001
KILLED = 60
MEASURED_S = 20.0
SPEC = f"""
watchers:
  web:
    cmd: sleep 1000000
    numprocesses: {SLOTS}
    backoff: {{burst: 1000}}
"""
HEALTH = """
    health: {http: "http://127.0.0.1:${slot+21000}/healthz", interval: 1s}
"""
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Answering(asyncio.Protocol):
    """Answers whatever is asked."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(ANSWER)
        self._transport.close()


async def serve() -> None:
    """Listen at a port for each slot."""
    loop = asyncio.get_running_loop()
    for port in range(FIRST_PORT, FIRST_PORT + SLOTS):
        await loop.create_server(Answering, "127.0.0.1", port)
    await asyncio.Event().wait()


def measure(folder: Path, spec: str) -> str:
    """Run one manager with a spec, and say what it took."""
    folder.mkdir()
    (folder / "reconcile.yaml").write_text(spec)
    places = {"RECONCILE_RUNTIME_DIR": f"{folder}/run", "RECONCILE_STATE_DIR": f"{folder}/state"}

    def reconcile(*arguments: str) -> str:
        command = [sys.executable, "-m", "reconciler.cli", *arguments]
        env = os.environ | places
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True).stdout

    reconcile("up", "-d")
    try:
        status: dict[str, Any] = json.loads(reconcile("status", "-o", "json"))
        controller = status["controller_pid"]
        time.sleep(5)
        before, begin = processor_s(controller), time.monotonic()
        time.sleep(MEASURED_S)
        share = (processor_s(controller) - before) / (time.monotonic() - begin)
        for slot in random.sample(status["watchers"][0]["slots"], KILLED):
            os.kill(slot["pid"], signal.SIGKILL)
            time.sleep(0.05)
        time.sleep(1)
        lines = reconcile("events", "-o", "json", "-n", str(4 * KILLED)).splitlines()
        waits = respawns_ms([json.loads(line) for line in lines])
    finally:
        reconcile("shutdown", "--now")
    worst = sorted(waits)[len(waits) * 95 // 100]
    median = statistics.median(waits)
    return f"controller {share:.1%} of a core; {len(waits)} respawns: median {median:.1f} ms, p95 {worst:.1f} ms"


def processor_s(pid: int) -> float:
    """Return the processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def respawns_ms(events: list[dict[str, Any]]) -> list[float]:
    """Return how long it was from each end to the next start of its slot."""
    ended: dict[int, int] = {}
    found = []
    for event in events:
        if event["type"] == "process.exited":
            ended[event["slot"]] = event["time_ns"]
        elif event["type"] == "process.started" and event["slot"] in ended:
            found.append((event["time_ns"] - ended.pop(event["slot"])) / 1e6)
    return found


def main() -> None:
    """Measure without and with probes."""
    if sys.argv[1:] == ["serve"]:
        asyncio.run(serve())
        return
    server = subprocess.Popen([sys.executable, "-m", "bench.probes", "serve"])
    try:
        with tempfile.TemporaryDirectory(prefix="rec-") as folder:
            print("quiet:  ", measure(Path(folder) / "quiet", SPEC))
            print("probing:", measure(Path(folder) / "asked", SPEC + HEALTH))
    finally:
        server.kill()


if __name__ == "__main__":
    main()
