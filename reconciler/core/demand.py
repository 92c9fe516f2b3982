"""Services that run on demand: started by the first client at their sockets, stopped when nobody came for a while.

While none of them lives the keeper tells of a client that waits. Whether those that run are still needed is asked of
the kernel, and only at the end of the idle time.
"""

from __future__ import annotations

from reconciler.core import rollout
from reconciler.core.plan import Plan
from reconciler.core.slots import SlotCondition
from reconciler.core.template import sockets_of
from reconciler.model.action import CountClients, Remember
from reconciler.model.event import Event
from reconciler.model.observed import DemandObserved
from reconciler.model.process import ProcessRecord, Running
from reconciler.model.units import MILLISECOND_NS, format_duration
from reconciler.model.value import replace


def idle(plan: Plan, dead: ProcessRecord | None) -> SlotCondition | None:
    """Return that a slot rests until a client comes; None: it runs all the time, or is needed now."""
    if plan.spec.demand is None or is_awake(plan):
        return None
    if dead is not None and rollout.is_for_another(dead.memory):
        return None  # it was in use, and gives way to a successor
    names = " or ".join(dict.fromkeys(sockets_of(plan.spec)))
    note = f"starts with the first connection to {names}"
    if dead is not None and dead.memory.cold_start_ns is not None:
        note += f"; the last cold start took {format_duration(dead.memory.cold_start_ns)}"
    return SlotCondition("Idle", note)


def is_awake(plan: Plan) -> bool:
    """Tell whether processes are needed: a client waits, or some run and are in use as far as is known."""
    if waiting_since_ns(plan) is not None:
        return True
    return bool(plan.observed.live) and not plan.observed.demand.is_unused


def is_idle(plan: Plan) -> bool:
    """Tell whether processes that run on demand are to be stopped; asks who uses them when it is time for that."""
    demand, known = plan.spec.demand, plan.observed.demand
    if demand is None or demand.idle_timeout is None or not plan.observed.live:
        return False
    if (
        not known.is_unused
        and not known.counting
        and plan.is_due(known.used_at_ns + demand.idle_timeout)
    ):
        plan.act(CountClients(plan.name, tuple(dict.fromkeys(sockets_of(plan.spec)))))
    return known.is_unused and waiting_since_ns(plan) is None


def check_ns(plan: Plan) -> int | None:
    """Return when it is asked next who uses processes that run on demand; None: nobody asks, or is just asking."""
    demand, known = plan.spec.demand, plan.observed.demand
    if demand is None or demand.idle_timeout is None or known.is_unused or known.counting:
        return None
    return known.used_at_ns + demand.idle_timeout


def waiting_since_ns(plan: Plan) -> int | None:
    """Return since when a client waits for somebody to be started; None: none does."""
    records = (plan.world.sockets.get(name) for name in sockets_of(plan.spec))
    times = (record.client_since_ns for record in records if record is not None)
    return min((at_ns for at_ns in times if at_ns is not None), default=None)


def measure(plan: Plan, record: ProcessRecord) -> None:
    """Remember how long the client has waited for whose sake a process was started, once that is ready."""
    memory, phase = record.memory, record.phase
    if memory.woken_at_ns is None or memory.cold_start_ns is not None:
        return
    if plan.spec.ready is not None and memory.probed and memory.ready_at_ns is None:
        return  # the next plan knows when it was
    assert isinstance(phase, Running)
    took_ns = (memory.ready_at_ns or phase.started_at_ns) - memory.woken_at_ns
    plan.act(Remember(record.id, record.incarnation, replace(memory, cold_start_ns=took_ns)))
    took = format_duration(max(took_ns // MILLISECOND_NS, 1) * MILLISECOND_NS)
    message = f"{record.id} was started by a connection, and was there after {took}"
    plan.events.append(Event("demand.started", message, plan.name, record.id.slot))


def counted(known: DemandObserved, clients: int | None, now_ns: int) -> DemandObserved:
    """Return what is known of the use of processes after it was asked; `clients` None: the kernel does not tell.

    What began before this controller is in use until a whole idle time has passed under its eyes.
    """
    is_unused = clients == 0 and known.used_at_ns > 0
    return DemandObserved(known.used_at_ns if is_unused else now_ns, is_unused=is_unused)
