from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.cli.commands.exec import _check
from reconciler.cli.errors import Refused
from reconciler.model.answer import Surroundings
from tests.cli.manager import Manager

ROOT = Path(__file__).parents[3]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own: it becomes another program."""
    return subprocess.run(
        [sys.executable, "-m", "reconciler.cli", "exec", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OWN": "caller"},
    )


def surroundings(folder: Path, **fields: object) -> dict[str, object]:
    return {
        "env": {"PATH": "/usr/bin:/bin", "KEY": "secret"},
        "working_dir": str(folder),
        "umask": 0o027,
        "uid": os.geteuid(),
        "gid": os.getegid(),
        "limits": {"nofile": (50, 60)},
        "files": (1024, 1024),
        "core": 0,
        **fields,
    }


def test_the_command_takes_the_place_of_this_one_with_all_that_the_manager_says(
    manager: Manager, tmp_path: Path
) -> None:
    manager.answers["exec"] = surroundings(tmp_path)
    script = "umask; pwd; ulimit -Sn; ulimit -Hn; echo $KEY; grep SigIgn /proc/$$/status; exit 7"

    done = run("--reason", "test", "web.2", "--", "sh", "-c", script)

    assert (done.returncode, done.stderr) == (7, "")
    umask, folder, soft, hard, key, ignored = done.stdout.splitlines()
    assert (umask, folder, soft, hard, key) == ("0027", str(tmp_path), "50", "60", "secret")
    # The C library keeps 32 and 33 for itself: nobody can set them, and whoever runs this may have them ignored.
    assert int(ignored.split()[1], 16) & ~(0b11 << 31) == 0
    assert manager.asked("exec") == [{"name": "web.2", "reason": "test"}]


@pytest.mark.parametrize(
    ("words", "fields", "code", "message"),
    [
        (["no-such"], {}, 127, "no such program: no-such"),
        (["/etc/passwd"], {}, 126, "cannot execute /etc/passwd: permission denied"),
        (["true"], {"working_dir": "/no/such"}, 126, "cannot chdir to /no/such"),
        (["true"], {"uid": -1}, 1, "the manager does not say as whom"),
        ([], {}, 64, "Missing argument"),
        (["--"], {}, 64, "exec what?"),
    ],
)
def test_what_cannot_be_run_says_so_and_exits_as_a_shell_does(
    manager: Manager,
    tmp_path: Path,
    words: list[str],
    fields: dict[str, object],
    code: int,
    message: str,
) -> None:
    manager.answers["exec"] = surroundings(tmp_path, **fields)

    done = run("web", *words)

    assert done.returncode == code
    assert message in done.stderr


def test_root_becomes_nobody_for_a_manager_that_could_not() -> None:
    _check(Surroundings(uid=1000, gid=1000), owner=(0, 0))
    _check(Surroundings(uid=1000, gid=1000), owner=(1000, 1000))
    for uid, gid in ((0, 1000), (1000, 0), (1001, 1001)):
        with pytest.raises(Refused, match="the manager itself runs as uid 1000"):
            _check(Surroundings(uid=uid, gid=gid), owner=(1000, 1000))
