"""A real keeper whose controller is the test itself.

The program that the keeper starts as its controller hands its end of the link to the test and waits; so
the test speaks for it, and can kill it, stop it or let it talk nonsense.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from reconciler.model.action import KeeperAction, Notify, Signal, Spawn
from reconciler.model.observation import (
    HeartbeatAsked,
    KeeperIntroduced,
    KeeperObservation,
    RecordChanged,
    RecordForgotten,
    SignalReceived,
    SnapshotEnded,
    SocketChanged,
    SocketClosed,
)
from reconciler.model.process import Exited, Launch, ProcessId, ProcessRecord, Running, pid_of
from reconciler.model.socket import SocketRecord
from reconciler.wire.link import LinkDecoder, encode
from tests.keeper.nursery import Newborn, nursery

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20.0
SIGKILL = signal.SIGKILL
OWN_NICE = os.getpriority(os.PRIO_PROCESS, 0)
"""A priority that anybody may ask for here, and that takes a fork: tests may run under nice(1)."""
KEEPER = "import sys; sys.path.insert(0, sys.argv.pop(1)); import reconciler.keeper.__main__ as m; sys.exit(m.main(sys.argv))"  # noqa: E501
RELAY = """
import array, os, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
s.sendmsg([(str(os.getpid()) + " " + " ".join(sys.argv[2:])).encode()],
          [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [3, 4]))])
os.close(3); os.close(4)
s.recv(1)
"""


def until(claim: Callable[[], T | None], what: str = "") -> T:
    """Return the first true answer of `claim`."""
    deadline, pause_s = time.monotonic() + PATIENCE_S, 0.001
    while True:
        if answer := claim():
            return answer
        assert time.monotonic() < deadline, f"not in {PATIENCE_S} s: {what or claim}"
        select.select([], [], [], pause_s)
        pause_s = min(pause_s * 1.5, 0.03)  # what takes long need not be asked often


def is_readable(what: int | socket.socket, timeout_s: float) -> bool:
    """Tell whether there is something to read, at the latest after a while. select(2) ends at descriptor 1023."""
    poll = select.poll()
    poll.register(what, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def is_alive(pid: int) -> bool:
    """Tell whether a process lives; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in {
            b"Z",
            b"X",
        }
    except OSError:
        return False


class Link:
    """The controller's end of the link, and the picture that its observations add up to."""

    def __init__(
        self, fd: int, control_fd: int, pid: int, arguments: list[str], relay: socket.socket
    ) -> None:
        self.pid, self.arguments = pid, arguments
        self.control_fd = control_fd
        self.records: dict[ProcessId, ProcessRecord] = {}
        self.sockets: dict[str, SocketRecord] = {}
        self.observations: list[KeeperObservation] = []
        self.socket = socket.socket(fileno=fd)
        self._decoder = LinkDecoder()
        self._relay = relay

    def send(self, *actions: KeeperAction) -> None:
        self.socket.setblocking(True)
        self.socket.sendall(b"".join(map(encode, actions)))

    def take(self, timeout_s: float = PATIENCE_S) -> bool:
        """Take in what comes next; False when nothing came in time or the keeper hung up."""
        if not is_readable(self.socket, timeout_s):
            return False
        try:
            data = self.socket.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        for observation in self._decoder.observations(data):
            self.observations.append(observation)
            match observation:
                case RecordChanged(record):
                    self.records[record.id] = record
                case RecordForgotten(id_):
                    self.records.pop(id_, None)
                case SocketChanged(record):
                    self.sockets[record.name] = record
                case SocketClosed(name):
                    self.sockets.pop(name, None)
                case HeartbeatAsked():
                    with contextlib.suppress(OSError):  # the keeper may be leaving
                        self.send(Notify("WATCHDOG=1"))
                case _:
                    pass
        return bool(data)

    def wait(self, claim: Callable[[], T | None]) -> T:
        """Take in observations until the claim holds, and return its answer."""
        deadline = time.monotonic() + PATIENCE_S
        while not (answer := claim()):
            assert time.monotonic() < deadline, self.observations[-8:]
            assert self.take(max(0.0, deadline - time.monotonic())), self.observations[-8:]
        return answer

    def hear(self, kind: type[T]) -> T:
        return self.wait(lambda: next((e for e in self.observations if isinstance(e, kind)), None))

    def told(self) -> list[str]:
        return [
            observation.meaning
            for observation in self.observations
            if isinstance(observation, SignalReceived)
        ]

    def running(self, id_: ProcessId) -> Running:
        def ask() -> Running | None:
            phase = self.records[id_].phase if id_ in self.records else None
            assert not isinstance(phase, Exited), phase
            return phase if isinstance(phase, Running) else None

        return self.wait(ask)

    def exited(self, id_: ProcessId) -> Exited:
        def ask() -> Exited | None:
            phase = self.records[id_].phase if id_ in self.records else None
            return phase if isinstance(phase, Exited) else None

        return self.wait(ask)

    def spawn(self, id_: ProcessId, *argv: str, **launch: object) -> None:
        self.send(Spawn(id_, Launch(argv, **launch)))  # type: ignore[arg-type]  # the fields of Launch

    def signal(self, id_: ProcessId, name: str, scope: str = "process") -> None:
        self.send(Signal(id_, self.records[id_].incarnation, name, scope))  # type: ignore[arg-type]  # a Scope

    def let_go(self) -> None:
        """Let the controller end by itself."""
        if self.socket.fileno() != -1:
            self.socket.close()
            os.close(self.control_fd)
            self._relay.close()

    def kill(self, number: int = SIGKILL) -> None:
        """Kill the controller: its end of the link is gone with it."""
        os.kill(self.pid, number)
        self.let_go()


@dataclass
class Rig:
    """A running keeper."""

    process: subprocess.Popen[bytes] | Newborn
    folder: Path
    listener: socket.socket
    options: Mapping[str, Any] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.process.pid

    def link(self) -> Link:
        """Return the link of the controller that is started next, after its snapshot."""
        self.listener.settimeout(PATIENCE_S)
        relay, _ = self.listener.accept()
        relay.settimeout(PATIENCE_S)
        text, ancillary, _, _ = relay.recvmsg(4096, socket.CMSG_SPACE(8))
        link_fd, control_fd = array.array("i", ancillary[0][2])
        pid, *arguments = text.decode().split()
        link = Link(link_fd, control_fd, int(pid), arguments, relay)
        self.links.append(link)
        assert isinstance(link.hear(KeeperIntroduced), KeeperIntroduced)
        link.hear(SnapshotEnded)
        return link

    def end(self) -> int:
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """Kill the keeper. Its controller sees that and ends."""
        self.process.kill()
        self.process.wait(PATIENCE_S)
        for link in self.links:
            link.let_go()

    def again(self, **settings: object) -> Link:
        """Start the next keeper, and return the link of its controller."""
        self.start(**settings)
        return self.link()

    def start(self, **settings: object) -> None:
        """Start the next keeper."""
        self.process = started(command(self.folder, **settings), self.options)


def command(folder: Path, **settings: object) -> list[str]:
    """Return the command line of a keeper whose controller hands its link to `folder`/test.sock."""
    relay = [sys.executable, "-I", "-S", "-c", RELAY, str(folder / "test.sock")]
    config = {
        "name": "test",
        "state_dir": str(folder / "state"),
        "runtime_dir": str(folder / "run"),
        "controller_argv": relay,
        **settings,
    }
    return [sys.executable, "-c", KEEPER, str(ROOT), json.dumps(config)]


def started(argv: list[str], options: Mapping[str, Any]) -> subprocess.Popen[bytes] | Newborn:
    """Start a keeper: quickly, unless it needs what only a start of its own gives it."""
    if options.keys() <= {"env", "stdout", "stderr"}:
        return nursery().start(argv, **options)
    return subprocess.Popen(argv, **options)


@contextlib.contextmanager
def keeper(folder: Path, **options: object) -> Iterator[Rig]:
    """Run a keeper, and leave nothing of it."""
    settings = options.pop("settings", {})
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "test.sock"))
    listener.listen()
    os.chmod(folder / "test.sock", 0o777)
    process = started(command(folder, **settings), options)
    rig = Rig(process, folder, listener, options)
    try:
        yield rig
    finally:
        left = children_of(rig.pid)
        if rig.process.poll() is None:
            rig.process.send_signal(signal.SIGQUIT)
            for link in rig.links:
                link.let_go()
            try:
                rig.process.wait(10)
            except subprocess.TimeoutExpired:
                rig.process.kill()
                rig.process.wait()
        listener.close()
        # What a test leaves to itself on purpose is not left to the machine.
        for pid in {*left, *marked_in(folder)}:
            with contextlib.suppress(OSError):
                if b"RECONCILE_INSTANCE=test\0" in Path(f"/proc/{pid}/environ").read_bytes():
                    os.kill(pid, signal.SIGKILL)


def marked_in(folder: Path) -> dict[int, str]:
    """Return all processes of the instance that has its state in `folder`, by pid, with their marks: `web.1/7`."""
    try:
        token = (folder / "state/instance").read_text().split()[0].encode()
    except OSError:
        return {}
    beginning, found = b"RECONCILE_ID=" + token + b"/", {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            _, is_ours, rest = _environ(name).partition(beginning)
            if is_ours:
                found[int(name)] = rest.partition(b"\0")[0].decode()
    return found


def _environ(process: str) -> bytes:
    try:
        with open(f"/proc/{process}/environ", "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""


def children_of(pid: int) -> list[int]:
    """Return the children of a process, none when it is gone."""
    try:
        lists = [each.read_text() for each in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    return [int(n) for each in lists for n in each.split()]


def pid_in(link: Link, id_: ProcessId) -> int:
    """Return the pid of a live record."""
    pid = pid_of(link.records[id_].phase)
    assert pid is not None
    return pid
