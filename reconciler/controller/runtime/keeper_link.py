"""The link to the keeper: observations in, actions out, never waiting."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from reconciler.controller.runtime.borders import Contradiction, Fatal, Log
from reconciler.controller.runtime.reactor import READ, WRITE, Reactor
from reconciler.model.action import KeeperAction
from reconciler.model.observation import KeeperIntroduced, KeeperObservation
from reconciler.wire.link import LinkDecoder, ProtocolError, encode

READ_BYTES: Final = 256 * 1024


class LinkClosed(Fatal):
    """The keeper is gone; there is nothing left to control."""


class Link:
    """One end of the keeper's socket pair."""

    def __init__(self, connection: socket.socket, reactor: Reactor) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._reactor = reactor
        self._decoder = LinkDecoder()
        self._unsent = bytearray()
        self._ready: Callable[[int], None] | None = None

    @property
    def has_unsent(self) -> bool:
        """Tell whether bytes wait until the keeper reads again."""
        return bool(self._unsent)

    def meet(self, log: Log) -> tuple[KeeperIntroduced, list[KeeperObservation]]:
        """Wait for the keeper's first word; return who it is, and all that it has said."""
        while True:
            self._socket.setblocking(True)
            observations = self.receive()
            self._socket.setblocking(False)
            for index, observation in enumerate(observations):
                if isinstance(observation, KeeperIntroduced):
                    return observation, observations
                log.write("warning", "the keeper speaks before it is introduced", place=index)

    def open(
        self, hear: Callable[[list[KeeperObservation]], None], sent: Callable[[], None]
    ) -> None:
        """Call with what the keeper says from now on, and whenever it has taken what waited to be sent."""

        def ready(events: int) -> None:
            if events & WRITE:
                self.flush()
                sent()
            if events & READ:
                hear(self.receive())
            self._watch()

        self._ready = ready
        self._watch()

    def receive(self) -> list[KeeperObservation]:
        """Return the observations that have arrived.

        Raises `LinkClosed` when the keeper is gone; `Contradiction` when it does not speak our language,
        which is a bug and ends this controller.
        """
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return []
        except OSError as error:
            raise LinkClosed from error
        if not data:
            raise LinkClosed
        try:
            return self._decoder.observations(data)
        except ProtocolError as error:
            raise Contradiction from error

    def send(self, *actions: KeeperAction) -> None:
        """Send actions in order; what the socket does not take now is kept."""
        for action in actions:
            self._unsent += encode(action)
        self.flush()
        self._watch()

    def flush(self) -> None:
        """Send kept bytes as far as the socket takes them. Raises `LinkClosed`."""
        while self._unsent:
            try:
                sent = self._socket.send(self._unsent)
            except BlockingIOError:
                return
            except OSError as error:
                raise LinkClosed from error
            del self._unsent[:sent]

    def _watch(self) -> None:
        if self._ready is not None:
            self._reactor.watch(self._socket, READ | WRITE if self._unsent else READ, self._ready)
