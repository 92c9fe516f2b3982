"""Limits of a process with all that it started: those that the manager watches, and those of its control group.

What was seen is a fact about one incarnation (`LimitExceeded`); whether it is too much is asked of the spec anew by
each plan, so that an edit of the limit counts at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from reconciler.model.observation import LimitExceeded, WatchedLimit
from reconciler.model.observed import Facts
from reconciler.model.process import ProcessRecord
from reconciler.model.spec import GroupLimitsSpec, LimitsSpec, WatcherSpec, declared_fields
from reconciler.model.units import format_count, format_size

_NO_LIMITS: Final = GroupLimitsSpec()
_WRITTEN: Final = {"cpu_max": "{}000 100000", "io_weight": "default {}"}
"""How files are written that take more than a number: a percentage of a processor is so many ms of each 100."""
_OVER: Final = "over "
"""How the reason begins with which a process is stopped that was over a limit."""


def over(spec: WatcherSpec, exceeded: Mapping[int, LimitExceeded], record: ProcessRecord) -> str:
    """Return which limit a process is over, and by how much; empty: none."""
    found = exceeded.get(record.id.slot)
    if found is None or found.incarnation != record.incarnation or found.limit is None:
        return ""
    allowed: int | None = getattr(spec.limits, found.limit)
    if allowed is None or found.used <= allowed:
        return ""
    used = f"{_amount(found.limit, found.used)} in {format_count(found.samples, 'sample')}"
    return f"{_OVER}{found.limit} {_amount(found.limit, allowed)}: {used}"


def group_limits(limits: LimitsSpec) -> dict[str, str]:
    """Return what the files of a process's control group shall say (cgroup-v2.rst)."""
    found = {}
    for declared in declared_fields(GroupLimitsSpec):
        value: int | None = getattr(limits.cgroup, declared.attribute)
        if value is not None:
            found[declared.name.replace("_", ".")] = _WRITTEN.get(declared.name, "{}").format(value)
    return found


def group_limits_here(limits: LimitsSpec, facts: Facts) -> dict[str, str]:
    """Return what of this a control group can have here."""
    if limits.cgroup == _NO_LIMITS:
        return {}
    files = group_limits(limits).items()
    return {name: text for name, text in files if _controller(name) in facts.controllers}


def not_in_force(limits: LimitsSpec, record: ProcessRecord, facts: Facts) -> str:
    """Return in words which limits of its control group do not count for a process, and why; empty: all do."""
    if limits.cgroup == _NO_LIMITS:
        return ""
    wanted, now = group_limits(limits), record.settings.group_limits
    missing = {name: text for name, text in wanted.items() if now.get(name) != text}
    if not missing:
        return ""
    lacking = sorted({_controller(name) for name in missing} - {*facts.controllers})
    why = "the kernel does not take them"
    if not facts.controllers:
        why = "the manager has no control groups for them"
    elif lacking:
        why = f"control groups have no {' and '.join(lacking)} controller here"
    names = ", ".join(name.replace(".", "_") for name in missing)
    return f"limits.cgroup not in force: {names}: {why}; see reconcile doctor"


def _controller(file: str) -> str:
    return file.partition(".")[0]


def _amount(limit: WatchedLimit, amount: int) -> str:
    return format_size(amount) if limit == "max_memory" else f"{amount}%"


def was_over(stop_reason: str) -> bool:
    """Tell whether a process was stopped because it was over a limit."""
    return stop_reason.startswith(_OVER)
