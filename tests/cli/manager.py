"""A manager for the tests of the command line: real framing on a real socket, answers made up."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Self

from reconciler.model.errors import RequestError
from reconciler.wire import rpc

Answer = Callable[[Mapping[str, object]], object]


class Hangup(Exception):
    """Close the connection instead of answering, as a controller does that dies."""


class Stream:
    """Answer with notifications as they come, then close the connection unless the last one is `done`."""

    def __init__(self, method: str, items: Iterable[Mapping[str, object]]) -> None:
        self.method = method
        self.items = items


class Manager:
    """Answers each method by calling the function of that name; keeps what was asked."""

    def __init__(self, runtime_dir: str, **answers: object) -> None:
        self.runtime_dir = runtime_dir
        self.answers = {name.replace("__", "."): answer for name, answer in answers.items()}
        self.calls: list[tuple[str, dict[str, object]]] = []
        self.path = os.path.join(runtime_dir, "control.sock")
        os.makedirs(runtime_dir, exist_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen(16)
        self._connections: list[socket.socket] = []
        self.accepted = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and close all connections, as the end of a keeper does."""
        if os.path.exists(self.path):
            os.unlink(self.path)
        for each in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def asked(self, method: str) -> list[dict[str, object]]:
        """Return the parameters of each call of a method, without the request ids."""
        return [
            {key: value for key, value in params.items() if key != "request_id"}
            for name, params in self.calls
            if name == method
        ]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        decoder = rpc.RequestDecoder()
        try:
            while data := connection.recv(65536):
                decoder.feed(data)
                while call := decoder.next():
                    if isinstance(call, rpc.BadCall):
                        connection.sendall(
                            rpc.encode_error(call.msgid, "invalid_request", call.message, {})
                        )
                        return
                    self._answer(connection, call)
        except (Hangup, OSError):
            pass
        finally:
            connection.close()

    def _answer(self, connection: socket.socket, call: rpc.Call) -> None:
        self.calls.append((call.method, dict(call.params)))
        answer = self.answers.get(call.method)
        if answer is None:
            hint = {"hint": "no such method"}
            connection.sendall(rpc.encode_error(call.msgid, "unsupported", call.method, hint))
            return
        try:
            result = answer(call.params) if callable(answer) else answer
        except RequestError as error:
            reply = rpc.encode_error(call.msgid, error.code, error.message, error.details)
            connection.sendall(reply)
            return
        if not isinstance(result, Stream):
            connection.sendall(rpc.encode_result(call.msgid, rpc.pack(result)))
            return
        stream = call.msgid
        connection.sendall(rpc.encode_result(call.msgid, rpc.pack({"stream": stream})))
        is_done = False
        for item in result.items:
            connection.sendall(rpc.encode_notification(result.method, {"stream": stream, **item}))
            is_done = bool(item.get("done"))
        if not is_done:
            raise Hangup
