"""When a process counts as ready, and when its slot as steady: rollout, plan and status ask here, nobody else knows.

Without a probe a process is ready when it has lived a second. After several quick deaths in a row that is no
proof: its slot stays a problem until it has lived so long that the next death would not count as quick.
"""

from __future__ import annotations

from typing import Final

from reconciler.core.plan import Plan
from reconciler.model.process import ProcessRecord, Running
from reconciler.model.units import SECOND_NS

READY_AFTER_NS: Final = SECOND_NS
DEATHS_IN_A_ROW: Final = 2
"""So many quick deaths before the present start make a crash loop."""


def ready_at_ns(running: Running) -> int:
    """Return when a running process is ready if it lives on."""
    return running.started_at_ns + READY_AFTER_NS


def is_ready(plan: Plan, record: ProcessRecord) -> bool:
    """Tell whether a process runs and is ready; asks for another look when it will be."""
    return isinstance(record.phase, Running) and plan.is_due(ready_at_ns(record.phase))


def is_shaky(plan: Plan, record: ProcessRecord) -> bool:
    """Tell whether a process was started after several quick deaths and has not outlived them yet."""
    if plan.spec.is_job or record.memory.attempt < DEATHS_IN_A_ROW:
        return False
    phase = record.phase
    return not (isinstance(phase, Running) and plan.is_due(steady_at_ns(plan, phase)))


def steady_at_ns(plan: Plan, running: Running) -> int:
    """Return when a process has outlived the deaths before it."""
    return running.started_at_ns + plan.spec.backoff.reset_after
