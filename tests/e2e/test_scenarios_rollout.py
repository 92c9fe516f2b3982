"""A rolling deploy under load: no request fails, whatever is killed; a version that hangs replaces nobody."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.conftest import require_program
from tests.e2e.stage import ROOT, free_port, stage, until
from tests.e2e.test_scenarios_servers import Load

if TYPE_CHECKING:
    from tests.e2e.stage import Stage

pytestmark = pytest.mark.e2e

EXAMPLE = ROOT / "examples/08-rolling-deploy"


@pytest.mark.parametrize("rollout", ["{max_surge: 1}", "{max_unavailable: 1}"])
def test_no_request_fails_in_a_roll_whatever_is_killed_meanwhile(rollout: str) -> None:
    require_program("gunicorn", "pip install gunicorn")
    nginx = require_program("nginx", "apt install nginx-light")
    here, there = Path(sys.executable).parent, Path(nginx).parent
    path = f"{here}:{os.environ.get('PATH', os.defpath)}:{there}"
    front = free_port()
    with stage(EXAMPLE, PATH=path) as it:
        prepare(it, front, rollout)
        it.up()
        until(lambda: it.status()["outcome"] == "good", "the revision is good", show=it.status)
        before = it.pids("web")
        with Load([(front, "/")] * 2).running() as load:
            it.edit('version: "1"', 'version: "2"')
            kill_everybody(it, before)
            rolled(it, before)
            now = it.pids("web")
            it.edit('version: "2"', 'version: "hangs"')
            until(lambda: it.status()["spec_state"] == "rolled_back", "it is back", show=it.status)
            it.settle()
            left = {pid for pid in now.values() if pid in it.pids("web").values()}
        assert load.failed == []
        assert {*load.answers} == {"version 1\n", "version 2\n"}
        assert len(left) == (3 if "surge" in rollout else 2)


def prepare(it: Stage, front: int, rollout: str) -> None:
    """Give the example ports that are free, and little patience."""
    it.edit("{max_surge: 1}", rollout)
    it.edit("deadline: 10s", "deadline: 8s")
    it.edit("on_failure: rollback", "on_failure: rollback\n  confirm_after: 100ms")
    web = free_port()
    for file in ("reconcile.yaml", "nginx.conf"):
        at = it.specs / file
        at.write_text(at.read_text().replace(":8041", f":{web}").replace(":8040", f":{front}"))


def kill_everybody(it: Stage, before: dict[int, int]) -> None:
    """Kill in the middle of the roll whatever takes part in it, one after the other."""

    def new() -> list[int]:
        return [pid for pid in it.pids("web").values() if pid not in before.values()]

    until(new, "the first new process is there", show=it.status)
    status = it.status()
    os.kill(status["controller_pid"], signal.SIGKILL)
    with suppress(psutil.NoSuchProcess):  # unless that has been replaced already
        for worker in psutil.Process(before[3]).children():
            worker.kill()
    until(lambda: it.status()["controller_pid"] != status["controller_pid"], "a new controller")

    def ready() -> list[int]:
        (web,) = (each for each in it.status()["watchers"] if each["name"] == "web")
        return [each["pid"] for each in web["slots"] if each["ready"] and each["pid"] in new()]

    # One that has lived for longer than the revision is on trial: its end says nothing against that.
    os.kill(until(ready, "one of the new version serves")[0], signal.SIGKILL)
    os.kill(status["keeper_pid"], signal.SIGKILL)
    it.up()


def rolled(it: Stage, before: dict[int, int]) -> None:
    """Wait until three of the new version serve, and nobody else."""

    def done() -> bool:
        pids = it.pids("web")
        return {*pids} == {1, 2, 3} and not {*pids.values()} & {*before.values()}

    until(done, "all are of the new version", show=it.status)
    until(lambda: it.status()["outcome"] == "good", "the revision is good", show=it.status)
