"""Claims about news, parameters, selection patterns and compression."""

from __future__ import annotations

import contextlib
import gzip
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from reconciler.controller import usage
from reconciler.controller.compress import compress, compress_rotated
from reconciler.controller.entries import KEPT_EVENTS, ToldEvent
from reconciler.controller.news import BURST, NewsRoom, Wished
from reconciler.controller.parameters import Parameters
from reconciler.controller.selection import MAX_GLOB, MAX_GLOBS, Wanted, compiled, wanted
from reconciler.controller.usage import holder_of, usage_of
from reconciler.model.address import InternetAddress
from reconciler.model.errors import RequestError
from reconciler.model.news import News
from reconciler.model.socket import SocketTemplate
from reconciler.output.places import folder_of

# ---- news -----------------------------------------------------------------------------------------


def test_news_are_numbered_from_where_the_last_life_ended() -> None:
    room = NewsRoom(20_001)
    assert room.newest == 20_000
    entries = [room.add(News("a", str(number)), 5) for number in range(3)]
    assert [entry.seq for entry in entries] == [20_001, 20_002, 20_003]
    assert room.since(20_001, 10) == entries[1:]
    assert room.since(0, 2) == entries[1:]
    assert room.since(20_003, 10) == []


def test_only_the_newest_news_are_kept() -> None:
    room = NewsRoom(1)
    for number in range(KEPT_EVENTS + 5):
        room.add(News("a", str(number)), 0)
    assert room.since(0, KEPT_EVENTS * 2)[0].seq == 6
    assert len(room.since(0, KEPT_EVENTS * 2)) == KEPT_EVENTS
    assert room.missed(3) == 2


def test_news_of_earlier_lives_come_before_ours_across_the_gap_in_the_numbers() -> None:
    room = NewsRoom(1001)
    ours = [room.add(News("b", str(number)), 5) for number in range(3)]
    earlier = [ToldEvent(seq, 0, "a", "", 0, "", {}) for seq in range(4, 9)]
    assert room.lacks(5, 100)
    assert not room.lacks(1000, 100)
    assert not room.lacks(5, 3)
    room.recall(earlier)
    assert not room.lacks(5, 100)
    assert room.since(0, 100) == [*earlier, *ours]
    assert room.since(6, 100) == [*earlier[3:], *ours]
    assert room.since(8, 100) == room.since(500, 100) == ours
    assert room.since(1001, 100) == ours[1:]
    assert room.since(0, 4) == [earlier[-1], *ours]
    assert room.since(0, 2) == ours[1:]
    assert (room.missed(6), room.missed(8), room.missed(1)) == (0, 0, 2)


def test_a_loss_is_counted_also_behind_an_order_that_is_kept() -> None:
    room = NewsRoom(1)
    room.add(News("a", "the last that was read"), 0)
    room.add(News("operator.stop", "kept"), 0)
    for number in range(KEPT_EVENTS + 5):
        room.add(News("a", str(number)), 0)
    assert [each.message for each in room.since(1, KEPT_EVENTS * 2)][:2] == ["kept", "5"]
    assert room.missed(1) == 5


def test_what_is_counted_for_days_takes_no_room() -> None:
    room = NewsRoom(1)

    def crash_loop(times: int) -> int:
        for _ in range(times):
            room.add(News("process.exited", "exit 1", "loop", 1), 0)
            room.take_replaced()
        return sum(map(len, room._rooms.values()))

    assert max(crash_loop(KEPT_EVENTS) for _ in range(5)) <= 2 * KEPT_EVENTS
    assert len(room.since(0, KEPT_EVENTS)) == BURST + 1


def test_types_are_names_first_words_and_globs() -> None:
    told = ToldEvent(1, 0, "process.exited", "web", 1, "", {})
    for types in ("process.exited", "process", "*.exited", "proc*"):
        assert Wished(types=(types,)).test()(told), types
    for types in ("exited", "process.", "proc", "process.exited.ok"):
        assert not Wished(types=(types,)).test()(told), types


# ---- parameters -----------------------------------------------------------------------------------


def test_an_unknown_parameter_is_an_error_that_names_the_known_ones() -> None:
    params = Parameters({"nmaes": ["web"]})
    params.texts("names")
    with pytest.raises(RequestError) as error:
        params.end()
    assert (error.value.code, error.value.details["hint"]) == ("invalid_request", "known: names")


def test_names_may_be_bytes_and_a_single_text() -> None:
    assert Parameters({"names": [b"web", "db"]}).texts("names") == ("web", "db")
    assert Parameters({"names": "web"}).texts("names") == ("web",)
    assert Parameters({"names": None}).texts("names") == ()


def test_a_whole_number_may_be_packed_as_a_float() -> None:
    assert Parameters({"x": 5e9}).number("x", 0, 2**40) == 5_000_000_000
    assert Parameters({"x": {"a": 2.0, "b": None}}).number_map("x", 0, 5) == {"a": 2, "b": None}


@pytest.mark.parametrize(
    ("take", "value"),
    [
        (lambda p: p.text("x"), 5),
        (lambda p: p.text("x"), b"\xff"),
        (lambda p: p.text("x"), "x" * 5000),
        (lambda p: p.flag("x"), 1),
        (lambda p: p.number("x", 0, 5), True),
        (lambda p: p.number("x", 0, 5), 6),
        (lambda p: p.number("x", 0, 5), 1.5),
        (lambda p: p.number("x", 0, 5), float("nan")),
        (lambda p: p.number("x", 0, 5), float("inf")),
        (lambda p: p.number_map("x", 0, 5), {"a": True}),
        (lambda p: p.text("x"), "\udcff"),
        (lambda p: p.texts("x"), ["good", "\udcff"]),
        (lambda p: p.texts("x"), [["nested"]]),
        (lambda p: p.text_map("x"), ["a"]),
        (lambda p: p.number_map("x", 0, 5), {"a": "1"}),
        (lambda p: p.number_map("x", 0, 5), None),
        (lambda p: p.choice("x", ("a",)), "b"),
    ],
)
def test_a_parameter_of_another_type_is_refused(take: object, value: object) -> None:
    assert callable(take)
    with pytest.raises(RequestError):
        take(Parameters({"x": value}))


# ---- selection ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "name", "expected"),
    [
        (("web",), "web", None),
        (("w*",), "web", None),
        (("web.2", "web.1"), "web", (1, 2)),
        (("web.2", "web"), "web", None),
        (("w*.3",), "web", (3,)),
        (("db",), "web", "not"),
        ((), "web", None),
    ],
)
def test_names_globs_and_slots(
    written: tuple[str, ...], name: str, expected: tuple[int, ...] | str | None
) -> None:
    selection = Wanted(written)
    assert selection.matches(name, {}) is (expected != "not")
    if expected != "not":
        assert selection.slots(name) == expected


def test_what_is_written_twice_counts_once_and_globs_are_bounded() -> None:
    selection = wanted(Parameters({"names": ["*2999"] * 900 + ["web", "web", "db.2"] * 100}))
    assert selection.names == ("*2999", "web", "db.2")
    globs = [f"w{number}*" for number in range(MAX_GLOBS)]
    names = [f"name-{number}" for number in range(900)]
    assert wanted(Parameters({"names": globs + names})).names == (*globs, *names)
    for too_many in ([*globs, "one*more"], ["*" * (MAX_GLOB + 1)]):
        with pytest.raises(RequestError, match=f"{MAX_GLOBS}|{MAX_GLOB}") as error:
            wanted(Parameters({"names": too_many}))
        assert error.value.code == "invalid_request"


def test_all_globs_are_one_expression_and_slots_add_up() -> None:
    written = compiled(("w*.2", "*b.3", "web.1", "x[yz]", "web.1"))
    assert written.any_glob is not None
    names = ["web", "wb", "xy", "xa", "b", "other"]
    assert [name for name in names if written.any_glob.match(name)] == ["web", "wb", "xy", "b"]
    assert written.among(names) == ["web", "wb", "xy", "b"]
    assert [written.slots(name) for name in ("web", "wb", "xy", "b")] == [
        (1, 2, 3),
        (2, 3),
        None,
        (3,),
    ]


def test_labels_narrow_a_selection() -> None:
    selection = Wanted(("w*",), {"team": "shop"})
    assert selection.matches("web", {"team": "shop", "x": "y"})
    assert not selection.matches("web", {})
    assert not selection.matches("db", {"team": "shop"})


# ---- compression and usage ------------------------------------------------------------------------


def compress_at(path: Path) -> None:
    with folder_of(str(path)) as (folder, name):
        compress(folder, name)


def test_a_compressed_file_takes_the_place_of_the_original(tmp_path: Path) -> None:
    path = tmp_path / "web-1.log.1"
    path.write_bytes(b"line\n" * 1000)
    path.chmod(0o640)
    log = path.with_suffix("")
    done = subprocess.run(
        [sys.executable, "-m", "reconciler.controller.compress", str(log)], check=False
    )
    assert done.returncode == 0
    assert [each.name for each in tmp_path.iterdir()] == ["web-1.log.1.gz"]
    packed = tmp_path / "web-1.log.1.gz"
    assert gzip.decompress(packed.read_bytes()) == b"line\n" * 1000
    assert packed.stat().st_mode & 0o777 == 0o640


def test_a_log_that_is_rotated_while_it_is_compressed_is_compressed_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "web-1.log"
    real = os.utime
    coming = [b"third\n", b"second\n"]

    def rotate_once_more(*of: Any, **times: Any) -> None:
        real(*of, **times)
        if coming:
            for number in (2, 1):
                for end in ("", ".gz"):
                    with contextlib.suppress(FileNotFoundError):
                        Path(f"{log}.{number}{end}").rename(f"{log}.{number + 1}{end}")
            Path(f"{log}.1").write_bytes(coming.pop())

    Path(f"{log}.1").write_bytes(b"first\n")
    Path(f"{log}.old").write_bytes(b"not ours\n")
    monkeypatch.setattr(os, "utime", rotate_once_more)
    compress_rotated(log)
    found = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    assert found.pop("web-1.log.old") == b"not ours\n"
    assert {name: gzip.decompress(data) for name, data in found.items()} == {
        "web-1.log.1.gz": b"third\n",
        "web-1.log.2.gz": b"second\n",
        "web-1.log.3.gz": b"first\n",
    }


def test_a_file_that_the_keeper_rotated_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "web-1.log.1"
    path.write_bytes(b"older\n")
    real = os.utime

    def rotate_now(*of: Any, **times: Any) -> None:
        real(*of, **times)
        path.rename(tmp_path / "web-1.log.2")
        path.write_bytes(b"newer\n")

    monkeypatch.setattr(
        os, "utime", rotate_now
    )  # the moment before the compressed file is put in place
    with pytest.raises(FileNotFoundError):
        compress_at(path)
    found = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    assert found == {"web-1.log.1": b"newer\n", "web-1.log.2": b"older\n"}


def test_a_failed_compression_leaves_the_original(tmp_path: Path) -> None:
    path = tmp_path / "a.log.1"
    path.write_bytes(b"line\n")
    (tmp_path / "a.log.1.gz").mkdir()
    with pytest.raises(OSError, match="exists"):
        compress_at(path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.log.1", "a.log.1.gz"]


def test_usage_of_living_processes_only() -> None:
    used = usage_of([os.getpid(), 2**22 - 1])
    assert list(used) == [os.getpid()]
    assert used[os.getpid()].memory_bytes > 2**20


PREFORKING = """
import os, sys, time
for escapes in (False, True):
    child = os.fork()
    if child == 0:
        held = bytearray(30_000_000)
        if escapes and os.fork():
            os._exit(0)  # the grandchild has another parent from now on, and the session of before
        os.write(1, b"x")
        time.sleep(60)
        os._exit(0)
os.waitpid(child, 0)
os.write(1, b"x")
time.sleep(60)
"""


def test_usage_is_that_of_the_whole_tree() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PREFORKING], stdout=subprocess.PIPE, start_new_session=True
    ) as main:
        try:
            assert main.stdout is not None
            assert main.stdout.read(3) == b"xxx"
            assert usage_of([main.pid])[main.pid].memory_bytes > 60_000_000
        finally:
            os.killpg(main.pid, signal.SIGKILL)


def test_a_figure_does_not_depend_on_what_others_ask() -> None:
    """The clock and /proc are real; what is measured is a process that has never run since it slept."""
    with subprocess.Popen(["sleep", "60"]) as idle, subprocess.Popen(["sleep", "60"]) as other:
        key = idle.pid, usage._stat(idle.pid).born  # type: ignore[union-attr]
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        worked = usage._stat(idle.pid).seconds  # type: ignore[union-attr]
        # As if it had worked for two seconds, and had been asked for three and 1.5 seconds ago.
        samples = usage._Sample(now - 3, worked), usage._Sample(now - 1.5, worked)
        usage._samples[key] = samples
        try:
            assert usage_of([idle.pid])[idle.pid].cpu_percent == 0.0
            usage_of([other.pid])
            assert usage_of([idle.pid])[idle.pid].cpu_percent == 0.0
            assert key in usage._samples
        finally:
            idle.kill()
            other.kill()
    usage_of([])
    assert key not in usage._samples


def test_compressing_writes_through_no_link_and_reads_none(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    rotated = tmp_path / "web.log.1"
    rotated.write_bytes(b"line\n")
    (tmp_path / "web.log.1.gz.unfinished").symlink_to(victim)
    compress_at(rotated)
    assert victim.read_text() == "precious"
    assert gzip.decompress((tmp_path / "web.log.1.gz").read_bytes()) == b"line\n"
    (tmp_path / "web.log.2").symlink_to(victim)
    with pytest.raises(OSError, match="a symbolic link"):
        compress_at(tmp_path / "web.log.2")
    assert not (tmp_path / "web.log.2.gz").exists()


def test_compressing_follows_no_folder_that_became_a_link(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "web.log.1").write_bytes(b"precious\n")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "logs").symlink_to(secret)
    (tmp_path / "app").chmod(0o777)
    with pytest.raises(OSError, match="a symbolic link that others may change"):
        compress_rotated(tmp_path / "app" / "logs" / "web.log")
    assert [each.name for each in secret.iterdir()] == ["web.log.1"]


@pytest.mark.parametrize(
    ("held", "wanted", "conflicts"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.1", False),
        ("0.0.0.0", "127.0.0.1", True),
        ("127.0.0.2", "0.0.0.0", True),
        ("::", "127.0.0.1", True),
        ("127.0.0.2", "::", True),
        ("::1", "127.0.0.1", False),
        ("::1", "0.0.0.0", False),
        ("127.0.0.1", "::1", False),
        ("::1", "::", True),
        ("127.0.0.2", "localhost", True),
    ],
)
def test_only_who_really_conflicts_is_said_to_hold_an_address(
    held: str, wanted: str, *, conflicts: bool
) -> None:
    family = socket.AF_INET6 if ":" in held else socket.AF_INET
    with socket.create_server((held, 0), family=family) as other:
        template = SocketTemplate(InternetAddress(wanted, other.getsockname()[1]))
        assert holder_of(template).endswith(f"(pid {os.getpid()})") == conflicts


def test_sockets_of_ipv6_alone_and_of_files_are_in_nobody_elses_way() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert holder_of(SocketTemplate(InternetAddress("::", port), ipv6_only=True)) == ""
        assert holder_of(SocketTemplate(InternetAddress("127.0.0.1", port), "dgram")) == ""
