"""The command `reconcile`, also `python -m reconciler.cli`: what takes long to come up is begun first."""

from __future__ import annotations

import contextlib
import sys
from typing import Final

INTERRUPTED: Final = 130

READING: Final = ("run", "up")
"""Commands that become a manager: all that they do waits for the spec to be read."""
WITH_VALUE: Final = ("--name", "--runtime-dir", "--state-dir")
"""Options of the root that take the next argument, as units and scripts put them before the command."""


def command_of(arguments: list[str]) -> str:
    """Return the command of a command line, without reading its options; empty when there is none."""
    waiting = iter(arguments)
    for argument in waiting:
        if argument in WITH_VALUE:
            next(waiting, None)
        elif not argument.startswith("-"):
            return argument
    return ""


def main() -> int:
    """Run one command line and return its exit code."""
    try:
        if command_of(sys.argv[1:]) in READING and not {"-h", "--help"} & {*sys.argv}:
            from reconciler.cli.connection import ahead, reader

            if not {"-d", "--detach"} & {*sys.argv}:
                ahead.begin()
            with contextlib.suppress(OSError):  # whoever asks it begins it again, and tells
                reader.begin()
        from reconciler.cli.main import main

        return main()
    except KeyboardInterrupt:  # before anything was there that could say so
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
