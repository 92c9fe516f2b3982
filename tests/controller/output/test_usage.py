"""Claims about what processes use, and who holds a port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from reconciler.controller.output import usage
from reconciler.controller.output.port_holders import holder_of
from reconciler.controller.output.usage import usage_of
from reconciler.model.address import InternetAddress
from reconciler.model.socket import SocketTemplate


def test_usage_of_living_processes_only() -> None:
    used = usage_of([os.getpid(), 2**22 - 1])
    assert list(used) == [os.getpid()]
    assert used[os.getpid()].memory_bytes > 2**20


PREFORKING = """
import os, sys, time
for escapes in (False, True):
    child = os.fork()
    if child == 0:
        held = bytearray(30_000_000)
        if escapes and os.fork():
            os._exit(0)  # the grandchild has another parent from now on, and the session of before
        os.write(1, b"x")
        time.sleep(60)
        os._exit(0)
os.waitpid(child, 0)
os.write(1, b"x")
time.sleep(60)
"""


def test_usage_is_that_of_the_whole_tree() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PREFORKING], stdout=subprocess.PIPE, start_new_session=True
    ) as main:
        try:
            assert main.stdout is not None
            assert main.stdout.read(3) == b"xxx"
            used = usage_of([main.pid])[main.pid]
            assert used.memory_bytes > 60_000_000
            assert (used.processes, used.threads) == (3, 3)
            assert 0 < used.cpu_ns < 60 * 10**9
        finally:
            os.killpg(main.pid, signal.SIGKILL)


def test_a_figure_does_not_depend_on_what_others_ask() -> None:
    """The clock and /proc are real; what is measured is a process that has never run since it slept."""
    with subprocess.Popen(["sleep", "60"]) as idle, subprocess.Popen(["sleep", "60"]) as other:
        key = idle.pid, usage._stat(idle.pid).born  # type: ignore[union-attr]
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        worked = usage._stat(idle.pid).seconds  # type: ignore[union-attr]
        # As if it had worked for two seconds, and had been asked for three and 1.5 seconds ago.
        samples = usage._Sample(now - 3, worked), usage._Sample(now - 1.5, worked)
        usage._samples[key] = samples
        try:
            assert usage_of([idle.pid])[idle.pid].cpu_percent == 0.0
            usage_of([other.pid])
            assert usage_of([idle.pid])[idle.pid].cpu_percent == 0.0
            assert key in usage._samples
        finally:
            idle.kill()
            other.kill()
    usage_of([])
    assert key not in usage._samples


@pytest.mark.parametrize(
    ("held", "wanted", "conflicts"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.1", False),
        ("0.0.0.0", "127.0.0.1", True),
        ("127.0.0.2", "0.0.0.0", True),
        ("::", "127.0.0.1", True),
        ("127.0.0.2", "::", True),
        ("::1", "127.0.0.1", False),
        ("::1", "0.0.0.0", False),
        ("127.0.0.1", "::1", False),
        ("::1", "::", True),
        ("127.0.0.2", "localhost", True),
    ],
)
def test_only_who_really_conflicts_is_said_to_hold_an_address(
    held: str, wanted: str, *, conflicts: bool
) -> None:
    family = socket.AF_INET6 if ":" in held else socket.AF_INET
    with socket.create_server((held, 0), family=family) as other:
        template = SocketTemplate(InternetAddress(wanted, other.getsockname()[1]))
        assert holder_of(template).endswith(f"(pid {os.getpid()})") == conflicts


def test_sockets_of_ipv6_alone_and_of_files_are_in_nobody_elses_way() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert holder_of(SocketTemplate(InternetAddress("::", port), ipv6_only=True)) == ""
        assert holder_of(SocketTemplate(InternetAddress("127.0.0.1", port), "dgram")) == ""


def test_a_clients_connection_is_said_to_hold_the_port_that_it_was_given() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.connect(server.getsockname())
        template = SocketTemplate(InternetAddress("127.0.0.1", client.getsockname()[1]))
        accepted, _ = server.accept()
        # Also when both have gone: TIME_WAIT is at the side of the one who has hung up first.
        client.close()
        assert accepted.recv(1) == b""
        accepted.close()
        assert holder_of(template).startswith("the connection of a client that was given this port")
