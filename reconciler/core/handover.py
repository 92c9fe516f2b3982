"""A slot goes on with another process when its main one has ended: programs replace themselves, or leave the terminal.

The keeper tells who was named of those that are left behind. The end before it restarts nothing and counts for
nothing: the record goes on as if it had been that process all the time.
"""

from __future__ import annotations

from reconciler.core import events
from reconciler.core.plan import Plan
from reconciler.core.slots import SlotCondition
from reconciler.model.action import Follow
from reconciler.model.process import SUCCESSION_NS, Exited, ProcessRecord


def follow(plan: Plan, dead: ProcessRecord) -> SlotCondition | None:
    """Go on with who was named, or say that it is waited for; None: nobody goes on."""
    phase = dead.phase
    assert isinstance(phase, Exited)
    if dead.memory.stopping_since_ns is not None:
        return None
    if phase.successor:
        plan.act(Follow(dead.id, dead.incarnation, phase.successor))
        plan.events.append(events.of_handover(dead, phase.successor))
        return SlotCondition("Starting", "another main process takes over", phase.at_ns)
    if not is_awaited(plan, dead):
        return None
    file = dead.settings.pid_file
    waits = (
        f"its main process ended ({phase.exit}); waiting for {file} to name the one that goes on"
    )
    return SlotCondition("Starting", waits, phase.at_ns, phase.at_ns + SUCCESSION_NS)


def is_awaited(plan: Plan, dead: ProcessRecord) -> bool:
    """Tell whether a file may still name one of those that are left: many write it only after the end."""
    phase = dead.phase
    assert isinstance(phase, Exited)
    is_good = phase.exit.code in plan.spec.success_exit_codes
    may_be_named = is_good and bool(phase.survivors) and dead.settings.pid_file is not None
    return may_be_named and not plan.is_due(phase.at_ns + SUCCESSION_NS)
