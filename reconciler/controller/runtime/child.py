"""A child that is asked something: in a group of its own, with bounds of time and bytes, never waited for.

Its end is what counts, and no end of output: a descendant may hold that open. When a bound is reached it is killed
and answered for at once, since on a disk that hangs it cannot die.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import IO, Final

from reconciler.controller.runtime import clock
from reconciler.controller.runtime.borders import cause_of
from reconciler.controller.runtime.reactor import READ, WRITE, Reactor
from reconciler.model.units import MILLISECOND_NS, SECOND_NS, format_duration
from reconciler.model.value import Struct

READ_BYTES: Final = 2**20
COMPLAINT_BYTES: Final = 8192
FIRST_PAUSE_NS: Final = MILLISECOND_NS
LAST_PAUSE_NS: Final = SECOND_NS


class Answer(Struct, frozen=True):
    """What a child wrote, and what went wrong with it, empty when nothing did."""

    output: bytes | bytearray
    trouble: str = ""
    complaint: str = ""
    """The last line of its standard error, where that is read."""


class Child:
    """One child, for one question; it may be started before there is anything to ask."""

    def __init__(
        self,
        reactor: Reactor,
        command: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        complains: bool = False,
    ) -> None:
        """Start it, with all that asking takes; one that `complains` is heard on its standard error, too.

        Raises `OSError`, and `ValueError` for what no program can get.
        """
        import subprocess

        self._reactor = reactor
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if complains else subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._question = b""
        self._limit_bytes = 0
        self._output, self._complaint = bytearray(), bytearray()
        self._done: Callable[[Answer], None] | None = None
        self._trouble = ""
        self._ended = -1
        """Readable when it has ended."""
        try:
            self._ended = os.pidfd_open(self.pid)
        except OSError:
            self._finish()
            raise

    def ask(
        self, question: bytes, limit_bytes: int, timeout_ns: int, done: Callable[[Answer], None]
    ) -> None:
        """Write to its standard input; `done` is called once it has ended or was ended, unless it is cancelled."""
        self._question, self._limit_bytes, self._done = question, limit_bytes, done
        text = f"took longer than {format_duration(timeout_ns)}"
        self._reactor.at(self, clock.now_ns() + timeout_ns, partial(self._finish, text))
        try:
            assert self._process.stdin is not None
            os.set_blocking(self._process.stdin.fileno(), False)
            self._reactor.watch(self._process.stdin, WRITE, lambda _: self._send())
            for pipe, into in self._outputs():
                os.set_blocking(pipe.fileno(), False)
                self._reactor.watch(pipe, READ, partial(self._readable, pipe, into))
            self._reactor.watch(self._ended, READ, lambda _: self._finish())
        except OSError as error:  # whichever step: what was acquired is given back
            self._reactor.soon(partial(self._finish, f"cannot be run: {cause_of(error)}"))

    def cancel(self) -> None:
        """Kill it and forget the question."""
        self._done = None
        self._finish()

    def _outputs(self) -> list[tuple[IO[bytes], bytearray]]:
        both = (self._process.stdout, self._output), (self._process.stderr, self._complaint)
        return [(pipe, into) for pipe, into in both if pipe is not None and not pipe.closed]

    def _send(self) -> None:
        assert self._process.stdin is not None
        try:
            sent = os.write(self._process.stdin.fileno(), self._question)
        except BlockingIOError:
            return
        except OSError:
            sent = len(self._question)  # it died early, which is told otherwise
        self._question = self._question[sent:]
        if not self._question:
            self._close(self._process.stdin)

    def _readable(self, pipe: IO[bytes], into: bytearray, _events: int) -> None:
        if self._take(pipe, into) == b"":
            self._reactor.ignore(pipe)
        if self._trouble:
            self._finish()

    def _take(self, pipe: IO[bytes], into: bytearray) -> bytes | None:
        """Take what was written and return it: nothing at the end, None when there is nothing yet."""
        try:
            data = os.read(pipe.fileno(), READ_BYTES)
        except BlockingIOError:
            return None
        into += data
        if into is self._complaint:
            del into[:-COMPLAINT_BYTES]
        elif len(into) > self._limit_bytes:
            self._trouble = f"wrote more than {self._limit_bytes} bytes"
        return data

    def _finish(self, trouble: str = "") -> None:
        """Kill what is left of its group, clean up, and answer: once it is dead, or at once when it had to be ended."""
        self._reactor.at(self, None, self._finish)
        self._trouble = self._trouble or trouble
        # Only before it is reaped: its number may be another group's afterwards.
        if self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        for pipe, into in self._outputs():
            while self._done is not None and not self._trouble and self._take(pipe, into):
                pass
            self._close(pipe)
        assert self._process.stdin is not None
        self._close(self._process.stdin)
        if self._ended >= 0:
            self._reactor.ignore(self._ended)
            os.close(self._ended)
            self._ended = -1
        self._reap(FIRST_PAUSE_NS)
        if self._trouble:
            self._answer(0)

    def _close(self, pipe: IO[bytes]) -> None:
        self._reactor.ignore(pipe)
        with suppress(OSError):
            pipe.close()

    def _reap(self, pause_ns: int) -> None:
        """Look whether it is dead, now and then: that needs no descriptor, so that it works when none is left."""
        code = self._process.poll()
        if code is None:
            again = partial(self._reap, min(pause_ns * 2, LAST_PAUSE_NS))
            self._reactor.at((self, "dead"), clock.now_ns() + pause_ns, again)
        else:
            self._answer(code)

    def _answer(self, code: int) -> None:
        done, self._done = self._done, None
        if done is not None:
            complaint = self._complaint.decode(errors="replace").strip().rpartition("\n")[2]
            done(Answer(self._output, self._trouble or _how(code), complaint))


def _how(code: int) -> str:
    if code < 0:
        known = -code in set(signal.Signals)
        return f"killed by {signal.Signals(-code).name if known else -code}"
    return f"exit {code}" if code else ""
