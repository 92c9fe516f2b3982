from __future__ import annotations

import json

import pytest

from reconciler.cli.main import main
from tests.cli.answers import REPLACE_WEB, applying
from tests.cli.manager import Manager


def test_the_history_is_a_table_for_people_and_whole_for_programs(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [
        {
            "number": 44,
            "applied_ns": 1,
            "who": "apply.on_failure",
            "restores": 42,
            "outcome": "good",
        },
        {"number": 43, "applied_ns": 1, "who": "alice", "commit": "a1b2c3d4e5", "dirty": True}
        | {"outcome": "rolled_back", "reason": "web.1 ended with exit 3"},
    ]
    manager.answers["history"] = {"revision": 44, "revisions": entries}

    assert main(["history"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["REVISION", "APPLIED", "BY", "COMMIT", "OUTCOME", "NOTE"]
    assert lines[1][3:] == [
        "apply.on_failure",
        "-",
        "good",
        *["the", "content", "of", "42", "again"],
    ]
    assert lines[2][3:6] == ["alice", "a1b2c3d-dirty", "rolled_back"]
    assert main(["history", "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["revision"], told["revisions"][0]["uid"], told["revisions"][1]["log"]) == (
        44,
        None,
        [],
    )


def test_a_difference_names_its_revisions(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    manager.answers["diff"] = lambda params: {
        "old": params.get("old", 42),
        "new": params.get("new", 43),
        "changes": [] if params.get("old") == 1 else [REPLACE_WEB],
    }

    assert main(["diff"]) == 0
    assert main(["diff", "1", "2"]) == 0
    assert manager.asked("diff") == [{}, {"old": 1, "new": 2}]
    assert capsys.readouterr().out.splitlines() == [
        "from revision 42 to 43:",
        "~ web  env.A changed (slots 1-2)",
        "no difference between revisions 1 and 2",
    ]


def test_a_rollback_shows_its_plan_and_is_made_on_the_revision_that_was_shown(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    applying(manager, {"converged": True, "done": True}, changes=[])
    manager.answers["rollback"] = lambda params: {
        "revision": 43 if params.get("dry_run") else 44,
        "restores": 42,
        "changes": [REPLACE_WEB],
    }

    assert main(["rollback", "42"]) == 0
    assert manager.asked("rollback") == [
        {"revision": 42, "dry_run": True},
        {"revision": 42, "base": 43},
    ]
    assert manager.asked("apply.follow") == [{"revision": 44}]
    assert capsys.readouterr().out.splitlines()[:3] == [
        "to the content of revision 42:",
        "~ web  env.A changed (slots 1-2)",
        "1 to replace",
    ]
    assert main(["rollback", "--dry-run", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["applied"] is False
    assert len(manager.asked("rollback")) == 3
