"""What happens to the state folder, row by row: cut, altered, taken away, full; and what is still told after it.

In all of it the same process of `web` lives on, and `once` is fired only when somebody says so. Names are the
rows of docs/reliability.md; every offset and bit is tried in tests/controller/state/test_recovery.py.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.asking import Asking
from tests.e2e.stage import Stage, is_alive, stage, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SPEC = """
watchers:
  web:
    cmd: sleep 1000
  crash:
    cmd: sleep 1000
  held:
    cmd: sleep 1000
  once:
    cmd: [sh, -c, "echo ran >> runs"]
    restart: never
"""


@pytest.fixture(scope="module")
def it() -> Iterator[Stage]:
    with stage(SPEC) as it:
        it.run("up", "-d", str(it.specs))
        it.run("stop", "held", "--reason", "disk")
        yield it


@pytest.fixture
def ask(it: Stage) -> Asking:
    return Asking(it)


def runs(it: Stage) -> int:
    return (it.specs / "runs").read_text().count("ran")


def controller(ask: Asking) -> int:
    return int(ask.status()["controller_pid"])


def next_controller(ask: Asking, former: int) -> dict[str, Any]:
    """Kill a controller and return the status that the next one gives."""
    os.kill(former, signal.SIGKILL)
    return until(
        lambda: (status := ask.status())["controller_pid"] != former and status, "the next one"
    )


@contextlib.contextmanager
def altering(it: Stage, pid: int) -> Iterator[sqlite3.Connection]:
    """Stop the controller while it writes nothing, and give its state to write."""
    with contextlib.closing(
        sqlite3.connect(it.state_dir / "state.db", isolation_level=None)
    ) as connection:
        # Before the signal: a transaction that is stopped in its middle would keep the lock.
        connection.execute("begin immediate")
        os.kill(pid, signal.SIGSTOP)
        yield connection
        connection.execute("commit")


def test_x03_a_log_of_the_state_that_is_cut_takes_nothing_with_it(it: Stage, ask: Asking) -> None:
    web, fired, former = ask.pid("web"), runs(it), controller(ask)
    os.kill(former, signal.SIGSTOP)
    os.truncate(it.state_dir / "state.db-wal", 0)
    assert next_controller(ask, former)["store_state"] == "good"
    assert (ask.watcher("held")["state"], ask.watcher("once")["state"]) == ("Held", "Completed")
    assert (ask.pid("web"), runs(it)) == (web, fired)


def test_x03_a_state_that_is_cut_fires_nothing_again(it: Stage, ask: Asking) -> None:
    web, fired, former = ask.pid("web"), runs(it), controller(ask)
    os.kill(former, signal.SIGSTOP)
    size = (it.state_dir / "state.db").stat().st_size
    os.truncate(it.state_dir / "state.db", size // 2)
    assert next_controller(ask, former)["store_state"] == "damaged"
    assert "store damaged: " in it.run("status", code=3).stdout
    assert ask.watcher("once")["state"] == "Unknown"
    assert (ask.pid("web"), runs(it)) == (web, fired)
    ask.call("rerun", "once")
    until(lambda: runs(it) == fired + 1)
    until(lambda: ask.watcher("once")["state"] == "Completed")
    ask.call("stop", "held", reason="disk")


def test_x04_an_altered_row_is_named_and_decides_nothing(it: Stage, ask: Asking) -> None:
    web, fired, former = ask.pid("web"), runs(it), controller(ask)
    with altering(it, former) as connection:
        connection.execute("update runs set run = replace(run, 'succeeded', 'succeedeD')")
        connection.execute("update intents set intent = replace(intent, 'stopped', 'started')")
    status = next_controller(ask, former)
    assert "row of table" in status["store_message"]
    assert {name: ask.watcher(name)["state"] for name in ("once", "held")} == {
        "once": "Unknown",
        "held": "Held",
    }
    assert (ask.pid("web"), runs(it)) == (web, fired)
    ask.call("rerun", "once")
    until(lambda: runs(it) == fired + 1)
    # Told once: the next controller finds everything in order.
    assert next_controller(ask, controller(ask))["store_state"] == "good"
    assert runs(it) == fired + 1


def test_x05_while_nothing_can_be_written_services_go_on_and_jobs_wait(
    it: Stage, ask: Asking
) -> None:
    web, fired, pid = ask.pid("web"), runs(it), controller(ask)
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))  # no file of its may grow: a full disk
    before = ask.pid("crash")
    os.kill(before, signal.SIGKILL)
    until(lambda: ask.pids("crash").get(1) not in {None, before}, "it is respawned")
    until(lambda: ask.status()["store_state"] == "failing", "status says why")
    ask.call("rerun", "once")
    assert ask.watcher("once")["state"] == "Starting"
    assert runs(it) == fired
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
    until(lambda: runs(it) == fired + 1, "the job is fired when its row can be written")
    until(lambda: ask.status()["store_state"] == "good")
    assert (ask.pid("web"), controller(ask)) == (web, pid)


def test_x06_a_state_of_a_newer_version_is_refused_and_nothing_is_touched(
    it: Stage, ask: Asking
) -> None:
    web, former = ask.pid("web"), controller(ask)
    log = it.state_dir / "reconcile.log"
    with altering(it, former) as connection:
        (version,) = connection.execute("pragma user_version").fetchone()
        (row,) = connection.execute("select value from meta where key = 'schema'").fetchall()
        connection.execute("pragma user_version = 99")
        connection.execute("update meta set value = '99' where key = 'schema'")
    os.kill(former, signal.SIGKILL)
    until(lambda: "written by a newer version of reconcile (state version 99" in log.read_text())
    assert is_alive(web)
    with sqlite3.connect(it.state_dir / "state.db") as connection:
        connection.execute(f"pragma user_version = {version}")
        connection.execute("update meta set value = ? where key = 'schema'", row)
    until(lambda: it.watcher("web")["as_desired"])
    assert Asking(it).pid("web") == web


def test_events_go_on_where_one_stopped_whatever_was_killed(it: Stage, ask: Asking) -> None:
    ask.call("signal", "web", signal="CONT")
    last = ask.events(lambda event: event["type"] == "operator.signal")[-1]["seq"]
    ask.call("signal", "web", signal="WINCH")
    # A tenth of a second after it was told it is on the disk.
    path = it.state_dir / "state.db"
    until(lambda: b"sent SIGWINCH to 1 process" in path.read_bytes() + _log_of(path))
    next_controller(ask, controller(ask))
    ask.call("signal", "web", signal="CONT")
    told = it.run("events", "--since", str(last)).stdout.splitlines()
    signals = [line for line in told if "operator.signal" in line]
    assert ["WINCH" in line for line in signals] == [True, False]
    numbers = [int(line.split()[0]) for line in told]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == last + 1


def _log_of(path: os.PathLike[str]) -> bytes:
    with open(f"{path}-wal", "rb") as file:
        return file.read()
