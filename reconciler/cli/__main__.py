"""The command `reconcile`, also `python -m reconciler.cli`: what takes long to come up is begun first.

Nothing is imported here but what every command needs.
"""

from __future__ import annotations

import sys

from reconciler import __version__
from reconciler.cli import version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reconciler.cli.lines import Line

INTERRUPTED = 130

READING = ("run", "up")
"""Commands that become a manager: all that they do waits for the spec to be read."""
QUICK = ("status", *READING)
WITH_VALUE = ("--name", "--runtime-dir", "--state-dir")
"""Options of the root that take the next argument, as units and scripts put them before the command."""


COMMON = "reconciler.model.spec"
"""What all need that such a command consists of, in their memory once: it is imported before they part."""


def command_of(arguments: list[str]) -> str:
    """Return the command of a command line, without reading its options; empty when there is none."""
    waiting = iter(arguments)
    for argument in waiting:
        if argument in WITH_VALUE:
            next(waiting, None)
        elif not argument.startswith("-"):
            return argument
    return ""


def _read(command: str) -> Line | None:
    """Return what the command line says, where click is not needed to read it."""
    if command not in QUICK:
        return None
    from reconciler.cli import lines

    return lines.read(sys.argv[1:])


def _is_told(text: str) -> bool:
    """Write a text; False when that cannot be: the long way says why."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except (AttributeError, OSError):
        return False
    return True


def main() -> int:
    """Run one command line and return its exit code."""
    try:
        if sys.argv[1:] in version.ASKED and _is_told(version.text(__version__)):
            return 0
        command = command_of(sys.argv[1:])
        line = _read(command)
        if line is not None and command == "status":
            from reconciler.cli import quick

            return quick.status(line)
        if command in READING and not {"-h", "--help"} & {*sys.argv}:
            import contextlib
            from importlib import import_module

            from reconciler.cli.connection import ahead, reader
            from reconciler.system import in_place

            in_place.stand()
            import_module(COMMON)
            if not {"-d", "--detach"} & {*sys.argv}:
                ahead.begin()
            with contextlib.suppress(OSError):  # whoever asks it begins it again, and tells
                reader.begin(may_fork=True)
            if line is not None:
                from reconciler.cli import quick

                return quick.start(line)
        from reconciler.cli.main import main

        return main()
    except KeyboardInterrupt:  # before anything was there that could say so
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
