"""What happens to the daemon, row by row: it is killed, stopped, started twice, lied to, and the clock jumps.

"The daemon" is the keeper and its controller together; killing only the controller is the scenario of
`test_scenarios_kills`. Names are the rows of docs/reliability.md.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler import Client
from reconciler.cli.errors import TimedOut
from tests.conftest import require_program
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
    assert "web  started, or taken over where it still runs" in planned


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


def watcher(it: Stage, name: str) -> dict[str, Any]:
    """Return one watcher as `status` shows it; asked over the socket, as a command costs too much to repeat."""
    with Client(runtime_dir=str(it.runtime_dir)) as client:
        found: Any = client.call("status", names=[name])["watchers"]
    return found[0]


def pids(it: Stage, name: str) -> dict[int, int]:
    """Return the live pids of a watcher by slot."""
    return {each["slot"]: each["pid"] for each in watcher(it, name)["slots"] if each["pid"]}


def slot(it: Stage, name: str) -> dict[str, Any]:
    """Return the first slot of a watcher as `status` shows it."""
    slots: list[dict[str, Any]] = watcher(it, name)["slots"]
    return slots[0]


@pytest.fixture(scope="module")
def it() -> Iterator[Stage]:
    with stage(SPEC) as it:
        it.run("up", "-d", "--no-wait", str(it.specs))
        until(lambda: len(pids(it, "web")) == 4 and (it.specs / "slow-runs").exists())
        until(lambda: watcher(it, "job")["state"] == "Completed")
        yield it


def test_d01_workers_live_on_when_the_daemon_is_killed(it: Stage) -> None:
    before = {pid: born_ticks(pid) for pid in pids(it, "web").values()}
    kill_daemon(it)
    assert {pid: born_ticks(pid) for pid in live(it, "sleep 1000")} == before
    start_again(it)


def test_d02_the_next_daemon_adopts_them_and_starts_no_doubles(it: Stage) -> None:
    before = {name: pids(it, name) for name in ("web", "logger", "quick", "slow")}
    kill_daemon(it)
    start_again(it)
    assert {name: pids(it, name) for name in before} == before
    assert live(it, "sleep 1000") == set(before["web"].values())
    told = it.run("events").stdout
    assert "took over 7 processes that a former manager left" in told


def test_d03_an_exit_while_the_daemon_is_dead_is_never_taken_for_a_good_one(it: Stage) -> None:
    """Only a parent is told a status. The keeper's death loses it, the controller's does not."""
    (_, controller), before = daemon_of(it), pids(it, "quick")[1]
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
    before = pids(it, "logger")
    kill_daemon(it)
    at = int(count.read_text())
    until(lambda: int(count.read_text()) > at + 50)
    start_again(it)
    assert pids(it, "logger") == before
    at = int(count.read_text())
    until(lambda: len(it.log("logger").splitlines()) > at)
    numbers = [int(line) for line in it.log("logger").splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_d06_an_upgrade_touches_no_worker(it: Stage) -> None:
    before = {name: pids(it, name) for name in ("web", "logger", "slow")}
    keeper, controller = daemon_of(it)
    said = it.run("upgrade").stdout
    assert f"kept keeper pid {keeper} and all processes" in said
    after = daemon_of(it)
    assert (after[0], after[1] != controller) == (keeper, True)
    assert {name: pids(it, name) for name in before} == before


def test_d06_a_daemon_that_leaves_touches_no_worker(it: Stage) -> None:
    before = {name: pids(it, name) for name in ("web", "logger", "slow")}
    it.edit("watchers:", "daemon: {on_exit: leave}\nwatchers:")
    until(lambda: it.status()["revision"] == 2)
    it.run("shutdown")
    assert live(it, "sleep 1000") == set(before["web"].values())
    start_again(it)
    assert {name: pids(it, name) for name in before} == before
    it.edit("daemon: {on_exit: leave}\n", "")
    until(lambda: it.status()["revision"] == 3)


def test_d14_a_finished_job_is_not_run_a_second_time(it: Stage) -> None:
    kill_daemon(it)
    start_again(it)
    until(lambda: watcher(it, "job")["state"] == "Completed")
    assert (it.specs / "runs").read_text() == "ran\n"


def test_d14_a_job_that_still_runs_is_followed_to_its_end(it: Stage) -> None:
    before = pids(it, "slow")
    kill_daemon(it)
    start_again(it)
    assert pids(it, "slow") == before
    (it.specs / "slow-may-end").touch()
    until(lambda: watcher(it, "slow")["state"] in {"Completed", "Failed"})
    assert (it.specs / "slow-runs").read_text() == "ran\n"
    assert watcher(it, "slow")["state"] == "Completed", it.run("events", "slow").stdout


def test_d07_after_each_death_amid_an_edit_the_right_number_runs(it: Stage) -> None:
    seed = int(os.environ.get("RECONCILE_SEED", "7"))
    print(f"RECONCILE_SEED={seed}")
    rng = random.Random(seed)
    number = 4
    for _ in range(2):
        before, number = number, rng.choice([n for n in range(1, 7) if n != number])
        it.edit(f"numprocesses: {before}", f"numprocesses: {number}")
        select.select(
            (), (), (), rng.uniform(0.4, 0.8)
        )  # the quiet period is over at half a second
        kill_daemon(it)
        start_again(it)
        until(lambda n=number: len(pids(it, "web")) == n and watcher(it, "web")["ready"] == n)
        assert live(it, "sleep 1000") == set(pids(it, "web").values())
    it.edit(f"numprocesses: {number}", "numprocesses: 4")
    until(lambda: len(pids(it, "web")) == 4 and len(live(it, "sleep 1000")) == 4)


def test_d09_a_stopped_daemon_harms_nobody_and_answers_when_it_goes_on(it: Stage) -> None:
    before, daemon = pids(it, "web"), daemon_of(it)
    kill(daemon, signal.SIGSTOP)
    with Client(runtime_dir=str(it.runtime_dir), timeout=0.5) as client, pytest.raises(TimedOut):
        client.status()
    assert live(it, "sleep 1000") == set(before.values())
    kill(daemon, signal.SIGCONT)
    began = time.monotonic()
    with Client(runtime_dir=str(it.runtime_dir), timeout=5) as client:
        assert client.status().keeper_pid == daemon[0]
    assert time.monotonic() - began < 1
    assert (pids(it, "web"), daemon_of(it)[0]) == (before, daemon[0])


def test_d10_a_second_daemon_is_refused_and_told_of_the_first(it: Stage) -> None:
    before, (keeper, _) = pids(it, "web"), daemon_of(it)
    for command in ("up", "run"):
        said = it.run(command, *(["-d"] if command == "up" else []), str(it.specs), code=1).stderr
        assert "already running, started by" in said
        assert f"pid {keeper}" in said
    assert (pids(it, "web"), daemon_of(it)[0]) == (before, keeper)


def test_d11_files_of_a_dead_daemon_are_in_nobodys_way(it: Stage) -> None:
    workers = it.marked()
    kill_daemon(it)
    kill([pid for pid in workers if is_alive(pid)])
    assert (it.runtime_dir / "control.sock").is_socket()
    start_again(it)
    until(lambda: len(pids(it, "web")) == 4)
    assert len(live(it, "sleep 1000")) == 4


def test_d12_the_pid_in_a_lock_may_be_an_innocents_by_now(it: Stage) -> None:
    before = pids(it, "web")
    kill_daemon(it)
    with subprocess.Popen(["sleep", "60"]) as innocent:
        for lock in (it.runtime_dir / "keeper.lock", it.state_dir / "keeper.lock"):
            lock.write_text(f"{innocent.pid} {os.getuid()}\n")
        start_again(it)
        assert pids(it, "web") == before
        assert innocent.poll() is None
        innocent.kill()


def test_d13_a_pid_that_was_given_anew_is_neither_adopted_nor_signalled(it: Stage) -> None:
    before = pids(it, "web")
    kill_daemon(it)
    kill([before[1]])
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as innocent:
        _give_anew(it.state_dir / "keeper.journal", before[1], innocent.pid)
        start_again(it)
        until(lambda: pids(it, "web").get(1) not in {None, before[1]})
        after = pids(it, "web")
        assert innocent.pid not in after.values()
        assert {**after, 1: 0} == {**before, 1: 0}
        assert len(live(it, "sleep 1000")) == 4
        it.run("restart", "web.1")
        assert innocent.poll() is None
        innocent.kill()


def _give_anew(journal: Path, old: int, new: int) -> None:
    """Let the journal say that the process had another's pid: as if its own was that one's by now."""
    lines = []
    for line in journal.read_bytes().splitlines():
        data = line.partition(b" ")[2].replace(b'"pid":%d,' % old, b'"pid":%d,' % new)
        lines.append(b"%08x %b\n" % (zlib.crc32(data), data))
    journal.write_bytes(b"".join(lines))


def test_d15_a_death_amid_a_restart_leaves_the_right_number(it: Stage) -> None:
    before = set(pids(it, "web").values())
    it.run("restart", "web", "--no-wait")
    until(lambda: 0 < len(set(pids(it, "web").values()) - before) < 4)
    kill_daemon(it)
    assert 3 <= len(live(it, "sleep 1000")) <= 4
    start_again(it)
    # One look for both: between two the last of the former four may end before its successor is there.
    until(lambda: len({*pids(it, "web").values()} - before) == 4)
    assert live(it, "sleep 1000") == set(pids(it, "web").values())


def test_d05_a_terminated_daemon_leaves_nothing(it: Stage) -> None:
    keeper, _ = daemon_of(it)
    os.kill(keeper, signal.SIGTERM)
    until(lambda: not is_alive(keeper) and not it.marked(), within_s=10)


def test_d08_a_daemon_that_dies_at_birth_leaves_no_orphans() -> None:
    seed = int(os.environ.get("RECONCILE_SEED", "8"))
    print(f"RECONCILE_SEED={seed}")
    rng = random.Random(seed)
    spec = "watchers: {web: {cmd: sleep 1000, numprocesses: 6, stop: {timeout: 2s}}}"
    with stage(spec) as it:
        for _ in range(4):
            it.run("up", "-d", "--no-wait", str(it.specs))
            keeper = int((it.state_dir / "keeper.lock").read_text().split()[0])
            select.select((), (), (), rng.uniform(0, 0.4))
            kill([keeper])
        start_again(it)
        until(lambda: watcher(it, "web")["ready"] == 6)
        assert live(it, "sleep 1000") == set(pids(it, "web").values())
        assert len(pids(it, "web")) == 6


SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (clock == CLOCK_REALTIME && getenv("JUMP_FILE")) {
        long jump = 0;
        FILE *file = fopen(getenv("JUMP_FILE"), "re");
        if (file) { if (fscanf(file, "%ld", &jump) != 1) jump = 0; fclose(file); }
        now->tv_sec += jump;
    }
    return result;
}
"""
DAY_S = 86400


def test_d16_a_jump_of_the_wall_clock_restarts_nothing(tmp_path: Path) -> None:
    compiler = require_program("cc", "apt install gcc")
    (tmp_path / "shim.c").write_text(SHIM)
    shim, jump = tmp_path / "shim.so", tmp_path / "jump"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", shim, tmp_path / "shim.c", "-ldl"], check=True
    )
    jump.write_text("0")
    spec = "watchers: {web: {cmd: sleep 1000, numprocesses: 2, max_age: 1h}}"
    with stage(spec, LD_PRELOAD=str(shim), JUMP_FILE=str(jump)) as it:
        it.run("up", "-d", "--no-wait", str(it.specs))
        until(lambda: len(pids(it, "web")) == 2)
        for days in (1, -2):
            before = pids(it, "web")
            jump.write_text(str(days * DAY_S))
            os.kill(before[1], signal.SIGKILL)
            until(lambda pid=before[1]: pids(it, "web").get(1) not in {None, pid}, within_s=6)
            assert pids(it, "web")[2] == before[2]
            newest = json.loads(it.run("events", "-o", "json").stdout.splitlines()[-1])
            told_s = newest["time_ns"] / 1e9 - shim.stat().st_mtime
            assert abs(told_s - days * DAY_S) < 600
