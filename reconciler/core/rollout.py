"""Which running slots are replaced next: outdated, aged or too large ones, never more at once than may be missing.

The next slot is taken when the new process of the one before is ready and has been left alone for `rollout.pause`;
and none is as long as a slot that was replaced has failed. Slots beyond those wanted may serve in their place
meanwhile (`core.surge`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from reconciler.core import (
    dependencies,
    desired,
    handover,
    limits,
    readiness,
    running,
    secrets,
    watched_files,
)
from reconciler.core.backoff import is_completed, proves_nothing, share
from reconciler.core.plan import Plan
from reconciler.core.slots import SlotCondition
from reconciler.core.sockets import holds_former, is_in_the_way, needs_handover, waiting_for_shared
from reconciler.core.template import (
    files_of,
    same_but_files,
    same_but_secrets,
    same_files,
    same_slot,
    same_spec,
    same_template,
    sockets_of,
)
from reconciler.model.action import Remember
from reconciler.model.process import Exited, Memory, PartInRoll, ProcessRecord, Running
from reconciler.model.spec import WatcherSpec
from reconciler.model.units import SECOND_NS, format_duration
from reconciler.model.value import Struct, field, replace

ROLL_REASONS: Final = frozenset({"replaced", "dependency", "expired"})
"""Why a process is stopped for another one to take its place."""
MOST_IN_A_ROW: Final = 3
"""Replacements of a slot for what is in no spec, before the next one has to wait."""
HOLD_NS: Final = 60 * SECOND_NS
MOST_EDITS_IN_A_ROW: Final = 10
"""Replacements of a slot for watched files, each within `STEADY_NS` of its start, before the next one has to wait."""
STEADY_NS: Final = 10 * SECOND_NS
EDITS_APART_NS: Final = 5 * SECOND_NS
"""Slow enough for a machine, and fast enough for somebody who saves more often than that."""


class Roll(Struct, frozen=True):
    """Of the slots that shall be replaced those to stop now, with the reason, and those that wait for other slots."""

    now: Mapping[int, str] = field(default_factory=dict)
    put_off: frozenset[int] = frozenset()
    is_at_once: bool = False
    """All of them have to be gone before any can start anew, whoever else is being replaced."""


def next_slots(plan: Plan, hashes: Mapping[int, str], beyond: int) -> Roll:
    """Return which of these slots are stale, and which of them to stop now so that they start anew.

    So many slots `beyond` those wanted serve in their place.

    Slots that are already on their way stay in; a slot that is not available anyway costs nothing, and a
    new process that dies quickly keeps its slot unavailable. Once that has decided against the revision
    (`verdict`), slots that still run as before stay so.
    """
    mains, stale = plan.slots.mains, {}
    for slot in plan.look(hashes):
        record = mains.get(slot)
        if record is None:
            continue
        if reason := why_stale(plan, record, hashes[slot]):
            stale[slot] = reason
        if has_failed(plan, record, hashes[slot]):
            plan.failed.add(slot)
    if not stale:
        return Roll()
    moving = _moving(plan, hashes, stale)
    missing = missing_slots(plan, hashes)
    spare = beyond - len(missing) - plan.slots.awaited_elsewhere
    # What cannot be started anew is not stopped.
    may_start = secrets.ready(plan) and watched_files.missing(plan) is None
    now = _chosen(plan, hashes, moving, missing, spare) if may_start else {}
    # The only one missing is replaced at once; one that is being stopped is looked at when it has ended.
    plan.restless.update(
        slot for slot in moving.keys() & missing if mains[slot].memory.stopping_since_ns is None
    )
    turns = {slot: _turn(mains[slot], moving[slot])[0] for slot in moving.keys() - missing}
    plan.rank_in("to be replaced", turns)
    return Roll(now, frozenset(moving.keys() - now.keys()), _have_to_go_first(plan))


def _have_to_go_first(plan: Plan) -> bool:
    """Tell whether no slot can start anew before those that are to be stopped have gone: they keep a socket."""
    handed_over = any(needs_handover(plan.world, name) for name in sockets_of(plan.spec))
    return handed_over or waiting_for_shared(plan) is not None


def _moving(plan: Plan, hashes: Mapping[int, str], stale: dict[int, str]) -> dict[int, str]:
    """Return which of the stale slots are replaced sooner or later; a revision that is not good stops a roll."""
    mains = plan.slots.mains
    if not _is_stopped(plan):
        return stale
    return {
        slot: reason
        for slot, reason in stale.items()
        if mains[slot].memory.stopping_since_ns is not None
        or not is_of_older_spec(mains[slot], hashes[slot])
    }


def _is_stopped(plan: Plan) -> bool:
    return plan.world.trial is not None and plan.world.trial.stops_roll


def is_of_older_spec(record: ProcessRecord, wanted_hash: str) -> bool:
    """Tell whether it is the spec or its secrets by which a process is not what is wanted."""
    return not same_spec(record.template_hash, wanted_hash)


def is_kept(plan: Plan, condition: SlotCondition) -> bool:
    """Tell whether a slot goes on as before, because the newest revision is not good."""
    return _is_stopped(plan) and condition.of_older_spec and condition.state != "Stopping"


def _chosen(
    plan: Plan, hashes: Mapping[int, str], moving: dict[int, str], missing: list[int], spare: int
) -> dict[int, str]:
    """Return which of the slots that move are stopped now; `spare` more serve than there are slots, or fewer."""
    mains = plan.slots.mains
    if any(needs_handover(plan.world, name) for name in sockets_of(plan.spec)):
        return moving
    waits = waiting_for_shared(plan) is not None  # old processes are worth more than none
    chosen = {
        slot: reason
        for slot, reason in moving.items()
        if mains[slot].memory.stopping_since_ns is not None
        or (waits and keeps_a_socket(plan, mains[slot]))
        or dependencies.is_waited_for(plan, mains[slot], hashes[slot])
        or (not waits and is_at_once(plan, mains[slot], hashes[slot]))
    }
    if waits:
        return chosen
    budget = desired.max_unavailable(plan.spec, plan.want) + spare - len(chosen.keys() - missing)
    may_go_on = not (plan.failed or plan.slots.failed_elsewhere)
    for slot in sorted(moving, key=lambda slot: _turn(mains[slot], moving[slot])):
        reason = moving[slot]
        if slot in chosen:
            continue
        if reason == "expired" and is_in_pause(plan, mains[slot]):
            continue  # it serves, and it is the turn of an older one
        if slot in missing:
            if budget >= 0 or _is_useless(plan, mains[slot]):
                chosen[slot] = reason
        elif budget > 0 and may_go_on:
            chosen[slot] = reason
            budget -= 1
    return chosen


def _turn(record: ProcessRecord, reason: str) -> tuple[int, int]:
    """Return by what a slot has its turn: in order; what is too old the oldest first, or some might never have one."""
    assert isinstance(record.phase, Running)
    return record.phase.started_at_ns if reason == "expired" else 0, record.id.slot


def is_at_once(plan: Plan, record: ProcessRecord, wanted_hash: str) -> bool:
    """Tell whether an operator wants a process replaced with all others: it is stale by that restart alone."""
    is_restarted = not same_slot(record.template_hash, wanted_hash)
    is_only_that = is_restarted and same_template(record.template_hash, wanted_hash)
    return plan.observed.intent.at_once and is_only_that


def why_stale(plan: Plan, record: ProcessRecord, wanted_hash: str) -> str | None:
    """Return why a running process shall be replaced, or None."""
    if not isinstance(record.phase, Running):
        return None
    if is_outdated(plan, record, wanted_hash):
        held_ns = _held_back_until_ns(plan, record, wanted_hash)
        return None if held_ns is not None and not plan.is_due(held_ns) else "replaced"
    if dependencies.is_renewed(plan, record):
        return "dependency"
    if plan.spec.max_age is not None:
        if plan.is_due(record.phase.started_at_ns + lifetime_ns(plan.spec, record)):
            return "expired"
    if over := limits.over(plan.spec, plan.observed.exceeded, record):
        held_ns = _held_back_until_ns(plan, record, wanted_hash)
        return over if held_ns is None or plan.is_due(held_ns) else None
    return None


def is_outdated(plan: Plan, record: ProcessRecord, wanted_hash: str) -> bool:
    """Tell whether a process is not what the spec wants, or holds a socket that no client finds any more."""
    if not same_slot(record.template_hash, wanted_hash):
        return True
    if files_of(wanted_hash) and not files_of(record.template_hash):
        return True  # nobody could tell when it was started what the files were that it watches
    if not isinstance(record.phase, Running):
        return False
    return keeps_a_socket(plan, record) or holds_former(
        plan.world, sockets_of(plan.spec), record.phase.started_at_ns
    )


def in_a_row(dead: ProcessRecord, wanted_hash: str) -> int:
    """Return how often a slot will have been replaced in a row, with this one's end, for what is in no spec.

    Such as a socket that is bound anew, a secret that changes, or a limit that it is over again and again.
    """
    memory, phase = dead.memory, dead.phase
    since_ns = memory.stopping_since_ns
    if since_ns is None:
        return 0
    if memory.stop_reason != "replaced" and not limits.was_over(memory.stop_reason):
        return 0
    if not same_but_secrets(dead.template_hash, wanted_hash) or not isinstance(phase, Exited):
        return 0
    lived = since_ns - (phase.started_at_ns or since_ns)
    return 1 + (memory.in_a_row if lived < 2 * HOLD_NS else 0)


def edits_in_a_row(dead: ProcessRecord, wanted_hash: str) -> int:
    """Return how often a slot will have been replaced in a row, with this one's end, soon after its start for edits.

    Of files that it watches. Somebody who edits wants that; a program that writes them itself would go on for ever.
    """
    memory, phase = dead.memory, dead.phase
    if memory.stopping_since_ns is None or memory.stop_reason != "replaced":
        return 0
    if not isinstance(phase, Exited) or not _is_edited(dead, wanted_hash):
        return 0
    lived = memory.stopping_since_ns - (phase.started_at_ns or memory.stopping_since_ns)
    return 1 + (memory.edits if lived < STEADY_NS else 0)


def _is_edited(record: ProcessRecord, wanted_hash: str) -> bool:
    """Tell whether a process is outdated by nothing but the files that it watches."""
    one, other = record.template_hash, wanted_hash
    return same_but_files(one, other) and not same_files(one, other)


def _held_back_until_ns(plan: Plan, record: ProcessRecord, wanted_hash: str) -> int | None:
    """Return until when a stale process is not replaced, as that went on and on; None: it is not held back."""
    if not isinstance(record.phase, Running):
        return None
    if _is_edited(record, wanted_hash):
        held = record.memory.edits >= MOST_EDITS_IN_A_ROW
        return record.phase.started_at_ns + EDITS_APART_NS if held else None
    if record.memory.in_a_row < MOST_IN_A_ROW:
        return None
    if not same_but_secrets(record.template_hash, wanted_hash) or keeps_a_socket(plan, record):
        return None
    return record.phase.started_at_ns + HOLD_NS


def held_back_note(plan: Plan, record: ProcessRecord, wanted_hash: str) -> str:
    """Return in words that a process would be replaced but for that, and why; empty when it would not."""
    held_ns = _held_back_until_ns(plan, record, wanted_hash)
    over = limits.over(plan.spec, plan.observed.exceeded, record)
    if held_ns is None or not (over or is_outdated(plan, record, wanted_hash)):
        return ""
    assert isinstance(record.phase, Running)
    if _is_edited(record, wanted_hash) and not over:
        count, pace = record.memory.edits, format_duration(EDITS_APART_NS)
        files = watched_files.known(plan.observed.files, plan.spec.watch).changed
        last = f" (last: {files})" if files else ""
        return (
            f"held back: replaced {count} times in a row because watched files changed each time{last}; "
            f"now at most every {pace}"
        )
    names = [
        name
        for name in dict.fromkeys(sockets_of(plan.spec))
        if holds_former(plan.world, [name], record.phase.started_at_ns)
    ]
    why = f"socket {' and '.join(names)} was bound again" if names else "its secrets changed"
    if over:
        why = f"it was {over},"
    count, pace = record.memory.in_a_row, format_duration(HOLD_NS)
    return f"held back: replaced {count} times in a row because {why} each time; now at most every {pace}"


def lifetime_ns(spec: WatcherSpec, record: ProcessRecord) -> int:
    """Return how long this process may live: max_age, and its own share of the variance."""
    assert spec.max_age is not None
    return spec.max_age + spec.max_age_variance * share(f"{record.id}/{record.incarnation}") // 1000


def is_available(plan: Plan, record: ProcessRecord | None) -> bool:
    """Tell whether a slot's process serves: it is ready, healthy and not being stopped."""
    if record is None or record.memory.stopping_since_ns is not None:
        return False
    return readiness.is_ready(plan, record) and readiness.is_healthy(plan, record)


def missing_slots(plan: Plan, hashes: Mapping[int, str]) -> list[int]:
    """Return which of these slots do not serve, and are to do so."""
    return [slot for slot in plan.look(hashes) if _is_missing(plan, slot, hashes[slot])]


def _is_useless(plan: Plan, record: ProcessRecord) -> bool:
    """Tell whether nothing is lost with a running process: it was asked whether it is ready, and is not."""
    return record.memory.probed and not readiness.is_ready(plan, record)


def is_settled(plan: Plan, record: ProcessRecord | None) -> bool:
    """Tell whether a slot keeps no other from its turn: it is available, and `rollout.pause` is over."""
    if record is None or not is_available(plan, record):
        return False
    memory, pause = record.memory, plan.spec.rollout.pause
    if not memory.roll:
        return True
    if not memory.took_over_ns and not running.after_spawn_passed(plan, record):
        return False
    return not pause or plan.is_due((memory.took_over_ns or plan.now_ns) + pause)


def is_in_pause(plan: Plan, record: ProcessRecord) -> bool:
    """Tell whether a new process serves, and the next slot waits only for `rollout.pause` after it."""
    if not plan.spec.rollout.pause or not record.memory.took_over_ns:
        return False
    return is_available(plan, record) and not is_settled(plan, record)


def note_takeover(plan: Plan, record: ProcessRecord) -> None:
    """Remember when a process that was started in place of another one was ready, and its hook had passed."""
    memory = record.memory
    is_awaited = memory.roll and not memory.took_over_ns
    if not is_awaited or not is_available(plan, record):
        return
    if not running.after_spawn_passed(plan, record):
        return
    if any(isinstance(each, Remember) and each.id == record.id for each in plan.actions):
        return  # the next plan does: it comes after that
    memory = replace(memory, took_over_ns=plan.now_ns)
    plan.act(Remember(record.id, record.incarnation, memory))


def part_of(dead: ProcessRecord) -> PartInRoll:
    """Return what a process is in a roll that is started in place of a dead one."""
    memory = dead.memory
    if is_for_another(memory):
        return "successor"
    return "again" if memory.roll and not memory.took_over_ns else ""


def is_for_another(memory: Memory) -> bool:
    """Tell whether a process is being stopped, or was, for another one to take its place."""
    reason = memory.stop_reason
    is_roll = reason in ROLL_REASONS or limits.was_over(reason)
    return is_roll and memory.stopping_since_ns is not None


def has_failed(plan: Plan, record: ProcessRecord, wanted_hash: str) -> bool:
    """Tell whether a process that is as the spec wants it did not stay up, and none has become ready since."""
    memory, phase = record.memory, record.phase
    if not same_slot(record.template_hash, wanted_hash) or is_for_another(memory):
        return False
    if memory.stopping_since_ns is not None:
        return memory.is_failure
    if not isinstance(phase, Exited):
        return memory.attempt > 0 and not readiness.is_ready(plan, record)
    return not (proves_nothing(plan.spec, record) or is_completed(plan.spec, record))


def _is_missing(plan: Plan, slot: int, wanted_hash: str) -> bool:
    """Tell whether a slot does not serve and is to do so again: its process has not succeeded and rests."""
    record = plan.slots.mains.get(slot)
    if record is None or is_settled(plan, record):
        return record is None
    is_anew = record.memory.retry or not same_slot(record.template_hash, wanted_hash)
    return is_anew or not is_completed(plan.spec, record)


def keeps_a_socket(plan: Plan, record: ProcessRecord | None) -> bool:
    """Tell whether a process keeps a socket from being bound that its watcher uses."""
    names = sockets_of(plan.spec)
    return record is not None and is_in_the_way(plan.world, names, record.id)


# ---- what does not stay up --------------------------------------------------------------------------


def why_failed(plan: Plan, record: ProcessRecord) -> str:
    """Return in words how a process of the revision, or the one before it, did not stay up; empty: it did."""
    trial, memory, phase = plan.world.trial, record.memory, record.phase
    if trial is None or (memory.edited_at_ns and memory.edited_at_ns >= trial.begun_ns):
        return ""  # an edit of the files that it watches is not of the revision
    if memory.stopping_since_ns is not None and memory.stop_reason in {"vetoed", "refused"}:
        hook = "after_spawn" if memory.stop_reason == "vetoed" else "after_start"
        return f"was stopped because its {hook} hook said no"
    if memory.is_failure:
        return f"was {memory.trouble}"
    if memory.failed_at_ns and memory.failed_at_ns >= trial.begun_ns:
        return "did not stay up"
    if not isinstance(phase, Exited) or memory.stopping_since_ns is not None:
        return ""
    if (
        proves_nothing(plan.spec, record)
        or handover.is_awaited(plan, record)
        or phase.at_ns < trial.begun_ns
        or is_completed(plan.spec, record)
    ):
        return ""
    if phase.exit.error is not None:
        return "" if phase.exit.error.is_shortage else f"did not start: {phase.exit}"
    if phase.lived_ns >= trial.confirm_after:
        return ""
    return f"{_ended(phase)} after {format_duration(phase.lived_ns)}"


def _ended(phase: Exited) -> str:
    """Return how a process ended as what a sentence says of it: `was killed by SIGSEGV`, `ended with exit 1`."""
    how = str(phase.exit)
    return f"was {how}" if phase.exit.signal is not None else f"ended with {how}"


def failed_at_ns(plan: Plan, dead: ProcessRecord, wanted_hash: str) -> int:
    """Return when a slot last failed its revision, for the memory of the next process; 0: it did not."""
    assert isinstance(dead.phase, Exited)
    same = same_template(dead.template_hash, wanted_hash)
    return dead.phase.at_ns if same and why_failed(plan, dead) else 0
