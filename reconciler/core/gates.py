"""What a slot has to wait for before it is started: each gate yields what holds the slot back, None when it is open.

Here alone it is worked out why a slot does not run; whoever tells it reads what the plan says.
"""

from __future__ import annotations

from reconciler.core import demand, dependencies, hooks, secrets, watched_files
from reconciler.core.backoff import due_ns, failures_after, gave_up, how_ended, is_completed
from reconciler.core.hooks import drive_with_retry
from reconciler.core.plan import Plan
from reconciler.core.slots import SlotCondition, is_gone
from reconciler.core.sockets import own_sockets, own_sockets_of_successor, waiting_for_shared
from reconciler.core.template import same_slot
from reconciler.model.process import Exited, ProcessRecord
from reconciler.model.units import format_count, format_duration


def before_start(
    plan: Plan, slot: int, dead: ProcessRecord | None, wanted_hash: str
) -> SlotCondition | None:
    """Return what holds back the start of a service's slot, in place of its dead process."""
    about = 0 if dead is None else dead.incarnation
    hooks.keep(plan, "before_spawn", slot, about)
    is_first, is_beyond = plan.slots.any_main() is None, slot > plan.want  # the latter for others
    if plan.spec.hooks.before_start is not None and not is_first:
        # When the others have gone before it has started, it is the first.
        plan.stand_in("to be first", slot)
    return (
        (_place(plan) if is_beyond and dead is None else demand.idle(plan, dead))
        or unread(plan)
        or dependencies.held(plan, slot, dead, wanted_hash)
        or (_hook(plan, "before_start", 0, 0) if is_first else None)
        or _shared_sockets(plan)
        or _interval(plan, slot)
        or _hook(plan, "before_spawn", slot, about)
        or own_sockets(plan, slot)
    )


def before_replacement(
    plan: Plan, record: ProcessRecord, wanted_hash: str, *, waits_for_place: bool
) -> SlotCondition | None:
    """Return what holds back that a running process is replaced: it goes on until its successor could start."""
    slot, about = record.id.slot, record.incarnation
    hooks.keep(plan, "before_spawn", slot, about)
    return (
        (_place(plan) if waits_for_place else None)
        or dependencies.held(plan, slot, record, wanted_hash)
        or _interval(plan, slot)
        or _hook(plan, "before_spawn", slot, about)
        or own_sockets_of_successor(plan, slot)
    )


def before_roll(plan: Plan) -> SlotCondition | None:
    """Return what holds back that any running process is replaced: none could be started anew."""
    return unread(plan) or _shared_sockets(plan)


def before_spawn(plan: Plan, slot: int) -> SlotCondition | None:
    """Return what holds back a job's slot before its hooks are asked."""
    return (
        unread(plan)
        or dependencies.held(plan, slot, None, "")
        or _shared_sockets(plan)
        or _interval(plan, slot)
    )


def after_hooks(plan: Plan, slot: int) -> SlotCondition | None:
    """Return what holds back a job's slot whose hooks have passed."""
    return before_spawn(plan, slot) or own_sockets(plan, slot)


def after_death(plan: Plan, record: ProcessRecord, wanted_hash: str) -> SlotCondition | None:
    """Return why a dead slot is not started again, or not yet."""
    assert isinstance(record.phase, Exited)
    spec, memory, phase, limit = plan.spec, record.memory, record.phase, plan.spec.max_restarts
    if memory.stopping_since_ns is not None and not memory.is_failure:
        return None
    if memory.stop_reason == "vetoed":
        return backoff(plan, record)
    if memory.retry or not same_slot(record.template_hash, wanted_hash):
        return None
    if memory.stop_reason == "unhealthy" and spec.health and spec.health.action == "stop":
        return SlotCondition("Failed", f"stopped: {memory.trouble}", phase.at_ns)
    if is_completed(spec, record):
        return SlotCondition("Completed", str(phase.exit), phase.at_ns)
    if limit is None or not gave_up(spec, record):
        return backoff(plan, record)
    again_ns = None if limit.retry_in is None else phase.at_ns + limit.retry_in
    if again_ns is not None and plan.is_due(again_ns):
        return None
    window = format_duration(limit.window)
    note = f"gave up after more than {limit.count} restarts in {window}; last: {how_ended(record)}"
    return SlotCondition("Failed", note, phase.at_ns, again_ns)


def stays_down(plan: Plan, record: ProcessRecord, wanted_hash: str) -> bool:
    """Tell whether a slot is not started again before somebody does something about it: it has failed for good."""
    if not isinstance(record.phase, Exited) or not is_gone(record):
        return False
    held = after_death(plan, record, wanted_hash)
    return held is not None and held.state == "Failed" and held.next_ns is None


def backoff(plan: Plan, record: ProcessRecord) -> SlotCondition | None:
    """Return how a process ended that is started again after a while; None when that is over."""
    assert isinstance(record.phase, Exited)
    again_ns, phase = due_ns(plan.spec, record), record.phase
    if plan.is_due(again_ns):
        return None
    failures = failures_after(plan.spec, record)
    vetoed = record.memory.stop_reason == "vetoed"
    said = hooks.said(plan, "after_spawn", record.id.slot) if vetoed else ""
    note = said or how_ended(record)
    note += f", {failures} times in a row" if failures > 1 else ""
    return SlotCondition("BackOff", note, phase.at_ns, again_ns)


def unread(plan: Plan) -> SlotCondition | None:
    """Return what holds back all slots as long as it is not known what their processes are made of."""
    if not secrets.ready(plan):
        return SlotCondition("Waiting", secrets.waiting_note(plan))
    return watched_files.missing(plan)


def _place(plan: Plan) -> SlotCondition | None:
    """So many slots of all watchers are not being replaced already (`daemon.max_concurrent_restarts`)."""
    if plan.places is None or plan.begun < plan.places:
        return None
    plan.waits_for_place = True
    others = plan.world.under_way + plan.begun
    what = f"{format_count(others, 'other restart')} {'is' if others == 1 else 'are'} under way"
    return SlotCondition("Waiting", f"{what} (daemon.max_concurrent_restarts)")


def _shared_sockets(plan: Plan) -> SlotCondition | None:
    """Every socket that a slot shares with others has to be bound as its spec says."""
    waiting = waiting_for_shared(plan)
    return None if waiting is None else SlotCondition("Waiting", waiting.reason)


def _interval(plan: Plan, slot: int) -> SlotCondition | None:
    """The pause since the start of another slot (`spawn_interval`) has to be over."""
    interval = plan.spec.spawn_interval
    if not interval:
        return None
    newest = plan.slots.newest_starts()
    due_ns = None
    if newest is not None:  # else one that is asked for but not running yet comes before this one
        start_ns = next((start_ns for start_ns, other in newest if other != slot), None)
        if start_ns is None or plan.is_due(start_ns + interval):
            return None
        due_ns = None if "to start" in plan.lines else start_ns + interval  # of the first alone
    plan.stand_in("to start", slot)
    note = f"waiting for its turn: spawn_interval is {format_duration(interval)}"
    return SlotCondition("Waiting", note, 0, due_ns)


def _hook(plan: Plan, role: str, place: int, about: int) -> SlotCondition | None:
    return hooks.held_by(plan, role, place, drive_with_retry(plan, role, place, about))
