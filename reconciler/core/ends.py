"""When one ends, all end (`on_exit`, `on_failure`, `--exit-with`): whose end that is, and with what the manager exits.

    restart      on_exit: shutdown                  on_failure: shutdown
    always       the first end of a process         the first failure; with max_restarts: a slot is given up
    on-failure   one is completed, or given up      the same
    never        all slots have run                 the first run that has not succeeded

That is an end to which a process has come by itself: what the manager or an operator has ended is none, nor what nobody
saw.
The record of a service, or the run of a job, says so for as long as it is there: the next controller decides the same.
"""

from __future__ import annotations

from typing import Final, Literal

from reconciler.core import desired, generations
from reconciler.core.backoff import ended_by_operator
from reconciler.core.plan import WHOLE, Ended, Plan
from reconciler.core.slots import SlotCondition
from reconciler.model.job import Run
from reconciler.model.observed import Facts, WatcherObserved
from reconciler.model.process import Exit, Exited, ProcessRecord
from reconciler.model.spec import WatcherSpec


def why_not_to_come(
    name: str, spec: WatcherSpec | None, observed: WatcherObserved, base_hash: str, facts: Facts
) -> str:
    """Return why the end of a watcher does not come by itself: nothing of it runs, or is about to; empty: it may."""
    if observed.live or observed.open_runs or observed.writing:
        return ""
    if spec is None:
        return "it stands in no spec any more"
    if not spec.is_job:
        return desired.why_idle(name, spec, observed.intent)
    if spec.schedule is not None or generations.due_slots(name, spec, observed, base_hash, facts):
        return desired.why_idle(name, spec, observed.intent)
    why = generations.why_not_fired(name, spec, observed, base_hash)
    return why if "`reconcile" in why else f"{why}; `reconcile rerun {name}` runs it"


ENDING: Final = SlotCondition("Stopping", "it has ended, and with it everything")


def ends_at_once(plan: Plan, dead: ProcessRecord) -> bool:
    """Tell whether the end of a service's process is the end of all, whatever would be done about it otherwise."""
    assert isinstance(dead.phase, Exited)
    spec, exit, error = plan.spec, dead.phase.exit, dead.phase.exit.error
    if not _is_its_own(dead, dead.phase) or (error is not None and error.is_shortage):
        return False
    is_failure = exit.code not in spec.success_exit_codes
    if is_failure and spec.on_failure is not None and spec.max_restarts is None:
        return _process(plan, dead, "on_failure")
    return spec.restart == "always" and _is_for_exit(plan) and _process(plan, dead, "on_exit")


def see_rest(plan: Plan, dead: ProcessRecord, held: SlotCondition | None) -> None:
    """See whether a slot of a service that is not started again is the end of all."""
    if held is None or held.next_ns is not None:
        return
    if held.state == "Failed" and plan.spec.on_failure is not None:
        _process(plan, dead, "on_failure")
    elif held.state in {"Completed", "Failed"} and _is_for_exit(plan):
        _process(plan, dead, "on_exit")


def see_run(plan: Plan, slot: int) -> None:
    """See whether the run that a slot of a job has made has failed, and that is the end of all."""
    run = plan.observed.job.runs.get(slot)
    if run is None or plan.spec.on_failure is None or slot > plan.want:
        return
    if _has_failed(plan.spec, run) and _is_of_this_life(plan, run):
        _run(plan, run, slot, "on_failure")


def see_job(plan: Plan) -> None:
    """See whether the end of a job, of which nothing is left to be done, is the end of all."""
    if not _is_for_exit(plan):
        return
    runs = [plan.observed.job.runs.get(slot) for slot in range(1, plan.want + 1)]
    ended = [run for run in runs if run is not None and run.outcome not in {None, "stopped"}]
    if not ended or len(ended) < len(runs):
        return
    failed = next((run for run in ended if run.outcome != "succeeded"), None)
    if any(_is_of_this_life(plan, run) for run in ended):
        _run(plan, failed or ended[0], WHOLE if plan.want > 1 else 1, "on_exit")


# ---- what has ended -------------------------------------------------------------------------------


def _is_for_exit(plan: Plan) -> bool:
    return plan.spec.on_exit is not None or plan.name in plan.world.facts.exit_with


def _is_its_own(dead: ProcessRecord, phase: Exited) -> bool:
    """Tell whether a process has ended by itself, and somebody saw how."""
    was_stopped = dead.memory.stopping_since_ns is not None and not dead.ended_before_stop
    return not was_stopped and phase.exit != Exit() and not ended_by_operator(dead.memory, phase)


def _has_failed(spec: WatcherSpec, run: Run) -> bool:
    """Tell whether a run has not succeeded, and nothing fires it again by itself."""
    if run.outcome in {None, "succeeded", "stopped"}:
        return False
    return run.outcome != "lost" or spec.on_lost != "rerun"


def _is_of_this_life(plan: Plan, run: Run) -> bool:
    """Tell whether a run has ended under this manager: it began there, or its process is still known."""
    record = plan.slots.main(run.slot)
    is_known = record is not None and record.memory.generation == run.generation
    return is_known or run.keeper_id == plan.world.facts.keeper_id


# ---- what follows ---------------------------------------------------------------------------------

_Field = Literal["on_exit", "on_failure"]


def _process(plan: Plan, dead: ProcessRecord, field: _Field) -> bool:
    assert isinstance(dead.phase, Exited)
    exit = dead.phase.exit
    code = exit.as_code if field == "on_exit" else max(exit.as_code, 1)
    return _note(plan, Ended(dead.id, dead.phase.at_ns, code, str(exit), _why(plan, field)))


def _run(plan: Plan, run: Run, slot: int, field: _Field) -> None:
    code = 1 if run.exit is None else run.exit.as_code
    if run.outcome != "succeeded":
        code = max(code, 1)
    at_ns = plan.now_ns if run.duration_ns is None else run.fired_at_ns + run.duration_ns
    _note(plan, Ended(plan.id(slot), at_ns, code, run.result, _why(plan, field)))


def _why(plan: Plan, field: _Field) -> str:
    is_named = field == "on_exit" and plan.spec.on_exit is None
    return "--exit-with names it" if is_named else f"its {field} is shutdown"


def _note(plan: Plan, ended: Ended) -> bool:
    """Take down what ends everything, unless a rollback is about to undo what has failed."""
    trial = plan.world.trial
    if trial is not None and trial.outcome == "rolled_back" and plan.name in trial.changed:
        return False
    if plan.ended is None or ended.at_ns < plan.ended.at_ns:
        plan.ended = ended
    return True
