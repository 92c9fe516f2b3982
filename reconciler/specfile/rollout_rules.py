"""Rules of rollouts: something may be replaced at all, and how many slots there may be at a time."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from reconciler.model.units import parse_share, share_of, some_of

if TYPE_CHECKING:
    from reconciler.specfile.given import Given


def check_rollout(rollout: Given | None) -> None:
    """Check that something may be replaced at all."""
    if rollout is None or not rollout.says("max_unavailable") or _surge(rollout, 100):
        return
    with suppress(ValueError):
        if not share_of(parse_share(rollout.data.get("max_unavailable")), 100):
            message = "with 0 no process could ever be replaced"
            hint = "write: max_unavailable: 1, or max_surge: 1 for another one to serve meanwhile"
            rollout.wrong("max_unavailable", message, hint)


def most_slots(watcher: Given) -> object:
    """Return how many slots of a watcher there may be at a time, with those of `max_surge`; as given if no number."""
    slots, rollout = watcher.data.get("numprocesses", 1), watcher.block("rollout")
    if rollout is None or not isinstance(slots, int):
        return slots
    return slots + _surge(rollout, slots)


def _surge(rollout: Given, slots: int) -> int:
    if not rollout.says("max_surge"):
        return 0
    with suppress(ValueError):
        return some_of(parse_share(rollout.data.get("max_surge")), slots)
    return 0
