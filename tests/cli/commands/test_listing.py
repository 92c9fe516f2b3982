from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.cli.main import main
from tests.cli.answers import status
from tests.cli.manager import Manager

WEB = {
    "name": "web",
    "as_desired": True,
    "slots": [{"slot": 1, "pid": 11}, {"slot": 2, "pid": 12}, {"slot": 3}],
}
DB = {"name": "db", "as_desired": True, "slots": [{"slot": 1, "pid": 21}]}


@pytest.fixture
def shown(manager: Manager, capsys: pytest.CaptureFixture[str]) -> Any:
    """Give what a command line shows, as words."""
    manager.answers["status"] = status(WEB, DB)

    def show(line: str) -> Any:
        assert main(line.split()) == 0
        text = capsys.readouterr().out
        return json.loads(text) if "json" in line else text.split()

    return show


def test_names_pids_and_numbers_are_listed_for_scripts(shown: Any, manager: Manager) -> None:
    assert shown("list") == ["web", "db"]
    assert shown("list web -l a=b") == ["11", "12", "21"]  # all that the manager answers
    assert manager.asked("status")[-1] == {"names": ["web"], "labels": {"a": "b"}, "lean": True}
    assert shown("list -o json") == {"web": [11, 12], "db": [21]}
    assert shown("numprocesses") == ["3"]
    assert shown("numprocesses -o json") == {"web": 2, "db": 1}


def test_sockets_are_listed(shown: Any, manager: Manager) -> None:
    assert shown("listsockets") == ["no", "sockets"]
    http = {"name": "http", "listen": "127.0.0.1:80", "type": "stream", "backlog": 5}
    manager.answers["status"] = status(WEB, sockets=[http])
    header, row = shown("listsockets")[:7], shown("listsockets")[7:]
    assert header == ["SOCKET", "LISTEN", "TYPE", "STATE", "BACKLOG", "USED", "BY"]
    assert row[:3] + row[4:5] == ["http", "127.0.0.1:80", "stream", "5"]
    assert shown("listsockets -o json")[0]["listen"] == "127.0.0.1:80"


def test_options_are_all_fields_or_those_that_are_asked_for(
    shown: Any, manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = [
        {"field": "cmd", "value": "serve"},
        {"field": "stop.signal", "value": "TERM", "is_default": True},
        {"field": "stop.timeout", "value": "5s"},
        {"field": "stopped", "value": "no"},
    ]
    manager.answers["options"] = {"name": "web", "fields": fields}
    assert shown("options web") == [
        *("FIELD", "VALUE", "cmd", "serve", "stop.signal", "TERM"),
        *("stop.timeout", "5s", "stopped", "no"),
    ]
    assert shown("options web stop -o json") == {"stop.signal": "TERM", "stop.timeout": "5s"}
    assert shown("options web stop --changed -o json") == {"stop.timeout": "5s"}
    assert manager.asked("options")[0] == {"name": "web"}
    assert main(["options", "web", "sto"]) == 1
    assert "no field of web is called sto" in capsys.readouterr().err
