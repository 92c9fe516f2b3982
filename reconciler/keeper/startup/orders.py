"""A keeper that was begun ahead waits for its configuration, which the command gives that reads the spec."""

from __future__ import annotations

import os
import signal

from reconciler.system import in_place


def awaited(place: str) -> str:
    """Return the configuration that a child of ours gives through a pipe: `place` is its pid and the descriptor.

    Until then a signal ends us as it would end any program that has nothing to keep. Does not return when the
    child ends without having given any: then we end as it did.
    """
    command, orders = map(int, place.split(","))
    in_place.interruptible()
    in_place.mortal()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    with open(orders, encoding="utf-8", errors="surrogateescape") as pipe:
        said, _, configuration = pipe.read().partition(" ")
    if not configuration:
        os._exit(_code_of(command))
    # From here on they wait until the keeper hears them.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if said == "ends":  # in a container it is not to be taken for one of those who run there
        _code_of(command)
    return configuration


def _code_of(child: int) -> int:
    """Wait for the end of a child; return its exit code, as a shell tells it."""
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
