"""Slow questions, answered by a thread: what would make the loop wait goes here."""

from __future__ import annotations

import os
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Errands:
    """Runs functions one after another in a thread that exists only while there is work."""

    def __init__(self) -> None:
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._wanted = threading.Condition()
        self._waiting: deque[Callable[[], Callable[[], None]]] = deque()
        self._finished: deque[Callable[[], None]] = deque()
        # Started once and for all: when it is needed there may be no room for another thread.
        threading.Thread(target=self._work, name="errands", daemon=True).start()

    def fileno(self) -> int:
        """Return the descriptor that is readable when answers wait."""
        return self._wake

    def run(self, ask: Callable[[], T], then: Callable[[T], None]) -> None:
        """Call `ask` in the thread, then `then` with its answer in the loop.

        What `ask` raises is raised in the loop: it is a bug, since `ask` answers for the world's errors.
        """

        def work() -> Callable[[], None]:
            try:
                answer = ask()
            except Exception as error:
                failure = error
            else:
                return lambda: then(answer)

            def fail() -> None:
                raise failure

            return fail

        with self._wanted:
            self._waiting.append(work)
            self._wanted.notify()

    def hand_over(self, call: Callable[[], None]) -> None:
        """Have something called in the loop; may be called in any thread."""
        self._finished.append(call)
        os.eventfd_write(self._wake, 1)

    def collect(self) -> None:
        """Hand over the answers that wait; call it in the loop."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        while self._finished:
            self._finished.popleft()()

    def _work(self) -> None:
        while True:
            with self._wanted:
                while not self._waiting:
                    self._wanted.wait()
                work = self._waiting.popleft()
            self.hand_over(work())
