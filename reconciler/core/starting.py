"""The start of a slot's process, and what it takes over from the one before it."""

from __future__ import annotations

from typing import Final

from reconciler.core import demand, limits, rollout
from reconciler.core.backoff import (
    ended_by_operator,
    failures_after,
    gave_up,
    last_failure,
    recent_deaths,
)
from reconciler.core.plan import Plan
from reconciler.core.slots import BEING_STARTED
from reconciler.core.template import launch, same_files, same_slot, same_spec
from reconciler.model.action import Spawn
from reconciler.model.process import Exited, Memory, ProcessRecord
from reconciler.model.value import replace

_RENEWED: Final = {
    "expired": "was replaced at its max_age",
    "dependency": "was replaced after a dependency was",
    "idle": "was started by a connection",
}
"""By the reason of a stop why the next process takes the place of one of the same template."""


def start(plan: Plan, slot: int, wanted_hash: str, dead: ProcessRecord | None) -> None:
    """Start a service's process, in place of its dead one; no gate holds it back any more."""
    memory = replace(_inherited(plan, dead, wanted_hash), probed=plan.spec.ready is not None)
    if dead is None and slot > plan.want:
        memory = replace(memory, roll="successor")
    if dead is not None:
        memory = replace(
            memory,
            failed_at_ns=rollout.failed_at_ns(plan, dead, wanted_hash),
            renewed=_why_renewed(dead, wanted_hash),
            rested=dead.memory.stop_reason == "idle",
            roll=rollout.part_of(dead),
            in_a_row=rollout.in_a_row(dead, wanted_hash),
            edits=rollout.edits_in_a_row(dead, wanted_hash),
            edited_at_ns=dead.memory.edited_at_ns
            if same_files(dead.template_hash, wanted_hash)
            else plan.now_ns,
        )
    spawn(plan, slot, wanted_hash, memory, dead)


def spawn(
    plan: Plan, slot: int, template_hash: str, memory: Memory, dead: ProcessRecord | None
) -> None:
    """Start the process of a slot, in place of its dead one."""
    plan.conditions[slot] = replace(BEING_STARTED, since_ns=plan.now_ns)
    what = launch(plan.name, plan.spec, slot, plan.world.socket_specs, plan.world.facts)
    replaces = 0 if dead is None else dead.incarnation
    memory = replace(memory, reloaded=plan.observed.intent.reload_number(slot))
    if plan.spec.demand is not None:
        memory = replace(memory, woken_at_ns=demand.waiting_since_ns(plan))
    plan.act(Spawn(plan.id(slot), what, template_hash, memory, replaces))


def _inherited(plan: Plan, dead: ProcessRecord | None, wanted_hash: str) -> Memory:
    """Return the memory of a new process: what its slot and its watcher went through."""
    other = plan.slots.any_main()
    start = plan.now_ns if other is None else other.memory.start
    fresh = plan.spec.hooks.after_start is not None and all(
        each.memory.fresh for each in (other, *plan.slots.mains.values()) if each is not None
    )
    if dead is None:
        return Memory(start=start, fresh=fresh)
    assert isinstance(dead.phase, Exited)
    old = dead.memory
    # A start that nobody saw come to be is done over: the first one and this are the same start. One that never
    # was, because there was no program to execute, is none.
    never_ran = dead.phase.is_unseen or dead.phase.exit.error is not None
    planned = old.stopping_since_ns is not None and not old.is_failure
    kept = Memory(
        restarts=old.restarts + (not never_ran and not planned),
        replacements=old.replacements + (not never_ran and planned),
        start=start,
        fresh=old.fresh,
    )
    anew = old.retry or not same_slot(dead.template_hash, wanted_hash)
    if planned or anew or gave_up(plan.spec, dead):
        return kept
    return replace(
        kept,
        attempt=failures_after(plan.spec, dead),
        last_failure=last_failure(plan.spec, dead),
        deaths_ns=recent_deaths(plan.spec, dead),
    )


def _why_renewed(dead: ProcessRecord, wanted_hash: str) -> str:
    """Return why a process takes the place of one of the same template; empty when that had another one."""
    memory, phase = dead.memory, dead.phase
    if not same_spec(dead.template_hash, wanted_hash):
        return ""
    if not same_files(dead.template_hash, wanted_hash):
        return "was replaced because watched files changed"
    if memory.stopping_since_ns is not None:
        if limits.was_over(memory.stop_reason):
            return f"was replaced ({memory.stop_reason})"
        return _RENEWED.get(memory.stop_reason, "was restarted")
    if isinstance(phase, Exited) and ended_by_operator(memory, phase):
        sent = "reload" if memory.signalled.startswith("reload") else f"SIG{memory.signalled}"
        return f"was ended by an operator's {sent}"
    return "was restarted after its end"
