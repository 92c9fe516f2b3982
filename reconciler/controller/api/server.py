"""The control socket: who is let in, and how many.

Nothing that a client does or fails to do concerns anybody else. When all places are taken, the one that has been
silent longest is given to the newcomer.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from reconciler.controller.api.auth import Access, peer_of
from reconciler.controller.api.connection import CALLS_PER_TURN, Connection
from reconciler.controller.api.streams import Streams
from reconciler.controller.api.turns import Turns
from reconciler.controller.runtime import clock
from reconciler.controller.runtime.borders import Border, Log
from reconciler.controller.runtime.reactor import READ, Reactor
from reconciler.model.units import SECOND_NS
from reconciler.model.value import Part, field
from reconciler.wire import rpc

MAX_CONNECTIONS: Final = 256
MAX_CONNECTIONS_PER_UID: Final = 64
RESERVED_CONNECTIONS: Final = 8
"""Of all connections, those that only root and the instance's own user get."""
RESERVED_DESCRIPTORS: Final = 48
"""Of all descriptors that the controller may have open, those that only clients who may operate get."""
REST_NS: Final = SECOND_NS
"""How long nobody is accepted when there is no descriptor left for a client."""
SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


class Server(Part):
    """The listening socket and its connections."""

    control: socket.socket
    reactor: Reactor
    border: Border
    log: Log
    access: Access
    serve: Callable[[Connection, rpc.Call], None]
    streams: Streams
    turns: Turns
    _connections: set[Connection] = field(default_factory=set)
    _short: bool = False
    """No descriptor was left for a client when one called last."""

    def __post_init__(self) -> None:
        self.control.setblocking(False)

    def open(self) -> None:
        """Begin to accept; until then clients wait in the socket's backlog."""
        self.reactor.watch(self.control, READ, lambda _: self._accept())

    def close(self) -> None:
        """Send what can be sent and leave; nobody is answered any more."""
        self.reactor.ignore(self.control)
        self.reactor.at(self, None, self.open)
        for connection in tuple(self._connections):
            connection.flush()
            connection.close()

    def _accept(self) -> None:
        for _ in range(CALLS_PER_TURN):
            try:
                connection, _ = self.control.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # Gone before it was accepted, or we are out of descriptors or memory.
                if error.errno in SHORTAGES and not self._evict(None):
                    self._rest(error)
                return  # epoll reports the others again
            self._short = False
            if not self.border.guard("admitting a client", partial(self._admit, connection)):
                connection.close()

    def _rest(self, error: OSError) -> None:
        """Accept nobody for a while: epoll would report the one that cannot be accepted without end."""
        if not self._short:
            self.log.write("warning", "cannot accept a client", cause=error.strerror)
        self._short = True
        self.reactor.ignore(self.control)
        self.reactor.at(self, clock.now_ns() + REST_NS, self.open)

    def _admit(self, connection: socket.socket) -> None:
        try:
            peer = self.access.recognised(peer_of(connection))
        except OSError:
            connection.close()
            return
        if _is_scarce(connection) and not self.access.may_operate(peer):
            self._turn_away(connection, "too many open files", "the last places are for operators")
            return
        same = [each for each in self._connections if each.peer.uid == peer.uid]
        full = len(same) >= MAX_CONNECTIONS_PER_UID and self._evict(peer.uid) is False
        reserved = 0 if peer.uid in {0, os.geteuid()} else RESERVED_CONNECTIONS
        crowded = len(self._connections) >= MAX_CONNECTIONS - reserved
        if full or (crowded and not self._evict(None)):
            self._turn_away(connection, "too many connections", "close some")
            return
        admitted = Connection(
            connection, peer, self.reactor, self.border, self.turns, self.access,
            self.serve, self.streams.drained, self._closed,
        )  # fmt: skip
        self._connections.add(admitted)
        self.access.meet(peer, admitted.begin)

    def _turn_away(self, connection: socket.socket, message: str, hint: str) -> None:
        connection.setblocking(False)
        with suppress(OSError):
            connection.send(rpc.encode_error(0, "overloaded", message, {"hint": hint}))
        connection.close()

    def recheck(self) -> None:
        """Let go those who follow something and may not any more; all else is asked for each request."""
        for connection in tuple(self._connections):
            if connection.stream_count and self.access.permit(connection.peer) is None:
                connection.close()

    def _evict(self, uid: int | None) -> bool:
        """Close the connection that matters least, of one user or of all; False when all are busy."""
        idle = [each for each in self._connections if each.is_idle and uid in {None, each.peer.uid}]
        if not idle:
            return False
        min(idle, key=lambda each: each.active_ns).close()
        return True

    def _closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self.streams.closed(connection)


def _is_scarce(connection: socket.socket) -> bool:
    """Tell whether but a few descriptors are left: the kernel gives the lowest number that is free."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit != resource.RLIM_INFINITY and connection.fileno() >= limit - RESERVED_DESCRIPTORS
