"""A keeper that dies at any call to the system, while it moves output, loses no line and doubles none."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import msgspec
import pytest

from reconciler.model.process import FileSink
from reconciler.output.log_file import LogFile
from reconciler.output.spool import NOTE_BYTES, Note, Spool
from tests.output.dying import WEB, sinks
from tests.output.test_capture import Room

LINES = [f"line {number:02}" for number in range(10)]
MANY = [f"{number:07}" for number in range(50_000)]
"""More than is taken at a time: the second part comes into room that the first one has left."""


def die(keepers: subprocess.Popen[str], folder: Path, case: str, number: int) -> bool:
    """Let a keeper die before a call while it moves the lines; tell whether it lived on, as it makes fewer calls."""
    assert keepers.stdin is not None
    assert keepers.stdout is not None
    print(number, file=keepers.stdin, flush=True)
    assert keepers.stdout.readline() == "ready\n"
    # As the worker does, we keep the FIFOs open while no keeper lives.
    ends = [os.open(each, os.O_RDWR) for each in sorted((folder / "fifos").iterdir())]
    if case.startswith("much"):
        fcntl.fcntl(ends[0], fcntl.F_SETPIPE_SZ, 2**20)
        os.write(ends[0], "".join(f"{line}\n" for line in MANY).encode())
    else:
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
    "case",
    [
        "plain",
        "timestamps",
        "rotated",
        "rotated with timestamps",
        "two writers",
        "much with timestamps",
    ],
)
def test_no_death_loses_or_doubles_a_line(tmp_path: Path, case: str) -> None:
    program = [sys.executable, "-m", "tests.output.dying", str(tmp_path), case]
    with subprocess.Popen(program, stdin=PIPE, stdout=PIPE, text=True) as keepers:
        for number in range(1, 100):
            folder = tmp_path / str(number)
            folder.mkdir()
            has_lived = die(keepers, folder, case, number)
            assert written(folder) == (MANY if case.startswith("much") else LINES), number
            if has_lived:
                assert number > 1
                return
    pytest.fail("it makes more calls than were tried")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe2(os.O_NONBLOCK)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 2**20)
    yield reader, writer
    os.close(reader)
    os.close(writer)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LogFile]:
    full = os.open("/dev/full", os.O_RDWR)
    file = LogFile(str(tmp_path / "a"), FileSink("a"), full, 0.0)
    yield file
    file.close()
    os.close(full)


@pytest.mark.parametrize("size", [40_000, 40_960, 40_970])
@pytest.mark.parametrize("come", [0, 4096, 36_864, None])
def test_what_has_come_over_other_bytes_is_told_by_its_pages(
    tmp_path: Path, pipe: tuple[int, int], log: LogFile, size: int, come: int | None
) -> None:
    """However far the kernel came with what it moved when this process was killed: it ends with a page, or all."""
    reader, writer = pipe
    path = tmp_path / "spool"
    spool = Spool(str(path), "boot-1")
    os.write(writer, os.urandom(50_000))
    assert sum(map(len, spool.take(reader, "mine", log, 2**18))) == 50_000
    spool.done()
    assert Spool(str(path), "boot-1").left == ("", b""), "it is crossed out"
    data = os.urandom(size)
    os.write(writer, data)
    taken = b"".join(spool.take(reader, "mine", log, 2**18))
    assert taken == data[: len(taken)]
    assert size - len(taken) < 16, "the rest comes by itself: it has no room for its mark"
    assert path.stat().st_size > NOTE_BYTES + size, "no room was found anew"
    if come is not None:
        note = msgspec.json.decode(path.read_bytes()[:NOTE_BYTES], type=Note)
        marks = note.mark * (size // len(note.mark) + 1)
        with open(path, "r+b") as file:
            file.seek(NOTE_BYTES + come)
            file.write(marks[come : len(taken)])
    left = taken if come is None else taken[:come]
    assert Spool(str(path), "boot-1").left == (("mine", left) if left else ("", b""))


def test_only_what_is_much_has_room_kept_and_not_for_ever(
    tmp_path: Path, pipe: tuple[int, int], log: LogFile
) -> None:
    reader, writer = pipe
    path = tmp_path / "spool"
    spool = Spool(str(path), "boot-1")

    def size_after(count: int) -> int:
        os.write(writer, bytes(count))
        while count:
            count -= sum(map(len, spool.take(reader, "mine", log, 2**18)))
            spool.done()
        return path.stat().st_size - NOTE_BYTES

    assert size_after(2**15 - 1) == 0
    assert size_after(2**16) == 2**16
    assert size_after(2**15) == 2**16
    assert size_after(2**18) == 2**18, "what is larger by far finds more room"
    assert size_after(100) == 0
    assert size_after(2**16) == 2**16
    spool.empty()
    assert path.stat().st_size == NOTE_BYTES


def test_what_is_left_of_one_is_never_mixed_with_another(tmp_path: Path) -> None:
    note, full = str(tmp_path / "spool"), os.open("/dev/full", os.O_RDWR)
    mine, others = (LogFile(str(tmp_path / name), FileSink(name), full, 0.0) for name in ("a", "b"))
    reader, writer = os.pipe2(os.O_NONBLOCK)
    os.write(writer, b"last words\n")
    assert [*Spool(note, "boot-1").take(reader, "mine", mine, 100)] == [b"last words\n"]

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
