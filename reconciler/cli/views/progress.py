"""What is waited for: a live page on a terminal, lines about changes on a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.cli.views.layout import Block, Cell, Line, Table
from reconciler.cli.views.phrases import STATE_STYLES, TROUBLE, whole_duration
from reconciler.model.units import format_count

if TYPE_CHECKING:
    from reconciler.cli.views.terminal import Terminal
    from reconciler.model.answer import Progress

_MORE: Final = "\0"
"""Beside the names of watchers, that of those that are not named."""


def waiting_blocks(progress: Progress, elapsed_ns: int) -> list[Block]:
    """Return what is still being waited for, as a live page."""
    rows = [
        (
            Cell(one.name),
            Cell(one.state, STATE_STYLES.get(one.state, "")),
            Cell(one.note, "bad" if one.state in TROUBLE else ""),
        )
        for one in progress.waiting
    ]
    number = max(progress.remaining, len(rows))
    waited = f"waiting for {format_count(number, 'watcher')}, {whole_duration(elapsed_ns)}"
    head: Line = (Cell(waited, "busy"),)
    if not rows:
        return [head]
    page: list[Block] = [head, Table(("WATCHER", "STATE", "NOTE"), rows)]
    if number > len(rows):
        page.append((Cell(f"(and {number - len(rows)} more)", "quiet"),))
    return page


def show_changes(
    screen: Terminal,
    progress: Progress,
    shown: dict[str, str],
    prefix: str = "",
    silent: frozenset[str] = frozenset(),
) -> None:
    """Write a line for each watcher that is not as last `shown`, and how many watchers have no line.

    Watchers in a `silent` state get no line.
    """
    head = Cell(prefix, "title"), Cell("waiting for ")
    for one in progress.waiting:
        text = f"{one.name}: {one.state}" + (f": {one.note}" if one.note else "")
        if one.state not in silent and shown.get(one.name) != text:
            shown[one.name] = text
            screen.show((*head, Cell(text)))
    more = progress.remaining - len(progress.waiting)
    if more > 0 and not silent and _MORE not in shown:
        shown[_MORE] = str(more)
        screen.show((*head, Cell(f"{format_count(more, 'more watcher')}")))
