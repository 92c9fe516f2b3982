"""The child process that reads a spec: `python -I -m reconciler.specfile`.

It may be started before there is anything to ask: while it imports, the files come to rest. A request
goes to its standard input, one JSON answer comes back; whatever goes wrong with it, from a crash of the
compiled parser to a file that takes too long, is a mistake in the spec and never ours.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, TypeAlias

from reconciler.controller.runtime import clock
from reconciler.controller.runtime.lanes import Lanes
from reconciler.controller.runtime.reactor import READ, WRITE, Reactor
from reconciler.controller.runtime.reaping import reap
from reconciler.model.errors import SpecError
from reconciler.model.spec import Spec
from reconciler.model.units import SECOND_NS
from reconciler.model.value import PlainError, Struct, from_plain, replace

WALL_LIMIT_NS: Final = 30 * SECOND_NS
NICE: Final = 10
"""Of a child that reads for somebody who may only look."""
ANSWER_LIMIT_BYTES: Final = 128 * 2**20
END_LIMIT_NS: Final = SECOND_NS
"""From the end of its answer to the child's own end."""
_NOT_FOR_SPECS: Final = ("RECONCILE_LINK_FD", "RECONCILE_CONTROL_FD")


class ReadFile(Struct, frozen=True):
    """A file that the loader has read."""

    digest: str
    size: int


class Loaded(Struct, frozen=True):
    """A valid spec."""

    spec: Spec
    files: Mapping[str, ReadFile]
    warnings: tuple[SpecError, ...] = ()


class Mistaken(Struct, frozen=True):
    """Every mistake that was found."""

    errors: tuple[SpecError, ...]
    files: Mapping[str, ReadFile]


Reading: TypeAlias = Loaded | Mistaken


def environment() -> dict[str, str]:
    """Return what `${env.NAME}` means in a spec: the manager's environment."""
    return {key: value for key, value in os.environ.items() if key not in _NOT_FOR_SPECS}


def environment_digest() -> str:
    """Return a digest of the environment, to know whether a spec could read differently now."""
    text = json.dumps(sorted(environment().items()))
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


class Loader:
    """One child, for one request."""

    def __init__(self, reactor: Reactor, lanes: Lanes, *, is_urgent: bool = True) -> None:
        """Start the child, so that it can import what it needs. One that is not urgent lets others go first.

        Raises `OSError` when there is no room for another process just now.
        """
        self._reactor = reactor
        self._lanes = lanes
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-m", "reconciler.specfile"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        if not is_urgent:
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self._process.pid, NICE)
        self._paths: tuple[str, ...] = ()
        self._known: Spec | None = None
        self._done: Callable[[Reading], None] | None = None
        self._request = b""
        self._answer = bytearray()
        self._complaint = bytearray()
        self._open = 2
        self._killed_because = ""

    def ask(
        self, paths: tuple[str, ...], done: Callable[[Reading], None], known: Spec | None = None
    ) -> None:
        """Send the request; `done` is called once with what became of it, unless it is cancelled.

        `known` is the spec in force: its watchers stand in the new one wherever they are equal.
        """
        self._paths, self._done, self._known = paths, done, known
        self._request = json.dumps({"paths": paths, "environ": environment()}).encode()
        self._reactor.at(self, clock.now_ns() + WALL_LIMIT_NS, self._too_long)
        stdin, stdout, stderr = self._pipes()
        for pipe in (stdin, stdout, stderr):
            os.set_blocking(pipe, False)
        self._reactor.watch(stdin, WRITE, self._send)
        self._reactor.watch(stdout, READ, lambda _: self._receive(stdout, self._answer))
        self._reactor.watch(stderr, READ, lambda _: self._receive(stderr, self._complaint))

    def cancel(self) -> None:
        """Kill the child and forget the question."""
        self._done = None
        self._finish()

    def _pipes(self) -> tuple[int, int, int]:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        return process.stdin.fileno(), process.stdout.fileno(), process.stderr.fileno()

    def _send(self, _events: int) -> None:
        assert self._process.stdin is not None
        descriptor = self._process.stdin.fileno()
        try:
            sent = os.write(descriptor, self._request)
        except BlockingIOError:
            return
        except OSError:
            sent = len(self._request)  # it died early; its end of output tells
        self._request = self._request[sent:]
        if not self._request:
            self._reactor.ignore(descriptor)
            with suppress(OSError):
                self._process.stdin.close()

    def _receive(self, descriptor: int, into: bytearray) -> None:
        try:
            data = os.read(descriptor, 2**20)
        except BlockingIOError:
            return
        into += data
        if into is self._complaint:
            del into[:-8192]
        elif len(into) > ANSWER_LIMIT_BYTES:
            self._stop(f"the answer is larger than {ANSWER_LIMIT_BYTES} bytes")
        if not data:
            self._reactor.ignore(descriptor)
            self._open -= 1
            if self._open == 0:
                self._finish()

    def _too_long(self) -> None:
        self._stop(f"reading took longer than {WALL_LIMIT_NS // SECOND_NS} s")

    def _stop(self, because: str) -> None:
        """End the reading, and answer: nobody waits for the child to die, on a disk that hangs it cannot."""
        self._killed_because = because
        self._finish()

    def _finish(self) -> None:
        """Clean up, and answer once the child is dead: it has closed its output, or was killed."""
        self._reactor.at(self, None, self._too_long)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None and not pipe.closed:
                self._reactor.ignore(pipe.fileno())
                with suppress(OSError):
                    pipe.close()
        if self._done is None or self._killed_because:
            self._process.kill()
            reap(self._reactor, self._process)
            self._ended(-signal.SIGKILL)
            return
        self._reactor.at(self, clock.now_ns() + END_LIMIT_NS, lambda: self._stop("it does not end"))
        reap(self._reactor, self._process, self._ended)

    def _ended(self, code: int) -> None:
        self._reactor.at(self, None, self._too_long)
        if self._done is not None:
            # A large answer takes a while to become values: not the loop's while.
            self._lanes.run(
                "loader",
                lambda: self._reading(code),
                self._answered,
                lambda said: self._answered(
                    self._failed(f"cannot take the loader's answer: {said}")
                ),
            )

    def _answered(self, reading: Reading) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(reading)

    def _reading(self, code: int) -> Reading:
        if self._killed_because:
            return self._failed(self._killed_because)
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            return self._failed(f"the loader was killed by {name} while reading this")
        try:
            reading = reading_of(json.loads(bytes(self._answer)))
        except (PlainError, ValueError, RecursionError) as error:
            complaint = self._complaint.decode(errors="replace").strip().splitlines()
            return self._failed(
                f"the loader failed (exit {code}): {complaint[-1] if complaint else error}"
            )
        if isinstance(reading, Loaded) and self._known is not None:
            return replace(reading, spec=_with_the_same(reading.spec, self._known))
        return reading

    def _failed(self, message: str) -> Mistaken:
        hint = "is it nested very deeply, or very large? `reconcile validate` reads it the same way"
        paths = self._paths or ("",)
        return Mistaken(tuple(SpecError(path, 0, 0, "", message, hint) for path in paths), {})


def _with_the_same(spec: Spec, known: Spec) -> Spec:
    """Return a spec in which equal watchers are the very ones of a known spec.

    Here, off the loop, each is compared once; all that the loop compares afterwards is the same object.
    """
    before = known.watchers
    watchers = {
        n: before[n] if before.get(n) == each else each for n, each in spec.watchers.items()
    }
    return replace(spec, watchers=watchers)


def handed_over(keeper_pid: int, descriptor: int | None) -> Reading | None:
    """Return what was read when the manager was started; the first controller gets it, and only once.

    The command line has to read the spec to know where the instance lives, and leaves the answer in
    memory that the keeper holds; it is emptied here. None: there is nothing, or it cannot be used.
    """
    if descriptor is None:
        return None
    try:
        with open(f"/proc/{keeper_pid}/fd/{descriptor}", "r+b", buffering=0) as file:
            data = file.read()
            file.truncate(0)
        return reading_of(json.loads(data)) if data else None
    except (OSError, PlainError, ValueError, RecursionError):
        return None  # the loader will tell what is wrong, if anything


def reading_of(answer: object) -> Reading:
    """Return what the loader's answer says. Raises `PlainError` when it is none."""
    if not isinstance(answer, dict):
        msg = "expected a map"
        raise PlainError(msg)
    files: Mapping[str, ReadFile] = from_plain(Mapping[str, ReadFile], answer.get("files", {}))
    if "errors" in answer:
        return Mistaken(from_plain(tuple[SpecError, ...], answer["errors"]), files)
    warnings: tuple[SpecError, ...] = from_plain(tuple[SpecError, ...], answer.get("warnings", []))
    return Loaded(from_plain(Spec, answer["spec"]), files, warnings)
