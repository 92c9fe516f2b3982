"""What happens to the daemon, row by row: it is killed, stopped, started twice, lied to, and the clock jumps.

"The daemon" is the keeper and its controller together; killing only the controller is the scenario of
`test_scenarios_kills`. Names are the rows of docs/reliability.md.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.stage import Stage, born_ticks, command_of, is_alive, stage, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SPEC = """
watchers:
  web:
    cmd: sleep 1000
    numprocesses: 4
    stop: {timeout: 2s}
  logger:
    shell: true
    cmd: >-
      i=0; while :; do i=$((i+1)); echo $i; echo $i > count.tmp; mv count.tmp count; sleep 0.005; done
  quick:
    cmd: [sh, -c, "while [ ! -e exit-now ]; do sleep 0.02; done; rm exit-now; exit 173"]
    backoff: {burst: 0, initial: 1h, max: 1h, reset_after: 1h}
  job:
    cmd: [sh, -c, "echo ran >> runs; exit 0"]
    restart: never
  slow:
    cmd: [sh, -c, "echo ran >> slow-runs; while [ ! -e slow-may-end ]; do sleep 0.02; done; exit 0"]
    restart: never
"""


def daemon_of(it: Stage) -> list[int]:
    """Return the pids of the keeper and of its controller."""
    status = it.status()
    return [status["keeper_pid"], status["controller_pid"]]


def kill(pids: list[int], number: int = signal.SIGKILL) -> None:
    """Signal processes, and wait until they are gone if that is what it does."""
    for pid in pids:
        os.kill(pid, number)
    if number == signal.SIGKILL:
        until(lambda: not any(map(is_alive, pids)), "the daemon is gone")


def kill_daemon(it: Stage) -> None:
    """Kill keeper and controller together."""
    kill(daemon_of(it))
    if it.foreground is not None:
        it.foreground.wait(10)


def start_again(it: Stage) -> None:
    """Start the next daemon with `apply`, and wait until it answers."""
    planned = it.run("apply", str(it.specs), "--no-wait").stdout
    assert "web  create: started, or taken over where it still runs" in planned


def live(it: Stage, command: str) -> set[int]:
    """Return the live processes of the instance with this command, as /proc knows them."""
    found = set()
    for pid in it.marked():
        try:
            if command in " ".join(command_of(pid)):
                found.add(pid)
        except OSError:
            continue
    return found


def slot(it: Stage, name: str) -> dict[str, Any]:
    slots: list[dict[str, Any]] = it.watcher(name)["slots"]
    return slots[0]


@pytest.fixture(scope="module")
def it() -> Iterator[Stage]:
    with stage(SPEC) as it:
        it.run("up", "-d", "--no-wait", str(it.specs))
        until(lambda: len(it.pids("web")) == 4 and (it.specs / "slow-runs").exists())
        until(lambda: it.watcher("job")["state"] == "Completed")
        yield it


def test_d01_workers_live_on_when_the_daemon_is_killed(it: Stage) -> None:
    before = {pid: born_ticks(pid) for pid in it.pids("web").values()}
    kill_daemon(it)
    assert {pid: born_ticks(pid) for pid in live(it, "sleep 1000")} == before
    start_again(it)


def test_d02_the_next_daemon_adopts_them_and_starts_no_doubles(it: Stage) -> None:
    before = {name: it.pids(name) for name in ("web", "logger", "slow")}
    kill_daemon(it)
    start_again(it)
    assert {name: it.pids(name) for name in before} == before
    assert live(it, "sleep 1000") == set(before["web"].values())
    told = it.run("events").stdout
    assert "took over 7 processes that a former manager left" in told


def test_d03_an_exit_while_the_daemon_is_dead_is_never_taken_for_a_good_one(it: Stage) -> None:
    """Only a parent is told a status. The keeper's death loses it, the controller's does not."""
    (_, controller), before = daemon_of(it), it.pids("quick")[1]
    os.kill(controller, signal.SIGSTOP)
    (it.specs / "exit-now").touch()
    until(lambda: not is_alive(before))
    kill([controller])
    until(lambda: slot(it, "quick")["state"] == "BackOff")
    assert slot(it, "quick")["exit"]["code"] == 173

    it.run("restart", "quick")
    kill_daemon(it)
    (before,) = live(it, "exit-now")
    (it.specs / "exit-now").touch()
    until(lambda: not is_alive(before))
    start_again(it)
    until(lambda: slot(it, "quick")["state"] == "BackOff")
    assert live(it, "exit-now") == set()
    # Unless init was slow to take the status away before the next daemon looked.
    assert slot(it, "quick")["exit"].get("code") in {None, 173}


def test_d04_no_line_is_lost_while_the_daemon_is_dead(it: Stage) -> None:
    count = it.specs / "count"
    before = it.pids("logger")
    kill_daemon(it)
    at = int(count.read_text())
    until(lambda: int(count.read_text()) > at + 50)
    start_again(it)
    assert it.pids("logger") == before
    at = int(count.read_text())
    until(lambda: len(it.log("logger").splitlines()) > at)
    numbers = [int(line) for line in it.log("logger").splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_d06_an_upgrade_touches_no_worker(it: Stage) -> None:
    before = {name: it.pids(name) for name in ("web", "logger", "slow")}
    keeper, controller = daemon_of(it)
    said = it.run("upgrade").stdout
    assert f"keeper pid {keeper} and all processes kept" in said
    after = daemon_of(it)
    assert (after[0], after[1] != controller) == (keeper, True)
    assert {name: it.pids(name) for name in before} == before


def test_d06_a_daemon_that_leaves_touches_no_worker(it: Stage) -> None:
    before = {name: it.pids(name) for name in ("web", "logger", "slow")}
    it.edit("watchers:", "daemon: {on_exit: leave}\nwatchers:")
    until(lambda: it.status()["revision"] == 2)
    it.run("shutdown")
    assert live(it, "sleep 1000") == set(before["web"].values())
    start_again(it)
    assert {name: it.pids(name) for name in before} == before
    it.edit("daemon: {on_exit: leave}\n", "")
    until(lambda: it.status()["revision"] == 3)


def test_d14_a_finished_job_is_not_run_a_second_time(it: Stage) -> None:
    kill_daemon(it)
    start_again(it)
    until(lambda: it.watcher("job")["state"] == "Completed")
    assert (it.specs / "runs").read_text() == "ran\n"


def test_d14_a_job_that_still_runs_is_followed_to_its_end(it: Stage) -> None:
    before = it.pids("slow")
    kill_daemon(it)
    start_again(it)
    assert it.pids("slow") == before
    (it.specs / "slow-may-end").touch()
    until(lambda: it.watcher("slow")["state"] in {"Completed", "Failed"})
    assert (it.specs / "slow-runs").read_text() == "ran\n"
    assert it.watcher("slow")["state"] == "Completed", it.run("events", "slow").stdout
