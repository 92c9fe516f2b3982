"""Runs a command on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def on_terminal(*arguments: str, keys: bytes = b"", **environ: str) -> tuple[str, int]:
    """Run the command on a terminal of 80 columns; return what it shows and its exit code."""
    ours, theirs = pty.openpty()
    subprocess.run(["stty", "cols", "80", "rows", "24"], stdin=theirs, check=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "reconciler.cli", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", **environ},
        start_new_session=True,
    )
    os.close(theirs)
    os.write(ours, keys)
    shown = b""
    try:
        while data := os.read(ours, 65536):
            shown += data
    except OSError:  # EIO: the other end is closed
        pass
    os.close(ours)
    return shown.decode().replace("\r\n", "\n"), process.wait(20)
