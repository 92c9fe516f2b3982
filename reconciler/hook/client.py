"""What a hook knows as `arbiter`: a client of the control socket that any Python from 3.6 on can run.

The program's own client needs msgpack, which a virtualenv of the user's seldom has. The part of
MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md) and of MessagePack-RPC that is needed here is
small; a test holds it to the library.
"""

import os
import pwd
import socket
import struct
import time
from typing import Any

TIMEOUT_S = 30.0
_RETRY_S = 0.05
_READ_BYTES = 1 << 16


class ManagerError(Exception):
    """The manager refuses a request: `code` as in docs/protocol.md, and its `details`."""

    def __init__(self, code: str, message: str, details: "dict[str, Any]") -> None:
        hint = details.get("hint")
        super().__init__("{}{}".format(message, f" ({hint})" if hint else ""))
        self.code = code
        self.details = details


class Arbiter:
    """A client of the manager, connected at its first use: `arbiter.call("status", names=["web"])`."""

    def __init__(self, socket_path: str) -> None:
        self._path = socket_path
        self._socket: socket.socket | None = None
        self._buffer = b""
        self._last_id = 0

    def call(self, method: str, **params: Any) -> Any:  # noqa: ANN401  (whatever the method takes and answers)
        """Return the answer to a request. Raises `ManagerError`, `PermissionError` or `OSError`.

        A request whose answer was cut off (the controller was replaced) is sent again: the manager knows a
        repetition by its `request_id`.
        """
        given = {name: value for name, value in params.items() if value is not None}
        given.setdefault("request_id", os.urandom(12).hex())
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                return self._ask(method, given, deadline)
            except ConnectionError:
                self.close()
                if time.monotonic() + _RETRY_S > deadline:
                    raise
                time.sleep(_RETRY_S)

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._buffer = None, b""

    def _ask(self, method: str, params: "dict[str, Any]", deadline: float) -> Any:  # noqa: ANN401
        connection = self._socket or self._connected()
        self._socket = connection
        self._last_id += 1
        connection.sendall(pack([0, self._last_id, method, [params]]))
        while True:
            message, self._buffer = unpack_first(self._buffer)
            if message is not None and message[0] == 1 and message[1] in (self._last_id, 0):
                break
            if message is None:
                connection.settimeout(max(deadline - time.monotonic(), 0.001))
                data = connection.recv(_READ_BYTES)
                if not data:
                    raise ConnectionResetError("the manager closed the connection")
                self._buffer += data
        error, result = message[2], message[3]
        if error is not None:
            raise ManagerError(error[0], error[1], error[2] if len(error) > 2 else {})
        return result

    def _connected(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(TIMEOUT_S)
        try:
            connection.connect(self._path)
        except OSError as error:
            connection.close()
            if not isinstance(error, PermissionError):
                raise
            raise PermissionError(
                f"this hook runs as {_user()}, who may not use {self._path}; let the spec have"
                f" daemon: {{access: [{{user: {_user()}, role: view}}]}}"
            ) from None
        return connection


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


# ---- MessagePack ----------------------------------------------------------------------------------


def pack(value: Any) -> bytes:  # noqa: ANN401  (whatever MessagePack can carry)
    """Return a value of JSON's kinds, or bytes, in MessagePack. Raises `TypeError`."""
    if value is None or value is False or value is True:
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        return _pack_int(value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        data = value.encode()
        return _header(len(data), 0xA0, 31, (0xD9, 0xDA, 0xDB)) + data
    if isinstance(value, bytes):
        return _header(len(value), 0, -1, (0xC4, 0xC5, 0xC6)) + value
    if isinstance(value, (list, tuple)):
        return _header(len(value), 0x90, 15, (None, 0xDC, 0xDD)) + b"".join(map(pack, value))
    if isinstance(value, dict):
        items = b"".join(pack(key) + pack(item) for key, item in value.items())
        return _header(len(value), 0x80, 15, (None, 0xDE, 0xDF)) + items
    raise TypeError(f"cannot send {type(value).__name__}: expected what JSON can hold")


def _pack_int(value: int) -> bytes:
    if -32 <= value < 128:
        return struct.pack("b", value)
    if value < 0:
        return b"\xd3" + struct.pack(">q", value)
    return b"\xcf" + struct.pack(">Q", value)


def _header(size: int, short: int, longest: int, kinds: "tuple[int | None, int, int]") -> bytes:
    """Return the first bytes of a value by its size: within one byte, or followed by 1, 2 or 4."""
    if size <= longest:
        return bytes([short | size])
    for kind, form, limit in zip(kinds, (">B", ">H", ">I"), (2**8, 2**16, 2**32)):  # noqa: B905  (3.10)
        if kind is not None and size < limit:
            return bytes([kind]) + struct.pack(form, size)
    raise TypeError("cannot send more than 4 GiB")


def unpack_first(data: bytes) -> "tuple[Any, bytes]":
    """Return the first value of some bytes and what comes behind it; None when it is not whole yet."""
    try:
        value, end = _unpack(data, 0)
    except (IndexError, struct.error):
        return None, data
    return value, data[end:]


_NUMBERS = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
            0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}  # fmt: skip
_SIZES = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I",
          0xDC: ">H", 0xDD: ">I", 0xDE: ">H", 0xDF: ">I"}  # fmt: skip
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


def _unpack(data: bytes, at: int) -> "tuple[Any, int]":
    kind = data[at]
    at += 1
    if kind < 0x80 or kind >= 0xE0:
        return (kind if kind < 0x80 else kind - 0x100), at
    if kind in _CONSTANTS:
        return _CONSTANTS[kind], at
    if kind in _NUMBERS:
        return _number(data, at, _NUMBERS[kind])
    if kind in _SIZES:
        size, at = _number(data, at, _SIZES[kind])
    else:
        size = kind & (0x1F if 0xA0 <= kind < 0xC0 else 0x0F)
    if kind in (0xDE, 0xDF) or 0x80 <= kind < 0x90:
        items, at = _items(data, at, 2 * size)
        return dict(zip(items[::2], items[1::2])), at  # noqa: B905  (3.10)
    if kind in (0xDC, 0xDD) or 0x90 <= kind < 0xA0:
        return _items(data, at, size)
    if kind not in _SIZES and not 0xA0 <= kind < 0xC0:
        raise ValueError(f"the manager sent a value of an unknown kind, 0x{kind:02x}")
    end = at + size
    if end > len(data):
        raise IndexError
    found = data[at:end]
    return (found if kind in (0xC4, 0xC5, 0xC6) else found.decode("utf-8", "replace")), end


def _items(data: bytes, at: int, count: int) -> "tuple[list[Any], int]":
    found = []
    for _ in range(count):
        value, at = _unpack(data, at)
        found.append(value)
    return found, at


def _number(data: bytes, at: int, form: str) -> "tuple[Any, int]":
    return struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)
