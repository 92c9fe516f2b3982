"""Output is shown from its first line to its last, whatever of ours is late, replaced or ending meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess

from tests.e2e.stage import RECONCILE, stage, until

LIFE = """
watchers:
  bad: {cmd: "sh -c 'echo \\"cannot connect to db:5432\\" >&2; exit 1'"}
  polite: {cmd: "sh -c 'trap \\"echo last words; exit\\" TERM; echo up; while :; do sleep 0.05; done'"}
  stubborn: {cmd: "sh -c 'trap \\"echo never\\" TERM; echo deaf; while :; do sleep 0.05; done'", stop: {timeout: 2s}}
"""
COUNTER = """
watchers:
  w: {cmd: "sh -c 'i=0; while :; do i=$$((i+1)); echo $$i; sleep 0.01; done'"}
"""


def test_up_shows_output_from_the_first_line_to_the_last_and_what_it_waits_for() -> None:
    with stage(LIFE) as it:
        it.up("--timeout", "600s", wait=False)
        shown = it.output.read_text
        # Long before everything is as desired, which it never will be.
        early = "waiting for bad: BackOff", "| cannot connect to db", "| up", "| deaf"
        until(lambda: all(text in shown() for text in early), show=shown)
        code = it.end(signal.SIGINT)
        said = shown()
        assert code == 1  # not everybody ended when asked
        assert said.count("| last words") == 1
        assert said.count("| never") == 1
        assert "stops everything in order; Ctrl-C again kills at once" in said
        assert "stopping, waiting for stubborn.1 (SIGKILL in " in said
        assert said.splitlines()[-1].endswith(": stopped; had to be killed: stubborn.1")


def test_a_follower_misses_nothing_while_the_controller_is_replaced() -> None:
    with stage(COUNTER) as it:
        it.run("up", "-d", str(it.specs))
        followed = it.folder / "followed"
        with followed.open("wb") as file:
            command = [RECONCILE, "logs", "-f", "-n", "1", "--no-prefix", "w"]
            follower = subprocess.Popen(command, stdout=file, env=it.environ, cwd=it.folder)
        for _ in range(2):
            size = until(lambda: followed.stat().st_size)
            os.kill(it.status()["controller_pid"], signal.SIGKILL)
            until(lambda size=size: followed.stat().st_size > size + 200)  # type: ignore[misc]  # bound now
        it.run("shutdown")
        assert follower.wait(10) == 0
        numbers = [int(line) for line in followed.read_text().split()]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert numbers[-1] == int(it.log("w").split()[-1])


def test_a_second_up_of_jobs_that_are_done_says_so() -> None:
    with stage("watchers: {first: {cmd: echo one, restart: never}}") as it:
        for _ in range(2):
            process = it.up(wait=False)
            assert process.wait(30) == 0
        said = it.output.read_text()
        assert said.count("| one") == 1
        assert "reconcile: all jobs are done" in said
        assert "reconcile: all jobs were done before (first: " in said
        assert "cannot show" not in said
