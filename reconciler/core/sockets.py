"""What is bound, and who must wait for it.

Another address is bound beside the old one, whose users are rolled over. Another kind of socket at the
same address cannot be: its users are stopped first, then it is closed and bound anew (a handover). Nor can an
address at which processes of ours still listen, by another name or from before an earlier edit: they end first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.core.template import held_name
from reconciler.model.action import Action, Bind, Unbind
from reconciler.model.socket import BindRefused, BindRequested, Bound, Lost, SocketTemplate
from reconciler.model.units import MILLISECOND_NS, SECOND_NS
from reconciler.model.value import Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from reconciler.core.plan import World
    from reconciler.model.process import ProcessId
    from reconciler.model.spec import SocketSpec

FIRST_RETRY_NS: Final = 250 * MILLISECOND_NS
LAST_RETRY_NS: Final = 5 * SECOND_NS


def template_of(spec: SocketSpec) -> SocketTemplate:
    """Return how the keeper shall bind a socket."""
    return SocketTemplate(
        address=spec.listen,
        type=spec.type,
        interface=spec.interface,
        reuseport=spec.reuseport,
        ipv6_only=spec.ipv6_only,
        backlog=spec.backlog,
        nodelay=spec.nodelay,
        keepalive=spec.keepalive,
        mode=spec.mode,
        owner=spec.owner,
        group=spec.group,
        blocking=spec.blocking,
    )


class Waiting(Struct, frozen=True):
    """A socket that a slot cannot have yet: why, and what the slot itself must have bound and when."""

    reason: str
    bind: Bind | None = None
    due_ns: int = 0


def waiting_for(world: World, name: str, slot: int) -> Waiting | None:
    """Return what keeps a slot from having a socket, or None when it is bound as the spec says."""
    spec = world.socket_specs[name]
    held = held_name(name, slot, world.socket_specs)
    template, record = template_of(spec), world.sockets.get(held)
    # With reuseport the slot has a socket of its own, and nobody but its watcher asks for it.
    bind = Bind(held, template) if spec.reuseport else None
    if record is None:
        return Waiting(f"socket {name} is not bound yet", bind, world.now_ns)
    match record.phase:
        case Bound():
            if record.template == template:
                return None
            if record.template.identity == template.identity and not spec.reuseport:
                return None  # the tuning is on its way, and no reason to wait
            return Waiting(f"socket {name} is being bound again", bind, world.now_ns)
        case BindRefused() as refused:
            return Waiting(f"socket {name}: {refused.message}", bind, retry_due_ns(refused))
        case _:
            return Waiting(f"socket {name} is being bound")


def why_waiting(world: World, name: str, slot: int) -> str:
    """Return why a slot waits for a socket; empty when it does not, or would have one of its own at once."""
    waiting = waiting_for(world, name, slot)
    if waiting is None or (waiting.bind is not None and waiting.due_ns <= world.now_ns):
        return ""
    record = world.sockets.get(held_name(name, slot, world.socket_specs))
    is_asked = record is not None and isinstance(record.phase, BindRequested)
    return "" if is_asked and world.socket_specs[name].reuseport else waiting.reason


def retry_due_ns(refused: BindRefused) -> int:
    """Return when a refused address is tried again: soon at first, then every 5 s, for ever."""
    wait = FIRST_RETRY_NS << min(refused.attempts - 1, 8)
    return refused.at_ns + min(LAST_RETRY_NS, wait)


def needs_handover(world: World, name: str) -> bool:
    """Tell whether a socket can be bound only after the users of its predecessor have ended."""
    record = world.sockets.get(name)
    if record is None or record.held is None or not isinstance(record.phase, BindRefused):
        return False
    held, template = record.held, record.template
    if held.identity == template.identity:
        return False  # its file is lost, and somebody else has one in its place
    return held.address == template.address or held.may_exclude(template)


def is_in_the_way(world: World, names: Iterable[str], id: ProcessId) -> bool:
    """Tell whether one of these sockets cannot be bound because this process itself listens there."""
    phases = [record.phase for name in names if (record := world.sockets.get(name))]
    return any(isinstance(phase, BindRefused) and id in phase.held_by for phase in phases)


def holds_former(world: World, names: Iterable[str], started_at_ns: int) -> bool:
    """Tell whether a process is older than the binding of a socket of its: it holds the one before."""
    for name in names:
        record = world.sockets.get(name)
        if record is not None and isinstance(record.phase, Bound):
            if started_at_ns < record.phase.at_ns:
                return True
    return False


def plan_sockets(
    world: World,
    users_alive: Callable[[str], bool],
    is_alive: Callable[[ProcessId], bool],
    is_used: Callable[[str], bool],
) -> tuple[list[Action], int | None]:
    """Return what to bind and what to close now, for the sockets that all slots share.

    Those of one slot are the business of its watcher, unless no watcher uses them any more. With it comes when to look
    again.
    """
    actions: list[Action] = []
    wakes: list[int] = []
    for name, spec in world.socket_specs.items():
        if not spec.reuseport:
            template = template_of(spec)
            _plan_socket(world, name, template, users_alive, is_alive, actions, wakes)
    for name in world.sockets:
        owner, _, slot = name.partition(".")
        spec_now = world.socket_specs.get(owner)
        is_other = spec_now is None or spec_now.reuseport != bool(slot)
        if is_other or (slot and not is_used(owner)):
            actions.append(Unbind(name))
    return actions, min(wakes, default=None)


def _plan_socket(
    world: World,
    name: str,
    template: SocketTemplate,
    users_alive: Callable[[str], bool],
    is_alive: Callable[[ProcessId], bool],
    actions: list[Action],
    wakes: list[int],
) -> None:
    record = world.sockets.get(name)
    is_bound_otherwise = record is not None and record.template != template
    if (
        record is None
        or (isinstance(record.phase, Bound) and is_bound_otherwise)
        or isinstance(record.phase, Lost)
    ):
        actions.append(Bind(name, template))
    elif isinstance(record.phase, BindRefused):
        if record.template != template:
            actions.append(Bind(name, template))
        elif any(map(is_alive, record.phase.held_by)):
            pass  # their end brings us back
        elif needs_handover(world, name):
            if not users_alive(name):
                actions.extend((Unbind(name), Bind(name, template)))
        elif record.phase.held_by or world.now_ns >= retry_due_ns(record.phase):
            actions.append(Bind(name, template))
        else:
            wakes.append(retry_due_ns(record.phase))
