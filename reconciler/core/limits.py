"""Limits that the manager watches: which process was seen above one of them, and how that is said.

What was seen is a fact about one incarnation (`LimitExceeded`); whether it is too much is asked of the spec anew by
each plan, so that an edit of the limit counts at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from reconciler.model.observation import LimitExceeded, WatchedLimit
from reconciler.model.process import ProcessRecord
from reconciler.model.spec import WatcherSpec
from reconciler.model.units import format_count, format_size

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


def _amount(limit: WatchedLimit, amount: int) -> str:
    return format_size(amount) if limit == "max_memory" else f"{amount}%"


def was_over(stop_reason: str) -> bool:
    """Tell whether a process was stopped because it was over a limit."""
    return stop_reason.startswith(_OVER)
