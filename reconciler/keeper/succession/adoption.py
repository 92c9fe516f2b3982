"""A keeper's first deed: take over what a former one left, before any controller is started.

There is one way for every start. After a clean end nothing is written down, so nothing is found. A record
whose process still lives is held again as it was; one whose process is gone ends with an unknown exit; one
that was only about to be started is known by its marker, if it ever was.

What carries a marker that was never written down is stopped: it would run twice otherwise. That is the
controller of the former keeper, and whatever was started while its disk was full or its journal is damaged.
A marked process that was written down and forgotten again was left alone on purpose, and still is.

One entry that cannot be read, or one process of which something unexpected is found, costs that record: what
runs of it is taken for something that was never written down. Only a shortage (`OSError`) ends all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar, assert_never

from reconciler.keeper.listeners import Listener
from reconciler.keeper.records import Process, Stranger, as_stranger
from reconciler.keeper.succession.notes import (
    INCARNATIONS,
    OTHERS,
    STRANGERS,
    WrittenProcess,
    WrittenSocket,
)
from reconciler.model.process import Exit, Exited, Requested, Running, Starting
from reconciler.model.units import SECOND_NS
from reconciler.model.value import from_plain, replace
from reconciler.system.facts import Died

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reconciler.keeper.kernel import Kernel
    from reconciler.model.process import ProcessId
    from reconciler.system.facts import Identity


T = TypeVar("T")

TERM_NS: Final = 5 * SECOND_NS
KILL_NS: Final = 5 * SECOND_NS


class Intruders:
    """Processes that must end before a controller is started: asked first, then killed."""

    def __init__(self, kernel: Kernel, pids: set[int]) -> None:
        self._kernel = kernel
        self._pids = pids
        self._due_ns = kernel.now_ns() + TERM_NS
        self._is_killed = False
        for pid in sorted(pids):
            kernel.signal(pid, "TERM")

    @property
    def are_here(self) -> bool:
        """Tell whether one still lives."""
        return bool(self._pids)

    def died(self, pid: int) -> None:
        """Forget a process that is dead, whoever it was."""
        self._pids.discard(pid)

    def expel(self) -> int | None:
        """Kill those whose grace is over; return when to be called again at the latest."""
        now_ns = self._kernel.now_ns()
        if self._pids and now_ns >= self._due_ns:
            if self._is_killed:
                pids = ", ".join(map(str, sorted(self._pids)))
                said = "processes of an earlier controller could not be stopped"
                self._kernel.log("error", f"{said}; they keep running unmanaged", pids=pids)
                self._pids.clear()
            for pid in sorted(self._pids):
                self._kernel.signal(pid, "KILL")
            # However late we are: a machine that stood still is no reason to leave out KILL.
            self._is_killed, self._due_ns = True, now_ns + KILL_NS
        return self._due_ns if self._pids else None


class Inheritance:
    """What was taken over from the former keeper. Raises `OSError` when descriptors do not suffice for it."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._recalled = kernel.recall()
        self._is_whole = self._recalled.is_whole
        written = self._read("process", WrittenProcess)
        sockets = self._read("socket", WrittenSocket)
        strangers = next(iter(self._read(STRANGERS, dict[int, Stranger])), {})
        others = next(iter(self._read(OTHERS, list[int])), None)
        self.noted = next(iter(self._read(INCARNATIONS, int)), 0)
        """Up to this number all incarnations have been written down; a living one beyond it is an intruder."""
        self.incarnations = max((self.noted, *(each.record.incarnation for each in written)))
        """A number up to which none may be given again."""
        self._marked: dict[str, dict[int, Identity]] = {}
        self._find(written)
        # Who has come to us since our former code looked last may be a remnant: it says who was there before.
        self.others = sorted(kernel.children()) if others is None else others
        """Children that we had before we started any, such as the viewer of `up`: they are nobody's remnant."""
        self.processes: list[Process] = []
        for process in written:
            self._restore(process)
        self.intruders: set[int] = set()
        """Pids that must end before anything is started."""
        self.sockets: list[Listener] = []
        for socket in sockets:
            self._take_back(socket, strangers)
        self._find_intruders()
        self.strangers: dict[int, Stranger] = {}
        """What the processes that were taken over have left behind, by pid."""
        self.sessions: set[int] = set()
        """Sessions of dead ones in which somebody still lives: until then nobody else gets the number."""
        self._find_strangers(strangers)

    def _read(self, subject: str, kind: type[T]) -> list[T]:
        """Return what was written down of processes, of sockets, or of something that there is once."""
        found: list[T] = []
        for name, plain in self._recalled.entries.items():
            if name.partition(" ")[0] == subject:
                doing = f"reading what was written down of {name}"
                with self._kernel.border(doing, OSError) as border:
                    found.append(from_plain(kind, plain))
                self._is_whole = self._is_whole and border.fault is None
        return found

    def _find(self, processes: list[WrittenProcess]) -> None:
        """Find all that bears our marker, and what has lost it and is in the session of one that was written down."""
        leaders = {each.pid: each for each in processes if each.pid and each.born}
        for pid, identity in self._kernel.search(leaders).items():
            marker, leader = identity.marker, leaders.get(identity.session)
            if not marker and leader is not None:
                with self._kernel.border(f"telling whose process {pid} is", OSError):
                    if self._is_of(identity, pid, leader):
                        marker = self._kernel.marker(leader.record.id, leader.record.incarnation)
            if marker:
                self._marked.setdefault(marker, {})[pid] = identity

    def _is_of(self, identity: Identity, pid: int, leader: WrittenProcess) -> bool:
        """Tell whether a process is in the session that this one led, and in no later one of the same number.

        That of one whose end was written down long ago proves nothing.
        """
        if pid == identity.session:
            return identity.born == leader.born
        phase = leader.record.phase
        if isinstance(phase, Exited) and not (phase.survivors or phase.left):
            return False
        now = self._kernel.identify(identity.session)
        return identity.born >= leader.born and (now is None or now.born == leader.born)

    def _found(self, id: ProcessId, incarnation: int) -> Mapping[int, Identity]:
        return self._marked.get(self._kernel.marker(id, incarnation), {})

    def _restore(self, written: WrittenProcess) -> None:
        """Hold a process again, alive or dead."""
        with self._kernel.border(f"taking {written.record.id} over", OSError) as border:
            self.processes.append(self._restored(written))
        if border.fault is not None:
            self._is_whole = False  # what runs of it is not known, and must not run twice

    def _restored(self, written: WrittenProcess) -> Process:
        record, phase = written.record, written.record.phase
        process = Process(record, written.sockets, written.listens, written.pid, written.born)
        process.session = process.pid
        match phase:
            case Exited():
                process.adopted = written.adopted or not self._recalled.is_own
                process.died = Died(process.pid, phase.exit)
                process.died_at_ns = phase.at_ns
                if phase.survivors:
                    self._reopen(process)
            case Starting(at_ns=at_ns) | Running(started_at_ns=at_ns):
                if not process.born:
                    process.pid, process.born = self._about_to_be(written)
                    process.session = process.pid
                pid = process.pid
                kind = self._kernel.adopt(pid, process.born) if pid else "gone"
                process.adopted = kind != "child"
                if kind != "gone":
                    process.record = replace(record, phase=Running(pid, at_ns))
                else:
                    process.died = written.died or Died(pid, Exit())
                    process.died_at_ns = written.died_at_ns or self._kernel.now_ns()
                self._reopen(process)
            case Requested():
                msg = "a process that was only requested is never written down"
                raise ValueError(msg)
            case _:
                assert_never(phase)
        return process

    def _reopen(self, process: Process) -> None:
        """Go on with what a process writes and says."""
        record, sinks = process.record, process.record.settings
        process.output = self._kernel.reopen(record.id, sinks.stdout, sinks.stderr)
        if record.notified is not None:
            socket = self._kernel.listen_again(record.id, record.incarnation)
            process.notify_socket = socket

    def _about_to_be(self, written: WrittenProcess) -> tuple[int, int]:
        """Return pid and birth of a process of which only the intent was written down, 0 if it never was.

        It leads its session from its first instruction on, unlike what it may have started itself.
        """
        leaders = [
            (identity.born, pid)
            for pid, identity in self._found(written.record.id, written.record.incarnation).items()
            if identity.session == pid
        ]
        born, pid = min(leaders, default=(0, 0))
        return pid, born

    def _take_back(self, written: WrittenSocket, strangers: Mapping[int, Stranger]) -> None:
        """Take a socket back from who uses it or was left behind, or make sure that it can be bound again."""
        name = written.record.name
        users = [
            each for each in self.processes if name in each.sockets and _may_hold(each, written)
        ]
        live = [each.pid for each in users if each.is_live]
        found = {pid: who for each in users for pid, who in self._found(*each.key).items()}
        holders = dict.fromkeys((*live, *found))
        # Nobody else has a socket of this number, so a pid that has become another's does no harm.
        places = dict.fromkeys((*holders, *strangers))
        with self._kernel.border(f"taking socket {name} back", OSError):
            socket = self._kernel.take_back(written.template, written.trace, places)
            if socket is not None:
                self.sockets.append(
                    Listener(written.record, socket, written.template, written.bound_at_ns)
                )
                return
        # A second socket beside the one that they hold would split the clients between the two.
        for pid in holders:
            if pid in live or self._kernel.adopt(pid, found[pid].born) != "gone":
                self.intruders.add(pid)
                said = (
                    "cannot take a socket back; stopping a process that uses it, to bind it again"
                )
                self._kernel.log("error", said, socket=name, pid=pid)

    def _find_strangers(self, known: Mapping[int, Stranger]) -> None:
        """Know again what the processes had left behind: by what was written down, and by its marker or session."""
        held = {process.pid for process in self.processes if process.died is None}
        self.strangers = {pid: known[pid] for pid in known.keys() - held - self.intruders}
        for process in self.processes:
            found = self._found(*process.key)
            for pid, identity in found.items():
                if pid in held:
                    continue
                if process.died is not None and identity.session == process.pid:
                    self.sessions.add(process.pid)
                if process.died is not None or identity.parent not in found:
                    self.strangers[pid] = as_stranger(identity, process.key)

    def _find_intruders(self) -> None:
        known = {self._kernel.marker(*process.key) for process in self.processes}
        for marker, found in self._marked.items():
            if marker in known:
                continue
            number = marker.rpartition("/")[2]
            # A program can make up any marker: no number of ours has so many digits.
            incarnation = int(number) if number.isdecimal() and len(number) <= 18 else 0
            self.incarnations = max(self.incarnations, incarnation)
            if self._is_whole and 0 < incarnation <= self.noted:
                continue
            self._outdate(marker, incarnation)
            for pid, identity in found.items():
                with self._kernel.border(f"taking leave of process {pid}", OSError):
                    if self._kernel.adopt(pid, identity.born) == "gone":
                        continue
                    self.intruders.add(pid)
                    if incarnation:
                        said = "stopping a process that was never written down"
                        self._kernel.log("warning", said, pid=pid, marker=marker)

    def _outdate(self, marker: str, incarnation: int) -> None:
        """Take no end that was written down for that of a later incarnation: a run of a job may be that one's."""
        for process in self.processes:
            id, written = process.key
            is_older = written < incarnation and self._kernel.marker(id, incarnation) == marker
            if is_older and isinstance(process.record.phase, Exited):
                phase = replace(process.record.phase, exit=Exit())
                process.record = replace(process.record, phase=phase)


def _may_hold(process: Process, written: WrittenSocket) -> bool:
    """Tell whether a process was given this very socket; an older one holds its predecessor.

    What a keeper of an older version started tells only when that was.
    """
    listens = [each.identity for each in process.listens]
    if listens and written.template.identity not in listens:
        return False
    return process.since_ns >= written.bound_at_ns
