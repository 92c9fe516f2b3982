"""Denied calls are events, but no flood of them: whoever is denied something in a loop must not fill the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from reconciler.controller.runtime import clock
from reconciler.controller.runtime.reactor import Reactor
from reconciler.model.event import Event
from reconciler.model.units import SECOND_NS, format_duration
from reconciler.model.value import Part, field

WINDOW_NS: Final = 60 * SECOND_NS
TOLD_PER_WINDOW: Final = 20
"""Denials told one by one, the first of each user; the others of a window are counted and told together."""


class Denials(Part):
    """Tells of the calls that were denied lately."""

    reactor: Reactor
    tell: Callable[[Event], None]
    _until_ns: int = 0
    _told: set[int] = field(default_factory=set)
    _untold: int = 0

    def note(self, uid: int, pid: int, who: str, method: str, message: str) -> None:
        """Take note of a denied call: tell it, or count it."""
        now_ns = clock.now_ns()
        if now_ns >= self._until_ns:
            self._tell_the_rest()
            self._until_ns = now_ns + WINDOW_NS
            self._told = set()
        if uid in self._told or len(self._told) >= TOLD_PER_WINDOW:
            self._untold += 1
            if self._untold == 1:
                self.reactor.at(self, self._until_ns, self._tell_the_rest)
            return
        self._told.add(uid)
        details = {"who": who, "uid": uid, "pid": pid, "method": method[:64]}
        self.tell(Event("access.denied", message, details=details))

    def _tell_the_rest(self) -> None:
        count, self._untold = self._untold, 0
        self.reactor.at(self, None, self._tell_the_rest)
        if count:
            calls = "1 more call was" if count == 1 else f"{count} more calls were"
            message = f"{calls} refused within {format_duration(WINDOW_NS)}"
            self.tell(Event("access.denied", message, details={"count": count}))
