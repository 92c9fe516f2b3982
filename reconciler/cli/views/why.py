"""Why watchers are as they are: plain sentences, each indented below what it is the cause of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.cli.views.layout import Block, Cell, Wrapped
from reconciler.cli.views.phrases import age, due_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from reconciler.cli.views.causes import Cause
    from reconciler.cli.views.layout import Style


def why_page(causes: Sequence[Cause], now_ns: int) -> list[Block]:
    """Return chains of causes, with an empty line between two."""
    page: list[Block] = []
    for cause in causes:
        page += [(), *_blocks(cause, now_ns, 0)] if page else _blocks(cause, now_ns, 0)
    return page


def _blocks(cause: Cause, now_ns: int, depth: int) -> Iterator[Block]:
    indent = "  " * depth
    style: Style = "title" if not depth else ""
    cells = (Cell(indent + cause.message, style), Cell(_times(cause, now_ns), "quiet"))
    yield Wrapped(cells, len(indent) + 4)
    for line in cause.lines:
        yield (Cell(f"{indent}  | ", "quiet"), Cell(line))
    for each in cause.because:
        yield from _blocks(each, now_ns, depth + 1)


def _times(cause: Cause, now_ns: int) -> str:
    """Return since when it is so, or when it was; and when it comes about or ends."""
    parts = []
    if cause.since_ns:
        for_ = cause.kind == "state"
        ago = age(cause.since_ns, now_ns)
        parts.append(f"for {ago}" if for_ else f"{ago} ago")
    if cause.due_ns is not None:
        verb = "ends " if cause.kind == "override" else ""
        parts.append(verb + due_in(cause.due_ns, now_ns))
    return f" ({', '.join(parts)})" if parts else ""
