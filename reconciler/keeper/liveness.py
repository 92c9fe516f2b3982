"""Whether the controller still answers, and how soon the next one is started.

It is asked by the watchdog's clock, or when there is reason to doubt:

    at ease --it was told something, or a client calls--> looking --that lies unread--> asked --> silent
       ^                                                     |                            |
       +----------------- all was read ----------------------+--------- it answers -------+

Without a watchdog an idle keeper never wakes for this. With one, `looking` ends in a question each time,
and the answer is what the watchdog is told: it has come through both programs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from reconciler.model.units import MILLISECOND_NS, SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Callable

DOUBT_NS: Final = 10 * SECOND_NS
"""How long something may lie unread before it is asked whether it lives."""
ANSWER_NS: Final = 20 * SECOND_NS
"""How long an answer may take; a start with 10,000 watchers on a busy machine takes a part of it."""
QUICK_DEATH_NS: Final = 10 * SECOND_NS
FIRST_WAIT_NS: Final = 100 * MILLISECOND_NS
LAST_WAIT_NS: Final = 5 * SECOND_NS


class Liveness:
    """What is known of one controller after another. `watchdog_ns` None: nobody wants to be told regularly."""

    def __init__(self, watchdog_ns: int | None = None) -> None:
        self.due_ns: int | None = None
        """When to look again, None: not before something is said to it."""
        self._is_asked = False
        self._regular = watchdog_ns is not None
        # Asked at half of the watchdog's time and silent a quarter later: another one can be there in time.
        self._doubt_ns = DOUBT_NS if watchdog_ns is None else watchdog_ns // 2
        self._answer_ns = ANSWER_NS if watchdog_ns is None else min(ANSWER_NS, watchdog_ns // 4)

    def begins(self, now_ns: int) -> None:
        """Forget the controller before this one; the new one is asked at once, its start is its answer."""
        self.due_ns, self._is_asked = now_ns + self._answer_ns, True

    def ends(self) -> None:
        """There is nobody to be asked."""
        self.due_ns, self._is_asked = None, False

    def told(self, now_ns: int) -> None:
        """It was told something, or a client calls: that should be read soon."""
        if self.due_ns is None:
            self.due_ns = now_ns + self._doubt_ns

    def answers(self, now_ns: int) -> None:
        """It has answered."""
        self.ends()
        if self._regular:
            self.told(now_ns)

    def look(self, now_ns: int, is_behind: Callable[[], bool]) -> Literal["ask", "silent"] | None:
        """Return what is to be done by now. `is_behind` tells whether something lies unread."""
        if self.due_ns is None or now_ns < self.due_ns:
            return None
        was_asked = self._is_asked
        if was_asked and now_ns < self.due_ns + self._answer_ns:
            self.ends()
            return "silent"
        if not (was_asked or self._regular or is_behind()):
            self.ends()
            return None
        # Asked so long ago that we are late ourselves: whoever stopped us may have stopped it too.
        self.begins(now_ns)
        return None if was_asked else "ask"


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
