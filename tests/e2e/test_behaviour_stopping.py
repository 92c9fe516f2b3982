"""Ends: children that escape are killed with their process, and PID 1 reaps strangers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.stage import PATIENCE_S, RECONCILE, Stage, is_alive, stage, until

pytestmark = pytest.mark.e2e

ESCAPING = """\
import os, signal, sys, time

def child(what):
    if os.fork() == 0:
        what()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with open("children", "a") as file:
            file.write(f"{os.getpid()}\\n")
        time.sleep(1000)

def orphan():
    os.setsid()
    if os.fork():
        os._exit(0)

child(lambda: None)
child(os.setsid)
child(lambda: os.setpgid(0, 0))
child(orphan)
time.sleep(1000)
"""
SPEC = f"""\
watchers:
  parent:
    cmd: {sys.executable} escaping.py
    stop: {{timeout: 500ms}}
  quiet:
    cmd: sleep 1001
"""


@pytest.fixture(params=["stop", "shutdown"])
def how(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def children(it: Stage) -> list[int]:
    file = it.specs / "children"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def test_children_that_escape_and_ignore_term_are_killed(how: str) -> None:
    with stage(SPEC) as it:
        (it.specs / "escaping.py").write_text(ESCAPING)
        it.up()
        born = until(lambda: (found := children(it)) and len(found) == 4 and found, "four children")
        quiet = it.pids("quiet")[1]
        assert all(map(is_alive, born))
        if how == "stop":
            it.run("stop", "parent")
            until(lambda: not any(map(is_alive, born)), "nothing is left")
            assert it.pids("quiet") == {1: quiet}
        else:
            it.run("shutdown")
            assert not any(map(is_alive, [*born, quiet]))


def test_what_had_to_be_killed_shows_in_the_exit_code_of_up() -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(1000)"
    spec = f"""\
watchers:
  deaf:
    cmd: ['{sys.executable}', -c, '{deaf}']
    stop: {{timeout: 300ms}}
"""
    with stage(spec) as it:
        it.up()
        until(lambda: it.log("deaf"), "it is deaf now")
        assert it.end(signal.SIGTERM) == 1


def pid_namespace() -> list[str]:
    """Return what runs a command as PID 1; skips the test where that cannot be."""
    unshare = shutil.which("unshare")
    if os.geteuid() != 0 or unshare is None:
        pytest.skip("a PID namespace takes root and unshare; try: sudo make test")
    space = [unshare, "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*space, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this kernel gives no PID namespace; try outside of a container")
    return space


def test_a_container_ends_with_the_code_of_the_one_that_fails() -> None:
    spec = """
daemon: {on_exit: leave}
watchers:
  app: {cmd: sh -c 'read _ < go; exit 7', on_failure: shutdown}
  proxy: {cmd: sleep 2003, on_failure: shutdown}
  metrics: {cmd: sleep 2004}
"""
    with stage(spec) as it:
        os.mkfifo(it.specs / "go")
        run = [*pid_namespace(), RECONCILE, "run", str(it.specs)]
        with it.output.open("wb") as output:
            outside = subprocess.Popen(
                run, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=it.environ
            )
        try:
            (it.specs / "go").write_text("go\n")
            assert outside.wait(PATIENCE_S) == 7, it.output.read_text()
            assert (
                "app.1 has ended (exit 7) and its on_failure is shutdown" in it.output.read_text()
            )
        finally:
            outside.kill()
            outside.wait(PATIENCE_S)


def test_pid_1_reaps_strangers_and_ends_with_its_exit_code() -> None:
    space = pid_namespace()
    # A child that outlives its parent becomes a child of PID 1, which nobody told it of.
    strangers = "while :; do (sh -c 'exec sleep 0.02' &) ; sleep 0.05; done"
    spec = f'watchers:\n  maker:\n    cmd: "{strangers}"\n    shell: true\n'
    with stage(spec) as it:
        with it.output.open("wb") as output:
            outside = it.foreground = subprocess.Popen(
                [*space, RECONCILE, "up", str(it.specs)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=it.environ,
                start_new_session=True,
            )
        try:
            until(it.answers, "the manager answers", show=it.output.read_text)
            it.settle()
            first = children_of(outside.pid)[0]
            seen: set[int] = set()
            until(lambda: seen.update(children_of(first)) or len(seen) > 12, "strangers")
            until(lambda: not zombies(first), "no zombie stays", within_s=5)
            os.kill(first, signal.SIGTERM)
            assert outside.wait(PATIENCE_S) == 0, it.output.read_text()
        finally:
            # Its processes are known by other numbers in there, so the stage cannot end them.
            outside.kill()  # and with it, by --kill-child, the first process and so the namespace
            outside.wait(PATIENCE_S)


def children_of(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(each) for thread in threads for each in thread.read_text().split()]


def zombies(parent: int) -> list[int]:
    found = []
    for pid in children_of(parent):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        found += [pid] if state == "Z" else []
    return found
