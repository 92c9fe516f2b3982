"""A keeper that dies at any call to the system, while it moves output, loses no line and doubles none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from reconciler.model.process import FileSink
from reconciler.output.log_file import LogFile
from reconciler.output.spool import Spool
from tests.output.dying import WEB, sinks
from tests.output.test_capture import Room

LINES = [f"line {number:02}" for number in range(10)]


def die(keepers: subprocess.Popen[str], folder: Path, case: str, number: int) -> bool:
    """Let a keeper die before a call while it moves the lines; tell whether it lived on, as it makes fewer calls."""
    assert keepers.stdin is not None
    assert keepers.stdout is not None
    print(number, file=keepers.stdin, flush=True)
    assert keepers.stdout.readline() == "ready\n"
    # As the worker does, we keep the FIFOs open while no keeper lives.
    ends = [os.open(each, os.O_RDWR) for each in sorted((folder / "fifos").iterdir())]
    for index, line in enumerate(LINES):
        os.write(ends[index % len(ends)], f"{line}\n".encode())
    print("go", file=keepers.stdin, flush=True)
    fate = keepers.stdout.readline()
    assert fate in {"lived\n", "died\n"}
    follow(folder, case)
    for each in ends:
        os.close(each)
    return fate == "lived\n"


def follow(folder: Path, case: str) -> None:
    """Be the next keeper."""
    room = Room(folder)
    failures: list[OSError] = []
    streams = room.capture.reopen(WEB, *sinks(case, folder), failures.append)
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
    program = [sys.executable, "-m", "tests.output.dying", str(tmp_path), case]
    with subprocess.Popen(program, stdin=PIPE, stdout=PIPE, text=True) as keepers:
        for number in range(1, 100):
            folder = tmp_path / str(number)
            folder.mkdir()
            has_lived = die(keepers, folder, case, number)
            assert written(folder) == LINES, number
            if has_lived:
                assert number > 1
                return
    pytest.fail("it makes more calls than were tried")


def test_what_is_left_of_one_is_never_mixed_with_another(tmp_path: Path) -> None:
    note, full = str(tmp_path / "spool"), os.open("/dev/full", os.O_RDWR)
    mine, others = (LogFile(str(tmp_path / name), FileSink(name), full, 0.0) for name in ("a", "b"))
    reader, writer = os.pipe2(os.O_NONBLOCK)
    os.write(writer, b"last words\n")
    assert Spool(note, "boot-1").take(reader, "mine", mine, 100) == b"last words\n"

    # The next keeper looks at others first, finds nothing there, and dies as well.
    second = Spool(note, "boot-1")
    assert second.left == ("mine", b"last words\n")
    with pytest.raises(BlockingIOError):
        second.take(reader, "others", others, 100)
    Path(others.path).write_text("written since\n")

    assert Spool(note, "boot-1").left == ("", b"")
    assert Path(others.path).read_text() == "written since\n"
    for fd in (full, reader, writer):
        os.close(fd)


def test_what_is_left_is_given_once(tmp_path: Path) -> None:
    note, full = str(tmp_path / "spool"), os.open("/dev/full", os.O_RDWR)
    file = LogFile(str(tmp_path / "a"), FileSink("a"), full, 0.0)
    reader, writer = os.pipe2(os.O_NONBLOCK)
    os.write(writer, b"last words\n")
    Spool(note, "boot-1").take(reader, "mine", file, 100)
    second = Spool(note, "boot-1")
    assert [second.give_left(name) for name in ("others", "mine", "mine")] == [
        b"",
        b"last words\n",
        b"",
    ]
    for fd in (full, reader, writer):
        os.close(fd)
