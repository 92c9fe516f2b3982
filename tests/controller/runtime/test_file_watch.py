"""Claims about noticing changes, with the real inotify."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import until

from reconciler.controller.runtime import file_watch
from reconciler.controller.runtime.file_watch import Wanted, Watch

STEP_MS = 20


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
