from __future__ import annotations

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

    assert capsys.readouterr().out.splitlines() == [
        "NAME  STATE       WATCHERS  PID  REVISION  SOURCE",
        "shop  as desired  1         811  42        /srv/shop/specs",
        "sick  overloaded  -         -    -",
    ]
