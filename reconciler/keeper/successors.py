"""Which process goes on when a main process has ended: programs that replace themselves, or go into the background.

The main process names it (`MAINPID` of sd_notify(3)), or a file does. Either is a hint, for it counts only if it
means somebody whom the dead one has left behind. Many write that file, or rename it, only after the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.model.process import SUCCESSION_NS
from reconciler.model.units import MILLISECOND_NS
from reconciler.notify.alarms import Alarms

if TYPE_CHECKING:
    from reconciler.keeper.kernel import Kernel
    from reconciler.keeper.orphans import Key, Orphans
    from reconciler.keeper.records import Process

FIRST_NS: Final = 10 * MILLISECOND_NS
PACE_NS: Final = 500 * MILLISECOND_NS
"""How often at first and at most."""


class Successors:
    """Finds them, and says when to look again."""

    def __init__(self, kernel: Kernel, orphans: Orphans) -> None:
        self._kernel, self._orphans = kernel, orphans
        self._again: Alarms[Key] = Alarms()

    def of(self, process: Process) -> int:
        """Return who goes on for a dead process, 0: nobody is known. Who is outside of its scope is on its own."""
        settings, said = process.record.settings, process.record.notified
        if settings.scope != "tree" or not process.survivors:
            return 0
        named = [] if said is None or not said.main_pid else [said.main_pid]
        if settings.pid_file is not None:
            with self._kernel.border(f"reading the pid file of {process.record.id}"):
                named.insert(0, self._kernel.named_in(settings.pid_file))
        left = self._orphans.descendants(process) if any(named) else {}
        if found := next((pid for pid in named if pid in left), 0):
            return found
        since_ns = self._kernel.now_ns() - process.died_at_ns
        if settings.pid_file is not None and since_ns < SUCCESSION_NS:
            due_ns = process.died_at_ns + since_ns + min(max(since_ns, FIRST_NS), PACE_NS)
            self._again.put(process.key, due_ns)
        return 0

    def take_due(self) -> list[Process]:
        """Return those of whom to find out once more."""
        due = self._again.take(self._kernel.now_ns())
        return [process for key, _ in due if (process := self._orphans.held(key)) is not None]

    def next_ns(self) -> int | None:
        """Return when that is."""
        return self._again.next_ns()
