"""Keepers of output that die before their n-th call to the system: `python -m tests.output.dying FOLDER CASE`.

Reads the n of each, whose folder is FOLDER/N. It says when its FIFOs are there and reads what is in them when it is
told to; then this says what has become of it. All are forked from here, since an interpreter costs more than a life.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from reconciler.model.process import FileSink, ProcessId, Sink
from reconciler.output import log_file, spool, stream
from tests.output.test_capture import Room

WEB: Final = ProcessId("web", 1)
CALLS: Final = (
    "read", "pread", "write", "writev", "pwrite", "splice", "rename", "open", "ftruncate", "unlink",
)  # fmt: skip


def sinks(case: str, folder: Path) -> tuple[Sink, Sink | None]:
    """Return where the output goes in each case."""
    path = str(folder / "web.log")
    match case:
        case "plain":
            return FileSink(path), None
        case "timestamps" | "much with timestamps":
            return FileSink(path, timestamps=True), None
        case "rotated":
            return FileSink(path, max_size=40, keep=9), None
        case "rotated with timestamps":
            return FileSink(path, timestamps=True, max_size=120, keep=9), None
        case "two writers":
            return FileSink(path), FileSink(path)
    raise ValueError(case)


class Doomed:
    """The system, which kills us before the n-th call."""

    def __init__(self, number: int) -> None:
        self._left = number

    def __getattr__(self, name: str) -> Any:
        call = getattr(os, name)
        return self._wrapped(call) if name in CALLS else call

    def _wrapped(self, call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*arguments: object, **options: object) -> object:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return wrapped


def live(folder: Path, case: str, number: int) -> None:
    """Be a keeper until the n-th call, or until everything is moved."""
    room = Room(folder)
    streams = room.open(*sinks(case, folder))
    print("ready", flush=True)
    sys.stdin.readline()
    doomed = Doomed(number)
    for module in (stream, log_file, spool):
        module.os = doomed  # type: ignore[attr-defined]
    room.settle()
    streams.drained()


def main() -> None:
    folder, case = Path(sys.argv[1]), sys.argv[2]
    while number := sys.stdin.readline().strip():
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                live(folder / number, case, int(number))
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        print({0: "lived", signal.SIGKILL: "died"}.get(status, "failed"), flush=True)


if __name__ == "__main__":
    main()
