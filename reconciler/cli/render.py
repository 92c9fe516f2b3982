"""What people are shown: status, plan, mistakes, events, logs and results as blocks of text.

Pure functions from the manager's answers, the wall time and a few wishes to blocks; `layout`
paints them, and cleans whatever comes from specs and workers, so that no page can play tricks.
"""

from __future__ import annotations

import os
import time
import zlib
from typing import TYPE_CHECKING, Final

from reconciler.cli.layout import Block, Cell, Line, Style, Table, Wrapped, clean_output
from reconciler.model.units import (
    MILLISECOND_NS,
    SECOND_NS,
    format_count,
    format_duration,
    format_size,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reconciler.model.answer import EventEntry, LogEntry, OrderResult, RunningSlot, Waiting
    from reconciler.model.change import Change, Drift
    from reconciler.model.errors import SpecError
    from reconciler.model.process import Exit
    from reconciler.model.status import (
        OperatorWord,
        SlotStatus,
        SocketStatus,
        Status,
        WatcherStatus,
    )

STATE_STYLES: Final[dict[str, Style]] = {
    "Running": "good",
    "Completed": "good",
    "Bound": "good",
    "Rolling": "busy",
    "Starting": "busy",
    "Stopping": "busy",
    "Waiting": "busy",
    "Pending": "busy",
    "BackOff": "bad",
    "Failing": "bad",
    "Failed": "bad",
    "Unserved": "bad",
    "Unknown": "bad",
    "Held": "quiet",
    "Stopped": "quiet",
}
TROUBLE: Final = frozenset({"BackOff", "Failed", "Failing", "Unknown"})
_NOTHING: Final = "-"
SHOWN_RUNNING: Final = 3
"""Slots that a rerun leaves alone, each with its process; more of them are named together."""
_DUE: Final = {
    "BackOff": "next try",
    "Failed": "next try",
    "Failing": "counts as steady",
    "Starting": "ready",
    "Stopping": "SIGKILL",
}
"""What is due at a slot's `next_ns`, by its state."""


# ---- status --------------------------------------------------------------------------------------


def status_page(
    status: Status,
    now_ns: int,
    *,
    usage: bool = False,
    slots: bool = False,
    selected: bool = False,
) -> list[Block]:
    """Return the status page: watchers, their slots if wished, sockets, the spec's mistakes, a summary.

    Where watchers were `selected` it speaks of them, and of the others in a few words.
    """
    page: list[Block] = []
    if status.watchers:
        page.append(_watcher_table(status.watchers, now_ns, usage))
    if slots and any(watcher.slots for watcher in status.watchers):
        page += [(), _slot_table(status.watchers, now_ns, usage)]
    if status.sockets:
        table = _socket_table(status.sockets, wide=slots)
        page += [(), table] if page else [table]
    if page:
        page.append(())
    page += _spec_lines(status) + _watching_lines(status)
    page += _revision_lines(status, now_ns, selected=selected) + _store_lines(status)
    page += _orphan_lines(status, wide=slots)
    return [*page, summary(status, selected=selected)]


def watch_page(
    status: Status,
    now_ns: int,
    *,
    usage: bool = False,
    slots: bool = False,
    selected: bool = False,
    failed: bool = False,
) -> tuple[list[Block], list[Table]]:
    """Return the status for a screen of few lines: what comes first, then tables of one row each, problems first."""
    head: list[Block] = [summary(status, selected=selected)]
    head += _spec_lines(status) + _watching_lines(status)
    head += _revision_lines(status, now_ns, selected=selected) + _store_lines(status)
    head += _orphan_lines(status, wide=slots)
    watchers = sorted(failing(status) if failed else status.watchers, key=_urgency)
    tables = [_watcher_table(watchers, now_ns, usage)]
    if slots and any(watcher.slots for watcher in watchers):
        tables.append(_slot_table(watchers, now_ns, usage))
    if status.sockets:
        tables.append(_socket_table(status.sockets, wide=slots))
    return head, [table._replace(cut=True) for table in tables]


def failing(status: Status) -> tuple[WatcherStatus, ...]:
    """Return the watchers that are not as desired."""
    return tuple(watcher for watcher in status.watchers if not watcher.as_desired)


def _urgency(watcher: WatcherStatus) -> int:
    """Return 0 for what is wrong, 1 for what is under way, 2 for the rest."""
    if watcher.as_desired:
        return 2
    return 0 if watcher.state in TROUBLE else 1


def _watcher_table(watchers: Sequence[WatcherStatus], now_ns: int, usage: bool) -> Table:
    more = ("CPU", "MEM") if usage else ()
    columns = ("WATCHER", "WANT", "STATE", "READY", "RESTARTS", "AGE", *more, "NOTE")
    rows = [_watcher_row(watcher, now_ns, usage) for watcher in watchers]
    return Table(columns, rows, ("CPU", "MEM", "RESTARTS", "AGE", "WANT"))


def _watcher_row(watcher: WatcherStatus, now_ns: int, usage: bool) -> Line:
    job = watcher.kind == "job"
    style = STATE_STYLES.get(watcher.state, "")
    note = watcher_note(watcher, now_ns)
    return (
        Cell(watcher.name),
        Cell("job" if job else str(watcher.want)),
        Cell(watcher.state, style),
        Cell(f"{watcher.ready}/{watcher.want}"),
        Cell(_NOTHING if job else str(watcher.restarts)),
        Cell(age(watcher.since_ns, now_ns)),
        *(_usage_cells(watcher.slots) if usage else ()),
        Cell(note, style if watcher.state in TROUBLE else ""),
    )


def watcher_note(watcher: WatcherStatus, now_ns: int) -> str:
    """Return why the watcher is not as desired, and when it goes on by itself."""
    due = [
        slot.next_ns
        for slot in watcher.slots
        if slot.next_ns is not None and slot.state in {"BackOff", "Failed", "Stopping"}
    ]
    parts = [note] if (note := _timed_note(watcher, now_ns)) else []
    if watcher.state == "Failing":
        starts = [slot.since_ns for slot in watcher.slots if slot.state == "Failing"]
        parts.append(f"up for {age(max(starts, default=now_ns), now_ns)}")
    if due and watcher.state in {"BackOff", "Failed", "Rolling", "Stopping"}:
        trying = any(slot.state in TROUBLE for slot in watcher.slots)
        parts.append(("next try " if trying else "SIGKILL ") + due_in(min(due), now_ns))
    return ", ".join(parts)


def _timed_note(watcher: WatcherStatus, now_ns: int) -> str:
    """Return the watcher's note; where that is an operator's word, with its times."""
    words = watcher.intent
    plain = "; ".join(
        f'{word.message}: "{word.why}"' if word.why else word.message for word in words
    )
    if words and watcher.note == plain:
        return "; ".join(word_text(word, now_ns) for word in words)
    return watcher.note


def word_text(word: OperatorWord, now_ns: int) -> str:
    """Return an operator's word with its times: `stopped by alice 2h ago: "disk", resumes in 1h`."""
    ago = f" {age(word.since_ns, now_ns)} ago" if word.since_ns else ""
    why = f': "{word.why}"' if word.why else ""
    until_ns = word.until_ns
    return f"{word.message}{ago}{why}" + (
        "" if until_ns is None else f", resumes {due_in(until_ns, now_ns)}"
    )


def due_in(at_ns: int, now_ns: int) -> str:
    """Return when something is due: `in 6s`."""
    return "now" if at_ns <= now_ns else f"in {_whole_duration(at_ns - now_ns)}"


def _usage_cells(slots: Sequence[SlotStatus]) -> Line:
    processor = [slot.cpu_percent for slot in slots if slot.cpu_percent is not None]
    memory = [slot.memory_bytes for slot in slots if slot.memory_bytes is not None]
    return (
        Cell(f"{sum(processor):.1f}%" if processor else _NOTHING),
        Cell(format_size(_rounded(sum(memory))) if memory else _NOTHING),
    )


def _rounded(size: int) -> int:
    """Drop what is less than a MiB once there are ten of them: nobody reads 212.3."""
    return size >> 20 << 20 if size >= 10 << 20 else size


def _slot_table(watchers: Sequence[WatcherStatus], now_ns: int, usage: bool) -> Table:
    more = ("CPU", "MEM") if usage else ()
    columns = ("SLOT", "PID", "STATE", "RESTARTS", "REPLACED", "AGE", *more, "LAST EXIT", "NOTE")
    rows = [
        (
            Cell(f"{watcher.name}.{slot.slot}"),
            Cell(str(slot.pid or _NOTHING)),
            Cell(slot.state, STATE_STYLES.get(slot.state, "")),
            Cell(str(slot.restarts)),
            Cell(str(slot.replacements)),
            Cell(age(slot.since_ns, now_ns)),
            *(_usage_cells([slot]) if usage else ()),
            Cell(exit_text(slot.exit)),
            Cell(_slot_note(slot, now_ns)),
        )
        for watcher in watchers
        for slot in watcher.slots
    ]
    expendable = ("CPU", "MEM", "RESTARTS", "REPLACED", "AGE", "PID", "LAST EXIT")
    return Table(columns, rows, expendable)


def _slot_note(slot: SlotStatus, now_ns: int) -> str:
    parts = [slot.note] if slot.note else []
    if slot.outdated:
        parts.append("outdated")
    if slot.fired is not None:
        parts.append(f"generation {slot.fired.generation}")
    if slot.next_ns is not None:
        verb = _DUE.get(slot.state, "due")
        parts.append(f"{verb} {due_in(slot.next_ns, now_ns)}")
    return ", ".join(parts)


def exit_text(end: Exit | None) -> str:
    """Return how a process ended, in words."""
    if end is None:
        return _NOTHING
    error = end.error
    if error is not None:
        path = f" {error.path}" if error.path else ""
        return f"{error.step}{path}: {error.message or error.errno}"
    if end.signal is not None:
        return f"killed by SIG{end.signal}" + (" (core dumped)" if end.core else "")
    return "unknown" if end.code is None else f"exit {end.code}"


def _socket_table(sockets: Sequence[SocketStatus], *, wide: bool) -> Table:
    noted = any(socket.note for socket in sockets)
    rows = []
    for socket in sockets:
        row: Line = (
            Cell(socket.name),
            Cell(socket.listen),
            Cell(socket.type),
            Cell(socket.state, STATE_STYLES.get(socket.state, "")),
            *((Cell(_queue(socket)),) if wide else ()),
            Cell(", ".join(socket.used_by) or _NOTHING),
        )
        rows.append((*row, Cell(socket.note, "bad")) if noted else row)
    queue = ("BACKLOG",) if wide else ()
    columns = (
        "SOCKET",
        "LISTEN",
        "TYPE",
        "STATE",
        *queue,
        "USED BY",
        *(("NOTE",) if noted else ()),
    )
    return Table(columns, rows, ("TYPE", "USED BY"))


def _queue(socket: SocketStatus) -> str:
    """Return how many clients may wait at a socket, and before it how many do while nobody accepts."""
    if socket.backlog is None:
        return _NOTHING
    return (f"{socket.waiting} of " if socket.waiting else "") + str(socket.backlog)


def _spec_lines(status: Status) -> list[Block]:
    """Return what is wrong with the spec files, if anything is."""
    state = status.spec_state
    if state in {"applied", "loading"} and not status.spec_errors:
        return []
    found = status.spec_errors
    message = (not found and status.spec_message) or {
        "invalid": f"{mistakes(len(found))}; the last good spec keeps running",
        "missing": "the files are gone; the last good spec keeps running",
        "held": "an edit is held back",
    }.get(state, "")
    said = state.replace("_", " ")
    lines: list[Block] = [Wrapped((Cell(f"spec {said}: ", "bad"), Cell(message)))]
    return [*lines, *spec_error_blocks(status.spec_errors, excerpts=False)]


def _watching_lines(status: Status) -> list[Block]:
    """Return what keeps saved files from being noticed as usual, if anything does."""
    if not status.watching:
        return []
    return [Wrapped((Cell("files: ", "busy"), Cell(status.watching)))]


def _store_lines(status: Status) -> list[Block]:
    """Return what is wrong with the state folder, if anything is."""
    state = status.store_state
    if state == "good":
        return []
    return [Wrapped((Cell(f"store {state}: ", "bad"), Cell(status.store_message)))]


def _orphan_lines(status: Status, *, wide: bool) -> list[Block]:
    """Return which processes belong to no watcher; those that were left on purpose only if asked for more."""
    shown = [each for each in status.orphans if wide or not each.on_purpose]
    return [
        Wrapped((Cell("left: ", "" if each.on_purpose else "bad"), Cell(each.message)))
        for each in shown
    ]


OUTCOME_STYLES: Final[dict[str, Style]] = {
    "pending": "busy",
    "good": "good",
    "paused": "bad",
    "rolled_back": "bad",
    "failed": "bad",
    "superseded": "quiet",
}
_MIND_THESE: Final = frozenset({"paused", "failed"})


def _revision_lines(status: Status, now_ns: int, *, selected: bool) -> list[Block]:
    """Return what there is to say of the revision: why it is not good, when it is judged, or that it got well.

    Of a `selected` part only what concerns that.
    """
    if selected and not _is_concerned(status):
        return []
    number, outcome = status.revision, status.outcome
    lines: list[Block] = []
    if outcome == "failed" and _is_well(status, selected=selected):
        up = f"revision {number} failed at first, healthy for {age(_youngest_ns(status), now_ns)}"
        return [(Cell(up, "quiet"),)]
    if outcome in _MIND_THESE:
        head = f"revision {number} {outcome}: "
        lines.append(Wrapped((Cell(head, "bad"), Cell(status.reason))))
    elif outcome == "pending" and not selected:
        # Where files are left aside, the reason is that of the revision before.
        reason = "" if status.spec_state == "rolled_back" else status.reason
        said = verdict_text(status.due_ns, reason, now_ns)
        lines += [Wrapped((Cell(f"revision {number} is {said}", "quiet"),))] if said else []
    if outcome in _MIND_THESE or status.spec_state == "rolled_back":
        lines += [(Cell(f"    {line}", "quiet"),) for line in status.log]
    return lines


def verdict_text(due_ns: int | None, reason: str, now_ns: int) -> str:
    """Return when a revision on trial is judged: `to be judged in 3s: web.1 was restarted`."""
    if due_ns is None:
        return f"not judged yet: {reason}" if reason else ""
    return f"to be judged {due_in(due_ns, now_ns)}" + (f": {reason}" if reason else "")


def _is_concerned(status: Status) -> bool:
    """Tell whether the watchers shown have to do with why the revision is not good."""
    return status.culprit in {"", *(watcher.name for watcher in status.watchers)}


def _is_well(status: Status, *, selected: bool) -> bool:
    wanted = all(watcher.as_desired for watcher in status.watchers)
    return wanted and problem_count(status, selected=selected) == 0


def _youngest_ns(status: Status) -> int:
    """Return since when all of the culprit has been running; of all watchers where it is not known."""
    culprits = [each for each in status.watchers if each.name == status.culprit]
    slots = [slot for watcher in culprits or status.watchers for slot in watcher.slots]
    return max((slot.since_ns for slot in slots), default=0)


def commit_text(commit: str, *, dirty: bool) -> str:
    """Return a commit for people, as `git describe --dirty` writes it; empty when there is none."""
    return f"{commit[:7]}{'-dirty' if dirty else ''}" if commit else ""


def _standing(status: Status) -> str:
    """Return what is known of the revision in force: ` (a1b2c3d, good)`."""
    commit = commit_text(status.commit, dirty=status.dirty)
    known = ", ".join(part for part in (commit, status.outcome) if part)
    return f" ({known})" if known else ""


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
    """Return the last line of a status that was asked of some watchers only."""
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


def age(since_ns: int, now_ns: int) -> str:
    """Return how long ago that was; a dash when it never was."""
    return _whole_duration(max(now_ns - since_ns, 0)) if since_ns else _NOTHING


def _whole_duration(nanoseconds: int) -> str:
    return (
        format_duration(nanoseconds // SECOND_NS * SECOND_NS) if nanoseconds >= SECOND_NS else "0s"
    )


# ---- plan ----------------------------------------------------------------------------------------

_SIGNS: Final[dict[str, tuple[str, Style]]] = {
    "create": ("+", "good"),
    "bind": ("+", "good"),
    "fire": ("+", "good"),
    "remove": ("-", "bad"),
    "unbind": ("-", "bad"),
    "replace": ("~", "busy"),
    "rebind": ("~", "busy"),
    "scale": ("~", "busy"),
    "live": ("~", "busy"),
    "none": (" ", "quiet"),
}
REMOVALS: Final = frozenset({"remove", "unbind"})
_TO_DO: Final = {"live": "update in place"}
"""How a change is carried out, where the protocol's word is no verb."""


def plan_page(
    changes: Sequence[Change], drift: Sequence[Drift] = (), now_ns: int = 0
) -> list[Block]:
    """Return the plan: per watcher and socket what happens, to which slots, why, and a summary.

    `drift` is what operators keep otherwise than the spec says, as of `now_ns`.
    """
    page: list[Block] = []
    for change in changes:
        page += _change_blocks(change)
    for one in drift:
        said = "; ".join(word_text(word, now_ns) for word in one.words)
        stays = f" (stays in force; undo with: reconcile resume {one.name})"
        head = Cell(f"! {one.name}", "busy")
        page.append(Wrapped((head, Cell("  override: "), Cell(said + stays))))
    return [*page, ((Cell(plan_summary(changes), "title")),)]


def _change_blocks(change: Change) -> list[Block]:
    sign, style = _SIGNS.get(change.how, ("~", "busy"))
    # There is one `daemon` and one `apply`: they are called so.
    kind = "" if change.kind in {"watcher", change.name} else f"{change.kind} "
    slots = _slots(change.slots)
    head = f"{sign} {kind}{change.name}".rstrip()
    where = f" ({slots})" if slots else ""
    blocks: list[Block] = [Wrapped((Cell(head, style), Cell(f"  {change.message}{where}")))]
    for field in change.fields:
        values = f"{field.old} -> {field.new}"
        cells = (
            Cell(f"    {field.field}: ", "quiet"),
            Cell(f"{values}  ({field.effect})"),
        )
        blocks.append(Wrapped(cells, 8))
    return blocks


def _slots(slots: Sequence[int]) -> str:
    """Return slots for people, runs of numbers drawn together: `slots 1-3, 5`."""
    runs: list[list[int]] = []
    for slot in sorted(slots):
        if runs and slot == runs[-1][-1] + 1:
            runs[-1][1:] = [slot]
        else:
            runs.append([slot])
    texts = "-".join
    return (
        ("slot " if len(slots) == 1 else "slots ") + ", ".join(texts(map(str, run)) for run in runs)
        if runs
        else ""
    )


def plan_summary(changes: Sequence[Change]) -> str:
    """Return one line that counts what happens."""
    counts: dict[str, int] = {}
    for change in changes:
        counts[change.how] = counts.get(change.how, 0) + 1
    counts.pop("none", None)
    if not counts:
        return "nothing to do" if not changes else "no running process is affected"
    return ", ".join(f"{number} to {_TO_DO.get(how, how)}" for how, number in counts.items())


# ---- mistakes ------------------------------------------------------------------------------------


def spec_error_blocks(
    errors: Iterable[SpecError],
    *,
    excerpts: bool = True,
    folder: str = "",
    warnings: bool = False,
) -> list[Block]:
    """Return mistakes with their places, the source lines with a caret, and what to try."""
    blocks: list[Block] = []
    for error in errors:
        place = _place(error, folder) if error.line or not warnings else ""
        place = f"{place}: warning".removeprefix(": ") if warnings else place
        field = f"{error.field}: " if error.field else ""
        blocks.append(
            Wrapped((Cell(f"{place}: ", "title"), Cell(field, "bad"), Cell(error.message)))
        )
        if excerpts and error.excerpt:
            source, *carets = error.excerpt.split("\n")
            blocks.append((Cell("    " + source.replace("\t", " ")),))
            blocks += [(Cell("    " + caret, "bad"),) for caret in carets if caret]
        if error.hint:
            blocks.append(Wrapped((Cell("    hint: ", "cyan"), Cell(error.hint))))
    return blocks


def _place(error: SpecError, folder: str) -> str:
    path = error.path
    if folder and path.startswith(folder + "/"):
        path = os.path.relpath(path, folder)
    return f"{path}:{error.line}:{error.column}" if error.line else path


def mistakes(number: int) -> str:
    """Return `1 mistake`, `2 mistakes`."""
    return format_count(number, "mistake")


def github_annotation(error: SpecError, folder: str, level: str = "error") -> str:
    """Return a mistake, or a warning, as a workflow command of GitHub Actions."""
    path = (
        os.path.relpath(error.path, folder) if error.path.startswith(folder + "/") else error.path
    )
    place = f",line={error.line},col={error.column}" if error.line else ""
    field = f"{error.field}: " if error.field else ""
    hint = f" ({error.hint})" if error.hint else ""
    return f"::{level} file={_property(path)}{place}::{_data(field + error.message + hint)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


# ---- events and logs -----------------------------------------------------------------------------

_PALETTE: Final[tuple[Style, ...]] = ("cyan", "yellow", "green", "magenta", "blue")
_EXPECTED_WORDS: Final = frozenset({"started", "passed", "bound", "fired", "good"})
_BAD_WORDS: Final = (
    "failed",
    "refused",
    "denied",
    "invalid",
    "backoff",
    "lost",
    "killed",
    "error",
    "missing",
    "held",
    "paused",
    "rolled_back",
)


def is_important(event: EventEntry) -> bool:
    """Tell whether an event is worth a line among the output: all but what is expected anyway."""
    return event.type.rpartition(".")[2] not in _EXPECTED_WORDS


def event_line(event: EventEntry) -> Line:
    """Return one event: when, its type, whom it concerns, the sentence."""
    style: Style = "bad" if any(word in event.type for word in _BAD_WORDS) else "cyan"
    return (
        Cell(f"{event.seq:>5}  {clock(event.time_ns)}  ", "quiet"),
        Cell(f"{event.type:<20}  ", style),
        Cell(f"{slot_name(event.watcher, event.slot) or _NOTHING:<12}  "),
        Cell(event.message + _repeated(event)),
    )


def _repeated(event: EventEntry) -> str:
    """Return how often an event has come that stands for several: ` (40 times since 10:02:11)`."""
    count, since_ns = event.details.get("count"), event.details.get("since_ns")
    if not isinstance(count, int) or not isinstance(since_ns, int):
        return ""
    since = time.localtime(since_ns // SECOND_NS)
    day = "%Y-%m-%d " if since[:3] != time.localtime(event.time_ns // SECOND_NS)[:3] else ""
    return f" ({count} times since {time.strftime(f'{day}%H:%M:%S', since)})"


def clock(time_ns: int) -> str:
    """Return a local time for people, with milliseconds."""
    local = time.localtime(time_ns // SECOND_NS)
    milliseconds = time_ns % SECOND_NS // MILLISECOND_NS
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', local)}.{milliseconds:03d}"


def slot_name(watcher: str, slot: int) -> str:
    """Return `web.2`, or `web` for the watcher as a whole."""
    return f"{watcher}.{slot}" if slot else watcher


def slot_style(name: str) -> Style:
    """Return the colour of a slot: always the same for the same name."""
    return _PALETTE[zlib.crc32(name.encode("utf-8", "backslashreplace")) % len(_PALETTE)]


def log_lines(entry: LogEntry, name: str, width: int) -> list[Line]:
    """Return the lines of a piece of output for a terminal, after the name of the slot."""
    prefix = Cell(f"{name:<{width}} ", slot_style(name)), _bar(entry)
    return [(*prefix, Cell(clean_output(line))) for line in split_lines(entry.data)]


def _bar(entry: LogEntry) -> Cell:
    return Cell("| ", "bad" if entry.source == "stderr" else "quiet")


def log_bytes(entry: LogEntry, name: str, width: int) -> bytes:
    """Return the lines of a piece of output for a pipe: as the program wrote them, after the name
    of the slot."""
    prefix = f"{name:<{width}} | ".encode("utf-8", "backslashreplace")
    return b"".join(prefix + line + b"\n" for line in split_lines(entry.data))


def split_lines(data: bytes) -> list[bytes]:
    """Cut output into lines at newlines only; other separators belong to the text."""
    lines = data.split(b"\n")
    return lines[:-1] if lines[-1] == b"" else lines


# ---- answers to operations -----------------------------------------------------------------------


def result_lines(results: Iterable[OrderResult], now_ns: int) -> list[Block]:
    """Return what an operation did, one line per watcher."""
    return [
        Wrapped((Cell(f"{result.name}: ", "title"), Cell(_result_text(result, now_ns))))
        for result in results
    ]


def _result_text(result: OrderResult, now_ns: int) -> str:
    """Return the manager's sentence; of a rerun rather what it fired, and what runs since when."""
    parts = []
    if result.fired:
        parts.append(f"generation {result.generation} fires {_slots(result.fired)}")
    parts += _left_running(result.running, now_ns)
    return "; ".join(parts) or result.message or "done"


def _left_running(running: Sequence[RunningSlot], now_ns: int) -> list[str]:
    """Return what is said of slots that a rerun leaves alone: of a few each with its process."""
    starting = [each.slot for each in running if each.pid is None]
    up = [each for each in running if each.pid is not None]
    parts = []
    if len(up) > SHOWN_RUNNING:
        parts.append(f"{_slots([each.slot for each in up])} still run")
    else:
        for one in up:
            since = f", since {age(one.since_ns, now_ns)}" if one.since_ns else ""
            parts.append(f"slot {one.slot} still runs (pid {one.pid}{since})")
    if starting:
        have = "has" if len(starting) == 1 else "have"
        parts.append(f"{_slots(starting)} {have} not started yet")
    return parts


def waiting_blocks(waiting: Sequence[Waiting], elapsed_ns: int, remaining: int = 0) -> list[Block]:
    """Return what is still being waited for, as a live page; of `remaining` watchers only some are named."""
    rows = [
        (
            Cell(one.name),
            Cell(one.state, STATE_STYLES.get(one.state, "")),
            Cell(one.note, "bad" if one.state in TROUBLE else ""),
        )
        for one in waiting
    ]
    number = max(remaining, len(waiting))
    waited = f"waiting for {format_count(number, 'watcher')}, {_whole_duration(elapsed_ns)}"
    head: Line = (Cell(waited, "busy"),)
    if not rows:
        return [head]
    page: list[Block] = [head, Table(("WATCHER", "STATE", "NOTE"), rows)]
    if number > len(rows):
        page.append((Cell(f"(and {number - len(rows)} more)", "quiet"),))
    return page


def waiting_text(waiting: Waiting) -> str:
    """Return one line about a watcher that is waited for."""
    note = f": {waiting.note}" if waiting.note else ""
    return f"{waiting.name}: {waiting.state}{note}"
