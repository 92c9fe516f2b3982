"""A process that is forked with our own code in memory is, seen from outside, the one that would have been executed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import json, os, resource, signal, sys

MASKS = {"SigBlk", "SigIgn", "SigCgt"}

def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True

def main(argv):
    stat = open("/proc/self/status").read().splitlines()
    seen = {
        "argv": argv[1:],
        # Python sets LC_CTYPE where the locale is C (PEP 538).
        "env": {k: v for k, v in os.environ.items() if k != "LC_CTYPE"},
        "fds": {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in sorted(os.listdir("/proc/self/fd")) if fd in "0123"},
        "others": [fd for fd in range(4, 100) if is_open(fd)],
        "inherited": [os.get_inheritable(fd) for fd in range(4)],
        "session": os.getsid(0) == os.getpid() == os.getpgid(0),
        "umask": [line for line in stat if line.startswith("Umask")],
        # Two numbers are the C library's own.
        "signals": {line[:6]: int(line[7:], 16) & ~(3 << 31) for line in stat if line[:6] in MASKS},
        "limits": [resource.getrlimit(each) for each in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)],
        "cwd": os.getcwd(),
        "marked": open("/proc/self/environ").read().rstrip("\\0").split("\\0"),
        "command": open("/proc/self/cmdline").read().rstrip("\\0").split("\\0"),
        "oom": open("/proc/self/oom_score_adj").read(),
    }
    os.write(3, json.dumps(seen).encode())
    return 7
"""

MAKER = """
import json, os, resource, signal, socket, sys
road, folder = sys.argv[1:]
sys.path.insert(0, folder)
from reconciler.model.process import Launch
from reconciler.spawn.accounts import own_user
from reconciler.spawn.environment import Place
from reconciler.spawn.image import Image
from reconciler.spawn.roads import Prepared, spawn_plainly
image = Image("program")
if road == "ahead":
    image.begin()
# What the keeper has and no other process may get.
kept = [os.open("/", os.O_RDONLY), socket.socket(), *os.pipe()]
signal.set_wakeup_fd(os.open("/dev/null", os.O_WRONLY | os.O_NONBLOCK))
for number in (signal.SIGTERM, signal.SIGCHLD):
    signal.signal(number, lambda *_: None)
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
os.umask(0o077)
os.environ["KEPT"] = "x"
answer, answer_end = os.pipe()
null = os.open("/dev/null", os.O_RDWR)
run = f"import sys; sys.path.insert(0, {folder!r}); import program.__main__ as m; sys.exit(m.main(sys.argv))"
forked = (sys.executable, "-I", "-m", "program", "--quick-deaths=0")
executed = (sys.executable, "-I", "-c", run, "--quick-deaths=0")
launch = Launch(executed if road == "executed" else forked)
env = {"A": "1", "RECONCILE_ID": "token/controller", "PATH": os.environ["PATH"]}
prepared = Prepared(launch, (sys.executable,), env, own_user(), (null, 1, 2, answer_end))
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
place = Place("x", {}, 0o022, (64, hard), 0)
make = spawn_plainly if road == "executed" else image.spawn
assert image.fits(prepared) != (road == "executed")
if road == "crowded":
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    while True:
        try:
            last = os.dup(null)
        except OSError:
            break
    os.close(last)
pid = make(prepared, place)
os.close(answer_end)
print(os.read(answer, 100_000).decode())
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
"""


def seen(road: str, folder: Path) -> dict[str, Any]:
    """Return what a process sees of itself that came by this road."""
    (folder / "program").mkdir(exist_ok=True)
    (folder / "program/__main__.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-c", MAKER, road, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.stderr == ""
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("road", ["forked", "crowded", "ahead"])
def test_it_is_what_would_have_been_executed(tmp_path: Path, road: str) -> None:
    one, other = seen(road, tmp_path), seen("executed", tmp_path)
    assert one.pop("command")[1:] == ["-I", "-m", "program", "--quick-deaths=0"]
    assert one.pop("marked") == ["RECONCILE_ID=token/controller"]
    del other["command"], other["marked"]
    for pipes in (one["fds"], other["fds"]):
        pipes["1"] = pipes["3"] = pipes["2"] = "pipe"
    assert one == other


CHANGED = """
import os, sys
sys.path.insert(0, sys.argv[1])
import helper
from reconciler.model.process import Launch
from reconciler.spawn.accounts import own_user
from reconciler.spawn.image import Image
from reconciler.spawn.roads import Prepared
image = Image("program")
def fits(*argv):
    return image.fits(Prepared(Launch(argv), (argv[0],), {"RECONCILE_ID": "t/controller"}, own_user(), ()))
own = (sys.executable, "-I", "-m", "program")
print(fits(*own), fits("/bin/other", *own[1:]), fits(*own[:3], "another"))
os.rename(helper.__file__, helper.__file__ + ".old")
print(fits(*own))
open(helper.__file__, "w").write("two = 2\\n")
print(fits(*own))
os.rename(helper.__file__ + ".old", helper.__file__)
print(fits(*own))
"""


def test_only_the_program_whose_files_are_those_that_were_imported_is_forked(
    tmp_path: Path,
) -> None:
    (tmp_path / "helper.py").write_text("one = 1\n")
    done = subprocess.run(
        [sys.executable, "-c", CHANGED, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["True False False", "False", "False", "True"]


def test_one_begun_ahead_that_gets_no_orders_ends(tmp_path: Path) -> None:
    (tmp_path / "program").mkdir()
    (tmp_path / "program/__main__.py").write_text(PROGRAM)
    text = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from reconciler.spawn.image import Image\n"
        "Image('program').begin(); print(os.getpid())\n"
    )
    # All that it inherited is closed when it has ended, and `run` waits for that.
    done = subprocess.run(
        [sys.executable, "-c", text, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stderr == ""


ISOLATED = """
import sys
from reconciler.system.in_place import isolate
before = sys.path[0]
print(isolate(), isolate(), before in sys.path)
"""


@pytest.mark.parametrize(
    ("environ", "options", "expected"),
    [
        ({}, ["-I"], "True True True"),
        ({"PYTHONUNBUFFERED": "1"}, [], "True True False"),
        ({"PYTHONPATH": "/nowhere"}, [], "False False True"),
        ({"PYTHONHASHSEED": "0"}, [], "False False True"),
        ({}, ["-P"], "False False True"),
    ],
)
def test_only_what_finds_the_modules_that_an_isolated_one_finds_is_taken_for_isolated(
    environ: dict[str, str], options: list[str], expected: str
) -> None:
    if not options and sys.prefix == sys.base_prefix:
        pytest.skip("needs a virtual environment, which has no user's site-packages")
    env = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, *options, "-c", ISOLATED],
        capture_output=True,
        text=True,
        check=True,
        env=env | environ,
    )
    assert done.stdout.strip() == expected


INSTEAD = """
import os, sys
sys.path.insert(0, sys.argv[1])
from reconciler.model.process import Launch
from reconciler.spawn.accounts import own_user
from reconciler.spawn.environment import Place
from reconciler.spawn.image import Image
from reconciler.spawn.roads import Prepared
image = Image("program")
image.begin()
argv = (sys.executable, "-I", "-c", "raise SystemExit(5)")
prepared = Prepared(Launch(argv), argv[:1], {"RECONCILE_ID": "t/controller"}, own_user(), (0, 1, 2))
own = image.spawn(prepared, Place("x", {}, 0o022, (64, 1024), 0))
ended = dict(os.wait() for _ in range(2))
print(os.waitstatus_to_exitcode(ended.pop(own)), *map(os.waitstatus_to_exitcode, ended.values()))
"""


def test_what_does_not_fit_is_executed_and_the_one_begun_ahead_ends(tmp_path: Path) -> None:
    (tmp_path / "program").mkdir()
    (tmp_path / "program/__main__.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-c", INSTEAD, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert (done.stdout, done.stderr) == ("5 0\n", "")
