from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.cli.main import main
from tests.cli.answers import RUNNING_WEB, status
from tests.cli.manager import Manager

ROOT = Path(__file__).parents[3]


def test_shutdown_waits_until_the_manager_has_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = """
import sys, threading
from tests.cli.manager import Manager
gone = threading.Event()
manager = Manager(sys.argv[1], hello={"name": "shop"}, shutdown=lambda _: threading.Timer(0.1, gone.set).start() or {})
print("ready", flush=True)
gone.wait()
manager.close()
"""
    command = [sys.executable, "-c", program, str(tmp_path / "shop")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as keeper:
        assert keeper.stdout is not None
        keeper.stdout.readline()
        assert main(["--runtime-dir", str(tmp_path / "shop"), "shutdown"]) == 0
        assert keeper.wait(5) == 0

    assert capsys.readouterr().out == "shop: stopped\n"


def test_shutdown_gives_up_after_its_timeout(manager: Manager) -> None:
    manager.answers |= {"hello": {}, "shutdown": {}, "status": status(RUNNING_WEB)}

    assert main(["shutdown", "--timeout", "0.2"]) == 5


def test_for_programs_nothing_but_the_document_is_written(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    manager.answers |= {"hello": {}, "shutdown": {}, "status": status(RUNNING_WEB)}

    assert main(["shutdown", "--timeout", "0.8", "-o", "json"]) == 5
    assert capsys.readouterr().out == ""
    assert main(["shutdown", "--timeout", "0.8"]) == 5
    assert capsys.readouterr().out == "stopping, waiting for web.1, web.2\n"
