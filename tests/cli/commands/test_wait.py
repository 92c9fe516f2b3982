from __future__ import annotations

import json

import pytest

from reconciler.cli.main import main
from tests.cli.manager import Manager, Stream


def test_what_has_come_about_says_nothing(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = {"waiting": [{"name": "web", "state": "Starting"}]}
    steps = [waiting, {"converged": True, "done": True}]
    manager.answers["wait.follow"] = Stream("progress", steps)

    assert main(["wait", "web", "job.2", "--for", "started"]) == 0
    assert manager.asked("wait.follow") == [{"names": ["web", "job.2"], "awaits": "started"}]
    assert capsys.readouterr().out == "waiting for web: Starting\n"
    assert main(["wait", "-l", "team=shop", "-o", "json"]) == 0
    assert manager.asked("wait.follow")[1:] == [{"labels": {"team": "shop"}}]
    assert json.loads(capsys.readouterr().out) == {"done": True, "waiting": [], "failed": []}


def test_what_cannot_come_about_and_what_takes_too_long_have_their_exit_codes(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = [{"name": "mig", "message": "failed: exit 7"}]
    manager.answers["wait.follow"] = Stream("progress", [{"failed": failed, "done": True}])
    assert main(["wait", "mig"]) == 3
    assert capsys.readouterr().out == "mig: failed: exit 7\n"

    waiting = [{"name": "web", "state": "Starting", "note": "not ready: HTTP 503"}]
    manager.answers["wait.follow"] = Stream("progress", [{"waiting": waiting}])
    assert main(["wait", "web", "--for", "ready", "--timeout", "100ms"]) == 5
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "web: not ready after 100ms: Starting: not ready: HTTP 503"

    assert main(["wait"]) == 64
