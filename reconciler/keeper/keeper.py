"""The state machine: carries out actions, keeps records, tells what became of them; touches no world.

A record is the truth about a process or a socket. All that changes is noted for the next keeper before anybody is
told: a process before it exists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from reconciler.keeper.borders import carrying_out, subject_of
from reconciler.keeper.kernel import (
    CONTROL,
    ChildrenDied,
    ClientWaits,
    Executed,
    FileTouched,
    LinkReadable,
    Spoke,
    Told,
)
from reconciler.keeper.listeners import Listeners
from reconciler.keeper.processes import RETRY_NS, Processes
from reconciler.keeper.shutdown import Asked, Shutdown
from reconciler.keeper.succession.adoption import Inheritance
from reconciler.keeper.succession.notes import Notes
from reconciler.keeper.supervisor import MAX_LOG_NEWS, Supervisor
from reconciler.keeper.upkeep import Upkeep
from reconciler.model.action import (
    Adjust,
    Bind,
    EndOrphans,
    Follow,
    Forget,
    KeeperAction,
    Notify,
    Quit,
    Remember,
    ShutDown,
    Signal,
    Spawn,
    Unbind,
    Upgrade,
)
from reconciler.model.observation import (
    KeeperIntroduced,
    KeeperObservation,
    OrphansChanged,
    RecordChanged,
    RecordForgotten,
    SignalReceived,
    SocketChanged,
    SocketClosed,
    UpgradeFailed,
)
from reconciler.model.process import ProcessId, Starting
from reconciler.model.units import MILLISECOND_NS, SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from reconciler.keeper.kernel import Happening, Kernel
    from reconciler.keeper.records import Process
    from reconciler.keeper.supervisor import Change

TURN_NS: Final = 10 * MILLISECOND_NS
"""How long actions are carried out before output and deaths have their turn."""
UPGRADE_WAIT_NS: Final = 5 * SECOND_NS


class Keeper:
    """Holds processes and sockets for a controller; `step` by `step`, never waiting.

    It begins with all that a former keeper held. `exit_code` is None until it is time to end.
    """

    def __init__(
        self, kernel: Kernel, introduction: KeeperIntroduced, *, watchdog_ns: int | None = None
    ) -> None:
        self._kernel = kernel
        self._introduction = introduction
        self._upgrade: Upgrade | None = None
        self._upgrade_due_ns = 0
        records: dict[ProcessId, Process] = {}
        self._listeners = listeners = Listeners(kernel)
        self._supervisor = Supervisor(kernel, watchdog_ns, self._everything, self._event)
        self._notes = notes = Notes(kernel, records, listeners.by_name, self._supervisor.tell)
        self._upkeep = Upkeep(kernel, listeners, notes.tell)
        self.processes = Processes(
            kernel, records, listeners, self._upkeep, notes, self._supervisor
        )
        self._shutdown = Shutdown(kernel, self.processes, self._supervisor)
        inherited = Inheritance(kernel)
        for listener in inherited.sockets:
            listeners.by_name[listener.record.name] = listener
            notes.changed(listener.record.name)
            self._upkeep.look_soon(listener.record.name)
        self.processes.inherit(inherited)
        notes.write()

    @property
    def exit_code(self) -> int | None:
        """Return with what the keeper is to end, None: not yet."""
        return self._shutdown.exit_code

    def step(self) -> int | None:
        """Answer all that has happened; return when to be called again at the latest, None: never."""
        self.processes.orphans.begin_step()
        for happening in self._kernel.happenings():
            with self._kernel.border("answering what has happened"):
                self._answer(happening)
        self._carry_out()
        dues = [
            self._safely("reaping", self.processes.reap_again),
            self._safely("looking after sockets", self._upkeep.attend),
            self._safely("announcing who has ended", self.processes.announce),
            self._safely("hearing processes", self.processes.notifications.attend),
            self._safely("looking for who goes on", self.processes.find_successors),
            self._safely("naming orphans", self.processes.name_orphans),
            self._safely("ending intruders", self.processes.intruders.expel),
            self._safely("starting the controller", self._start_controller),
            self._safely("ending", self._shutdown.go_on),
            self._kernel.now_ns() if self._supervisor.actions else None,
            self._safely("looking after logs", self._tell_of_logs),
            self._safely("looking after the controller", self._supervisor.check),
            self._safely("writing the journal", self._notes.write),
            self._safely("telling the controller", self._supervisor.flush),
            self._safely("upgrading", self._replace_code),
            self._supervisor.liveness.due_ns,
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
                self._supervisor.hear()
            case Executed(pid):
                self.processes.executed(pid)
            case Spoke(id, incarnation):
                self.processes.notifications.spoke((id, incarnation))
            case ChildrenDied():
                self.processes.reap()
            case Told(meaning):
                self._shutdown.told(meaning)
            case FileTouched():
                self._upkeep.touched()
            case ClientWaits(name) if name == CONTROL:
                self._supervisor.called()
            case ClientWaits(name):
                self._upkeep.client_waits(name)
            case _:
                assert_never(happening)

    # ---- actions ---------------------------------------------------------------------------------

    def _carry_out(self) -> None:
        """Carry out actions in order, for one turn: output, deaths and signals have theirs in between."""
        until = self._kernel.now_ns() + TURN_NS
        actions = self._supervisor.actions
        while actions and self._kernel.now_ns() <= until:
            self._supervisor.has_answered = True
            action = actions.popleft()
            with self._kernel.border(carrying_out(action)) as border:
                self._act(action)
            # The answer to one that could not be carried out is how things are.
            if border.fault is not None and (subject := subject_of(action)) is not None:
                self._notes.tell(subject)

    def _act(self, action: KeeperAction) -> None:
        match action:
            case Spawn():
                self._notes.tell(action.id)
                if self._shutdown.stage is None or isinstance(self._shutdown.stage, Asked):
                    self.processes.spawn(action)
            case Bind(name):
                self._listeners.bind(action, self.processes.by_id.values())
                self._upkeep.look_soon(name)
                self._notes.tell(name)
            case EndOrphans(signal):
                self.processes.signal_orphans(self.processes.orphans.unclaimed(), signal)
            case Unbind(name):
                self._listeners.unbind(name)
                self._notes.tell(name)
            case ShutDown(code, now):
                self._shutdown.begin(SignalReceived("stop_now" if now else "stop", code))
            case Quit(code, leaves):
                self._shutdown.quit(code, leaves=leaves)
            case Upgrade():
                self._upgrade = action
                self._upgrade_due_ns = self._kernel.now_ns() + UPGRADE_WAIT_NS
            case Notify(text):
                self._supervisor.notify(text)
            case Signal() | Remember() | Forget() | Adjust() | Follow():
                self.processes.act_on(action)
            case _:
                assert_never(action)

    # ---- the controller --------------------------------------------------------------------------

    def _start_controller(self) -> int | None:
        return None if self.processes.intruders.are_here else self._supervisor.start()

    def _everything(self) -> Iterable[Change]:
        return (self._introduction, *self.processes.by_id, *self._listeners.by_name)

    def _event(self, change: Change) -> KeeperObservation:
        match change:
            case ProcessId():
                process = self.processes.by_id.get(change)
                return RecordChanged(process.record) if process else RecordForgotten(change)
            case str():
                held = self._listeners.by_name.get(change)
                return SocketChanged(held.record) if held else SocketClosed(change)
            case OrphansChanged():
                return OrphansChanged(self.processes.reported)
            case _:
                return change

    def _tell_of_logs(self) -> None:
        self._supervisor.tell_of_logs(MAX_LOG_NEWS + len(self.processes.by_id))

    # ---- new code ----------------------------------------------------------------------------------

    def _replace_code(self) -> int | None:
        """Become the new code once no process is half-way; return when that is waited for no longer."""
        if self._upgrade is None:
            return None
        records = [each.record for each in self.processes.by_id.values()]
        if self._shutdown.stage is not None:
            cause = "everything is being stopped"
        elif not (
            self.processes.draining
            or self._supervisor.actions
            or any(isinstance(each.phase, Starting) for each in records)
        ):
            cause = self._become(self._upgrade.python)
        elif self._kernel.now_ns() < self._upgrade_due_ns:
            return self._upgrade_due_ns
        else:
            cause = "a process is still starting or ending"
        self._upgrade = None
        self._supervisor.tell(UpgradeFailed(cause))
        self._supervisor.flush()
        return None

    def _become(self, python: str) -> str:
        """Become the code that this interpreter runs; return why that cannot be."""
        held = self._listeners.by_name.values()
        with self._kernel.border("upgrading") as border:
            try:
                entries = self._notes.whole(self.processes.incarnations, self._introduction)
                entries |= self.processes.orphans.handed_on(self._supervisor.pid)
                sockets = [each.socket for each in held if each.socket is not None]
                self._kernel.replace_code(python, entries, sockets)
            except OSError as error:
                return f"cannot execute {python}: {error.strerror}"
        return f"cannot execute {python}: {border.fault}"
