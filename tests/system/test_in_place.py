"""Claims about a process that goes on as another program, without execve(2)."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

BEGINS = """
import os, signal, sys
from reconciler.system import in_place
"""


def said(program: str, redirected: str = "") -> tuple[int, str, str]:
    """Return how a program ends and what it says that is started by a shell with some descriptor closed."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {redirected}', sys.executable, BEGINS + program],
        capture_output=True,
        text=True,
        check=False,
        # Where the tests run in the background of a shell, they and all that they start ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("changes", ["parent", "child"])
def test_ctrl_c_that_comes_with_the_fork_ends_who_changes_without_a_word(changes: str) -> None:
    program = f"""
fork = os.fork
def interrupted():  # a key that is pressed just now reaches both
    pid = fork()
    os.kill(os.getpid(), signal.SIGINT)
    return pid
os.fork, before = interrupted, os.getpid()
try:
    in_place.fork(changes={changes!r})
except KeyboardInterrupt:
    print("heard by", "child" if os.getpid() != before else "parent", flush=True)
    if os.getpid() == before:
        assert os.WTERMSIG(os.wait()[1]) == signal.SIGINT
"""
    code = -signal.SIGINT if changes == "parent" else 0
    heard = "child" if changes == "parent" else "parent"
    assert said(program) == (code, f"heard by {heard}\n", "")


def test_who_ignores_ctrl_c_does_so_after_the_fork() -> None:
    program = """
signal.signal(signal.SIGINT, signal.SIG_IGN)
if in_place.fork(changes="child") == 0:
    os.kill(os.getpid(), signal.SIGINT)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    assert said(program) == (0, "7\n", "")


@pytest.mark.parametrize(
    "end",
    [
        "return 7",
        "sys.stdout = None; return 7",
        "sys.stdout = open('/dev/full', 'w'); sys.stdout.write('lost'); return 7",
    ],
)
def test_who_lives_never_comes_back_whatever_its_streams_are(end: str) -> None:
    program = f"""
def run():
    {end}
if os.fork() == 0:
    try:
        in_place.live(run)
    finally:
        print("came back", flush=True)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    assert said(program) == (0, "7\n", "")


@pytest.mark.parametrize("fd", [0, 1, 2])
def test_a_program_has_its_streams_where_they_were_closed_at_the_start(fd: int) -> None:
    program = """
import types
sys.modules["shows"] = types.ModuleType("shows")
shows = sys.modules["shows.__main__"] = types.ModuleType("shows.__main__")
def main(argv):
    return sum(each is not None for each in (sys.stdin, sys.stdout, sys.stderr))
shows.main = main
in_place.stand()
assert os.pipe()[0] > 2
os._exit(in_place.begin(["python", "-I", "-m", "shows"]))
"""
    assert said(program, f"{fd}>&-") == (3, "", "")
