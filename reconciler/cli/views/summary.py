"""The state of an instance as a whole: its revision, and how many things are wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.cli.views.layout import Block, Cell, Line, Wrapped
from reconciler.cli.views.phrases import TROUBLE, age, commit_text, verdict_text
from reconciler.model.units import format_count

if TYPE_CHECKING:
    from reconciler.model.status import Status

_NOT_GOOD: Final = frozenset({"paused", "failed"})


def summary(status: Status, *, selected: bool = False) -> Line:
    """Return the last line of the status: revision, counts, problems."""
    if selected:
        return _summary_of_some(status)
    watchers = status.watchers
    processes = sum(slot.pid is not None for watcher in watchers for slot in watcher.slots)
    known = status.revision == status.observed_revision
    revision = f"revision {status.revision}" + (
        _standing(status) if known else f" (at {status.observed_revision})"
    )
    counts = f"{format_count(len(watchers), 'watcher')}, {format_count(processes, 'process')}"
    start = f"{status.name} · {revision} · {counts} · "
    problems = problem_count(status)
    if problems:
        return Cell(start), Cell(format_count(problems, "problem"), "bad")
    by_hand = sum(watcher.drift for watcher in watchers)
    if by_hand:
        start += f"{format_count(by_hand, 'override')} · "
    unfinished = sum(not watcher.as_desired for watcher in watchers)
    if unfinished:
        return Cell(start), Cell(f"{unfinished} not yet as desired", "busy")
    running = sum(
        watcher.kind == "job" and any(slot.pid is not None for slot in watcher.slots)
        for watcher in watchers
    )
    if running:
        still = f", {format_count(running, 'job')} still running"
        return Cell(start), Cell("all as desired", "good"), Cell(still, "busy")
    return Cell(start), Cell("all as desired", "good")


def _summary_of_some(status: Status) -> Line:
    """Return the last line of a status of selected watchers."""
    watchers, others = status.watchers, status.others
    who = watchers[0].name if len(watchers) == 1 else format_count(len(watchers), "watcher")
    rest = (
        f" ({format_count(others, 'other')} {'is' if others == 1 else 'are'} not)" if others else ""
    )
    start = f"{status.name} · revision {status.revision}{_standing(status)} · {who}: "
    unfinished = sum(not watcher.as_desired for watcher in watchers)
    if problems := problem_count(status, selected=True):
        more = f" ({format_count(others, 'other')} not as desired)" if others else ""
        return Cell(start), Cell(format_count(problems, "problem"), "bad"), Cell(more)
    if unfinished:
        many = "" if len(watchers) == 1 else f"{unfinished} "
        return Cell(start), Cell(f"{many}not yet as desired", "busy")
    return Cell(start), Cell("as desired", "good"), Cell(rest)


def _standing(status: Status) -> str:
    """Return what is known of the revision in force: ` (a1b2c3d, good)`."""
    commit = commit_text(status.commit, dirty=status.dirty)
    known = ", ".join(part for part in (commit, status.outcome) if part)
    return f" ({known})" if known else ""


def problem_count(status: Status, *, selected: bool = False) -> int:
    """Return how many things are wrong, as opposed to under way; of a selected part, those that concern it."""
    watchers = sum(
        watcher.state in TROUBLE and not watcher.as_desired for watcher in status.watchers
    )
    sockets = sum(socket.state in {"Failed", "Unserved"} for socket in status.sockets)
    files = status.spec_state in {"pending", "invalid", "missing", "held", "rolled_back"}
    revision = status.outcome == "paused"
    if selected:
        return watchers + sockets + (revision and status.culprit != "" and _is_concerned(status))
    return watchers + sockets + files + revision + (status.store_state == "failing")


def revision_lines(status: Status, now_ns: int, *, selected: bool) -> list[Block]:
    """Return the lines about the revision: why it is not good, when it is judged, or that it has recovered.

    For `selected` watchers only what concerns them.
    """
    if selected and not _is_concerned(status):
        return []
    number, outcome = status.revision, status.outcome
    lines: list[Block] = []
    if outcome == "failed" and _is_well(status, selected=selected):
        up = f"revision {number} failed at first, healthy for {age(_youngest_ns(status), now_ns)}"
        return [(Cell(up, "quiet"),)]
    if outcome in _NOT_GOOD:
        head = f"revision {number} {outcome}: "
        lines.append(Wrapped((Cell(head, "bad"), Cell(status.reason))))
    elif outcome == "pending" and not selected:
        # Where files are left aside, the reason is that of the revision before.
        reason = "" if status.spec_state == "rolled_back" else status.reason
        said = verdict_text(status.due_ns, reason, now_ns)
        lines += [Wrapped((Cell(f"revision {number} is {said}", "quiet"),))] if said else []
    if outcome in _NOT_GOOD or status.spec_state == "rolled_back":
        lines += [(Cell(f"    {line}", "quiet"),) for line in status.log]
    return lines


def _is_concerned(status: Status) -> bool:
    """Tell whether one of the watchers shown is the reason why the revision is not good."""
    return status.culprit in {"", *(watcher.name for watcher in status.watchers)}


def _is_well(status: Status, *, selected: bool) -> bool:
    wanted = all(watcher.as_desired for watcher in status.watchers)
    return wanted and problem_count(status, selected=selected) == 0


def _youngest_ns(status: Status) -> int:
    """Return since when all of the culprit has been running; of all watchers where it is not known."""
    culprits = [each for each in status.watchers if each.name == status.culprit]
    slots = [slot for watcher in culprits or status.watchers for slot in watcher.slots]
    return max((slot.since_ns for slot in slots), default=0)
