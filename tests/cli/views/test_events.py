from __future__ import annotations

from reconciler.cli.views.events import event_line
from reconciler.cli.views.painting import paint
from reconciler.model.answer import EventEntry
from reconciler.model.value import from_plain
from tests.cli.answers import NOW_NS


def test_an_event_is_one_line() -> None:
    event = from_plain(
        EventEntry,
        {
            "seq": 7,
            "time_ns": NOW_NS,
            "type": "process.exited",
            "watcher": "web",
            "slot": 2,
            "message": "exit 1\nrestart",
        },
    )

    (line,) = paint([event_line(event)])
    assert line.startswith("    7  20")
    assert line.endswith("  process.exited        web.2         exit 1\\nrestart")
