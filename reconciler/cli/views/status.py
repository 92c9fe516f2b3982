"""The status: tables of watchers, slots and sockets, and below them what is wrong with the whole.

Pure functions from the answer of the manager and the wall time to blocks. Whatever comes from specs and workers is
cleaned when the blocks are painted, so that no text can control the terminal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.cli.views.layout import Block, Cell, Line, Table, Wrapped
from reconciler.cli.views.mistakes import mistakes, spec_error_blocks
from reconciler.cli.views.phrases import (
    NOTHING,
    STATE_STYLES,
    TROUBLE,
    age,
    due_in,
    exit_text,
    override_text,
)
from reconciler.cli.views.schedule import next_runs_line
from reconciler.cli.views.summary import revision_lines, summary
from reconciler.model.units import format_size
from reconciler.model.value import Struct, replace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.model.status import SlotStatus, SocketStatus, Status, WatcherStatus

_DUE: Final = {
    "BackOff": "next try",
    "Failed": "next try",
    "Failing": "counts as steady",
    "Running": "asked whether it is in use",
    "Starting": "ready",
    "Stopping": "SIGKILL",
}
"""What is due at a slot's `next_ns`, by its state."""


class View(Struct, frozen=True):
    """How a status is looked at."""

    usage: bool = False
    slots: bool = False
    selected: bool = False
    """Of some watchers only: the summary is about them, and counts the others."""
    failed: bool = False


_SHORT: Final = View()


def status_page(status: Status, now_ns: int, view: View = _SHORT) -> list[Block]:
    """Return the status page: watchers, optionally slots, sockets, what is wrong with the whole, a summary."""
    page: list[Block] = []
    for table in _tables(status, status.watchers, now_ns, view):
        if table.rows:
            page += [table, ()]
    remarks = _remarks(status, now_ns, view)
    return [*page, *remarks, summary(status, selected=view.selected)]


def watch_page(status: Status, now_ns: int, view: View) -> tuple[list[Block], list[Table]]:
    """Return the status for a screen of few lines: what comes first, then tables of one row each, problems first."""
    head = [summary(status, selected=view.selected), *_remarks(status, now_ns, view)]
    watchers = sorted(failing(status) if view.failed else status.watchers, key=_urgency)
    tables = _tables(status, watchers, now_ns, view)
    return head, [replace(table, cut=True) for table in tables]


def _tables(
    status: Status, watchers: Sequence[WatcherStatus], now_ns: int, view: View
) -> list[Table]:
    plugins = [watcher for watcher in watchers if watcher.kind == "plugin"]
    others = [watcher for watcher in watchers if watcher.kind != "plugin"]
    tables = [_watcher_table("WATCHER", others, now_ns, view)]
    if plugins:
        tables.append(_watcher_table("PLUGIN", plugins, now_ns, view))
    if view.slots and any(watcher.slots for watcher in watchers):
        tables.append(_slot_table(watchers, now_ns, view.usage))
    if status.sockets:
        tables.append(socket_table(status.sockets, wide=view.slots))
    return tables


def _remarks(status: Status, now_ns: int, view: View) -> list[Block]:
    """Return what is wrong with the whole; processes that were left on purpose only where slots are shown."""
    lines = _spec_lines(status)
    if status.watching:
        lines.append(Wrapped((Cell("files: ", "busy"), Cell(status.watching))))
    lines += revision_lines(status, now_ns, selected=view.selected)
    if status.store_state != "good":
        head = Cell(f"store {status.store_state}: ", "bad")
        lines.append(Wrapped((head, Cell(status.store_message))))
    if view.slots:
        scheduled = (each for each in status.watchers if each.next_runs)
        lines += [next_runs_line(each.name, each.next_runs) for each in scheduled]
    return lines + [
        Wrapped((Cell("left: ", "" if each.on_purpose else "bad"), Cell(each.message)))
        for each in status.orphans
        if view.slots or not each.on_purpose
    ]


def failing(status: Status) -> tuple[WatcherStatus, ...]:
    """Return the watchers that are not as desired."""
    return tuple(watcher for watcher in status.watchers if not watcher.as_desired)


def _urgency(watcher: WatcherStatus) -> int:
    """Return 0 for what is wrong, 1 for what is under way, 2 for the rest."""
    if watcher.as_desired:
        return 2
    return 0 if watcher.state in TROUBLE else 1


def _watcher_table(kind: str, watchers: Sequence[WatcherStatus], now_ns: int, view: View) -> Table:
    more = ("CPU", "MEM") if view.usage else ()
    columns = (kind, "WANT", "STATE", "READY", "RESTARTS", "AGE", *more, "NOTE")
    rows = [_watcher_row(watcher, now_ns, view.usage, view.slots) for watcher in watchers]
    return Table(columns, rows, ("CPU", "MEM", "RESTARTS", "AGE", "WANT"))


def _watcher_row(watcher: WatcherStatus, now_ns: int, usage: bool, wide: bool) -> Line:
    job = watcher.kind == "job"
    want = "job" if job else str(watcher.want)
    if wide and watcher.want_formula:
        want = f"{watcher.want_formula} = {watcher.want}"
    style = STATE_STYLES.get(watcher.state, "")
    note = watcher_note(watcher, now_ns)
    return (
        Cell(watcher.name),
        Cell(want),
        Cell(watcher.state, style),
        Cell(f"{watcher.ready}/{watcher.want}"),
        Cell(NOTHING if job else str(watcher.restarts)),
        Cell(age(watcher.since_ns, now_ns)),
        *(_usage_cells(watcher.slots) if usage else ()),
        Cell(note, style if watcher.state in TROUBLE else ""),
    )


def watcher_note(watcher: WatcherStatus, now_ns: int) -> str:
    """Return why the watcher is not as desired, and what happens next."""
    due = [
        slot.next_ns
        for slot in watcher.slots
        if slot.next_ns is not None and slot.state in {"BackOff", "Failed", "Stopping"}
    ]
    parts = [note] if (note := _timed_note(watcher, now_ns)) else []
    if watcher.state == "Failing":
        starts = [slot.since_ns for slot in watcher.slots if slot.state == "Failing"]
        if starts:
            parts.append(f"up for {age(max(starts), now_ns)}")
    if due and watcher.state in {"BackOff", "Failed", "Rolling", "Stopping"}:
        trying = any(slot.state in TROUBLE for slot in watcher.slots)
        parts.append(("next try " if trying else "SIGKILL ") + due_in(min(due), now_ns))
    return ", ".join(parts)


def _timed_note(watcher: WatcherStatus, now_ns: int) -> str:
    """Return the watcher's note; where that is about a manual override or the next run, with its times."""
    overrides = watcher.overrides
    plain = "; ".join(
        f'{one.message}: "{one.why}"' if one.why else one.message for one in overrides
    )
    if overrides and watcher.note == plain:
        return "; ".join(override_text(one, now_ns) for one in overrides)
    for instant in watcher.next_runs[:1]:
        said = f"next run {instant.shown}"
        return watcher.note.replace(said, f"{said} ({due_in(instant.at_ns, now_ns)})")
    return watcher.note


def _usage_cells(slots: Sequence[SlotStatus]) -> Line:
    processor = [slot.cpu_percent for slot in slots if slot.cpu_percent is not None]
    memory = [slot.memory_bytes for slot in slots if slot.memory_bytes is not None]
    return (
        Cell(f"{sum(processor):.1f}%" if processor else NOTHING),
        Cell(format_size(_rounded(sum(memory))) if memory else NOTHING),
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
            Cell(str(slot.pid or NOTHING)),
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
    if slot.said and slot.said not in slot.note:
        parts.append(f'says "{slot.said}"')
    if slot.fired is not None:
        parts.append(f"generation {slot.fired.generation}")
    if slot.last_probe is not None and slot.last_probe.ok and slot.last_probe.at_ns:
        how = "healthy" if slot.last_probe.kind == "health" else "ready"
        parts.append(f"{how} for {age(slot.last_probe.at_ns, now_ns)}")
    if slot.next_ns is not None:
        verb = _DUE.get(slot.state, "due")
        if slot.state == "Starting" and slot.last_probe is not None:
            verb = "fails"
        parts.append(f"{verb} {due_in(slot.next_ns, now_ns)}")
    return ", ".join(parts)


def socket_table(sockets: Sequence[SocketStatus], *, wide: bool) -> Table:
    """Return a row for each socket; `wide` with its backlog."""
    noted = any(socket.note for socket in sockets)
    rows = []
    for socket in sockets:
        row: Line = (
            Cell(socket.name),
            Cell(socket.listen),
            Cell(socket.type),
            Cell(socket.state, STATE_STYLES.get(socket.state, "")),
            *((Cell(_queue(socket)),) if wide else ()),
            Cell(", ".join(socket.used_by) or NOTHING),
        )
        rows.append((*row, Cell(socket.note, "bad")) if noted else row)
    queue, note = ("BACKLOG",) if wide else (), ("NOTE",) if noted else ()
    columns = ("SOCKET", "LISTEN", "TYPE", "STATE", *queue, "USED BY", *note)
    return Table(columns, rows, ("TYPE", "USED BY"))


def _queue(socket: SocketStatus) -> str:
    """Return how many clients may wait at a socket, and before it how many do while nobody accepts."""
    if socket.backlog is None:
        return NOTHING
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
