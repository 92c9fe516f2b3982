"""Whether a revision is good: everything that it changed has to stay up for `apply.confirm_after`.

Each watcher is judged by itself, when something of it was touched, and by what its records say alone:

    open     not everything of it runs as the revision says, or not for long enough yet
    proven   all of it has stayed up, or (a job) has succeeded
    failed   a process of it did not stay up, could not be started, or a job did not succeed

One failure decides against the whole revision, all watchers proven decide for it, and nothing else is ever
decided: what waits for a port, for a hook or for memory may come yet. What the revision did not change is
not looked at. A process that did not stay up is remembered by its successor, so a new controller comes to
the same verdict.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from reconciler.core import hooks, jobs, rollout, watchers
from reconciler.core.backoff import is_completed
from reconciler.core.template import run_hash, same_template, sockets_of
from reconciler.model.process import Running
from reconciler.model.value import Struct

if TYPE_CHECKING:
    from collections.abc import Callable

    from reconciler.core.plan import Draft
    from reconciler.model.observed import Facts, WatcherObserved
    from reconciler.model.process import ProcessRecord
    from reconciler.model.revision import RevisionOutcome, Trial
    from reconciler.model.spec import Spec, WatcherSpec

OUTCOME_OF_FAILURE: Final[dict[str, RevisionOutcome]] = {
    "pause": "paused",
    "rollback": "rolled_back",
    "keep": "failed",
}
"""By `apply.on_failure`."""


class Finding(Struct, frozen=True):
    """What can be said of one watcher; of a failure, why and in which slot."""

    state: Literal["open", "proven", "failed"]
    reason: str = ""
    slot: int = 0


OPEN: Final = Finding("open")
PROVEN: Final = Finding("proven")


def changed(
    old: Spec, new: Spec, observed: Callable[[str], WatcherObserved], facts: Facts
) -> dict[str, int]:
    """Return the watchers of which `new` starts processes that `old` did not, each with the lowest slot."""
    found = {}
    for name, spec in new.watchers.items():
        before = old.watchers.get(name)
        known = observed(name)
        want = watchers.wanted(spec, known.intent)
        if spec.is_job:
            fired = jobs.to_fire(spec, known.job, want)
            trigger = jobs.due_trigger(spec, known, run_hash(spec, new.sockets), facts)
            if want and trigger is not None:
                found[name] = 1
            elif fired:
                found[name] = fired[0]
            continue
        runs = 0
        if before is not None and not before.is_job and _runs_the_same(before, spec, old, new):
            runs = watchers.wanted(before, known.intent)
        if want > runs:
            found[name] = runs + 1
    return found


def _runs_the_same(before: WatcherSpec, after: WatcherSpec, old: Spec, new: Spec) -> bool:
    """Tell whether an edit leaves a watcher's processes as they are; most watchers of most edits need no hash."""
    used = sockets_of(after)
    if before == after and all(old.sockets.get(name) == new.sockets.get(name) for name in used):
        return True
    return run_hash(before, old.sockets) == run_hash(after, new.sockets)


def find(draft: Draft, trial: Trial, base_hash: str) -> Finding:
    """Return what can be said of a watcher now; the draft is woken when that may change by itself."""
    want = watchers.wanted(draft.spec, draft.observed.intent)
    first, of_slot = trial.changed[draft.name], _of_run if draft.spec.is_job else _of_process
    findings = []
    for slot in draft.desired_slots(want):  # the others have proven it
        if slot >= first:
            findings.append(of_slot(draft, trial, slot, base_hash))
            if findings[-1].state == "open":
                draft.restless.add(slot)
    failed = next((each for each in findings if each.state == "failed"), None)
    return failed or next((each for each in findings if each.state == "open"), PROVEN)


def _of_process(draft: Draft, trial: Trial, slot: int, base_hash: str) -> Finding:
    vetoed = _vetoed(draft, trial, slot)
    if vetoed:
        return Finding("failed", vetoed, slot)
    record = draft.main(slot)
    if record is None or not same_template(record.template_hash, base_hash):
        return OPEN
    reason = rollout.why_failed(draft, record)
    if reason:
        return Finding("failed", f"{record.id} {reason}", slot)
    if is_completed(draft.spec, record):
        return PROVEN
    if not isinstance(record.phase, Running) or record.memory.stopping_since_ns is not None:
        return OPEN
    if _is_awaited_by_hook(draft, record):
        return OPEN
    # Where processes are replaced at an age that is less, all of them are seldom older than half of it.
    age = draft.spec.max_age
    enough = trial.confirm_after if age is None else min(trial.confirm_after, age // 2)
    return PROVEN if draft.is_due(record.phase.started_at_ns + enough) else OPEN


def _is_awaited_by_hook(draft: Draft, record: ProcessRecord) -> bool:
    """Tell whether a hook may still say no to a process that runs."""
    of, memory = draft.spec.hooks, record.memory
    return (of.after_spawn is not None and not memory.greeted) or (
        of.after_start is not None and memory.fresh
    )


def _vetoed(draft: Draft, trial: Trial, slot: int) -> str:
    """Return what a hook said that keeps the slot from being started, empty when none did."""
    for role, place in (("before_start", 0), ("before_spawn", slot)):
        hook, record = hooks.hook_of(draft, role), draft.observed.records.get(draft.id(place, role))
        if hook is not None and record is not None:
            verdict = hooks.judge(hook, record)
            if verdict.state == "vetoed" and verdict.since_ns >= trial.begun_ns:
                return verdict.message
    return ""


def _of_run(draft: Draft, _trial: Trial, slot: int, base_hash: str) -> Finding:
    job = draft.observed.job
    if not job.known:
        return PROVEN  # nothing is fired until somebody reruns it
    run = job.runs.get(slot)
    stale = job.generation is None or not same_template(job.generation.run_hash, base_hash)
    if stale or run is None or jobs.to_fire(draft.spec, job, slot, (slot,)):
        return OPEN
    if run.outcome in {
        "succeeded",
        "stopped",
    }:  # an operator who stops a run says nothing against it
        return PROVEN
    if run.outcome is None:
        return OPEN
    how = f": {run.exit}" if run.exit is not None else f": {run.note}" if run.note else ""
    return Finding("failed", f"{draft.name}.{slot} {run.outcome}{how}", slot)
