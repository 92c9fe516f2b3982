"""Probes that are commands: processes beside a slot, one after the other, whose exit codes are the answers.

The record of the newest run is the whole state, so a new controller goes on where the old one was: whom it was run for
(`about`), what the runs before it came to, and how it ended.
"""

from __future__ import annotations

from typing import Final

from reconciler.core import hooks
from reconciler.core.backoff import SHORTAGE_RETRY_NS
from reconciler.core.plan import Plan
from reconciler.core.template import helper_argv, helper_launch
from reconciler.model.action import Spawn
from reconciler.model.probe import Streak
from reconciler.model.process import Exited, Memory, ProcessRecord, began_ns, pid_of
from reconciler.model.spec import ProbeSpec
from reconciler.model.units import format_duration
from reconciler.model.value import Struct, replace

MAX_SHOWN: Final = 200


class Answer(Struct, frozen=True):
    """What a probe has come to; the message says what was asked. `passed` None: that is not known yet."""

    passed: bool | None
    message: str
    at_ns: int = 0
    """Since when it comes to that, 0: that is not known."""


def answer(plan: Plan, main: ProcessRecord, role: str, probe: ProbeSpec) -> Answer:
    """Return what the probe of a process has come to, with its newest run where that has ended."""
    streak, trouble = _known(plan, main, role, probe)
    passed = streak.verdict(failures=probe.patience, successes=probe.successes)
    what = f"exec {(probe.exec or ('',))[0]}"
    return Answer(passed, f"{what}: {trouble}" if trouble else f"{what} has not answered yet")


def _known(plan: Plan, main: ProcessRecord, role: str, probe: ProbeSpec) -> tuple[Streak, str]:
    """Return what the runs of a probe have come to, and what the last one that failed has said."""
    record = plan.observed.records.get(plan.id(main.id.slot, role))
    if record is None or record.memory.about != main.incarnation:
        return Streak(), ""
    memory, phase = record.memory, record.phase
    streak = Streak(memory.attempt, memory.passed)
    if not isinstance(phase, Exited) or hooks.said_nothing(record):
        return streak, memory.trouble
    ok = phase.exit.code == 0
    streak = streak.after(ok=ok, failures=probe.patience, successes=probe.successes)
    return streak, memory.trouble if ok else _trouble(probe, record, phase)


def ask(plan: Plan, main: ProcessRecord, role: str, probe: ProbeSpec, since_ns: int) -> None:
    """Run the command of a probe when it is due: `initial_delay` after `since_ns`, then once in each interval."""
    assert probe.exec is not None
    id = plan.id(main.id.slot, role)
    record = plan.observed.records.get(id)
    plan.used.add(id)
    if record is not None and not isinstance(record.phase, Exited):
        hooks.kill_when_due(plan, record, probe.timeout)
        return
    is_first = record is None or record.memory.about != main.incarnation
    due_ns = since_ns + probe.initial_delay if is_first else _again_ns(record, probe)
    if not plan.is_due(due_ns) or (record is not None and not hooks.clear(plan, record, 0)):
        return
    streak, trouble = _known(plan, main, role, probe)
    memory = Memory(about=main.incarnation, attempt=streak.failed, passed=streak.passed)
    memory = replace(memory, trouble=trouble)
    argv, slot = helper_argv(plan.spec, probe.exec, id.slot), id.slot
    env = {"RECONCILE_PID": str(pid_of(main.phase) or "")}
    launch = helper_launch(plan.name, plan.spec, slot, argv, env, plan.world.facts, probe.timeout)
    plan.act(Spawn(id, launch, memory=memory))


def _again_ns(record: ProcessRecord | None, probe: ProbeSpec) -> int:
    """Return when a probe is asked again that has ended."""
    assert record is not None
    assert isinstance(record.phase, Exited)
    if hooks.said_nothing(record):
        return record.phase.at_ns + SHORTAGE_RETRY_NS
    return max(began_ns(record.phase) + probe.interval, record.phase.at_ns)


def _trouble(probe: ProbeSpec, record: ProcessRecord, phase: Exited) -> str:
    """Return what a run says that has failed: its last line, or how it ended."""
    if record.had_to_be_killed:
        return f"no answer within {format_duration(probe.timeout)}"
    said = phase.output.decode(errors="replace").strip().rpartition("\n")[2].strip()
    return f"{phase.exit}: {said[:MAX_SHOWN]}" if said else str(phase.exit)
