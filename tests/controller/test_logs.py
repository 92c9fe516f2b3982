"""Claims about the end of log files and what is appended to them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from reconciler.controller.logs import BLOCK_BYTES, Follower, LogPlace, last_lines, tail

if TYPE_CHECKING:
    from pathlib import Path

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
    descriptor = os.memfd_create("log")
    try:
        os.write(descriptor, b"".join(written) + rest)
        data, offset = tail(descriptor, count)
    finally:
        os.close(descriptor)
    assert data == b"".join(written[len(written) - count :] if count < len(written) else written)
    assert offset == sum(map(len, written))


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
    assert not follower.is_open
    with path.open("ab") as file:
        file.write(b"two\n" * BLOCK_BYTES)
    assert follower.more()
    assert follower.is_open
    follower.close()
    assert len(everything(follower)) == 3 * BLOCK_BYTES
    assert not follower.is_open


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
    assert follower.trouble.endswith("app/logs/web.log: a symbolic link that others may change")
    assert Follower(at).begin(10) == b""
    (entry,) = last_lines([at], 10)
    assert entry["data"] == b""
    assert str(entry["error"]).endswith("app/logs/web.log: a symbolic link that others may change")
