"""One screen of a status that may be longer: problems first, one row each, cut at the edge.

Only the rows that are seen are drawn: the cost does not grow with the number of watchers.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from reconciler.cli.views.layout import Cell, widths_of
from reconciler.cli.views.painting import paint
from reconciler.cli.views.status import watch_page
from reconciler.model.value import replace

if TYPE_CHECKING:
    from reconciler.cli.views.layout import Block
    from reconciler.cli.views.status import View
    from reconciler.model.status import Status

_HINT: Final = "j k: scroll · space b: page · g G: top, end · q: quit"
_ARROWS: Final = {
    "\x1b[A": "k", "\x1b[B": "j", "\x1b[5~": "b", "\x1b[6~": " ", "\x1b[H": "g", "\x1b[F": "G",
    "\x1bOA": "k", "\x1bOB": "j", "\x1bOH": "g", "\x1bOF": "G",
}  # fmt: skip
_END: Final = 1 << 30


def scrolled(offset: int, pressed: str, height: int) -> int:
    """Return the first row after some keys; beyond the end is the end."""
    for keys, key in _ARROWS.items():
        pressed = pressed.replace(keys, key)
    for key in pressed:
        step = {"j": 1, "\n": 1, "k": -1, " ": height - 4, "b": 4 - height}.get(key, 0)
        offset = {"g": 0, "G": _END}.get(key, max(offset + step, 0))
    return offset


def page(
    status: Status, view: View, width: int | None, height: int, offset: int, *, colour: bool
) -> tuple[list[str], int]:
    """Return the lines of one screen from a row on, and which row that is: never beyond the end."""

    def drawn(*blocks: Block) -> list[str]:
        return paint(blocks, width=width, colour=colour)

    top, tables = watch_page(status, time.time_ns(), view)
    head = drawn(*top)
    most = max(height // 2, 1)
    if len(head) > most:
        head = [*head[: most - 1], f"... {len(head) - most + 1} more lines: reconcile status"]
    rows = sum(len(table.rows) + 2 for table in tables)
    room = max(height - len(head) - 1, 1)
    offset = max(min(offset, rows - room), 0)
    lines, left, skip = head, room, offset
    for table in tables:
        if skip >= len(table.rows) + 2:
            skip -= len(table.rows) + 2
        elif left > 0:
            # Its titles stay in sight: they stand in place of the first row that is.
            rows_left = table.rows[skip : skip + left - 1]
            seen = drawn(replace(table, rows=rows_left, least=widths_of(table)), ())[:left]
            lines, left, skip = lines + seen, left - len(seen), 0
    where = f"{offset + 1}-{min(offset + room, rows)} of {rows} lines · " if rows > room else ""
    return [*lines, *drawn((Cell(where + _HINT, "quiet"),))], offset
