"""Probes that wait for a line in a log: handed to one process that does nothing else, `matcher`.

It is started when there is something to look for and ends when there is nothing more. When it dies, it is started
again, and looks for everything anew, from where each life began.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from reconciler.controller.probes.http import shown
from reconciler.controller.runtime import clock
from reconciler.controller.runtime.borders import Log, cause_of
from reconciler.controller.runtime.reactor import READ, WRITE, Reactor
from reconciler.model.action import Probe
from reconciler.model.observation import Observation, ProbeAnswered
from reconciler.model.probe import LogTarget
from reconciler.model.process import ProcessId
from reconciler.model.units import SECOND_NS

RESTART_NS: Final = SECOND_NS
READ_BYTES: Final = 64 * 1024
if TYPE_CHECKING:
    import subprocess

COMMAND: Final = (sys.executable, "-I", "-m", "reconciler.controller.probes.matcher")


class LogLines:
    """What is looked for, and the process that does."""

    def __init__(self, reactor: Reactor, log: Log, feed: Callable[[Observation], None]) -> None:
        self._reactor = reactor
        self._log = log
        self._feed = feed
        self._asked: dict[str, Probe] = {}
        """By a key that no other question has had, so that a late answer is known as one."""
        self._keys: dict[ProcessId, str] = {}
        self._last = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._unsent = b""
        self._unread = b""

    def ask(self, probe: Probe) -> None:
        """Look for this from now on."""
        self._last += 1
        key = self._keys[probe.id] = str(self._last)
        self._asked[key] = probe
        if self._process is None:
            self._start()
        else:
            self._send(_order(key, probe))

    def drop(self, id: ProcessId) -> None:
        """Look for this no more."""
        key = self._keys.pop(id, None)
        if key is None or self._asked.pop(key, None) is None:
            return
        if not self._asked:
            self._end()
        else:
            self._send({"drop": key})

    # ---- the process ----

    def _start(self) -> None:
        if self._process is not None or not self._asked:
            return
        try:
            import subprocess

            process = subprocess.Popen(
                COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            said = f"cannot be looked for: {cause_of(error)}"
            for key in list(self._asked):
                self._answer(key, None, said)
            self._again()
            return
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._unsent, self._unread = process, b"", b""
        for pipe in (process.stdin, process.stdout):
            os.set_blocking(pipe.fileno(), False)
        self._reactor.watch(process.stdout, READ, lambda _: self._read())
        for key, probe in self._asked.items():
            self._send(_order(key, probe))

    def _again(self) -> None:
        self._reactor.at(self, clock.now_ns() + RESTART_NS, self._start)

    def _end(self) -> None:
        """Let go of the process: it ends by itself, or is killed."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        for pipe in (process.stdin, process.stdout):
            self._reactor.ignore(pipe)
            with suppress(OSError):
                pipe.close()
        process.kill()
        self._reap(process)

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            again = partial(self._reap, process)
            self._reactor.at((self, process.pid), clock.now_ns() + RESTART_NS // 20, again)

    def _send(self, order: dict[str, object]) -> None:
        self._unsent += json.dumps(order).encode() + b"\n"
        self._flush()

    def _flush(self) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        with suppress(BlockingIOError, BrokenPipeError):  # of its end its output tells
            self._unsent = self._unsent[os.write(process.stdin.fileno(), self._unsent) :]
        events = WRITE if self._unsent else 0
        self._reactor.watch(process.stdin, events, lambda _: self._flush())

    def _read(self) -> None:
        process = self._process
        if process is None or process.stdout is None:
            return
        data = os.read(process.stdout.fileno(), READ_BYTES)
        if not data:
            self._log.write(
                "warning", "what looks for lines in logs has ended; it is started again"
            )
            self._end()
            self._again()
            return
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            key, found, text = json.loads(line)
            self._answer(str(key), bool(found), str(text))

    def _answer(self, key: str, found: bool | None, text: str) -> None:
        probe = self._asked.get(key)
        if probe is None:
            return
        target = probe.probing.target
        assert isinstance(target, LogTarget)
        text = shown(text.encode())
        message = f"{target}: {text!r}" if found else f"{target}: {text}"
        at_ns = clock.now_ns()
        self._feed(ProbeAnswered(probe.id, probe.incarnation, probe.probing, found, message, at_ns))


def _order(key: str, probe: Probe) -> dict[str, object]:
    target = probe.probing.target
    assert isinstance(target, LogTarget)
    places = [[each.path, each.inode, each.offset] for each in target.places]
    interval_ns = probe.probing.interval_ns
    return {"ask": key, "pattern": target.pattern, "places": places, "interval_ns": interval_ns}
