"""A kernel in memory with a clock that we turn: few pids, used again at once, and programs that follow a script.

The contract suite keeps it honest. What no kernel would let pass unnoticed, such as a signal to a pid that
nobody has or that is not the keeper's to use, is an assertion here.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import msgspec

from reconciler.keeper.borders import Border
from reconciler.keeper.kernel import (
    CONTROL,
    Adopted,
    Child,
    ChildrenDied,
    ClientWaits,
    Executed,
    FileTouched,
    Happening,
    LinkReadable,
    News,
    Spoke,
    Told,
)
from reconciler.model.address import Address, InternetAddress
from reconciler.model.observation import FaultCaught, LogChanged, LogRotated
from reconciler.model.process import (
    Exit,
    GroupLimits,
    Launch,
    LaunchError,
    ProcessId,
    Reach,
    Sink,
)
from reconciler.model.socket import AS_MADE, FileOwner, SocketTemplate
from reconciler.model.value import Plain, replace
from reconciler.notify.messages import parse
from reconciler.notify.sockets import MOST_AT_ONCE, Heard
from reconciler.sockets.bound import BindFailed, BoundSocket, Queue, Trace
from reconciler.spawn.launch_errors import LaunchFailed
from reconciler.system.facts import Died, Identity
from reconciler.wire.journal import Recalled

INIT: Final = 0
"""Parent of what a keeper left when it died; reaps at once."""
KEEPER: Final = 1
FIRST_PID: Final = 2
PIDS: Final = 12
FIRST_FREE_PORT: Final = 40000
LINK_BYTES: Final = 200_000
FATAL: Final = frozenset({"TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "ALRM", "PIPE", "ABRT"})
ENDING: Final = frozenset({"TERM", "INT", "QUIT", "HUP"})
CONTROLLER: Final = ProcessId("controller", 0)


@dataclass(frozen=True, slots=True)
class Program:
    """How a program behaves: until when it runs, what it ignores, what it leaves behind."""

    lives_ns: int | None = None
    """How long it runs by itself, None: for ever."""
    code: int = 0
    ignores: frozenset[str] = frozenset()
    ends_within_ns: int = 0
    """How long it takes to end after a signal that it heeds."""
    error: LaunchError | None = None
    """It cannot be executed."""
    forks: bool = False
    """It takes the road on which the keeper hears later that it was executed."""
    exec_ns: int = 1_000_000
    children: tuple[Program, ...] = ()
    """Processes that it starts and leaves alone."""
    escapes: bool = False
    """It makes itself a session of its own."""
    wipes: bool = False
    """It writes over its environment, as those do that set a process title."""
    uid: int = 0
    output: bytes = b""
    drains_ns: int = 0
    """How long after its death there still is output to read."""


class Replaced(BaseException):
    """The keeper replaced its code: another `Keeper` on this kernel is what it became."""


Script: TypeAlias = Callable[[ProcessId, int, Launch], Program]


@dataclass(slots=True)
class Process:
    """One process of the fake machine, from its start until it is reaped."""

    pid: int
    id: ProcessId
    incarnation: int
    program: Program
    parent: int
    group: int
    session: int
    marker: str
    due_ns: int | None
    executes_ns: int | None = None
    stopped: bool = False
    ended: Exit | None = None
    dies_of: str = ""
    born: int = 0
    """Which process of the machine's life it is: pids are given anew, this number is not."""
    leads: bool = False
    """The keeper started it; others are what such a one started."""
    sockets: tuple[Socket, ...] = ()


@dataclass(slots=True)
class Output:
    """Output that is drained some time after its process has died."""

    kernel: FakeKernel
    program: Program
    stdout: Sink
    died_ns: int | None = None
    closed: bool = False

    def drained(self) -> bool:
        return self.died_ns is None or self.kernel.now >= self.died_ns + self.program.drains_ns

    def tail(self) -> bytes:
        return (
            self.program.output[-getattr(self.stdout, "limit_bytes", 0) :] if self.captures else b""
        )

    @property
    def captures(self) -> bool:
        return hasattr(self.stdout, "limit_bytes")

    def redirect(self, stdout: Sink, stderr: Sink | None) -> None:
        assert not self.closed
        self.stdout = stdout

    def leave(self) -> None:
        pass

    def close(self) -> None:
        assert not self.closed, "closed twice"
        self.closed = True


@dataclass(slots=True)
class Socket:
    """A bound socket."""

    kernel: FakeKernel
    template: SocketTemplate
    listen: str
    place: Place
    cookie: int
    closed: bool = False
    """The keeper does not hold it."""
    blocking: bool = True
    backlog: int | None = None
    """What a process made of it; None: it is as it was asked for."""
    granted: int = 4096
    """The most that the machine grants (net.core.somaxconn)."""
    waiting: frozenset[int] = frozenset()
    """Clients that nobody accepts."""

    @property
    def trace(self) -> Trace:
        return Trace(self.cookie, self.cookie)

    def is_intact(self) -> bool:
        return self in self.kernel.bound.get(self.place, [])

    def put_back(self) -> bool:
        assert not self.closed
        if self.kernel.spares and not self.kernel.bound.get(self.place):
            self.kernel.bound[self.place] = [self]
        return self.is_intact()

    def queue(self) -> Queue:
        assert not self.closed
        if self.template.type == "dgram":
            return Queue()
        asked = self.template.backlog if self.backlog is None else self.backlog
        return Queue(len(self.waiting), min(asked, self.granted))

    def clients(self) -> frozenset[int]:
        return self.waiting

    def tune(self, template: SocketTemplate, owner: FileOwner = AS_MADE) -> None:
        assert not self.closed
        self.backlog = None
        assert template.identity == self.template.identity
        self.template = template

    def set_blocking(self, blocking: bool) -> None:
        assert not self.closed
        self.blocking = blocking

    def close(self) -> None:
        assert not self.closed, "closed twice"
        self.closed = True
        self.kernel.close_unheld()


@dataclass(slots=True)
class NotifySocket:
    """Where one process says how it is."""

    kernel: FakeKernel
    place: tuple[ProcessId, int]
    queue: deque[Heard] = field(default_factory=deque)
    unanswered: int = 0
    """Barriers that were taken."""
    answered: int = 0
    closed: bool = False

    def take(self) -> list[Heard]:
        assert not self.closed
        count = min(len(self.queue), MOST_AT_ONCE)
        heard = [self.queue.popleft() for _ in range(count)]
        self.unanswered += sum(each.said.barrier for each in heard)
        return heard

    def answer(self) -> None:
        self.answered, self.unanswered = self.answered + self.unanswered, 0

    def close(self) -> None:
        assert not self.closed, "closed twice"
        self.closed = True
        self.answer()
        del self.kernel.notify_sockets[self.place]


Place: TypeAlias = tuple[str, str]


@dataclass
class FakeKernel:
    """The machine. A driver turns `now`, plays the controller at the link, and breaks things."""

    script: Script = lambda *_: Program()
    controller: Program = field(default_factory=Program)
    name: str = "fake"
    pids: int = PIDS
    now: int = 0
    processes: dict[int, Process] = field(default_factory=dict)
    shortages: deque[LaunchError] = field(default_factory=deque)
    """Errors of the next launches, before anything of them exists."""
    limits_taken: set[str] = field(default_factory=set)
    """Which limits control groups can have here; none have any as long as there are no such groups."""
    bound: dict[Place, list[Socket]] = field(default_factory=dict)
    taken: dict[Address, str] = field(default_factory=dict)
    """Addresses that somebody else holds: why they cannot be bound."""
    signals: list[tuple[int, int, str]] = field(default_factory=list)
    """Every signal that reached a live process: when, which pid, what."""
    spawned: list[tuple[ProcessId, int, int]] = field(default_factory=list)
    reaped: list[int] = field(default_factory=list)
    lines: list[tuple[str, str]] = field(default_factory=list)
    has_borders: bool = False
    """Whether what is unexpected is caught, as on the real one: here it is a fault of ours that a test shall show."""
    faults: list[FaultCaught] = field(default_factory=list)
    caught: list[str] = field(default_factory=list)
    notified: list[str] = field(default_factory=list)
    """What whoever started the manager was told."""
    calling: int = 0
    """Clients that wait to be let in."""
    log_changes: list[LogRotated | LogChanged] = field(default_factory=list)
    troubles: dict[str, LogChanged] = field(default_factory=dict)
    outputs: dict[int, Output] = field(default_factory=dict)
    notify_sockets: dict[tuple[ProcessId, int], NotifySocket] = field(default_factory=dict)
    """Open ones, by whose they are."""
    lost_names: set[tuple[ProcessId, int]] = field(default_factory=set)
    """Of sockets whose name somebody else has taken while no keeper lived."""
    pid_files: dict[str, int] = field(default_factory=dict)
    controller_pid: int | None = None
    quick_deaths: int = 0
    """What the controller was told of those before it."""
    control_open: bool = True
    to_keeper: bytearray = field(default_factory=bytearray)
    to_controller: bytearray = field(default_factory=bytearray)
    link: Literal["none", "open", "closed by controller"] = "none"
    capacity: int = LINK_BYTES
    journal: dict[str, Plain] = field(default_factory=dict)
    """What lies on the disk for the next keeper."""
    journal_is_whole: bool = True
    disk_is_full: bool = False
    handed: Mapping[str, Plain] | None = None
    """What the keeper's own code left for the newer one."""
    no_such_code: bool = False
    adopted: dict[int, Process] = field(default_factory=dict)
    is_init: bool = False
    tells_exits: bool = True
    """The kernel tells how processes ended that are nobody's children here."""
    spares: bool = True
    """A file of a socket that is removed can be put back."""
    awaited: dict[str, Socket] = field(default_factory=dict)
    """Where the keeper wants to be told of the next client."""
    keeps_sockets: bool = False
    """No process lets its sockets be copied."""
    _noted: dict[str, Plain] = field(default_factory=dict)
    _adopted_dead: deque[Died] = field(default_factory=deque)
    _births: int = 0
    _cookies: int = 0
    _told: list[Happening] = field(default_factory=list)
    _died: bool = True
    _ports: int = FIRST_FREE_PORT
    _awaits_call: bool = False
    _touched: bool = False

    # ---- the driver's side -----------------------------------------------------------------------

    def tell(self, meaning: Literal["stop", "stop_now", "reload"]) -> None:
        """Signal the keeper."""
        self._told.append(Told(meaning))

    def remove_file(self, address: Address) -> None:
        """Remove the file of a socket, as a careless person does."""
        del self.bound[(str(address), "")]
        self._touched = True

    def say(self, process: Process, text: str, pid: int | None = None, uid: int = 0) -> None:
        """Say something on the socket of a process: it itself, or another one; nobody hears it when there is none."""
        socket = self.notify_sockets.get((process.id, process.incarnation))
        if socket is not None:
            sender = process.pid if pid is None else pid
            socket.queue.append(Heard(parse(text.encode()), sender, uid, uid == 0))

    def feed(self, data: bytes) -> None:
        """Say something as the controller."""
        assert self.link == "open"
        self.to_keeper += data

    def hear(self, limit: int | None = None) -> bytes:
        """Read as the controller."""
        data = bytes(self.to_controller[:limit])
        del self.to_controller[: len(data)]
        return data

    def end_controller(self, *, torn_bytes: int = 0) -> None:
        """Let the controller die; the last `torn_bytes` that it said were never sent."""
        assert self.controller_pid is not None
        if torn_bytes:
            del self.to_keeper[-torn_bytes:]
        self._die(self.processes[self.controller_pid], Exit(signal="KILL"))

    def end_keeper(self, *, controller_hangs: bool = False) -> None:
        """Let the keeper be killed: what it noted and did not write down is lost, what it started lives on.

        The controller ends by that. Another `Keeper` on this kernel is the next one.
        """
        if self.controller_pid is not None and not controller_hangs:
            self._die(self.processes[self.controller_pid], Exit(0))
        for process in list(self.processes.values()):
            if process.parent == KEEPER:
                process.parent = INIT
                if process.ended is not None:
                    del self.processes[process.pid]
        self.controller_pid, self.link, self.control_open = None, "none", True
        self._noted, self._told, self._died = {}, [], True
        self.outputs, self.adopted, self._adopted_dead = {}, {}, deque()
        self.notify_sockets = {}
        for there in self.bound.values():
            for socket in there:
                socket.closed = True
        self.close_unheld()

    def end(self, pid: int, exit_: Exit) -> None:
        """Let a process die by itself."""
        self._die(self.processes[pid], exit_)

    def alive(self, id_: ProcessId | None = None) -> list[Process]:
        """Return what lives, of one id or of all but the controller."""
        return [
            each
            for each in self.processes.values()
            if each.ended is None and (each.id == id_ if id_ else each.id != CONTROLLER)
        ]

    def next_due_ns(self) -> int | None:
        """Return when the machine changes by itself; now, when something has happened already."""
        knocked = any(each.waiting and not each.closed for each in self.awaited.values())
        called = self._touched or knocked or (self._awaits_call and self.calling)
        spoken = any(each.queue for each in self.notify_sockets.values())
        if self._told or self._died or spoken or called or (self.to_keeper and self.link != "none"):
            return self.now
        return self._process_due_ns()

    def _process_due_ns(self) -> int | None:
        dues = []
        for process in self.processes.values():
            if process.ended is None:
                if process.due_ns is not None and not process.stopped:
                    dues.append(process.due_ns)
                if process.executes_ns is not None:
                    dues.append(process.executes_ns)
        return min(dues, default=None)

    def advance(self, now_ns: int) -> None:
        """Turn the clock; everything that is due by then happens, in order."""
        assert now_ns >= self.now
        while (due := self._process_due_ns()) is not None and due <= now_ns:
            self.now = max(self.now, due)
            for process in [p for p in self.processes.values() if p.ended is None]:
                self._let_live(process)
        self.now = now_ns

    def _let_live(self, process: Process) -> None:
        if process.executes_ns is not None and process.executes_ns <= self.now:
            process.executes_ns = None
            if process.program.error is not None:
                self._die(process, Exit(error=process.program.error))
                return
            self._told.append(Executed(process.pid))
        if process.due_ns is not None and process.due_ns <= self.now and not process.stopped:
            by_signal = Exit(signal=process.dies_of)
            self._die(process, by_signal if process.dies_of else Exit(process.program.code))

    # ---- processes -------------------------------------------------------------------------------

    def now_ns(self) -> int:
        return self.now

    def happenings(self) -> Iterable[Happening]:
        happened, self._told = self._told, []
        if self.to_keeper or self.link == "closed by controller":
            happened.insert(0, LinkReadable())
        for name, socket in list(self.awaited.items()):
            if socket.waiting and not socket.closed:
                del self.awaited[name]
                happened.append(ClientWaits(name))
        happened += [Spoke(*key) for key, each in self.notify_sockets.items() if each.queue]
        if self._touched:
            self._touched = False
            happened.append(FileTouched())
        if self._awaits_call and self.calling:
            self._awaits_call = False
            happened.append(ClientWaits(CONTROL))
        if self._died:
            self._died = False
            happened.append(ChildrenDied())
        return happened

    def marker(self, id: ProcessId, incarnation: int) -> str:
        return f"{self.name}/{id}/{incarnation}"

    def spawn(
        self,
        id: ProcessId,
        incarnation: int,
        launch: Launch,
        sockets: Mapping[str, BoundSocket],
    ) -> Child:
        if self.shortages:
            raise LaunchFailed(self.shortages.popleft())
        for each in sockets.values():
            assert isinstance(each, Socket)
            assert not each.closed, "a closed socket was handed on"
        program = self.script(id, incarnation, launch)
        if program.error is not None and not program.forks:
            raise LaunchFailed(program.error)
        held = tuple(each for each in sockets.values() if isinstance(each, Socket))
        socket = self.listen_again(id, incarnation) if launch.notify else None
        process = self._start(id, incarnation, program, KEEPER, sockets=held)
        process.leads = True
        former = next((died for died in self._adopted_dead if died.pid == process.pid), None)
        if former is not None:
            self._adopted_dead.remove(former)
        self.spawned.append((id, incarnation, process.pid))
        output = Output(self, program, launch.stdout)
        self.outputs[process.pid] = output
        if program.forks:
            process.executes_ns = self.now + program.exec_ns
        limits = self._taken(launch.group_limits)
        return Child(process.pid, not program.forks, output, socket, process.born, former, limits)

    def limit(self, pid: int, limits: GroupLimits, former: GroupLimits) -> GroupLimits:
        assert pid in self.processes, f"{pid} is nobody"
        return self._taken(limits)

    def _taken(self, limits: GroupLimits) -> GroupLimits:
        return {name: text for name, text in limits.items() if name in self.limits_taken}

    def _start(
        self,
        id_: ProcessId,
        incarnation: int,
        program: Program,
        parent: int,
        leader: Process | None = None,
        sockets: tuple[Socket, ...] = (),
    ) -> Process:
        there = self.processes.values()
        used = set(self.processes) | {p.group for p in there} | {p.session for p in there}
        pid = next((n for n in range(FIRST_PID, FIRST_PID + self.pids) if n not in used), None)
        if pid is None:
            raise LaunchFailed(LaunchError("fork", "EAGAIN", message="no pids left"))
        own = leader is None or program.escapes
        group = pid if own or leader is None else leader.group
        session = pid if own or leader is None else leader.session
        due = None if program.lives_ns is None else self.now + program.lives_ns
        marker = self.marker(id_, incarnation) if id_ != CONTROLLER else f"{self.name}/controller"
        process = Process(pid, id_, incarnation, program, parent, group, session, marker, due)
        self._births += 1
        process.born, process.sockets = self._births, sockets
        self.processes[pid] = process
        for child in program.children:
            with contextlib.suppress(LaunchFailed):  # the program's own fork failed, it goes on
                self._start(id_, incarnation, child, pid, process, sockets)
        return process

    def _die(self, process: Process, exit_: Exit) -> None:
        if process.ended is not None:
            return
        process.ended = exit_
        if process.pid in self.outputs:
            self.outputs[process.pid].died_ns = self.now
        if process.pid == self.controller_pid:
            self.link = "closed by controller" if self.link == "open" else self.link
        reaper = process.parent
        while reaper not in {KEEPER, INIT}:
            reaper = self.processes[reaper].parent
        for other in self.processes.values():
            if other.parent == process.pid:
                other.parent = reaper
        if process.parent == KEEPER:
            self._died = True
        else:
            del self.processes[process.pid]  # reaped by its own parent
        if self.adopted.get(process.pid) is process:
            del self.adopted[process.pid]
            exit_ = exit_ if self.tells_exits else Exit()
            self._adopted_dead.append(Died(process.pid, exit_))
            self._died = True
        self.close_unheld()

    def close_unheld(self) -> None:
        """Close the sockets that neither the keeper nor a living process holds."""
        held = [each for process in self.alive() for each in process.sockets]
        for place, there in self.bound.items():
            self.bound[place] = [s for s in there if not s.closed or s in held]

    def reap(self) -> Died | None:
        if self._adopted_dead:
            return self._adopted_dead.popleft()
        for process in self.processes.values():
            if process.parent == KEEPER and process.ended is not None:
                del self.processes[process.pid]
                self.reaped.append(process.pid)
                if process.pid == self.controller_pid:
                    self.controller_pid = None
                self.outputs.pop(process.pid, None)
                return Died(process.pid, process.ended, 1_000, 4096)
        return None

    def children(self) -> set[int]:
        return {process.pid for process in self.processes.values() if process.parent == KEEPER}

    def has_forked(self, pid: int) -> bool:
        return bool(self.processes[pid].program.children)

    def below(self, roots: Iterable[int]) -> dict[int, int]:
        found, there = [*roots], self.processes.values()
        for parent in found:
            found += [each.pid for each in there if each.parent == parent and each.ended is None]
        return {pid: self.processes[pid].born for pid in found if pid not in roots}

    def ancestors(self, pid: int) -> list[int]:
        found: list[int] = []
        process = self.processes.get(pid)
        while process is not None and process.ended is None:
            found.append(process.pid)
            process = self.processes.get(process.parent)
        return found

    def user(self, pid: int) -> int | None:
        return self.processes[pid].program.uid if pid in self.processes else None

    def named_in(self, pid_file: str) -> int:
        return self.pid_files.get(pid_file, 0)

    def identify(self, pid: int) -> Identity | None:
        process = self.processes.get(pid)
        if process is None:
            return None
        marker = "" if process.program.wipes else process.marker
        name = str(process.id) if process.leads else "child"
        return Identity(process.group, process.session, marker, process.born, name, process.parent)

    # ---- after another keeper --------------------------------------------------------------------

    def note(self, name: str, value: object | None) -> None:
        self._noted[name] = msgspec.json.decode(msgspec.json.encode(value))

    def write_down(self) -> None:
        if self.disk_is_full:
            return
        for name, value in self._noted.items():
            if value is None:
                self.journal.pop(name, None)
            else:
                self.journal[name] = value
        self._noted = {}

    def recall(self) -> Recalled:
        if self.handed is not None:
            handed, self.handed = self.handed, None
            return Recalled(handed, is_own=True)
        return Recalled(dict(self.journal), self.journal_is_whole)

    def search(self, sessions: Container[int]) -> Mapping[int, Identity]:
        found = {each.pid: self.identify(each.pid) for each in self.processes.values()}
        return {
            pid: each
            for pid, each in found.items()
            if each and not self.processes[pid].ended and (each.marker or each.session in sessions)
        }

    def adopt(self, pid: int, born: int) -> Adopted:
        if any(died.pid == pid for died in self._adopted_dead):
            return "other"  # its pidfd lives on in new code of the keeper, and tells how it ended
        process = self.processes.get(pid)
        if process is None or process.born != born:
            return "gone"
        if process.parent == KEEPER:
            return "child"
        self.adopted[pid] = process
        return "other"

    def replace_code(
        self, python: str, entries: Mapping[str, object], sockets: Iterable[BoundSocket]
    ) -> None:
        if self.no_such_code:
            raise FileNotFoundError(2, "no such file or directory")
        handed = {name: each for name, each in entries.items() if each is not None}
        self.handed = msgspec.msgpack.decode(msgspec.msgpack.encode(handed))
        self.link = "closed by controller" if self.link == "open" else self.link
        if self.controller_pid is not None:
            self._die(self.processes[self.controller_pid], Exit(0))
        self.controller_pid, self.link = None, "none"
        self._noted, self._told, self._died = {}, [], True
        raise Replaced

    def reopen(self, id: ProcessId, stdout: Sink, stderr: Sink | None) -> Output:
        mains = [p for p in self.alive(id) if p.session == p.pid]
        if not mains:
            return Output(self, Program(), stdout, died_ns=self.now)
        output = self.outputs[mains[0].pid] = Output(self, mains[0].program, stdout)
        return output

    def listen_again(self, id: ProcessId, incarnation: int) -> NotifySocket | None:
        if (id, incarnation) in self.lost_names:
            return None
        open_ones = self.notify_sockets
        return open_ones.setdefault((id, incarnation), NotifySocket(self, (id, incarnation)))

    def take_back(
        self, template: SocketTemplate, trace: Trace, holders: Iterable[int]
    ) -> BoundSocket | None:
        for socket in [each for there in self.bound.values() for each in there if not each.closed]:
            if socket.cookie == trace.cookie:
                return socket
        for pid in holders:
            for socket in self.processes[pid].sockets if pid in self.processes else ():
                if socket.cookie == trace.cookie and not self.keeps_sockets:
                    socket.closed = False
                    return socket
        return None

    def _is_ours(self, pid: int) -> bool:
        """Tell whether a signal may be sent; False when it reaches nobody, as its process is dead."""
        if any(died.pid == pid for died in self._adopted_dead):
            return False
        assert pid in self.processes, f"a signal to pid {pid}, which nobody has"
        process = self.processes[pid]
        assert process.parent == KEEPER or self.adopted.get(pid) is process, (
            f"a signal to pid {pid}, not ours"
        )
        return True

    # ---- signals ---------------------------------------------------------------------------------

    def signal(self, pid: int, signal: str, reach: Reach = "process") -> None:
        if not self._is_ours(pid):
            return
        assert reach != "group" or self.processes[pid].group == pid
        for process in list(self.processes.values()):
            number = {"group": process.group, "children": process.parent}.get(reach, process.pid)
            if number == pid:
                self._hit(process, signal)

    def signal_tree(self, group: int, roots: Iterable[int], signal: str) -> None:
        roots = [pid for pid in roots if self._is_ours(pid)]
        found = list(roots)
        for parent in found:
            found += [each.pid for each in self.processes.values() if each.parent == parent]
        if any(self.processes[pid].group == group for pid in roots):
            found += [p.pid for p in self.processes.values() if p.group == group]
        for pid in dict.fromkeys(found):
            if pid in self.processes:
                self._hit(self.processes[pid], signal)

    def _hit(self, process: Process, signal: str) -> None:
        if process.ended is not None:
            return
        self.signals.append((self.now, process.pid, signal))
        if signal == "KILL":
            self._die(process, Exit(signal="KILL"))
        elif signal == "STOP":
            process.stopped = True
        elif signal == "CONT" or signal in ENDING:
            process.stopped = False
        if signal in FATAL and signal not in process.program.ignores and process.ended is None:
            process.dies_of = signal
            process.due_ns = self.now + process.program.ends_within_ns
            if not process.program.ends_within_ns:
                self._die(process, Exit(signal=signal))

    # ---- sockets ---------------------------------------------------------------------------------

    def bind(self, template: SocketTemplate, owner: FileOwner = AS_MADE) -> BoundSocket:
        address = template.address
        cause = self.taken.get(address)
        if isinstance(address, InternetAddress) and address.port == 0:
            self._ports += 1
            address = replace(address, port=self._ports)
        place = (str(address), "" if not isinstance(address, InternetAddress) else template.type)
        there = self.bound.setdefault(place, [])
        if there and not (template.reuseport and there[0].template.reuseport):
            cause = "address already in use"
        if cause is not None:
            raise BindFailed("EADDRINUSE", f"cannot bind {template.address}: {cause}")
        self._cookies += 1
        socket = Socket(self, template, str(address), place, self._cookies)
        there.append(socket)
        return socket

    def await_client(self, name: str, held: BoundSocket) -> None:
        assert isinstance(held, Socket)
        assert not held.closed
        self.awaited[name] = held

    # ---- the controller --------------------------------------------------------------------------

    def start_controller(self, *, quick_deaths: int) -> int:
        assert self.controller_pid is None, "two controllers"
        assert self.link == "none", "the old link was not closed"
        if self.controller.error is not None:
            raise LaunchFailed(self.controller.error)
        self.controller_pid = self._start(CONTROLLER, 0, self.controller, KEEPER).pid
        self.quick_deaths, self.link = quick_deaths, "open"
        self.to_keeper.clear()
        self.to_controller.clear()
        return self.controller_pid

    def receive(self) -> bytes | None:
        assert self.link != "none"
        if self.to_keeper:
            data = bytes(self.to_keeper)
            self.to_keeper.clear()
            return data
        return b"" if self.link == "closed by controller" else None

    def send(self, data: bytes) -> int:
        assert self.link != "none"
        if self.link == "closed by controller":
            return len(data)
        taken = data[: max(0, self.capacity - len(self.to_controller))]
        self.to_controller += taken
        return len(taken)

    def await_call(self) -> None:
        self._awaits_call = True

    def is_behind(self) -> bool:
        return bool(self.to_controller) or self.calling > 0

    def notify(self, text: str) -> None:
        self.notified.append(text)

    def close_link(self) -> None:
        self.link = "none"
        self.to_keeper.clear()

    def close_control(self) -> None:
        assert self.control_open, "closed twice"
        self.control_open = False

    def take_news(self) -> list[News]:
        changes, self.log_changes = self.log_changes, []
        for each in changes:
            if isinstance(each, LogChanged):
                self.troubles[each.path] = each
        faults, self.faults = self.faults, []
        return [*changes, *faults]

    def troubled_logs(self) -> list[LogChanged]:
        return [each for each in self.troubles.values() if each.trouble]

    def border(self, doing: str, *passing: type[Exception]) -> Border:
        return Border(doing, self._caught, passing)

    def _caught(self, doing: str, error: Exception) -> None:
        if not self.has_borders:
            raise error
        self.faults.append(FaultCaught(doing, str(error)))
        self.caught.append(doing)

    def log(
        self,
        level: Literal["debug", "info", "warning", "error"],
        message: str,
        **pairs: object,
    ) -> None:
        self.lines.append((level, message))
