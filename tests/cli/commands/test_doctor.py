from __future__ import annotations

import json
from typing import TYPE_CHECKING

from reconciler.cli.main import main
from tests.cli.answers import RUNNING_WEB, status

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.cli.manager import Manager


def asked(
    capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, dict[str, dict[str, str]]]:
    code = main(["doctor", "-o", "json", *arguments])
    found = json.loads(capsys.readouterr().out)
    return code, {each["check"]: each for each in found}


def test_it_needs_neither_a_manager_nor_a_spec(capsys: pytest.CaptureFixture[str]) -> None:
    _, found = asked(capsys)
    assert found["manager"]["found"] == "none runs here"
    assert found["spec"]["level"] == "ok"
    assert {
        "kernel",
        "descriptors",
        "inotify",
        "pipes",
        "cgroups",
        "clock",
        "systemd",
    } <= found.keys()
    assert all(
        {*each} == {"check", "level", "found", "meaning", "advice"} for each in found.values()
    )


def test_a_problem_is_exit_code_1_and_the_table_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.yaml").write_text("watchers: {web: {cmd: x, numprocesses: two}}")
    assert main(["doctor", str(tmp_path / "bad.yaml")]) == 1
    shown = capsys.readouterr().out
    assert "CHECK" in shown
    (line,) = [each for each in shown.splitlines() if each.startswith("spec ")]
    assert line.split()[1] == "problem"
    assert "try: reconcile validate" in shown


def test_a_running_manager_is_asked(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    manager.answers["status"] = status(RUNNING_WEB, containment="cgroup")
    _, found = asked(capsys)
    assert found["manager"]["found"].startswith("shop runs, pid ")
    assert found["delegation"]["found"] == "each process has a control group of its own"
    assert "runtime_dir" in found
