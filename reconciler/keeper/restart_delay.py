"""How soon the next controller is started, by how those before it have ended."""

from __future__ import annotations

from typing import Final

from reconciler.model.units import MILLISECOND_NS, SECOND_NS

QUICK_DEATH_NS: Final = 10 * SECOND_NS
FIRST_WAIT_NS: Final = 100 * MILLISECOND_NS
LAST_WAIT_NS: Final = 5 * SECOND_NS


class RestartDelay:
    """What is remembered of controllers: `quick_deaths` in a row, and whether the last one was at fault."""

    def __init__(self) -> None:
        self.quick_deaths = 0
        self.is_at_fault = False
        self._since_ns = 0

    def begins(self, now_ns: int) -> None:
        """One is started."""
        self._since_ns, self.is_at_fault = now_ns, False

    def blames(self, now_ns: int) -> None:
        """It was of no use, however long it took to see that."""
        self._since_ns, self.is_at_fault = now_ns, True

    def wait_ns(self, now_ns: int) -> int:
        """Return how long the next one waits: not at all after a good while, longer and longer otherwise."""
        if now_ns - self._since_ns >= QUICK_DEATH_NS:
            self.quick_deaths = 0
        elif self.is_at_fault or self.quick_deaths < 2:
            # Killed by others, it comes back after the first wait each time: that says nothing of itself.
            self.quick_deaths += 1
        if self.quick_deaths <= 1:
            return 0
        return min(LAST_WAIT_NS, FIRST_WAIT_NS << min(self.quick_deaths - 2, 10))
