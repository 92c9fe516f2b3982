"""An operator's word, recorded: each function returns the new intent in place of the old."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reconciler.model.intent import Intent


@dataclass(frozen=True, slots=True)
class Voice:
    """Whose word it is: who says it, why, and when (nanoseconds since the epoch)."""

    who: str
    why: str
    wall_ns: int


def _said(intent: Intent, voice: Voice) -> Intent:
    return replace(intent, who=voice.who, why=voice.why, wall_ns=voice.wall_ns)


def started(intent: Intent, voice: Voice, *, autostart: bool) -> Intent:
    """Return the intent after `start`: no hold; one that does not start by itself is held started."""
    return _said(replace(intent, hold=None if autostart else "started"), voice)


def stopped(intent: Intent, voice: Voice) -> Intent:
    """Return the intent after `stop`: it rests until it is started."""
    return _said(replace(intent, hold="stopped"), voice)


def scaled(intent: Intent, voice: Voice, numprocesses: int | None) -> Intent:
    """Return the intent after `scale`; None takes the spec's number again."""
    return _said(replace(intent, scale=numprocesses), voice)


def restarted(
    intent: Intent, voice: Voice, slots: tuple[int, ...] | None, *, at_once: bool
) -> Intent:
    """Return the intent after `restart` of some slots, or (None) of the whole watcher."""
    tokens = dict(intent.restart_tokens)
    for slot in slots if slots is not None else (0,):
        tokens[slot] = tokens.get(slot, 0) + 1
    return _said(replace(intent, restart_tokens=tokens, at_once=at_once), voice)
