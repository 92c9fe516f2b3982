"""Requests to one manager and streams from it, over its control socket.

The control socket outlives the controller behind it. So a broken connection is opened again and the
request is sent again, until an answer comes or the time is over: it carries a `request_id` by which the
manager recognises a repetition. Only a socket on which nobody listens means that there is no manager.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast

from reconciler.cli.connection.instances import CREDENTIALS, of_others
from reconciler.cli.errors import CommandError, NoManager, Refused, TimedOut
from reconciler.model.errors import RequestError
from reconciler.model.value import PlainError, from_plain, to_whole
from reconciler.wire import rpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Self, TypeAlias

    from reconciler.cli.connection.instances import Instance
    from reconciler.model.answer import Hello
    from reconciler.model.errors import Code

    Labels: TypeAlias = Mapping[str, str] | None

Map = dict[str, object]
T = TypeVar("T")

DEFAULT_TIMEOUT_S: Final = 30.0
CONNECT: Final = "connect"
DROPPED: Final = "dropped"
"""Key of a notification: how much a slow reader has missed."""
TICK: Final = "tick"
"""What `follow` yields when nothing came for a while, so that its reader can look at the clock."""

_READ_BYTES: Final = 1 << 18
_PLACES_OF_TEXT: Final = 500
"""A request may have but so many values, and texts of some length: places in logs come together."""
_FIRST_RETRY_S: Final = 0.02
_LONGEST_RETRY_S: Final = 0.5


class Answer(Generic[T]):
    """An answer: the value that it describes, and the map that came over the wire, or what makes it."""

    __slots__ = ("_plain", "value")

    def __init__(self, value: T, plain: Map | Callable[[], Map]) -> None:
        self.value = value
        self._plain = plain

    @property
    def plain(self) -> Map:
        """Return the map that came over the wire."""
        if callable(self._plain):
            self._plain = self._plain()
        return self._plain

    def document(self, *keys: str) -> Map:
        """Return the answer, or these keys of it, for programs: with all fields, and keys of other versions."""
        whole = cast("Map", to_whole(self.value, self.plain))
        return {key: whole[key] for key in keys} if keys else whole


class Transport:
    """A connection to the manager of one instance; connects when first used. `Client` says what calls raise."""

    def __init__(self, instance: Instance, timeout: float) -> None:
        self.instance = instance
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._decoder = rpc.ClientDecoder()
        self._notifications: deque[tuple[str, Map]] = deque()
        self._last_id = 0
        self._connections = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._decoder = rpc.ClientDecoder()

    # ---- asking ----

    def call(self, method: str, /, **params: object) -> Map:
        """Return the answer to one request; parameters that are None are not sent."""
        return self.request(method, params)

    def request(
        self, method: str, params: Mapping[str, object], timeout: float | None = None
    ) -> Map:
        """Return the answer to one request; `timeout` is in seconds, None takes the client's."""
        return self._map_of(method, self._response(method, params, timeout))

    def _response(
        self, method: str, params: Mapping[str, object], timeout: float | None
    ) -> rpc.Response:
        given = {key: value for key, value in params.items() if value is not None}
        given.setdefault("request_id", os.urandom(12).hex())
        deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
        pause = _FIRST_RETRY_S
        while True:
            try:
                return self._ask(method, given, deadline)
            except ConnectionError:
                self._take_rest()
                self.close()
            if time.monotonic() + pause > deadline:
                raise self._timed_out(method)
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_RETRY_S)

    def ask(
        self,
        kind: type[T],
        method: str,
        params: Mapping[str, object],
        timeout: float | None = None,
    ) -> Answer[T]:
        """Return the answer to one request as a value. Raises `Refused` when it is none of that kind."""
        response = self._response(method, params, timeout)
        try:
            value = rpc.unpack(kind, response.packed)
        except (ValueError, RecursionError) as error:
            raise self._not_understood(method, error) from error
        return Answer(value, lambda: self._map_of(method, response))

    def read(self, kind: type[T], method: str, plain: Map) -> Answer[T]:
        """Return what an answer or a notification says. Raises `Refused` when it is none of that kind."""
        try:
            return Answer(from_plain(kind, plain), plain)
        except PlainError as error:
            raise self._not_understood(method, error) from error

    def hello(self) -> Hello:
        """Return who the manager is: version, name, spec and process ids."""
        from reconciler.model.answer import Hello

        return self.ask(Hello, "hello", {"client": "reconcile-python", "protocol": 1}).value

    def owner(self) -> tuple[int, int]:
        """Return uid and gid of who has answered on this connection: the kernel noted them (unix(7), SO_PEERCRED)."""
        if self._socket is None:
            msg = "cannot tell who has answered: the manager closed the connection"
            raise Refused(msg, "try again")
        raw = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        _, uid, gid = CREDENTIALS.unpack(raw)
        return uid, gid

    def _map_of(self, method: str, response: rpc.Response) -> Map:
        try:
            result = response.result
        except rpc.ProtocolError as error:
            raise self._not_understood(method, error) from error
        return cast("Map", result) if isinstance(result, dict) else {}

    def _ask(self, method: str, params: Mapping[str, object], deadline: float) -> rpc.Response:
        connection = self._connected(deadline)
        self._last_id += 1
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            connection.sendall(rpc.encode_request(self._last_id, method, params))
        except TimeoutError:
            self.close()
            raise self._timed_out(method) from None
        answer: rpc.Response | None = None
        while answer is None:
            for response in self._received(deadline, method):
                # 0 answers a request that the manager could not even read.
                if response.msgid in {self._last_id, 0}:
                    answer = response
        if answer.error is not None:
            code, message, details = answer.error
            raise RequestError(cast("Code", code), message, details=details)
        return answer

    def _received(self, deadline: float | None, method: str) -> list[rpc.Response]:
        """Wait for bytes; keep the notifications in them for who follows a stream, and return the responses.

        Raises `ConnectionError` at the end of the connection, `TimedOut` at the deadline.
        """
        connection = self._socket
        assert connection is not None
        connection.settimeout(None if deadline is None else max(deadline - time.monotonic(), 0.001))
        try:
            data = connection.recv(_READ_BYTES)
        except TimeoutError:
            self.close()
            raise self._timed_out(method) from None
        if not data:
            msg = "the manager closed the connection"
            raise ConnectionResetError(msg)
        try:
            messages = self._decoder.messages(data)
        except rpc.ProtocolError as error:
            self.close()
            raise self._not_understood(method, error) from error
        for message in messages:
            if isinstance(message, rpc.Notification):
                self._notifications.append((message.method, dict(message.params)))
        return [each for each in messages if isinstance(each, rpc.Response)]

    def _take_rest(self) -> None:
        """Keep the notifications that came before the end of a connection, for who follows a stream."""
        with contextlib.suppress(OSError, CommandError):
            while self._socket is not None:
                self._received(time.monotonic(), "what came before the end")

    def _connected(self, deadline: float) -> socket.socket:
        """Return the connection; opens one if there is none, and waits while the backlog is full."""
        if self._socket is not None:
            return self._socket
        path = self.instance.control_socket
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                connection.setblocking(False)
                connection.connect(path)
            except BlockingIOError:
                connection.close()
                if time.monotonic() > deadline:
                    raise self._timed_out(CONNECT) from None
                time.sleep(_FIRST_RETRY_S)
            except OSError as error:
                connection.close()
                raise self._unreachable(error) from error
            else:
                self._socket = connection
                self._connections += 1
                return connection

    def _unreachable(self, error: OSError) -> NoManager | Refused:
        path = self.instance.control_socket
        if isinstance(error, FileNotFoundError | ConnectionRefusedError | NotADirectoryError):
            from reconciler.cli.connection import absence

            return absence.explained(self.instance)
        if isinstance(error, PermissionError):
            whose = [user for one, user in of_others() if one == self.instance]
            runs = f": {whose[0]} runs it" if whose else ""
            return Refused(
                f"cannot connect to {path}: permission denied{runs}",
                "allowed are root, the user who started the manager, and users in daemon.access",
            )
        return Refused(f"cannot connect to {path}: {error.strerror or error}")

    def _not_understood(self, method: str, error: Exception) -> Refused:
        return Refused(
            f"cannot understand {self.instance.name}, asked for {method}: {error}",
            "is it another version of reconcile, or another program?",
        )

    def _timed_out(self, method: str) -> TimedOut:
        return TimedOut(f"cannot get an answer to {method} from {self.instance.name}: timed out")

    # ---- following ----

    def follow(
        self, *requests: tuple[str, Mapping[str, object]], tick: float | None = None
    ) -> Iterator[tuple[str, Map]]:
        """Open streams and yield their notifications as (method, map): `log`, `event`, `progress`.

        With `tick`, yields (`"tick"`, {}) whenever that many seconds passed in silence. The
        streams are opened again when the controller was replaced, and go on where they were: logs
        at the place up to which they were yielded. The generator ends with the manager, or when
        each stream has said that it is done. Other calls are possible meanwhile, a second `follow`
        is not.
        """
        newest = 0
        again = False
        places: dict[str, str] = {}
        self._notifications.clear()
        while True:
            connection = self._connections if self._socket is not None else self._connections + 1
            try:
                open_streams = {
                    self.request(
                        method, _opened(method, params, newest, places if again else None)
                    ).get("stream")
                    for method, params in requests
                }
                for method, item in self._notified(connection, tick):
                    if method == "event" and DROPPED not in item:
                        newest = cast("int", item.get("seq", 0))
                    if method == "log" and "at" in item:
                        places[str(item.get("path"))] = str(item["at"])
                        if not item.get("data"):
                            continue
                    yield method, item
                    if item.get("done"):
                        open_streams.discard(item.get("stream"))
                        if not open_streams:
                            return
            except ConnectionError:
                self.close()
                again = True
            except NoManager:
                if again:
                    return
                raise
            except GeneratorExit:
                # The manager stops sending when the connection is gone.
                self.close()
                raise

    def _notified(self, connection: int, tick: float | None) -> Iterator[tuple[str, Map]]:
        """Yield what comes over one connection, all of it before its end is raised.

        Streams do not move when another call makes a new one.
        """
        while True:
            while self._notifications:
                yield self._notifications.popleft()
            if self._socket is None or self._connections != connection:
                msg = "the connection of the streams is gone"
                raise ConnectionResetError(msg)
            if tick is not None and not self._readable(tick):
                yield TICK, {}
                continue
            self._received(None, "follow")

    def _readable(self, seconds: float) -> bool:
        assert self._socket is not None
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(seconds * 1000))


def _opened(
    method: str, params: Mapping[str, object], newest: int, places: Mapping[str, str] | None
) -> dict[str, object]:
    """Return the parameters of a stream; `places` are those of logs when it is opened again.

    What was shown already is not asked for, and what came meanwhile is.
    """
    given = dict(params)
    if method == "logs.follow":
        given["resumable"] = True
        if places is not None:
            texts = [f"{at} {path}" for path, at in places.items()]
            given["after"] = [
                "\n".join(texts[begin : begin + _PLACES_OF_TEXT])
                for begin in range(0, max(len(texts), 1), _PLACES_OF_TEXT)
            ]
    if method == "events.follow" and newest and places is not None:
        given["since"] = newest
    return given


def selection(names: Sequence[str], labels: Labels) -> Map:
    """Return the parameters that say which watchers are meant."""
    return {"names": list(names) or None, "labels": dict(labels) if labels else None}


def status_of(names: Sequence[str], labels: Labels, *, usage: bool) -> Map:
    """Return the parameters of `status`; what comes back is without what is at its default."""
    return {**selection(names, labels), "usage": usage or None, "lean": True}
