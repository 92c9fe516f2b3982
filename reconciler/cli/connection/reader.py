"""The process that reads a spec: begun early, asked once.

A hostile file can crash the compiled YAML parser, and reading needs libraries that no other command wants
to pay for. So it is a program of its own, for us as for the controller. It imports for about as long as the
command line does: begun as the very first thing, it comes up at the same time.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Final

TIMEOUT_S: Final = 60.0


_begun: list[subprocess.Popen[bytes]] = []


def begin() -> None:
    """Start a reader for the request that is to come. Without one it ends when this process does."""
    argv = [sys.executable, "-I", "-m", "reconciler.specfile"]
    pipe = subprocess.PIPE
    _begun.append(subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe))


def ask(request: bytes) -> subprocess.CompletedProcess[bytes] | None:
    """Ask the reader that was begun, or else a new one.

    Returns how it ended and what it said, None when it took too long.
    """
    if not _begun:
        begin()
    reader = _begun.pop()
    try:
        answer, complaint = reader.communicate(request, TIMEOUT_S)
    except subprocess.TimeoutExpired:
        reader.kill()
        reader.communicate()
        return None
    return subprocess.CompletedProcess(reader.args, reader.returncode, answer, complaint)
