"""What has happened, one event a line."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

from reconciler.cli.views.layout import Cell
from reconciler.cli.views.phrases import NOTHING, clock, slot_name
from reconciler.model.units import SECOND_NS

if TYPE_CHECKING:
    from reconciler.cli.views.layout import Line, Style
    from reconciler.model.answer import EventEntry

_EXPECTED_WORDS: Final = frozenset({"started", "passed", "bound", "fired", "good"})
_BAD = re.compile(
    "failed|refused|denied|invalid|backoff|lost|killed|error|missing|held|paused|rolled_back"
)


def is_important(event: EventEntry) -> bool:
    """Tell whether an event is shown among the output: all but the expected ones."""
    return event.type.rpartition(".")[2] not in _EXPECTED_WORDS


def event_line(event: EventEntry) -> Line:
    """Return one event: when, its type, whom it concerns, the sentence."""
    style: Style = "bad" if _BAD.search(event.type) else "cyan"
    return (
        Cell(f"{event.seq:>5}  {clock(event.time_ns)}  ", "quiet"),
        Cell(f"{event.type:<20}  ", style),
        Cell(f"{slot_name(event.watcher, event.slot) or NOTHING:<12}  "),
        Cell(event.message + _repeated(event)),
    )


def _repeated(event: EventEntry) -> str:
    """Return how many events this one stands for: ` (40 times since 10:02:11)`."""
    count, since_ns = event.details.get("count"), event.details.get("since_ns")
    if not isinstance(count, int) or not isinstance(since_ns, int):
        return ""
    since = time.localtime(since_ns // SECOND_NS)
    day = "%Y-%m-%d " if since[:3] != time.localtime(event.time_ns // SECOND_NS)[:3] else ""
    return f" ({count} times since {time.strftime(f'{day}%H:%M:%S', since)})"
