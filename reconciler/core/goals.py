"""When an order is done: the one definition, for the server's own waiting, for `--wait` and for exit codes.

    up        the slots run as the spec now says
    down      nothing runs in them
    ended     the runs of a job have ended, and how
    reloaded  the processes that ran have carried out the reload, or have ended since
    started, ready, succeeded, completed    the watcher stands so, as for one that depends on it (`core.standing`)
    stopped   nothing runs in the slots, whoever has seen to that

Only what was named counts. What makes a goal impossible fails it, so that nobody waits for nothing.
"""

from __future__ import annotations

from typing import Final, assert_never

from reconciler.core import generations, standing
from reconciler.core.orders import Subject
from reconciler.model.order import Awaited, Goal, Judged
from reconciler.model.process import MAIN, ProcessId, pid_of
from reconciler.model.spec import DependencyCondition, WatcherSpec

OPEN: Final = Judged("open")
DONE: Final = Judged("done")
MAX_TOLD: Final = 3
REMOVED: Final = "is being removed"


def gone(goal: Goal) -> Judged:
    """Return what came of a goal when its watcher is no more."""
    if goal.kind in {"down", "stopped"}:
        return DONE
    return Judged("failed", "was removed meanwhile")


def judge(goal: Goal, it: Subject) -> Judged:
    """Return whether a goal has come about with a watcher as it is now."""
    match goal.kind:
        case "down":
            return _down(goal, it)
        case "reloaded":
            return _reloaded(goal, it)
        case "up":
            return _up(goal, it)
        case "ended":
            return _ended(goal, it)
        case "stopped":
            return _stopped(goal, it)
        case "started" | "ready" | "succeeded" | "completed":
            return _stands(goal, goal.kind, it)
        case _:
            assert_never(goal.kind)


def _down(goal: Goal, it: Subject) -> Judged:
    is_wanted = it.spec is not None and not it.idle
    if is_wanted and (not goal.slots or max(goal.slots) <= it.count):
        return Judged("failed", "was started again meanwhile")
    left = {id.slot for id in it.observed.records if id.role == MAIN}
    return OPEN if (left & {*goal.slots} if goal.slots else left) else DONE


def usual(spec: WatcherSpec) -> Awaited:
    """Return what is waited for when nobody says it."""
    return "succeeded" if spec.is_job else "ready"


def never(awaited: Awaited, spec: WatcherSpec) -> str:
    """Return why watchers of this kind never come to a condition; empty: they may."""
    if spec.is_job and awaited == "ready":
        return "is a one-shot job, which is never ready: wait for succeeded"
    ends = spec.is_job or spec.restart != "always"
    if not ends and (awaited == "succeeded" or (awaited == "completed" and not spec.max_restarts)):
        return f"has restart: always, which is never {awaited}: wait for ready"
    return ""


def _stands(goal: Goal, condition: DependencyCondition, it: Subject) -> Judged:
    if it.spec is None:
        return Judged("failed", REMOVED)
    if why := never(condition, it.spec):
        return Judged("failed", why)
    if goal.slots and max(goal.slots) > it.count:
        return Judged("failed", f"has no slot {max(goal.slots)} any more")
    is_met, why = standing.stands(it.plan, goal.slots, condition)
    if is_met:
        return DONE
    if not why and it.kept:
        why = "is not replaced: the revision is not good"
    return Judged("failed", why) if why else OPEN


def _stopped(goal: Goal, it: Subject) -> Judged:
    live = it.observed.live
    is_wanted = it.spec is not None and not it.idle
    if goal.slots:
        live = live & {*goal.slots}
        is_wanted = is_wanted and min(goal.slots) <= it.count
    resting = all(
        slot.state in {"Completed", "Stopped"} or (slot.state == "Failed" and slot.next_ns is None)
        for number, slot in it.plan.conditions.items()
        if not goal.slots or number in goal.slots
    )
    if not live and (resting or not is_wanted):
        return DONE
    if is_wanted and it.spec is not None and it.spec.restart == "always":
        return Judged("failed", f"is to run; `reconcile stop {it.name}` stops it")
    return OPEN


def _up(goal: Goal, it: Subject) -> Judged:
    if it.spec is None or it.idle:
        return Judged("failed", f"does not run: {it.idle}" if it.spec else REMOVED)
    slots, kept = {slot.slot: slot for slot in it.status.slots}, {*it.kept}
    asked = goal.slots or tuple(range(1, it.count + 1))
    if max(asked) > it.count:
        return Judged("failed", f"slot {max(asked)} was scaled away meanwhile")
    for slot in (slots[number] for number in asked if number in slots):
        which = f"slot {slot.slot}: " if it.count > 1 else ""
        if slot.state == "Failed" and slot.next_ns is None:
            return Judged("failed", f"{which}{slot.note}")
        if slot.stuck and not slot.outdated:
            return Judged("failed", f"{which}{slot.note}")
        if slot.slot in kept:
            return Judged("failed", f"{which}is not replaced: the revision is not good")
    if not goal.slots:
        return DONE if it.status.as_desired else OPEN
    return DONE if all(n in slots and slots[n].as_desired for n in asked) else OPEN


def _ended(goal: Goal, it: Subject) -> Judged:
    runs, bad = it.observed.job.runs, []
    for slot in goal.slots or _of_generation(goal.number, it):
        run = runs.get(slot)
        which = f"slot {slot}: " if it.status.want > 1 else ""
        if run is None or run.generation < goal.number or run.outcome is None:
            if it.spec is None:
                return Judged("failed", REMOVED)
            if it.idle and ProcessId(it.name, slot) not in it.observed.records:
                return Judged("failed", f"{which}was not fired: {it.idle}")
            return OPEN
        if goal.number and run.generation > goal.number:
            bad.append(f"{which}run {run.generation} came after it: see `reconcile runs {it.name}`")
        elif run.outcome != "succeeded":
            bad.append(f"{which}{run.result}")
    return _failed(bad)


def _of_generation(number: int, it: Subject) -> list[int]:
    """Return the slots that a generation has fired or is about to fire."""
    runs, spec = it.observed.job.runs, it.spec
    due: tuple[int, ...] = ()
    if spec is not None:
        due = generations.due_slots(it.name, spec, it.observed, it.base_hash, it.facts)
    return sorted({slot for slot, run in runs.items() if run.generation >= number} | {*due})


def _reloaded(goal: Goal, it: Subject) -> Judged:
    """A process that has ended since needs no reload: the next one reads what there is."""
    bad = []
    for id, record in sorted(it.observed.records.items(), key=lambda pair: pair[0].slot):
        if id.role != MAIN or (goal.slots and id.slot not in goal.slots):
            continue
        if not pid_of(record.phase):
            continue
        if record.memory.reloaded < goal.number:
            return OPEN
        if record.memory.reload_trouble:
            bad.append(f"slot {id.slot}: {record.memory.reload_trouble}")
    return _failed(bad)


def _failed(bad: list[str]) -> Judged:
    """Return what failed, the first of it where it is much; done when nothing did."""
    if not bad:
        return DONE
    more = f"; and {len(bad) - MAX_TOLD} more" if len(bad) > MAX_TOLD else ""
    return Judged("failed", "; ".join(bad[:MAX_TOLD]) + more)
