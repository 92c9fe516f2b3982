"""Keeps bound sockets as they were bound, whatever those who use them do, and notices when nobody accepts.

Listeners are shared with processes that may do anything to them: remove their file, shut them down, change their
backlog. What can be undone is undone, and told once with the name of who did it. Looked at is a socket when its
file was touched, some seconds after a user was started, when a user has ended, and after a client has come: then
that client must have been accepted some seconds later. A socket at which nothing happens costs nothing.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from reconciler.model.observation import SocketRestored
from reconciler.model.process import ProcessId
from reconciler.model.socket import BindRefused, Bound, Lost, Unaccepted
from reconciler.model.units import SECOND_NS
from reconciler.model.value import replace
from reconciler.sockets.bound import BindFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from reconciler.keeper.kernel import Kernel
    from reconciler.keeper.listeners import Listener, Listeners
    from reconciler.keeper.records import Process
    from reconciler.sockets.bound import Queue

AFTER_START_NS: Final = (0, 2 * SECOND_NS, 10 * SECOND_NS, 60 * SECOND_NS)
"""When a socket is looked at after a user was started: programs set themselves up at their own pace."""
UNACCEPTED_NS: Final = 5 * SECOND_NS
"""How long clients wait before that is told."""
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


@dataclass(slots=True)
class _Care:
    """What is known of a socket beyond its record."""

    due_ns: int | None = None
    """When it is looked at again because of what was seen."""
    awaits: bool = False
    """The kernel tells when the next client waits."""
    waits_since_ns: int | None = None
    """Since when clients wait of whom none is known to have been accepted."""
    waiting: int = 0
    clients: frozenset[int] = frozenset()
    """Those of them who were there at `waits_since_ns` and are still."""
    removed: list[int] = field(default_factory=list)
    """When its file was put back of which nobody was told yet."""
    returns: list[int] = field(default_factory=list)
    ended: tuple[int, ProcessId] | None = None
    """Which user ended last, and when."""
    told: set[SocketRestored] = field(default_factory=set)


class Upkeep:
    """Looks after all sockets. `tell` is given the names of those that changed, and what was undone."""

    def __init__(
        self, kernel: Kernel, listeners: Listeners, tell: Callable[[str | SocketRestored], None]
    ) -> None:
        self._kernel = kernel
        self._listeners = listeners
        self._tell = tell
        self._care: dict[str, _Care] = {}
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
        now_ns = self._kernel.now_ns()
        for name in process.sockets:
            care = self._care_of(name)
            care.ended = (now_ns, process.record.id)
            heapq.heappush(self._dues, (now_ns, name))

    def client_waits(self, name: str) -> None:
        """A client waits at a socket, or it was shut down."""
        self._care_of(name).awaits = False
        self._look(name)

    def touched(self) -> None:
        """Something happened to the file of some socket."""
        for name, held in self._listeners.by_name.items():
            if held.socket is None or isinstance(held.record.phase, Lost):
                continue
            with self._kernel.border(f"looking at the file of socket {name}"):
                if held.socket.is_intact():
                    continue
            self._look(name)

    def rebound(self, name: str) -> None:
        """A socket was bound again, tuned or closed: what was known of it no longer counts."""
        care = self._care.pop(name, None)
        if care is not None and name in self._listeners.by_name:
            heapq.heappush(self._dues, (self._kernel.now_ns(), name))

    def attend(self) -> int | None:
        """Look at the sockets whose time has come; return when the next one's comes."""
        now_ns = self._kernel.now_ns()
        due = set()
        while self._dues and self._dues[0][0] <= now_ns:
            at_ns, name = heapq.heappop(self._dues)
            due.add(name)
            if (care := self._care.get(name)) is not None and care.due_ns == at_ns:
                care.due_ns = None
        for name in sorted(due):
            self._look(name)
        return self._dues[0][0] if self._dues else None

    # ---- looking ---------------------------------------------------------------------------------

    def _care_of(self, name: str) -> _Care:
        return self._care.setdefault(name, _Care())

    def _again(self, name: str, wait_ns: int) -> None:
        care, due_ns = self._care_of(name), self._kernel.now_ns() + wait_ns
        if care.due_ns is None or due_ns < care.due_ns:
            care.due_ns = due_ns
            heapq.heappush(self._dues, (due_ns, name))

    def _look(self, name: str) -> None:
        with self._kernel.border(f"looking at socket {name}") as border:
            self._look_at(name)
        if border.fault is not None:
            self._again(name, LOOK_NS)

    def _look_at(self, name: str) -> None:
        held = self._listeners.by_name.get(name)
        if held is None or held.socket is None or isinstance(held.record.phase, Lost):
            return
        try:
            self._see_to_file(name, held)
            queue = held.socket.queue()
            if self._see_to_options(name, held, queue):
                queue = held.socket.queue()
            self._see_to_clients(name, held, queue)
        except OSError as error:
            self._kernel.log("error", "cannot look at a socket", socket=name, cause=error)
            self._again(name, LOOK_NS)

    def _see_to_file(self, name: str, held: Listener) -> None:
        """Put a file back that was removed, and tell who did it once that is known."""
        assert held.socket is not None
        care, now_ns = self._care_of(name), self._kernel.now_ns()
        if not held.socket.is_intact():
            care.returns = [at for at in care.returns if now_ns - at < RETURNS_NS]
            if len(care.returns) >= MOST_RETURNS and now_ns - care.returns[-1] < LOOK_NS:
                self._again(name, LOOK_NS)
                return
            if not held.socket.put_back():
                self._lose(name, held)
                return
            care.returns.append(now_ns)
            care.removed.append(now_ns)
            self._again(name, CULPRIT_NS)
        for at_ns in list(care.removed):
            ended = care.ended
            by: tuple[ProcessId, ...] = ()
            if ended is not None and abs(ended[0] - at_ns) <= CULPRIT_NS:
                by, care.ended = (ended[1],), None
            elif now_ns - at_ns >= CULPRIT_NS:
                by = self._ending(name)
            else:
                continue
            care.removed.remove(at_ns)
            self._tell(SocketRestored(name, "file", by))

    def _lose(self, name: str, held: Listener, by: tuple[ProcessId, ...] = ()) -> None:
        """Have a socket bound again that no client reaches, unless another one takes its place anyway."""
        if isinstance(held.record.phase, Bound):
            held.record = replace(
                held.record, phase=Lost(self._kernel.now_ns(), by), unaccepted=None
            )
            self._tell(name)

    def _ending(self, name: str) -> tuple[ProcessId, ...]:
        """Return the users that were asked to end."""
        records = [each.record for each in self._listeners.users(name)]
        return tuple(r.id for r in records if r.memory.stopping_since_ns is not None)

    def _suspects(self, name: str) -> tuple[ProcessId, ...]:
        """Return who had a hand on a socket: its users, and one that has just ended."""
        found = [each.record.id for each in self._listeners.users(name)]
        ended = self._care_of(name).ended
        if ended is not None and self._kernel.now_ns() - ended[0] <= CULPRIT_NS:
            found.append(ended[1])
        return tuple(sorted(dict.fromkeys(found), key=str))

    def _see_to_options(self, name: str, held: Listener, queue: Queue) -> bool:
        """Listen again where somebody has shut it down or changed its backlog; True when that was so."""
        assert held.socket is not None
        assert held.template is not None
        record = held.record
        if isinstance(record.phase, Lost):
            return False  # it is bound again in a moment
        is_other = None not in (queue.backlog, record.backlog) and queue.backlog != record.backlog
        if queue.listens and not is_other:
            if record.backlog is None and queue.backlog is not None:
                held.record = replace(record, backlog=queue.backlog)
            return False
        by = self._suspects(name)
        try:
            held.socket.tune(held.template)
        except BindFailed as failure:
            self._kernel.log("error", "cannot restore a socket", socket=name, cause=failure)
            self._again(name, LOOK_NS)
            return False
        found = held.socket.queue()
        if not found.listens:  # a Unix socket that was shut down stays so
            self._lose(name, held, by)
            return False
        listen, phase = held.socket.listen, record.phase  # one whose port was chosen gets another
        if isinstance(phase, Bound):
            phase = replace(phase, listen=listen)
        elif isinstance(phase, BindRefused):
            phase = replace(phase, serves=listen)
        held.record = replace(record, phase=phase, backlog=found.backlog)
        self._tell(name)
        restored = (
            SocketRestored(name, "backlog", by, queue.backlog)
            if queue.listens
            else SocketRestored(name, "listening", by)
        )
        told = self._care_of(name).told
        if restored not in told and len(told) < MOST_TOLD:  # servers do so at each of their starts
            told.add(restored)
            self._tell(restored)
        return True

    def _see_to_clients(self, name: str, held: Listener, queue: Queue) -> None:
        """Notice when a client is not accepted, and when that is over.

        That some wait says nothing: others may. So once their number has not fallen for a while, it is seen who they
        are, and whether one of the same is still there later.
        """
        if held.socket is None or not queue.waiting or not self._listeners.users(name):
            self._served(name, held, is_empty=True, may_wait=queue.waiting is not None)
            return
        care, now_ns = self._care_of(name), self._kernel.now_ns()
        if care.waits_since_ns is None:
            care.waits_since_ns, care.waiting = now_ns, queue.waiting
            self._again(name, LOOK_NS)
        elif not care.clients:
            if now_ns - care.waits_since_ns < LOOK_NS:
                self._again(name, LOOK_NS)
            elif queue.waiting < care.waiting:
                self._served(name, held)
            else:
                care.clients, care.waits_since_ns = held.socket.clients(), now_ns
                self._again(name, UNACCEPTED_NS)
        else:
            care.clients &= held.socket.clients()
            if not care.clients:
                self._served(name, held)
                return
            if now_ns - care.waits_since_ns >= UNACCEPTED_NS:
                self._note(name, held, Unaccepted(queue.waiting, care.waits_since_ns))
            self._again(name, UNACCEPTED_NS)

    def _served(
        self, name: str, held: Listener, *, is_empty: bool = False, may_wait: bool = True
    ) -> None:
        """Nobody is known to wait in vain: the next client tells of itself, after a while if one has just come."""
        care = self._care_of(name)
        was_waiting, care.waits_since_ns, care.clients = (
            care.waits_since_ns is not None,
            None,
            frozenset(),
        )
        self._note(name, held, None)
        if held.socket is None or not may_wait or not self._listeners.users(name):
            return
        if was_waiting or not is_empty:
            self._again(name, REST_NS)
        elif not care.awaits:
            self._kernel.await_client(name, held.socket)
            care.awaits = True

    def _note(self, name: str, held: Listener, unaccepted: Unaccepted | None) -> None:
        if held.record.unaccepted != unaccepted:
            held.record = replace(held.record, unaccepted=unaccepted)
            self._tell(name)
