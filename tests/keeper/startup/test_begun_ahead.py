"""Claims about a keeper that is begun ahead and waits for its configuration."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.keeper.rig import until

AHEAD = """
import os, signal, sys
heard, orders = os.pipe()
command = os.fork()
if command == 0:
    os.close(heard)
    exec(sys.argv[1])
    os._exit(0)
os.close(orders)
os.set_inheritable(heard, True)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
os.execv(sys.executable, [sys.executable, "-I", "-m", "reconciler.keeper", "--await", f"{command},{heard}"])
"""


def ahead(command: str) -> subprocess.Popen[str]:
    """Return a keeper that waits for what a child of its own, which runs `command`, has to say."""
    return subprocess.Popen(
        [sys.executable, "-c", AHEAD, command], stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    ("command", "code"),
    [("os._exit(7)", 7), ("os.kill(os.getpid(), 9)", 137), ("os.close(orders); os._exit(0)", 0)],
)
def test_it_ends_as_a_command_that_gives_no_orders(command: str, code: int) -> None:
    keeper = ahead(command)
    assert keeper.communicate() == (None, "")
    assert keeper.returncode == code


@pytest.mark.parametrize("word", ["ends", "stays"])
def test_what_it_is_told_is_its_configuration(word: str) -> None:
    keeper = ahead(f"os.write(orders, b'{word} nonsense')")
    assert "cannot read the configuration of the keeper" in keeper.communicate()[1]
    assert keeper.returncode == 1


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM])
def test_while_it_waits_a_signal_ends_it_without_a_word(number: signal.Signals) -> None:
    keeper = ahead("signal.pause()")
    until(lambda: b"\0--await\0" in Path("/proc", str(keeper.pid), "cmdline").read_bytes())
    children = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children")
    (command,) = map(int, children.read_text().split())
    try:
        keeper.send_signal(number)
        assert keeper.wait() == -number
    finally:
        os.kill(command, signal.SIGKILL)
        assert keeper.stderr is not None
        assert keeper.stderr.read() == ""
        keeper.stderr.close()
