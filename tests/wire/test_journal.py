"""Claims about the file that tells the next keeper."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.wire.journal import (
    FORMAT,
    RETRY_NS,
    SLACK_BYTES,
    Journal,
    NewerFormat,
    Recalled,
    recall,
)

OWNER = {"token": "t", "boot": "b"}


class Book:
    """A journal in a folder, and what it said of its disk."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "keeper.journal"
        self.said: list[str | None] = []
        self.now_ns = 0
        self.journal = Journal(str(self.path), OWNER, self.said.append, lambda: self.now_ns)

    def write(self, **values: object) -> None:
        for name, value in values.items():
            self.journal.note(name, value)
        self.journal.flush()

    def read(self, owner: dict[str, str] = OWNER) -> Recalled:
        return recall(str(self.path), owner)


@pytest.fixture
def book(tmp_path: Path) -> Book:
    (tmp_path / "state").mkdir()
    return Book(tmp_path / "state")


def test_the_last_word_on_a_name_holds(book: Book) -> None:
    book.write(web=1, db={"pid": 7})
    book.write(web=2, gone=3)
    book.write(gone=None)
    assert book.read() == Recalled({"web": 2, "db": {"pid": 7}})


def test_only_its_owner_may_read_it(book: Book) -> None:
    os.umask(umask := os.umask(0))
    book.write(web=1)
    assert stat.S_IMODE(book.path.stat().st_mode) == 0o600
    assert os.umask(umask) == umask


@pytest.mark.parametrize("owner", [{"token": "t", "boot": "c"}, {"token": "u", "boot": "b"}])
def test_another_boot_and_another_folder_void_it(book: Book, owner: dict[str, str]) -> None:
    book.write(web=1)
    assert book.read(owner) == Recalled()


def test_an_unknown_boot_is_never_the_same(tmp_path: Path) -> None:
    owner = {"token": "t", "boot": ""}
    journal = Journal(str(tmp_path / "j"), owner, lambda _: None)
    journal.note("web", 1)
    journal.flush()
    assert recall(str(tmp_path / "j"), owner) == Recalled()


def test_no_file_is_nothing_to_take_over(book: Book) -> None:
    assert book.read() == Recalled()


def test_cut_at_any_byte_it_says_what_was_written_in_full(book: Book) -> None:
    book.write(web=1)
    sizes = [book.path.stat().st_size]
    book.write(web=2)
    sizes.append(book.path.stat().st_size)
    whole = book.path.read_bytes()
    for size in range(len(whole.partition(b"\n")[0]) + 1, len(whole) + 1):
        book.path.write_bytes(whole[:size])
        expected = {"web": 2} if size >= sizes[1] else {"web": 1} if size >= sizes[0] else {}
        assert book.read() == Recalled(expected), size


def test_a_flipped_bit_is_noticed_wherever_it_is(book: Book) -> None:
    book.write(web=1)
    book.write(db=2)
    whole = book.path.read_bytes()
    for place in range(len(whole) - 1):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        book.path.write_bytes(damaged)
        recalled = book.read()
        assert not recalled.is_whole
        assert recalled.entries.items() <= {"web": 1, "db": 2}.items()


def test_a_newer_format_is_refused_with_both_numbers(book: Book) -> None:
    newer = Journal(str(book.path), {**OWNER, "format": FORMAT + 1}, lambda _: None)  # type: ignore[dict-item]
    newer.flush()
    with pytest.raises(
        NewerFormat, match=f"format {FORMAT + 1}, this version reads up to {FORMAT}"
    ):
        book.read()


def test_it_stays_small_however_much_happens(book: Book) -> None:
    inodes = set()
    for number in range(3000):
        book.write(web={"number": number, "text": "x" * 300})
        inodes.add(book.path.stat().st_ino)
        assert book.path.stat().st_size < SLACK_BYTES + 2000
    assert len(inodes) > 1
    assert book.read().entries["web"]["number"] == 2999


def test_a_line_costs_the_same_however_much_else_is_held(book: Book) -> None:
    book.write(**{f"process {n}": {"text": "x" * 50} for n in range(2000)})
    before = book.path.stat().st_size
    book.write(web=1)
    assert book.path.stat().st_size - before < 30


def test_what_is_as_it_was_is_not_written_again(book: Book) -> None:
    book.write(web=1)
    before = book.path.stat()
    book.write(web=1)
    assert book.path.stat().st_mtime_ns == before.st_mtime_ns
    assert book.path.stat().st_size == before.st_size


@pytest.fixture
def no_room() -> Iterator[None]:
    """No file may grow beyond 4 KiB: what a full disk does to a write, without a disk of our own."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_once_and_made_up_for(book: Book, no_room: None) -> None:
    book.write(web=1)
    for slot in range(20):
        book.write(**{f"process {slot}": {"text": "x" * 300}})
    assert book.said == [f"cannot write {book.path}: file too large"]
    assert book.journal.due_ns == RETRY_NS
    assert book.read().entries["web"] == 1
    for slot in range(20):
        book.write(**{f"process {slot}": None})
    book.now_ns = RETRY_NS
    book.write(web=2)
    assert book.said[1:] == [None]
    assert book.journal.due_ns is None
    assert book.read() == Recalled({"web": 2})


def test_a_folder_that_is_gone_stops_nothing(book: Book) -> None:
    folder = book.path.parent
    folder.rename(folder.with_name("elsewhere"))
    book.write(web=1)
    assert book.said == [f"cannot write {book.path}: no such file or directory"]
    folder.mkdir()
    book.now_ns = RETRY_NS
    book.journal.flush()
    assert book.read() == Recalled({"web": 1})
