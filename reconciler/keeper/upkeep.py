"""Keeps bound sockets as they were bound, whatever those who use them do, and notices when nobody accepts.

Listeners are shared with processes that may do anything to them: remove their file, shut them down, change their
backlog. What can be undone is undone, and told once with the name of who did it. Looked at is a socket when its
file was touched, some seconds after a user was started, when a user has ended, and after a client has come: then
that client must have been accepted some seconds later, or is told of while nobody lives who could accept it. A socket
at which nothing happens costs nothing.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

from reconciler.model.observation import SocketRestored
from reconciler.model.socket import BindRefused, Bound, Lost
from reconciler.model.units import SECOND_NS
from reconciler.model.value import replace
from reconciler.sockets.bound import BindFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from reconciler.keeper.kernel import Kernel
    from reconciler.keeper.listeners import Listener, Listeners
    from reconciler.keeper.records import Process
    from reconciler.model.process import ProcessId, ProcessRecord
    from reconciler.sockets.bound import BoundSocket, Queue

AFTER_START_NS: Final = (0, 2 * SECOND_NS, 10 * SECOND_NS, 60 * SECOND_NS)
"""When a socket is looked at after a user was started: programs set themselves up at their own pace."""
LOOK_NS: Final = SECOND_NS
"""When to look again at what has just been seen, or could not be."""
REST_NS: Final = 5 * SECOND_NS
"""How often a client may wake the keeper at most."""
CULPRIT_NS: Final = SECOND_NS
"""Within this time of the removal of a file ends the process that did it, if its end is why."""
MOST_RETURNS: Final = 20
"""So often within `RETURNS_NS` a file is put back at once; then a second apart."""
RETURNS_NS: Final = 10 * SECOND_NS
MOST_TOLD: Final = 100
"""So many different repairs of one socket are told, each once."""


class Upkeep:
    """Looks after all sockets. `tell` is given the names of those that changed, and what was undone."""

    def __init__(
        self, kernel: Kernel, listeners: Listeners, tell: Callable[[str | SocketRestored], None]
    ) -> None:
        self._kernel = kernel
        self._listeners = listeners
        self._tell = tell
        self._dues: list[tuple[int, str]] = []

    # ---- what happens ----------------------------------------------------------------------------

    def started(self, process: Process) -> None:
        """A process has its sockets now."""
        self._listeners.given(process)
        now_ns = self._kernel.now_ns()
        for name in process.sockets:
            for wait_ns in AFTER_START_NS:
                heapq.heappush(self._dues, (now_ns + wait_ns, name))

    def ended(self, process: Process) -> None:
        """A process is dead; what it did to its sockets on its way shows now."""
        for name in process.sockets:
            if (held := self._listeners.by_name.get(name)) is not None:
                held.care.ended = (self._kernel.now_ns(), process.record.id)
                self.look_soon(name)

    def client_waits(self, name: str) -> None:
        """A client waits at a socket, or it was shut down."""
        if (held := self._listeners.by_name.get(name)) is not None:
            held.care.awaits = False
            self._look(name)

    def touched(self) -> None:
        """Something happened to the file of some socket."""
        for name, held in self._listeners.by_name.items():
            with self._kernel.border(f"looking at the file of socket {name}"):
                if held.socket is None or held.socket.is_intact():
                    continue
            self._look(name)

    def look_soon(self, name: str) -> None:
        """A socket was bound, tuned or taken over, or a user of it has ended."""
        heapq.heappush(self._dues, (self._kernel.now_ns(), name))

    def attend(self) -> int | None:
        """Look at the sockets whose time has come; return when the next one's comes."""
        now_ns = self._kernel.now_ns()
        due = set()
        while self._dues and self._dues[0][0] <= now_ns:
            due.add(heapq.heappop(self._dues)[1])
        for name in sorted(due):
            self._look(name)
        return self._dues[0][0] if self._dues else None

    # ---- looking ---------------------------------------------------------------------------------

    def _again(self, held: Listener, wait_ns: int) -> None:
        now_ns = self._kernel.now_ns()
        known_ns, due_ns = held.care.due_ns, now_ns + wait_ns
        if known_ns is None or known_ns <= now_ns or due_ns < known_ns:
            held.care.due_ns = due_ns
            heapq.heappush(self._dues, (due_ns, held.record.name))

    def _look(self, name: str) -> None:
        held = self._listeners.by_name.get(name)
        if held is None or held.socket is None or isinstance(held.record.phase, Lost):
            return
        with self._kernel.border(f"looking at socket {name}"):
            try:
                self._see_to_file(held, held.socket)
                queue = held.socket.queue()
                if self._see_to_options(held, held.socket, queue):
                    queue = held.socket.queue()
                self._see_to_clients(held, held.socket, queue)
            except OSError as error:
                self._kernel.log("error", "cannot look at a socket", socket=name, cause=error)
            else:
                return
        self._again(held, LOOK_NS)

    def _see_to_file(self, held: Listener, socket: BoundSocket) -> None:
        """Put a file back that was removed, and tell who did it once that is known."""
        care, now_ns = held.care, self._kernel.now_ns()
        if not socket.is_intact():
            care.returns = [at for at in care.returns if now_ns - at < RETURNS_NS]
            if len(care.returns) >= MOST_RETURNS and now_ns - care.returns[-1] < LOOK_NS:
                self._again(held, LOOK_NS)
                return
            if not socket.put_back():
                self._lose(held)
                return
            care.returns.append(now_ns)
            care.removed.append(now_ns)
            self._again(held, CULPRIT_NS)
        by: tuple[ProcessId, ...]
        for at_ns in list(care.removed):
            if care.ended is not None and abs(care.ended[0] - at_ns) <= CULPRIT_NS:
                by, care.ended = (care.ended[1],), None
            elif now_ns - at_ns >= CULPRIT_NS:
                by = self._ending(held)
            else:
                continue
            care.removed.remove(at_ns)
            self._tell(SocketRestored(held.record.name, "file", by))

    def _lose(self, held: Listener, by: tuple[ProcessId, ...] = ()) -> None:
        """Have a socket bound again that no client reaches, unless another one takes its place anyway."""
        if isinstance(held.record.phase, Bound):
            phase = Lost(self._kernel.now_ns(), by)
            held.record = replace(held.record, phase=phase, unaccepted=None)
            self._tell(held.record.name)

    def _users(self, held: Listener) -> list[ProcessRecord]:
        return [each.record for each in self._listeners.users(held.record.name)]

    def _ending(self, held: Listener) -> tuple[ProcessId, ...]:
        """Return the users that were asked to end."""
        return tuple(r.id for r in self._users(held) if r.memory.stopping_since_ns is not None)

    def _suspects(self, held: Listener) -> tuple[ProcessId, ...]:
        """Return who had a hand on a socket: its users, and one that has just ended."""
        found, ended = {each.id for each in self._users(held)}, held.care.ended
        if ended is not None and self._kernel.now_ns() - ended[0] <= CULPRIT_NS:
            found.add(ended[1])
        return tuple(sorted(found, key=str))

    def _see_to_options(self, held: Listener, socket: BoundSocket, queue: Queue) -> bool:
        """Listen again where somebody has shut it down or changed its backlog; True when that was so."""
        record, phase = held.record, held.record.phase
        if isinstance(phase, Lost):
            return False  # it is bound again in a moment
        is_other = None not in (queue.backlog, record.backlog) and queue.backlog != record.backlog
        if queue.listens and not is_other:
            if record.backlog is None and queue.backlog is not None:
                held.record = replace(record, backlog=queue.backlog)
            return False
        by = self._suspects(held)
        assert held.template is not None
        try:
            socket.tune(held.template)
        except BindFailed as failure:
            self._kernel.log("error", "cannot restore a socket", socket=record.name, cause=failure)
            self._again(held, LOOK_NS)
            return False
        found = socket.queue()
        if not found.listens:  # a Unix socket that was shut down stays so
            self._lose(held, by)
            return False
        if isinstance(phase, Bound):  # one whose port was chosen gets another
            phase = replace(phase, listen=socket.listen)
        elif isinstance(phase, BindRefused):
            phase = replace(phase, serves=socket.listen)
        held.record = replace(record, phase=phase, backlog=found.backlog)
        self._tell(record.name)
        restored = SocketRestored(record.name, "listening", by)
        if queue.listens:
            restored = SocketRestored(record.name, "backlog", by, queue.backlog)
        told = held.care.told
        if restored not in told and len(told) < MOST_TOLD:  # servers do so at each of their starts
            told.add(restored)
            self._tell(restored)
        return True

    def _see_to_clients(self, held: Listener, socket: BoundSocket, queue: Queue) -> None:
        """Notice when a client is not accepted or comes to nobody; when that is over, the next one tells of itself."""
        care, users = held.care, self._users(held)
        had_waited = care.acceptance.since_ns is not None
        waiting = queue.waiting if users else None
        again_ns = care.acceptance.look(self._kernel.now_ns(), waiting, socket.clients)
        record, unaccepted, since_ns = held.record, care.acceptance.unaccepted, None
        if queue.waiting and not users:
            since_ns = record.client_since_ns or self._kernel.now_ns()
        if (record.unaccepted, record.client_since_ns) != (unaccepted, since_ns):
            held.record = replace(record, unaccepted=unaccepted, client_since_ns=since_ns)
            self._tell(record.name)
        if again_ns is None and queue.waiting is not None and since_ns is None:
            if had_waited:
                again_ns = REST_NS
            elif not care.awaits:
                self._kernel.await_client(held.record.name, socket)
                care.awaits = True
        if again_ns is not None:
            self._again(held, again_ns)
