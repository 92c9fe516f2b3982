"""Whether the clients of a socket are accepted, judged by looks some seconds apart; touches no world.

That some wait says nothing: others may. So once their number has not fallen for a while, it is seen who they are, and
whether one of the same is still there later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.model.socket import Unaccepted
from reconciler.model.units import SECOND_NS
from reconciler.model.value import Part

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_NS: Final = SECOND_NS
"""How long their number must not have fallen."""
UNACCEPTED_NS: Final = 5 * SECOND_NS
"""How long clients wait before that is told."""


class Acceptance(Part):
    """What is known of those who wait at one socket."""

    unaccepted: Unaccepted | None = None
    """What is to be told."""
    since_ns: int | None = None
    """Since when clients wait of whom none is known to have been accepted."""
    _waiting: int = 0
    _clients: frozenset[int] = frozenset()
    """Those of them who were there at `since_ns` and are still."""

    def look(
        self, now_ns: int, waiting: int | None, clients: Callable[[], frozenset[int]]
    ) -> int | None:
        """Take what is seen; return after how many ns to look again, None: nobody is known to wait in vain.

        `waiting` is how many wait, and who they are `clients` tells. Raises what that does.
        """
        if waiting:
            if self.since_ns is None:
                self.since_ns, self._waiting = now_ns, waiting
                return LOOK_NS
            if self._clients:
                self._clients &= clients()
                if self._clients and now_ns - self.since_ns >= UNACCEPTED_NS:
                    self.unaccepted = Unaccepted(waiting, self.since_ns)
                if self._clients:
                    return UNACCEPTED_NS
            elif now_ns - self.since_ns < LOOK_NS:
                return LOOK_NS
            elif waiting >= self._waiting:
                self._clients, self.since_ns = clients(), now_ns
                return UNACCEPTED_NS
        self.unaccepted, self.since_ns, self._clients = None, None, frozenset()
        return None
