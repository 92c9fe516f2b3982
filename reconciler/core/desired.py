"""How many slots of a watcher run, by its spec and the operator's override, and why none does; how many may be away."""

from __future__ import annotations

from reconciler.model.intent import Intent
from reconciler.model.spec import WatcherSpec
from reconciler.model.units import share_of, some_of


def count(spec: WatcherSpec, intent: Intent) -> int:
    """Return how many slots a watcher has, by the spec and the operator's `scale`."""
    return spec.numprocesses if intent.scale is None else intent.scale


def wanted(spec: WatcherSpec, intent: Intent) -> int:
    """Return how many slots run, by the spec and the operator's override.

    Of a job: how many a generation has. Without `autostart` only an operator begins one.
    """
    starts = spec.autostart or spec.is_job or intent.hold == "started"
    return count(spec, intent) if starts and intent.hold != "stopped" else 0


def is_held(intent: Intent) -> bool:
    """Tell whether an operator keeps every slot from running."""
    return intent.hold == "stopped" or intent.scale == 0


def why_idle(name: str, spec: WatcherSpec, intent: Intent) -> str:
    """Return why nothing of a watcher shall run, with what changes that; empty when something shall."""
    if intent.hold == "stopped":
        by = f" by {intent.hold_by.who}" if intent.hold_by.who else ""
        return f"it is stopped{by}; `reconcile start {name}` starts it"
    if not count(spec, intent):
        if intent.scale is None:
            return f"numprocesses is 0; `reconcile scale {name}=N` starts N"
        return f"it is scaled to 0; `reconcile scale {name}=N` starts N, {name}=spec as many as in the spec"
    if not wanted(spec, intent):
        return f"autostart is false; `reconcile start {name}` starts it"
    return ""


def max_unavailable(spec: WatcherSpec, want: int) -> int:
    """Return how many of the wanted slots may be without a ready process for a roll."""
    most, surge = spec.rollout.max_unavailable, max_surge(spec, want)
    if most is None:
        most = 0 if surge else 1
    found = share_of(most, want)
    return found if surge else max(1, found)


def max_surge(spec: WatcherSpec, want: int) -> int:
    """Return how many slots beyond those wanted may run while others are replaced."""
    return some_of(spec.rollout.max_surge, want) if want else 0


def least_ready(spec: WatcherSpec, want: int) -> int:
    """Return how many of the wanted slots are ready at least as long as the watcher is."""
    return min(want, max(1, want - max_unavailable(spec, want)))


def pace(spec: WatcherSpec, want: int) -> str:
    """Return in words how many slots are replaced at a time."""
    most = max_unavailable(spec, want) + max_surge(spec, want)
    if most == 1:
        return "one by one"
    return "all at once" if most >= want else f"{most} at a time"
