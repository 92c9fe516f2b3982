"""The sockets that the keeper holds: bound, changed, closed. A refusal leaves open what was open."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from reconciler.keeper.borders import as_errno
from reconciler.model.process import LaunchError, ProcessId
from reconciler.model.socket import BindRefused, Bound, SocketRecord, SocketTemplate
from reconciler.model.value import Part, field
from reconciler.sockets.acceptance import Acceptance
from reconciler.sockets.bound import BindFailed, BoundSocket
from reconciler.spawn.launch_errors import LaunchFailed, step

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reconciler.keeper.kernel import Kernel
    from reconciler.keeper.records import Process
    from reconciler.model.action import Bind
    from reconciler.model.observation import SocketRestored


class Care(Part):
    """What is known of a socket beyond its record since it was bound or tuned."""

    due_ns: int | None = None
    """When it is looked at again because of what was seen."""
    awaits: bool = False
    """The kernel tells when the next client waits."""
    acceptance: Acceptance = field(default_factory=Acceptance)
    removed: list[int] = field(default_factory=list)
    """When its file was put back of which nobody was told yet."""
    returns: list[int] = field(default_factory=list)
    ended: tuple[int, ProcessId] | None = None
    """Which user ended last, and when."""
    told: set[SocketRestored] = field(default_factory=set)


class Listener(Part):
    """A socket's record, and what is open for it: `template` is how that was bound, `bound_at_ns` when.

    Both stay what they are while the record tells that another address is refused.
    """

    record: SocketRecord
    socket: BoundSocket | None = None
    template: SocketTemplate | None = None
    bound_at_ns: int = 0
    care: Care = field(default_factory=Care)


class Listeners:
    """All sockets by name, as they are and as they could not be bound."""

    def __init__(self, kernel: Kernel) -> None:
        self.by_name: dict[str, Listener] = {}
        self._kernel = kernel
        self._users: dict[str, list[Process]] = {}

    def hand_over(self, process: Process) -> dict[str, BoundSocket]:
        """Return the sockets of a process about to start, in the state that it expects. Raises `LaunchFailed`."""
        found = {}
        for name in process.sockets:
            held = self.by_name.get(name)
            if held is None or held.socket is None:
                error = LaunchError("sockets", "ENOTCONN", name, f"socket {name} is not bound")
                raise LaunchFailed(error)
            found[name] = held.socket
            if held.template is not None and not self._is_set_by_a_sibling(name, process):
                with step("sockets", name):
                    held.socket.set_blocking(held.template.blocking)
        return found

    def _is_set_by_a_sibling(self, name: str, process: Process) -> bool:
        """Tell whether another process of the same watcher runs that was given the socket in the same state.

        If it has changed that for itself, so will the new one; but to change it back would make a server that
        expects not to wait hang in its next accept(2), with all the clients that it has.
        """
        (now,) = self.templates([name])
        return any(
            each.record.id.owner == process.record.id.owner
            and any(t.identity == now.identity and t.blocking == now.blocking for t in each.listens)
            for each in self.users(name)
        )

    def given(self, process: Process) -> None:
        """Take note of a process that has its sockets now."""
        for name in process.sockets:
            self._users.setdefault(name, []).append(process)

    def users(self, name: str) -> list[Process]:
        """Return the living processes that were given a socket of this name."""
        living = [each for each in self._users.get(name, ()) if each.is_live]
        self._users[name] = living
        return living

    def templates(self, names: Iterable[str]) -> tuple[SocketTemplate, ...]:
        """Return how these sockets are bound, as far as they are."""
        found = [self.by_name[name].template for name in names if name in self.by_name]
        return tuple(template for template in found if template is not None)

    def bind(self, asked: Bind, processes: Iterable[Process]) -> None:
        """Bind a socket or change the one that is there; a refusal leaves open what was open.

        `processes` are those that may be in the way themselves: they have sockets that the keeper has closed.
        """
        refusal: tuple[str, str] | None = None
        with self._kernel.border(f"binding socket {asked.name}") as border:
            try:
                self._bind(asked)
            except BindFailed as failure:
                # It is not kept: with it its frames, and what they have open, would be.
                refusal = failure.errno, failure.message
        if border.fault is not None:
            code, words = as_errno(border.fault)
            refusal = code, f"cannot bind {asked.template.address}: {words}"
        if refusal is not None:
            self._refuse(asked, *refusal, processes)

    def _bind(self, asked: Bind) -> None:
        """Bind or change a socket. Raises `BindFailed`."""
        name, template, owner = asked.name, asked.template, asked.owner
        if owner.problem:
            raise BindFailed("EINVAL", f"cannot bind {template.address}: {owner.problem}")
        held = self.by_name.get(name)
        former = held.socket if held is not None else None
        if held is not None and former is not None and _can_be_tuned(held, former, template):
            former.tune(template, owner)
            socket, bound_at_ns = former, held.bound_at_ns
        else:
            bound_at_ns = self._kernel.now_ns()
            socket = self._kernel.bind(template, owner)
        phase = Bound(socket.listen, bound_at_ns)
        record = SocketRecord(name, template, phase, backlog=self._backlog(socket))
        self.by_name[name] = Listener(record, socket, template, bound_at_ns)
        # Only now that the new one answers: somebody can connect at every instant.
        if former is not None and former is not socket:
            with self._kernel.border(f"closing the former socket {name}"):
                former.close()

    def _backlog(self, socket: BoundSocket) -> int | None:
        with self._kernel.border("asking for a backlog"), suppress(OSError):
            return socket.queue().backlog
        return None

    def _refuse(self, asked: Bind, code: str, message: str, processes: Iterable[Process]) -> None:
        """Write down that a socket is refused; what is open for it stays."""
        name, template = asked.name, asked.template
        held, attempts = self.by_name.get(name), 1
        if held is not None and held.record.template == template:
            before = held.record.phase
            attempts += before.attempts if isinstance(before, BindRefused) else 0
        is_in_use = code == "EADDRINUSE" and not self._is_ours(name, template)
        holders = _holders(template, processes) if is_in_use else ()
        serves = "" if held is None or held.socket is None else held.socket.listen
        phase = BindRefused(code, message, self._kernel.now_ns(), attempts, holders, serves)
        if held is None:
            held = self.by_name[name] = Listener(SocketRecord(name, template, phase))
        held.record = SocketRecord(name, template, phase, held.template)

    def _is_ours(self, name: str, template: SocketTemplate) -> bool:
        """Tell whether another of our sockets is in the way: no process has to end for that one."""
        others = [held.template for other, held in self.by_name.items() if other != name]
        return any(other is not None and other.may_exclude(template) for other in others)

    def unbind(self, name: str) -> None:
        """Close a socket, if there is one."""
        held = self.by_name.pop(name, None)
        if held is not None and held.socket is not None:
            held.socket.close()


def _can_be_tuned(held: Listener, socket: BoundSocket, template: SocketTemplate) -> bool:
    """Tell whether what is open becomes what is asked for; its file is put back where that can be."""
    if held.template is None or held.template.identity != template.identity:
        return False
    try:
        is_found = socket.is_intact() or socket.put_back()
        return is_found and socket.queue().listens
    except OSError:
        return socket.is_intact()  # nobody can say just now


def _holders(template: SocketTemplate, processes: Iterable[Process]) -> tuple[ProcessId, ...]:
    return tuple(
        process.record.id
        for process in processes
        if process.is_live and any(each.may_exclude(template) for each in process.listens)
    )
