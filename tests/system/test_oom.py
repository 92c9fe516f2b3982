"""Claims about deaths by SIGKILL: which are the kernel's, for want of memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from reconciler.model.process import Exit
from reconciler.system import oom
from reconciler.system.oom import OomKills, count_in

if TYPE_CHECKING:
    from pathlib import Path


def counted(folder: Path, kills: int | None) -> str:
    """Return a control group that has counted so many kills; None: there nothing is counted."""
    folder.mkdir(exist_ok=True)
    if kills is not None:
        events = f"low 0\nhigh 0\nmax 7\noom 1\noom_kill {kills}\noom_group_kill 0\n"
        (folder / "memory.events").write_text(events)
    return str(folder)


def test_a_group_that_has_counted_a_kill_is_sure_and_so_is_one_that_has_not(tmp_path: Path) -> None:
    kills = OomKills(counted(tmp_path / "ours", 0), log="/dev/null")
    assert kills.why(7, counted(tmp_path / "one", 2)) == "certain"
    counted(tmp_path / "ours", 5)
    assert kills.why(8, counted(tmp_path / "other", 0)) == ""


def test_without_a_count_of_its_own_that_of_the_managers_group_makes_it_probable(
    tmp_path: Path,
) -> None:
    group = counted(tmp_path / "ours", 3)
    kills = OomKills(group, log="/dev/null")
    assert kills.why(7, "") == ""
    counted(tmp_path / "ours", 4)
    assert kills.why(7, counted(tmp_path / "bare", None)) == "probable"
    assert kills.why(8, "") == "", "that one was not counted"


def test_the_log_of_the_kernel_names_who_was_killed(tmp_path: Path) -> None:
    if os.readlink("/proc/self/ns/pid") != oom._FIRST_PIDS:
        pytest.skip("the kernel's log speaks of other pids than we see here")
    log = tmp_path / "kmsg"
    log.touch()
    kills = OomKills(counted(tmp_path / "ours", None), log=str(log))
    log.write_text(
        "3,425,606,-;Memory cgroup out of memory: Killed process 267 (python) total-vm:1kB\n"
    )
    assert kills.why(26, "") == ""
    log.write_text(
        log.read_text() + "3,426,607,-;Out of memory: Killed process 26 (x) total-vm:1kB\n"
    )
    assert kills.why(26, "") == "certain"


def test_where_nothing_is_counted_nothing_is_said(tmp_path: Path) -> None:
    assert count_in(str(tmp_path / "nowhere")) is None
    assert OomKills(str(tmp_path), log=str(tmp_path / "none")).why(7, "") == ""


def test_an_end_says_that_memory_was_short() -> None:
    ends = [Exit(signal="KILL", oom=each) for each in ("", "certain", "probable")]  # type: ignore[arg-type]
    assert [*map(str, ends)] == [
        "killed by SIGKILL",
        "killed by SIGKILL (out of memory)",
        "killed by SIGKILL (probably out of memory)",
    ]
