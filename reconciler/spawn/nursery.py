"""Where children are started: in a thread that does nothing else.

The kernel lists children by the thread that started them, and gives orphans to the first thread of their subreaper
(proc_tid_children(5), prctl(2)): so the list of that one is short however many we have started, and to look through
it for what a dead process has left behind costs the same among ten and among thousands.

The loop waits while a child is made, as it would if it made it itself: two threads are never at work at the same time,
and a fork finds the other one at rest. What our new code inherits is in the list of the first thread: execve(2) ends
all others.
"""

from __future__ import annotations

import _thread
import signal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable


_STACK_BYTES: Final = 1 << 19


class Nursery:
    """The thread; begun when it is first needed."""

    def __init__(self) -> None:
        self._asked, self._answered = _thread.allocate_lock(), _thread.allocate_lock()
        self._asked.acquire()
        self._answered.acquire()
        self._make: Callable[[], int] | None = None
        self._made: int | BaseException = 0
        self._is_begun = False

    def make(self, child: Callable[[], int]) -> int:
        """Return what `child` returns, or raise what it raises, when it is called in there."""
        if not self._is_begun and not self._begin():
            return (
                child()
            )  # there is no room for a thread just now: the child stands in the longer list
        self._make = child
        self._asked.release()
        self._answered.acquire()
        made, self._made = self._made, 0
        if isinstance(made, BaseException):
            raise made
        return made

    def _begin(self) -> bool:
        # All signals are for the first thread: only there a handler runs, and an exec keeps what waits.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            _thread.stack_size(_STACK_BYTES)
            _thread.start_new_thread(self._live, ())
        except RuntimeError:
            return False
        finally:
            _thread.stack_size(0)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._is_begun = True
        return True

    def _live(self) -> None:
        while True:
            self._asked.acquire()
            assert self._make is not None
            try:
                self._made = self._make()
            except BaseException as error:  # it is for who has asked
                self._made = error
            self._make = None
            self._answered.release()
