"""Where the keeper sleeps: in epoll, without a timeout unless something is due, so an idle one never wakes."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from typing import TYPE_CHECKING, Final

from reconciler.keeper.kernel import Told

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from reconciler.keeper.borders import Border
    from reconciler.keeper.kernel import Happening

_MAX_SLEEP_S: Final = 24 * 3600.0
"""An epoll_wait(2) takes milliseconds in 31 bits."""
_PAUSE_S: Final = 0.01
"""Without it a wait that fails again and again would take a whole processor."""


class Loop:
    """Waits for descriptors, signals and times, and gathers what has happened."""

    def __init__(self, border: Callable[[str], Border]) -> None:
        self.selector = selectors.EpollSelector()
        self.may_reap = True
        """A child may have died since this was last asked for."""
        self._border = border
        self._happened: list[Happening] = []
        self._timers: list[tuple[str, Callable[[], int | None], Callable[[], object]]] = []

    def watch(self, fd: int, ready: Callable[[], None]) -> None:
        """Call `ready` whenever something is to be read. Raises `OSError`."""
        self.selector.register(fd, selectors.EVENT_READ, ready)

    def ignore(self, fd: int) -> None:
        """Watch a descriptor no more."""
        self.selector.unregister(fd)

    def others_wait(self, fd: int) -> bool:
        """Tell whether another descriptor than this one is ready."""
        return any(key.fd != fd for key, _ in self.selector.select(0))

    def at(self, doing: str, due_ns: Callable[[], int | None], act: Callable[[], object]) -> None:
        """Act whenever it is due; `due_ns` is asked before each sleep."""
        self._timers.append((doing, due_ns, act))

    def tell(self, happening: Happening) -> None:
        """Note what the keeper is to answer."""
        self._happened.append(happening)

    def take(self) -> list[Happening]:
        """Return what has happened since asked last."""
        happened, self._happened = self._happened, []
        return happened

    def wait(self, due_ns: int | None) -> None:
        """Sleep until something is ready or due, and let it be done."""
        timers = [
            (doing, due, act) for doing, ask, act in self._timers if (due := ask()) is not None
        ]
        dues = [due for _, due, _ in timers] + ([] if due_ns is None else [due_ns])
        timeout = None
        if dues:
            timeout = min(max(min(dues) - time.monotonic_ns(), 0) / 1e9, _MAX_SLEEP_S)
        if self._happened or self.may_reap:
            timeout = 0.0
        heard: list[tuple[selectors.SelectorKey, int]] = []
        with self._border("waiting for what happens") as border:
            heard = self.selector.select(timeout)
        if border.fault is not None:
            time.sleep(_PAUSE_S)
        for key, _ in heard:
            if self.selector.get_map().get(key.fd) is not key:
                continue  # closed by one before it in this round; the number may be another's by now
            ready: Callable[[], None] = key.data
            with self._border("hearing what has happened"):
                ready()
        for doing, due, act in timers:
            if time.monotonic_ns() >= due:
                with self._border(doing):
                    act()

    # ---- signals ---------------------------------------------------------------------------------

    def listen(self, meanings: Mapping[signal.Signals, Told]) -> None:
        """Hear of these signals and of children that die from here on."""
        wake, wake_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

        def drain() -> None:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)

        # The handlers say what came, the pipe only ends the sleep: it may overflow without loss.
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        self.watch(wake, drain)

        def note(number: int, _frame: object) -> None:
            if number == signal.SIGCHLD:
                self.may_reap = True
            else:
                self._happened.append(meanings[signal.Signals(number)])

        for number in (signal.SIGCHLD, *meanings):
            signal.signal(number, note)
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)

    def unheard(self) -> list[int]:
        """Return the signals that were taken and that nobody has heard of yet, and forget them."""
        numbers = {"stop": signal.SIGTERM, "stop_now": signal.SIGQUIT, "reload": signal.SIGHUP}
        told = [each for each in self._happened if isinstance(each, Told)]
        self._happened = [each for each in self._happened if each not in told]
        return [int(numbers[each.meaning]) for each in told]
