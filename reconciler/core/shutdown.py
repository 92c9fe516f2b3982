"""The end of everything: when nothing is left alive, and what is done with processes that belong to nobody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from reconciler.core.plan import Ended
from reconciler.core.stopping import KILL_AGAIN_NS
from reconciler.model.action import Action, EndOrphans, Quit, ShutDown
from reconciler.model.observation import ShutdownAsked
from reconciler.model.observed import WatcherObserved
from reconciler.model.process import MAIN, Orphan, ProcessRecord
from reconciler.model.units import SECOND_NS
from reconciler.model.value import replace

ORPHANS_TIMEOUT_NS: Final = 10 * SECOND_NS
"""How long processes that belong to nobody may take to end."""


class Shutdown:
    """How far the end is. `asked` is None while nobody wants it."""

    def __init__(self) -> None:
        self.asked: ShutdownAsked | None = None
        self.first: Ended | None = None
        """Whose end was the first that ends everything."""
        self.wake_at_ns: int | None = None
        """Until when processes that belong to nobody may take to end."""
        self._killed = False
        self._killed_orphans = False
        self._busy: set[str] | None = None
        """Who still has something; only who was touched may have changed."""
        self._is_over = False
        self._is_told = True
        """The keeper was told; as soon as it is, a controller that dies takes nothing of it along."""

    def ask(self, asked: ShutdownAsked) -> bool:
        """Begin the end, or go on with it without grace; True when that is new."""
        if self.asked is not None and (self.asked.now or not asked.now):
            return False
        self.asked = asked if self.asked is None else replace(self.asked, now=True)
        self._is_told = False
        return True

    def note(self, ended: Ended | None) -> None:
        """Note that one has ended, and with it everything; the first counts."""
        if ended is not None and (self.first is None or ended.at_ns < self.first.at_ns):
            self.first = ended

    def note_end(self, dead: ProcessRecord) -> None:
        """Note who had to be killed, for the exit code of the manager."""
        if self.asked is not None and dead.id.role == MAIN and dead.had_to_be_killed:
            self._killed = True

    def go_on(
        self,
        observed: Mapping[str, WatcherObserved],
        touched: Iterable[str],
        orphans: tuple[Orphan, ...],
        now_ns: int,
    ) -> list[Action]:
        """Return what is to be done now that these watchers were touched: at last, to quit."""
        if self.asked is None or self._is_over:
            return []
        actions: list[Action] = []
        if not self._is_told:
            self._is_told = True
            actions.append(ShutDown(self.asked.code, self.asked.now))
        looked_at = set(observed) if self._busy is None else {*touched}
        known = ((name, observed[name]) for name in looked_at if name in observed)
        self._busy = (self._busy or set()) - looked_at
        self._busy |= {name for name, it in known if it.records or it.writing}
        if self._busy:
            return actions
        actions += self._end_orphans(orphans, now_ns)
        if self._is_over:
            self.wake_at_ns = None
            code = self.asked.code
            actions.append(Quit(int(self._killed) if code is None else code))
        return actions

    def _end_orphans(self, orphans: tuple[Orphan, ...], now_ns: int) -> list[Action]:
        """End last what belongs to nobody for certain; all is over when it is gone, or nothing helps."""
        assert self.asked is not None
        actions: list[Action] = []
        if all(each.is_certain for each in orphans):
            self._is_over = True
            return actions
        if self.wake_at_ns is None and not self.asked.now:
            actions.append(EndOrphans("TERM"))
            self.wake_at_ns = now_ns + ORPHANS_TIMEOUT_NS
        elif not self._killed_orphans and now_ns >= (self.wake_at_ns or 0):
            actions.append(EndOrphans("KILL"))
            self._killed_orphans = self._killed = True
            self.wake_at_ns = now_ns + KILL_AGAIN_NS
        self._is_over = self.wake_at_ns is not None and now_ns >= self.wake_at_ns
        return actions
