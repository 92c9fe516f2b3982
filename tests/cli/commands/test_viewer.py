"""What `up` makes of what its streams bring."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler import Client
from reconciler.cli.commands.viewer import _Viewer
from tests.cli.answers import RUNNING_WEB, status

if TYPE_CHECKING:
    import pytest

    from tests.cli.manager import Manager

ROOT = Path(__file__).parents[3]
BAD = {"name": "bad", "state": "BackOff", "note": "exit 1"}
STARTS = {"name": "web", "state": "Starting", "note": "is being started"}


def test_up_asks_for_the_status_once(manager: Manager, capfd: pytest.CaptureFixture[str]) -> None:
    manager.answers["status"] = status(RUNNING_WEB)
    viewer = _Viewer(Client(runtime_dir=manager.runtime_dir), 1, 3600 * 10**9)
    log = {"watcher": "web", "slot": 1, "source": "stdout", "data": b"hello\n"}
    died = {"type": "process.exited", "watcher": "web", "slot": 1, "message": "web.1 ended"}
    elements: list[tuple[str, dict[str, object]]] = [
        ("progress", {"waiting": [BAD, STARTS], "remaining": 2}),
        *[("event", died), ("log", log)] * 50,
        ("progress", {"waiting": [], "converged": True, "done": True}),
        *[("event", died), ("log", log)] * 50,
    ]
    for kind, item in elements:
        viewer._take(kind, item)
        viewer._show_progress()
    assert len(manager.asked("status")) == 1
    shown = capfd.readouterr().out
    lines = shown.splitlines()
    # What is being started is no news so early; output is there before all is as desired.
    assert lines[:3] == [
        "reconcile: waiting for bad: BackOff: exit 1",
        "reconcile: web.1 ended",
        "web.1 | hello",
    ]
    assert (shown.count("hello"), shown.count("web.1 ended")) == (100, 100)


def test_the_end_says_whom_it_waits_for_and_who_had_to_be_killed(
    manager: Manager, capfd: pytest.CaptureFixture[str]
) -> None:
    manager.answers["status"] = status(RUNNING_WEB)
    viewer = _Viewer(Client(runtime_dir=manager.runtime_dir), 1, 3600 * 10**9)
    viewer._take("event", {"type": "manager.stopping", "message": "stops everything in order"})
    assert viewer._ending is not None
    viewer._ending._look_at = 0
    for _ in range(3):
        viewer._show_progress()
    killed = {"watcher": "web", "slot": 2, "details": {"killed": True}, "message": "web.2 ended"}
    viewer._take("event", {"type": "process.exited", **killed})
    viewer._take(
        "event", {"type": "manager.stopping", "details": {"now": True}, "message": "kills"}
    )
    asked_for = {"watcher": "web", "slot": 1, "details": {"killed": True}, "message": "web.1 ended"}
    viewer._take("event", {"type": "process.exited", **asked_for})
    viewer._take("event", {"type": "manager.ended", "message": "everything has stopped"})
    assert viewer._has_ended
    assert viewer._ending.outcome("shop") == "shop: stopped; had to be killed: web.2"
    assert capfd.readouterr().out.splitlines() == [
        "reconcile: stops everything in order; Ctrl-C again kills at once",
        "reconcile: stopping, waiting for web.1, web.2; Ctrl-C again kills at once",
        "reconcile: web.2 ended",
        "reconcile: kills",
        "reconcile: web.1 ended",
    ]


def test_what_came_before_the_end_is_shown_though_the_status_finds_no_manager(
    manager: Manager, capfd: pytest.CaptureFixture[str]
) -> None:
    viewer = _Viewer(Client(runtime_dir=manager.runtime_dir), 1, 3600 * 10**9)
    manager.close()
    viewer._take("progress", {"waiting": [], "converged": True, "done": True})
    viewer._show_progress()
    viewer._take("log", {"watcher": "web", "slot": 1, "source": "stdout", "data": b"bye\n"})
    viewer._take("event", {"type": "manager.ended", "message": "everything has stopped"})
    assert viewer._has_ended
    assert capfd.readouterr().out == "web.1 | bye\n"


def test_up_tells_of_every_revision_but_of_the_one_that_it_has_asked_for(
    manager: Manager, capfd: pytest.CaptureFixture[str]
) -> None:
    viewer = _Viewer(Client(runtime_dir=manager.runtime_dir), 1, 3600 * 10**9)
    for who in ("up by root", "saved files"):
        event = {"type": "spec.applied", "message": f"applied by {who}", "details": {"who": who}}
        viewer._take("event", event)
    assert capfd.readouterr().out == "reconcile: applied by saved files\n"


def test_a_viewer_that_fails_says_so_and_the_manager_goes_on() -> None:
    text = (
        "import os, sys, reconciler.cli.commands.starting as starting, reconciler.cli.commands.viewer as viewer\n"
        "def fail(*_): raise RuntimeError('what nobody expects')\n"
        "viewer.view = fail\n"
        "if os.fork() == 0: starting._view(None, 1, 0)\n"
        "print(os.waitstatus_to_exitcode(os.wait()[1]), 'goes on')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert ended.stdout == "1 goes on\n"
    assert ended.stderr.startswith(
        "cannot show status and logs any more; the manager keeps running"
    )
    assert ended.stderr.endswith("RuntimeError: what nobody expects\n")


VIEWS = """
import os, sys
from reconciler.cli.commands.viewer import view
from reconciler.cli.connection.instances import Instance
os._exit(view(Instance("web", sys.argv[1]), os.getppid(), 0))
"""


def test_where_nothing_can_be_shown_is_told_in_a_line(manager: Manager) -> None:
    streams = iter(range(1, 4))
    for name in ("logs.follow", "apply.follow", "events.follow"):
        manager.answers[name] = lambda _: {"stream": next(streams)}
    manager.answers["status"] = status(RUNNING_WEB)
    command = 'exec "$0" -c "$1" "$2" >/dev/full'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, VIEWS, manager.runtime_dir],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    said = "reconcile: cannot show status and logs any more: no space left on device; the manager keeps running\n"
    assert (done.returncode, done.stderr) == (1, said)
