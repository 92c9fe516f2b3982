"""Shows where the time goes: flame graphs of boot, of respawn and of the status command, by py-spy.

py-spy lies with the peers. It looks from outside, some hundred times a second, and counts only what runs.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.births import Births
from bench.lives import BOOT_S, respawns, running, sleepers
from bench.managers import Crew, Reconcile
from bench.peers import PEERS
from bench.plots import flame
from bench.programs import BenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.lives import Place

PER_SECOND: Final = "500"
STATUS_RUNS: Final = 15
ASLEEP: Final = re.compile(
    r"\.wait \(threading|\.select \(selectors|\._watch \(reconciler|^wait \(|^select \("
)
"""Functions in which a program sleeps, which py-spy sometimes takes for work."""
Stacks = Counter[tuple[str, ...]]


def draw(place: Place, size: int, kills: int, folder: Path) -> None:
    """Write the three graphs into a folder. Raises `BenchError` without py-spy."""
    if not (PEERS / "bin/py-spy").exists():
        msg = (
            "cannot draw flames: no py-spy in .venv-peers; try: make bench-quick, which installs it"
        )
        raise BenchError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    for name, title, stacks in (
        ("boot", f"Boot of {size:,} watchers: what runs, by program", _boot(place, size)),
        ("respawn", f"{kills} respawns among {size:,} watchers", _respawn(place, size, kills)),
        ("status", "The command `reconcile status`, of 100 watchers", _status(place)),
    ):
        picture = flame(title, sorted(stacks.items()))
        folder.joinpath(f"flame-{name}.svg").write_text(picture)


def _boot(place: Place, size: int) -> Stacks:
    """Start keeper and controller below py-spy, by the command line that the command would use."""
    with tempfile.TemporaryDirectory(prefix="b-", dir=place.folder) as name:
        folder = Path(name)
        with Births(folder / "births") as births:
            crew = Crew(sleepers(place, births.path, size), max(1, size // 10))
            manager = Reconcile(place.programs, folder, crew)
            keeper = _begin_in_background(manager)
            births.take(size, BOOT_S)
            config = json.loads(Path(f"/proc/{keeper}/cmdline").read_bytes().split(b"\0")[-2])
            _end(keeper)
            own = json.loads(config["controller_argv"][-1])
            # Who started it first had read the spec; now the controller lets its own child read it.
            own["reading_fd"] = None
            config["state_dir"] = own["state_dir"] = str(folder / "state-of-profile")
            config["controller_argv"] = _spied(
                folder / "controller", [*config["controller_argv"][:-1], json.dumps(own)]
            )
            argv = [sys.executable, "-I", "-m", "reconciler.keeper", json.dumps(config)]
            with (folder / "log").open("wb") as log:
                spy = subprocess.Popen(
                    _spied(folder / "keeper", argv), stdout=log, stderr=log, process_group=0
                )
            born = births.take(size, BOOT_S)
            time.sleep(0.5)
            # Without an ordered stop, which is not what this picture is about.
            keeper = int(
                Path(f"/proc/{born[0].pid}/stat").read_text().rpartition(")")[2].split()[1]
            )
            os.kill(keeper, signal.SIGKILL)
            for birth in born:
                os.kill(birth.pid, signal.SIGKILL)
            spy.wait(30)
            request = json.dumps({"paths": [str(manager.specs)], "environ": {}}).encode()
            reader = [sys.executable, "-I", "-m", "reconciler.specfile"]
            subprocess.run(
                _spied(folder / "reader", reader), input=request, capture_output=True, check=False
            )
        _wait_for(folder / "controller")
        return sum(
            (_read(folder / each, each) for each in ("reader", "keeper", "controller")), Counter()
        )


def _begin_in_background(manager: Reconcile) -> int:
    """Start it, and return the pid of its keeper: that one is executed, and its command line says with what."""
    program, run, *options = manager.configure()
    assert run == "run"
    subprocess.run([program, "up", "-d", "--no-wait", *options], check=True, capture_output=True)
    return int((manager.folder / "run/keeper.lock").read_text().split()[0])


def _end(keeper: int) -> None:
    ended, poll = os.pidfd_open(keeper), select.poll()
    poll.register(ended, select.POLLIN)
    os.kill(keeper, signal.SIGTERM)
    poll.poll(30_000)
    os.close(ended)


def _respawn(place: Place, size: int, kills: int) -> Stacks:
    with running(Reconcile, place, size, settle_s=3.0) as life:
        manager = life.manager
        assert isinstance(manager, Reconcile)
        pids = {"keeper": manager.process.pid, "controller": manager.controller()}
        spies = [
            subprocess.Popen(
                [*_spy(manager.folder / name), "--nonblocking", "-p", str(pid)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for name, pid in pids.items()
        ]
        time.sleep(1.0)
        respawns(life, kills)
        for spy in spies:
            spy.send_signal(signal.SIGINT)
            spy.wait(30)
        return sum((_read(manager.folder / name, name) for name in pids), Counter())


def _status(place: Place) -> Stacks:
    found: Stacks = Counter()
    with running(Reconcile, place, 100, settle_s=3.0) as life:
        command = life.manager.status_command()
        for _ in range(STATUS_RUNS):
            target = life.manager.folder / "status"
            argv = _spied(target, [sys.executable, *command])
            subprocess.run(argv, capture_output=True, check=False)
            found += _read(target, "status")
    return found


def _spy(target: Path) -> list[str]:
    return [str(PEERS / "bin/py-spy"), "record", "-f", "raw", "-r", PER_SECOND, "-o", str(target)]


def _spied(target: Path, argv: Sequence[str]) -> list[str]:
    return [*_spy(target), "--", *argv]


def _wait_for(path: Path) -> None:
    until = time.monotonic() + 30
    while not path.exists() or not path.stat().st_size:
        if time.monotonic() > until:
            msg = f"py-spy did not write {path.name}"
            raise BenchError(msg)
        time.sleep(0.05)


def _read(path: Path, program: str) -> Stacks:
    """Return the stacks of one program; functions without their lines, files as they are imported."""
    found: Stacks = Counter()
    if not path.exists():
        return found
    for line in path.read_text().splitlines():
        stack, _, samples = line.rpartition(" ")
        names = [_named(each) for each in stack.split(";")]
        if ASLEEP.search(names[-1]):
            continue
        kept = [name for name in names if name and "importlib" not in name and "runpy" not in name]
        found[program, *kept] += int(samples)
    return found


def _named(frame: str) -> str:
    """Return `function (file)` of py-spy's `function (path:line)`."""
    match = re.fullmatch(r"(.*) \((.*?)(?::\d+)?\)", frame)
    if match is None:
        return frame
    function, path = match.groups()
    path = re.sub(r"^.*/(site-packages|python3\.\d+)/", "", path)
    path = path[path.rfind("reconciler/") :] if "reconciler/" in path else path
    return f"{function} ({path})"
