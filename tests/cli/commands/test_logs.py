from __future__ import annotations

import pytest

from reconciler.cli.main import main
from reconciler.output.stamps import stamp
from tests.cli.manager import Manager


def test_output_is_asked_for_and_shown_after_the_slots_name(
    manager: Manager, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    manager.answers["logs"] = {
        "entries": [
            {"watcher": "web", "slot": 1, "stream": "stdout", "data": b"one\ntwo\n"},
            {"watcher": "worker", "slot": 10, "stream": "stderr", "data": b"\x1b[1mthree\n"},
        ]
    }

    assert main(["logs", "-n", "5"]) == 0
    assert manager.asked("logs") == [{"lines": 5}]
    assert capfdbinary.readouterr().out == (
        b"web.1     | one\nweb.1     | two\nworker.10 | \x1b[1mthree\n"
    )


def test_logs_of_several_slots_are_in_the_order_of_their_times(
    manager: Manager, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    def line(second: int, text: bytes) -> bytes:
        return stamp(second * 10**9) + b" " + text + b"\n"

    one = {"watcher": "web", "slot": 1, "stream": "stdout", "path": "/logs/web-1.log"}
    first = {**one, "data": line(1, b"a") + b"of a\n" + line(4, b"d"), "more": True}
    second = {**one, "slot": 2, "data": line(2, b"b") + line(3, b"c"), "cut": True}
    shared = {**one, "watcher": "", "slot": 0, "data": line(5, b"e"), "path": "/logs/all.log"}
    manager.answers["logs"] = {"entries": [first, second, shared], "empty": ["x is discarded"]}

    assert main(["logs", "--no-prefix"]) == 0
    shown = capfdbinary.readouterr()
    assert [text[28:] or text for text in shown.out.split(b"\n")] == [
        *(b"a", b"of a", b"b", b"c", b"d", b"e", b"")
    ]
    assert shown.err.decode().splitlines() == [
        "x is discarded",
        "web.1: older lines are left out; more of them: -n 10000",
        "web.2: only the last of it has room here; all of it: /logs/web-1.log*",
    ]
    assert main(["logs", "--tail", "3", "--since", "1h", "--hooks"]) == 0
    asked = manager.asked("logs")
    assert asked[0] == {"lines": 100}
    assert (asked[1]["lines"], asked[1]["hooks"]) == (3, True)
    shown = capfdbinary.readouterr()
    assert b"all.log | " in shown.out
    assert b"older lines" not in shown.err
    assert main(["logs", "-f", "--since", "1h"]) == 64


def test_that_nothing_was_written_since_then_is_told_beside_the_output(
    manager: Manager, capfd: pytest.CaptureFixture[str]
) -> None:
    silent = {"watcher": "web", "slot": 1, "stream": "stdout", "data": b""}
    manager.answers["logs"] = {"entries": [silent]}
    for output in ("text", "json"):
        assert main(["logs", "--since", "2026-01-02T03:04", "-o", output]) == 0
        assert capfd.readouterr() == ("", "nothing was written since 2026-01-02 03:04:00.000\n")
    manager.answers["logs"] = {"entries": [], "empty": ["web has not written anything yet"]}
    assert main(["logs", "--since", "1h"]) == 0
    assert capfd.readouterr() == ("", "web has not written anything yet\n")
    manager.answers["logs"] = {"entries": [silent]}
    assert main(["logs"]) == 0
    assert capfd.readouterr() == ("", "")
