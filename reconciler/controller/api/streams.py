"""What goes on being sent after its answer, as it comes: events, progress and log lines.

A stream holds a place, not a queue: while its client does not read, nothing is produced for it. What is
no longer there when the client reads again is told as `{stream, dropped: n}`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Final

from reconciler.controller.api.connection import Connection
from reconciler.controller.api.request import Request
from reconciler.controller.runtime import clock
from reconciler.controller.runtime.borders import Border
from reconciler.controller.runtime.reactor import Reactor
from reconciler.model.errors import RequestError
from reconciler.model.units import SECOND_NS
from reconciler.model.value import Part, field
from reconciler.wire import rpc
from reconciler.wire.methods import METHODS

MAX_STREAMS_PER_CONNECTION: Final = 16
MAX_STREAMS: Final = 256
"""Streams of all connections."""
MAX_STREAMS_PER_UID: Final = 128
RESERVED_STREAMS: Final = 16
"""Of all streams, those that only admins get."""
FINISH_NS: Final = SECOND_NS
"""At the end so long is waited for readers of streams."""


class Stream(ABC):
    """One stream of one connection."""

    until_end = False
    """The end waits, but not for long, until this reader has read everything and hung up."""

    is_over = False
    streams: Streams
    reactor: Reactor
    connection: Connection
    id: int
    method: str
    """Of its notifications. These five are known once it is added to the others."""

    def prepare(self) -> bool:
        """Do some of what comes before the answer; True when that is all. Raises `RequestError`."""
        return True

    @abstractmethod
    def pump(self) -> bool:
        """Send what there is while the client reads; True when more is waiting for the next turn."""

    def touched(self, names: frozenset[str]) -> None:  # noqa: B027  (events do not care)
        """Take note that these watchers may have changed."""

    def finish(self) -> None:  # noqa: B027  (most streams do not care)
        """Take note that nothing more comes."""

    def close(self) -> None:  # noqa: B027  (most streams hold nothing)
        """Give back what the stream holds."""

    def send(self, **params: object) -> bool:
        """Send one element; False when the client does not read."""
        return self.connection.send_of_stream(
            rpc.encode_notification(self.method, {"stream": self.id, **params})
        )


class Streams(Part):
    """All streams of all connections."""

    reactor: Reactor
    border: Border
    _streams: dict[int, Stream] = field(default_factory=dict)
    _last: int = 0

    def add(self, request: Request, stream: Stream) -> None:
        """Answer with a new stream's number, then begin it. Raises `RequestError` when there are too many."""
        if request.connection.stream_count >= MAX_STREAMS_PER_CONNECTION:
            message = f"more than {MAX_STREAMS_PER_CONNECTION} streams on one connection"
            raise RequestError(code="overloaded", message=message, hint="stream.cancel ends one")
        reserved = 0 if request.permit.includes("admin") else RESERVED_STREAMS
        if len(self._streams) >= MAX_STREAMS - reserved:
            message = f"more than {MAX_STREAMS - reserved} streams of all clients"
            raise RequestError(code="overloaded", message=message, hint="try again later")
        mine = sum(each.connection.peer.uid == request.uid for each in self._streams.values())
        if mine >= MAX_STREAMS_PER_UID:
            message = f"more than {MAX_STREAMS_PER_UID} streams of {request.who}"
            raise RequestError(code="overloaded", message=message, hint="stream.cancel ends one")
        self._last += 1
        stream.streams, stream.reactor = self, self.reactor
        stream.connection, stream.id = request.connection, self._last
        stream.method = METHODS[request.method].follows
        self._streams[stream.id] = stream
        request.connection.stream_count += 1
        self._prepare(stream, request)

    def _prepare(self, stream: Stream, request: Request) -> None:
        """Let a stream find what it begins with, a turn at a time, and answer then."""

        def step() -> None:
            if not stream.prepare():
                self.reactor.soon(lambda: self._prepare(stream, request))
                return
            request.reply({"stream": stream.id})
            self.reactor.soon(lambda: self.pump(stream))

        if stream.id in self._streams:
            request.guard(step)
            if request.answer is not None and request.answer.error is not None:
                self._end(stream)

    @property
    def has_viewer(self) -> bool:
        """Tell whether somebody wants to see the end."""
        return any(each.until_end for each in self._streams.values())

    def of(self, method: str) -> list[Stream]:
        """Return the streams that send notifications of a kind."""
        return [each for each in self._streams.values() if each.method == method]

    def cancel(self, connection: Connection, id: int) -> bool:
        """End a stream; False when this connection has none of that number."""
        stream = self._streams.get(id)
        if stream is None or stream.connection is not connection:
            return False
        self._end(stream)
        return True

    def closed(self, connection: Connection) -> None:
        """End the streams of a connection that is gone."""
        for stream in self._on(connection):
            self._end(stream)

    def told(self) -> None:
        """Let those who follow events send one that was just told."""
        for stream in self.of("event"):
            self.pump(stream)

    def touched(self, names: frozenset[str]) -> None:
        """Let streams look at watchers that may have changed."""
        for stream in tuple(self._streams.values()):
            self.guard(stream, partial(stream.touched, names))

    def drained(self, connection: Connection) -> None:
        """Go on with the streams of a client that has read."""
        for stream in self._on(connection):
            self.reactor.soon(partial(self.pump, stream))

    def _on(self, connection: Connection) -> list[Stream]:
        return [each for each in self._streams.values() if each.connection is connection]

    def pump(self, stream: Stream) -> None:
        """Let a stream send; the rest comes in the next round."""
        if stream.id in self._streams:
            self.guard(stream, partial(self._pump, stream))

    def guard(self, stream: Stream, call: Callable[[], object]) -> None:
        """Do something for a stream: what goes wrong ends the client's connection, so that it knows."""
        if not self.border.guard(f"serving a stream of {stream.method}s", call):
            stream.connection.close()

    def _pump(self, stream: Stream) -> None:
        more = stream.pump()
        if stream.is_over:
            self._end(stream)
        elif more:
            self.reactor.soon(lambda: self.pump(stream))

    def _end(self, stream: Stream) -> None:
        if self._streams.pop(stream.id, None) is not None:
            stream.connection.stream_count -= 1
            stream.close()

    def finish(self, method: str) -> None:
        """Send all that streams of a kind still have, as far as it is read soon, and wait for who sees the end."""
        until_ns = clock.now_ns() + FINISH_NS
        for stream in self.of(method):
            self.guard(stream, partial(self._finish, stream, until_ns))
        for stream in self.of(method):
            if stream.until_end:
                stream.connection.wait_for_end(until_ns)

    def _finish(self, stream: Stream, until_ns: int) -> None:
        stream.finish()
        connection = stream.connection
        more = True
        while more and not connection.is_closed and clock.now_ns() < until_ns:
            more = stream.pump() or not connection.has_room
            connection.drain(until_ns)
