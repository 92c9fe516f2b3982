"""How far the end of the keeper has come."""

from __future__ import annotations

from typing import Final, TypeAlias

from reconciler.model.process import ProcessId
from reconciler.model.units import SECOND_NS
from reconciler.model.value import Struct

STOP_CHECK_NS: Final = 5 * SECOND_NS
STALL_NS: Final = 30 * SECOND_NS
"""How long beyond the longest grace period an end waits for a controller under which nobody ends or starts."""


class Asked(Struct, frozen=True):
    """Asked to stop; at `due_ns` the controller must have shown that it listens.

    And at `give_up_ns` somebody else must live than `live`: one that listens and does nothing holds up nothing.
    """

    due_ns: int
    give_up_ns: int
    live: frozenset[tuple[ProcessId, int]]


class Terminating(Struct, frozen=True):
    """The controller does not answer: everything was sent TERM, and is sent KILL then."""

    due_ns: int


class Killing(Struct, frozen=True):
    """Everything was sent KILL, and is again until it is gone or nothing helps."""

    due_ns: int
    code: int
    times: int = 1


class Leaving(Struct, frozen=True):
    """Nothing is left but the controller, which was hung up on and may end by itself until then."""

    code: int
    due_ns: int


Ending: TypeAlias = Asked | Terminating | Killing | Leaving


def ask_again(
    former: Ending | None, live: frozenset[tuple[ProcessId, int]], grace_ns: int, now_ns: int
) -> Asked:
    """Return until when the controller must answer, and get anywhere since the last time that it had."""
    give_up_ns = now_ns + grace_ns + STALL_NS
    if isinstance(former, Asked) and former.live == live:
        give_up_ns = former.give_up_ns
    return Asked(min(now_ns + STOP_CHECK_NS, give_up_ns), give_up_ns, live)
