"""Output of processes, after the name of the slot, for a terminal or as it was written."""

from __future__ import annotations

import os
import zlib
from itertools import groupby
from typing import TYPE_CHECKING, Final

from reconciler.cli.views import terminal
from reconciler.cli.views.layout import Cell, clean_output
from reconciler.cli.views.phrases import slot_name
from reconciler.model.value import replace
from reconciler.output.stamps import time_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reconciler.cli.views.layout import Line, Style
    from reconciler.cli.views.terminal import Terminal
    from reconciler.model.answer import LogEntry

_PALETTE: Final[tuple[Style, ...]] = ("cyan", "yellow", "green", "magenta", "blue")


def in_order(entries: list[LogEntry]) -> list[LogEntry]:
    """Return the lines of several logs by their times, where all logs have them."""
    told = [entry for entry in entries if not entry.data]
    logs = [entry for entry in entries if entry.data]
    if len(logs) < 2 or any(time_of(entry.data) is None for entry in logs):
        return entries
    lines: list[tuple[int, int, bytes]] = []
    for number, entry in enumerate(logs):
        time_ns = 0
        for line in split_lines(entry.data):
            time_ns = time_of(line) or time_ns  # one without a time belongs to the line before it
            lines.append((time_ns, number, line))
    lines.sort(key=lambda each: each[0])
    runs = groupby(lines, key=lambda each: each[1])
    ordered = [
        replace(logs[number], data=b"".join(line + b"\n" for _, _, line in run))
        for number, run in runs
    ]
    return [*told, *ordered]


def log_name(entry: LogEntry) -> str:
    """Return the slot that wrote this, or the name of the file if several watchers write to it."""
    if not entry.watcher and entry.path:
        return os.path.basename(entry.path)
    return slot_name(entry.watcher, entry.slot)


def show_logs(screen: Terminal, entries: Iterable[LogEntry], *, prefix: bool = True) -> None:
    """Write pieces of output; the names of the slots are aligned to the longest one met so far."""
    width = 0
    if isinstance(entries, list):
        width = max((len(log_name(one)) for one in entries), default=0)
    for entry in entries:
        width = max(width, len(log_name(entry)))
        show_log(screen, entry, width if prefix else None)


def show_log(screen: Terminal, entry: LogEntry, width: int | None) -> None:
    """Write one piece of output, after the slot's name in `width` columns, or without it."""
    name = log_name(entry)
    if entry.error:
        terminal.stderr().write(f"{name}: {entry.error}\n" if name else f"{entry.error}\n")
    if not entry.data:
        return
    if screen.is_pipe:
        screen.write_bytes(log_bytes(entry, name, width))
    else:
        screen.show(*log_lines(entry, name, width))


def log_lines(entry: LogEntry, name: str, width: int | None) -> list[Line]:
    """Return the lines of a piece of output for a terminal, after the name of the slot."""
    prefix: Line = ()
    if width is not None:
        bar = Cell("| ", "bad" if entry.source == "stderr" else "quiet")
        prefix = (Cell(f"{name:<{width}} ", slot_style(name)), bar)
    return [(*prefix, Cell(clean_output(line))) for line in split_lines(entry.data)]


def slot_style(name: str) -> Style:
    """Return the colour of a slot: always the same for the same name."""
    return _PALETTE[zlib.crc32(name.encode("utf-8", "backslashreplace")) % len(_PALETTE)]


def log_bytes(entry: LogEntry, name: str, width: int | None) -> bytes:
    """Return the lines of a piece of output for a pipe: as the program wrote them, after the name
    of the slot."""
    head = "" if width is None else f"{name:<{width}} | "
    prefix = head.encode("utf-8", "backslashreplace")
    return b"".join(prefix + line + b"\n" for line in split_lines(entry.data))


def split_lines(data: bytes) -> list[bytes]:
    """Cut output into lines at newlines only; other separators belong to the text."""
    lines = data.split(b"\n")
    return lines[:-1] if lines[-1] == b"" else lines
