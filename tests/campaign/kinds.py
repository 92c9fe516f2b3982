"""What is done to the manager, again and again: each kind is one function."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tests.e2e.stage import command_of, descendants, is_alive, until

if TYPE_CHECKING:
    from tests.campaign.arena import Arena
    from tests.e2e.stage import Stage


def controller_of(keeper: int) -> int:
    """Return the pid of the controller that lives now, waiting for one if need be."""

    def look() -> int:
        for pid in descendants(keeper):
            try:
                if is_alive(pid) and "reconciler.controller" in command_of(pid):
                    return pid
            except OSError:
                continue
        return 0

    return until(look, "a controller lives")


def keeper_of(it: Stage) -> int:
    """Return the pid of the keeper, by its own word."""
    return int(it.status()["keeper_pid"])


def kill(*pids: int) -> None:
    """Kill processes, and wait until they are gone."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    until(lambda: not any(map(is_alive, pids)), "they are gone")


def controller(arena: Arena) -> None:
    """Kill the controller; the keeper brings the next one."""
    kill(controller_of(arena.keeper))


def keeper(arena: Arena) -> None:
    """Kill the keeper, upon which the controller ends, and start the manager again."""
    there, began_ns = controller_of(arena.keeper), time.monotonic_ns()
    kill(arena.keeper)
    until(lambda: not is_alive(there), "the controller has ended")
    _start_again(arena, began_ns)


def both(arena: Arena) -> None:
    """Kill keeper and controller in one go, and start the manager again."""
    there, began_ns = controller_of(arena.keeper), time.monotonic_ns()
    kill(arena.keeper, there)
    _start_again(arena, began_ns)


def upgrade(arena: Arena) -> None:
    """Replace the code of keeper and controller in place."""
    arena.it.run("upgrade")


def _start_again(arena: Arena, began_ns: int) -> None:
    arena.it.run("apply", str(arena.it.specs), "--no-wait")
    arena.unwatched.append((began_ns, time.monotonic_ns()))
    arena.keeper = keeper_of(arena.it)


KINDS: Final[dict[str, Callable[[Arena], None]]] = {
    "controller": controller,
    "keeper": keeper,
    "upgrade": upgrade,
    "both": both,
}
