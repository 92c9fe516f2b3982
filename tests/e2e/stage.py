"""One instance of reconcile, with folders and ports of its own, of which nothing is left afterwards.

    with stage(ROOT / "examples/04-edits") as it:
        it.up()
        it.edit("numprocesses: 2", "numprocesses: 4")
        until(lambda: len(it.pids("web")) == 4)

All that a test does to the instance goes through the command line, in processes of its own. Who only looks asks
by the Python client, a hundred times as fast. Nothing here waits for a time to pass: `until` asks a question until
the answer is yes, and fails after a deadline.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgpack

from reconciler import Client
from reconciler.cli.connection.transport import selection
from reconciler.cli.errors import CommandError
from reconciler.model.errors import RequestError
from reconciler.model.status import Status

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
RECONCILE = str(Path(sys.executable).with_name("reconcile"))
PATIENCE_S = 30.0


def until(
    claim: Callable[[], T | None],
    what: str = "",
    *,
    within_s: float = PATIENCE_S,
    every_s: float = 0.01,
    show: Callable[[], object] | None = None,
) -> T:
    """Return the first true answer of `claim`; fails after `within_s` and says `what`, and `show()`."""
    deadline = time.monotonic() + within_s
    while True:
        if answer := claim():
            return answer
        seen = f"\n{show()}" if show and time.monotonic() > deadline else ""
        assert time.monotonic() <= deadline, f"not within {within_s} s: {what or claim}{seen}"
        select.select([], [], [], every_s)


@contextlib.contextmanager
def stage(source: Path | str, **environ: str) -> Iterator[Stage]:
    """Give a `Stage` for a copy of an example's folder, or for the text of a reconcile.yaml.

    `environ` is added to the environment of every command. Whatever the test does or fails to do, no
    process and no file of the instance is left.
    """
    # Not pytest's tmp_path: the path of a Unix socket ends after 107 bytes.
    with tempfile.TemporaryDirectory(prefix="rec-", ignore_cleanup_errors=True) as folder:
        # Watchers that run as another user have to get through.
        os.chmod(folder, 0o755)
        it = Stage(Path(folder), environ)
        if isinstance(source, Path):
            shutil.copytree(source, it.specs, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            it.specs.mkdir()
            it.spec.write_text(source)
        try:
            yield it
        except BaseException:
            it.tell()
            raise
        finally:
            it.clear()


class Stage:
    """An instance: `specs` is the copy that it reads, `spec` the file in it that most tests edit."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self.specs = folder / "specs"
        self.spec = self.specs / "reconcile.yaml"
        self.runtime_dir = folder / "run"
        self.state_dir = folder / "state"
        self.output = folder / "output"
        """What `up` wrote, to a pipe's taste: no colours."""
        self.foreground: subprocess.Popen[bytes] | None = None
        self.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith("RECONCILE_")},
            "RECONCILE_RUNTIME_DIR": str(self.runtime_dir),
            "RECONCILE_STATE_DIR": str(self.state_dir),
            "NO_COLOR": "1",
            **environ,
        }
        self._born: dict[int, int] = {}

    # ---- doing -----------------------------------------------------------------------------------

    def up(self, *arguments: str, wait: bool = True) -> subprocess.Popen[bytes]:
        """Start `reconcile up SPECS` in the foreground; waits until everything is as desired."""
        with self.output.open("ab") as output:
            self.foreground = subprocess.Popen(
                [RECONCILE, "up", *(arguments or [str(self.specs)])],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environ,
                cwd=self.folder,
                start_new_session=True,
            )
        self._remember(self.foreground.pid)
        if wait:
            until(self._answers, "the manager answers", show=self.output.read_text)
            self.settle()
        return self.foreground

    def run(
        self, *arguments: str, code: int | None = 0, stdin: str = "", timeout_s: float = PATIENCE_S
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of reconcile and check its exit code; None accepts any."""
        done = subprocess.run(
            [RECONCILE, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=self.environ,
            cwd=self.folder,
            timeout=timeout_s,
            check=False,
        )
        if code is not None:
            said = f"{arguments}: exit {done.returncode}\n{done.stdout}{done.stderr}"
            assert done.returncode == code, said
        return done

    def run_bytes(self, *arguments: str) -> bytes:
        """Run a command whose output is no text, and return that."""
        command = [RECONCILE, *arguments]
        return subprocess.run(
            command, capture_output=True, env=self.environ, cwd=self.folder, timeout=30, check=True
        ).stdout

    def edit(self, old: str, new: str, file: str = "reconcile.yaml") -> None:
        """Replace a text that stands exactly once in a file, as an editor does: by a rename."""
        path = self.specs / file
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path.name}"
        self.write(text.replace(old, new), file)

    def write(self, text: str, file: str = "reconcile.yaml") -> None:
        """Save a whole file, as an editor does."""
        path = self.specs / file
        beside = path.with_name(f".{path.name}.swp")
        beside.write_text(text)
        beside.replace(path)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal to the manager that `up` became and return its exit code."""
        assert self.foreground is not None
        self.foreground.send_signal(number)
        return self.foreground.wait(PATIENCE_S)

    # ---- looking ---------------------------------------------------------------------------------

    def status(self, *names: str) -> dict[str, Any]:
        """Return what `status -o json` says."""
        with Client(runtime_dir=str(self.runtime_dir), timeout=PATIENCE_S) as client:
            answer: dict[str, Any] = client.ask(Status, "status", selection(names, {})).document()
        if answer["keeper_pid"] not in self._born:
            self._remember(answer["keeper_pid"])
        return answer

    def answers(self) -> bool:
        """Tell whether a manager answers."""
        try:
            return bool(self.status())
        except (CommandError, RequestError):
            return False

    def settle(self, within_s: float = PATIENCE_S) -> dict[str, Any]:
        """Wait until everything is as desired and return the status."""
        answer = until(
            lambda: (answer := self.status()) and answer["settled"] and answer,
            "everything is as desired",
            within_s=within_s,
            show=lambda: self.run("status", code=None).stdout,
        )
        self._remember(answer["keeper_pid"])
        return answer

    def watcher(self, name: str) -> dict[str, Any]:
        """Return one watcher as `status -o json` shows it."""
        return next(w for w in self.status(name)["watchers"] if w["name"] == name)

    def pids(self, name: str) -> dict[int, int]:
        """Return the live pids of a watcher by slot."""
        return {s["slot"]: s["pid"] for s in self.watcher(name)["slots"] if s["pid"] is not None}

    def log(self, name: str, slot: int = 1) -> str:
        """Return what a slot has written."""
        path = self.state_dir / "logs" / f"{name}-{slot}.log"
        return path.read_text() if path.exists() else ""

    def processes(self) -> list[int]:
        """Return all live descendants of the keeper, read from /proc."""
        keeper = self.status()["keeper_pid"]
        return [pid for pid in descendants(keeper) if is_alive(pid)]

    def marked(self) -> set[int]:
        """Return all live processes that any keeper of this instance started, controllers included.

        Read from /proc by the marker that begins with what lies in the state folder; ours to know, since
        who outlives a keeper is nobody's descendant.
        """
        try:
            token = (self.state_dir / "instance").read_text().split()[0]
        except FileNotFoundError:
            return set()
        found = set()
        for entry in os.listdir("/proc"):
            with contextlib.suppress(OSError, ValueError):
                mark = environ_of(int(entry)).get("RECONCILE_ID", "")
                if mark.startswith(token) and is_alive(int(entry)):
                    found.add(int(entry))
        return found

    # ---- leaving ---------------------------------------------------------------------------------

    def tell(self) -> None:
        """Print what helps to understand a test that failed."""
        for arguments in (["status"], ["events"]):
            with contextlib.suppress(Exception):
                print(self.run(*arguments, code=None).stdout[-4000:])
        logs = [self.output, self.state_dir / "reconcile.log"]
        for path in [*logs, *sorted(self.state_dir.glob("logs/*.log"))]:
            with contextlib.suppress(OSError):
                print(f"---- {path.name}\n{path.read_text()[-2000:]}")

    def clear(self) -> None:
        """End every process of the instance, by pid: asked first, then killed."""
        with contextlib.suppress(Exception):
            self.status()
        for pid in [*self._born, *self.marked()]:
            self._remember(pid)
        with contextlib.suppress(Exception):
            self.run("shutdown", "--now", "--timeout", "10s", code=None, timeout_s=15)
        left = self._left()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.foreground is not None:
            self.foreground.wait(PATIENCE_S)
        until(lambda: not self._left(), "all processes are gone", show=self._left)

    def _answers(self) -> bool:
        assert self.foreground is not None
        assert self.foreground.poll() is None, f"up ended:\n{self.output.read_text()}"
        return self.answers()

    def _remember(self, pid: int) -> None:
        """Note a process and its descendants, with the time of their birth: numbers are given anew."""
        if (
            pid == 1
        ):  # a manager in a PID namespace of its own; outside, that number is the machine's
            return
        for one in [pid, *descendants(pid)]:
            if one not in self._born and (born := born_ticks(one)) is not None:
                self._born[one] = born

    def _left(self) -> list[int]:
        return [p for p, born in self._born.items() if born_ticks(p) == born and is_alive(p)]


def ask(it: Stage, method: str, **params: object) -> Any:
    """Call a method of the control socket and return its result; raises `Refused` with the error.

    Costs a hundredth of a command: for tests that look often.
    """
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(str(it.runtime_dir / "control.sock"))
        one.settimeout(PATIENCE_S)
        one.sendall(msgpack.packb([0, 7, method, [params] if params else []]))
        unpacker = msgpack.Unpacker()
        while data := one.recv(2**18):
            unpacker.feed(data)
            for _, _, error, result in unpacker:
                if error is not None:
                    raise Refused(error[1])
                return result
    raise Refused("cut off")


class Refused(Exception):
    """What the manager said to a request that it did not fulfil."""


def on_terminal(it: Stage, *arguments: str, **environ: str) -> str:
    """Run a command on a terminal of its own and return all that it wrote there, whatever its exit code."""
    ours, theirs = os.openpty()
    with open(ours, "rb", buffering=0) as terminal:
        process = subprocess.Popen(
            [RECONCILE, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={"TERM": "xterm", **it.environ, **environ},
            cwd=it.folder,
            start_new_session=True,
        )
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: nobody has the other end open any more
            while data := terminal.read(65536):
                shown += data
        process.wait(PATIENCE_S)
    return shown.decode("utf-8", "backslashreplace")


# ---- the machine, read from outside --------------------------------------------------------------


def free_port() -> int:
    """Return a TCP port of the loopback that nobody uses."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def free_ports(count: int) -> int:
    """Return the first of consecutive TCP ports of the loopback that nobody uses, nor will as a client.

    Not from the kernel's own range: a client's connection that has ended keeps its port from servers for a minute.
    """
    first = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]
    while True:
        port = random.randrange(10000, int(first) - count)
        with contextlib.suppress(OSError), contextlib.ExitStack() as held:
            for each in range(port, port + count):
                held.enter_context(socket.create_server(("127.0.0.1", each)))
            return port


def is_alive(pid: int) -> bool:
    """Tell whether a process lives; a zombie does not."""
    fields = _stat(pid)
    return fields is not None and fields[0] not in {"Z", "X"}


def born_ticks(pid: int) -> int | None:
    """Return when a process was started, in clock ticks since boot; None without such a process."""
    fields = _stat(pid)
    return None if fields is None else int(fields[19])


def parent(pid: int) -> int | None:
    """Return the parent of a process."""
    fields = _stat(pid)
    return None if fields is None else int(fields[1])


def descendants(pid: int) -> list[int]:
    """Return children, their children and so on."""
    children: dict[int | None, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            children.setdefault(parent(int(entry)), []).append(int(entry))
    found, look = [], [pid]
    while look:
        more = children.get(look.pop(), [])
        found += more
        look += more
    return found


def environ_of(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with."""
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open; Linux 6.2 tells it to those who may not list them."""
    return os.stat(f"/proc/{pid}/fd").st_size or len(os.listdir(f"/proc/{pid}/fd"))


def resident_bytes(pid: int) -> int:
    """Return the memory that a process occupies."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def command_of(pid: int) -> list[str]:
    """Return the command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]


def _stat(pid: int) -> list[str] | None:
    """Return the fields of proc_pid_stat(5) from the third on, the state."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
