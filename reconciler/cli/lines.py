"""Command lines that are read without click, which takes longer to import than their commands take for all else.

Exact forms only: what a line means that is not one of these, and what is wrong with it, click says alone.
"""

from __future__ import annotations

import os
import sys
from typing import Final, NamedTuple

PLACES: Final = {
    "--name": "name",
    "--runtime-dir": "runtime_dir",
    "--state-dir": "state_dir",
}
"""Options that may stand before the command, too."""
FLAGS: Final = {"status": {"--failed": "failed"}}
VALUES: Final = {"status": {"-o": "output", "--output": "output"}, "run": {}, "up": {}}
"""By command, its options with a value beside `PLACES`."""
OUTPUTS: Final = ("table", "wide", "name", "json")
LONG: Final = "_RECONCILE_LONG"
"""Set for a process that is to leave the line to click, since the quick way has failed."""
COMPLETES: Final = "_RECONCILE_COMPLETE"
"""Set when a shell wants to know how a line may go on: click answers that."""


class Line(NamedTuple):
    """A line that was read: the command, what it names, and its options."""

    command: str
    names: list[str]
    said: dict[str, str]


def read(arguments: list[str]) -> Line | None:
    """Return what a command line says; None when it is to be read by click."""
    if os.environ.pop(LONG, ""):
        return None
    words: list[str] = []
    said: dict[str, str] = {}
    waiting = iter(arguments)
    for argument in waiting:
        option, equals, value = argument.partition("=")
        known = {**PLACES, **VALUES.get(words[0], {})} if words else PLACES
        flags = FLAGS.get(words[0], {}) if words else {}
        if not argument.isascii() or not argument.isprintable():
            return None
        if not argument.startswith("-"):
            words.append(argument)
        elif argument in flags:
            said[flags[argument]] = argument
        elif option in known and (equals == "" or option.startswith("--")):
            value = value if equals else next(waiting, "")
            if not value or value.startswith("-"):
                return None
            said[known[option]] = value
        else:
            return None
    if not words or words[0] not in VALUES or said.get("output", "table") not in OUTPUTS:
        return None
    if COMPLETES in os.environ or None in (sys.stdout, sys.stderr):
        return None
    return Line(words[0], words[1:], said)
