"""How a command ends: exit codes, and the exceptions that carry a message for people.

| code | meaning |
|---|---|
| 0 | done |
| 1 | refused or failed |
| 2 | changes pending, for `plan` |
| 3 | not as desired |
| 4 | no manager running |
| 5 | timed out |
| 64 | wrong usage |
"""

from __future__ import annotations

from typing import Final

DONE: Final = 0
FAILED: Final = 1
PENDING: Final = 2
NOT_AS_DESIRED: Final = 3
NO_MANAGER: Final = 4
TIMED_OUT: Final = 5
USAGE: Final = 64
"""EX_USAGE of sysexits.h: not the 2 of `plan`, which scripts take for changes."""
INTERRUPTED: Final = 130


class CommandError(Exception):
    """A command that ends with a message: what cannot be done and why, and what to try."""

    exit_code = FAILED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Refused(CommandError):
    """What was asked for is refused or failed."""


class Ended(Exception):
    """A command that has said why it ends."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class NoManager(CommandError):
    """Nobody listens where the manager of the instance should be."""

    exit_code = NO_MANAGER


class TimedOut(CommandError):
    """The manager is there, but something took longer than was allowed."""

    exit_code = TIMED_OUT
