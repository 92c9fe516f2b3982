"""The keeper's state machine: records and sockets, the controller and its link, and the end.

`step(happenings)` handles what the kernel reported and returns when it wants to be called again at the
latest. The order within a step: deaths first (their pids are free again), then everything else, then
deadlines, then what is to be told is sent as far as the link takes it.

What is told is level-triggered: the outbox names the records that changed, and a record is encoded when it
is sent. A controller that reads slowly costs at most one entry per record.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, assert_never

from reconciler.keeper.kernel import (
    ControllerDied,
    ControlLost,
    Died,
    Executed,
    Happening,
    Kernel,
    LinkClosed,
    LinkData,
    LinkWritable,
    Refused,
    Rotated,
    SignalCame,
    StrangerDied,
)
from reconciler.model.action import (
    Bind,
    Forget,
    KeeperAction,
    Quit,
    Redirect,
    Remember,
    Signal,
    Spawn,
    Unbind,
)
from reconciler.model.event import (
    KeeperEvent,
    LogRotated,
    RecordChanged,
    RecordForgotten,
    SignalReceived,
    SnapshotEnded,
    SocketChanged,
    SocketClosed,
)
from reconciler.model.process import (
    Exit,
    Exited,
    LaunchError,
    Phase,
    ProcessId,
    ProcessRecord,
    Running,
    Starting,
)
from reconciler.model.socket import BindRefused, Bound, SocketRecord
from reconciler.wire.link import LinkDecoder, ProtocolError, encode

if TYPE_CHECKING:
    from collections.abc import Sequence

SECOND_NS: Final = 10**9
QUICK_LIFE_NS: Final = 10 * SECOND_NS
"""A controller that dies younger than this died quickly."""
FIRST_RESPAWN_NS: Final = SECOND_NS // 10
LAST_RESPAWN_NS: Final = 5 * SECOND_NS
LAST_GOOD_AFTER: Final = 5
"""Quick deaths in a row after which the controller is told to start from the last good spec."""
HEARD_WITHIN_NS: Final = 5 * SECOND_NS
"""Asked to stop, the controller must have taken note within this time, or the keeper stops everything."""
DEATHS_WHILE_STOPPING: Final = 3
"""A controller that dies as often after it was asked to stop will not manage it."""
GRACE_NS: Final = 10 * SECOND_NS
"""Between TERM and KILL when the keeper stops everything by itself."""
QUIT_NS: Final = 2 * SECOND_NS
"""How long a controller that said Quit may take to end; how long anybody may take to die of KILL."""
FRAME_BATCH_BYTES: Final = 64 * 1024
MAX_QUEUED_EVENTS: Final = 1_000

Key: TypeAlias = ProcessId | str | int
"""Of the outbox: a record, a socket, or a queued event."""


@dataclass(slots=True)
class _Ending:
    """The keeper is on its way out. `kill_everything` is the last resort; else only the controller is left."""

    code: int
    kill_at_ns: int
    kill_everything: bool
    killed: bool = False


class Keeper:
    """Holds the records. `exit_code` is None as long as there is something to keep."""

    def __init__(self, kernel: Kernel, *, hup: Literal["reload", "stop"] = "reload") -> None:
        self.records: dict[ProcessId, ProcessRecord] = {}
        self.sockets: dict[str, SocketRecord] = {}
        self.exit_code: int | None = None
        self._kernel = kernel
        self._hup: Literal["reload", "stop"] = hup
        self._incarnation = 0
        self._alive: dict[int, ProcessId] = {}
        self._lingering: dict[int, ProcessId] = {}
        # The controller and its link.
        self._is_connected = False
        self._started_ns = 0
        self._respawn_at_ns: int | None = kernel.now_ns()
        self._quick_deaths = 0
        self._decoder = LinkDecoder()
        self._outbox: dict[Key, None] = {}
        self._events: dict[int, KeeperEvent] = {}
        self._event_number = 0
        self._unsent = b""
        # The end.
        self._stop_asked = False
        self._heard_by_ns: int | None = None
        self._deaths_while_stopping = 0
        self._ending: _Ending | None = None

    def step(self, happenings: Sequence[Happening]) -> int | None:
        """Handle what happened; returns when to be called at the latest (monotonic ns), None: no need."""
        self._bury(happenings)
        for happening in happenings:
            self._handle(happening)
        self._meet_deadlines(self._kernel.now_ns())
        self._flush()
        deadlines = [self._respawn_at_ns, self._heard_by_ns]
        if self._ending is not None:
            wait = QUIT_NS if self._ending.killed else 0
            deadlines.append(self._ending.kill_at_ns + wait)
        return min((each for each in deadlines if each is not None), default=None)

    def _handle(self, happening: Happening) -> None:
        match happening:
            case LinkData(data):
                self._hear(data)
            case LinkClosed():
                self._kernel.kill_controller()
            case ControllerDied(exit):
                self._replace_controller(exit)
            case Executed(incarnation):
                self._mark_running(incarnation)
            case SignalCame(signal):
                self._take_signal(signal)
            case Rotated(id, path):
                if self._is_connected and len(self._events) < MAX_QUEUED_EVENTS:
                    self._tell(LogRotated(id, path))
            case ControlLost():
                self._kernel.log("warning", "the file of the control socket vanished")
                self._kernel.kill_controller()
            case LinkWritable() | Died() | StrangerDied():
                pass  # the flush at the end of the step; the burial at its beginning
            case _:
                assert_never(happening)

    # ---- processes --------------------------------------------------------------------------------

    def _set_phase(self, id: ProcessId, phase: Phase) -> None:  # noqa: A002
        self.records[id] = replace(self.records[id], phase=phase)
        self._mark(id)

    def _bury(self, happenings: Sequence[Happening]) -> None:
        """Take in the deaths, and look once for all of them who is survived by others."""
        deaths = [each for each in happenings if isinstance(each, Died)]
        if not deaths and not any(isinstance(each, StrangerDied) for each in happenings):
            return
        candidates = dict(self._lingering)
        for death in deaths:
            candidates[death.incarnation] = self._alive.pop(death.incarnation)
        lingering = self._kernel.lingering(candidates)
        now = self._kernel.now_ns()
        for death in deaths:
            id = candidates[death.incarnation]  # noqa: A001
            before = self.records[id].phase
            assert isinstance(before, Starting | Running)
            phase = Exited(
                at_ns=now,
                exit=death.exit,
                pid=before.pid,
                started_at_ns=before.started_at_ns if isinstance(before, Running) else None,
                survivors=death.incarnation in lingering,
                output=self._kernel.finish_output(death.incarnation),
                cpu_ns=death.cpu_ns,
                max_rss_bytes=death.max_rss_bytes,
            )
            self._set_phase(id, phase)
        for incarnation, id in self._lingering.items():  # noqa: A001
            if incarnation not in lingering and id in self.records:
                phase_now = self.records[id].phase
                assert isinstance(phase_now, Exited)
                self._set_phase(id, replace(phase_now, survivors=False))
        self._lingering = {each: candidates[each] for each in sorted(lingering)}

    def _mark_running(self, incarnation: int) -> None:
        id = self._alive.get(incarnation)  # noqa: A001
        if id is not None and isinstance(phase := self.records[id].phase, Starting):
            self._set_phase(id, Running(phase.pid, self._kernel.now_ns()))

    def _spawn(self, action: Spawn) -> None:
        if action.id not in self.records:
            self._incarnation += 1
            now = self._kernel.now_ns()
            result = self._kernel.spawn(self._incarnation, action.id, action.launch)
            phase: Phase
            if isinstance(result, LaunchError):
                phase = Exited(now, Exit(error=result))
            else:
                phase = Running(result.pid, now) if result.executed else Starting(result.pid, now)
                self._alive[self._incarnation] = action.id
            self.records[action.id] = ProcessRecord(
                action.id, self._incarnation, action.template_hash, action.memory, phase
            )
        self._mark(action.id)

    def _signal(self, record: ProcessRecord, action: Signal) -> None:
        incarnation = record.incarnation
        if incarnation not in self._alive and incarnation not in self._lingering:
            self._mark(record.id)
            return
        try:
            self._kernel.signal(incarnation, action.signal, action.scope)
        except ValueError as error:
            self._kernel.log("error", "cannot send a signal", process=record.id, cause=error)

    def _forget(self, record: ProcessRecord) -> None:
        """Drop a dead record. Survivors are left in peace then: only their output is still taken."""
        if isinstance(record.phase, Exited):
            del self.records[record.id]
            self._lingering.pop(record.incarnation, None)
        self._mark(record.id)

    # ---- actions ----------------------------------------------------------------------------------

    def _hear(self, data: bytes) -> None:
        if not data:
            return
        self._heard_by_ns = None
        try:
            actions = self._decoder.actions(data)
        except ProtocolError as error:
            self._kernel.log("error", "cannot understand the controller: replacing it", cause=error)
            self._decoder = LinkDecoder()
            self._kernel.kill_controller()
            return
        for action in actions:
            if self._ending is None:
                self._carry_out(action)

    def _carry_out(self, action: KeeperAction) -> None:
        match action:
            case Spawn():
                self._spawn(action)
            case Signal() | Remember() | Forget() | Redirect():
                record = self.records.get(action.id)
                if record is None or record.incarnation != action.incarnation:
                    self._mark(action.id)  # meant for another one: the sender learns what there is
                else:
                    self._carry_out_on(record, action)
            case Bind():
                self._bind(action)
            case Unbind(name):
                if self.sockets.pop(name, None) is not None:
                    self._kernel.unbind(name)
                self._mark(name)
            case Quit(code):
                self._kernel.close_control()
                self._ending = _Ending(code, self._kernel.now_ns() + QUIT_NS, kill_everything=False)
            case _:
                assert_never(action)

    def _carry_out_on(
        self, record: ProcessRecord, action: Signal | Remember | Forget | Redirect
    ) -> None:
        match action:
            case Signal():
                self._signal(record, action)
            case Remember():
                self.records[record.id] = replace(record, memory=action.memory)
                self._mark(record.id)
            case Forget():
                self._forget(record)
            case Redirect():
                self._kernel.redirect(record.incarnation, action.stdout, action.stderr)
            case _:
                assert_never(action)

    def _bind(self, action: Bind) -> None:
        before, now = self.sockets.get(action.name), self._kernel.now_ns()
        result = self._kernel.bind(action.name, action.template)
        if isinstance(result, str):
            record = SocketRecord(action.name, action.template, Bound(result, now))
        else:
            attempts = 1
            if before is not None and isinstance(before.phase, BindRefused):
                attempts += before.phase.attempts if before.template == action.template else 0
            refused = BindRefused(result.errno, result.message, now, attempts)
            record = SocketRecord(action.name, action.template, refused, result.kept)
        self.sockets[action.name] = record
        self._mark(action.name)

    # ---- the link ---------------------------------------------------------------------------------

    def _mark(self, key: ProcessId | str) -> None:
        """Note that a record or socket is to be told."""
        if self._is_connected:
            self._outbox[key] = None

    def _tell(self, event: KeeperEvent) -> None:
        if self._is_connected:
            self._event_number += 1
            self._events[self._event_number] = event
            self._outbox[self._event_number] = None

    def _flush(self) -> None:
        while self._unsent or self._outbox:
            if not self._unsent:
                self._unsent = self._next_frames()
            taken = self._kernel.send(self._unsent)
            self._unsent = self._unsent[taken:]
            if self._unsent:
                return

    def _next_frames(self) -> bytes:
        frames = bytearray()
        while self._outbox and len(frames) < FRAME_BATCH_BYTES:
            key = next(iter(self._outbox))
            del self._outbox[key]
            frames += encode(self._news_of(key))
        return bytes(frames)

    def _news_of(self, key: Key) -> KeeperEvent:
        if isinstance(key, int):
            return self._events.pop(key)
        if isinstance(key, str):
            socket = self.sockets.get(key)
            return SocketClosed(key) if socket is None else SocketChanged(socket)
        record = self.records.get(key)
        return RecordForgotten(key) if record is None else RecordChanged(record)

    # ---- the controller ---------------------------------------------------------------------------

    def _start_controller(self, now_ns: int) -> None:
        self._respawn_at_ns = None
        self._started_ns = now_ns
        if not self._kernel.start_controller(last_good=self._quick_deaths >= LAST_GOOD_AFTER):
            self._schedule_respawn(now_ns)
            return
        self._is_connected = True
        self._tell(self._kernel.introduce())
        for id in self.records:  # noqa: A001
            self._mark(id)
        for name in self.sockets:
            self._mark(name)
        self._tell(SnapshotEnded())
        if self._stop_asked:
            self._ask_to_stop(now_ns)

    def _replace_controller(self, exit: Exit) -> None:  # noqa: A002
        """Carry out what the dead controller still said, drop a torn tail, and arrange for the next one."""
        self._hear(self._kernel.drain_link())
        self._decoder = LinkDecoder()
        self._is_connected = False
        self._heard_by_ns = None
        self._outbox.clear()
        self._events.clear()
        self._unsent = b""
        if self._ending is not None:
            return
        self._kernel.log("warning", "the controller died and is replaced", exit=exit)
        self._schedule_respawn(self._kernel.now_ns())
        if self._stop_asked:
            self._deaths_while_stopping += 1
            if self._deaths_while_stopping >= DEATHS_WHILE_STOPPING:
                self._stop_everything("the controller keeps dying while it should stop")

    def _schedule_respawn(self, now_ns: int) -> None:
        quick = now_ns - self._started_ns < QUICK_LIFE_NS
        self._quick_deaths = self._quick_deaths + 1 if quick else 0
        wait = FIRST_RESPAWN_NS << min(self._quick_deaths - 2, 6) if self._quick_deaths > 1 else 0
        self._respawn_at_ns = now_ns + min(wait, LAST_RESPAWN_NS)

    # ---- the end ----------------------------------------------------------------------------------

    def _take_signal(self, name: str) -> None:
        if name == "HUP" and self._hup == "reload":
            self._tell(SignalReceived("reload"))
        elif name == "QUIT" or (self._stop_asked and name != "HUP"):
            self._tell(SignalReceived("stop_now"))
            self._stop_everything("asked to stop now", at_once=True)
        elif name in {"TERM", "INT", "HUP"} and not self._stop_asked and self._ending is None:
            self._stop_asked = True
            self._ask_to_stop(self._kernel.now_ns())

    def _ask_to_stop(self, now_ns: int) -> None:
        """Pass the wish on; a controller that does not take note of it in time is stopped with the rest."""
        self._tell(SignalReceived("stop"))
        self._heard_by_ns = now_ns + HEARD_WITHIN_NS

    def _stop_everything(self, why: str, *, at_once: bool = False) -> None:
        """Stop all trees without the controller: TERM, a bounded wait, KILL."""
        if self._ending is not None and self._ending.killed:
            return
        now = self._kernel.now_ns()
        self._kernel.log("warning", "stopping everything", cause=why)
        self._respawn_at_ns = self._heard_by_ns = None
        self._ending = _Ending(1, now if at_once else now + GRACE_NS, kill_everything=True)
        if not at_once:
            self._kernel.kill_controller()
            self._signal_all("TERM")

    def _signal_all(self, signal: str) -> None:
        for incarnation in (*self._alive, *self._lingering):
            self._kernel.signal(incarnation, signal, "tree")

    def _meet_deadlines(self, now_ns: int) -> None:
        if self._respawn_at_ns is not None and now_ns >= self._respawn_at_ns:
            self._start_controller(now_ns)
        if self._heard_by_ns is not None and now_ns >= self._heard_by_ns:
            self._heard_by_ns = None
            # Having read the wish counts as an answer: with every stop under way there is nothing to send.
            if not self._is_connected or self._unsent or self._kernel.is_unread():
                self._stop_everything("the controller does not answer")
        if self._ending is not None:
            self._end(self._ending, now_ns)

    def _end(self, ending: _Ending, now_ns: int) -> None:
        if ending.kill_everything:
            is_done = not self._alive and not self._lingering
        else:
            is_done = not self._is_connected
        if not is_done and not ending.killed and now_ns >= ending.kill_at_ns:
            ending.killed, ending.kill_at_ns = True, now_ns
            if ending.kill_everything:
                self._signal_all("KILL")
            else:
                self._kernel.kill_controller()
        if is_done or (ending.killed and now_ns >= ending.kill_at_ns + QUIT_NS):
            self._flush()
            self._kernel.kill_controller()
            self._kernel.close_control()
            self.exit_code = ending.code
