from __future__ import annotations

import json

import pytest

from reconciler.cli.main import main
from tests.cli.manager import Manager, Stream

WEB = {"watcher": "web", "slot": 1, "pid": 7, "cpu_percent": 1.5, "memory_bytes": 2**20}


def test_stats_are_asked_for_and_sorted(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {**WEB, "watcher": "db", "cpu_percent": 0.5}
    manager.answers["stats"] = {"time_ns": 1, "slots": [other, WEB]}

    assert main(["stats", "web.1", "-l", "a=b", "--sort", "cpu"]) == 0
    assert manager.asked("stats") == [{"names": ["web.1"], "labels": {"a": "b"}}]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["web.1", "db.1"]
    assert main(["stats", "-o", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["slots"]) == 2


def test_watching_writes_a_line_for_each_slot_and_look(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [{"time_ns": time_ns, "slots": [WEB, WEB]} for time_ns in (1, 2, 3)]
    manager.answers["stats.follow"] = Stream("stats", steps)

    assert main(["stats", "-w", "--count", "2", "--interval", "2s"]) == 0
    assert manager.asked("stats.follow") == [{"interval_ns": 2 * 10**9}]
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["time_ns"] for each in found] == [1, 1, 2, 2]
    assert (found[0]["watcher"], found[0]["cpu_percent"], found[0]["threads"]) == ("web", 1.5, 0)


def test_top_needs_a_terminal(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top"]) == 64
    assert "reconcile stats -w" in capsys.readouterr().err
