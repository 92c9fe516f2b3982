"""What is known of many processes by what they say, when that is to be told, and who is silent for too long.

Keys and instants are the caller's; nothing here touches the world. What happens once in a life is told at once,
what may come again and again, such as a status, at a pace: who chats costs no more than that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar

from reconciler.model.units import MILLISECOND_NS
from reconciler.model.value import Part, replace
from reconciler.notify.alarms import Alarms
from reconciler.notify.messages import after, is_milestone

if TYPE_CHECKING:
    from reconciler.model.process import Notified
    from reconciler.notify.messages import Message

K = TypeVar("K")

PACE_NS: Final = 500 * MILLISECOND_NS
"""How often is told what may change again and again."""
STANDSTILL_NS: Final = 100 * MILLISECOND_NS
"""If silence is noticed so much too late, the machine stood still: whoever is silent gets its time once more."""


class _Life(Part):
    said: Notified
    told: Notified
    told_at_ns: int = 0
    is_over: bool = False
    is_spared: bool = False
    """It was silent while the machine stood still, and has not been heard of since."""


class Hearings(Generic[K]):
    """All processes that are heard."""

    def __init__(self) -> None:
        self._lives: dict[K, _Life] = {}
        self._silent: Alarms[K] = Alarms()
        """When a process is late unless it is heard of."""
        self._untold: Alarms[K] = Alarms()

    def begin(self, key: K, known: Notified, now_ns: int) -> None:
        """Hear a process from here on, of which this much is known; it has its whole time to be heard of."""
        self._lives[key] = _Life(known, known)
        self._untold.put(key, now_ns if key in self._untold else None)
        self._wind_up(key, now_ns)

    def note(self, key: K, said: Message, pid: int, now_ns: int) -> None:
        """Take note of what was said on the socket of a process. `pid` is its main process."""
        life = self._lives[key]
        before, life.said = life.said, after(life.said, said, pid, now_ns)
        is_ready = before.ready_at_ns != life.said.ready_at_ns
        if said.pings or is_ready or before.watchdog_ns != life.said.watchdog_ns:
            self._wind_up(key, now_ns)
        self._plan_to_tell(key, now_ns)

    def known(self, key: K) -> Notified | None:
        """Return what a process has said by now, told or not; None: it is not heard."""
        return self._lives[key].said if key in self._lives else None

    def end(self, key: K) -> None:
        """Expect nothing more of a process; what it has started may still speak for it."""
        if key in self._lives:
            self._lives[key].is_over = True
            self._silent.put(key, None)

    def forget(self, key: K) -> None:
        """Hear a process no more."""
        self.end(key)
        self._untold.put(key, None)
        self._lives.pop(key, None)

    def take_silent(self, now_ns: int) -> list[tuple[K, int]]:
        """Return who was silent for too long, and since when, for `look_late` when all was heard that waits."""
        return self._silent.take(now_ns)

    def look_late(self, key: K, due_ns: int, now_ns: int) -> None:
        """Take one for late, unless it was heard of since or nobody could be."""
        life = self._lives.get(key)
        if life is None or key in self._silent or life.said.watchdog_ns is None or life.is_over:
            return
        if now_ns >= due_ns + STANDSTILL_NS and not life.is_spared:
            self._wind_up(key, now_ns)
            life.is_spared = True
        elif life.said.late_at_ns is None:
            life.said = replace(life.said, late_at_ns=now_ns)
            self._plan_to_tell(key, now_ns)

    def take_untold(self, now_ns: int) -> list[tuple[K, Notified]]:
        """Return of whom something is to be told now, and what."""
        found = []
        for key, _ in self._untold.take(now_ns):
            life = self._lives[key]
            life.told, life.told_at_ns = life.said, now_ns
            found.append((key, life.said))
        return found

    def next_ns(self) -> int | None:
        """Return when somebody is late, or something is to be told."""
        dues = (self._silent.next_ns(), self._untold.next_ns())
        return min((due for due in dues if due is not None), default=None)

    def _plan_to_tell(self, key: K, now_ns: int) -> None:
        life = self._lives[key]
        due_ns = now_ns if is_milestone(life.told, life.said) else life.told_at_ns + PACE_NS
        self._untold.put(key, None if life.told == life.said else due_ns)

    def _wind_up(self, key: K, now_ns: int) -> None:
        """Let a process have its whole time again until it must be heard of."""
        life = self._lives[key]
        wait_ns = life.said.watchdog_ns
        is_watched = life.said.late_at_ns is None and not life.is_over
        self._silent.put(key, now_ns + wait_ns if wait_ns and is_watched else None)
        life.is_spared = False
