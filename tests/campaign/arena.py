"""What runs in a campaign, and what people do to it meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.load import Client
from tests.e2e.stage import Stage, free_port, is_alive, until

TICK_NS = 10**9 // os.sysconf("SC_CLK_TCK")

WORKER = Path(__file__).with_name("worker.py")
PATIENCE_S = 60.0
BATCH = frozenset({1, 2, 3})
LAST_RUNS = 10_000
HARDLY_NS = 50_000_000
"""So long a process may take from its first or last word to what it says, on a busy machine."""
SPEC = """\
sockets:
  http: {{listen: 127.0.0.1:{port}}}
  app: {{listen: "unix:{folder}/app.sock"}}
defaults:
  stop: {{timeout: 5s}}
  logs: {{max_size: 1GiB}}
watchers:
  web:
    cmd: {python} worker.py web
    numprocesses: 2
    use_sockets: [http]
  counter:
    cmd: {python} worker.py counter
    numprocesses: 2
  mortal:
    cmd: {python} worker.py mortal
    numprocesses: 2
    backoff: {{initial: 10ms, max: 100ms}}
  pool:
    cmd: {python} worker.py pool
    numprocesses: {pool}
  forker:
    cmd: {python} worker.py forker
    numprocesses: 2
    backoff: {{initial: 10ms, max: 100ms, burst: 1000}}
  background:
    cmd: {python} worker.py background
  unlinker:
    cmd: {python} worker.py unlinker ${{sockets.app}}
    numprocesses: 2
  batch:
    cmd: {python} worker.py batch {generation}
    restart: never
    numprocesses: 3
    keep_runs: 10000
"""


@dataclass(frozen=True, slots=True)
class Said:
    """What a worker wrote: `numbers` are pid and generation at its start, code and lines at its end."""

    place: str
    name: str
    at_ns: int
    what: str
    numbers: tuple[int, int]

    @classmethod
    def read(cls, line: str) -> Said:
        place, name, at_ns, what, *numbers = line.split()
        return cls(place, name, int(at_ns), what, (int(numbers[0]), int(numbers[1])))

    @property
    def watcher(self) -> str:
        return self.place.partition(".")[0]


class Arena:
    """One instance under load: servers with a client, loggers, mortals, a pool that is scaled, a job that is rerun."""

    def __init__(self, it: Stage, rng: random.Random) -> None:
        self.it, self.rng = it, rng
        self.pool, self.generation, self.port = 2, 1, free_port()
        self.client = Client(self.port)
        self.keeper = 0
        self.unwatched: list[tuple[int, int]] = []
        """From when to when no keeper lived (monotonic)."""

    def start(self) -> None:
        """Start the instance and the client, and remember who must live through everything."""
        (self.it.specs / "worker.py").write_text(WORKER.read_text())
        self.save()
        self.it.run("up", "-d", "--no-wait", str(self.it.specs))
        self.settle()
        self.client.start()
        now = self.pids()
        self.steady = {name: now[name] for name in ("web", "counter")}
        self.first = now["pool"][1]

    def save(self) -> None:
        """Save the spec as it shall be now."""
        python = f"{sys.executable} -I -S -u"
        self.it.write(
            SPEC.format(
                python=python,
                port=self.port,
                folder=self.it.specs,
                pool=self.pool,
                generation=self.generation,
            )
        )

    def disturb(self) -> None:
        """Let somebody edit something, kill or restart something, or nothing, while the mortals die by themselves."""
        match self.rng.randrange(6):
            case 4:
                self._kill_a_forker()
                return
            case 5:
                self.it.run("restart", "unlinker", "--no-wait", code=None)
                return
            case 0:
                self.pool = self.rng.choice([n for n in (1, 2, 3, 4) if n != self.pool])
            case 1 | 2:
                self.generation += 1
            case _:
                return
        self.save()

    def _kill_a_forker(self) -> None:
        """Kill the process that its children belong to; whether it is there just now is a matter of luck."""
        alive = [each for each in self.truth() if each.watcher == "forker" and each.what == "start"]
        pids = [each.numbers[0] for each in alive if is_there(each)]
        if pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.rng.choice(pids), signal.SIGKILL)

    def settle(self) -> None:
        """Wait until the newest edit is in force and the last generation of the job has ended.

        A run is written down before its process begins. One that was written down when the keeper was
        killed may never begin, is told as lost, and nobody fires it again: then there is nothing more to
        wait for. Whether a loss was due is for `counting` to say.
        """
        until(self._is_settled, "the newest edit is in force", within_s=PATIENCE_S, show=self._show)

    def _is_settled(self) -> bool:
        said = [each for each in self.truth() if each.watcher == "batch"]
        ended = {each.name for each in said if each.what == "end"}
        newest = [e for e in said if e.what == "start" and e.numbers[1] == self.generation]
        if any(each.name not in ended for each in newest):
            return False
        watchers = self._watchers()
        is_over = watchers["batch"]["state"] in {"Completed", "Failed"}
        if not is_over or len(_pids_of(watchers["pool"])) != self.pool:
            return False
        began = {int(each.place.partition(".")[2]) for each in newest}
        if any(watchers[name]["ready"] < 2 for name in ("forker", "unlinker")):
            return False
        return began == BATCH or (BATCH - began <= self._lost() and self._nothing_to_do())

    def _lost(self) -> set[int]:
        """Return the slots of the job whose newest run is told as lost."""
        newest = {run["slot"]: run["outcome"] for run in reversed(self.runs())}
        return {slot for slot, outcome in newest.items() if outcome == "lost"}

    def _nothing_to_do(self) -> bool:
        return self.it.run("plan", code=None).stdout == "nothing to do\n"

    def _watchers(self) -> dict[str, Any]:
        return {each["name"]: each for each in self.it.status()["watchers"]}

    def pids(self) -> dict[str, dict[int, int]]:
        """Return the live pids of every watcher by slot, all of the same moment."""
        return {name: _pids_of(watcher) for name, watcher in self._watchers().items()}

    def runs(self) -> list[dict[str, Any]]:
        """Return the ledger of the job, the newest run first."""
        done = self.it.run("runs", "batch", "-n", str(LAST_RUNS), "-o", "json")
        rows: list[dict[str, Any]] = json.loads(done.stdout)["runs"]
        return rows

    def _show(self) -> object:
        return self.it.run("status", code=None).stdout

    def truth(self) -> list[Said]:
        """Return what the workers wrote about themselves, in order."""
        path = self.it.specs / "truth"
        return [Said.read(line) for line in path.read_text().splitlines()] if path.exists() else []

    def was_unwatched(self, at_ns: int) -> bool:
        """Tell whether no keeper lived at the time of an end: nobody could be told how the process ended.

        It says that it will end, then it ends: there is a little time in between.
        """
        return self.was_unwatched_between(at_ns, at_ns + HARDLY_NS)

    def was_unwatched_between(self, first_ns: int, last_ns: int) -> bool:
        """Tell whether no keeper lived at some time between two."""
        return any(begin <= last_ns and first_ns <= end for begin, end in self.unwatched)

    def was_unwatched_all(self, first_ns: int, last_ns: int | None) -> bool:
        """Tell whether no keeper lived from one time to another; None is a time that has not come."""
        return last_ns is not None and any(
            begin <= first_ns + HARDLY_NS and last_ns <= end for begin, end in self.unwatched
        )


def is_there(said: Said) -> bool:
    """Tell whether the process that told of itself lives: its number may be another's by now, who was born later."""
    pid = said.numbers[0]
    try:
        born = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError):
        return False
    since_boot_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    return is_alive(pid) and born * TICK_NS <= said.at_ns + since_boot_ns


def _pids_of(watcher: dict[str, Any]) -> dict[int, int]:
    return {slot["slot"]: slot["pid"] for slot in watcher["slots"] if slot["pid"] is not None}


def arena(it: Stage, seed: int) -> Arena:
    """Return an arena that is under way."""
    made = Arena(it, random.Random(seed))
    made.start()
    return made
