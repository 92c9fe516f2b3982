"""A Python program that begins in a process that is there already: with what it has imported, without execve(2).

It is what `python -I -m MODULE ARGUMENTS` would be, so the process must be as isolated: no module may come from a
folder or a variable of whoever has called.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final, Literal, NoReturn

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


def stand() -> None:
    """Open 0, 1 and 2 where they are closed: what is opened next must not be taken for what a program says."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def fork(*, changes: Literal["parent", "child"]) -> int:
    """Fork, as `os.fork`; who changes is about to call `live`, and Ctrl-C ends it without a word, also at once."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        pid = os.fork()
        if (pid != 0) is (changes == "parent"):
            interruptible()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def interruptible() -> None:
    """Let Ctrl-C end this process at once, unless it is ignored: Python would die of it with a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def mortal() -> None:
    """Let signals end this process also where it is PID 1, to which those that it does not handle mean nothing."""
    if os.getpid() == 1:
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda number, _: os._exit(128 + number))


def begin(argv: Sequence[str]) -> int:
    """Be the program of this command from here on; return its exit code. For a process that is isolated."""
    main: Callable[[list[str]], int] = import_module(f"{argv[3]}.__main__").main
    sys.argv, sys.orig_argv = ["-m", *argv[4:]], [*argv]
    # They are none where the descriptors were closed when Python began.
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False, errors="backslashreplace")
    return main(sys.argv)


def live(run: Callable[[], int]) -> NoReturn:
    """Do this and end, in a process that was forked: what it was before is still below it on the stack."""
    code = 1
    try:
        try:
            code = run()
        except BaseException:
            sys.excepthook(*sys.exc_info())
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(code)
