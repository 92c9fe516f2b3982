"""When a child was started is told without asking for it, and is what /proc says."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import pytest

from reconciler.system import procfs
from reconciler.system.procfs import Births, Heirs


def start_time(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def start() -> int:
    return os.posix_spawn(sys.executable, [sys.executable, "-I", "-S", "-c", "input()"], {})


def test_it_is_what_proc_says() -> None:
    births, children = Births(), []
    for _ in range(100):
        births.expect()
        children.append(start())
        assert births.of(children[-1]) == start_time(children[-1])
    for pid in children:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_it_is_not_asked_for_where_no_tick_goes_by(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks, asked = [7, 7, 8, 8, 8, 9], []

    def born(pid: int) -> int:
        asked.append(pid)
        return {1: 7, 3: 9}[pid]

    monkeypatch.setattr(procfs, "_ticks", lambda: ticks.pop(0))
    monkeypatch.setattr(procfs, "born", born)
    births, found = Births(), []
    for pid in (1, 2, 3):
        births.expect()
        found.append(births.of(pid))
    assert (found, asked) == ([7, 8, 9], [1, 3])


def test_a_system_that_counts_otherwise_is_asked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "_ticks", lambda: 7)
    births = Births()
    for _ in range(3):
        births.expect()
        assert births.of(os.getpid()) == start_time(os.getpid())


def test_one_that_is_gone_says_nothing_about_the_system() -> None:
    births = Births()
    births.expect()
    pid = start()
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    assert births.of(pid) == 0
    births.expect()
    assert births.of(os.getpid()) == start_time(os.getpid())


def test_all_are_looked_at_when_an_heir_is_dead_though_nobody_has_waited_for_it() -> None:
    heirs = Heirs("ours/", lambda _: "", lambda _: contextlib.nullcontext())
    heir, orphan = start(), 0
    try:
        heirs.search(())  # the first look is at all
        heirs.look_at({heir})
        os.kill(heir, 9)
        os.waitid(os.P_PID, heir, os.WEXITED | os.WNOWAIT)
        orphan = os.posix_spawn("/bin/sleep", ["sleep", "60"], {}, setsid=True)
        assert orphan in heirs.search({orphan})
    finally:
        for pid in filter(None, (heir, orphan)):
            os.kill(pid, 9)
            os.waitpid(pid, 0)
