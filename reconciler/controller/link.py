"""The link to the keeper: events in, actions out, never waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.controller.borders import Fatal
from reconciler.wire.link import LinkDecoder, encode

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    from reconciler.model.action import KeeperAction
    from reconciler.model.event import KeeperEvent

READ_BYTES: Final = 256 * 1024


class LinkClosed(Fatal):
    """The keeper is gone; there is nothing left to control."""


class Link:
    """One end of the keeper's socket pair."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._decoder = LinkDecoder()
        self._unsent = bytearray()

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    @property
    def has_unsent(self) -> bool:
        """Tell whether bytes wait until the keeper reads again."""
        return bool(self._unsent)

    def receive(self) -> list[KeeperEvent]:
        """Return the events that have arrived.

        Raises `LinkClosed` when the keeper is gone; `ProtocolError` when it does not speak our language,
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
        return self._decoder.events(data)

    def send(self, actions: Iterable[KeeperAction]) -> None:
        """Send actions in order; what the socket does not take now is kept."""
        for action in actions:
            self._unsent += encode(action)
        self.flush()

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
