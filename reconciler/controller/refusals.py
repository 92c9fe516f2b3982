"""Refusals are told as events, but no flood of them: whoever is refused in a loop must not fill the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.controller import clock
from reconciler.model.news import News
from reconciler.model.units import SECOND_NS, format_duration

if TYPE_CHECKING:
    from reconciler.controller.access import Peer
    from reconciler.controller.loop import Controller

WINDOW_NS: Final = 60 * SECOND_NS
TOLD_PER_WINDOW: Final = 20
"""Refusals told one by one, the first of each user; the others of a window are counted and told together."""


class Refusals:
    """What is told of those who were refused lately."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._until_ns = 0
        self._told: set[int] = set()
        self._untold = 0

    def note(self, peer: Peer, who: str, method: str, message: str) -> None:
        """Take note of a refused call: tell it, or count it."""
        now_ns = clock.now_ns()
        if now_ns >= self._until_ns:
            self._tell_the_rest()
            self._until_ns = now_ns + WINDOW_NS
            self._told = set()
        if peer.uid in self._told or len(self._told) >= TOLD_PER_WINDOW:
            self._untold += 1
            if self._untold == 1:
                self._controller.reactor.at(self, self._until_ns, self._tell_the_rest)
            return
        self._told.add(peer.uid)
        details = {"who": who, "uid": peer.uid, "pid": peer.pid, "method": method}
        self._controller.tell(News("access.denied", message, details=details))

    def _tell_the_rest(self) -> None:
        count, self._untold = self._untold, 0
        self._controller.reactor.at(self, None, self._tell_the_rest)
        if count:
            calls = "1 more call was" if count == 1 else f"{count} more calls were"
            message = f"{calls} refused within {format_duration(WINDOW_NS)}"
            self._controller.tell(News("access.denied", message, details={"count": count}))
