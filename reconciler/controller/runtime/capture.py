"""A command whose output is wanted: in a group of its own, with bounds of time and bytes, never waited for."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from reconciler.controller.runtime import clock
from reconciler.controller.runtime.reactor import READ, Reactor
from reconciler.controller.runtime.reaping import reap
from reconciler.model.units import format_duration
from reconciler.model.value import Struct


class Captured(Struct, frozen=True):
    """What a command wrote, and what went wrong with it, empty when nothing did."""

    output: bytes
    trouble: str = ""


class Capture:
    """One command; `done` is called once, when it has ended or was ended, unless it is cancelled."""

    def __init__(
        self,
        reactor: Reactor,
        command: Sequence[str],
        *,
        cwd: str | None,
        env: Mapping[str, str],
        limit_bytes: int,
        timeout_ns: int,
        done: Callable[[Captured], None],
    ) -> None:
        self._reactor = reactor
        self._limit_bytes = limit_bytes
        self._done: Callable[[Captured], None] | None = done
        self._output = bytearray()
        self._trouble = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = -1
        """Readable when it has ended; as long as it is open, the pipe is, too."""
        self._pipe = -1
        try:
            self._start(command, cwd, env)
        except (OSError, ValueError) as error:  # whichever step: what was acquired is given back
            said = (getattr(error, "strerror", "") or str(error)).lower()
            self._trouble = f"cannot be run: {said}"
            reactor.soon(self._finish)
            return
        text = f"took longer than {format_duration(timeout_ns)}"
        reactor.at(self, clock.now_ns() + timeout_ns, lambda: self._stop(text))

    def _start(self, command: Sequence[str], cwd: str | None, env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        self._ended = os.pidfd_open(self._process.pid)
        os.set_blocking(self._pipe, False)
        self._reactor.watch(self._pipe, READ, lambda _: self._drain())
        self._reactor.watch(self._ended, READ, lambda _: self._finish())

    def cancel(self) -> None:
        """Kill the command and forget the question."""
        self._done = None
        self._finish()

    def _drain(self) -> None:
        """Take what was written; a descendant may hold the pipe open after the end, so that nobody waits."""
        while True:
            try:
                data = os.read(self._pipe, 64 * 1024)
            except BlockingIOError:
                return
            if not data:
                self._reactor.ignore(self._pipe)
                return
            self._output += data
            if len(self._output) > self._limit_bytes:
                self._reactor.ignore(self._pipe)
                self._stop(f"wrote more than {self._limit_bytes} bytes")
                return

    def _stop(self, trouble: str) -> None:
        self._trouble = self._trouble or trouble
        self._kill()

    def _kill(self) -> None:
        # Only before it is reaped: its number may be another group's afterwards.
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _finish(self) -> None:
        """Kill what is left of its group, clean up and answer."""
        self._reactor.at(self, None, self._finish)
        if self._process is not None and not self._trouble and self._done is not None:
            self._drain()
        self._kill()
        for descriptor in {self._pipe, self._ended} - {-1}:
            self._reactor.ignore(descriptor)
        if self._ended >= 0:
            os.close(self._ended)
        self._pipe = self._ended = -1
        if self._process is None:
            self._answer(0)
            return
        assert self._process.stdout is not None
        self._process.stdout.close()
        reap(self._reactor, self._process, self._answer)

    def _answer(self, code: int) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(Captured(bytes(self._output), self._trouble or _how(code)))


def _how(code: int) -> str:
    if code < 0:
        known = -code in set(signal.Signals)
        name = signal.Signals(-code).name if known else str(-code)
        return f"killed by {name}"
    return f"exit {code}" if code else ""
