"""When a process counts as ready, and when its slot as steady: rollout, plan and status ask here, nobody else knows.

Without `ready` a process is ready when it has lived a second. After several quick deaths in a row that is no
proof: its slot stays a problem until it has lived so long that the next death would not count as quick.

With `ready` it is ready when all that its spec names has come about once; that it was is remembered on its record.
Until then each plan asks what is still missing, kind by kind, of what is known: the next controller finds the same.
What began before its spec said `ready` is ready by its age: nobody is stopped for a probe that came after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from reconciler.core import notifications, probes
from reconciler.core.plan import Plan
from reconciler.model.process import ProcessRecord, Running
from reconciler.model.spec import ReadySpec
from reconciler.model.units import SECOND_NS, format_duration
from reconciler.model.value import Struct

READY_AFTER_NS: Final = SECOND_NS
DEATHS_IN_A_ROW: Final = 2
"""So many quick deaths before the present start make a crash loop."""


class Missing(Struct, frozen=True):
    """What a process has not shown yet of all that makes it ready, for people."""

    note: str
    due_ns: int | None = None
    """When it comes about by itself."""
    is_known: bool = True
    """It was looked for, and is not there; else nobody has looked yet, which is no reason to stop a process."""


Kind: TypeAlias = Callable[[Plan, ProcessRecord, ReadySpec], Missing | None]
"""Tells of one kind of `ready` what is missing; None: nothing, or the spec does not name it."""


def is_ready(plan: Plan, record: ProcessRecord) -> bool:
    """Tell whether a process runs and is ready; asks for another look when that comes about by itself."""
    serves = isinstance(record.phase, Running) and not notifications.ends_by_itself(record)
    return serves and missing(plan, record) is None


def missing(plan: Plan, record: ProcessRecord) -> Missing | None:
    """Return what a running process has not shown yet of what makes it ready; None: it is ready."""
    ready, memory = plan.spec.ready, record.memory
    if ready is None or not memory.probed:
        return _age(plan, record, READY_AFTER_NS)
    if memory.ready_at_ns is not None:
        return None
    return next((found for kind in _KINDS if (found := kind(plan, record, ready))), None)


def since_ns(record: ProcessRecord) -> int:
    """Return since when a process is ready that is."""
    assert isinstance(record.phase, Running)
    return record.memory.ready_at_ns or record.phase.started_at_ns + READY_AFTER_NS


def is_healthy(plan: Plan, record: ProcessRecord) -> bool:
    """Tell whether nothing is held against a process; one that has ended or is being stopped is judged no more."""
    memory = record.memory
    if plan.spec.health is None or not memory.trouble or memory.stopping_since_ns is not None:
        return True
    return not isinstance(record.phase, Running)


def deadline_ns(plan: Plan, record: ProcessRecord) -> int | None:
    """Return when a running process has failed unless it is ready; None: it may take for ever, or is."""
    ready, memory, phase = plan.spec.ready, record.memory, record.phase
    if ready is None or ready.deadline is None or not isinstance(phase, Running):
        return None
    comes_by_itself = ready.delay is not None and not ready.notify
    if comes_by_itself or not memory.probed or memory.ready_at_ns is not None:
        return None
    return notifications.extended_ns(record, phase.started_at_ns + ready.deadline)


def is_shaky(plan: Plan, record: ProcessRecord) -> bool:
    """Tell whether a process was started after several quick deaths and has not outlived them yet."""
    if plan.spec.is_job or record.memory.attempt < DEATHS_IN_A_ROW:
        return False
    phase = record.phase
    return not (isinstance(phase, Running) and plan.is_due(steady_at_ns(plan, phase)))


def steady_at_ns(plan: Plan, running: Running) -> int:
    """Return when a process has outlived the deaths before it."""
    return running.started_at_ns + plan.spec.backoff.reset_after


# ---- the kinds ------------------------------------------------------------------------------------


def _age(plan: Plan, record: ProcessRecord, age_ns: int) -> Missing | None:
    assert isinstance(record.phase, Running)
    due_ns = record.phase.started_at_ns + age_ns
    if plan.is_due(due_ns):
        return None
    return Missing(f"ready after {format_duration(age_ns)} of uptime", due_ns)


def _delay(plan: Plan, record: ProcessRecord, ready: ReadySpec) -> Missing | None:
    return None if ready.delay is None else _age(plan, record, ready.delay)


def _notify(plan: Plan, record: ProcessRecord, ready: ReadySpec) -> Missing | None:
    """It has said so itself; one that has no socket for it is to be replaced by one that has."""
    if not ready.notify or record.notified is None or record.notified.ready_at_ns is not None:
        return None
    return Missing(f"not ready: {notifications.not_ready(plan.spec, record.notified)}")


def _probe(plan: Plan, record: ProcessRecord, ready: ReadySpec) -> Missing | None:
    """It has been asked, and has answered as it should."""
    if not probes.is_asked(ready):
        return None
    found = probes.answer(plan, record, probes.READY, ready)
    if found.passed:
        return None
    return Missing(f"not ready: {found.message}", is_known=found.passed is not None)


_KINDS: Final[tuple[Kind, ...]] = (_delay, _notify, _probe)
"""All of those that a spec names have to have come about."""
