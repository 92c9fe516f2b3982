"""Claims about commands whose output is wanted, with a real reactor and real processes."""

from __future__ import annotations

import errno
import os
import selectors
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import raised

from reconciler.controller.runtime.child import Answer, Child
from reconciler.controller.runtime.reactor import Reactor
from reconciler.model.units import MILLISECOND_NS, SECOND_NS
from tests.descriptors import own_descriptors

if TYPE_CHECKING:
    from collections.abc import Sequence


def captured(*command: str, timeout_ns: int = 20 * SECOND_NS, limit: int = 1000) -> Answer:
    reactor, found = Reactor(raised), list[Answer]()
    child = Child(reactor, command)
    child.ask(b"", limit, timeout_ns, found.append)
    while not found:
        reactor.wait(None)
    return found[0]


@pytest.mark.parametrize(
    ("command", "output", "trouble"),
    [
        (["printf", "a\nb"], b"a\nb", ""),
        (["sh", "-c", "echo out; echo not kept >&2"], b"out\n", ""),
        (["sh", "-c", "exit 7"], b"", "exit 7"),
        (["sh", "-c", "kill -9 $$"], b"", "killed by SIGKILL"),
        (["sh", "-c", "yes | head -c 5000; sleep 1000"], None, "wrote more than 1000 bytes"),
    ],
)
def test_what_became_of_it_is_told(
    command: Sequence[str], output: bytes | None, trouble: str
) -> None:
    found = captured(*command)
    assert found.trouble == trouble
    assert output is None or found.output == output


def test_it_is_asked_more_than_a_pipe_holds_and_says_what_is_wrong() -> None:
    reactor, found = Reactor(raised), list[Answer]()
    command = ["sh", "-c", "cat; echo first >&2; echo last >&2; exit 3"]
    child = Child(reactor, command, complains=True)
    child.ask(b"x" * 300_000, 300_000, 20 * SECOND_NS, found.append)
    while not found:
        reactor.wait(None)
    assert found == [Answer(b"x" * 300_000, "exit 3", "last")]


def test_it_ends_at_its_time(tmp_path: Path) -> None:
    assert (
        captured("sleep", "1000", timeout_ns=50 * MILLISECOND_NS).trouble == "took longer than 50ms"
    )


def test_nobody_waits_for_a_descendant_that_holds_the_output_open() -> None:
    assert captured("sh", "-c", "sleep 1000 & echo value").output == b"value\n"


def test_an_end_that_is_seen_before_the_end_of_output_is_no_harm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reactor, found = Reactor(raised), list[Answer]()
    select = reactor._selector.select

    def end_first(timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        while len(ready := select(timeout)) < 3:
            pass
        return sorted(
            ready, key=lambda each: "pidfd" not in os.readlink(f"/proc/self/fd/{each[0].fd}")
        )

    monkeypatch.setattr(reactor._selector, "select", end_first)
    Child(reactor, ["echo", "x"]).ask(b"", 10, 20 * SECOND_NS, found.append)
    reactor.wait(None)
    assert found == [Answer(b"x\n")]


def full(*_: object) -> Any:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_who_was_started_while_there_was_room_is_asked_when_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reactor, found = Reactor(raised), list[Answer]()
    child, started_with = Child(reactor, ["cat"]), own_descriptors()
    monkeypatch.setattr(os, "pidfd_open", full)
    child.ask(b"question", 10, 20 * SECOND_NS, found.append)
    assert own_descriptors() == started_with
    while not found:
        reactor.wait(None)
    assert found == [Answer(b"question")]


@pytest.mark.parametrize("step", ["pidfd_open", "set_blocking", "first watch", "second watch"])
def test_a_step_of_starting_a_command_that_fails_gives_back_the_others(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reactor, found, started = Reactor(raised), list[Answer](), list[subprocess.Popen[bytes]]()
    real, calls = reactor.watch, []

    class Popen(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            started.append(self)

    def watch(*of: Any) -> None:
        calls.append(of)
        if len(calls) == (1 if step == "first watch" else 2):
            full()
        real(*of)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    if "watch" in step:
        monkeypatch.setattr(reactor, "watch", watch)
    else:
        monkeypatch.setattr(os, step, full)
    before = own_descriptors()
    if step == "pidfd_open":
        with pytest.raises(OSError, match="Too many open files"):
            Child(reactor, ["sleep", "99"])
    else:
        Child(reactor, ["sleep", "99"]).ask(b"", 10, 20 * SECOND_NS, found.append)
    while reactor._soon or reactor._deadlines:
        reactor.wait(None)
    assert found == [Answer(b"", "cannot be run: too many open files")] * (step != "pidfd_open")
    assert started[0].returncode == -signal.SIGKILL
    assert own_descriptors() == before
    assert (reactor._deadlines, dict(reactor._selector.get_map())) == ({}, {})
