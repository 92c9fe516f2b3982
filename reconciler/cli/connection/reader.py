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


class Reader:
    """One process, for one request. Without a request it ends when this process does."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-m", "reconciler.specfile"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def ask(self, request: bytes) -> subprocess.CompletedProcess[bytes] | None:
        """Return how it ended and what it said, None when it took too long."""
        try:
            answer, complaint = self._process.communicate(request, TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            return None
        code = self._process.returncode
        return subprocess.CompletedProcess(self._process.args, code, answer, complaint)


_begun: list[Reader] = []


def begin() -> None:
    """Start a reader for the request that is to come."""
    _begun.append(Reader())


def ask(request: bytes) -> subprocess.CompletedProcess[bytes] | None:
    """Ask the reader that was begun, or else a new one; None when it took too long."""
    reader = _begun.pop() if _begun else Reader()
    return reader.ask(request)
