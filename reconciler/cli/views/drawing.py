"""Pages for a terminal, drawn by rich: tables that wrap their last column, and colours.

Imported only where there is a terminal: rich costs 40 ms that a pipe need not pay.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from reconciler.cli.views.layout import GAP, Table, Wrapped, fitted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reconciler.cli.views.layout import Block, Line, Style

STYLES: Final[dict[Style, str]] = {
    "title": "bold",
    "good": "green",
    "busy": "yellow",
    "bad": "bold red",
    "quiet": "dim",
}
"""Of styles that are no colours."""
WITHOUT_EDGE: Final = 100_000


def draw(blocks: Iterable[Block], *, width: int | None, colour: bool) -> list[str]:
    """Return the lines of a page of `width` columns, None: without an edge."""
    console = Console(
        file=io.StringIO(),
        width=WITHOUT_EDGE if width is None else width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
        markup=False,
        emoji=False,
    )
    lines: list[str] = []
    for block in blocks:
        with console.capture() as capture:
            if isinstance(block, Table):
                console.print(_table(fitted(block, console.width)))
            elif isinstance(block, Wrapped):
                for line in _wrapped(block, console):
                    console.print(line, soft_wrap=True)
            else:
                console.print(_text(block), soft_wrap=True)
        # Not splitlines(): text of others may hold what Unicode calls a line separator, escaped or not.
        lines += [line.rstrip() for line in capture.get().removesuffix("\n").split("\n")]
    return lines


def _text(cells: Line) -> Text:
    return Text.assemble(*((cell.text, STYLES.get(cell.style, cell.style)) for cell in cells))


def _table(table: Table) -> RichTable:
    drawn = RichTable(
        box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style=STYLES["title"]
    )
    *first, last = table.columns
    widths = table.least or [0] * len(table.columns)
    for name, least in zip(first, widths, strict=False):
        drawn.add_column(name, no_wrap=True, min_width=least or None)
    drawn.add_column(last, overflow="ellipsis" if table.cut else "fold", no_wrap=table.cut)
    for row in table.rows:
        drawn.add_row(*(_text((cell,)) for cell in row))
    return drawn


def _wrapped(block: Wrapped, console: Console) -> list[Text]:
    """Wrap a line at words; further lines are indented."""
    text = _text(block.cells)
    first = text.wrap(console, console.width)[0]
    rest = text[len(first.plain) :]
    if not rest.plain.strip():
        return [text]
    rest = rest[len(rest.plain) - len(rest.plain.lstrip()) :]
    margin = Text(" " * block.indent)
    return [
        first,
        *(margin + line for line in rest.wrap(console, max(console.width - block.indent, 20))),
    ]
