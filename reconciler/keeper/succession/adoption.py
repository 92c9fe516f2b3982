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

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar, assert_never

import msgspec

from reconciler.keeper.listeners import Listener
from reconciler.keeper.records import Process, Stranger
from reconciler.keeper.succession.notes import (
    INCARNATIONS,
    OTHERS,
    STRANGERS,
    WrittenProcess,
    WrittenSocket,
    WrittenStranger,
)
from reconciler.model.process import Exit, Exited, Requested, Running, Starting
from reconciler.model.units import SECOND_NS
from reconciler.model.value import replace
from reconciler.system.facts import Died

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from reconciler.keeper.kernel import Kernel, Output
    from reconciler.model.process import ProcessId, ProcessRecord
    from reconciler.system.facts import Identity
    from reconciler.wire.journal import Recalled


T = TypeVar("T")

TERM_NS: Final = 5 * SECOND_NS
KILL_NS: Final = 5 * SECOND_NS


@dataclass(slots=True)
class Inheritance:
    """What was taken over. `intruders` are pids that must end before anything is started."""

    processes: list[Process] = field(default_factory=list)
    sockets: list[Listener] = field(default_factory=list)
    intruders: set[int] = field(default_factory=set)
    incarnations: int = 0
    strangers: dict[int, Stranger] = field(default_factory=dict)
    """What the processes that were taken over have left behind, by pid."""
    sessions: set[int] = field(default_factory=set)
    """Sessions of dead ones in which somebody still lives: until then nobody else gets the number."""
    others: list[int] = field(default_factory=list)
    """Children that we had before we started any, such as the viewer of `up`: they are nobody's remnant."""
    noted: int = 0
    """Up to this number all incarnations have been written down; a living one beyond it is an intruder."""


class Intruders:
    """Processes that must end before a controller is started: asked first, then killed."""

    def __init__(self, kernel: Kernel, pids: set[int]) -> None:
        self._kernel = kernel
        self._pids = pids
        self._kill_ns = kernel.now_ns() + TERM_NS
        self._give_up_ns: int | None = None
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
        if not self._pids:
            return None
        if now_ns < self._kill_ns:
            return self._kill_ns
        if self._give_up_ns is None:
            # However late we are: a machine that stood still is no reason to leave out KILL.
            self._give_up_ns = now_ns + KILL_NS
        if now_ns < self._give_up_ns:
            for pid in sorted(self._pids):
                self._kernel.signal(pid, "KILL")
            return self._give_up_ns
        pids = ", ".join(map(str, sorted(self._pids)))
        said = "processes of an earlier controller could not be stopped"
        self._kernel.log("error", f"{said}; they keep running unmanaged", pids=pids)
        self._pids.clear()
        return None


def take_over(kernel: Kernel) -> Inheritance:
    """Take over what the former keeper held. Raises `OSError` when descriptors do not suffice for it."""
    return _Adoption(kernel).result


def costing_one(kernel: Kernel, doing: str, part: Callable[[], T]) -> T | None:
    """Do a part of the takeover; None when something unexpected came up, which is told. Raises `OSError`."""
    with kernel.border(doing, OSError):
        return part()
    return None


class _Adoption:
    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        recalled = kernel.recall()
        written = _Written(kernel, recalled)
        self._is_whole = written.is_whole
        self._marked: dict[str, dict[int, Identity]] = {}
        self._find(written.processes)
        last = written.incarnations
        self._is_same_keeper = recalled.is_own
        # Who has come to us since our former code looked last may be a remnant: it says who was there before.
        others = sorted(kernel.children()) if written.others is None else written.others
        self.result = Inheritance(incarnations=written.highest, noted=last, others=others)
        for process in written.processes:
            self._restore(process)
        for socket in written.sockets:
            self._take_back(socket, written.strangers)
        self._find_intruders(last)
        self._find_strangers(written.strangers)

    def _find(self, processes: list[WrittenProcess]) -> None:
        """Find all that bears our marker, and what has lost it and is in the session of one that was written down."""
        leaders = {pid: each for each in processes if (pid := _pid_of(each)) and each.born}
        for pid, identity in self._kernel.search(leaders).items():
            marker, leader = identity.marker, leaders.get(identity.session)
            if not marker and leader is not None:
                doing = f"telling whose process {pid} is"
                if costing_one(self._kernel, doing, partial(self._is_of, identity, pid, leader)):
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
        doing = f"taking {written.record.id} over"
        process = costing_one(self._kernel, doing, partial(self._restored, written))
        if process is None:
            self._is_whole = False  # what runs of it is not known, and must not run twice
        else:
            self.result.processes.append(process)

    def _restored(self, written: WrittenProcess) -> Process:
        """Hold a process again, alive or dead."""
        record = written.record
        process = Process(record, written.sockets, written.listens, born=written.born)
        phase = record.phase
        match phase:
            case Exited():
                process.pid = phase.pid or 0
                process.adopted = written.adopted or not self._is_same_keeper
                process.died = Died(process.pid, phase.exit)
                process.died_at_ns = phase.at_ns
                if phase.survivors:
                    process.output = self._reopen(record)
            case Starting(pid, at_ns) | Running(pid, at_ns):
                if not process.born:
                    pid, process.born = self._about_to_be(written)
                process.pid = pid
                kind = self._kernel.adopt(pid, process.born) if pid else "gone"
                process.adopted = kind != "child"
                if kind != "gone":
                    process.record = replace(record, phase=Running(pid, at_ns))
                else:
                    process.died = written.died or Died(pid, Exit())
                    process.died_at_ns = written.died_at_ns or self._kernel.now_ns()
                process.output = self._reopen(record)
            case Requested():
                raise AssertionError(phase)
            case _:
                assert_never(phase)
        return process

    def _reopen(self, record: ProcessRecord) -> Output:
        return self._kernel.reopen(record.id, record.settings.stdout, record.settings.stderr)

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

    def _take_back(self, written: WrittenSocket, strangers: list[WrittenStranger]) -> None:
        """Take a socket back from who uses it or was left behind, or make sure that it can be bound again."""
        name = written.record.name
        users = [
            each
            for each in self.result.processes
            if name in each.sockets and _may_hold(each, written)
        ]
        live = [each.pid for each in users if each.is_live]
        of_users = [self._found(*each.key) for each in users]
        holders = dict.fromkeys((*live, *(pid for found in of_users for pid in found)))
        # Nobody else has a socket of this number, so a pid that has become another's does no harm.
        places = dict.fromkeys((*holders, *(each.pid for each in strangers)))
        socket = costing_one(
            self._kernel,
            f"taking socket {name} back",
            partial(self._kernel.take_back, written.template, written.trace, places),
        )
        if socket is not None:
            taken = Listener(written.record, socket, written.template, written.bound_at_ns)
            self.result.sockets.append(taken)
            return
        # A second socket beside the one that they hold would split the clients between the two.
        for pid in holders:
            if pid in live or self._kernel.adopt(pid, self._born(pid)) != "gone":
                self.result.intruders.add(pid)
                self._kernel.log(
                    "error",
                    "cannot take a socket back; stopping a process that uses it, to bind it again",
                    socket=name,
                    pid=pid,
                )

    def _find_strangers(self, written: list[WrittenStranger]) -> None:
        """Know again what the processes had left behind: by what was written down, and by its marker or session."""
        known = {each.pid: each.stranger for each in written}
        held = {process.pid for process in self.result.processes if process.died is None}
        for process in self.result.processes:
            found = self._found(*process.key)
            for pid, identity in found.items():
                if pid in held:
                    continue
                if process.died is not None and identity.session == process.pid:
                    self.result.sessions.add(process.pid)
                if process.died is not None or identity.parent not in found:
                    self.result.strangers[pid] = Stranger(
                        identity.name, identity.born, identity.group, (process.key,)
                    )
        for pid, stranger in known.items():
            if pid not in held and pid not in self.result.intruders:
                self.result.strangers.setdefault(pid, stranger)

    def _born(self, pid: int) -> int:
        return next(found[pid].born for found in self._marked.values() if pid in found)

    def _find_intruders(self, last: int) -> None:
        known = {self._kernel.marker(*process.key) for process in self.result.processes}
        for marker, found in self._marked.items():
            if marker in known:
                continue
            number = marker.rpartition("/")[2]
            incarnation = int(number) if number.isdigit() else 0
            self.result.incarnations = max(self.result.incarnations, incarnation)
            if self._is_whole and 0 < incarnation <= last:
                continue
            self._outdate(marker, incarnation)
            for pid, identity in found.items():
                doing = f"taking leave of process {pid}"
                adopt = partial(self._kernel.adopt, pid, identity.born)
                if costing_one(self._kernel, doing, adopt) in {"gone", None}:
                    continue
                self.result.intruders.add(pid)
                if incarnation:
                    said = "stopping a process that was never written down"
                    self._kernel.log("warning", said, pid=pid, marker=marker)

    def _outdate(self, marker: str, incarnation: int) -> None:
        """Take no end that was written down for that of a later incarnation: a run of a job may be that one's."""
        for process in self.result.processes:
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
    match phase := process.record.phase:
        case Running(_, since_ns) | Starting(_, since_ns):
            return since_ns >= written.bound_at_ns
        case Exited():
            return (phase.started_at_ns or phase.at_ns) >= written.bound_at_ns
        case Requested():
            raise AssertionError(phase)
        case _:
            assert_never(phase)


def _pid_of(written: WrittenProcess) -> int:
    phase = written.record.phase
    return 0 if isinstance(phase, Requested) else phase.pid or 0


class _Written:
    """What was written down, as far as it can be read; `is_whole` tells whether all of it could be."""

    def __init__(self, kernel: Kernel, recalled: Recalled) -> None:
        self.processes: list[WrittenProcess] = []
        self.sockets: list[WrittenSocket] = []
        self.strangers: list[WrittenStranger] = []
        self.others: list[int] | None = None
        self.incarnations = 0
        self.is_whole = recalled.is_whole
        for name, plain in recalled.entries.items():
            if plain is None:
                continue  # it is gone
            doing = f"reading what was written down of {name}"
            if not costing_one(kernel, doing, partial(self._read, name, plain)):
                self.is_whole = False

    @property
    def highest(self) -> int:
        """Return a number up to which none may be given again."""
        return max((self.incarnations, *(each.record.incarnation for each in self.processes)))

    def _read(self, name: str, plain: object) -> bool:
        """Read an entry. Raises `ValueError` when it makes no sense."""
        match name.partition(" ")[0]:
            case "process":
                process = msgspec.convert(plain, WrittenProcess)
                if isinstance(process.record.phase, Requested):
                    msg = "a process that was only requested is never written down"
                    raise ValueError(msg)  # noqa: TRY004  (the entry is wrong, not our call)
                self.processes.append(process)
            case "socket":
                self.sockets.append(msgspec.convert(plain, WrittenSocket))
            case _ if name == STRANGERS:
                self.strangers = msgspec.convert(plain, list[WrittenStranger])
            case _ if name == OTHERS:
                self.others = msgspec.convert(plain, list[int])
            case _ if name == INCARNATIONS:
                self.incarnations = msgspec.convert(plain, int)
            case _:
                pass
        return True
