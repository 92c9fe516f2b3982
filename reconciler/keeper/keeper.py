"""The state machine: carries out actions, keeps records, tells what became of them; touches no world.

A record is the truth about a process or a socket. What the controller is told is never queued as history:
`_news` holds the names of what changed, in order, and the present state is written down when the link
takes it. So a slow controller costs no memory, and a new one is simply told everything.

    spawned --executed--> Running --reaped, then drained--> Exited --Forget--> gone

A pid is used only while the keeper has not reaped it: nobody else can have it then. Processes that a dead
leader leaves behind become children of the keeper (it is their subreaper), so theirs are as safe. Those
that a former keeper started are adopted, and the kernel layer sees to it that their pids mean them.

All that changes is noted for the next keeper before anybody is told: a process before it exists.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

from reconciler.keeper.borders import as_errno, carrying_out
from reconciler.keeper.endings import Asked, Ending, Killing, Leaving, Terminating, ask_again
from reconciler.keeper.kernel import (
    Called,
    ChildrenDied,
    ClientWaits,
    Died,
    Executed,
    FileTouched,
    LaunchFailed,
    LinkReadable,
    Told,
)
from reconciler.keeper.listeners.listeners import Listeners
from reconciler.keeper.listeners.upkeep import Upkeep
from reconciler.keeper.orphans import Orphans
from reconciler.keeper.patience import Patience
from reconciler.keeper.pulse import Pulse
from reconciler.keeper.records import Process
from reconciler.keeper.succession.adoption import Intruders, costing_one, take_over
from reconciler.keeper.succession.notes import INCARNATIONS, Notes, for_own_code
from reconciler.model.action import (
    Adjust,
    Bind,
    EndOrphans,
    Forget,
    KeeperAction,
    Notify,
    Quit,
    Remember,
    Signal,
    Spawn,
    Unbind,
    Upgrade,
)
from reconciler.model.event import (
    ControlRenewed,
    FaultCaught,
    KeeperEvent,
    KeeperIntroduced,
    LogChanged,
    LogRotated,
    OrphansChanged,
    PulseAsked,
    RecordChanged,
    RecordForgotten,
    SignalReceived,
    SnapshotEnded,
    SocketChanged,
    SocketClosed,
    SocketRestored,
    UpgradeFailed,
)
from reconciler.model.process import (
    Exit,
    Exited,
    LaunchError,
    ProcessId,
    ProcessRecord,
    Running,
    Starting,
)
from reconciler.model.units import MILLISECOND_NS, SECOND_NS
from reconciler.model.value import replace
from reconciler.wire.link import LinkDecoder, ProtocolError, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from reconciler.keeper.kernel import Happening, Kernel
    from reconciler.keeper.orphans import Key
    from reconciler.model.process import Orphan, Reach

TURN_NS: Final = 10 * MILLISECOND_NS
"""How long actions are carried out before output and deaths have their turn."""
SEND_BYTES: Final = 64 * 1024
DRAIN_LIMIT_NS: Final = SECOND_NS
"""How long the end of a process waits for its output when somebody else goes on writing."""
DRAIN_TURN_NS: Final = 3 * MILLISECOND_NS
"""How long the last output of the dead is read before others have their turn."""
WAKING: Final = frozenset({"TERM", "INT", "QUIT", "HUP", "KILL", "CONT"})
"""Signals after which the kernel layer wakes whom they reach in any case, or need not."""
UNSURE_NS: Final = MILLISECOND_NS
"""When to look again at a stranger that is between two programs."""
RETRY_NS: Final = SECOND_NS
"""When to try again what failed unexpectedly."""
SHORTAGE_WAIT_NS: Final = SECOND_NS
"""When a controller is started again for which something was short."""
TERM_NS: Final = 2 * SECOND_NS
"""How long beyond the longest grace period an end waits that the controller has no part in."""
KILL_AGAIN_NS: Final = SECOND_NS
KILL_TIMES: Final = 5
LEAVE_NS: Final = 2 * SECOND_NS
UPGRADE_WAIT_NS: Final = 5 * SECOND_NS
MAX_LOG_NEWS: Final = 1000


News: TypeAlias = (
    ProcessId
    | str
    | KeeperIntroduced
    | SnapshotEnded
    | SignalReceived
    | SocketRestored
    | LogRotated
    | LogChanged
    | OrphansChanged
    | PulseAsked
    | UpgradeFailed
    | FaultCaught
    | ControlRenewed
)
"""Something to tell: a record by its id, a socket by its name, or an event that stands for itself."""

_FOR_ANY: Final = LogRotated | FaultCaught | ControlRenewed
"""What the next controller is told when this one was not told it any more."""


class Keeper:
    """Holds processes and sockets for a controller; `step` by `step`, never waiting.

    It begins with all that a former keeper held. `exit_code` is None until the keeper shall end.
    """

    def __init__(
        self, kernel: Kernel, introduction: KeeperIntroduced, *, watchdog_ns: int | None = None
    ) -> None:
        self.exit_code: int | None = None
        self._kernel = kernel
        self._introduction = introduction
        self._incarnations = 0
        self._processes: dict[ProcessId, Process] = {}
        self._by_pid: dict[int, Process] = {}
        self._reap_due_ns: int | None = None
        self._is_blind = False
        self._orphans = Orphans(kernel, self._processes, self._by_pid)
        self._reported: tuple[Orphan, ...] = ()
        self._haunted: dict[ProcessId, None] = {}
        self._draining: list[Process] = []
        self._listeners = Listeners(kernel)
        self._upkeep = Upkeep(kernel, self._listeners, self._tell)
        self._actions: deque[KeeperAction] = deque()
        self._news: dict[News, None] = {}
        self._notes = Notes(kernel)
        self._unsent = bytearray()
        self._decoder = LinkDecoder()
        self._controller: int | None = None
        self._linked = False
        self._heard = False
        self._pulse = Pulse(watchdog_ns)
        self._controller_due_ns: int | None = 0
        self._patience = Patience()
        self._wanting: LaunchError | None = None
        self._ending: Ending | None = None
        self._upgrade: Upgrade | None = None
        self._upgrade_due_ns = 0
        self._take_over()

    def step(self) -> int | None:
        """Answer all that has happened; return when to be called again at the latest, None: never."""
        self._orphans.begin_step()
        for happening in self._kernel.happenings():
            with self._kernel.border("answering what has happened"):
                self._answer(happening)
        self._carry_out()
        dues = [
            self._safely("reaping", self._reap_again),
            self._safely("looking after sockets", self._upkeep.attend),
            self._safely("announcing who has ended", self._bury),
            self._safely("naming orphans", self._name_orphans),
            self._safely("ending intruders", self._intruders.expel),
            self._safely("starting the controller", self._keep_controller),
            self._safely("ending", self._end),
            self._kernel.now_ns() if self._actions else None,
            self._safely("looking after logs", self._tell_of_logs),
            self._safely("looking after the controller", self._feel_pulse),
            self._safely("writing the journal", self._note_changes),
            self._safely("telling the controller", self._flush),
            self._safely("upgrading", self._replace_code),
            self._pulse.due_ns,
        ]
        return min((due for due in dues if due is not None), default=None)

    def _safely(self, doing: str, part: Callable[[], int | None]) -> int | None:
        """Do a part of a step and return when it is due again: soon, when something unexpected came up."""
        with self._kernel.border(doing):
            return part()
        return self._kernel.now_ns() + RETRY_NS

    def _answer(self, happening: Happening) -> None:
        match happening:
            case LinkReadable():
                self._read_link()
            case Executed(pid):
                self._executed(pid)
            case ChildrenDied():
                self._reap()
            case Told(meaning):
                self._told(meaning)
            case Called():
                self._pulse.stirs(self._kernel.now_ns())
            case FileTouched():
                self._upkeep.touched()
            case ClientWaits(name):
                self._upkeep.client_waits(name)
            case _:
                assert_never(happening)

    # ---- what a former keeper left, and the next one shall know ----------------------------------

    def _take_over(self) -> None:
        """Hold again what a former keeper held, and ask what must not be here to go."""
        inherited = take_over(self._kernel)
        self._incarnations = inherited.incarnations
        self._orphans.spare(inherited.others)
        # Not yet how far we shall count from: should we die too, the next one must still know the intruders.
        self._kernel.note(INCARNATIONS, inherited.noted)
        for process in inherited.processes:
            self._processes[process.record.id] = process
            self._upkeep.started(process)
            # The number of one that is dead and left nobody in its session may be anybody's by now.
            in_session = process.died is None or process.pid in inherited.sessions
            self._orphans.expect(process, in_session=in_session)
            if process.died is None:
                self._by_pid[process.pid] = process
            elif not isinstance(process.record.phase, Exited):
                self._draining.append(process)
            if process.died is not None:
                self._haunted[process.record.id] = None
            self._notes.changed(process.record.id)
        for held in inherited.sockets:
            self._listeners.by_name[held.record.name] = held
            self._notes.changed(held.record.name)
        for pid, stranger in inherited.strangers.items():
            doing = f"taking over process {pid}"
            costing_one(self._kernel, doing, partial(self._orphans.take, pid, stranger))
        self._scan(*self._draining)
        self._intruders = Intruders(self._kernel, inherited.intruders)
        self._note_changes()

    def _note_changes(self) -> None:
        self._notes.write(self._processes, self._listeners.by_name)

    # ---- actions ---------------------------------------------------------------------------------

    def _carry_out(self) -> None:
        """Carry out actions in order, for one turn: output, deaths and signals have theirs in between."""
        until = self._kernel.now_ns() + TURN_NS
        while self._actions and self._kernel.now_ns() <= until:
            self._heard = True
            action = self._actions.popleft()
            with self._kernel.border(carrying_out(action)) as border:
                self._act(action)
            if border.fault is not None:
                self._refuse(action)

    def _refuse(self, action: KeeperAction) -> None:
        """Answer an action that could not be carried out with how things are."""
        match action:
            case Bind(name) | Unbind(name):
                self._tell(name)
            case Spawn(id) | Signal(id) | Remember(id) | Forget(id) | Adjust(id):
                self._tell(id)
            case EndOrphans() | Quit() | Upgrade() | Notify():
                pass
            case _:
                assert_never(action)

    def _act(self, action: KeeperAction) -> None:
        match action:
            case Spawn():
                self._spawn(action)
            case Bind(name):
                self._listeners.bind(action, self._processes.values())
                self._upkeep.rebound(name)
                self._tell(name)
            case EndOrphans(signal):
                self._signal_each(self._orphans.unclaimed(), signal)
            case Unbind(name):
                self._listeners.unbind(name)
                self._upkeep.rebound(name)
                self._tell(name)
            case Quit(code, leaves):
                self._quit(code, leaves=leaves)
            case Upgrade():
                self._upgrade = action
                self._upgrade_due_ns = self._kernel.now_ns() + UPGRADE_WAIT_NS
            case Notify(text):
                self._pulse.beats(self._kernel.now_ns())
                self._kernel.notify(text)
            case Signal() | Remember() | Forget() | Adjust():
                process = self._processes.get(action.id)
                if process is None or process.record.incarnation != action.incarnation:
                    self._tell(action.id)
                else:
                    self._act_on(process, action)
            case _:
                assert_never(action)

    def _act_on(self, process: Process, action: Signal | Remember | Forget | Adjust) -> None:
        match action:
            case Signal():
                self._signal(process, action.signal, action.scope)
            case Remember():
                process.record = replace(process.record, memory=action.memory)
                self._notes.changed(action.id)
            case Forget():
                if isinstance(process.record.phase, Exited):
                    self._forget(process)
                self._tell(action.id)
            case Adjust():
                if (cause := process.adjust(action.settings)) is not None:
                    self._kernel.log("error", "cannot redirect", id=action.id, cause=cause)
                if process.died is not None:
                    self._leave_behind(process)  # another scope may count
                self._tell(action.id)
            case _:
                assert_never(action)

    def _spawn(self, action: Spawn) -> None:
        self._tell(action.id)
        if self._ending is not None and not isinstance(self._ending, Asked):
            return  # the keeper is ending everything by itself
        former = self._processes.get(action.id)
        if former is not None:
            is_dead = isinstance(former.record.phase, Exited)
            if not is_dead or former.record.incarnation != action.replaces:
                return  # refused: the answer is the record that is there
            self._forget(former)
        self._incarnations += 1
        incarnation, now_ns = self._incarnations, self._kernel.now_ns()
        record = ProcessRecord(
            action.id,
            incarnation,
            action.template_hash,
            action.memory,
            Starting(0, now_ns),
            action.launch.settings,
        )
        launch = action.launch
        uses = (*launch.sockets, launch.stdin_socket) if launch.stdin_socket else launch.sockets
        listens = self._listeners.templates(uses)
        process = Process(record, uses, listens)
        self._processes[action.id] = process
        child, error = None, None
        with self._kernel.border(f"starting {action.id}") as border:
            self._kernel.note(INCARNATIONS, incarnation)
            self._note_changes()
            try:
                sockets = self._listeners.hand_over(process)
                child = self._kernel.spawn(action.id, incarnation, launch, sockets)
            except LaunchFailed as failure:
                error = failure.error
        if child is None:
            name, message = as_errno(border.fault)
            error = error or LaunchError("launch", name, message=message)
            phase = Exited(self._kernel.now_ns(), Exit(error=error))
            process.record = replace(record, phase=phase)
            self._notes.changed(action.id)
            return
        adopted = self._by_pid.get(child.pid)
        process.pid, process.born, process.output = child.pid, child.born, child.output
        self._upkeep.started(process)
        process.record = replace(record, phase=Starting(child.pid, now_ns))
        self._by_pid[child.pid] = process
        self._orphans.expect(process)
        if child.executed:
            process.record = replace(record, phase=Running(child.pid, now_ns))
        # At once: a program may make its marker unreadable by the time that somebody looks for it.
        self._notes.changed(action.id)
        self._note_changes()
        if child.former is not None:
            self._given_anew(adopted, child.former)

    def _given_anew(self, process: Process | None, former: Died) -> None:
        """Take leave of an adopted process whose number a child has now."""
        if process is not None:
            self._died(process, former)
        self._orphans.died(former.pid)
        self._orphans.begin_step()
        # It may have been the last of what a dead one had left.
        self._scan(*(() if process is None else (process,)))

    def _signal(self, process: Process, signal: str, reach: Reach) -> None:
        """Send a signal; one that asks to end wakes who is stopped, or it could not notice (signal(7))."""
        self._send(process, signal, reach)
        if signal == process.record.settings.stop_signal and signal not in WAKING:
            self._send(process, "CONT", reach)

    def _signal_each(self, pids: list[int], signal: str) -> None:
        for pid in pids:
            self._kernel.signal_tree(pid, [pid], signal)

    def _send(self, process: Process, signal: str, reach: Reach) -> None:
        if reach == "tree" or process.died is not None:
            self._scan()
        with self._kernel.border(f"looking at what is below {process.record.id}"):
            self._orphans.see_below(process)
        if process.died is not None:
            process.killed = process.killed or signal == "KILL"
            self._kernel.signal_tree(process.pid, sorted(process.survivors), signal)
        elif process.pid and reach == "process":
            self._kernel.signal(process.pid, signal)
        elif process.pid and reach == "children":
            self._kernel.signal_children(process.pid, signal)
        elif process.pid and reach == "group":
            self._kernel.signal_group(process.pid, signal)
        elif process.pid:
            process.killed = process.killed or signal == "KILL"
            roots = [process.pid, *self._orphans.of(process)]
            self._kernel.signal_tree(process.pid, roots, signal)

    def _forget(self, process: Process) -> None:
        id_ = process.record.id
        self._close_output(process)
        del self._processes[id_]
        self._haunted.pop(id_, None)
        self._orphans.forget(process)
        self._report_orphans()

    # ---- lives and deaths ------------------------------------------------------------------------

    def _executed(self, pid: int) -> None:
        process = self._by_pid.get(pid)
        if process is not None and isinstance(process.record.phase, Starting):
            running = Running(pid, process.record.phase.at_ns)
            process.record = replace(process.record, phase=running)
            self._tell(process.record.id)

    def _reap_again(self) -> int | None:
        """Go on with what could not be reaped."""
        if self._reap_due_ns is not None and self._kernel.now_ns() >= self._reap_due_ns:
            self._reap()
        return self._reap_due_ns

    def _reap(self) -> None:
        """Take leave of all children that have died, and see what they leave behind."""
        strangers = False
        controller_died = False
        dead: list[Process] = []
        while (died := self._next_dead()) is not None:
            process = self._by_pid.pop(died.pid, None)
            # The controller comes last: it may have the number of an adopted one whose death was still to be told.
            if process is not None:
                self._died(process, died)
                dead.append(process)
            elif self._orphans.died(died.pid):
                strangers = True
            elif died.pid == self._controller:
                controller_died = True
                self._patience.is_at_fault |= died.exit.signal != "KILL"
            self._intruders.died(died.pid)
        self._orphans.begin_step()
        if dead or strangers:
            self._scan(*dead)
        if controller_died:
            self._controller_died()

    def _next_dead(self) -> Died | None:
        """Return one that has died; None when there is none, or none can be told just now."""
        self._reap_due_ns = None
        with self._kernel.border("learning who has ended"):
            return self._kernel.reap()
        self._reap_due_ns = self._kernel.now_ns() + RETRY_NS
        return None

    def _died(self, process: Process, died: Died) -> None:
        process.died, process.died_at_ns = died, self._kernel.now_ns()
        # It may wait for its last output, and we may not live to tell.
        self._notes.changed(process.record.id)
        self._upkeep.ended(process)
        self._draining.append(process)

    def _scan(self, *dead: Process) -> None:
        """Find out what those that have died left behind, and whose all others are that we did not start."""
        with self._kernel.border("looking for what processes have left behind") as border:
            haunted = [self._processes[id_] for id_ in self._haunted]
            adopted = self._is_blind or any(process.adopted for process in (*dead, *haunted))
            changed = self._orphans.scan(dead, self._controller, adopted=adopted)
            for process in {each.record.id: each for each in (*dead, *haunted)}.values():
                self._leave_behind(process)
            self._leave_behind_all(changed)
        # What was not found now may be there: whoever has ended is announced after another look.
        self._is_blind = border.fault is not None

    def _is_unsure(self) -> bool:
        return self._is_blind or self._orphans.is_unsure

    def _leave_behind_all(self, owners: Iterable[Key]) -> None:
        for id_, incarnation in owners:
            owner = self._processes.get(id_)
            if owner is not None and owner.record.incarnation == incarnation and owner.died:
                self._leave_behind(owner)
        self._report_orphans()

    def _name_orphans(self) -> int | None:
        if self._orphans.look_due():
            self._scan()
        owners, due_ns = self._orphans.name_again()
        if owners:
            self._leave_behind_all(owners)
        return due_ns

    def _report_orphans(self) -> None:
        """Tell of the orphans that belong to no record when they are others than before."""
        self._notes.strangers(self._orphans.written())
        if (reported := self._orphans.reported()) != self._reported:
            self._reported = reported
            self._tell(OrphansChanged())

    def _leave_behind(self, process: Process) -> None:
        remains, left = self._orphans.survivors(process)
        new = remains - process.survivors
        process.survivors = remains
        if remains:
            self._haunted[process.record.id] = None
        else:
            self._haunted.pop(process.record.id, None)
        if new and process.killed:
            self._kernel.signal_tree(process.pid, sorted(new), "KILL")
        phase, survivors = process.record.phase, self._orphans.named(remains)
        if isinstance(phase, Exited) and (phase.survivors, phase.left) != (survivors, left):
            phase = replace(phase, survivors=survivors, left=left)
            process.record = replace(process.record, phase=phase)
            if not remains:
                self._orphans.forget_session(process)
                self._close_output(process)
            self._tell(process.record.id)

    def _bury(self) -> int | None:
        """Announce the dead whose output is complete; return when to look at the others again."""
        if self._is_unsure() and self._draining:
            self._scan(*self._draining)
        until_ns = self._kernel.now_ns() + DRAIN_TURN_NS
        untried, self._draining = deque(self._draining), []
        waiting = []
        while untried and self._kernel.now_ns() <= until_ns:
            process = untried.popleft()
            in_time = self._kernel.now_ns() < process.died_at_ns + DRAIN_LIMIT_NS
            if in_time and (self._is_unsure() or not self._is_drained(process)):
                waiting.append(process)
            else:
                self._announce_end(process)
        self._draining = [*untried, *waiting]  # who had no turn has the next one
        wait = UNSURE_NS if self._is_unsure() and not untried else 0
        return self._kernel.now_ns() + wait if self._draining else None

    def _announce_end(self, process: Process) -> None:
        died, phase = process.died, process.record.phase
        assert died is not None
        assert isinstance(phase, Starting | Running)
        # Without a pid it was about to be when the former keeper died, and cannot be found.
        ran = process.pid and died.exit.error is None
        started = phase.started_at_ns if isinstance(phase, Running) else phase.at_ns
        exited = Exited(
            process.died_at_ns,
            died.exit,
            died.pid if ran else None,
            started if ran else None,
            self._orphans.named(process.survivors),
            self._tail(process),
            died.cpu_ns,
            died.max_rss_bytes,
            self._orphans.survivors(process)[1],
        )
        process.record = replace(process.record, phase=exited)
        if not process.survivors:
            self._close_output(process)
            self._orphans.forget_session(process)
        self._tell(process.record.id)

    def _is_drained(self, process: Process) -> bool:
        """Tell whether all output of a dead process is read; what cannot be read is not waited for."""
        with self._kernel.border(f"reading the last output of {process.record.id}"):
            return process.output is None or process.output.drained()
        return True

    def _tail(self, process: Process) -> bytes:
        with self._kernel.border(f"reading the captured output of {process.record.id}"):
            return b"" if process.output is None else process.output.tail()
        return b""

    def _close_output(self, process: Process) -> None:
        """Let go of the output of a process, whatever comes of it."""
        output, process.output = process.output, None
        if output is not None:
            with self._kernel.border(f"closing the output of {process.record.id}"):
                output.close()

    # ---- the controller --------------------------------------------------------------------------

    def _keep_controller(self) -> int | None:
        """Start the controller when it is due; return when it will be."""
        due = self._controller_due_ns
        if due is None or isinstance(self._ending, Killing | Leaving):
            return None
        if self._intruders.are_here or self._actions:
            return None  # what the former one still had said comes first
        now_ns = self._kernel.now_ns()
        if now_ns < due:
            return due
        self._controller_due_ns = None
        self._patience.begins(now_ns)
        error = None
        with self._kernel.border("starting the controller") as border:
            try:
                last_good = self._patience.wants_last_good
                self._controller = self._kernel.start_controller(last_good=last_good)
            except LaunchFailed as failure:
                error = failure.error
        if border.fault is not None:
            self._controller_due_ns = now_ns + SHORTAGE_WAIT_NS
            return self._controller_due_ns
        if error is not None:
            self._patience.is_at_fault = not error.is_shortage
            if error != self._wanting:  # tried often, told once
                self._kernel.log("error", "cannot start the controller", cause=Exit(error=error))
            self._wanting = error
            self._wait_for_controller()
            if error.is_shortage:
                self._controller_due_ns = now_ns + SHORTAGE_WAIT_NS
            return self._controller_due_ns
        self._linked, self._wanting = True, None
        kept = [each for each in self._news if isinstance(each, _FOR_ANY)]
        troubled = self._kernel.troubled_logs()
        self._news = dict.fromkeys((self._introduction, *self._processes, *self._listeners.by_name))
        self._news |= dict.fromkeys(
            (OrphansChanged(), *troubled, SnapshotEnded(), PulseAsked(), *kept)
        )
        self._pulse.begins(now_ns)
        if isinstance(self._ending, Asked):
            self._tell(SignalReceived("stop"))
            if not self._patience.wants_last_good:  # one that dies again and again ends nothing
                self._ask_to_end()
        return None

    def _feel_pulse(self) -> None:
        """Ask the controller whether it lives when that is due, and replace one that does not say so."""
        if not self._linked or isinstance(self._ending, Terminating | Killing | Leaving):
            self._pulse.ends()
            return
        now_ns = self._kernel.now_ns()
        verdict = self._pulse.look(now_ns, self._kernel.is_behind)
        if verdict == "ask":
            self._tell(PulseAsked())
        elif verdict == "silent" and self._controller is not None:
            self._kernel.log("error", "the controller does not answer; killing it")
            self._patience.blames(now_ns)
            self._kernel.signal(self._controller, "KILL")
        elif self._pulse.due_ns is None:
            self._kernel.await_call()

    def _controller_died(self) -> None:
        """Take what it still had said in full, and forget its link; the next one waits until that is done."""
        self._controller = None
        while self._linked and self._take_bytes():
            pass
        self._hang_up()
        if isinstance(self._ending, Leaving):
            return
        self._kernel.log(
            "warning", "the controller ended", quick_deaths=self._patience.quick_deaths
        )
        self._wait_for_controller()

    def _wait_for_controller(self) -> None:
        now_ns = self._kernel.now_ns()
        self._controller_due_ns = now_ns + self._patience.wait_ns(now_ns)

    def _hang_up(self) -> None:
        with self._kernel.border("hanging up on the controller"):
            self._kernel.close_link()
        self._linked = False
        self._decoder = LinkDecoder()
        self._unsent.clear()

    def _read_link(self) -> None:
        if not self._actions and self._linked:
            self._take_bytes()

    def _take_bytes(self) -> bool:
        """Take what the link holds; False when nothing more will come from it just now."""
        data: bytes | None = b""
        with self._kernel.border("reading what the controller says") as border:
            data = self._kernel.receive()
            if data is None:
                return False
            try:
                self._actions.extend(self._decoder.actions(data))
            except ProtocolError as error:
                self._kernel.log(
                    "error", "the controller sent an invalid message and is restarted", cause=error
                )
                self._patience.is_at_fault = True
                data = b""
        if border.fault is not None:
            data = b""
        if not data:
            # It cannot be heard any more. Its death brings the next one.
            self._hang_up()
            if self._controller is not None and not isinstance(self._ending, Leaving):
                self._kernel.signal(self._controller, "KILL")
        return bool(data)

    def _tell(self, news: News) -> None:
        self._news[news] = None
        if isinstance(news, ProcessId | str):
            self._notes.changed(news)

    def _tell_of_logs(self) -> None:
        for event in (*self._kernel.take_log_news(), *self._kernel.take_reports()):
            if len(self._news) < MAX_LOG_NEWS + len(self._processes):
                self._news.pop(event, None)  # what is told last is what holds
                self._tell(event)

    def _flush(self) -> None:
        """Send news as far as the link takes them."""
        while self._linked and (self._news or self._unsent):
            while self._news and len(self._unsent) < SEND_BYTES:
                news = next(iter(self._news))
                del self._news[news]
                with self._kernel.border("writing the journal"):
                    self._unsent += encode(self._event(news))
            del self._unsent[: self._kernel.send(bytes(self._unsent))]
            self._pulse.stirs(self._kernel.now_ns())
            if self._unsent:
                return

    def _event(self, news: News) -> KeeperEvent:
        match news:
            case ProcessId():
                process = self._processes.get(news)
                return RecordChanged(process.record) if process else RecordForgotten(news)
            case str():
                held = self._listeners.by_name.get(news)
                return SocketChanged(held.record) if held else SocketClosed(news)
            case OrphansChanged():
                return OrphansChanged(self._reported)
            case _:
                return news

    # ---- new code ----------------------------------------------------------------------------------

    def _replace_code(self) -> int | None:
        """Become the new code once no process is half-way; return when that is waited for no longer."""
        if self._upgrade is None:
            return None
        starting = any(isinstance(p.record.phase, Starting) for p in self._processes.values())
        cause = "everything is being stopped"
        if self._ending is None and (starting or self._draining or self._actions):
            if self._kernel.now_ns() < self._upgrade_due_ns:
                return self._upgrade_due_ns
            cause = "a process is still starting or ending"
        elif self._ending is None:
            cause = self._become(self._upgrade.python)
        self._upgrade = None
        self._tell(UpgradeFailed(cause))
        self._flush()
        return None

    def _become(self, python: str) -> str:
        """Become the code that this interpreter runs; return why that cannot be."""
        held = self._listeners.by_name
        with self._kernel.border("upgrading") as border:
            try:
                entries = for_own_code(
                    self._processes, held, self._incarnations, self._introduction
                )
                entries |= self._orphans.handed_on(self._controller)
                sockets = [each.socket for each in held.values() if each.socket is not None]
                self._kernel.replace_code(python, entries, sockets)
            except OSError as error:
                return f"cannot execute {python}: {error.strerror}"
        return f"cannot execute {python}: {border.fault}"

    # ---- the end ---------------------------------------------------------------------------------

    def _told(self, meaning: str) -> None:
        if meaning == "reload":
            self._tell(SignalReceived("reload"))
        elif meaning == "stop" and self._ending is None:
            self._tell(SignalReceived("stop"))
            self._ask_to_end()
        elif not isinstance(self._ending, Killing | Leaving):
            self._tell(SignalReceived("stop_now"))
            self._kill_all(1)

    def _quit(self, code: int, *, leaves: bool) -> None:
        if isinstance(self._ending, Leaving):
            return
        if leaves:
            self._leave(code)
        elif self._live():
            live = ", ".join(map(str, self._live()))
            self._kernel.log(
                "warning", "asked to end while processes live; killing them", pids=live
            )
            self._kill_all(max(code, 1))
        else:
            self._close_all()
            self._leave(code)

    def _end(self) -> int | None:
        """Take the next step of an ending that is due; return when the one after it is."""
        if self._ending is None:
            return None
        now_ns, ending = self._kernel.now_ns(), self._ending
        live = self._live()
        match ending:
            case Asked() if now_ns >= ending.due_ns:
                # One that has nothing to do but wait for a grace period still says that it lives.
                answers = self._linked and self._heard
                if answers and now_ns < self._asked(ending).give_up_ns:
                    self._ask_to_end()
                else:
                    fault = "stops nothing any more" if answers else "does not answer"
                    self._kernel.log("error", f"the controller {fault}; stopping all")
                    self._signal_all("TERM")
                    self._ending = Terminating(now_ns + self._longest_grace_ns() + TERM_NS)
            case Terminating(due) if now_ns >= due or not live:
                self._kill_all(1)
            case Killing(due, code, times) if now_ns >= due or not live:
                if not live or times >= KILL_TIMES:
                    if live:
                        pids = ", ".join(map(str, live))
                        self._kernel.log("error", "ends though SIGKILL ended not all", pids=pids)
                    self._close_all()
                    self._leave(code)
                else:
                    self._signal_all("KILL")
                    self._ending = Killing(now_ns + KILL_AGAIN_NS, code, times + 1)
            case Leaving(code, due):
                if self._controller is None:
                    self._exit(code)
                elif now_ns >= due:
                    self._kernel.signal(self._controller, "KILL")
                    self._ending = Leaving(code, now_ns + LEAVE_NS)
            case Asked() | Terminating() | Killing():
                pass
            case _:
                assert_never(ending)
        return self._ending.due_ns

    def _ask_to_end(self) -> None:
        """Let the controller go on with the end for a while, and ask whether it lives: silence extends nothing."""
        self._heard = False
        self._tell(PulseAsked())
        self._ending = self._asked(self._ending)

    def _asked(self, former: Ending | None) -> Asked:
        live = frozenset(each.key for each in self._processes.values() if each.is_live)
        return ask_again(former, live, self._longest_grace_ns(), self._kernel.now_ns())

    def _longest_grace_ns(self) -> int:
        """Return how long what lives may take to end."""
        live = [each for each in self._processes.values() if each.is_live]
        return max((each.record.settings.stop_timeout_ns for each in live), default=0)

    def _kill_all(self, code: int) -> None:
        self._ending = Killing(self._kernel.now_ns() + KILL_AGAIN_NS, code)
        self._signal_all("KILL")

    def _live(self) -> list[int]:
        """Return what must be gone before the keeper ends: processes, what they left, and what is nobody's."""
        found = self._orphans.unclaimed()
        for process in self._processes.values():
            if process.is_live:
                found += process.survivors or {process.pid}
        return found

    def _signal_all(self, signal: str) -> None:
        self._orphans.begin_step()
        self._scan()
        with self._kernel.border(f"sending {signal} to processes without a watcher"):
            self._signal_each(self._orphans.unclaimed(), signal)
        for process in list(self._processes.values()):
            if process.is_live:
                with self._kernel.border(f"sending {signal} to {process.record.id}"):
                    self._signal(process, signal, "tree")

    def _leave(self, code: int) -> None:
        """Hang up on the controller, which ends by that, and end."""
        self._ending = Leaving(code, self._kernel.now_ns() + LEAVE_NS)
        with self._kernel.border("closing the control socket"):
            self._flush()
            self._kernel.close_control()
        self._hang_up()
        self._news.clear()
        self._actions.clear()
        if self._controller is None:
            self._exit(code)

    def _exit(self, code: int) -> None:
        for process in self._processes.values():
            if process.output is not None:
                with self._kernel.border(f"leaving the output of {process.record.id}"):
                    process.output.leave()
        self.exit_code = code

    def _close_all(self) -> None:
        """Let go of all that is held, as the next keeper shall find nothing of it."""
        self._signal_each(self._orphans.hidden(), "KILL")
        for id_ in [id_ for id_, process in self._processes.items() if not process.is_live]:
            self._notes.forget(id_)
        for name in list(self._listeners.by_name):
            with self._kernel.border(f"closing socket {name}"):
                self._listeners.unbind(name)
            self._notes.changed(name)
        for process in self._processes.values():
            self._close_output(process)
