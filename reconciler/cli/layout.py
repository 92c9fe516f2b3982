"""Pieces of text on a page: cells with a style, tables that fit a width, and how both are painted.

One layout serves the pipe and the terminal, so they never say different things. Painting is plain
text, or the same text with a terminal's sixteen colours. All of it is pure: width and colour are
arguments.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Style: TypeAlias = Literal[
    "", "title", "good", "busy", "bad", "quiet", "cyan", "green", "yellow", "blue", "magenta"
]

_ANSI: Final = {
    "title": "1",
    "good": "32",
    "busy": "33",
    "bad": "1;31",
    "quiet": "2",
    "cyan": "36",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
}

_GAP: Final = 2
_NOTE_WIDTH: Final = 24
"""A wrapped last column narrower than this is hard to read; other columns go first."""


class Cell(NamedTuple):
    """Text of one style."""

    text: str
    style: Style = ""


Line: TypeAlias = tuple[Cell, ...]
"""Cells one after another."""


class Table(NamedTuple):
    """Aligned columns; the last one wraps. `expendable` columns are left out, in this order, when
    the page is narrow."""

    columns: tuple[str, ...]
    rows: Sequence[Line]
    expendable: tuple[str, ...] = ()


class Wrapped(NamedTuple):
    """A line that is wrapped at words, with further lines indented."""

    cells: Line
    indent: int = 4


Block: TypeAlias = Table | Wrapped | Line


# ---- text that others wrote ----------------------------------------------------------------------

_UNSAFE = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_COLOUR = re.compile("\x1b\\[[0-9;:]*m")


def clean(text: str) -> str:
    """Return text in which nothing can move the cursor, hide text or turn it around: such
    characters are escaped."""
    return _UNSAFE.sub(_escaped, text)


def clean_output(data: bytes) -> str:
    """Return one line of a program's output for a terminal: its colours are dropped, other
    controls escaped."""
    return clean(_COLOUR.sub("", data.decode("utf-8", "backslashreplace").rstrip("\r\n")))


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
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def wrap(text: str, width: int) -> list[str]:
    """Cut text into lines of at most `width` columns, at words where that is possible."""
    lines: list[str] = []
    line = ""
    for given in text.split(" "):
        word = given
        if line and width_of(line) + 1 + width_of(word) <= width:
            line += " " + word
            continue
        if line:
            lines.append(line)
        while width_of(word) > width:
            cut = _cut(word, width)
            lines.append(word[:cut])
            word = word[cut:]
        line = word
    return [*lines, line]


def _cut(word: str, width: int) -> int:
    """Return how many characters of the word fit, at least one."""
    taken = 0
    for index, character in enumerate(word):
        taken += _width_of_character(character)
        if taken > width:
            return max(index, 1)
    return len(word)


# ---- painting ------------------------------------------------------------------------------------


def paint(blocks: Iterable[Block], *, width: int | None = None, colour: bool = False) -> list[str]:
    """Return the lines of a page. `width` None is a page without an edge: nothing wraps, no
    column goes."""
    lines: list[str] = []
    for block in blocks:
        if isinstance(block, Table):
            lines += _paint_table(block, width, colour)
        elif isinstance(block, Wrapped):
            lines += _paint_wrapped(block, width, colour)
        else:
            lines.append(_paint_line(block, colour).rstrip())
    return lines


def _paint_line(cells: Iterable[Cell], colour: bool) -> str:
    return "".join(_paint_cell(cell.text, cell.style, colour) for cell in cells)


def _paint_cell(text: str, style: Style, colour: bool) -> str:
    return f"\x1b[{_ANSI[style]}m{text}\x1b[0m" if colour and style and text else text


def _paint_wrapped(block: Wrapped, width: int | None, colour: bool) -> list[str]:
    whole = "".join(cell.text for cell in block.cells)
    if width is None or width_of(whole) <= width:
        return [_paint_line(block.cells, colour)]
    *first, last = block.cells
    start = "".join(cell.text for cell in first)
    room = max(width - max(width_of(start), block.indent), _NOTE_WIDTH)
    head, *rest = wrap(last.text, room)
    painted = [_paint_line((*first, Cell(head, last.style)), colour)]
    return painted + [" " * block.indent + _paint_cell(line, last.style, colour) for line in rest]


def _paint_table(table: Table, width: int | None, colour: bool) -> list[str]:
    table = _fitted(table, width)
    widths = _widths(table)
    room = (
        None
        if width is None
        else max(width - sum(widths[:-1]) - _GAP * (len(widths) - 1), _NOTE_WIDTH)
    )
    head = tuple(Cell(name, "title") for name in table.columns)
    lines = []
    for row in (head, *table.rows):
        *first, last = row
        start = "".join(
            _paint_cell(cell.text, cell.style, colour) + " " * (size - width_of(cell.text) + _GAP)
            for cell, size in zip(first, widths, strict=False)
        )
        if room is None:
            lines.append((start + _paint_cell(last.text, last.style, colour)).rstrip())
            continue
        parts = wrap(last.text, room)
        lines.append((start + _paint_cell(parts[0], last.style, colour)).rstrip())
        margin = " " * (sum(widths[:-1]) + _GAP * (len(widths) - 1))
        lines += [margin + _paint_cell(part, last.style, colour) for part in parts[1:]]
    return lines


def _widths(table: Table) -> list[int]:
    return [
        max(width_of(name), *(width_of(row[index].text) for row in table.rows), 0)
        for index, name in enumerate(table.columns)
    ]


def _fitted(table: Table, width: int | None) -> Table:
    """Leave out expendable columns until the page is wide enough; long first columns are
    shortened last of all."""
    if width is None:
        return table
    for name in table.expendable:
        if _least_width(table) <= width:
            return table
        if name in table.columns:
            table = _without(table, table.columns.index(name))
    excess = _least_width(table) - width
    if excess > 0 and len(table.columns) > 1:
        size = max(_widths(table)[0] - excess, 12)
        rows = [(Cell(shorten(row[0].text, size), row[0].style), *row[1:]) for row in table.rows]
        return table._replace(rows=rows)
    return table


def _least_width(table: Table) -> int:
    widths = _widths(table)
    return sum(widths[:-1]) + _GAP * (len(widths) - 1) + min(widths[-1], _NOTE_WIDTH)


def _without(table: Table, index: int) -> Table:
    return table._replace(
        columns=table.columns[:index] + table.columns[index + 1 :],
        rows=[row[:index] + row[index + 1 :] for row in table.rows],
    )


def shorten(text: str, width: int) -> str:
    """Return the text in at most `width` columns, its middle replaced by `...` where it is too
    long."""
    if width_of(text) <= width:
        return text
    keep = max(width - 3, 2)
    return f"{text[: keep - keep // 2]}...{text[len(text) - keep // 2 :]}"
