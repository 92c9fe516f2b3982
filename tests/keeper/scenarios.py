"""What a keeper does, from beginning to end, with one call to the system that fails somewhere in between.

A scenario makes ready, calls `begin`, from where on calls are counted, and undoes in the end what it did.
It returns the step that failed as the keeper tells it, nothing when it told of no failure. It waits for
what must come about although something failed, or fails itself.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import select
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from reconciler.model.action import (
    Adjust,
    Bind,
    Forget,
    Notify,
    Remember,
    Signal,
    Spawn,
    Unbind,
    Upgrade,
)
from reconciler.model.address import InternetAddress, UnixAddress
from reconciler.model.observation import (
    LogChanged,
    LogRotated,
    RecordChanged,
    RecordForgotten,
    UpgradeFailed,
)
from reconciler.model.process import (
    CaptureSink,
    Exited,
    FileInput,
    FileSink,
    Launch,
    Memory,
    ProcessId,
    Running,
    Settings,
    Sink,
    TerminalInput,
)
from reconciler.model.socket import AS_MADE, BindRefused, Bound, FileOwner, SocketTemplate
from tests.keeper.failing import Failing
from tests.keeper.rig import OWN_NICE, Link, Rig, is_readable, marked_in, pid_in, until

WEB: Final = ProcessId("web", 1)
BYSTANDER: Final = ProcessId("bystander", 1)
LISTENER: Final = SocketTemplate(InternetAddress("127.0.0.1", 0))
ADOPTED: Final = 4
"""So many are left by a former keeper at a time."""
UNTOLD: Final = 127
"""How a child exits that never became its program."""
LINE: Final = re.compile(r"line (\d{6})")
FILE_BYTES: Final = 120


@dataclass
class Patient:
    """A keeper whose calls can be made to fail, with a bystander that has a log and a socket."""

    rig: Rig
    link: Link
    failing: Failing
    stderr: Path
    next: tuple[int, int] | None = None
    """How many calls succeed and which errno comes then, None: nothing fails."""
    failed: str = ""
    """The call that failed."""
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    pid: int = 0
    port: int = 0
    records: bool = False
    """The calls are written down instead."""
    is_refused: bool = False
    """The last keeper could not begin."""
    adopted: int = 0
    """How many of those are used up that a former keeper left."""

    def begin(self) -> None:
        """Count calls from now on."""
        if self.records:
            self.failing.record()
        elif self.next is not None:
            self.failing.arm(*self.next)

    def heal(self) -> None:
        """Let nothing fail any more."""
        self.failed = self.failing.disarm() or self.failed

    def descriptors(self) -> list[str]:
        """Return what the keeper holds open while it sleeps, without the numbers that the next one has others of.

        But for the journal: when that fails it is opened anew later.
        """
        while True:
            sleeps, found = self._sleeps(), self._open()
            if sleeps and sleeps == self._sleeps():  # it did not run meanwhile
                break
            select.select([], [], [], 0.001)
        for _ in range(ADOPTED - self.adopted if self.adopted else 0):  # fewer from turn to turn
            found.remove("anon_inode:[pidfd]")
        return found

    def _open(self) -> list[str]:
        folder, found = f"/proc/{self.rig.pid}/fd", []
        for number in os.listdir(folder):
            with contextlib.suppress(OSError):
                found.append(os.readlink(f"{folder}/{number}"))
        held = [each for each in found if not each.endswith("keeper.journal")]
        return sorted(re.sub(r"\d+", "N", each) for each in held)

    def _sleeps(self) -> str:
        """Return how often the keeper has run, when it sleeps just now; empty when it runs."""
        process = Path(f"/proc/{self.rig.pid}")
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        return (process / "schedstat").read_text() if state == "S" else ""

    def sink(self, name: str = "out") -> FileSink:
        return FileSink(str(self.rig.folder / name))

    def has_said(self, words: str, since: int) -> bool:
        return words in self.stderr.read_text()[since:]

    def said(self) -> int:
        return len(self.stderr.read_text())

    def family(self, slot: int) -> set[int]:
        """Return the processes of one that a former keeper left."""
        return {pid for pid, mark in self.marked().items() if mark.startswith(f"{_old(slot)}/")}

    def marked(self) -> dict[int, str]:
        """Return all processes of the instance, by pid, with what they are."""
        return marked_in(self.rig.folder)

    # ---- the bystander ----

    def accompany(self) -> None:
        """Start the bystander: it has a socket, and writes down what it is fed."""
        self.feed = Feed(self.rig.folder / "bystander.fifo")
        self.link.send(Bind("kept", LISTENER))
        self.link.wait(lambda: "kept" in self.link.sockets)
        launch = Launch(
            ("cat", str(self.feed.path)), sockets=("kept",), stdout=self.sink("bystander.log")
        )
        self.link.send(Spawn(BYSTANDER, launch))
        self.link.running(BYSTANDER)
        self.pid, self.port = pid_in(self.link, BYSTANDER), self.kept_port()

    def kept_port(self) -> int:
        phase = self.link.sockets["kept"].phase
        assert isinstance(phase, Bound), phase
        return int(phase.listen.rpartition(":")[2])

    def check_bystander(self) -> None:
        """See that it was left alone: it runs, clients reach its socket, and what it writes arrives."""
        assert pid_in(self.link, BYSTANDER) == self.pid
        expected = {self.pid, *_controllers(self)}
        # A child that was killed on its way may take a moment to be gone.
        until(
            lambda: {p for p, mark in self.marked().items() if not _is_left(mark)} == expected,
            "nothing else runs than the bystander and the controller",
        )
        assert self.kept_port() == self.port
        socket.create_connection(("127.0.0.1", self.port), 5).close()
        log = self.rig.folder / "bystander.log"
        last = self.feed.lines(1)
        until(lambda: numbers_in(log)[-1:] == [last], "the bystander's line arrives")


def _is_left(mark: str) -> bool:
    """Tell whether that is one that a former keeper left for a scenario."""
    return mark.startswith("old.")


def _controllers(it: Patient) -> list[int]:
    return [] if it.link.socket.fileno() == -1 else [it.link.pid]


class Feed:
    """A FIFO that a `cat` reads, so that it writes when we say."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._fd = os.open(path, os.O_RDWR)
        self._last = 0

    def lines(self, count: int) -> int:
        """Have lines written, and return the number of the last one."""
        first, self._last = self._last + 1, self._last + count
        text = "".join(f"line {number:06d}\n" for number in range(first, self._last + 1))
        os.write(self._fd, text.encode())
        return self._last

    def close(self) -> None:
        os.close(self._fd)
        self.path.unlink()


def numbers_in(path: Path) -> list[int]:
    """Return the numbers of all lines of a log, in order, with what was rotated. Each line must be whole."""
    while True:
        files = sorted(path.parent.glob(f"{path.name}.*"), key=lambda p: -int(p.suffix[1:]))
        try:
            text = "".join(each.read_text() for each in (*files, path) if each.exists())
            break
        except FileNotFoundError:  # it was rotated just now
            continue
    found = [LINE.fullmatch(line) for line in text.splitlines()]
    assert all(found), text
    return [int(line[1]) for line in found if line]


Scenario = Callable[[Patient], str]


# ---- starting and stopping ------------------------------------------------------------------------


def ended(it: Patient) -> None:
    """Bring a process to its end, whatever has become of it, and forget it."""
    record = it.link.records[WEB]
    if not isinstance(record.phase, Exited) or record.phase.survivors:
        it.link.send(Signal(WEB, record.incarnation, "KILL", "tree"))
        it.link.wait(lambda: isinstance(it.link.records[WEB].phase, Exited))
    it.link.wait(lambda: not it.link.records[WEB].phase.survivors)  # type: ignore[union-attr]  # it has ended
    it.link.send(Forget(WEB, record.incarnation))
    it.link.wait(lambda: WEB not in it.link.records)


def spawned(it: Patient, launch: Launch) -> str:
    """Start a process and end it."""
    it.begin()
    it.link.send(Spawn(WEB, launch))

    def settled() -> str | None:
        phase = it.link.records[WEB].phase if WEB in it.link.records else None
        if isinstance(phase, Running):
            return "runs"
        if isinstance(phase, Exited):
            if phase.exit.code == UNTOLD:
                return "untold"
            assert phase.exit.error is not None, phase
            assert phase.exit.error.step and phase.exit.error.errno and phase.exit.error.message
            return phase.exit.error.step
        return None

    step = it.link.wait(settled)
    ended(it)
    return "" if step == "runs" else step


def plainly(it: Patient) -> str:
    return spawned(it, Launch(("sleep", "1000"), stdout=it.sink(), stderr=it.sink("err")))


def by_fork(it: Patient) -> str:
    launch = Launch(
        ("sleep", "1000"),
        nice=OWN_NICE,
        limits={"core": (0, 0)},
        working_dir="/",
        stdin=FileInput("/etc/passwd"),
        stdout=it.sink(),
        notify=True,
    )
    return spawned(it, launch)


def captured(it: Patient) -> str:
    sink: Sink = CaptureSink(str(it.rig.folder / "hook"))
    return spawned(it, Launch(("sleep", "1000"), stdin=TerminalInput(), stdout=sink))


def stopped(it: Patient) -> str:
    """End a process with a child in its group and one in a session of its own."""
    it.link.spawn(WEB, "sh", "-c", "sleep 1000 & setsid sleep 1000 & wait")
    it.link.running(WEB)
    others = {it.pid, *_controllers(it)}
    until(lambda: len({*it.marked()} - others) == 3, "it has children")
    it.begin()
    it.link.signal(WEB, "TERM", "tree")
    it.link.exited(WEB)
    # What was not found is told to be left, and found by the next signal.
    it.link.signal(WEB, "TERM", "tree")
    it.link.wait(lambda: not it.link.exited(WEB).survivors)
    until(lambda: {*it.marked()} == others, "nothing of it is left")
    ended(it)
    return ""


# ---- sockets --------------------------------------------------------------------------------------


def bound(it: Patient, *templates: SocketTemplate, owner: FileOwner = AS_MADE) -> str:
    """Bind a socket, tune it, and close it."""
    it.begin()
    step = ""
    for template in templates:
        it.link.sockets.pop("http", None)
        it.link.send(Bind("http", template, owner))

        def settled(template: SocketTemplate = template) -> str | None:
            phase = it.link.sockets["http"].phase if "http" in it.link.sockets else None
            if isinstance(phase, BindRefused):
                assert phase.message.startswith(f"cannot bind {template.address}: ")
                return phase.errno
            return "bound" if isinstance(phase, Bound) else None

        answer = it.link.wait(settled)
        step = step or ("" if answer == "bound" else answer)
    it.link.send(Unbind("http"))
    it.link.wait(lambda: "http" not in it.link.sockets)
    return step


def internet(it: Patient) -> str:
    return bound(it, SocketTemplate(InternetAddress("127.0.0.1", 0), reuseport=True))


def tuned(it: Patient) -> str:
    address = InternetAddress("127.0.0.1", 0)
    one = SocketTemplate(address, nodelay=True, keepalive=True, backlog=5)
    return bound(it, one, SocketTemplate(address, backlog=7))


def unix(it: Patient) -> str:
    path = str(it.rig.folder / "s.sock")
    return bound(
        it,
        SocketTemplate(UnixAddress(path), mode=0o600),
        owner=FileOwner(os.geteuid(), os.getegid()),
    )


# ---- logs -----------------------------------------------------------------------------------------


def writing(it: Patient, sink: FileSink) -> Feed:
    """Start a process that writes what it is fed."""
    feed = Feed(it.rig.folder / f"feed{next(it.numbers)}")
    it.link.spawn(WEB, "cat", str(feed.path), stdout=sink)
    it.link.running(WEB)
    it.link.observations.clear()
    return feed


def in_trouble(it: Patient, path: Path) -> bool:
    """Tell whether the keeper has told that what is written to a file is lost."""
    return any(
        isinstance(each, LogChanged) and each.path == str(path) and each.trouble
        for each in it.link.observations
    )


def arrives(it: Patient, path: Path, feed: Feed, count: int) -> bool:
    """Have lines written; tell whether all have arrived, False once some are told to be lost."""
    last = feed.lines(count)
    while numbers_in(path)[-1:] != [last]:
        if in_trouble(it, path):
            return False
        it.link.take(0.01)
    return not in_trouble(it, path)


def rotated(it: Patient) -> str:
    """Let a log be rotated, and be told that there is something to compress."""
    path = it.rig.folder / f"log{next(it.numbers)}"
    feed = writing(it, FileSink(str(path), max_size=FILE_BYTES, keep=99, compress=True))
    it.begin()
    is_whole = arrives(it, path, feed, 25)
    it.heal()
    it.link.observations.clear()

    def rotates_again() -> bool:
        arrived = arrives(it, path, feed, 12)
        return arrived and path.exists() and path.stat().st_size <= FILE_BYTES

    until(rotates_again, "it is written and rotated as before")
    rotation = LogRotated(str(path))
    it.link.wait(lambda: rotation in it.link.observations)
    numbers = numbers_in(path)
    assert numbers == sorted(set(numbers))
    if is_whole:
        assert numbers == list(range(1, len(numbers) + 1))
    ended(it)
    feed.close()
    return "" if is_whole else "write"


def redirected(it: Patient) -> str:
    """Let a log go on in another file."""
    old, new = (it.rig.folder / f"log{next(it.numbers)}" for _ in range(2))
    feed = writing(it, FileSink(str(old)))
    assert arrives(it, old, feed, 1)
    it.begin()
    record = it.link.records[WEB]
    it.link.observations.clear()
    it.link.send(Adjust(WEB, record.incarnation, Settings(stdout=FileSink(str(new)))))
    it.link.wait(
        lambda: [
            e for e in it.link.observations if isinstance(e, RecordChanged) and e.record.id == WEB
        ]
    )
    is_whole = arrives(it, new, feed, 3)
    it.heal()
    it.link.observations.clear()
    until(lambda: arrives(it, new, feed, 1), "it is written to the new file")
    if is_whole:
        assert numbers_in(old) + numbers_in(new) == list(range(1, numbers_in(new)[-1] + 1))
    ended(it)
    feed.close()
    return "" if is_whole else "write"


# ---- the journal, the controller, the next keeper -------------------------------------------------


def written_down(it: Patient) -> str:
    """Let so much be written down that the journal is written anew."""
    before = it.said()
    it.begin()
    for _ in range(3):
        memory = Memory(restarts=next(it.numbers), stop_reason="x" * 300_000)
        it.link.send(Remember(BYSTANDER, it.link.records[BYSTANDER].incarnation, memory))
        until(lambda told=memory: _journalled(it) == told.restarts, "it stands in the journal")  # type: ignore[misc]  # bound now
    return "journal" if it.has_said("cannot write", before) else ""


def _journal(it: Patient) -> bytes:
    return (it.rig.folder / "state/keeper.journal").read_bytes()


def _journalled(it: Patient) -> int:
    """Return how many restarts of the bystander the journal says; a last line may be on its way."""
    found = 0
    for line in _journal(it).split(b"\n")[:-1]:
        name, value = json.loads(line.partition(b" ")[2] or b'["", null]')
        if name == f"process {BYSTANDER}" and value is not None:
            found = value["record"]["memory"].get("restarts", 0)
    return found


def controller_replaced(it: Patient) -> str:
    """Kill the controller, and meet the next one."""
    before = it.said()
    it.begin()
    it.link.kill()
    it.link = it.rig.link()
    return "controller" if it.has_said("cannot start the controller", before) else ""


def adopted(it: Patient) -> str:
    """Kill the keeper, and meet the next one; where that cannot begin, the next turn meets one."""
    before = it.said()
    it.rig.kill()
    it.begin()
    it.rig.start()
    return _taken_over(it, before)


def _taken_over(it: Patient, before: int) -> str:
    """Return what a keeper that takes over tells, once it has or cannot."""
    it.is_refused = _await_link(it)
    said = it.stderr.read_text()[before:]
    assert "\nTraceback" not in said, said
    if it.is_refused:
        assert "cannot start " in said
        return "start"
    return "told" if " error keeper: " in said else ""


def runs_on(it: Patient) -> str:
    """Stop a process with its children that a former keeper started."""
    if it.adopted == ADOPTED:
        it.adopted = 0
    if not it.adopted:
        for slot in range(1, ADOPTED + 1):
            it.link.spawn(_old(slot), "sh", "-c", "setsid sleep 1000 & wait")
            it.link.running(_old(slot))
        for slot in range(1, ADOPTED + 1):
            until(lambda slot=slot: len(it.family(slot)) == 2, "it has a child")  # type: ignore[misc]  # bound now
            # A journal that failed in the turn before is written again later; nobody adopts what is not in it.
            pid = str(it.link.running(_old(slot)).pid).encode()
            until(lambda pid=pid: pid in _journal(it), "it stands in the journal")  # type: ignore[misc]  # bound now
        it.rig.kill()
        it.link = it.rig.again()
    it.adopted += 1
    others = {*it.marked()} - {*it.family(it.adopted)}
    it.begin()
    it.link.signal(_old(it.adopted), "KILL", "tree")
    it.link.exited(_old(it.adopted))
    it.link.signal(_old(it.adopted), "KILL", "tree")
    it.link.wait(lambda: not it.link.exited(_old(it.adopted)).survivors)
    until(lambda: {*it.marked()} == others, "nothing of it is left")
    it.link.send(Forget(_old(it.adopted), it.link.records[_old(it.adopted)].incarnation))
    it.link.wait(lambda: _old(it.adopted) not in it.link.records)
    return ""


def upgraded(it: Patient) -> str:
    """Have the keeper replace its code; what cannot be told in time by the old code is told by the new one."""
    # What is found of it must not change when a keeper cannot go on, and the next one adopts it.
    if it.is_refused or not it.adopted:
        it.adopted = ADOPTED
        it.rig.kill()
        it.link = it.rig.again()
        it.is_refused = False
    before = it.said()
    it.begin()
    it.link.observations.clear()
    it.link.send(Upgrade(sys.executable))
    while (
        not any(isinstance(each, UpgradeFailed) for each in it.link.observations) and it.link.take()
    ):
        pass
    if any(isinstance(each, UpgradeFailed) for each in it.link.observations):
        return "upgrade"
    it.link.let_go()
    return _taken_over(it, before)


def not_upgraded(it: Patient) -> str:
    """Have the keeper try to execute what is not there."""
    it.begin()
    it.link.observations.clear()
    it.link.send(Upgrade("/no/such/python"))
    cause = it.link.hear(UpgradeFailed).cause
    return "" if cause.endswith("No such file or directory") else "upgrade"


def shut_down(it: Patient) -> str:
    """End the keeper although its controller hangs, and start another one that finds nothing."""
    it.begin()
    os.kill(it.link.pid, signal.SIGSTOP)
    os.kill(it.rig.pid, signal.SIGTERM)
    it.rig.end()
    it.heal()
    until(lambda: not it.marked(), "nothing is left of what ran")
    it.link.let_go()
    it.rig.start()
    it.link = it.rig.link()
    assert it.link.records == {}
    it.feed.close()
    it.accompany()
    return ""


def notified(it: Patient) -> str:
    """Pass on what the controller says to whoever started the manager."""
    it.begin()
    it.link.observations.clear()
    it.link.send(Notify("STATUS=well"), Forget(WEB, 0))
    it.link.hear(RecordForgotten)
    return ""


def _old(slot: int) -> ProcessId:
    return ProcessId("old", slot)


def _await_link(it: Patient) -> bool:
    """Wait for the first controller of a keeper; True when the keeper has ended instead."""
    calls = partial(is_readable, it.rig.listener, 0)
    until(lambda: calls() or it.rig.process.poll() is not None, "the keeper has begun or ended")
    if not calls():
        return True
    it.link = it.rig.link()
    return False


UNTOLD_SCENARIOS: Final = {
    "a process is stopped with its tree",
    "a log is redirected",
    "an adopted process is stopped with its tree",
    "a keeper ends with a controller that hangs",
    "somebody is notified",
}
"""Where nothing is lost there is nothing to tell: what could not be found or opened is at the next look."""
SCENARIOS: Final[dict[str, Scenario]] = {
    "a process is spawned": plainly,
    "a process is forked": by_fork,
    "a hook is spawned": captured,
    "a process is stopped with its tree": stopped,
    "an internet socket is bound": internet,
    "an internet socket is tuned": tuned,
    "a unix socket is bound": unix,
    "a log is rotated": rotated,
    "a log is redirected": redirected,
    "the journal is written": written_down,
    "a controller is replaced": controller_replaced,
    "a keeper takes over": adopted,
    "an adopted process is stopped with its tree": runs_on,
    "an upgrade succeeds": upgraded,
    "an upgrade fails": not_upgraded,
    "a keeper ends with a controller that hangs": shut_down,
    "somebody is notified": notified,
}
