"""What the loop waits for: descriptors, instants, and work that was put off for fairness.

Each call is a border: what it raises is reported, and the others of the round have their turn. A descriptor
whose call fails rests for a while, since it is most likely still ready.
"""

from __future__ import annotations

import selectors
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from typing import Final, Protocol, TypeAlias

from reconciler.controller.runtime import clock
from reconciler.model.units import DAY_NS, MILLISECOND_NS, SECOND_NS

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
LONGEST_SLEEP_NS: Final = 20 * DAY_NS
"""epoll takes at most 2^31 ms (epoll_wait(2)); whoever sleeps for longer, such as until next year, wakes in between."""
REST_NS: Final = SECOND_NS
"""How long a descriptor is not looked at after its call has failed."""


class _Watched:
    """One registration: a descriptor that was closed and came back by the same number has another one."""

    __slots__ = ("ready",)

    def __init__(self, ready: Ready) -> None:
        self.ready = ready


class Reactor:
    """Waits in epoll; without a deadline it waits for ever, so an idle controller never wakes."""

    def __init__(self, report: Callable[[str, Exception], object]) -> None:
        """`report` takes what calls raise, with their names."""
        self._report = report
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
            self._selector.register(what, events, _Watched(ready))
            return
        key.data.ready = ready
        if key.events != events:
            try:
                self._selector.modify(what, events, key.data)
            except OSError:
                # Closed without a word: the kernel has forgotten it, the number is another's.
                self._selector.register(what, events, _Watched(ready))

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
                self._call(self._soon.popleft())
                if self.turn_is_over:
                    break
        else:
            dues = [due for due, _ in self._deadlines.values()]
            if wake_at_ns is not None:
                dues.append(wake_at_ns)
            if dues:
                # epoll counts in whole milliseconds and rounds up: never a wake-up that is too early, but for one
                # that it could not count to.
                timeout = min(max(min(dues) - clock.now_ns(), 0), LONGEST_SLEEP_NS) / 1e9
        found = self._selector.select(timeout)
        self._turn_ends_ns = clock.now_ns() + TURN_NS
        for key, events in found:
            self._call_ready(key, events)
        now_ns = clock.now_ns()
        for key_due, (due, call) in list(self._deadlines.items()):
            if due <= now_ns and self._deadlines.get(key_due) == (due, call):
                del self._deadlines[key_due]
                self._call(call)

    def _call_ready(self, key: selectors.SelectorKey, events: int) -> None:
        """Call for a descriptor that is ready, unless an earlier call of the round has closed it.

        Its number may be another descriptor's by now, about which nothing was asked.
        """
        now = self._selector.get_map().get(key.fd)
        if now is None or now.data is not key.data or not events & now.events:
            return
        watched: _Watched = key.data
        if not self._call(watched.ready, events & now.events):
            self._rest(key.fd, watched)

    def _call(self, call: Callable[..., None], *events: int) -> bool:
        try:
            call(*events)
        except Exception as error:
            self._report(f"calling {_name(call)}", error)
            return False
        return True

    def _rest(self, descriptor: int, watched: _Watched) -> None:
        """Look away from a descriptor for a while, so that a failing call does not fail without end."""
        now = self._selector.get_map().get(descriptor)
        if now is None or now.data is not watched:
            return
        self._selector.unregister(descriptor)

        def go_on() -> None:
            if descriptor not in self._selector.get_map():
                with suppress(OSError, ValueError):  # it may have been closed meanwhile
                    self._selector.register(now.fileobj, now.events, watched)

        self.at(watched, clock.now_ns() + REST_NS, go_on)


def _name(call: Callable[..., object]) -> str:
    """Return what is called, by the function or method that it was made in."""
    while isinstance(call, partial):
        call = call.func
    name = getattr(call, "__qualname__", type(call).__name__)
    return str(name).partition(".<locals>")[0]
