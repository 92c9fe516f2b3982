"""Claims about noticing changes, with the real inotify."""

from __future__ import annotations

import os
import platform
import select
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import until

from reconciler.controller.runtime import file_watch
from reconciler.controller.runtime.announced import Announced
from reconciler.controller.runtime.file_watch import Wanted, Watch

if TYPE_CHECKING:
    from collections.abc import Callable

STEP_MS = 20


def armed(*folders: Path) -> Announced:
    return Announced(map(str, folders), (), ())


def is_quiet(announced: Announced) -> bool:
    return not select.select([announced], [], [], 0)[0]


@pytest.fixture
def way(tmp_path: Path) -> Path:
    """Return a folder that a relative and an absolute link lead to."""
    (tmp_path / "releases/1/specs").mkdir(parents=True)
    (tmp_path / "releases/2/specs").mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/1")
    (tmp_path / "app").symlink_to(tmp_path / "current")
    return tmp_path / "app/specs"


def test_what_happens_beside_the_way_wakes_nobody(tmp_path: Path, way: Path) -> None:
    announced = armed(way)
    for folder in (tmp_path, tmp_path / "releases", tmp_path / "releases/1"):
        (folder / "beside").mkdir()
        (folder / "file").write_text("x")
        (folder / "file").unlink()
        (folder / "beside").rename(folder / "elsewhere")
    way.joinpath("file").touch()
    assert announced.take() == ({str(way / "file")}, False)
    assert is_quiet(announced)


def exchange(folder: Path) -> None:
    (folder / "new").symlink_to("releases/2")
    (folder / "new").rename(folder / "current")


def unlink_and_make(folder: Path) -> None:
    (folder / "current").unlink()
    (folder / "current").symlink_to("releases/2")


def move_away(folder: Path) -> None:
    (folder / "releases").rename(folder / "former")


def remove(folder: Path) -> None:
    (folder / "releases/1/specs").rmdir()


def replace_empty(folder: Path) -> None:
    (folder / "new").mkdir()
    (folder / "new").rename(folder / "releases/1/specs")


@pytest.mark.parametrize("turn", [exchange, unlink_and_make, move_away, remove, replace_empty])
@pytest.mark.parametrize("held", [False, True])
def test_that_a_path_leads_elsewhere_is_announced(
    tmp_path: Path, way: Path, turn: Callable[[Path], None], held: bool
) -> None:
    announced = armed(way)
    inside = os.open(way, os.O_RDONLY) if held else None  # as a process that has its folder there
    turn(tmp_path)
    assert announced.take()[1]
    if inside is not None:
        os.close(inside)


def test_what_is_missing_is_awaited_where_it_would_appear(tmp_path: Path) -> None:
    (tmp_path / "app").symlink_to("later/specs")
    announced = armed(tmp_path / "app")
    (tmp_path / "other").mkdir()
    assert not announced.take()[1]
    (tmp_path / "later").mkdir()
    assert announced.take()[1]


def test_a_folder_is_known_by_all_paths_that_lead_to_it(tmp_path: Path, way: Path) -> None:
    announced = armed(way, tmp_path / "releases/1/specs")
    (way / "new").touch()
    assert announced.take()[0] == {
        str(way / "new"),
        str(tmp_path / "releases/1/specs/new"),
    }


def test_a_folder_that_was_made_anew_with_the_same_number_is_watched_again() -> None:
    # ext4 gives the number of a removed folder to the next one that is made; tmpfs does not.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as above:
        folder = Path(above, "specs")
        folder.mkdir()
        told: list[str] = []
        watch = Watch(STEP_MS, lambda call: call(), told.append, lambda *_: None)
        try:
            watch.want(Wanted(frozenset({str(folder)})))
            until(lambda: watch.changed() == {""}, "it is armed")
            for number in range(3):
                folder.rmdir()
                folder.mkdir()
                until(lambda: "" in watch.changed(), "it is armed anew")
                file = folder / str(number)
                file.write_text("")
                until(lambda file=file: str(file) in watch.changed(), "a new file is noticed")
                file.unlink()
        finally:
            watch.close()
        assert told == []


LOOK = """
import os, select, sys
from reconciler.controller.runtime.file_watch import Wanted, Watch
told = []
watch = Watch(20, lambda call: call(), told.append, lambda *what: told.append(str(what)))
folder = sys.argv[1]
watch.want(Wanted(frozenset({folder})))
select.select([watch], [], [], 20)
watch.changed()
print(*told)
open(os.path.join(folder, "new"), "w").close()
select.select([watch], [], [], 20)
print(*watch.changed(), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("limit", ["instances", "watches"])
def test_a_limit_of_inotify_is_named_and_changes_are_looked_for(tmp_path: Path, limit: str) -> None:
    """The limit is that of a user namespace of our own: nobody else is to go without."""
    wrapped = ["unshare", "--user", "--map-root-user", "sh", "-ec"]
    none_left = f"echo 0 > /proc/sys/user/max_inotify_{limit}"
    if not shutil.which("unshare") or subprocess.run([*wrapped, none_left], check=False).returncode:
        pytest.skip("needs a user namespace of its own")
    (tmp_path / "old").touch()
    done = subprocess.run(
        [*wrapped, f'{none_left}; exec "$0" -c "$1" "$2"', sys.executable, LOOK, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    told, seen = done.stdout.splitlines()
    assert told.endswith(f"raise the sysctl fs.inotify.max_user_{limit}"), done
    assert str(tmp_path / "new") in seen


@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads the registers of a system call")
def test_whoever_watches_sleeps_until_something_happens(tmp_path: Path) -> None:
    """Its thread waits in poll(2), number 7, without a time limit."""
    before = {*os.listdir("/proc/self/task")}
    watch = Watch(STEP_MS, lambda call: call(), lambda _: None, lambda *_: None)
    try:
        (thread,) = {*os.listdir("/proc/self/task")} - before
        watch.want(Wanted(frozenset({str(tmp_path)})))
        until(lambda: watch.changed() == {""}, "it is armed")

        def waits() -> list[str]:
            return Path("/proc/self/task", thread, "syscall").read_text().split()

        def is_asleep() -> bool:
            return waits()[:1] == ["7"] and int(waits()[3], 16) & 0xFFFFFFFF == 0xFFFFFFFF

        until(is_asleep, "it sleeps for good")
    finally:
        watch.close()


def test_names_in_the_list_of_mounts_are_read_as_they_are() -> None:
    assert file_watch._unescaped(r"/a\040b\134c\011d") == "/a b\\c\td"


def test_that_a_way_of_watching_is_over_is_told_too() -> None:
    told: list[str] = []
    watch = Watch(STEP_MS, lambda call: call(), told.append, lambda *_: None)
    try:
        for sentence in ("", "polls", "polls", "", ""):
            watch._say(sentence)
    finally:
        watch.close()
    assert told == ["polls", ""]
