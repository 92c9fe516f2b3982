"""One question to one process: a connection that never blocks, what is sent, and what comes back."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Sequence
from typing import Final, TypeAlias

from reconciler.controller.probes.http import Outcome, outcome_of, request_of
from reconciler.model.probe import HttpTarget, Target
from reconciler.model.units import format_duration

Address: TypeAlias = tuple[socket.AddressFamily, tuple[str | int, ...] | str]

READ: Final = select.EPOLLIN | select.EPOLLRDHUP
WRITE: Final = select.EPOLLOUT
READ_BYTES: Final = 16 * 1024
_SHORTAGES: Final = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)
)
"""Errors that are ours, and say nothing of whom was to be asked."""
_QUEUE_FULL: Final = "does not accept connections: its backlog is full"


class Exchange:
    """Begun with the addresses at which the target may be, of which the first that answers counts."""

    __slots__ = ("_addresses", "_data", "_is_connected", "_request", "_target", "socket", "wants")

    def __init__(self, target: Target, addresses: Sequence[Address]) -> None:
        self._target = target
        self._addresses = list(addresses)
        self._request = b""
        self._data = bytearray()
        self._is_connected = False
        self.socket: socket.socket | None = None
        self.wants = WRITE
        """What the connection waits for."""

    def begin(self) -> Outcome | None:
        """Connect to the next address; return what came of it if that is known at once, else go on when it is ready."""
        outcome: Outcome | None = None
        while self._addresses:
            family, address = self._addresses.pop(0)
            self.close()
            outcome = self._connect(family, address)
            if outcome is None or outcome.passed is not False:
                return outcome
        assert outcome is not None, "a target has an address"
        return outcome

    def go_on(self) -> Outcome | None:
        """Take the next steps; None as long as there is more to wait for, `wants` says for what."""
        try:
            return self._steps()
        except OSError as error:
            return self._failed(error.errno or 0)

    def at_timeout(self, timeout_ns: int) -> Outcome:
        """Return what has come of it when its time is over."""
        if isinstance(self._target, HttpTarget) and self._data:
            found = outcome_of(self._target, self._data, is_all=True)
            if found is not None:
                return found
        what = "no answer" if self._is_connected else "no connection"
        return Outcome(False, f"{self._target}: {what} within {format_duration(timeout_ns)}")

    def close(self) -> None:
        """Give the descriptor back."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def _connect(self, family: socket.AddressFamily, address: object) -> Outcome | None:
        kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        try:
            self.socket = socket.socket(family, kind)
            code = self.socket.connect_ex(address)  # type: ignore[arg-type]  # of the family's kind
            if code == errno.EAGAIN and family == socket.AF_UNIX:
                return Outcome(False, f"{self._target} {_QUEUE_FULL}")
            if code not in {0, errno.EINPROGRESS}:
                return self._outcome_of(code)
            # On this machine a connection stands at once.
            return self._steps()
        except OSError as error:
            return self._outcome_of(error.errno or 0)

    def _steps(self) -> Outcome | None:
        assert self.socket is not None
        if not self._is_connected:
            code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                return self._failed(code)
            if not self._stands():
                self.wants = WRITE
                return None
            self._is_connected = True
            if not isinstance(self._target, HttpTarget):
                return Outcome(True, f"{self._target} accepts connections")
            self._request = request_of(self._target)
        if self._request:
            return self._send()
        return self._receive()

    def _stands(self) -> bool:
        """Tell whether there is a connection. Raises `OSError`."""
        assert self.socket is not None
        try:
            peer = self.socket.getpeername()
        except OSError as error:
            if error.errno == errno.ENOTCONN:
                return False
            raise
        if peer and peer == self.socket.getsockname():
            # Nobody listens, and the kernel has chosen that very port for us: we have met ourselves (tcp(7)).
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        return True

    def _send(self) -> Outcome | None:
        assert self.socket is not None
        try:
            sent = self.socket.send(self._request, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            self.wants = WRITE
            return None
        self._request = self._request[sent:]
        self.wants = WRITE if self._request else READ
        return None

    def _receive(self) -> Outcome | None:
        assert self.socket is not None
        assert isinstance(self._target, HttpTarget)
        while True:
            try:
                data = self.socket.recv(READ_BYTES)
            except BlockingIOError:
                return None
            except ConnectionResetError:
                if not self._data:
                    raise
                data = b""
            self._data += data
            found = outcome_of(self._target, self._data, is_all=not data)
            if found is not None:
                return found

    def _failed(self, code: int) -> Outcome | None:
        """Go on with the next address, if there is one, where one does not answer."""
        if self._addresses and not self._is_connected:
            return self.begin()
        return self._outcome_of(code)

    def _outcome_of(self, code: int) -> Outcome:
        cause = os.strerror(code).lower()
        if code in _SHORTAGES:
            return Outcome(None, f"{self._target} cannot be asked: {cause}")
        return Outcome(False, f"{self._target}: {cause}")
