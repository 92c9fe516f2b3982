"""The sockets that a slot has for itself (reuseport): bound last before its start, closed after its end."""

from __future__ import annotations

from reconciler.core.plan import Plan
from reconciler.core.slots import BEING_STARTED, SlotCondition, is_gone
from reconciler.core.sockets import template_of, waiting_for
from reconciler.core.template import held_name, sockets_of
from reconciler.model.action import Bind, Spawn, Unbind
from reconciler.model.socket import BindRefused, Bound, SocketRecord


def own_sockets(plan: Plan, slot: int) -> SlotCondition | None:
    """Bind the sockets that a slot has for itself; return what holds it back as long as one is not bound.

    The last gate before a start: one that listens gets its share of the clients, whoever accepts. Hence, too, one
    after the other, and first the one that was refused: none listens while its slot waits for another.
    """
    world = plan.world
    held = {name: held_name(name, slot, world.socket_specs) for name in _own_sockets(plan)}
    order = sorted(held, key=lambda name: not _is_refused(world.sockets.get(held[name])))
    for name in order:
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
    specs = plan.world.socket_specs
    used = dict.fromkeys(sockets_of(plan.spec))
    return [name for name in used if name in specs and specs[name].reuseport]


def _is_refused(record: SocketRecord | None) -> bool:
    return record is not None and isinstance(record.phase, BindRefused)
