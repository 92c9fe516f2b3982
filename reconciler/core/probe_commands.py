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
from reconciler.model.spec import ReadySpec
from reconciler.model.units import format_duration
from reconciler.model.value import Struct

READY: Final = "ready"
"""Role of the command that tells whether a process is ready."""
MAX_SHOWN: Final = 200


class Answer(Struct, frozen=True):
    """What the runs of a probe have come to. `trouble` is what the last one that failed has said."""

    streak: Streak = Streak()
    trouble: str = ""

    @property
    def is_known(self) -> bool:
        """Tell whether it has answered at all."""
        return self.streak != Streak()


def answer(plan: Plan, main: ProcessRecord, role: str, probe: ReadySpec) -> Answer:
    """Return what the probe of a process has come to, with its newest run where that has ended."""
    record = plan.observed.records.get(plan.id(main.id.slot, role))
    if record is None or record.memory.about != main.incarnation:
        return Answer()
    memory, phase = record.memory, record.phase
    known = Answer(Streak(memory.attempt, memory.passed), memory.trouble)
    if not isinstance(phase, Exited) or hooks.said_nothing(record):
        return known
    ok = phase.exit.code == 0
    streak = known.streak.after(ok=ok, failures=1, successes=probe.successes)
    return Answer(streak, known.trouble if ok else _trouble(probe, record, phase))


def ask(plan: Plan, main: ProcessRecord, role: str, probe: ReadySpec, since_ns: int) -> None:
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
    known = answer(plan, main, role, probe)
    memory = Memory(
        about=main.incarnation,
        attempt=known.streak.failed,
        passed=known.streak.passed,
        trouble=known.trouble,
    )
    argv, slot = helper_argv(plan.spec, probe.exec, id.slot), id.slot
    env = {"RECONCILE_PID": str(pid_of(main.phase) or "")}
    launch = helper_launch(plan.name, plan.spec, slot, argv, env, plan.world.facts, probe.timeout)
    plan.act(Spawn(id, launch, memory=memory))


def _again_ns(record: ProcessRecord | None, probe: ReadySpec) -> int:
    """Return when a probe is asked again that has ended."""
    assert record is not None
    assert isinstance(record.phase, Exited)
    if hooks.said_nothing(record):
        return record.phase.at_ns + SHORTAGE_RETRY_NS
    return max(began_ns(record.phase) + probe.interval, record.phase.at_ns)


def _trouble(probe: ReadySpec, record: ProcessRecord, phase: Exited) -> str:
    """Return what a run says that has failed: its last line, or how it ended."""
    if record.had_to_be_killed:
        return f"no answer within {format_duration(probe.timeout)}"
    said = phase.output.decode(errors="replace").strip().rpartition("\n")[2].strip()
    return f"{phase.exit}: {said[:MAX_SHOWN]}" if said else str(phase.exit)
