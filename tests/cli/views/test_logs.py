from __future__ import annotations

from reconciler.cli.views.logs import log_bytes, log_lines
from reconciler.cli.views.painting import paint
from reconciler.model.answer import LogEntry
from reconciler.model.value import from_plain


def test_output_for_a_pipe_keeps_its_bytes() -> None:
    entry = from_plain(
        LogEntry,
        {
            "watcher": "web",
            "slot": 2,
            "source": "stderr",
            "data": b"\x1b[1mbold\x1b[0m\n\xff\r\nlast",
        },
    )

    assert (
        log_bytes(entry, "web.2", 6)
        == b"web.2  | \x1b[1mbold\x1b[0m\nweb.2  | \xff\r\nweb.2  | last\n"
    )


def test_output_for_a_terminal_is_harmless() -> None:
    entry = from_plain(
        LogEntry, {"watcher": "web", "slot": 2, "data": b"\x1b[1mbold\x1b[0m \x1b[2J\n"}
    )

    assert paint(log_lines(entry, "web.2", 6)) == ["web.2  | bold \\x1b[2J"]
