"""Claims about the process that reads a spec: it may be begun before there is anything to ask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.cli.connection import reader

if TYPE_CHECKING:
    import pytest


def request(path: Path) -> bytes:
    return json.dumps({"paths": [str(path)], "environ": {}}).encode()


def test_the_reader_that_was_begun_is_the_one_that_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("watchers: {web: {cmd: sleep 1}}")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("another reader was started")

    reader.begin()
    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_spawn", refuse)
        patched.setattr(os, "fork", refuse)
        answer = reader.ask(request(spec))

    assert json.loads(answer.stdout)["spec"]["watchers"]["web"]["cmd"] == ["sleep", "1"]
    # One answers once; the next request has a reader of its own.
    assert json.loads(reader.ask(request(tmp_path / "none.yaml")).stdout)["errors"]


def test_a_reader_that_nobody_asks_ends_in_silence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "reconciler.specfile"], input=b"", capture_output=True, check=True
    )

    assert (done.stdout, done.stderr) == (b"", b"")


def test_help_needs_no_reader_and_says_nothing_of_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "reconciler.cli", "run", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "Run the manager in the foreground" in done.stdout
    assert done.stderr == ""
