from __future__ import annotations

import json
from typing import TYPE_CHECKING

from reconciler.cli.main import main
from tests.cli.answers import MAILER, NOW_NS, RUNNING_WEB, status

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

    from tests.cli.manager import Manager

REPORT = {
    "name": "report",
    "kind": "job",
    "want": 1,
    "state": "Failed",
    "as_desired": False,
    "slots": [{"slot": 1, "state": "Failed", "note": "failed: exit 7"}],
}
WEB = RUNNING_WEB | {
    "as_desired": False,
    "want": 1,
    "ready": 0,
    "state": "Waiting",
    "depends_on": [{"name": "report"}],
    "slots": [{"slot": 1, "state": "Waiting", "note": "waiting for report to succeed"}],
}
RUN = {"name": "report", "slot": 1, "generation": 3, "trigger": "first", "outcome": "failed"}


def told(*watchers: dict[str, object]) -> object:
    known = {each["name"]: each for each in watchers}

    def answer(params: Mapping[str, object]) -> object:
        names = params.get("names") or [*known]
        assert isinstance(names, list)
        return status(*(known[name] for name in names))

    return answer


def test_all_that_makes_a_chain_is_asked_for_and_nothing_else(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    manager.answers |= {
        "status": told(WEB, REPORT, MAILER),
        "events": {"events": []},
        "runs": {"runs": [RUN]},
        "logs": {"entries": [{"watcher": "report", "slot": 1, "data": b"a\nno such table\n"}]},
    }
    assert main(["why", "web", "-n", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("web is Waiting: waiting for report to succeed")
    assert lines[1:] == [
        "  report is Failed: failed: exit 7",
        "    run 3 of report (first) failed",
        "      | no such table",
        "    it stays so until: reconcile rerun report --failed",
    ]
    assert manager.asked("status") == [
        {"names": ["web"], "lean": True},
        {"names": ["report"], "lean": True},
    ]
    assert [each["names"] for each in manager.asked("events")] == [["web"], ["report"]]
    assert manager.asked("logs") == [{"names": ["report.1"], "lines": 1}]

    assert main(["why", "web", "-o", "json"]) == 0
    (cause,) = json.loads(capsys.readouterr().out)["causes"]
    assert (cause["kind"], cause["name"]) == ("state", "web")
    assert [each["name"] for each in cause["because"]] == ["report"]


def test_without_a_name_all_are_told_that_are_not_as_desired(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = {"type": "process.exited", "watcher": "mailer", "slot": 1, "time_ns": NOW_NS}
    manager.answers |= {
        "status": status(RUNNING_WEB, MAILER),
        "events": {"events": [ended | {"message": "mailer.1 ended: exit 78"}]},
        "logs": {"entries": []},
    }
    assert main(["why"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("mailer is BackOff") and "mailer.1 ended: exit 78" in out
    assert "web" not in out

    manager.answers["status"] = status(RUNNING_WEB)
    assert main(["why"]) == 0
    assert capsys.readouterr().out == "all is as desired\n"
