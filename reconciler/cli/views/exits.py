"""What an end of a process usually means, in words: signals, exit codes of shells."""

from __future__ import annotations

from typing import Final

from reconciler.model.units import SIGNAL_NAMES

_SIGNALS: Final = {
    "ABRT": "it aborted itself: a failed assertion, an error in the heap, an uncaught exception",
    "ALRM": "a timer of its own that it does not handle",
    "BUS": "it accessed memory that cannot be had: often a file that was cut while mapped, or a full /dev/shm",
    "FPE": "an arithmetic error, such as a division by zero",
    "HUP": "it was asked to reload or to end, and does not handle that",
    "ILL": "an instruction that this processor does not have, or damaged code",
    "INT": "it was interrupted, as by Ctrl-C",
    "KILL": "killed from outside, which no program can prevent: by hand, or by the kernel when memory ran out",
    "PIPE": "it wrote to a pipe or connection that nobody reads any more",
    "QUIT": "it was asked to end with a core dump",
    "SEGV": "it accessed memory that is not its own: an error of the program or of a library",
    "SYS": "a system call that it is not allowed to make (seccomp)",
    "TERM": "it was asked to end: the manager did not do that of itself",
    "TRAP": "a breakpoint or a failed check of its own",
    "USR1": "it got a signal that it does not handle",
    "USR2": "it got a signal that it does not handle",
    "XCPU": "it used up its processor time (limits.cpu)",
    "XFSZ": "it wrote a file beyond the size that it may have (limits.fsize)",
}
_CODES: Final = {
    126: "in a shell: a command was found and cannot be executed",
    127: "in a shell: a command was not found",
}


def meaning(code: int | None, signal: str | None, text: str = "") -> str:
    """Return what an exit code or a signal usually means; empty: nothing that goes without saying.

    `text` tells of the end, and may say more than can be guessed.
    """
    if signal is not None:
        return "" if "out of memory" in text else _SIGNALS.get(signal, "")
    if code is not None and 128 < code <= 128 + len(SIGNAL_NAMES):
        return f"in a shell: what it ran was killed by SIG{SIGNAL_NAMES[code - 129]}"
    return _CODES.get(code, "") if code is not None else ""
