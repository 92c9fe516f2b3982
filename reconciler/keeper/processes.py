"""The processes that are held: started, signalled, reaped, announced when they have ended, and forgotten.

    spawned --executed--> Running --reaped, then drained--> Exited --Forget--> gone

A pid is used only while the keeper has not reaped it: nobody else can have it then. Processes that a dead
leader leaves behind become children of the keeper (it is their subreaper), so theirs are as safe. Those
that a former keeper started are adopted, and the kernel layer sees to it that their pids mean them.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, assert_never

from reconciler.keeper.borders import as_errno
from reconciler.keeper.notifications import Notifications
from reconciler.keeper.orphans import Orphans
from reconciler.keeper.records import Process
from reconciler.keeper.succession.adoption import Intruders
from reconciler.keeper.succession.notes import INCARNATIONS, STRANGERS
from reconciler.keeper.successors import Successors
from reconciler.model.action import Adjust, Follow, Forget, Remember, Signal
from reconciler.model.observation import OrphansChanged
from reconciler.model.process import (
    Exit,
    Exited,
    LaunchError,
    Notified,
    ProcessId,
    ProcessRecord,
    Running,
    Starting,
)
from reconciler.model.units import MILLISECOND_NS, SECOND_NS
from reconciler.model.value import replace
from reconciler.spawn.launch_errors import LaunchFailed

if TYPE_CHECKING:
    from reconciler.keeper.kernel import Child, Kernel
    from reconciler.keeper.listeners import Listeners
    from reconciler.keeper.orphans import Key
    from reconciler.keeper.succession.adoption import Inheritance
    from reconciler.keeper.succession.notes import Notes
    from reconciler.keeper.supervisor import Supervisor
    from reconciler.keeper.upkeep import Upkeep
    from reconciler.model.action import Spawn
    from reconciler.model.process import Orphan, Reach, Survivor
    from reconciler.system.facts import Died

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


class Processes:
    """All processes by their ids, and what they have left behind."""

    def __init__(
        self,
        kernel: Kernel,
        by_id: dict[ProcessId, Process],
        listeners: Listeners,
        upkeep: Upkeep,
        notes: Notes,
        supervisor: Supervisor,
    ) -> None:
        self.by_id = by_id
        self.draining: deque[Process] = deque()
        """Those that are dead and not announced yet."""
        self.incarnations = 0
        self.intruders = Intruders(kernel, set())
        self.reported: tuple[Orphan, ...] = ()
        """The orphans of which the controller is told."""
        self._kernel = kernel
        self._by_pid: dict[int, Process] = {}
        """Those that live."""
        self.orphans = Orphans(kernel, by_id, self._by_pid)
        self._listeners, self._upkeep = listeners, upkeep
        self._notes = notes
        self.notifications = Notifications(kernel, self.orphans, notes)
        self._successors = Successors(kernel, self.orphans)
        self._supervisor = supervisor
        self._abroad: set[ProcessId] = set()
        """Dead ones whose remnants become the children of somebody else."""
        self._is_blind = True
        self._reap_due_ns: int | None = None

    def inherit(self, inherited: Inheritance) -> None:
        """Hold again what a former keeper held, and ask what must not be here to go."""
        self.incarnations = inherited.incarnations
        self.orphans.spare(inherited.others)
        # Not yet how far we shall count from: should we die too, the next one must still know the intruders.
        self._kernel.note(INCARNATIONS, inherited.noted)
        for process in inherited.processes:
            self.by_id[process.record.id] = process
            self._upkeep.started(process)
            self.notifications.expect(process)
            # The number of one that is dead and left nobody in its session may be anybody's by now.
            in_session = process.died is None or process.pid in inherited.sessions
            self.orphans.expect(process, in_session=in_session)
            if process.died is None:
                self._by_pid[process.pid] = process
            elif not isinstance(process.record.phase, Exited):
                self.draining.append(process)
            self._notes.changed(process.record.id)
        for pid, stranger in inherited.strangers.items():
            with self._kernel.border(f"taking over process {pid}", OSError):
                self.orphans.take(pid, stranger)
        self._scan(*self.draining)
        for process in inherited.processes:
            if process.died is not None:
                self._update_survivors(process)
        self.intruders = Intruders(self._kernel, inherited.intruders)

    # ---- actions ---------------------------------------------------------------------------------

    def spawn(self, action: Spawn) -> None:
        """Start a process in the place of one that has ended; refused while one is there that has not."""
        former = self.by_id.get(action.id)
        if former is not None:
            is_dead = isinstance(former.record.phase, Exited)
            if not is_dead or former.record.incarnation != action.replaces:
                return  # the answer is the record that is there
            self._forget(former)
        self.incarnations += 1
        now_ns, launch = self._kernel.now_ns(), action.launch
        record = ProcessRecord(
            action.id,
            self.incarnations,
            action.template_hash,
            action.memory,
            Starting(0, now_ns),
            launch.settings,
            Notified(launch.watchdog_ns) if launch.notify else None,
        )
        uses = (*launch.sockets, launch.stdin_socket) if launch.stdin_socket else launch.sockets
        process = Process(record, uses, self._listeners.templates(uses))
        self.by_id[action.id] = process
        child, error = None, None
        with self._kernel.border(f"starting {action.id}") as border:
            self._kernel.note(INCARNATIONS, self.incarnations)
            self._notes.write()
            try:
                sockets = self._listeners.hand_over(process)
                child = self._kernel.spawn(action.id, self.incarnations, launch, sockets)
            except LaunchFailed as failure:
                error = failure.error
        if child is not None:
            self._started(process, child, now_ns)
            return
        name, message = as_errno(border.fault)
        error = error or LaunchError("launch", name, message=message)
        phase = Exited(self._kernel.now_ns(), Exit(error=error))
        process.record = replace(record, phase=phase)
        self._notes.changed(action.id)

    def _started(self, process: Process, child: Child, now_ns: int) -> None:
        adopted = self._by_pid.get(child.pid)
        process.pid, process.born, process.session = child.pid, child.born, child.pid
        process.output, process.notify_socket = child.output, child.notify_socket
        self._upkeep.started(process)
        self.notifications.expect(process)
        phase = Running(child.pid, now_ns) if child.executed else Starting(child.pid, now_ns)
        settings = replace(process.record.settings, group_limits=child.group_limits)
        process.record = replace(process.record, phase=phase, settings=settings)
        self._by_pid[child.pid] = process
        self.orphans.expect(process)
        # At once: a program may make its marker unreadable by the time that somebody looks for it.
        self._notes.changed(process.record.id)
        self._notes.write()
        if child.former is not None:  # an adopted one had the number before
            if adopted is not None:
                self._died(adopted, child.former)
            self.orphans.died(child.pid)
            self.orphans.begin_step()
            # It may have been the last of what a dead one had left.
            self._scan(*(() if adopted is None else (adopted,)))

    def act_on(self, action: Signal | Remember | Forget | Adjust | Follow) -> None:
        """Carry out what is asked for an incarnation; the answer to one for another is what is there."""
        process = self.orphans.held((action.id, action.incarnation))
        if process is None:
            self._notes.tell(action.id)
            return
        match action:
            case Signal():
                self._signal(process, action.signal, action.scope)
            case Remember():
                process.record = replace(process.record, memory=action.memory)
                self._notes.changed(action.id)
            case Forget():
                if isinstance(process.record.phase, Exited):
                    self._forget(process)
                self._notes.tell(action.id)
            case Adjust(settings=settings):
                limits, former = settings.group_limits, process.record.settings.group_limits
                if process.died is None and limits != former:
                    taken = self._kernel.limit(process.pid, limits, former)
                    settings = replace(settings, group_limits=taken)
                if (cause := process.adjust(settings)) is not None:
                    self._kernel.log("error", "cannot redirect", id=action.id, cause=cause)
                if process.died is not None:
                    self._update_survivors(process)  # another scope may count
                self._notes.tell(action.id)
            case Follow():
                self._follow(process, action.pid)
                self._notes.tell(action.id)
            case _:
                assert_never(action)

    def _follow(self, process: Process, pid: int) -> None:
        """Let a record go on with one of those that its process has left behind."""
        phase, born = process.record.phase, self.orphans.descendants(process).get(pid)
        if not isinstance(phase, Exited) or born is None:
            return
        kind = self._kernel.adopt(pid, born)
        if kind == "gone" or (identity := self._kernel.identify(pid)) is None:
            return
        self.orphans.died(pid)  # it is no stranger any more
        process.pid, process.born, process.session = pid, born, identity.session
        process.adopted, process.died, process.survivors = kind != "child", None, set()
        process.record = replace(process.record, phase=phase.goes_on_as(pid))
        self._by_pid[pid] = process
        self.orphans.expect(process)
        self.notifications.expect(process)
        self._notes.changed(process.record.id)
        self._notes.write()

    def _forget(self, process: Process) -> None:
        id_ = process.record.id
        self._close_output(process)
        del self.by_id[id_]
        self._abroad.discard(id_)
        self.orphans.forget(process)
        self._report_orphans()

    def signal_orphans(self, pids: list[int], signal: str) -> None:
        """Signal these strangers, each with all that is below it."""
        for pid in pids:
            self._kernel.signal_tree(pid, [pid], signal)

    def _signal(self, process: Process, signal: str, reach: Reach) -> None:
        """Send a signal; one that asks to end wakes who is stopped, or it could not notice (signal(7))."""
        if reach == "tree" or process.died is not None:
            self._scan()
        with self._kernel.border(f"looking at what is below {process.record.id}"):
            self.orphans.see_below(process)
        if process.died is None and not process.pid:
            return
        wakes = signal == process.record.settings.stop_signal and signal not in WAKING
        roots = [process.pid, *self.orphans.of(process)]
        if process.died is not None:
            roots = sorted(process.survivors)
        for each in (signal, "CONT") if wakes else (signal,):
            if process.died is None and reach != "tree":
                self._kernel.signal(process.pid, each, reach)
            else:
                process.killed = process.killed or each == "KILL"
                self._kernel.signal_tree(process.pid, roots, each)

    # ---- lives and deaths ------------------------------------------------------------------------

    def executed(self, pid: int) -> None:
        """Take note that the program of a process runs."""
        process = self._by_pid.get(pid)
        if process is not None and isinstance(process.record.phase, Starting):
            running = Running(pid, process.record.phase.at_ns)
            process.record = replace(process.record, phase=running)
            self._notes.tell(process.record.id)

    def reap_again(self) -> int | None:
        """Go on with what could not be reaped; return when to."""
        if self._reap_due_ns is not None and self._kernel.now_ns() >= self._reap_due_ns:
            self.reap()
        return self._reap_due_ns

    def reap(self) -> None:
        """Take leave of all children that have died, and see what they leave behind."""
        is_stranger_dead = False
        controller: Exit | None = None
        dead: list[Process] = []
        with self._kernel.border("learning who has ended") as border:
            while (died := self._kernel.reap()) is not None:
                process = self._by_pid.pop(died.pid, None)
                # The controller comes last: it may have the number of an adopted one whose death is told only now.
                if process is not None:
                    dead.append(process)
                    self._died(process, died)
                elif self.orphans.died(died.pid):
                    is_stranger_dead = True
                elif died.pid == self._supervisor.pid:
                    controller = died.exit
                self.intruders.died(died.pid)
        self._reap_due_ns = self._kernel.now_ns() + RETRY_NS if border.fault is not None else None
        self.orphans.begin_step()
        if dead or is_stranger_dead:
            self._scan(*dead)
        if controller is not None:
            self._supervisor.died(controller)

    def _died(self, process: Process, died: Died) -> None:
        process.died, process.died_at_ns = died, self._kernel.now_ns()
        # It may wait for its last output, and we may not live to tell.
        self._notes.changed(process.record.id)
        self._upkeep.ended(process)
        self.draining.append(process)

    def announce(self) -> int | None:
        """Announce the dead whose output is complete; return when to look at the others again."""
        if self._is_unsure() and self.draining:
            self._scan(*self.draining)
        until_ns = self._kernel.now_ns() + DRAIN_TURN_NS
        untried = len(self.draining)
        while untried and self._kernel.now_ns() <= until_ns:
            untried -= 1
            process = self.draining.popleft()
            in_time = self._kernel.now_ns() < process.died_at_ns + DRAIN_LIMIT_NS
            if in_time and (self._is_unsure() or not self._is_drained(process)):
                self.draining.append(process)  # who has had no turn is before it
            else:
                self._announce_end(process)
        wait = UNSURE_NS if self._is_unsure() and not untried else 0
        return self._kernel.now_ns() + wait if self.draining else None

    def _announce_end(self, process: Process) -> None:
        died = process.died
        assert died is not None
        # Without a pid it was about to be when the former keeper died, and cannot be found.
        ran = process.pid and died.exit.error is None
        process.record = replace(process.record, notified=self.notifications.ended(process))
        exited = Exited(
            process.died_at_ns,
            died.exit,
            died.pid if ran else None,
            process.since_ns if ran else None,
            self.orphans.named(process.survivors),
            self._tail(process),
            died.cpu_ns,
            died.max_rss_bytes,
            self.orphans.survivors(process)[1],
        )
        exited = replace(exited, successor=self._successors.of(process))
        process.record = replace(process.record, phase=exited)
        if not process.survivors:
            self._close_output(process)
            self.orphans.forget_session(process)
        self._notes.tell(process.record.id)

    # ---- what they leave behind ------------------------------------------------------------------

    def _scan(self, *dead: Process) -> None:
        """Find out what those that have died left behind, and whose all others are that we did not start."""
        with self._kernel.border("looking for what processes have left behind") as border:
            adopted = self._is_blind or bool(self._abroad) or any(each.adopted for each in dead)
            self.orphans.scan(dead, self._supervisor.pid, adopted=adopted)
            for process in dead:
                self._update_survivors(process)
            self._update_owners()
        # What was not found now may be there: whoever has ended is announced after another look.
        self._is_blind = border.fault is not None

    def _is_unsure(self) -> bool:
        return self._is_blind or bool(self.orphans.unreadable)

    def name_orphans(self) -> int | None:
        """Learn by what names new orphans go; return when to ask again."""
        if self.orphans.look_due():
            self._scan()
        due_ns = self.orphans.name_again()
        self._update_owners()
        return due_ns

    def _update_owners(self) -> None:
        for owner in self.orphans.take_changed():
            if owner.died is not None:
                self._update_survivors(owner)
        self._report_orphans()

    def find_successors(self) -> int | None:
        """See who goes on for those whose successor is not known yet; return when to look again."""
        for process in (*self._successors.take_due(), *self.notifications.take_changed()):
            self._update_exited(process, self.orphans.survivors(process)[1])
        return self._successors.next_ns()

    def _report_orphans(self) -> None:
        """Tell of the orphans that belong to no record when they are others than before."""
        if not self.orphans.has_changed:
            return
        self.orphans.has_changed = False
        self._kernel.note(STRANGERS, self.orphans.written() or None)
        if (reported := self.orphans.reported()) != self.reported:
            self.reported = reported
            self._notes.tell(OrphansChanged())

    def _update_survivors(self, process: Process) -> None:
        remains, left = self.orphans.survivors(process)
        new = remains - process.survivors
        process.survivors = remains
        self._abroad.discard(process.record.id)
        if remains and process.adopted:
            self._abroad.add(process.record.id)
        if new and process.killed:
            self._kernel.signal_tree(process.pid, sorted(new), "KILL")
        self._update_exited(process, left)

    def _update_exited(self, process: Process, left: tuple[Survivor, ...]) -> None:
        """Tell what is left of a dead process where that has changed."""
        phase, remains = process.record.phase, process.survivors
        if not isinstance(phase, Exited):
            return
        survivors, successor = self.orphans.named(remains), self._successors.of(process)
        new = replace(phase, survivors=survivors, left=left, successor=successor)
        if phase != new:
            process.record = replace(process.record, phase=new)
            if not remains:
                self.orphans.forget_session(process)
                self._close_output(process)
            self._notes.tell(process.record.id)

    # ---- their output ----------------------------------------------------------------------------

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
        """Let go of the output of a process, and of what it says of itself, whatever comes of it."""
        self.notifications.close(process)
        output, process.output = process.output, None
        if output is not None:
            with self._kernel.border(f"closing the output of {process.record.id}"):
                output.close()

    # ---- the end ---------------------------------------------------------------------------------

    def live(self) -> list[int]:
        """Return what must be gone before the keeper ends: processes, what they left, and what is nobody's."""
        found = self.orphans.unclaimed()
        for process in self._alive():
            found += process.survivors or {process.pid}
        return found

    def live_keys(self) -> frozenset[Key]:
        """Return which incarnations live, or something of theirs."""
        return frozenset(each.key for each in self._alive())

    def longest_grace_ns(self) -> int:
        """Return how long what lives may take to end."""
        graces = (each.record.settings.stop_timeout_ns for each in self._alive())
        return max(graces, default=0)

    def extended_until_ns(self) -> int:
        """Return until when somebody who lives has asked not to be given up, 0: nobody has."""
        notified = (each.record.notified for each in self._alive())
        return max(((each and each.extended_until_ns) or 0 for each in notified), default=0)

    def _alive(self) -> list[Process]:
        return [each for each in self.by_id.values() if each.is_live]

    def signal_all(self, signal: str) -> None:
        """Signal all that lives, whosever it is."""
        self.orphans.begin_step()
        self._scan()
        with self._kernel.border(f"sending {signal} to processes without a watcher"):
            self.signal_orphans(self.orphans.unclaimed(), signal)
        for process in list(self.by_id.values()):
            if process.is_live:
                with self._kernel.border(f"sending {signal} to {process.record.id}"):
                    self._signal(process, signal, "tree")

    def leave_outputs(self) -> None:
        """Let the next keeper read on."""
        for process in self.by_id.values():
            if process.output is not None:
                with self._kernel.border(f"leaving the output of {process.record.id}"):
                    process.output.leave()

    def close_all(self) -> None:
        """Let go of everything, so that the next keeper finds nothing."""
        self.signal_orphans(self.orphans.hidden(), "KILL")
        for id_ in [id_ for id_, process in self.by_id.items() if not process.is_live]:
            self._notes.forget(id_)
        for name in list(self._listeners.by_name):
            with self._kernel.border(f"closing socket {name}"):
                self._listeners.unbind(name)
            self._notes.changed(name)
        for process in self.by_id.values():
            self._close_output(process)
