"""What processes say of themselves (sd_notify(3)): whose word counts, and that it stands on their records.

It is put down and told; nothing is decided by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.model.value import replace
from reconciler.notify.hearings import Hearings

if TYPE_CHECKING:
    from reconciler.keeper.kernel import Kernel, NotifySocket
    from reconciler.keeper.orphans import Key, Orphans
    from reconciler.keeper.records import Process
    from reconciler.keeper.succession.notes import Notes
    from reconciler.model.process import Notified
    from reconciler.notify.sockets import Heard

LAST_TURNS: Final = 100
"""So many pieces are read of the socket of one that is dead: others may go on speaking there."""


class Notifications:
    """Hears all processes that have a socket for it."""

    def __init__(self, kernel: Kernel, orphans: Orphans, notes: Notes) -> None:
        self._kernel, self._orphans, self._notes = kernel, orphans, notes
        self._hearings: Hearings[Key] = Hearings()
        self._unanswered: list[NotifySocket] = []
        self._changed: list[Process] = []

    def expect(self, process: Process) -> None:
        """Hear a process from here on."""
        known = self._hearings.known(process.key) or process.record.notified
        if process.notify_socket is not None and known is not None:
            self._hearings.begin(process.key, known, self._kernel.now_ns())

    def spoke(self, key: Key) -> None:
        """Take a piece of what was said on the socket of an incarnation."""
        if (process := self._orphans.held(key)) is not None:
            self._hear(process)

    def attend(self) -> int | None:
        """Find who is late, and tell what has changed; return when to be called again."""
        now_ns = self._kernel.now_ns()
        for key, due_ns in self._hearings.take_silent(now_ns):
            if (process := self._orphans.held(key)) is not None:
                self._hear_all(process)
            self._hearings.look_late(key, due_ns, now_ns)
        for key, notified in self._hearings.take_untold(now_ns):
            if (process := self._orphans.held(key)) is not None:
                process.record = replace(process.record, notified=notified)
                self._notes.tell(process.record.id)
                self._changed.append(process)
        if self._unanswered:
            self._notes.write()
        while self._unanswered:
            self._unanswered.pop().answer()
        return self._hearings.next_ns()

    def take_changed(self) -> list[Process]:
        """Return of whom something new is known since asked last."""
        changed, self._changed = self._changed, []
        return changed

    def ended(self, process: Process) -> Notified | None:
        """Hear the last of a process that has ended, and return what it has said in its life."""
        self._hearings.end(process.key)
        self._hear_all(process)
        return self._hearings.known(process.key) or process.record.notified

    def close(self, process: Process) -> None:
        """Hear nobody on the socket of a process any more."""
        if (socket := process.notify_socket) is not None:
            self._hear_all(process)
            self._hearings.forget(process.key)
            process.notify_socket = None
            with self._kernel.border(f"closing the notify socket of {process.record.id}"):
                socket.close()

    def _hear_all(self, process: Process) -> None:
        for _ in range(LAST_TURNS):
            if not self._hear(process):
                return

    def _hear(self, process: Process) -> bool:
        """Take a piece of what was said; False when there was nothing."""
        socket = process.notify_socket
        heard = [] if socket is None else socket.take()
        for each in heard:
            with self._kernel.border(f"hearing what {process.record.id} says"):
                if self._may_speak(process, each):
                    now_ns = self._kernel.now_ns()
                    self._hearings.note(process.key, each.said, process.pid, now_ns)
        if socket is not None and heard:
            self._unanswered.append(socket)
        return bool(heard)

    def _may_speak(self, process: Process, heard: Heard) -> bool:
        """Tell whether a sender has a say: the process, what it has started, or one that did not outlive its word."""
        if process.user is None:
            process.user = self._kernel.user(process.pid)
        if heard.pid == process.pid:
            return True
        counts = self._orphans.counts(process, heard.pid)
        return heard.is_managers or heard.uid == process.user if counts is None else counts
