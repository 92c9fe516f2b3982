"""Overrides and requests, recorded: each function returns the new intent in place of the old."""

from __future__ import annotations

from reconciler.model.intent import NOBODY, Intent, RequestedBy, Until
from reconciler.model.value import replace

# ---- what is said ---------------------------------------------------------------------------------


def started(intent: Intent, by: RequestedBy, *, autostart: bool) -> Intent:
    """Return the intent after `start`: no hold; one that does not start by itself is held started.

    With an end to it, every watcher is held started: an edit of `autostart` must not stop it before.
    """
    if autostart and by.until is None:
        return replace(intent, hold=None, hold_by=NOBODY)
    return replace(intent, hold="started", hold_by=by)


def stopped(intent: Intent, by: RequestedBy) -> Intent:
    """Return the intent after `stop`: it rests until it is started, or until its time is over."""
    return replace(intent, hold="stopped", hold_by=by)


def scaled(intent: Intent, by: RequestedBy, numprocesses: int | None) -> Intent:
    """Return the intent after `scale`; None takes the spec's number again."""
    said = by if numprocesses is not None else NOBODY
    return replace(intent, scale=numprocesses, scale_by=said)


def restarted(intent: Intent, slots: tuple[int, ...] | None, *, at_once: bool) -> Intent:
    """Return the intent after `restart` of some slots, or (None) of the whole watcher."""
    tokens = dict(intent.restart_tokens)
    for slot in slots if slots is not None else (0,):
        tokens[slot] = tokens.get(slot, 0) + 1
    return replace(intent, restart_tokens=tokens, at_once=at_once)


def reloaded(intent: Intent, slots: tuple[int, ...] | None) -> Intent:
    """Return the intent after `reload` of some slots, or (None) of the whole watcher."""
    number = 1 + max(intent.reloads.values(), default=0)
    asked = dict.fromkeys(slots if slots is not None else (0,), number)
    return replace(intent, reloads={**intent.reloads, **asked})


def resumed(intent: Intent) -> Intent:
    """Return the intent after `resume`: the spec counts again.

    Restarts have happened and are not taken back: that would be one more restart.
    """
    return replace(intent, hold=None, scale=None, hold_by=NOBODY, scale_by=NOBODY)


# ---- until when -----------------------------------------------------------------------------------


def until(length_ns: int, boot_id: str, now_ns: int, wall_ns: int) -> Until:
    """Return the end of what is said now and shall count for a while. `now_ns` is monotonic."""
    return Until(length_ns, now_ns + length_ns, wall_ns + length_ns, boot_id)


def next_end_ns(intent: Intent) -> int | None:
    """Return the monotonic instant at which the next override ends by itself, or None."""
    ends = [v.until.at_ns for v in (intent.hold_by, intent.scale_by) if v.until is not None]
    return min(ends, default=None)


def in_force(intent: Intent, now_ns: int) -> Intent:
    """Return an intent without the words whose time is over."""
    if _is_over(intent.hold_by, now_ns):
        intent = replace(intent, hold=None, hold_by=NOBODY)
    if _is_over(intent.scale_by, now_ns):
        intent = replace(intent, scale=None, scale_by=NOBODY)
    return intent


def _is_over(by: RequestedBy, now_ns: int) -> bool:
    return by.until is not None and by.until.at_ns <= now_ns


def recalled(intent: Intent, boot_id: str, now_ns: int, wall_ns: int) -> Intent:
    """Return an intent as it counts when it was read from the disk: its ends are put on this boot's clock."""
    return replace(
        intent,
        hold_by=_recalled(intent.hold_by, boot_id, now_ns, wall_ns),
        scale_by=_recalled(intent.scale_by, boot_id, now_ns, wall_ns),
    )


def _recalled(by: RequestedBy, boot_id: str, now_ns: int, wall_ns: int) -> RequestedBy:
    end = by.until
    if end is None or end.boot_id == boot_id:
        return by
    # A wall clock that went back while the machine was off must not hold for longer than was said.
    left_ns = min(max(end.wall_ns - wall_ns, 0), end.length_ns)
    return replace(by, until=Until(end.length_ns, now_ns + left_ns, wall_ns + left_ns, boot_id))
