"""Generations of a job: what calls for a new one, and which slots it fires.

One rule: the slots to fire are those without a run in the current generation.
"""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.core import desired
from reconciler.core.template import same_files, same_spec, same_template
from reconciler.model.job import Generation, Instant, Job, Outcome, Trigger
from reconciler.model.observed import Facts, WatcherObserved
from reconciler.model.process import MAIN
from reconciler.model.spec import Overlap, WatcherSpec
from reconciler.model.value import Struct, replace


def due_trigger(
    name: str, spec: WatcherSpec, observed: WatcherObserved, base_hash: str, facts: Facts
) -> Trigger | None:
    """Return what beside the schedule calls for a new generation now, if anything does.

    Without `autostart` only operators do. A job that `--exit-with` names is fired by each manager: whose runs had
    ended before would never end it.
    """
    job, hold = observed.job, observed.intent.hold
    if not job.known or not (spec.autostart or hold == "started") or hold == "stopped":
        return None
    if not desired.count(spec, observed.intent):
        return None
    last = job.generation
    if last is None:
        return None if spec.waits_for_schedule else "first"
    if spec.waits_for_schedule:
        same = not same_spec(last.run_hash, base_hash) or same_files(last.run_hash, base_hash)
        return None if same else "files_changed"
    if not same_spec(last.run_hash, base_hash) and "spec_change" in spec.rerun_on:
        return "spec_change"
    if not same_files(last.run_hash, base_hash):
        return "files_changed"
    if last.boot_id != facts.boot_id and "boot" in spec.rerun_on:
        return "boot"
    if last.keeper_id != facts.keeper_id and "daemon_start" in spec.rerun_on:
        return "daemon_start"
    if last.keeper_id != facts.keeper_id and name in facts.exit_with:
        return None if _has_process(observed, last) else "daemon_start"
    return None


def _has_process(observed: WatcherObserved, generation: Generation) -> bool:
    """Tell whether a process of a generation is known: one that was adopted ends under this manager."""
    mains = (record for id, record in observed.records.items() if id.role == MAIN)
    return any(record.memory.generation == generation.number for record in mains)


def why_not_fired(name: str, spec: WatcherSpec, observed: WatcherObserved, base_hash: str) -> str:
    """Return why a job that `due_trigger` does not fire is not fired, with what fires it."""
    last = observed.job.generation
    if idle := desired.why_idle(name, spec, observed.intent):
        return idle
    if not (spec.autostart or observed.intent.hold == "started"):
        return f"autostart is false; `reconcile rerun {name}` runs it"
    if not observed.job.known:
        return "its run history was damaged"
    if spec.waits_for_schedule:
        return "it waits for its schedule"
    if last is None:
        return ""
    if same_template(last.run_hash, base_hash):
        return f"generation {last.number} has run"
    return "rerun_on has no spec_change"


def lost_slots(
    spec: WatcherSpec, job: Job, want: int, among: Sequence[int] | None = None
) -> tuple[int, ...]:
    """Return the slots, of all or of those `among`, whose run was lost and shall be fired again (`on_lost`)."""
    if spec.on_lost != "rerun" or job.generation is None or not job.known:
        return ()
    number, runs = job.generation.number, job.runs
    slots = range(1, want + 1) if among is None else among
    lost = (slot for slot in slots if slot in runs and runs[slot].outcome == "lost")
    return tuple(slot for slot in lost if runs[slot].generation == number)


def next_generation(
    job: Job,
    base_hash: str,
    trigger: Trigger,
    facts: Facts,
    slots: tuple[int, ...] | None = None,
    *,
    replaces: bool = False,
    who: str = "",
    instant: Instant | None = None,
) -> Generation:
    """Return the generation after the newest one; of a job in doubt only its runs may tell which that was."""
    numbers = [run.generation for run in job.runs.values()]
    number = 1 + max([0 if job.generation is None else job.generation.number, *numbers])
    last = job.generation
    doubted = last.doubted if last is not None and slots is not None else ()
    return Generation(
        number,
        base_hash,
        trigger,
        facts.boot_id,
        facts.keeper_id,
        slots,
        replaces,
        who,
        instant,
        doubted,
    )


def after_other(spec: WatcherSpec, former: Job, newer: Generation | None) -> Generation | None:
    """Return the generation that takes the place of a newer one, None when that can stay.

    While somebody's word was written down the schedule may have fired the job: then the number is another's, and
    what is still to be fired for the schedule shall not be forgotten.
    """
    last = former.generation
    if newer is None or last is None or newer.number > last.number or newer == last:
        return None
    count = max([spec.numprocesses, *(newer.slots or ())])
    waiting = to_fire(spec, former, count)
    slots = None if newer.slots is None else tuple(sorted({*newer.slots, *waiting}))
    return replace(newer, number=last.number + 1, slots=slots)


def to_fire(
    spec: WatcherSpec, job: Job, want: int, among: Sequence[int] | None = None
) -> list[int]:
    """Return the slots, of all or of those `among`, that have no run in the current generation and belong to it."""
    generation = job.generation
    if generation is None or not job.known:
        return []
    due = []
    for slot in range(1, want + 1) if among is None else among:
        run = job.runs.get(slot)
        chosen = generation.slots is None or slot in generation.slots
        if slot in generation.doubted and not chosen and run is None:
            continue
        is_new = run is None and spec.autostart and not spec.waits_for_schedule
        if is_new or (chosen and (run is None or run.generation < generation.number)):
            due.append(slot)
    return due


def due_slots(
    name: str, spec: WatcherSpec, observed: WatcherObserved, base_hash: str, facts: Facts
) -> tuple[int, ...]:
    """Return the slots that are fired by themselves as soon as their gates are open and they are free."""
    want = desired.wanted(spec, observed.intent)
    if due_trigger(name, spec, observed, base_hash, facts) is not None:
        return tuple(range(1, want + 1))
    return tuple(to_fire(spec, observed.job, want))


# ---- by an operator -------------------------------------------------------------------------------


class Rerun(Struct, frozen=True):
    """What a rerun fires, which of that once the present run has ended, and which slots it leaves alone as they run."""

    generation: Generation
    fired: tuple[int, ...]
    queued: tuple[int, ...]
    running: tuple[int, ...]


def rerun(
    spec: WatcherSpec,
    observed: WatcherObserved,
    slots: tuple[int, ...] | None,
    base_hash: str,
    facts: Facts,
    *,
    failed: bool = False,
    overlap: Overlap | None = None,
    who: str = "",
) -> Rerun:
    """Return the generation that an operator's rerun makes.

    `slots` None means all that there are; `failed` keeps those whose last run did not succeed. With overlap
    `skip` a slot that runs is left alone for good; with `queue` it is fired once it has ended, however often that
    is asked for meanwhile; with `replace` it is stopped and fired.
    """
    count = desired.count(spec, observed.intent)
    chosen = [slot for slot in slots or range(1, count + 1) if slot <= count]
    runs = observed.job.runs
    if failed:
        chosen = [s for s in chosen if s in runs and runs[s].outcome not in {None, "succeeded"}]
    opened = (slot for slot in observed.open_runs if runs[slot].keeper_id == facts.keeper_id)
    alive = {*observed.running, *opened}
    running = tuple(slot for slot in chosen if slot in alive)
    overlap = overlap or spec.overlap
    fired = tuple(slot for slot in chosen if overlap != "skip" or slot not in alive)
    # Slots that wait for their run in the present generation shall not miss it in the next one.
    waiting = {*to_fire(spec, observed.job, count)} - {*chosen}
    generation = next_generation(
        observed.job,
        base_hash,
        "operator",
        facts,
        (*fired, *sorted(waiting)),
        replaces=overlap == "replace",
        who=who,
    )
    if not observed.job.known:
        generation = _after_damage(spec, observed, generation, fired)
    return Rerun(
        generation,
        fired,
        running if overlap == "queue" else (),
        running if overlap == "skip" else (),
    )


def _after_damage(
    spec: WatcherSpec, observed: WatcherObserved, generation: Generation, fired: tuple[int, ...]
) -> Generation:
    """Return a generation that fires nothing but what was named, and is newer than all that is known.

    Naming one slot is no consent to fire the others, nor what still runs once it has ended. Processes
    remember their generation when the ledger does not: the number must not be theirs.
    """
    seen = [record.memory.generation for record in observed.records.values()]
    doubted = tuple(slot for slot in range(1, spec.numprocesses + 1) if slot not in fired)
    return replace(
        generation, number=max([generation.number, *(s + 1 for s in seen)]), doubted=doubted
    )


# ---- what came of it ------------------------------------------------------------------------------


def result(job: Job, want: int) -> tuple[Outcome, int]:
    """Return what a whole job came to, and its exit code: succeeded and 0, or as the first slot that did not.

    1 where that has no exit code: it was killed by a signal, stopped, lost, or never started.
    """
    for run in (job.runs.get(slot) for slot in range(1, want + 1)):
        if run is not None and run.outcome is not None and run.outcome != "succeeded":
            return run.outcome, (run.exit.code if run.exit is not None else None) or 1
    return "succeeded", 0
