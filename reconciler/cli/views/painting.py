"""How pages become lines: plain for a pipe, drawn for a terminal.

One layout serves both, so they never say different things. A pipe gets plain aligned text, without an edge; a
terminal is drawn by rich (`drawing`), which a pipe never pays for. All of it is pure: width and colour are
arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.cli.views.layout import GAP, Cell, Table, Wrapped, clean, plain, width_of, widths_of
from reconciler.model.value import replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reconciler.cli.views.layout import Block, Line


def paint(blocks: Iterable[Block], *, width: int | None = None, colour: bool = False) -> list[str]:
    """Return the lines of a page, cleaned. `width` None is a page without an edge: nothing wraps, no
    column goes."""
    blocks = [_cleaned(block) for block in blocks]
    if width is not None or colour:
        from reconciler.cli.views.drawing import draw

        return draw(blocks, width=width, colour=colour)
    lines: list[str] = []
    for block in blocks:
        if isinstance(block, Table):
            lines += _plain_table(block)
        else:
            lines.append(plain(block).rstrip())
    return lines


def _cleaned(block: Block) -> Block:
    if isinstance(block, Table):
        return replace(block, rows=[_cleaned_line(row) for row in block.rows])
    if isinstance(block, Wrapped):
        return replace(block, cells=_cleaned_line(block.cells))
    return _cleaned_line(block)


def _cleaned_line(line: Line) -> Line:
    return tuple([_cleaned_cell(cell) for cell in line])


def _cleaned_cell(cell: Cell) -> Cell:
    text = clean(cell.text)
    return cell if text is cell.text else Cell(text, cell.style)


def _plain_table(table: Table) -> list[str]:
    widths = widths_of(table)
    lines = []
    for row in (table.columns, *([cell.text for cell in row] for row in table.rows)):
        padded = [
            text + " " * (size - width_of(text) + GAP)
            for text, size in zip(row, widths, strict=False)
        ]
        lines.append("".join(padded).rstrip())
    return lines
