"""What follows from what a process says of itself (sd_notify(3)); it stands on its record, as the keeper has heard it.

A process that has not said anything is treated as any other. One that is ready stays so while it reloads: many never
say that they have done so, and a reload that was refused is no end.
"""

from __future__ import annotations

from typing import Final

from reconciler.core.plan import Plan
from reconciler.model import servers
from reconciler.model.process import Notified, ProcessRecord, Running
from reconciler.model.spec import WatcherSpec
from reconciler.model.units import SECOND_NS, format_duration
from reconciler.model.value import Struct, replace

MAX_EXTENSION_NS: Final = 3600 * SECOND_NS
"""So long at most a process may put off being given up or killed (`EXTEND_TIMEOUT_USEC`)."""
NOTHING: Final = Notified()


class Failure(Struct, frozen=True):
    """Why a process is stopped by what it has said or has not: the reason, and that as a sentence goes on."""

    reason: str
    trouble: str = ""

    def noted_on(self, record: ProcessRecord) -> ProcessRecord:
        """Return a record that says it."""
        return replace(record, memory=replace(record.memory, trouble=self.trouble))


def of(record: ProcessRecord) -> Notified:
    """Return what a process has said; the same as nothing where it has no socket for that."""
    return record.notified or NOTHING


def extended_ns(record: ProcessRecord, due_ns: int) -> int:
    """Return until when a process is waited for that has until `due_ns`, and may have asked for more."""
    until_ns = of(record).extended_until_ns
    return due_ns if until_ns is None else max(due_ns, min(until_ns, due_ns + MAX_EXTENSION_NS))


def ends_since_ns(record: ProcessRecord) -> int:
    """Return since when a running process ends by itself, 0: it does not."""
    is_asked = record.memory.stopping_since_ns is not None
    return (
        0 if is_asked or not isinstance(record.phase, Running) else of(record).stopping_at_ns or 0
    )


def ends_by_itself(record: ProcessRecord) -> bool:
    """Tell whether a running process has said that it ends, and nobody has asked it to."""
    return ends_since_ns(record) != 0


def why_stop(plan: Plan, record: ProcessRecord) -> Failure | None:
    """Return why a running process is to be stopped by what it has said, or has not."""
    said = of(record)
    if since_ns := ends_since_ns(record):
        if plan.is_due(extended_ns(record, since_ns + plan.spec.stop.timeout)):
            return Failure("announced")
        return None
    if said.late_at_ns is None or _is_still_starting(plan, said):
        return None
    if said.fails or said.watchdog_ns is None:
        return Failure("watchdog", "failing by its own word (WATCHDOG=trigger)")
    silent = format_duration(said.watchdog_ns)
    return Failure("watchdog", f"silent for more than {silent} (watchdog)")


def _is_still_starting(plan: Plan, said: Notified) -> bool:
    """Tell whether a process that has to say when it is ready has not: then its deadline counts, and no watchdog."""
    ready = plan.spec.ready
    return ready is not None and ready.notify and said.ready_at_ns is None


def not_ready(spec: WatcherSpec, said: Notified) -> str:
    """Return what a process has sent instead of READY=1, and what may be the cure where it has sent nothing."""
    if said.status:
        return f'has sent STATUS="{said.status}" but no READY=1'
    if said.is_heard:
        return "has sent messages, but no READY=1"
    program = servers.known_in(spec.cmd)
    cure = ""
    if program in servers.SILENT:
        cure = f": {program} never does, use a probe"
    elif program:
        cure = f": does {program} run with {servers.SWITCHES[program]}?"
    return f"has sent nothing to its notify socket{cure}"


def note(record: ProcessRecord) -> str:
    """Return what is to be said of a process that runs: that it has not finished to take changes."""
    said = of(record)
    if said.reloading_at_ns is None:
        return ""
    status = f': it says "{said.status}"' if said.status else ""
    return f"reloading, it has not said READY=1 since{status}"
