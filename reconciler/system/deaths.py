"""What follows the death of a process of ours: it is known who killed it, and its control group goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.model.value import replace
from reconciler.system.oom import OomKills

if TYPE_CHECKING:
    from reconciler.system.cgroups import Groups
    from reconciler.system.facts import Died


class Deaths:
    """Knows to whom SIGKILL was sent: who was ended by it and was sent none may have been too large for the memory."""

    def __init__(self, groups: Groups | None) -> None:
        self.killed: set[int] = set()
        self.groups = groups
        self._oom_kills = OomKills(None if groups is None else groups.folder)

    def seen_off(self, died: Died) -> Died:
        """Return what is known of one that has been waited for, and remove its group once nobody is left in it."""
        if died.exit.signal == "KILL" and died.pid not in self.killed:
            group = "" if self.groups is None else self.groups.folder_of(died.pid)
            oom = self._oom_kills.why(died.pid, group)
            died = replace(died, exit=replace(died.exit, oom=oom))
        self.killed.discard(died.pid)
        if self.groups is not None:
            self.groups.died(died.pid)
        return died
