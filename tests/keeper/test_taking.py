"""A keeper that dies at any call to the system, while it moves output, loses no line and doubles none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.keeper.dying import WEB, sinks
from tests.keeper.test_logs import Room

LINES = [f"line {number:02}" for number in range(10)]


def die(folder: Path, case: str, number: int) -> bool:
    """Let a keeper die before a call while it moves the lines; tell whether it lived on, as it makes fewer calls."""
    program = [sys.executable, "-m", "tests.keeper.dying", str(folder), case, str(number)]
    keeper = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    assert keeper.stdout.readline() == "ready\n"
    # As the worker does, we keep the FIFOs open while no keeper lives.
    ends = [os.open(each, os.O_RDWR) for each in sorted((folder / "fifos").iterdir())]
    for index, line in enumerate(LINES):
        os.write(ends[index % len(ends)], f"{line}\n".encode())
    keeper.stdin.write("go\n")
    keeper.stdin.flush()
    lives = keeper.stdout.readline() == "lives\n"
    keeper.kill()
    keeper.communicate()
    follow(folder, case)
    for end in ends:
        os.close(end)
    return lives


def follow(folder: Path, case: str) -> None:
    """Be the next keeper."""
    room = Room(folder)
    failures: list[OSError] = []
    streams = room.logs.reopen(WEB, *sinks(case, folder), failures.append)
    room.settle()
    assert streams.drained()
    assert failures == []


def written(folder: Path) -> list[str]:
    """Return all lines of all files, without their stamps."""
    texts = [path.read_text() for path in folder.glob("web.log*")]
    return sorted(line[-7:] for text in texts for line in text.splitlines())


@pytest.mark.parametrize(
    "case", ["plain", "timestamps", "rotated", "rotated with timestamps", "two writers"]
)
def test_no_death_loses_or_doubles_a_line(tmp_path: Path, case: str) -> None:
    for number in range(1, 100):
        folder = tmp_path / str(number)
        folder.mkdir()
        lives = die(folder, case, number)
        assert written(folder) == LINES, number
        if lives:
            assert number > 1
            return
    pytest.fail("it makes more calls than were tried")
