"""What is bound, and who must wait for it.

Another address is bound beside the old one, whose users are rolled over. Another kind of socket at the
same address cannot be: its users are stopped first, then it is closed and bound anew (a handover). Nor can an
address at which processes of ours still listen, by another name or from before an earlier edit: they end first.
A socket that a slot has for itself (reuseport) is bound last before its start, and closed after its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from reconciler.core.backoff import doubled_ns
from reconciler.core.plan import WHOLE, Plan, World
from reconciler.core.slots import BEING_STARTED, SlotCondition, is_gone
from reconciler.core.template import held_name, sockets_of
from reconciler.model.action import Action, Bind, Spawn, Unbind
from reconciler.model.process import ProcessId
from reconciler.model.socket import BindRefused, Bound, Lost, SocketRecord, SocketTemplate
from reconciler.model.spec import SocketSpec
from reconciler.model.units import MILLISECOND_NS, SECOND_NS
from reconciler.model.value import Struct

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


def waiting_for_shared(plan: Plan) -> Waiting | None:
    """Return what keeps the slots of a watcher from having a socket that they share with others."""
    specs = plan.world.socket_specs
    shared = (name for name in sockets_of(plan.spec) if not specs[name].reuseport)
    found = (waiting_for(plan.world, name, WHOLE) for name in shared)
    return next(filter(None, found), None)


def retry_due_ns(refused: BindRefused) -> int:
    """Return when a refused address is tried again: soon at first, then every 5 s, for ever."""
    return refused.at_ns + doubled_ns(FIRST_RETRY_NS, LAST_RETRY_NS, refused.attempts)


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


def kept_back(world: World, names: Iterable[str], id: ProcessId) -> set[str]:
    """Return the watchers that may wait until this process has ended, which has these sockets: for one that it keeps.

    They use a socket that cannot be bound before, of these or of an earlier spec, or wait for one that does.
    """
    kept = {name for name in names if needs_handover(world, name)}
    kept |= {name for name in world.holders.get(id, ()) if is_in_the_way(world, [name], id)}
    if not kept:
        return kept
    users = {user for name in kept for user in world.users.get(name.partition(".")[0], ())}
    return users | world.graph.all_dependents(users)


def holds_former(world: World, names: Iterable[str], started_at_ns: int) -> bool:
    """Tell whether a process is older than the binding of a socket of its: it holds the one before."""
    phases = [record.phase for name in names if (record := world.sockets.get(name))]
    return any(isinstance(phase, Bound) and started_at_ns < phase.at_ns for phase in phases)


def plan_socket(
    world: World,
    name: str,
    users_alive: Callable[[str], bool],
    is_alive: Callable[[ProcessId], bool],
    is_used: Callable[[str], bool],
) -> tuple[list[Action], int | None]:
    """Return what to do about a socket that is wanted or held, and when to look again though nothing changes.

    Those of one slot are the business of its watcher, unless no watcher uses them any more.
    """
    owner, _, slot = name.partition(".")
    spec, record = world.socket_specs.get(owner), world.sockets.get(name)
    if spec is None or spec.reuseport != bool(slot) or (slot and not is_used(owner)):
        return [Unbind(name)] if record is not None else [], None
    template = template_of(spec)
    bind = Bind(name, template)
    if slot:
        return [], None
    if record is None or isinstance(record.phase, Lost):
        return [bind], None
    if not isinstance(record.phase, BindRefused):
        is_other = isinstance(record.phase, Bound) and record.template != template
        return [bind] if is_other else [], None
    if record.template != template:
        return [bind], None
    if any(map(is_alive, record.phase.held_by)):
        return [], None  # their end brings us back
    if needs_handover(world, name):
        return [] if users_alive(name) else [Unbind(name), bind], None
    due_ns = retry_due_ns(record.phase)
    is_due = bool(record.phase.held_by) or world.now_ns >= due_ns
    return ([bind], None) if is_due else ([], due_ns)


# ---- sockets that a slot has for itself (reuseport) -----------------------------------------------


def own_sockets(plan: Plan, slot: int) -> SlotCondition | None:
    """Bind the sockets that a slot has for itself; return what holds it back as long as one is not bound.

    The last gate before a start: one that listens gets its share of the clients, whoever accepts. Hence, too, one
    after the other, and first the one that was refused: none listens while its slot waits for another.
    """
    world = plan.world
    held = {name: held_name(name, slot, world.socket_specs) for name in _own_sockets(plan)}
    records = {name: world.sockets.get(held[name]) for name in held}
    for name in sorted(held, key=lambda name: not _is_refused(records[name])):
        waiting = waiting_for(world, name, slot)
        if waiting is None:
            continue
        if waiting.bind is not None and not plan.is_due(waiting.due_ns):
            return SlotCondition("Waiting", waiting.reason)
        plan.binding.add(slot)
        if waiting.bind is not None:  # else it is asked for
            plan.act(waiting.bind)
        return BEING_STARTED
    return None


def own_sockets_of_successor(plan: Plan, slot: int) -> SlotCondition | None:
    """Bind the sockets of a slot that is to be replaced at new addresses, while its process serves at the former.

    One at the same address waits for the end of that process: clients would wait at it for nobody. So does one that
    processes of ours are in the way of.
    """
    specs = plan.world.socket_specs
    for name in _own_sockets(plan):
        record = plan.world.sockets.get(held_name(name, slot, specs))
        waiting = waiting_for(plan.world, name, slot)
        if waiting is None or (record is not None and _is_of_former(record, specs[name])):
            continue
        if waiting.bind is not None and plan.is_due(waiting.due_ns):
            plan.act(waiting.bind)
        return SlotCondition("Waiting", waiting.reason)
    return None


def _is_of_former(record: SocketRecord, spec: SocketSpec) -> bool:
    """Tell whether a socket has to wait for the end of the process that is replaced."""
    if isinstance(record.phase, BindRefused) and record.phase.held_by:
        return True
    return isinstance(record.phase, Bound) and record.template.address == spec.listen


def tend(plan: Plan) -> None:
    """Close the sockets of slots (reuseport) that neither live nor are just about to; tune those of the others."""
    own = _own_sockets(plan)
    if not own:
        return
    coming = {action.id.slot for action in plan.actions if isinstance(action, Spawn)}
    alive = {slot for slot, record in plan.slots.mains.items() if not is_gone(record)}
    living, sockets, specs = alive | coming, plan.world.sockets, plan.world.socket_specs
    looked_at = plan.slots.looked_at
    if looked_at is None:
        tended = [held for held in sockets if held.partition(".")[0] in own]
    else:
        tended = [held_name(name, slot, specs) for slot in sorted(looked_at) for name in own]
    for held in tended:
        known, (name, _, slot) = sockets.get(held), held.partition(".")
        if known is None or not isinstance(known.phase, Bound):
            continue
        template = template_of(plan.world.socket_specs[name])
        if int(slot) not in living | plan.binding:
            plan.act(Unbind(held))
        elif known.template != template and known.template.identity == template.identity:
            if int(slot) not in plan.binding:
                plan.act(Bind(held, template))


def _own_sockets(plan: Plan) -> list[str]:
    specs, used = plan.world.socket_specs, dict.fromkeys(sockets_of(plan.spec))
    return [name for name in used if name in specs and specs[name].reuseport]


def _is_refused(record: SocketRecord | None) -> bool:
    return record is not None and isinstance(record.phase, BindRefused)
