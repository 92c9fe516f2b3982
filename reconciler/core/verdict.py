"""Whether a revision is good: everything that it changed has to stay up for `apply.confirm_after`.

Each watcher is judged by itself, when something of it was touched, and by what its records say alone:

    open     not everything of it runs as the revision says, or not for long enough yet
    proven   all of it has stayed up, or (a job) has succeeded
    failed   a process of it did not stay up, could not be started, or a job did not succeed

One failure decides against the whole revision, all watchers proven decide for it, and nothing else is ever
decided: what waits for a port, for a hook or for memory may come yet, and what an operator keeps from running is
judged once it runs. What operators or the manager itself ended is evidence for nothing. What the revision did not
change is not looked at, and a job that waits for its schedule has nothing to prove. A process that did not stay up
is remembered by its successor, so a new controller comes to the same verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal

from reconciler.core import demand, desired, generations, hooks, readiness, rollout, running, surge
from reconciler.core.backoff import is_completed
from reconciler.core.plan import WHOLE, Plan
from reconciler.core.template import run_hash, same_spec, sockets_of
from reconciler.model.intent import Intent
from reconciler.model.observed import Facts, WatcherObserved
from reconciler.model.process import MAIN, Exited, ProcessRecord, Running
from reconciler.model.revision import RevisionOutcome, Trial
from reconciler.model.spec import Spec, WatcherSpec
from reconciler.model.units import SECOND_NS, format_duration
from reconciler.model.value import Struct, replace

OUTCOME_OF_FAILURE: Final[dict[str, RevisionOutcome]] = {
    "pause": "paused",
    "rollback": "rolled_back",
    "keep": "failed",
}
"""By `apply.on_failure`."""


class Finding(Struct, frozen=True):
    """What can be said of one slot, or of its watcher as a whole; of a failure why.

    Of one that is open: when it is proven if nothing happens (None: nobody can tell), and why that is not sooner;
    without either its slot does not run, and the plan says why.
    """

    state: Literal["open", "proven", "failed"]
    reason: str = ""
    slot: int = 0
    due_ns: int | None = None
    output: bytes | None = None
    """Of a failure for which a hook stands: what that wrote."""


PROVEN: Final = Finding("proven")


def changed(
    old: Spec,
    new: Spec,
    observed: Callable[[str], WatcherObserved],
    facts: Facts,
    former: Trial | None = None,
) -> dict[str, int]:
    """Return the watchers of which `new` starts processes that `old` did not, each with the lowest slot.

    What the former revision has not proven yet stays on trial, and so does what an operator keeps from running.
    """
    found = {}
    same_sockets = old.sockets == new.sockets
    for name, spec in new.watchers.items():
        before = old.watchers.get(name)
        if before is spec and same_sockets and not spec.is_job:
            continue  # as it is of most watchers of most edits
        known = observed(name)
        known = replace(known, intent=_without_stop(known.intent))
        if spec.waits_for_schedule:
            continue
        if spec.is_job:
            due = generations.due_slots(name, spec, known, run_hash(spec, new.sockets), facts)
            if due:
                found[name] = due[0]
            continue
        runs = 0
        if before is not None and not before.is_job and _runs_the_same(before, spec, old, new):
            runs = desired.wanted(before, known.intent)
        if desired.wanted(spec, known.intent) > runs:
            found[name] = runs + 1
    if former is not None and former.outcome in {"pending", "paused"}:
        for name, slot in former.changed.items():
            if name in new.watchers and not new.watchers[name].waits_for_schedule:
                found[name] = min(slot, found.get(name, slot))
    if former is not None and former.outcome == "failed" and mends(old, new, former):
        if not new.watchers[former.watcher].waits_for_schedule:
            found.setdefault(former.watcher, 1)
    return found


def mends(old: Spec, new: Spec, former: Trial) -> bool:
    """Tell whether an edit that starts nothing may mend a revision that was not good: by another hook.

    What was known of the one before is not known of it, then: its hooks are asked anew.
    """
    before, after = old.watchers.get(former.watcher), new.watchers.get(former.watcher)
    return before is not None and after is not None and before.hooks != after.hooks


def _without_stop(intent: Intent) -> Intent:
    """Return an operator's override as if it kept nothing from running: what is held is judged once it runs."""
    if intent.hold == "stopped":
        intent = replace(intent, hold=None)
    return replace(intent, scale=None) if intent.scale == 0 else intent


def _runs_the_same(before: WatcherSpec, after: WatcherSpec, old: Spec, new: Spec) -> bool:
    """Tell whether an edit leaves a watcher's processes as they are; most watchers of most edits need no hash."""
    used = sockets_of(after)
    if before == after and all(old.sockets.get(name) == new.sockets.get(name) for name in used):
        return True
    return run_hash(before, old.sockets) == run_hash(after, new.sockets)


def find(plan: Plan, trial: Trial, base_hash: str) -> dict[int, Finding]:
    """Return what can be said of the slots that the plan looks at; it is woken when that may change by itself."""
    intent, name, want = plan.observed.intent, plan.name, plan.want
    first, of_slot = trial.changed[name], _of_run if plan.spec.is_job else _of_process
    if want < first and desired.wanted(plan.spec, _without_stop(replace(intent, scale=None))):
        few = f"{name} is scaled to {intent.scale}: what is new does not run"
        idle = desired.why_idle(name, plan.spec, intent)
        return {WHOLE: Finding("open", f"{name}: {idle}" if idle else few)}
    changed = (slot for slot in plan.slots.desired(want) if slot >= first)
    found = {slot: of_slot(plan, trial, slot, base_hash) for slot in plan.look(changed)}
    return found if plan.spec.is_job else found | _of_those_beyond(plan, trial, base_hash)


def _of_those_beyond(plan: Plan, trial: Trial, base_hash: str) -> dict[int, Finding]:
    """Return what slots beyond those wanted say against a revision; they prove nothing."""
    beyond = surge.beyond(plan)
    slots = [slot for slot in plan.slots.mains if slot in beyond]
    found = {slot: _of_process(plan, trial, slot, base_hash) for slot in plan.look(slots)}
    return {slot: each for slot, each in found.items() if each.state == "failed"}


def last(findings: Iterable[Finding]) -> Finding | None:
    """Return which of what is open is the last to be proven; None when nothing is."""
    opened = [found for found in findings if found.state == "open"]
    unknown = next((found for found in opened if found.due_ns is None), None)
    return unknown or max(opened, key=lambda found: found.due_ns or 0, default=None)


def why_good(known: Mapping[str, tuple[WatcherSpec, WatcherObserved]], now_ns: int) -> str:
    """Return in words what a revision has proven, with times that were measured; empty: it started nothing."""
    starts: list[int] = []
    succeeded = False
    for spec, observed in known.values():
        if spec.is_job:
            succeeded = True
            continue
        for record in observed.records.values():
            if record.memory.stopping_since_ns is not None:
                continue  # it has nothing to prove
            if record.id.role == MAIN and isinstance(record.phase, Running):
                starts.append(record.phase.started_at_ns)
            else:
                succeeded |= record.id.role == MAIN and is_completed(spec, record)
    parts = []
    if starts:
        lived = (now_ns - max(starts)) // SECOND_NS * SECOND_NS
        how_long = format_duration(lived) if lived else "less than 1s"
        parts.append(f"what it changed stayed up for {how_long}")
    if succeeded:
        parts.append("what it fired succeeded")
    return ", ".join(parts)


def _of_process(plan: Plan, trial: Trial, slot: int, base_hash: str) -> Finding:
    vetoed = _vetoed(plan, trial, slot)
    if vetoed is not None:
        return vetoed
    record, id = plan.slots.main(slot), plan.id(slot)
    if record is None:
        return PROVEN if _is_idle(plan, record) else Finding("open", slot=slot)
    if not same_spec(record.template_hash, base_hash):
        if _is_idle(plan, record):
            return PROVEN
        return Finding("open", f"{id} is still to be replaced", slot)
    reason = rollout.why_failed(plan, record)
    if reason:
        return Finding("failed", f"{id} {reason}", slot, output=_hook_output(plan, record))
    if is_completed(plan.spec, record) or _is_idle(plan, record):
        return PROVEN
    if not isinstance(record.phase, Running) or record.memory.stopping_since_ns is not None:
        return Finding("open", slot=slot)
    if running.awaits_after_start(plan, record) or not running.after_spawn_passed(plan, record):
        return Finding("open", f"a hook has not passed {id} yet", slot)
    missing = readiness.missing(plan, record) if record.memory.probed else None
    if missing is not None:
        return Finding("open", f"{id}: {missing.note}", slot, missing.due_ns)
    if not readiness.is_healthy(plan, record):
        return Finding("failed", f"{id} is {record.memory.trouble}", slot)
    # Where processes are replaced at an age that is less, all of them are seldom older than half of it.
    age = plan.spec.max_age
    due_ns = (record.memory.ready_at_ns or record.phase.started_at_ns) + (
        trial.confirm_after if age is None else min(trial.confirm_after, age // 2)
    )
    if plan.is_due(due_ns):
        return PROVEN
    renewed = record.memory.renewed
    return Finding("open", f"{id} {renewed}" if renewed else "", slot, due_ns)


def _is_idle(plan: Plan, record: ProcessRecord | None) -> bool:
    """Tell whether a slot has no process because nobody has come for it: that says nothing against it."""
    is_dead = record is None or isinstance(record.phase, Exited)
    return is_dead and demand.idle(plan, record) is not None


def _vetoed(plan: Plan, trial: Trial, slot: int) -> Finding | None:
    """Return what a hook said that keeps the slot from being started, None when none did."""
    for role, place in (("before_start", 0), ("before_spawn", slot)):
        hook, record = hooks.hook_of(plan, role), plan.observed.records.get(plan.id(place, role))
        if hook is not None and record is not None:
            verdict = hooks.judge(hook, record)
            if verdict.state == "vetoed" and verdict.since_ns >= trial.begun_ns:
                return Finding("failed", verdict.message, slot, output=_output(record))
    return None


def _hook_output(plan: Plan, record: ProcessRecord) -> bytes | None:
    """Return what the hook wrote for whose sake a process is being stopped; None when there is none."""
    role = {"vetoed": "after_spawn", "refused": "after_start"}.get(record.memory.stop_reason)
    if role is None or record.memory.stopping_since_ns is None:
        return None
    hook = plan.observed.records.get(plan.id(0 if role == "after_start" else record.id.slot, role))
    return None if hook is None else _output(hook)


def _output(record: ProcessRecord) -> bytes:
    return record.phase.output if isinstance(record.phase, Exited) else b""


def _of_run(plan: Plan, _trial: Trial, slot: int, base_hash: str) -> Finding:
    job = plan.observed.job
    if not job.known:
        return PROVEN  # nothing is fired until somebody reruns it
    run = job.runs.get(slot)
    stale = job.generation is None or not same_spec(job.generation.run_hash, base_hash)
    id = plan.id(slot)
    if stale or run is None or generations.to_fire(plan.spec, job, slot, (slot,)):
        return Finding("open", slot=slot)
    if run.outcome == "succeeded":
        return PROVEN
    if run.outcome is None:
        return Finding("open", f"{id} has not ended yet", slot)
    if run.trigger == "files_changed":
        return Finding("open", f"{id} {run.result}", slot)
    if run.outcome == "stopped":  # that says nothing, neither for nor against it
        return Finding("open", f"{id} was stopped: use `reconcile rerun {plan.name}`", slot)
    return Finding("failed", f"{id} {run.result}", slot)
