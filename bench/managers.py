"""What is the same for all managers that are compared, and the two that are always there.

A manager gets a crew, writes the configuration that its own documentation recommends, and is started,
asked and stopped. All that is not needed for the comparison stays at its default.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from bench.accounting import family
from bench.programs import BenchError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.programs import Programs

STOP_S: Final = 120.0
ROOT: Final = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Keeping:
    """What shall be done with the output: a folder for each worker, the size of a file, how many to keep."""

    folder: Path
    max_bytes: int
    keep: int
    timestamps: bool = False

    def file(self, index: int) -> Path:
        """Return where the output of a worker goes; what was rotated lies beside it."""
        return self.folder / str(index) / "out.log"


@dataclass(frozen=True, slots=True)
class Crew:
    """What shall run, one worker in each watcher. `files` is over how many files they are spread."""

    commands: tuple[tuple[str, ...], ...]
    files: int
    keeping: Keeping | None = None
    applies_itself: bool = True

    def by_file(self) -> list[range]:
        """Return whose watchers stand in each file."""
        each = -(-len(self.commands) // self.files)
        return [
            range(first, min(first + each, len(self.commands)))
            for first in range(0, len(self.commands), each)
        ]


class Manager:
    """One manager of a crew, from its configuration to its end; started and stopped by pid only."""

    name: ClassVar[str]
    kill_every_s: ClassVar[float] = 0.05
    """Kills are spread so far that a manager with a tick is met at any time of it."""
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, programs: Programs, folder: Path, crew: Crew) -> None:
        self.programs = programs
        self.folder = folder
        self.crew = crew
        self.log = folder / "manager.log"
        self.started_ns = 0
        """The monotonic clock just before it was started."""
        self.process: subprocess.Popen[bytes]
        self._argv: list[str] = []

    # ---- what each manager says for itself ----

    def configure(self) -> list[str]:
        """Write the configuration and return the command."""
        raise NotImplementedError

    def asker(self) -> list[str] | None:
        """Return a command that asks for the status of all, time and again: see `asking`."""
        return None

    def status_command(self) -> list[str] | None:
        """Return the command by which people ask for the status of all."""
        return None

    def can_add(self) -> bool:
        """Tell whether `add` is there."""
        return False

    def add(self, command: tuple[str, ...]) -> int:
        """Put one more watcher into the configuration and make the manager see it.

        Returns the monotonic clock when the file was saved or, where a command has to be given after
        that, just before it was.
        """
        raise NotImplementedError

    # ---- the same for all ----

    def start(self) -> None:
        """Start it."""
        self._argv = self.configure()
        self._run()

    def die_and_follow(self) -> None:
        """Be killed, and started once more; what ran goes on where the manager can do that."""
        self.process.kill()
        self.process.wait()
        self._run()

    def _run(self) -> None:
        with self.log.open("ab") as output:
            self.started_ns = time.monotonic_ns()
            self.process = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def pids(self) -> list[int]:
        """Return the manager's own processes."""
        return family(self.process.pid, (self.programs.worker, self.programs.writer))

    def stop(self) -> float:
        """Stop everything; return after how many ms the last worker and the last of its own was gone."""
        workers = self._workers()
        began_ns = time.monotonic_ns()
        self.process.send_signal(self.stop_signal)
        try:
            ended_ns = _wait_for(workers, self.process)
        except TimeoutError:
            self.process.kill()
            self.process.wait()
            for pidfd in workers:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            msg = f"{self.name} did not stop within {STOP_S:g} s"
            raise BenchError(msg) from None
        finally:
            for pidfd in workers:
                os.close(pidfd)
        return (ended_ns - began_ns) / 1e6

    def _workers(self) -> list[int]:
        """Return descriptors of all its descendants."""
        found = []
        for pid in family(self.process.pid, ())[1:]:
            try:
                found.append(os.pidfd_open(pid))
            except ProcessLookupError:
                continue
        return found


def _wait_for(pidfds: Iterable[int], process: subprocess.Popen[bytes]) -> int:
    """Sleep until all of them and the process are gone; return the monotonic clock then."""
    left, poll = set(pidfds), select.epoll()
    until = time.monotonic() + STOP_S
    for pidfd in left:
        poll.register(pidfd, select.EPOLLIN)
    with poll:
        while left:
            if time.monotonic() > until:
                raise TimeoutError
            for pidfd, _ in poll.poll(1.0):
                poll.unregister(pidfd)
                left.discard(pidfd)
    try:
        process.wait(max(until - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    return time.monotonic_ns()


class Floor(Manager):
    """The minimal manager in C. Told to keep output, it is the minimal reader in C."""

    name = "floor in C"

    def configure(self) -> list[str]:
        """Take the workers' FIFO and their number from the first command: that is all it can be told."""
        program, fifo, _, *rest = self.crew.commands[0]
        count = len(self.crew.commands)
        keeping = self.crew.keeping
        if keeping is None:
            return [str(self.programs.floor), str(count), program, fifo]
        for index in range(count):
            keeping.file(index).parent.mkdir(parents=True)
        size = str(keeping.max_bytes)
        return [
            str(self.programs.reader),
            *(str(keeping.folder), size, str(count), program, fifo),
            *rest,
        ]


class Reconcile(Manager):
    """This checkout."""

    name = "reconcile"

    def configure(self) -> list[str]:
        """Write one watcher for each worker, all else by default."""
        self.specs = self.folder / "specs"
        self.specs.mkdir()
        for number, indexes in enumerate(self.crew.by_file()):
            head = "" if number or self.crew.applies_itself else "apply: {auto: false}\n"
            self._file(number).write_text(f"{head}watchers:\n{self._watchers(indexes)}")
        state = str(self.folder / "state")
        return [self._command(), "run", *self._which(), "--state-dir", state, str(self.specs)]

    def _watchers(self, indexes: range) -> str:
        return "".join(self._watcher(index, self.crew.commands[index]) for index in indexes)

    def asker(self) -> list[str]:
        """Ask over the control socket, with the product's own client."""
        return [sys.executable, "-m", "bench.asking", "reconcile", str(self.folder / "run")]

    def status_command(self) -> list[str]:
        """Ask with the command line."""
        return [self._command(), "status", *self._which()]

    def version_command(self) -> list[str]:
        """Return the least that the command line can do."""
        return [self._command(), "version"]

    def can_add(self) -> bool:
        """Saving is enough."""
        return True

    def add(self, command: tuple[str, ...]) -> int:
        """Save the first file with one watcher more, as an editor does: by a rename."""
        file = self._file(0)
        text = file.read_text() + self._watcher(int(command[2]), command)
        return self._save(file, text)

    def save_again(self) -> int:
        """Save the first file with the same bytes; return its size."""
        text = self._file(0).read_text()
        self._save(self._file(0), text)
        return len(text.encode())

    def controller(self) -> int:
        """Return the pid of the controller among the keeper's children. Raises `BenchError`."""
        # The first of the family is the keeper, whose own command line tells how to start a controller.
        for pid in self.pids()[1:]:
            if b"reconciler.controller" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        msg = f"cannot find the controller among the children of {self.process.pid}"
        raise BenchError(msg)

    def end_controller(self) -> None:
        """Kill the controller; the keeper starts another."""
        os.kill(self.controller(), signal.SIGKILL)

    def _file(self, number: int) -> Path:
        return self.specs / f"workers{number}.yaml"

    def _watcher(self, index: int, command: tuple[str, ...]) -> str:
        words = ", ".join(f"'{word}'" for word in command)
        text = f"  worker{index}:\n    cmd: [{words}]\n"
        keeping = self.crew.keeping
        if keeping is not None:
            keeping.file(index).parent.mkdir(parents=True)
            text += f"    logs: {{stdout: {{file: {keeping.file(index)}}}, max_size: {keeping.max_bytes}B,"
            text += f" keep: {keeping.keep}, timestamps: {str(keeping.timestamps).lower()}}}\n"
        return text

    def _save(self, file: Path, text: str) -> int:
        fresh = self.folder / "being-saved"
        fresh.write_text(text)
        saved_ns = time.monotonic_ns()
        fresh.rename(file)
        return saved_ns

    def _which(self) -> list[str]:
        return ["--name", "bench", "--runtime-dir", str(self.folder / "run")]

    @staticmethod
    def _command() -> str:
        """Return the `reconcile` that lies beside this interpreter."""
        command = Path(sys.executable).with_name("reconcile")
        if not command.exists():
            msg = f"cannot find {command.name} beside {sys.executable}; try: make bench"
            raise BenchError(msg)
        return str(command)


class ReconcileSlots(Reconcile):
    """This checkout, with all workers as slots of one watcher."""

    name = "reconcile, slots"

    def _watchers(self, indexes: range) -> str:
        program, fifo, _ = self.crew.commands[0]
        command = f"['{program}', '{fifo}', '${{slot}}']"
        return f"  worker:\n    cmd: {command}\n    numprocesses: {len(indexes)}\n"
