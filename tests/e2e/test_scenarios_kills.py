"""Scenario 5: the controller is killed ten times during edits, and nothing that it watches over suffers."""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time

import pytest

from tests.e2e.load import Client
from tests.e2e.stage import ROOT, command_of, descendants, free_port, is_alive, parent, stage, until

pytestmark = pytest.mark.e2e

EXAMPLE = ROOT / "examples/05-controller-killed"
KILLS = 10
STATUS_S = 4.0
"""Until a new controller answers on a machine where other tests run too; how fast it is elsewhere tells the bench."""


def running(keeper: int, script: str) -> set[int]:
    """Return the processes that run a script of the example, all of them at one moment.

    /proc is read one process after another: only what is there in two looks lived together in between. The keeper
    has started its own children only: a `python3` that is a shell script forks others of the same command line.
    """
    return _look(keeper, script) & _look(keeper, script)


def _look(keeper: int, script: str) -> set[int]:
    found = set()
    for pid in descendants(keeper):
        try:
            is_its_own = is_alive(pid) and parent(pid) == keeper
            if is_its_own and command_of(pid)[-1:] == [script]:
                found.add(pid)
        except OSError:
            continue
    return found


@pytest.mark.timeout(180)
def test_a_controller_that_is_killed_again_and_again_loses_nothing() -> None:
    seed = int(os.environ.get("RECONCILE_SEED", "5"))
    print(f"RECONCILE_SEED={seed}")
    rng = random.Random(seed)
    port = free_port()
    with stage(EXAMPLE) as it:
        it.edit(":8050", f":{port}")
        it.up()
        keeper = it.status()["keeper_pid"]
        web, counter = it.pids("web"), it.pids("counter")
        first = it.pids("pool")[1]
        client = Client(port)
        client.start()
        wanted = 2
        answered_after: list[float] = []
        try:
            for turn in range(KILLS):
                if turn % 2:
                    now = rng.choice([n for n in (1, 2, 3, 4) if n != wanted])
                    text = it.spec.read_text().replace(pool(wanted), pool(now))
                    it.write(text + f"# {turn}\n")
                    wanted = now
                else:
                    os.utime(it.specs / "mortal.py")
                # At a random moment of the reading, applying, starting and stopping that follows.
                threading.Event().wait(rng.uniform(0, 1.2))
                controller = controllers(keeper)
                os.kill(controller, signal.SIGKILL)
                began = time.monotonic()
                status = it.status()
                answered_after.append(time.monotonic() - began)
                assert status["controller_pid"] != controller
                assert status["keeper_pid"] == keeper
                # Never more than is wanted or was desired, whatever is under way.
                assert len(running(keeper, "pool.py")) <= 4
                assert running(keeper, "web.py") == set(web.values())
                assert len(running(keeper, "mortal.py")) <= 1
            until(
                lambda: len(it.pids("pool")) == wanted,
                f"{wanted} in the pool",
                show=lambda: it.pids("pool"),
            )
            it.settle()
        finally:
            client.over.set()
            client.join(30)
        # One answer in ten may have waited for the machine, on which other tests run too.
        answered_after.sort()
        assert answered_after[KILLS * 9 // 10 - 1] < STATUS_S, answered_after
        assert client.failed == []
        assert client.answered > 100

        # The same processes, and no second ones.
        assert (it.pids("web"), it.pids("counter")) == (web, counter)
        assert it.pids("pool")[1] == first
        for name in ("web", "pool", "counter", "mortal"):
            assert running(keeper, f"{name}.py") == set(it.pids(name).values()), name

        # Every exit status: each life of the mortal but the last ended with 7, and each was counted once.
        births = re.findall(r"born (\d+)", it.log("mortal"))
        assert len(births) == len(set(births)) == it.watcher("mortal")["restarts"] + 1
        assert births[-1] == str(it.pids("mortal")[1])
        assert len(births) > 2
        # Every line: no number is missing, none is there twice.
        numbers = [int(line) for line in it.log("counter").splitlines()]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) > 1000
        assert it.end() == 0


def pool(numprocesses: int) -> str:
    return f"cmd: python3 -u pool.py\n    numprocesses: {numprocesses}\n"


def controllers(keeper: int) -> int:
    """Return the pid of the controller, from /proc: it may be another one than status said."""
    return until(
        lambda: next(
            (
                p
                for p in descendants(keeper)
                if is_alive(p) and "reconciler.controller" in command_of(p)
            ),
            0,
        ),
        "a controller lives",
    )
