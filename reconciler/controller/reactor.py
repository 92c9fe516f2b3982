"""What the loop waits for: descriptors, instants, and work that was put off for fairness."""

from __future__ import annotations

import selectors
from collections import deque
from collections.abc import Callable, Hashable
from typing import Final, Protocol, TypeAlias

from reconciler.controller import clock
from reconciler.model.units import MILLISECOND_NS

READ: Final = selectors.EVENT_READ
WRITE: Final = selectors.EVENT_WRITE

Ready: TypeAlias = Callable[[int], None]
"""Called with READ, WRITE or both."""


class HasDescriptor(Protocol):
    """Anything that epoll can wait on."""

    def fileno(self) -> int:
        """Return the descriptor."""


TURN_NS: Final = 10 * MILLISECOND_NS
"""After so long in one go, those who have much to do wait until all others have had their turn."""


class Reactor:
    """Waits in epoll; without a deadline it waits for ever, so an idle controller never wakes."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._deadlines: dict[Hashable, tuple[int, Callable[[], None]]] = {}
        self._soon: deque[Callable[[], None]] = deque()
        self._turn_ends_ns = 0

    def watch(self, what: int | HasDescriptor, events: int, ready: Ready) -> None:
        """Call `ready` whenever one of `events` is possible; replaces what was watched for before."""
        if events == 0:
            self.ignore(what)
            return
        try:
            key = self._selector.get_key(what)
        except KeyError:
            self._selector.register(what, events, ready)
        else:
            if key.events != events or key.data is not ready:
                self._selector.modify(what, events, ready)

    def ignore(self, what: int | HasDescriptor) -> None:
        """Watch a descriptor no more; nothing happens when it was not watched."""
        try:
            self._selector.unregister(what)
        except (KeyError, ValueError):
            return

    def at(self, key: Hashable, due_ns: int | None, call: Callable[[], None]) -> None:
        """Call once at a monotonic instant; each key has one instant, None takes it back."""
        if due_ns is None:
            self._deadlines.pop(key, None)
        else:
            self._deadlines[key] = (due_ns, call)

    def soon(self, call: Callable[[], None]) -> None:
        """Call in one of the next waits: when the core has had its turn with what is fed by now."""
        self._soon.append(call)

    @property
    def turn_is_over(self) -> bool:
        """Tell whether whoever is served now shall leave the rest for `soon`."""
        return clock.now_ns() >= self._turn_ends_ns

    def wait(self, wake_at_ns: int | None) -> None:
        """Sleep until something is ready or due, then call all that is."""
        timeout: float | None = None
        if self._soon:
            timeout = 0.0
            self._turn_ends_ns = clock.now_ns() + TURN_NS
            for _ in range(len(self._soon)):
                self._soon.popleft()()
                if self.turn_is_over:
                    break
        else:
            dues = [due for due, _ in self._deadlines.values()]
            if wake_at_ns is not None:
                dues.append(wake_at_ns)
            if dues:
                # epoll counts in whole milliseconds and rounds up: never a wake-up that is too early.
                timeout = max(min(dues) - clock.now_ns(), 0) / 1e9
        found = self._selector.select(timeout)
        self._turn_ends_ns = clock.now_ns() + TURN_NS
        for key, events in found:
            ready: Ready = key.data
            ready(events)
        now_ns = clock.now_ns()
        for key_due, (due, call) in list(self._deadlines.items()):
            if due <= now_ns and self._deadlines.get(key_due) == (due, call):
                del self._deadlines[key_due]
                call()
