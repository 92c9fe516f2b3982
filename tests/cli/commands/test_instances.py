from __future__ import annotations

import json
import os

import pytest

from reconciler.cli.main import main
from reconciler.model.errors import RequestError
from tests.cli.answers import RUNNING_WEB, refusing, status
from tests.cli.manager import Manager


def test_ls_asks_each_instance(capsys: pytest.CaptureFixture[str]) -> None:
    from reconciler.cli.connection.places import runtime_root

    one = status(RUNNING_WEB, keeper_pid=811, source=["/srv/shop/specs"])
    with (
        Manager(os.path.join(runtime_root(), "shop"), status=one),
        Manager(
            os.path.join(runtime_root(), "sick"), status=refusing(RequestError("overloaded", "no"))
        ),
    ):
        assert main(["ls"]) == 0
        shown = capsys.readouterr().out
        assert main(["ls", "-o", "json"]) == 0
        told = {each["name"]: each for each in json.loads(capsys.readouterr().out)}

    # Others may run on this machine, which make columns wider.
    rows = [" ".join(row.split()) for row in shown.splitlines()]
    shop, sick = told["shop"], told["sick"]
    assert [row for row in rows if row.startswith(("NAME ", "shop ", "sick "))] == [
        "NAME STATE WATCHERS PID REVISION SOURCE",
        "shop as desired 1 811 42 /srv/shop/specs",
        "sick overloaded - - -",
    ]
    assert (shop["state"], shop["source"]) == ("as desired", ["/srv/shop/specs"])
    unknown = {"user": None, "pid": None, "revision": None, "watchers": None, "source": []}
    place = os.path.join(runtime_root(), "sick")
    assert sick == {"name": "sick", "runtime_dir": place, "state": "overloaded", **unknown}
