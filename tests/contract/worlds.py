"""Two worlds that the contract is held against: the real keeper on this machine, and the same on the fake kernel."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, Protocol, TypeVar

from reconciler.keeper.keeper import Keeper
from reconciler.model.action import KeeperAction, Notify, Upgrade
from reconciler.model.address import Address, InternetAddress, UnixAddress
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
from reconciler.model.process import Exit, Launch, LaunchError, ProcessId, ProcessRecord, Running
from reconciler.model.socket import SocketRecord
from reconciler.wire.link import LinkDecoder, encode
from tests.contract.fake_kernel import FakeKernel, Process, Program, Replaced
from tests.keeper.rig import Link, Rig, is_alive, marked_in, until

T = TypeVar("T")

MISSING: Final = LaunchError("exec", "ENOENT", "/nosuch/program", "no such file or directory")
MILLISECOND: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Both:
    """One program in both worlds. `settles` is the real one's name once it does what it shall."""

    argv: tuple[str, ...]
    fake: Program
    settles: str = "sleep"


def shell(text: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", text)


WIPE: Final = """
import ctypes, os, time
begin, end = map(int, open("/proc/self/stat").read().rsplit(")", 1)[1].split()[47:49])
ctypes.memset(begin, 0, end - begin)
"""


def python(text: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", text)


SPEAKS: Final = """
import os, socket, sys, time
def say(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(text.encode(), "\\0" + os.environ["NOTIFY_SOCKET"][1:])
relay = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
relay.bind(os.environ["RELAY"])
open('/proc/self/comm', 'w').write('speaks')
while (text := relay.recv(4096).decode()) != "end":
    if not text.startswith("heir "): say(text); continue
    r, w = os.pipe()
    if os.fork() == 0: exec(text[5:]); os.setsid(); os.write(w, b"x"); time.sleep(100)
    os.read(r, 1)
"""
"""Says whatever it is told to, may have a child, and ends when it is told to."""
PROGRAMS: Final = {
    "speaks": Both(python(SPEAKS), Program(), settles="speaks"),
    "speaks and has an heir": Both(
        python(SPEAKS), Program(children=(Program(escapes=True),)), settles="speaks"
    ),
    "goes into the background": Both(
        python(
            "import os; r, w = os.pipe()\nif os.fork(): os.read(r, 1); os._exit(0)\nos.setsid()"
            f"{WIPE}os.write(w, b'x'); time.sleep(100)"
        ),
        Program(5 * MILLISECOND, children=(Program(escapes=True, wipes=True),)),
    ),
    "fails and leaves one without a sign": Both(
        python(
            "import os; r, w = os.pipe()\nif os.fork(): os.read(r, 1); os._exit(4)\nos.setsid()"
            f"{WIPE}os.write(w, b'x'); time.sleep(100)"
        ),
        Program(5 * MILLISECOND, 4, children=(Program(escapes=True, wipes=True),)),
    ),
    "keeps a worker and wipes its environment": Both(
        python(
            f"{WIPE}\nif os.fork(): open('/proc/self/comm', 'w').write('wiped')\ntime.sleep(100)"
        ),
        Program(wipes=True, children=(Program(wipes=True),)),
        settles="wiped",
    ),
    "has a stubborn child without a sign": Both(
        python(
            f"{WIPE}import signal\nif os.fork() == 0:\n signal.signal(15, signal.SIG_IGN); os.setsid()"
            "\nelse: open('/proc/self/comm', 'w').write('ready')\ntime.sleep(100)"
        ),
        Program(children=(Program(escapes=True, wipes=True, ignores=frozenset({"TERM"})),)),
        settles="ready",
    ),
    "has a child that goes into the background": Both(
        python(
            "import os\nif os.fork() == 0:\n if os.fork(): os._exit(0)\n os.setsid()"
            f"{WIPE}\ntime.sleep(100)"
        ),
        Program(children=(Program(MILLISECOND, children=(Program(escapes=True, wipes=True),)),)),
    ),
    "starts what takes its number": Both(
        shell("setsid sleep 999 & exec sleep 1000"),
        Program(children=(Program(escapes=True, wipes=True),)),
    ),
    "has waited for another": Both(
        shell("/bin/true; exec sleep 1000"), Program(children=(Program(MILLISECOND),))
    ),
    "sleeps": Both(("sleep", "1000"), Program()),
    "exits with 3": Both(shell("exit 3"), Program(5 * MILLISECOND, code=3)),
    "is missing": Both(("/nosuch/program",), Program(error=MISSING)),
    "is stubborn": Both(
        shell("trap '' TERM; exec sleep 1000"), Program(ignores=frozenset({"TERM"}))
    ),
    "leaves a child": Both(
        shell("sleep 1000 & exit 4"), Program(5 * MILLISECOND, 4, children=(Program(),))
    ),
    "leaves an escaped child": Both(
        shell("setsid sleep 1000 & exit 4"),
        Program(5 * MILLISECOND, 4, children=(Program(escapes=True),)),
    ),
    "has an escaped child": Both(
        shell("setsid sleep 1000 & exec sleep 1000"), Program(children=(Program(escapes=True),))
    ),
}


class World(Protocol):
    """A keeper, and us as its controller."""

    name: str
    records: dict[ProcessId, ProcessRecord]
    sockets: dict[str, SocketRecord]
    observations: list[KeeperObservation]

    def send(self, *actions: KeeperAction) -> None:
        """Say something to the keeper."""

    def send_torn(self, *actions: KeeperAction) -> None:
        """Say something of which the last byte is missing, and die."""

    def wait(self, claim: Callable[[], T | None]) -> T:
        """Let time pass until the claim holds, and return its answer."""

    def settle(self, id_: ProcessId, what: str) -> None:
        """Wait until a running program has done what it begins with."""

    def say(self, id_: ProcessId, text: str) -> None:
        """Let a process say something of itself: one that `speaks`."""

    def forge(self, id_: ProcessId, text: str) -> None:
        """Say something in the name of a process without being one of its."""

    def heir(self, id_: ProcessId) -> int:
        """Return the pid of a child of one that `speaks and has an heir`, in a session of its own."""

    def end(self, id_: ProcessId) -> None:
        """Let one that `speaks` end well."""

    def write_pid_file(self, pid: int) -> str:
        """Write a file that names a process, and return its path."""

    def lives(self, pid: int) -> bool:
        """Tell whether a process lives."""

    def die(self) -> None:
        """Be killed."""

    def rise(self) -> None:
        """Be the next controller, and take its snapshot."""

    def lose_keeper(self) -> None:
        """Kill the keeper, and us with it."""

    def next_keeper(self) -> None:
        """Start the next keeper, be its controller, and take its snapshot."""

    def upgrade(self) -> None:
        """Let the keeper replace its code, be its next controller, and take its snapshot."""

    def end_by_itself(self, pid: int) -> None:
        """Let a process die that nobody looks after just now."""

    def lose_journal(self) -> None:
        """Let nothing that the keeper notes from here on be there for the next one."""

    def marked_pids(self) -> set[int]:
        """Return all processes of the instance but controllers."""

    def tell(self, meaning: Literal["stop", "stop_now", "reload"]) -> None:
        """Signal the keeper."""

    def ended(self) -> int:
        """End as controller, and return how the keeper ends."""

    def take_port(self) -> InternetAddress:
        """Return an address that somebody else holds."""

    def path(self, name: str) -> str:
        """Return where a socket file may be."""

    def remove_file(self, address: Address, *, for_good: bool = False) -> None:
        """Remove the file of a socket; `for_good`: so that it cannot be put back."""


class Real:
    """The real keeper."""

    name = "real"

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self._other = socket.socket()
        self._adopt(rig.link())

    def _adopt(self, link: Link) -> None:
        self.link = link
        self.records, self.sockets, self.observations = (
            link.records,
            link.sockets,
            link.observations,
        )
        self.send, self.wait = link.send, link.wait

    def send_torn(self, *actions: KeeperAction) -> None:
        self.link.socket.sendall(b"".join(map(encode, actions))[:-1])
        self.die()

    def settle(self, id_: ProcessId, what: str) -> None:
        pid = self.link.running(id_).pid
        until(lambda: Path(f"/proc/{pid}/comm").read_text().strip() == PROGRAMS[what].settles)
        if "child" in what:
            children = Path(f"/proc/{pid}/task/{pid}/children")
            until(
                lambda: [
                    int(n) for n in children.read_text().split() if os.getsid(int(n)) == int(n)
                ]
            )

    def say(self, id_: ProcessId, text: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as relay:
            relay.sendto(text.encode(), self.path(f"relay-{id_}"))

    def forge(self, id_: ProcessId, text: str) -> None:
        token = (self.rig.folder / "state/instance").read_text().split()[0]
        address = f"\0reconcile/{token}/{self.records[id_].incarnation}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(text.encode(), address)

    def heir(self, id_: ProcessId) -> int:
        self.say(id_, f"heir {WIPE.replace('time', 'time, socket')}relay.close()")
        pid = self.link.running(id_).pid
        children = Path(f"/proc/{pid}/task/{pid}/children")
        return until(lambda: next(map(int, children.read_text().split()), None))

    def end(self, id_: ProcessId) -> None:
        self.say(id_, "end")

    def write_pid_file(self, pid: int) -> str:
        path = self.rig.folder / "pid"
        path.write_text(f"{pid}\n")
        return str(path)

    def lives(self, pid: int) -> bool:
        return is_alive(pid)

    def die(self) -> None:
        self.link.kill()

    def rise(self) -> None:
        self._adopt(self.rig.link())

    def lose_keeper(self) -> None:
        self.rig.kill()

    def next_keeper(self) -> None:
        self._adopt(self.rig.again())

    def upgrade(self) -> None:
        self.send(Upgrade(sys.executable))
        while self.link.take():
            pass
        self.link.let_go()
        self._adopt(self.rig.link())

    def end_by_itself(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        until(lambda: not is_alive(pid))

    def lose_journal(self) -> None:
        journal = self.rig.folder / "state/keeper.journal"
        copy = journal.with_name("copy")  # the keeper goes on with the file that it has open
        copy.write_bytes(journal.read_bytes())
        copy.rename(journal)

    def marked_pids(self) -> set[int]:
        return {pid for pid in marked_in(self.rig.folder) if is_alive(pid)} - {
            link.pid for link in self.rig.links
        }

    def tell(self, meaning: Literal["stop", "stop_now", "reload"]) -> None:
        names = {"stop": signal.SIGTERM, "stop_now": signal.SIGQUIT, "reload": signal.SIGHUP}
        os.kill(self.rig.pid, names[meaning])

    def ended(self) -> int:
        while self.link.take():
            pass
        self.link.let_go()
        return self.rig.end()

    def take_port(self) -> InternetAddress:
        self._other.bind(("127.0.0.1", 0))
        self._other.listen()
        return InternetAddress("127.0.0.1", self._other.getsockname()[1])

    def path(self, name: str) -> str:
        return str(self.rig.folder / name)

    def remove_file(self, address: Address, *, for_good: bool = False) -> None:
        assert isinstance(address, UnixAddress)
        for spare in (self.rig.folder / "run/sockets").iterdir() if for_good else ():
            spare.unlink()
        os.unlink(address.path)

    def close(self) -> None:
        self._other.close()


@dataclass
class Fake:
    """The same keeper on the fake kernel; time passes only in `wait`."""

    name: str = "fake"
    make: Callable[..., FakeKernel] = FakeKernel
    records: dict[ProcessId, ProcessRecord] = field(default_factory=dict)
    sockets: dict[str, SocketRecord] = field(default_factory=dict)
    observations: list[KeeperObservation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.kernel = self.make(script=self._program)
        self.keeper = Keeper(self.kernel, KeeperIntroduced("keeper", "boot", 1, 0, "session"))
        self.rise()

    @staticmethod
    def _program(_id: ProcessId, _incarnation: int, launch: Launch) -> Program:
        fake = {both.argv: both.fake for both in PROGRAMS.values()}[launch.argv]
        return fake if launch.nice is None else replace(fake, forks=True)

    def send(self, *actions: KeeperAction) -> None:
        self.kernel.feed(b"".join(map(encode, actions)))

    def send_torn(self, *actions: KeeperAction) -> None:
        self.send(*actions)
        self.kernel.end_controller(torn_bytes=1)

    def step(self) -> bool:
        """Let the keeper answer, take in what it says, and turn the clock; False when nothing is to come."""
        due = self.keeper.step()
        for observation in self._decoder.observations(self.kernel.hear()):
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
                    self.send(Notify("WATCHDOG=1"))
                case _:
                    pass
        dues = [each for each in (due, self.kernel.next_due_ns()) if each is not None]
        if dues:
            self.kernel.advance(max(min(dues), self.kernel.now))
        return bool(dues)

    def wait(self, claim: Callable[[], T | None]) -> T:
        for _ in range(10_000):
            comes_more = self.step()
            if answer := claim():
                return answer
            assert comes_more, (self.records, self.sockets, self.observations[-8:])
        raise AssertionError(self.observations[-8:])

    def settle(self, id_: ProcessId, what: str) -> None:
        pass

    def _main(self, id_: ProcessId) -> Process:
        phase = self.records[id_].phase
        assert isinstance(phase, Running)
        return self.kernel.processes[phase.pid]

    def say(self, id_: ProcessId, text: str) -> None:
        self.kernel.say(self._main(id_), text)

    def forge(self, id_: ProcessId, text: str) -> None:
        assert self.kernel.controller_pid is not None
        self.kernel.say(self._main(id_), text, self.kernel.controller_pid)

    def heir(self, id_: ProcessId) -> int:
        pid = self._main(id_).pid
        return next(each.pid for each in self.kernel.alive() if each.parent == pid)

    def end(self, id_: ProcessId) -> None:
        self.kernel.end(self._main(id_).pid, Exit(0))

    def write_pid_file(self, pid: int) -> str:
        self.kernel.pid_files["/fake/pid"] = pid
        return "/fake/pid"

    def lives(self, pid: int) -> bool:
        return pid in self.kernel.processes and self.kernel.processes[pid].ended is None

    def die(self) -> None:
        self.kernel.end_controller()

    def rise(self) -> None:
        self._decoder = LinkDecoder()
        self.records, self.sockets, self.observations = {}, {}, []
        self.wait(lambda: SnapshotEnded() in self.observations)

    def lose_keeper(self) -> None:
        self.kernel.end_keeper()

    def next_keeper(self) -> None:
        self.keeper = Keeper(self.kernel, KeeperIntroduced("next", "boot", 1, 0, "session"))
        self.rise()

    def upgrade(self) -> None:
        self.send(Upgrade("python"))
        with contextlib.suppress(Replaced):
            for _ in range(10):
                self.step()
        self.next_keeper()

    def end_by_itself(self, pid: int) -> None:
        self.kernel.end(pid, Exit(signal="KILL"))

    def lose_journal(self) -> None:
        self.kernel.disk_is_full = True

    def marked_pids(self) -> set[int]:
        return {process.pid for process in self.kernel.alive()}

    def tell(self, meaning: Literal["stop", "stop_now", "reload"]) -> None:
        self.kernel.tell(meaning)

    def ended(self) -> int:
        self.wait(lambda: self.kernel.link != "open")
        if self.kernel.controller_pid is not None:
            self.kernel.end_controller()
        self.wait(lambda: self.keeper.exit_code is not None)
        assert self.keeper.exit_code is not None
        self.kernel.end_keeper()
        return self.keeper.exit_code

    def take_port(self) -> InternetAddress:
        address = InternetAddress("127.0.0.1", 80)
        self.kernel.taken[address] = "address already in use"
        return address

    def path(self, name: str) -> str:
        return f"/fake/{name}"

    def remove_file(self, address: Address, *, for_good: bool = False) -> None:
        self.kernel.spares = not for_good
        self.kernel.remove_file(address)
        self.kernel.advance(self.kernel.now + 1)


def told(world: World) -> list[str]:
    """Return what the signals to the keeper meant."""
    return [
        observation.meaning
        for observation in world.observations
        if isinstance(observation, SignalReceived)
    ]
