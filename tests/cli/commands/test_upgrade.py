from __future__ import annotations

import sys

import pytest

from reconciler.cli.main import main
from tests.cli.manager import Manager


def test_upgrade_asks_for_the_next_one_and_says_what_became_of_it(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    manager.answers |= {
        "hello": {"name": "shop", "version": "1.0", "upgrades": 2},
        "upgrade": {"version": "1.1", "keeper_pid": 811, "controller_pid": 9, "upgrades": 3},
    }

    assert main(["upgrade"]) == 0

    (asked,) = [params for method, params in manager.calls if method == "upgrade"]
    assert (asked["number"], asked["python"]) == (3, sys.executable)
    said = capsys.readouterr().out
    assert said == "shop: upgraded from 1.0 to 1.1; kept keeper pid 811 and all processes\n"
