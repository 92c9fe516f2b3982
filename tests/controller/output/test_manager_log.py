"""Claims about the manager's own log: nobody waits for it, it is bounded, and it says things once."""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from reconciler.controller.output import manager_log
from reconciler.controller.output.manager_log import (
    BURST,
    FIRST_WINDOW_NS,
    KEPT_LOGS,
    LAST_WINDOW_NS,
    MAX_KEYS,
    MAX_WAITING_LINES,
    ManagerLog,
    Repeats,
)
from reconciler.controller.runtime import clock

if TYPE_CHECKING:
    from pathlib import Path


def test_a_log_line_is_one_line_and_speaks_to_no_terminal(tmp_path: Path) -> None:
    log = ManagerLog("info", "text", str(tmp_path / "log"))
    log.write("warning", "cannot do it", path="/a b", cause="x\n\x1b[2J", count=3)
    log.write("debug", "not asked for")
    assert log.flush(20)
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert line.endswith(
        r'warning controller: cannot do it path="/a b" cause="x\n\u001b[2J" count=3'
    )


def test_a_json_line_has_all_pairs(tmp_path: Path) -> None:
    log = ManagerLog("info", "json", str(tmp_path / "log"))
    log.write("info", "hello", slot=1, path="/x")
    assert log.flush(20)
    entry = json.loads((tmp_path / "log").read_text())
    assert (entry["level"], entry["message"], entry["slot"], entry["path"]) == (
        "info",
        "hello",
        1,
        "/x",
    )


def test_a_trace_follows_its_line_and_speaks_to_no_terminal(tmp_path: Path) -> None:
    log = ManagerLog("info", "text", str(tmp_path / "log"))
    log.write("error", "unexpected error", trace="Traceback:\n  a \x1b[2J\n", where="here")
    assert log.flush(20)
    first, *trace = (tmp_path / "log").read_text().splitlines()
    assert first.endswith("error controller: unexpected error where=here")
    assert trace == ["    Traceback:", r"      a \x1b[2J"]


def test_a_reader_who_has_stopped_costs_lines_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stderr", pipe)
        log = ManagerLog()
        for number in range(MAX_WAITING_LINES * 3):
            log.write("info", f"line {number}", text="x" * 100)
        assert not log.flush(0)
        read = bytearray()
        thread = threading.Thread(target=_read_all, args=(reader, read))
        thread.start()
        assert log.flush(20)
        log.write("info", "the last one")
        assert log.flush(20)
    thread.join()
    lines = read.decode().splitlines()
    dropped = [line for line in lines if "dropped" in line]
    assert dropped
    counted = sum(int(line.rpartition("=")[2]) for line in dropped)
    assert counted + len(lines) - len(dropped) - 1 == MAX_WAITING_LINES * 3
    assert "line 0 " in lines[0]
    assert lines[-1].endswith("the last one")


def _read_all(descriptor: int, into: bytearray) -> None:
    while data := os.read(descriptor, 2**16):
        into += data
    os.close(descriptor)


def test_a_log_that_was_renamed_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = ManagerLog(file=str(path))
    log.write("info", "first")
    assert log.flush(20)
    path.rename(tmp_path / "log.1")
    log.reopen()  # SIGHUP: at once
    assert log.flush(20)
    assert path.read_text() == ""
    path.rename(tmp_path / "log.2")
    log.write("info", "second")  # or with the next line
    assert log.flush(20)
    assert "second" in path.read_text()
    assert "second" not in (tmp_path / "log.1").read_text() + (tmp_path / "log.2").read_text()


def test_a_log_is_rotated_by_size_and_so_many_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager_log, "MAX_LOG_BYTES", 1000)
    log = ManagerLog(file=str(tmp_path / "log"))
    for number in range(100):
        log.write("info", "a line", number=number, text="x" * 200)
        assert log.flush(20)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["log", *(f"log.{number}" for number in range(1, KEPT_LOGS + 1))]
    assert all(path.stat().st_size < 1600 for path in tmp_path.iterdir())
    numbers = [
        line.split("number=")[1].split()[0]
        for name in reversed(names)
        for line in (tmp_path / name).read_text().splitlines()
    ]
    assert numbers == [str(number) for number in range(100 - len(numbers), 100)]


def test_standard_error_that_is_a_file_of_the_manager_is_rotated_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager_log, "MAX_LOG_BYTES", 1000)
    path = tmp_path / manager_log.STDERR_FILE
    with path.open("a") as file:
        monkeypatch.setattr(sys, "stderr", file)
        log = ManagerLog(state_dir=str(tmp_path))
        for number in range(20):
            log.write("info", "a line", number=number, text="x" * 200)
            assert log.flush(20)
        os.write(file.fileno(), b"the keeper's\n")  # it appends to the same file
    assert path.stat().st_size < 1600
    assert path.read_bytes().endswith(b"the keeper's\n")
    assert "number=19" in path.read_text() + (tmp_path / f"{path.name}.1").read_text()


def test_a_file_that_cannot_be_opened_is_said_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "stderr").open("a") as file:
        monkeypatch.setattr(sys, "stderr", file)
        log = ManagerLog(file=str(tmp_path / "no" / "log"))
        log.write("info", "first")
        assert log.flush(20)
        log.write("info", "second")
        assert log.flush(20)
        (tmp_path / "no").mkdir()
        log.write("info", "third")
        assert log.flush(20)
    said = (tmp_path / "stderr").read_text()
    assert said.count("cannot open the log file") == 1
    assert "second" in said
    assert "third" in (tmp_path / "no" / "log").read_text()


@pytest.mark.parametrize("link", ["folder", "file"])
def test_a_link_that_others_may_put_in_the_place_of_the_log_is_never_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: str
) -> None:
    monkeypatch.setattr(manager_log, "MAX_LOG_BYTES", 500)
    victim, app = tmp_path / "victim", tmp_path / "app"
    logs, path = app / "logs", app / "logs" / "log"
    victim.mkdir()
    logs.mkdir(parents=True)
    app.chmod(0o777)
    (victim / "log").write_text("precious\n" * 100)
    with (tmp_path / "stderr").open("a") as file:
        monkeypatch.setattr(sys, "stderr", file)
        log = ManagerLog(file=str(path))
        log.write("info", "first")
        assert log.flush(20)
        if link == "folder":
            logs.rename(app / "moved")
            logs.symlink_to(victim)
        else:
            path.rename(logs / "moved")
            path.symlink_to(victim / "log")
        for number in range(5):
            log.write("info", "more", number=number, text="x" * 200)
            log.reopen()
            assert log.flush(20)
    assert [each.name for each in victim.iterdir()] == ["log"]
    assert (victim / "log").read_text() == "precious\n" * 100
    written = (app / "moved" / "log" if link == "folder" else logs / "moved").read_text()
    assert ("number=0" in written, "number=4" in written) == (True, True)
    assert written.count("cannot open the log file") == 1


def test_standard_output_is_a_file_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "stderr").open("a") as file:
        monkeypatch.setattr(sys, "stderr", file)
        log = ManagerLog(file="/dev/stdout")
        log.write("info", "first")
        log.reopen()
        log.write("info", "second")
        assert log.flush(20)
    written = capfd.readouterr().out
    assert ("first" in written, "second" in written) == (True, True)
    assert not (tmp_path / "stderr").read_text()


def test_the_repeats_of_a_crash_loop_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ns = [0]
    monkeypatch.setattr(clock, "now_ns", lambda: now_ns[0])
    log = ManagerLog(file=str(tmp_path / "log"))
    for number in range(1000):
        log.write("info", "process.exited", repeats=("bad", 1), watcher="bad", text=str(number))
        log.write("info", "operator.stop", watcher="web", text=f"asked by {number}")
    log.write("info", "process.exited", repeats=("good", 1), watcher="good", text="once")
    assert log.flush(20)
    now_ns[0] += FIRST_WINDOW_NS
    log.write("info", "later")
    assert log.flush(20)
    lines = (tmp_path / "log").read_text().splitlines()
    assert sum("watcher=bad" in line for line in lines) == BURST
    assert sum("watcher=good" in line for line in lines) == 1
    assert sum("asked by" in line for line in lines) == 1000
    assert lines[-1].endswith(f'what="process.exited bad 1" times={1000 - BURST} within=10s')


def test_windows_grow_while_it_goes_on_and_end_when_it_is_over() -> None:
    repeats, now_ns, written = Repeats(), 0, 0
    for _ in range(2 * 3600 * 10):  # ten times a second, for two hours
        now_ns += 10**8
        written += repeats.passes(("key",), now_ns) + len(repeats.ended(now_ns))
    assert written < BURST + 30
    assert repeats.ended(now_ns + LAST_WINDOW_NS)
    assert repeats.ended(now_ns + 3 * LAST_WINDOW_NS) == []
    assert (repeats.next_ns, repeats.passes(("key",), now_ns + 3 * LAST_WINDOW_NS)) == (
        None,
        True,
    )


def test_the_keys_that_are_told_apart_are_bounded() -> None:
    repeats = Repeats()
    for number in range(MAX_KEYS + 1):
        repeats.passes((number,), 0)
    for _ in range(BURST + 2):
        repeats.passes((5,), 0)
    assert repeats.ended(0) == [((5,), 3, FIRST_WINDOW_NS)]
    assert len(repeats._windows) == 0
