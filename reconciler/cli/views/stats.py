"""What processes use: as a table, and as one screen that sorts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from reconciler.cli.views.layout import Block, Cell, Line, Table
from reconciler.cli.views.painting import paint
from reconciler.cli.views.phrases import STATE_STYLES, age
from reconciler.model.units import format_count, format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from reconciler.model.answer import SlotStats, Stats

Order: TypeAlias = Literal["cpu", "memory", "name"]
KEYS: Final[dict[str, Order]] = {"c": "cpu", "m": "memory", "n": "name"}
"""By which key one sorts how."""
_HINT: Final = "c m n: sort by CPU, memory, name · j k: scroll · q: quit"
_SECOND_NS: Final = 1_000_000_000
_ORDERS: Final[dict[Order, Callable[[SlotStats], tuple[object, ...]]]] = {
    "cpu": lambda row: (-row.cpu_percent, -row.memory_bytes, row.watcher, row.slot),
    "memory": lambda row: (-row.memory_bytes, -row.cpu_percent, row.watcher, row.slot),
    "name": lambda row: (row.watcher, row.slot),
}


def ordered(rows: Sequence[SlotStats], order: Order) -> list[SlotStats]:
    """Return rows in an order: what uses most comes first."""
    return sorted(rows, key=_ORDERS[order])


def stats_page(stats: Stats, order: Order = "name") -> list[Block]:
    """Return what processes use, and the sum."""
    return [stats_table(ordered(stats.slots, order), stats.time_ns), (), total(stats)]


def stats_table(rows: Sequence[SlotStats], now_ns: int, order: Order = "name") -> Table:
    """Return a row for each slot; the column that sorts them is marked."""
    mark = {"cpu": "CPU", "memory": "MEM", "name": "SLOT"}[order]
    columns = ("SLOT", "PID", "STATE", "CPU", "MEM", "PROCS", "THREADS", "TIME", "RESTARTS", "AGE")
    marked = tuple(f"{name}*" if name == mark and order != "name" else name for name in columns)
    expendable = ("THREADS", "TIME", "RESTARTS", "PROCS", "STATE", "PID")
    return Table(marked, [_row(row, now_ns) for row in rows], expendable, cut=True)


def _row(row: SlotStats, now_ns: int) -> Line:
    return (
        Cell(f"{row.watcher}.{row.slot}"),
        Cell(str(row.pid)),
        Cell(row.state, STATE_STYLES.get(row.state, "")),
        Cell(f"{row.cpu_percent:.1f}%"),
        Cell(format_size(_rounded(row.memory_bytes))),
        Cell(str(row.processes)),
        Cell(str(row.threads)),
        Cell(format_duration(row.cpu_ns - row.cpu_ns % (_SECOND_NS // 10))),
        Cell(str(row.restarts)),
        Cell(age(row.since_ns, now_ns)),
    )


def _rounded(size: int) -> int:
    """Drop what is less than a MiB once there are ten of them: nobody reads 212.3."""
    return size >> 20 << 20 if size >= 10 << 20 else size


def total(stats: Stats) -> Line:
    """Return the sum of all slots."""
    processor = sum(row.cpu_percent for row in stats.slots)
    memory = sum(row.memory_bytes for row in stats.slots)
    processes = format_count(sum(row.processes for row in stats.slots), "process")
    more = f" · {stats.left_out} more slots use less" if stats.left_out else ""
    slots = format_count(len(stats.slots), "slot")
    used = f"CPU {processor:.1f}%, memory {format_size(_rounded(memory))}"
    return (Cell(f"{slots}, {processes} · {used}{more}"),)


def top_page(
    name: str,
    stats: Stats,
    order: Order,
    width: int | None,
    height: int,
    offset: int,
    *,
    colour: bool,
) -> tuple[list[str], int]:
    """Return the lines of one screen from a row on, and which row that is: never beyond the end."""
    rows = ordered(stats.slots, order)
    room = max(height - 3, 1)
    offset = max(min(offset, len(rows) - room), 0)
    table = stats_table(rows[offset : offset + room], stats.time_ns, order)
    shown: list[Block] = [(Cell(f"{name} · ", "title"), *total(stats)), table]
    where = f"{offset + 1}-{offset + len(table.rows)} of {len(rows)} · " if len(rows) > room else ""
    page = paint([*shown, (Cell(where + _HINT, "quiet"),)], width=width, colour=colour)
    return page[:height], offset
