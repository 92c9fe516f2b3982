"""What it costs to ask slots over HTTP each second: a run without `health` and one with it.

The processes only sleep; one server answers for all slots. It tells what share of a core the controller takes, and how
long it is from the end of a process that was killed to the birth of the next one.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from bench.accounting import account, used_since
from bench.lives import RESPAWN_S, running
from bench.managers import ReconcileSlots
from bench.programs import BenchError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.lives import Effort, Place
    from bench.samples import Samples

FIRST_PORT: Final = 21001
ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
AFTER_KILL_S: Final = 0.05
LISTEN_S: Final = 20.0


class Asked(ReconcileSlots):
    """This checkout, whose slots are asked each second whether they are healthy."""

    name = "reconcile, asked"

    def _watchers(self, indexes: range) -> str:
        url = f"http://127.0.0.1:${{slot+{FIRST_PORT - 1}}}/healthz"
        return f'{super()._watchers(indexes)}    health: {{http: "{url}", interval: 1s}}\n'


def measure_probes(place: Place, effort: Effort, samples: Samples) -> None:
    """Measure without and with probes."""
    with _answering(effort.probed):
        for kind, what in ((ReconcileSlots, "unasked"), (Asked, "asked")):
            with running(kind, place, effort.probed, files=1, settle_s=effort.settle_s) as life:
                assert isinstance(life.manager, ReconcileSlots)
                controller = [life.manager.controller()]
                before, began = account(controller), time.monotonic()
                time.sleep(effort.probe_s)
                seconds = time.monotonic() - began
                share = used_since(before).cpu_ns / seconds / 1e7
                samples.add(f"{what} cpu%", "reconcile", share)
                slots = random.Random(effort.probed).sample(sorted(life.living), effort.kills)
                for slot in slots:
                    killed_ns = time.monotonic_ns()
                    os.kill(life.living[slot].pid, signal.SIGKILL)
                    (birth,) = life.births.take(1, RESPAWN_S)
                    samples.add(f"{what} respawn_ms", "reconcile", (birth.at_ns - killed_ns) / 1e6)
                    time.sleep(AFTER_KILL_S)


@contextmanager
def _answering(count: int) -> Iterator[None]:
    """Answer at so many ports, by a process of its own."""
    server = subprocess.Popen([sys.executable, "-m", "bench.probes", str(count)])
    try:
        until = time.monotonic() + LISTEN_S
        while not _listens(FIRST_PORT + count - 1):
            if time.monotonic() > until or server.poll() is not None:
                msg = f"cannot listen at the ports from {FIRST_PORT} on"
                raise BenchError(msg)
            time.sleep(0.05)
        yield
    finally:
        server.kill()
        server.wait()


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


class Answering(asyncio.Protocol):
    """Answers whatever is asked."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(ANSWER)
        self._transport.close()


async def serve(count: int) -> None:
    """Listen at a port for each slot."""
    loop = asyncio.get_running_loop()
    for port in range(FIRST_PORT, FIRST_PORT + count):
        await loop.create_server(Answering, "127.0.0.1", port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
