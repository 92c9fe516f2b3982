"""The keeper's own log: whoever does not read it loses lines, and the keeper waits for nobody."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

import pytest

from reconciler.output.own_log import OwnLog

PAGE = os.sysconf("SC_PAGESIZE")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe of two pages whose writing end waits, as that of a shell does."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 2 * PAGE)
    yield read, write
    os.close(read)
    os.close(write)


def filled(write: int, size: int) -> None:
    again = os.open(f"/proc/self/fd/{write}", os.O_WRONLY | os.O_NONBLOCK)
    assert os.write(again, b"." * size) == size
    os.close(again)


def test_a_line_longer_than_what_is_free_in_a_pipe_waits_for_nobody(pipe: tuple[int, int]) -> None:
    read, write = pipe
    filled(write, PAGE)  # one page is free: poll(2) says that it is writable
    log = OwnLog("info", write)
    log.log("error", "long", cause="x" * 2 * PAGE)
    assert os.read(read, 10 * PAGE).count(b"x") == 2 * PAGE - PAGE - len_of_head()
    log.log("info", "next")
    text = os.read(read, 10 * PAGE).decode()
    assert text.startswith("x")
    assert text.endswith(" info keeper: next\n")
    assert [line.partition("keeper: ")[2] for line in text.splitlines()][1:] == ["next"]


def len_of_head() -> int:
    return len('2026-01-01T00:00:00.000000Z error keeper: long cause="')


def test_lines_that_nobody_takes_are_counted(pipe: tuple[int, int]) -> None:
    read, write = pipe
    filled(write, 2 * PAGE)
    log = OwnLog("info", write)
    for _ in range(3):
        log.log("error", "lost")
    log.log("debug", "of no interest")
    assert os.read(read, 10 * PAGE) == b"." * 2 * PAGE
    log.log("info", "seen")
    lines = [line.partition("Z ")[2] for line in os.read(read, 10 * PAGE).decode().splitlines()]
    assert lines == [
        'warning keeper: lines of this log were dropped lines="3"',
        "info keeper: seen",
    ]


def test_a_log_that_nobody_reads_any_more_is_no_trouble() -> None:
    read, write = os.pipe()
    log = OwnLog("info", write)
    os.close(read)
    log.log("error", "a \udcff")
    os.close(write)
