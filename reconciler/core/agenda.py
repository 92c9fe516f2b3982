"""Which watchers are to be planned now, which when there is time, and when each is looked at again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from reconciler.core.attention import Attention
from reconciler.core.plan import Plan
from reconciler.core.wakes import Wakes, earliest
from reconciler.model.process import ProcessId

BACKLOG_PER_STEP: Final = 100
"""Of many watchers that are to be planned at once, so many are in each step."""


class Agenda:
    """What is to be planned. `touched` are the watchers that may look different to people since the last step."""

    def __init__(self, order: Callable[[str], tuple[int, int, str]]) -> None:
        self.attention = Attention()
        self.touched: set[str] = set()
        self._order = order
        self._dirty: set[str] = set()
        self._backlog: list[str] = []
        """Watchers to be planned when there is time, the first of them last."""
        self._wakes: Wakes[str] = Wakes()
        self._sockets: set[str] = set()
        self._socket_wakes: Wakes[str] = Wakes()

    @property
    def has_backlog(self) -> bool:
        """Tell whether something is to be planned in the next step."""
        return bool(self._backlog)

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing is left to be planned in this step."""
        return not self._dirty and not self._sockets

    def touch(self, name: str) -> None:
        """Have a watcher planned as a whole."""
        self.attention.wake_all(name)
        self._dirty.add(name)

    def touch_slot(self, id: ProcessId) -> None:
        """Have the slot of a record planned."""
        self.attention.wake(id.owner, id.slot)
        self._dirty.add(id.owner)

    def touch_sockets(self, names: Iterable[str]) -> None:
        """Have sockets planned, by the names under which they are held."""
        self._sockets.update(names)

    def plan_again(self, name: str) -> None:
        """Have a watcher planned, with the slots that were to be looked at anyway."""
        self._dirty.add(name)

    def rest(self, name: str) -> None:
        """Have a watcher not planned in this step, unless something else touches it."""
        self._dirty.discard(name)

    def put_off(self, names: Iterable[str]) -> None:
        """Have many watchers planned as a whole, some in each step.

        So the keeper has work while we go on, and a process that dies meanwhile is not kept waiting.
        """
        for name in names:
            self.attention.wake_all(name)
        self.touched.update(names)
        self._backlog = sorted({*self._backlog, *names}, key=self._order, reverse=True)

    def go_on_later(self, names: Iterable[str]) -> None:
        """Have watchers planned in the next step: this one has done its share."""
        self._backlog += reversed(list(names))

    def wake_due(self, now_ns: int) -> None:
        """Have everything planned whose time has come."""
        for name in self._wakes.due(now_ns):
            self._dirty.add(name)
            self.attention.wake_due(name, now_ns)
        self._sockets.update(self._socket_wakes.due(now_ns))

    def take_backlog(self) -> None:
        """Have as much planned of what was put off as one step allows."""
        self._dirty.update(self._backlog[-BACKLOG_PER_STEP:])
        del self._backlog[-BACKLOG_PER_STEP:]

    def take(self) -> list[str]:
        """Return what is to be planned now, in order."""
        names = sorted(self._dirty, key=self._order)
        self._dirty = set()
        return names

    def take_sockets(self) -> list[str]:
        """Return the sockets that are to be planned now, in order."""
        names, self._sockets = sorted(self._sockets), set()
        return names

    def due_names(self) -> list[str]:
        """Return what is to be planned now, and leave it there."""
        return sorted(self._dirty)

    def follow(self, name: str, plan: Plan) -> None:
        """Take from a plan when, and at which slots, to look again."""
        self._wakes.put(name, self.attention.follow(name, plan))
        if self.attention.has_more(name, plan):
            self._dirty.add(name)

    def forget(self, name: str) -> None:
        """Look at a watcher no more."""
        self.attention.wake_all(name)
        self._wakes.put(name, None)

    def follow_socket(self, name: str, wake_at_ns: int | None) -> None:
        """Take when a socket is to be looked at again."""
        self._socket_wakes.put(name, wake_at_ns)

    def next_wake_ns(self) -> int | None:
        """Return when the next watcher or socket is to be looked at."""
        return earliest(self._wakes.next_ns(), self._socket_wakes.next_ns())
