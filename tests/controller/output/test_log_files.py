"""Claims about the end of log files and what is appended to them."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from reconciler.controller.output.compress import compress_rotated
from reconciler.controller.output.log_files import (
    BLOCK_BYTES,
    QUIET_NS,
    Follower,
    LogPlace,
    OpenPart,
    last_lines,
)
from reconciler.output.stamps import stamp
from tests.descriptors import own_descriptors

if TYPE_CHECKING:
    import pytest

lines = st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"") + b"\n"), max_size=40)


def place(path: Path) -> LogPlace:
    return LogPlace("web", 1, "stdout", str(path))


def everything(follower: Follower) -> bytes:
    found = b""
    while data := follower.more():
        found += data
    return found


@given(lines, st.integers(0, 45), st.binary(max_size=5).map(lambda b: b.replace(b"\n", b"")))
def test_the_tail_is_the_last_whole_lines(written: list[bytes], count: int, rest: bytes) -> None:
    with NamedTemporaryFile() as file:
        file.write(b"".join(written) + rest)
        file.flush()
        follower = Follower(place(Path(file.name)))
        data = follower.begin(count)
    assert data == b"".join(written[len(written) - count :] if count < len(written) else written)
    assert int(follower.position.split(":")[2]) == sum(map(len, written))


def test_a_tail_reads_backwards_over_many_blocks(tmp_path: Path) -> None:
    path = tmp_path / "log"
    written = [b"%06d %s\n" % (number, b"x" * 90) for number in range(5000)]
    path.write_bytes(b"".join(written))
    (entry,) = last_lines([place(path), place(tmp_path / "absent")], 3000)
    assert entry["data"] == b"".join(written[-3000:])
    assert (entry["watcher"], entry["slot"], entry["stream"]) == ("web", 1, "stdout")


def test_a_follower_gets_whole_lines_only(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\nthr")
    follower = Follower(place(path))
    assert follower.begin(1) == b"two\n"
    assert follower.more() == b""
    with path.open("ab") as file:
        file.write(b"ee\nfour")
    assert everything(follower) == b"three\n"
    follower.close()


def test_a_renamed_file_is_read_to_its_end_before_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\n")
    follower = Follower(place(path))
    follower.begin(0)
    with path.open("ab") as file:
        file.write(b"two\nlast words")
    path.rename(tmp_path / "log.1")
    path.write_bytes(b"three\n")
    assert everything(follower) == b"two\nlast wordsthree\n"
    follower.close()


def test_rotations_in_between_are_read_too(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\n")
    follower = Follower(place(path))
    follower.begin(0)
    for text in (b"two\n", b"three\n", b"four\n"):
        for number in (2, 1):
            if (tmp_path / f"log.{number}").exists():
                (tmp_path / f"log.{number}").rename(tmp_path / f"log.{number + 1}")
        path.rename(tmp_path / "log.1")
        path.write_bytes(text)
    assert everything(follower) == b"two\nthree\nfour\n"


def test_a_file_that_was_deleted_and_made_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\n")
    follower = Follower(place(path))
    follower.begin(0)
    with path.open() as _still_there:  # so that the new one has another inode
        path.unlink()
        assert everything(follower) == b""
        path.write_bytes(b"two\n")
        assert everything(follower) == b"two\n"


def test_a_follower_holds_no_descriptor_while_nothing_is_to_be_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\n" * BLOCK_BYTES)
    follower = Follower(place(path))
    follower.begin(1)
    before = len(own_descriptors())
    with path.open("ab") as file:
        file.write(b"two\n" * BLOCK_BYTES)
    assert follower.more()
    assert len(own_descriptors()) == before + 1
    follower.close()
    assert len(everything(follower)) == 3 * BLOCK_BYTES
    assert len(own_descriptors()) == before


def test_a_truncated_file_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a long first line\n")
    follower = Follower(place(path))
    follower.begin(0)
    path.write_bytes(b"short\n")
    assert everything(follower) == b"short\n"
    follower.close()


def test_a_file_that_comes_later_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "log"
    follower = Follower(place(path))
    assert follower.begin(10) == b""
    assert follower.more() == b""
    path.write_bytes(b"hello\n")
    assert everything(follower) == b"hello\n"
    follower.close()


def test_a_line_that_never_ends_is_passed_on_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"")
    follower = Follower(place(path))
    follower.begin(0)
    path.write_bytes(b"x" * (BLOCK_BYTES + 10))
    assert everything(follower) == b"x" * BLOCK_BYTES
    follower.close()


def test_links_and_what_is_no_file_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of root\n")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "fifo")
    places = [place(tmp_path / name) for name in ("link", "fifo", ".")]
    found = last_lines(places, 10)
    assert [each["data"] for each in found] == [b""] * len(places)
    assert all(str(each["error"]).startswith("cannot read ") for each in found)
    for each in places:
        follower = Follower(each)
        assert (follower.begin(10), everything(follower)) == (b"", b"")


def test_a_folder_that_became_a_link_is_not_read_and_its_readers_are_told(tmp_path: Path) -> None:
    app, secret = tmp_path / "app", tmp_path / "secret"
    (app / "logs").mkdir(parents=True)
    secret.mkdir()
    (secret / "web.log").write_bytes(b"precious\n")
    (app / "logs" / "web.log").write_bytes(b"one\n")
    app.chmod(0o777)
    at = place(app / "logs" / "web.log")
    follower = Follower(at)
    assert follower.begin(10) == b"one\n"
    (app / "logs").rename(app / "moved")
    (app / "logs").symlink_to(secret)
    with (app / "moved" / "web.log").open("ab") as writer:
        writer.write(b"two\n")
    assert everything(follower) == b""
    assert follower.notes[0].endswith("app/logs/web.log: a symbolic link that others may change")
    assert Follower(at).begin(10) == b""
    (entry,) = last_lines([at], 10)
    assert entry["data"] == b""
    assert str(entry["error"]).endswith("app/logs/web.log: a symbolic link that others may change")


def rotate(path: Path, *, compress: bool = False) -> None:
    """Rename as the keeper does, and compress as the controller's helper does."""
    last = 0
    while any(path.with_name(f"log.{last + 1}{end}").exists() for end in ("", ".gz")):
        last += 1
    for number in range(last, 0, -1):
        for end in ("", ".gz"):
            old = path.with_name(f"log.{number}{end}")
            if old.exists():
                old.rename(path.with_name(f"log.{number + 1}{end}"))
    path.rename(path.with_name("log.1"))
    if compress:
        compress_rotated(path)


def numbered(begin: int, end: int) -> bytes:
    return b"".join(b"line %06d %s\n" % (number, b"." * 40) for number in range(begin, end))


def test_lines_of_rotated_and_compressed_files_are_shown_too(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for begin in range(0, 20_000, 5_000):
        path.write_bytes(numbered(begin, begin + 5_000))
        rotate(path, compress=begin < 15_000)
    path.write_bytes(numbered(20_000, 20_010))
    (entry,) = last_lines([place(path)], 30_000)
    assert entry["data"] == numbered(0, 20_010)
    assert "more" not in entry
    (entry,) = last_lines([place(path)], 12_345)
    assert entry["data"] == numbered(20_010 - 12_345, 20_010)
    assert entry["more"] is True
    follower = Follower(place(path))
    assert follower.begin(5_100) == numbered(20_010 - 5_100, 20_010)
    assert everything(follower) == b""


def test_what_has_no_room_in_an_answer_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.controller.output.log_files.MAX_ANSWER_BYTES", 200_000)
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(numbered(0, 5_000))
    entries = last_lines([place(tmp_path / "one"), place(tmp_path / "two")], 5_000)
    assert [entry["cut"] for entry in entries] == [True, True]
    assert all(len(bytes(entry["data"])) > 50_000 for entry in entries)  # type: ignore[call-overload]  # an object


def test_lines_since_a_time(tmp_path: Path) -> None:
    dated, undated = tmp_path / "log", tmp_path / "undated"
    second = 10**9
    forms = (True, "local", "unix")
    lines = [stamp(at * second, forms[at % 3]) + b" at %d\n" % at for at in range(1, 10)]
    dated.write_bytes(b"".join(lines[:5]))
    rotate(dated)
    dated.write_bytes(b"".join(lines[5:]) + b"no time\n")
    undated.write_bytes(b"one\ntwo\n")
    found = last_lines([place(dated), place(undated)], 100, 4 * second)
    assert found[0]["data"] == b"".join(lines[3:]) + b"no time\n"
    assert (found[1]["data"], found[1]["undated"]) == (b"one\ntwo\n", True)
    os.utime(undated, (3, 3))
    assert len(last_lines([place(undated)], 100, 4 * second)) == 0
    assert last_lines([place(dated)], 2, 4 * second)[0]["data"] == lines[-1] + b"no time\n"


def test_a_line_without_end_is_passed_on_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\n")
    follower = Follower(place(path))
    follower.begin(0)
    with path.open("ab") as file:
        file.write(b"Pass")
    assert follower.more(1) == b""
    assert follower.quiet_at_ns == 1 + QUIET_NS
    with path.open("ab") as file:
        file.write(b"word: ")
    assert follower.more(1 + QUIET_NS) == b""  # it was not quiet
    assert follower.more(1 + 2 * QUIET_NS) == b"Password: "
    assert follower.more(1 + 9 * QUIET_NS) == b""
    again = Follower(place(path))
    again.resume(follower.position)
    with path.open("ab") as file:
        file.write(b"\nnext\n")
    for each in (follower, again):
        assert everything(each) == b"next\n"


def test_a_follower_goes_on_where_another_has_ended(tmp_path: Path) -> None:
    for compress in (False, True):
        path = tmp_path / str(compress) / "log"
        path.parent.mkdir()
        path.write_bytes(numbered(0, 10))
        rotate(path, compress=True)
        path.write_bytes(numbered(10, 20))
        first = Follower(place(path))
        assert first.begin(5) == numbered(15, 20)
        with path.open("ab") as file:
            file.write(numbered(20, 3_000))
        assert first.more()
        first.close()
        with path.open("ab") as file:
            file.write(numbered(3_000, 3_010))
        rotate(path, compress=compress)
        path.write_bytes(numbered(3_010, 3_020))
        rotate(path, compress=compress)
        path.write_bytes(numbered(3_020, 3_030))
        second = Follower(place(path))
        second.resume(first.position)
        read = int(first.position.split(":")[2]) // len(numbered(0, 1)) + 10
        assert everything(second) == numbered(read, 3_030)
        assert second.notes == []


def test_the_rest_of_a_line_is_not_waited_for_where_its_file_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "web.log"
    follower = Follower(place(path))
    for leave in (path.unlink, lambda: monkeypatch.setattr(OpenPart, "read", fail)):
        path.write_bytes(b"amid a line")
        assert follower.more(1) == b""
        assert (due_ns := follower.quiet_at_ns)
        leave()
        assert (follower.more(due_ns), follower.quiet_at_ns) == (b"", None)


def fail(*_: object) -> bytes:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_what_was_removed_before_it_was_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\n")
    first = Follower(place(path))
    first.begin(0)
    rotate(path)
    path.write_bytes(b"two\n")
    rotate(path)
    path.write_bytes(b"three\n")
    (tmp_path / "log.2").unlink()
    second = Follower(place(path))
    second.resume(first.position)
    assert everything(second) == b"two\nthree\n"
    assert second.notes == ["output was missed here: the file was removed before it was read"]
    path.write_bytes(b"four\n" * BLOCK_BYTES)
    assert second.more()
    path.write_bytes(b"")
    assert everything(second) == b""
    missed = 4 * BLOCK_BYTES - 4  # a block ends with its last whole line
    assert second.notes[-1].startswith(
        f"at least {missed} bytes were missed here: the file was cut"
    )
