"""Claims about the process that reads a spec: it may be begun before there is anything to ask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.cli.connection import reader


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


def descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


def test_of_a_reader_that_cannot_be_begun_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    before = descriptors()
    monkeypatch.setattr(reader, "ARGV", ("/nowhere/python",))
    with pytest.raises(FileNotFoundError):
        reader.begin()
    assert descriptors() == before


def test_of_a_reader_that_nobody_waits_for_any_more_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = descriptors()
    # It says nothing, ever, and outlives the end of its input.
    monkeypatch.setattr(reader, "ARGV", (sys.executable, "-c", "import signal; signal.pause()"))
    monkeypatch.setattr(reader, "TIMEOUT_S", 0.1)
    assert reader.ask(b"{}") is None

    def interrupted() -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(reader.time, "monotonic", interrupted)
    with pytest.raises(KeyboardInterrupt):
        reader.ask(b"{}")
    assert descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
