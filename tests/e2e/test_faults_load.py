"""Faults of load: the rows L of the table in docs/reliability.md, one test each, on one running instance."""

from __future__ import annotations

import os
import random
import select
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reconciler import Client
from tests.e2e.asking import Asking
from tests.e2e.stage import Stage, command_of, descendants, is_alive, stage, until

pytestmark = pytest.mark.e2e

IDLE_S = 4.0
SPEC = """\
watchers:
  fought: {cmd: sleep 3001, numprocesses: 3, stop: {timeout: 500ms}}
  mortal: {cmd: sleep 3002, backoff: {burst: 1000}}
  quiet: {cmd: sleep 3003, numprocesses: 20}
"""


@pytest.fixture(scope="module")
def it() -> Iterator[Stage]:
    with stage(SPEC) as it:
        it.up()
        yield it


@pytest.fixture(scope="module")
def ask(it: Stage) -> Asking:
    return Asking(it)


def sleepers(it: Stage, seconds: int) -> set[int]:
    """Return who sleeps so long below the keeper, as /proc tells it."""
    assert it.foreground is not None
    found = set()
    for pid in descendants(it.foreground.pid):
        try:
            if command_of(pid) == ["sleep", str(seconds)] and is_alive(pid):
                found.add(pid)
        except OSError:
            continue
    return found


def test_l01_thirty_who_want_different_things_at_once_end_with_the_last_word(
    it: Stage, ask: Asking
) -> None:
    seed = int(os.environ.get("RECONCILE_SEED", "1"))
    words = random.Random(seed).choices(("start", "stop", "restart"), k=30)
    print(f"RECONCILE_SEED={seed}", words)

    def say(word: str) -> None:
        with Client(runtime_dir=str(it.runtime_dir)) as client:
            client.call(word, names=["fought"])

    with ThreadPoolExecutor(30) as people:
        list(people.map(say, words))
    ask.call("start", "fought")
    until(lambda: ask.watcher("fought")["as_desired"], "as desired again", within_s=10)
    assert sleepers(it, 3001) == set(ask.running("fought", 3).values())


def test_l02_status_never_takes_a_dead_process_for_a_running_one(it: Stage, ask: Asking) -> None:
    for _ in range(10):
        (pid,) = until(lambda: sleepers(it, 3002), "it runs")
        os.kill(pid, signal.SIGKILL)
        until(lambda: not is_alive(pid), "it is dead")  # noqa: B023
        # Not even as fast as anybody could look, which the row gives 50 ms.
        select.select([], [], [], 0.05)
        slot = ask.slot("mortal")
        assert slot["pid"] != pid
        assert slot["pid"] is None or is_alive(slot["pid"])
        until(lambda: sleepers(it, 3002) - {pid}, "another runs")  # noqa: B023


def test_l03_with_nothing_to_do_the_manager_does_nothing(it: Stage, ask: Asking) -> None:
    until(lambda: ask.status()["settled"], "all is as desired")
    status = ask.status()
    ask.client.close()
    programs = [status["keeper_pid"], status["controller_pid"]]

    def used_ns() -> int:
        """Return the processor time of both, of all their threads: sched_debug's first number, in ns."""
        tasks = [task for pid in programs for task in Path(f"/proc/{pid}/task").iterdir()]
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)

    before = used_ns()
    select.select([], [], [], IDLE_S)
    used_s = (used_ns() - before) / 1e9
    assert used_s < 0.005 * IDLE_S, f"{used_s / IDLE_S:.2%} of a core"
