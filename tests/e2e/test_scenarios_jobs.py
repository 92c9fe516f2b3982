"""Scenario 3: a rerun of a job fires the slots that do not run, names those that do, and blocks nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.e2e.stage import RECONCILE, ROOT, Stage, born_ticks, is_alive, stage, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

EXAMPLE = ROOT / "examples/03-rerun-what-is-missing"


def states(it: Stage) -> list[str]:
    return [slot["state"] for slot in it.watcher("import")["slots"]]


def starts(it: Stage) -> list[int]:
    return [it.log("import", slot).count("importing") for slot in (1, 2, 3)]


def with_slot_two_running(it: Stage) -> int:
    it.up(wait=False)
    until(it.answers, "the manager answers")
    until(
        lambda: states(it) == ["Completed", "Running", "Completed"],
        "slot 2 still runs",
        show=lambda: states(it),
    )
    return it.pids("import")[2]


def finish(it: Stage) -> None:
    with (it.specs / "parts/2.csv").open("a") as part:
        part.write("end\n")


def test_a_rerun_fires_exactly_the_missing_slots() -> None:
    with stage(EXAMPLE) as it:
        two = with_slot_two_running(it)
        began = time.monotonic()
        (result,) = json.loads(it.run("rerun", "import", "-o", "json").stdout)["results"]
        assert time.monotonic() - began < 5
        assert result["fired"] == [1, 3]
        assert [(each["slot"], each["pid"]) for each in result["running"]] == [(2, two)]
        until(lambda: starts(it) == [2, 1, 2], "two more runs", show=lambda: starts(it))
        until(lambda: states(it) == ["Completed", "Running", "Completed"], "done again")
        until(lambda: it.pids("import") == {2: two}, "the one that was fired has ended")

        said = it.run("rerun", "import").stdout
        assert "slot 2" in said or "import.2" in said
        assert str(two) in said
        until(lambda: starts(it) == [3, 1, 3], "two more runs", show=lambda: starts(it))
        until(lambda: states(it) == ["Completed", "Running", "Completed"], "done again")
        it.run("rerun", "import", "--require-all", code=3)
        until(lambda: starts(it) == [4, 1, 4], "each rerun is one run", show=lambda: starts(it))

        finish(it)
        until(lambda: states(it) == ["Completed"] * 3, "all done", show=lambda: states(it))
        assert not is_alive(two)
        assert it.settle()["settled"]
        # Slot 2 was passed over, not put off: nothing fires it now that it has ended.
        assert starts(it) == [4, 1, 4]
        assert "imported 1 rows in slot 2" in it.log("import", 2)
        (result,) = json.loads(it.run("rerun", "import", "-o", "json").stdout)["results"]
        assert (result["fired"], result["running"]) == ([1, 2, 3], [])


def test_a_slot_that_still_runs_delays_nobody() -> None:
    with stage(EXAMPLE) as it:
        two = with_slot_two_running(it)
        it.run("rerun", "import")
        ticker = it.pids("ticker")[1]
        os.kill(ticker, signal.SIGKILL)
        again = until(
            lambda: it.pids("ticker").get(1) not in {ticker, None} and it.pids("ticker")[1],
            "a new one",
        )
        assert born_ticks(again)
        it.edit("numprocesses: 3", "numprocesses: 4")
        (it.specs / "parts/4.csv").write_text("kiwi,9\nend\n")
        until(lambda: "imported 1 rows in slot 4" in it.log("import", 4), "the edit is applied")
        until(lambda: it.pids("import") == {2: two}, "the one that was fired has ended")


def test_nothing_is_fired_by_saving_the_same_again_or_by_a_new_controller() -> None:
    with stage(EXAMPLE) as it:
        finish(it)
        it.up()
        assert starts(it) == [1, 1, 1]
        it.write(it.spec.read_text() + "# a comment\n")
        it.run("apply", "--yes")
        os.kill(it.status()["controller_pid"], signal.SIGKILL)
        it.settle()
        it.run("start", "*")
        it.run("restart", "*")
        assert starts(it) == [1, 1, 1]
        assert states(it) == ["Completed"] * 3


def test_a_hook_that_asks_for_the_end_is_not_waited_for_and_gives_the_exit_code(
    tmp_path: Path,
) -> None:
    (tmp_path / "reconcile.yaml").write_text(
        f"""
watchers:
  db: {{cmd: sleep 771}}
  train:
    cmd: sh -c "exit 7"
    restart: never
    inherit_env: true
    hooks:
      after_complete:
        cmd: sh -c "exec {RECONCILE} --runtime-dir {tmp_path}/run shutdown --exit-code $$RECONCILE_HOOK_EXIT_CODE"
        timeout: 30s
"""
    )
    begun = time.monotonic()
    done = subprocess.run(
        [RECONCILE, "--runtime-dir", tmp_path / "run", "--state-dir", tmp_path / "state", "up"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, time.monotonic() - begun < 15) == (7, True), done.stdout + done.stderr
