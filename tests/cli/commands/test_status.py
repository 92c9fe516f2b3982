from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from reconciler.cli.main import main
from tests.cli.answers import FAILED_JOB, HTTP, MAILER, RUNNING_WEB, status
from tests.cli.manager import Manager
from tests.cli.on_terminal import on_terminal

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (status(RUNNING_WEB), 0),
        (status(RUNNING_WEB, FAILED_JOB), 3),
        (status(MAILER), 3),
        (status(RUNNING_WEB, spec_state="invalid"), 3),
        (status(RUNNING_WEB, store_state="failing"), 3),
        # What is in doubt shows in its watchers; the damage itself is over.
        (status(RUNNING_WEB, store_state="damaged"), 0),
        (status(RUNNING_WEB, sockets=[HTTP | {"state": "Failed"}]), 3),
    ],
)
def test_status_tells_by_its_exit_code_whether_all_is_as_desired(
    manager: Manager, answer: dict[str, object], code: int
) -> None:
    manager.answers["status"] = answer

    assert main(["status"]) == code


def test_the_status_of_some_is_not_spoilt_by_others(manager: Manager) -> None:
    manager.answers["status"] = status(RUNNING_WEB, spec_state="invalid")

    assert main(["status", "web"]) == 0


def test_json_has_all_keys(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    manager.answers["status"] = status(MAILER)

    main(["status", "-o", "json"])

    (watcher,) = json.loads(capsys.readouterr().out)["watchers"]
    assert watcher["slots"][0]["exit"] == {
        "code": 78,
        "signal": None,
        "core": False,
        "error": None,
        "oom": "",
    }
    assert watcher["conditions"] == []


def test_yaml_says_the_same_as_json(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    manager.answers["status"] = status(RUNNING_WEB, MAILER, sockets=[HTTP])

    main(["status", "-o", "json"])
    from_json = json.loads(capsys.readouterr().out)
    main(["status", "-o", "yaml"])

    assert yaml.safe_load(capsys.readouterr().out) == from_json


def test_names_come_one_a_line(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    manager.answers["status"] = status(RUNNING_WEB, MAILER)

    main(["status", "-o", "name", "-l", "team=shop", "w*"])

    assert capsys.readouterr().out == "web\nmailer\n"
    assert manager.asked("status") == [{"names": ["w*"], "labels": {"team": "shop"}, "lean": True}]


def test_a_terminal_gets_colours_and_80_columns(manager: Manager) -> None:
    manager.answers["status"] = status(RUNNING_WEB, MAILER, sockets=[HTTP])

    shown, code = on_terminal("status")

    assert code == 3
    assert "\x1b[32mRunning\x1b[0m" in shown
    assert manager.asked("status") == [{"lean": True}]


def test_no_color_is_respected(manager: Manager) -> None:
    manager.answers["status"] = status(RUNNING_WEB)

    shown, _ = on_terminal("status", NO_COLOR="1")

    assert "\x1b[" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_reader_that_goes_away_is_no_error(manager: Manager) -> None:
    names = [RUNNING_WEB | {"name": f"web{number}"} for number in range(20_000)]
    manager.answers["status"] = status(*names)
    command = f"{sys.executable} -m reconciler.cli status | head -n 1"

    done = subprocess.run(
        command,
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    assert (done.stderr, len(done.stdout.splitlines())) == ("", 1)


@pytest.mark.parametrize("options", [["-l", "a=1,b=2"], ["--selector", "a=1", "-l", "b=2"]])
def test_labels_may_stand_in_one_option_or_in_several(manager: Manager, options: list[str]) -> None:
    manager.answers["status"] = status(RUNNING_WEB)
    main(["status", *options])
    assert manager.asked("status")[0]["labels"] == {"a": "1", "b": "2"}
