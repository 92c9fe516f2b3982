"""Pieces of text on a page: cells with a style, and tables that fit a width."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from reconciler.model.value import Struct, replace

Style: TypeAlias = Literal[
    "", "title", "good", "busy", "bad", "quiet", "cyan", "green", "yellow", "blue", "magenta"
]

GAP: Final = 2
"""Spaces between two columns."""
NOTE_WIDTH: Final = 24
"""A wrapped last column narrower than this is hard to read; other columns go first."""


class Cell(Struct, frozen=True):
    """Text of one style."""

    text: str
    style: Style = ""


Line: TypeAlias = tuple[Cell, ...]
"""Cells one after another."""


class Table(Struct, frozen=True):
    """Aligned columns; the last one wraps, or is `cut` at the edge. `expendable` columns are left out, in this
    order, when the page is narrow. `least` widths are those of a longer table that this is a part of."""

    columns: tuple[str, ...]
    rows: Sequence[Line]
    expendable: tuple[str, ...] = ()
    cut: bool = False
    least: Sequence[int] = ()


class Wrapped(Struct, frozen=True):
    """A line that is wrapped at words, with further lines indented."""

    cells: Line
    indent: int = 4


Block: TypeAlias = Table | Wrapped | Line


def table_or(nothing: str, table: Table) -> Block:
    """Return a table, or what is said in place of one without rows."""
    return table if table.rows else (Cell(nothing, "quiet"),)


# ---- text that others wrote ----------------------------------------------------------------------
#
# Names, messages, notes, errors: all come from specs, workers or other programs at some time. So whatever is
# painted is cleaned here, in one place, and nobody who makes a page can forget it.

_UNSAFE: Final = (
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200b-\u200f"
    "\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
"""None of them is printable. Compiled when one is met: that takes as long as to draw a page."""
_COLOUR: Final = "\x1b\\[[0-9;:]*m"


def clean(text: str) -> str:
    """Return text in which nothing can move the cursor, hide text or turn it around: such
    characters are escaped."""
    return text if text.isprintable() else re.sub(_UNSAFE, _escaped, text)


def clean_lines(text: str) -> str:
    """Return text of several lines in which only the ends of lines are left of what controls a terminal."""
    return "\n".join(map(clean, text.split("\n")))


def clean_output(data: bytes) -> str:
    """Return one line of a program's output for a terminal: its colours are dropped, other
    controls escaped."""
    return clean(re.sub(_COLOUR, "", data.decode("utf-8", "backslashreplace").rstrip("\r\n")))


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    short = {9: "\\t", 10: "\\n", 13: "\\r"}.get(code)
    return short or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


# ---- widths --------------------------------------------------------------------------------------


def width_of(text: str) -> int:
    """Return how many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(_width_of_character(character) for character in text)


def _width_of_character(character: str) -> int:
    # Korean vowels and finals are drawn into the block of the consonant before them.
    if unicodedata.combining(character) or "\u1160" <= character <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def plain(block: Line | Wrapped) -> str:
    """Return the text of a line without its styles."""
    cells = block.cells if isinstance(block, Wrapped) else block
    return "".join(cell.text for cell in cells)


def widths_of(table: Table) -> list[int]:
    """Return the columns of a terminal that each column takes, unwrapped."""
    if table.least:
        return list(table.least)
    return [
        max(width_of(name), *(width_of(row[index].text) for row in table.rows), 0)
        for index, name in enumerate(table.columns)
    ]


def fitted(table: Table, width: int) -> Table:
    """Leave out expendable columns until the page is wide enough."""
    for name in table.expendable:
        if _least_width(table) <= width:
            return table
        if name in table.columns:
            table = _without(table, table.columns.index(name))
    return table


def _least_width(table: Table) -> int:
    widths = widths_of(table)
    return sum(widths[:-1]) + GAP * (len(widths) - 1) + min(widths[-1], NOTE_WIDTH)


def _without(table: Table, index: int) -> Table:
    return replace(
        table,
        least=(*table.least[:index], *table.least[index + 1 :]),
        columns=table.columns[:index] + table.columns[index + 1 :],
        rows=[row[:index] + row[index + 1 :] for row in table.rows],
    )
