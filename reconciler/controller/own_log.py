"""The controller's own log: constant messages with key=value pairs, as lines of text or JSON."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import Final

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Log:
    """Writes lines to a file or to standard error; a log that cannot be written stops nothing."""

    def __init__(self, level: str = "info", format: str = "text", file: str | None = None) -> None:
        self.level = level
        self.format = format
        self._descriptor = sys.stderr.fileno()
        if file is not None:
            try:
                self._descriptor = os.open(
                    file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640
                )
            except OSError as error:
                self.write("error", "cannot open the log file", path=file, cause=error.strerror)

    def write(self, level: str, message: str, **pairs: object) -> None:
        """Write one line, when its level is asked for."""
        if LEVELS[level] < LEVELS.get(self.level, 20):
            return
        line = self._line(level, message, pairs)
        # Standard error may be a pipe that nobody reads any more, the disk may be full.
        with contextlib.suppress(OSError):
            os.write(self._descriptor, line.encode(errors="backslashreplace"))

    def _line(self, level: str, message: str, pairs: dict[str, object]) -> str:
        wall = time.time_ns()
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(wall // 10**9))
        stamp = f"{seconds}.{wall % 10**9 // 1000:06d}Z"
        if self.format == "json":
            entry = {"time": stamp, "level": level, "message": message, **pairs}
            plain = os.isatty(self._descriptor)  # JSON escapes but a part of what a terminal obeys
            return json.dumps(entry, default=str, ensure_ascii=plain) + "\n"
        shown = "".join(f" {key}={_word(value)}" for key, value in pairs.items())
        return f"{stamp} {level} controller: {message}{shown}\n"


def _word(value: object) -> str:
    """Return a value so that one line stays one line and a terminal is never spoken to."""
    text = str(value)
    if text and text.isprintable() and not set(text) & set(" =\"'"):
        return text
    return json.dumps(text)
