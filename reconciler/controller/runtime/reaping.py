"""Children are reaped without waiting for them: one that cannot die (a disk that hangs) holds nobody up."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Final

from reconciler.controller.runtime import clock
from reconciler.controller.runtime.reactor import Reactor
from reconciler.model.units import MILLISECOND_NS, SECOND_NS

FIRST_PAUSE_NS: Final = MILLISECOND_NS
LAST_PAUSE_NS: Final = SECOND_NS


def reap(
    reactor: Reactor,
    process: subprocess.Popen[bytes],
    ended: Callable[[int], None] = lambda _: None,
) -> None:
    """Look whether a child has ended, now and then, and hand over its exit code once it has.

    It needs no descriptor, so that it works when none is left; call it for what is about to end.
    """
    _look(reactor, process, ended, FIRST_PAUSE_NS)


def _look(
    reactor: Reactor,
    process: subprocess.Popen[bytes],
    ended: Callable[[int], None],
    pause_ns: int,
) -> None:
    code = process.poll()
    if code is not None:
        ended(code)
        return
    again = min(pause_ns * 2, LAST_PAUSE_NS)
    reactor.at(
        (reap, process), clock.now_ns() + pause_ns, lambda: _look(reactor, process, ended, again)
    )
