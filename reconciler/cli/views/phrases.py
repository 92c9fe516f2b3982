"""What all pages share: ages, times, exits, slots, and the styles of states."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from reconciler.model.process import Exit
from reconciler.model.units import MILLISECOND_NS, SECOND_NS, format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.cli.views.layout import Style
    from reconciler.model.status import Override

STATE_STYLES: Final[dict[str, Style]] = {
    **dict.fromkeys(("Running", "Completed", "Scheduled", "Bound"), "good"),
    **dict.fromkeys(("Rolling", "Starting", "Stopping", "Waiting", "Pending"), "busy"),
    **dict.fromkeys(("BackOff", "Failing", "Failed", "Unserved", "Unknown"), "bad"),
    **dict.fromkeys(("Held", "Stopped", "Idle"), "quiet"),
}
TROUBLE: Final = frozenset({"BackOff", "Failed", "Failing", "Unknown"})
OUTCOME_STYLES: Final[dict[str, Style]] = {
    "pending": "busy",
    "good": "good",
    "paused": "bad",
    "rolled_back": "bad",
    "failed": "bad",
    "superseded": "quiet",
}
NOTHING: Final = "-"


def age(since_ns: int, now_ns: int) -> str:
    """Return how long ago that was; a dash when it never was."""
    return whole_duration(max(now_ns - since_ns, 0)) if since_ns else NOTHING


def whole_duration(nanoseconds: int) -> str:
    """Return a duration in whole seconds."""
    return (
        format_duration(nanoseconds // SECOND_NS * SECOND_NS) if nanoseconds >= SECOND_NS else "0s"
    )


def due_in(at_ns: int, now_ns: int) -> str:
    """Return when something is due: `in 6s`."""
    return "now" if at_ns <= now_ns else f"in {whole_duration(at_ns - now_ns)}"


def clock(time_ns: int) -> str:
    """Return a local time for people, with milliseconds."""
    local = time.localtime(time_ns // SECOND_NS)
    milliseconds = time_ns % SECOND_NS // MILLISECOND_NS
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', local)}.{milliseconds:03d}"


def slot_name(watcher: str, slot: int) -> str:
    """Return `web.2`, or `web` for the watcher as a whole."""
    return f"{watcher}.{slot}" if slot else watcher


def slots_text(slots: Sequence[int]) -> str:
    """Return slots for people, runs of numbers drawn together: `slots 1-3, 5`."""
    if not slots:
        return ""
    runs: list[list[int]] = []
    for slot in sorted(slots):
        if runs and slot == runs[-1][-1] + 1:
            runs[-1][1:] = [slot]
        else:
            runs.append([slot])
    texts = ("-".join(map(str, run)) for run in runs)
    return ("slot " if len(slots) == 1 else "slots ") + ", ".join(texts)


def exit_text(end: Exit | None) -> str:
    """Return how a process ended, in words."""
    if end is None:
        return NOTHING
    error = end.error
    if error is not None:
        path = f" {error.path}" if error.path else ""
        return f"{error.step}{path}: {error.message or error.errno}"
    return "unknown" if end == Exit() else str(end)


def override_text(override: Override, now_ns: int) -> str:
    """Return a manual override with its times: `stopped by alice 2h ago: "disk", resumes in 1h`."""
    ago = f" {age(override.since_ns, now_ns)} ago" if override.since_ns else ""
    why = f': "{override.why}"' if override.why else ""
    until_ns = override.until_ns
    return f"{override.message}{ago}{why}" + (
        "" if until_ns is None else f", resumes {due_in(until_ns, now_ns)}"
    )


def commit_text(commit: str, *, dirty: bool) -> str:
    """Return a commit for people, as `git describe --dirty` writes it; empty when there is none."""
    return f"{commit[:7]}{'-dirty' if dirty else ''}" if commit else ""


def verdict_text(due_ns: int | None, reason: str, now_ns: int) -> str:
    """Return when a revision on trial is judged: `to be judged in 3s: web.1 was restarted`."""
    if due_ns is None:
        return f"not judged yet: {reason}" if reason else ""
    return f"to be judged {due_in(due_ns, now_ns)}" + (f": {reason}" if reason else "")
