"""A Python program that begins in a process that is there already: with what it has imported, without execve(2).

It is what `python -I -m MODULE ARGUMENTS` would be, so the process must be as isolated: no module may come from a
folder or a variable of whoever has called.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_HARMLESS: Final = frozenset({"PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"})
"""What many containers set, and what leads to no module."""

_is_isolated = bool(sys.flags.isolated)


def module_of(argv: Sequence[str]) -> str | None:
    """Return the module of a command that is `python -I -m MODULE ...` of our own Python; None for any other."""
    return argv[3] if tuple(argv[:3]) == (sys.executable, "-I", "-m") and argv[3:] else None


def isolate() -> bool:
    """Be like an isolated process; False, and nothing has changed, where one would find other modules than we."""
    global _is_isolated
    if not _is_isolated:
        import site

        is_changed = any(name.startswith("PYTHON") for name in os.environ.keys() - _HARMLESS)
        if is_changed or site.ENABLE_USER_SITE or sys.flags.safe_path:
            return False
        del sys.path[0]  # the folder of the script, or the working directory
        _is_isolated = True
    return True


def begin(argv: Sequence[str]) -> int:
    """Be the program of this command from here on; return its exit code. For a process that is isolated."""
    main: Callable[[list[str]], int] = import_module(f"{argv[3]}.__main__").main
    sys.argv, sys.orig_argv = ["-m", *argv[4:]], [*argv]
    return main(sys.argv)


def live(run: Callable[[], int]) -> NoReturn:
    """Do this and end, in a process that was forked: what it was before is still below it on the stack."""
    code = 1
    try:
        code = run()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
