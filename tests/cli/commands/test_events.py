from __future__ import annotations

import json
import re

import pytest

from reconciler.cli.main import main
from tests.cli.manager import Manager


def test_events_are_objects_one_a_line(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    manager.answers["events"] = {"events": [{"seq": 4, "time_ns": 5, "type": "spec.applied"}]}

    main(["events", "--since", "3", "-o", "json"])

    assert manager.asked("events") == [{"since": 3}]
    assert json.loads(capsys.readouterr().out)["type"] == "spec.applied"


def test_events_are_chosen_by_watcher_type_and_number(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    crash = {
        "seq": 9,
        "time_ns": 86_400 * 10**9 + 5,
        "type": "process.exited",
        "message": "web.1 ended",
        "details": {"count": 40, "since_ns": 86_400 * 10**9},
    }
    manager.answers["events"] = {"events": [crash], "left_out": 7, "kept_since_ns": 10**9}

    assert main(["events", "web*", "--type", "process", "-n", "5", "--since", "3"]) == 0
    assert main(["events", "-n", "5", "-f"]) == 64

    assert manager.asked("events") == [
        {"since": 3, "names": ["web*"], "types": ["process"], "limit": 5}
    ]
    shown = capsys.readouterr()
    assert re.search(r"web.1 ended \(40 times since \d\d:\d\d:\d\d\)$", shown.out.strip())
    assert (
        "are kept no more, but for orders and revisions\n7 older events are left out" in shown.err
    )
