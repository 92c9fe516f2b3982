"""Claims about control groups: who is born in one, what dies with it, and what is left of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.keeper.startup.delegation import find_groups
from reconciler.model.observation import KeeperIntroduced
from reconciler.model.process import CaptureSink, ProcessId
from reconciler.system import cgroups
from tests.keeper.rig import Link, is_alive, is_readable, keeper, pid_in, until

WEB = ProcessId("web", 1)
DAEMON = """
import os, time
def alone():
    if os.fork(): return
    os.setsid()
    if os.fork(): os._exit(0)
    os.execve("/bin/sh", ["sh", "-c", "trap '' TERM; echo $$ && while :; do sleep 1000; done"], {})
alone()
time.sleep(1000)
"""
"""Starts a process of which nothing tells whose it is: no parent, no session, no environment."""


def mount_point() -> Path | None:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, point, system, *_ = line.split()
        if system == "cgroup2" and os.access(point, os.W_OK):
            return Path(point)
    return None


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder of control groups, which must be empty in the end."""
    point = mount_point()
    if point is None:
        pytest.skip("needs a cgroup2 file system that this user may write to")
    folder = point / f"reconcile-test-{os.getpid()}"
    folder.mkdir()
    try:
        yield folder
        assert until(lambda: groups_in(folder) == [])
    finally:
        for group in groups_in(folder):
            with contextlib.suppress(OSError):
                (folder / group / "cgroup.kill").write_text("1")
        until(lambda: all(not pids_in(folder / group) for group in groups_in(folder)))
        for group in groups_in(folder):
            (folder / group).rmdir()
        folder.rmdir()


@pytest.fixture
def link(tmp_path: Path, folder: Path) -> Iterator[Link]:
    settings = {"cgroup": str(folder)}
    with keeper(tmp_path, settings=settings, env={"PATH": "/usr/bin:/bin"}) as rig:
        yield rig.link()


def groups_in(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir() if each.is_dir()]


def pids_in(group: Path) -> list[int]:
    try:
        return [int(word) for word in (group / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def start_daemon(link: Link, tmp_path: Path) -> int:
    """Start a process that hides, and return its pid."""
    out = tmp_path / "out"
    link.spawn(WEB, sys.executable, "-c", DAEMON, stdout=CaptureSink(str(out)))
    link.running(WEB)
    return int(until(lambda: out.read_text().strip() if out.exists() else ""))


def test_a_process_is_born_in_a_group_of_its_own(link: Link, folder: Path) -> None:
    assert link.hear(KeeperIntroduced).containment == "cgroup"
    link.spawn(WEB, "sleep", "1000")
    link.running(WEB)
    (group,) = groups_in(folder)
    assert pids_in(folder / group) == [pid_in(link, WEB)]
    link.signal(WEB, "KILL", "tree")
    link.exited(WEB)


def test_one_that_hides_from_everything_else_dies_with_its_group(
    link: Link, tmp_path: Path, folder: Path
) -> None:
    hidden = start_daemon(link, tmp_path)
    link.signal(WEB, "KILL", "tree")
    link.exited(WEB)
    until(lambda: not is_alive(hidden))


def test_one_that_hides_is_a_survivor_of_its_leader(
    link: Link, tmp_path: Path, folder: Path
) -> None:
    hidden = start_daemon(link, tmp_path)
    link.signal(WEB, "TERM", "process")
    assert link.exited(WEB).survivors
    link.signal(WEB, "KILL", "tree")
    assert link.wait(lambda: not link.exited(WEB).survivors)
    assert not is_alive(hidden)


def test_what_fails_before_the_program_runs_is_told_and_leaves_no_group(
    link: Link, folder: Path
) -> None:
    link.spawn(WEB, "/does/not/exist")
    error = link.exited(WEB).exit.error
    assert error is not None
    assert (error.step, error.errno, error.path) == ("exec", "ENOENT", "/does/not/exist")


def test_only_who_must_be_gone_as_a_tree_gets_a_group(link: Link, folder: Path) -> None:
    link.spawn(WEB, "sleep", "1000", scope="group")
    link.running(WEB)
    assert groups_in(folder) == []


def test_a_folder_that_holds_no_groups_is_refused_and_processes_start_without(
    tmp_path: Path,
) -> None:
    settings = {"cgroup": str(tmp_path)}
    with keeper(tmp_path, settings=settings, env={"PATH": "/usr/bin:/bin"}) as rig:
        link = rig.link()
        assert link.hear(KeeperIntroduced).containment == "session"
        link.spawn(WEB, "sleep", "1000")
        link.running(WEB)


def test_nobody_takes_a_folder_that_was_not_given_to_him() -> None:
    own = cgroups.path_of(os.getpid())
    point = mount_point()
    delegated = False
    if point is not None:
        with contextlib.suppress(OSError):
            delegated = os.getxattr(f"{point}{own}", "user.delegate") == b"1"
    if delegated:
        pytest.skip("this control group was given to the tests")
    assert find_groups(None, pytest.fail) is None


def test_a_death_tries_no_group_that_somebody_is_left_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = cgroups.Groups(str(folder), f"/{folder.name}")
    tried: list[str] = []
    real = cgroups._remove
    monkeypatch.setattr(cgroups, "_remove", lambda path: tried.append(path) or real(path))
    pids = []
    for number in range(20):
        group = groups.open(f"token/w.{number}/1", {})
        if (pid := cgroups.fork_into(group)) == 0:
            os.execv("/bin/sleep", ["sleep", "1000"])
        os.close(group)
        pids.append(pid)
        groups.leave(f"token/w.{number}/1")
        groups.clean_up()
    assert len(tried) == 20
    for _ in range(10):
        groups.clean_up()
    assert len(tried) == 20, "nothing has changed in any of them"
    for pid in pids[:3]:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    until(lambda: groups.clean_up() or len(groups_in(folder)) == 17)
    assert len(tried) <= 20 + 2 * 3
    for pid in pids[3:]:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert is_readable(groups.fileno(), 5), "the keeper is woken for them"
    until(lambda: groups.clean_up() or groups_in(folder) == [])
    assert groups._lingering == {}


def test_a_group_that_cannot_be_watched_is_tried_at_each_death(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = cgroups.Groups(str(folder), f"/{folder.name}")
    group = groups.open("token/w.1/1", {})
    if (pid := cgroups.fork_into(group)) == 0:
        os.execv("/bin/sleep", ["sleep", "1000"])
    os.close(group)
    monkeypatch.setattr(groups, "_watched", lambda _: None)
    groups.leave("token/w.1/1")
    groups.clean_up()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    until(lambda: groups.clean_up() or groups_in(folder) == [])


CONTROLS = {"pids": ("pids.max", "100"), "hugetlb": ("hugetlb.2MB.max", "0")}
"""Files that any process may be limited by unnoticed, by the controller that they need."""


@pytest.fixture
def limit(folder: Path) -> Iterator[tuple[str, str]]:
    """Give a file of groups in the folder that can limit something, and what to write into it."""
    above = folder.parent / "cgroup.subtree_control"
    there = (folder.parent / "cgroup.controllers").read_text().split()
    found = next((each for each in CONTROLS if each in there), None)
    if found is None:
        names = ", ".join(CONTROLS)
        pytest.skip(f"the cgroup2 file system here has none of the controllers {names}")
    is_ours = found not in above.read_text().split()
    if is_ours:
        above.write_text(f"+{found}")
    yield CONTROLS[found]
    (folder / "cgroup.subtree_control").write_text(f"-{found}")
    if is_ours:
        above.write_text(f"-{found}")


def groups_with(folder: Path, limit: tuple[str, str], **more: bool) -> cgroups.Groups:
    return cgroups.Groups(str(folder), f"/{folder.name}", (limit[0].partition(".")[0],), **more)


def start_in(groups: cgroups.Groups, limits: dict[str, str]) -> int:
    group = groups.open("token/w.1/1", limits)
    if (pid := cgroups.fork_into(group)) == 0:
        os.execv("/bin/sleep", ["sleep", "1000"])
    os.close(group)
    groups.look_after(pid, "token/w.1/1")
    return pid


def end(groups: cgroups.Groups, pid: int, folder: Path) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    groups.died(pid)
    until(lambda: groups.clean_up() or not (folder / "token@w.1@1").exists())


def test_a_process_begins_under_its_limits_and_they_change_while_it_runs(
    folder: Path, limit: tuple[str, str]
) -> None:
    name, text = limit
    groups = groups_with(folder, limit)
    pid = start_in(groups, {name: text, "no.such": "1"})
    file = folder / "token@w.1@1" / name
    assert (file.read_text().strip(), groups.limits_of(pid)) == (text, {name: text})
    assert cgroups.limit(groups, pid, {}, {name: text}) == {}
    assert file.read_text().strip() == "max"
    assert cgroups.limit(groups, pid, {name: text}, {}) == {name: text}
    assert file.read_text().strip() == text
    end(groups, pid, folder)
    assert groups._limits == {}


def test_where_processes_are_in_the_folder_itself_they_move_below_it_or_there_are_no_limits(
    folder: Path, limit: tuple[str, str]
) -> None:
    name, text = limit
    with subprocess.Popen(["sleep", "1000"]) as other:
        (folder / "cgroup.procs").write_text(str(other.pid))
        groups = groups_with(folder, limit)
        pid = start_in(groups, {name: text})
        assert groups.limits_of(pid) == {}
        groups = groups_with(folder, limit, may_move=True)
        groups.look_after(pid, "token/w.1/1")
        assert cgroups.limit(groups, pid, {name: text}, {}) == {name: text}
        assert pids_in(folder / cgroups.OWN_LEAF) == [other.pid]
        assert groups.marker_of(other.pid) == "", (
            "nobody takes the manager for one of its processes"
        )
        end(groups, pid, folder)
        other.kill()
    until(lambda: not pids_in(folder / cgroups.OWN_LEAF))
    (folder / cgroups.OWN_LEAF).rmdir()
