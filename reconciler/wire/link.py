"""The link between controller and keeper: length-prefixed MessagePack of plain values.

Both ends are ours and trusted; the limit only turns a torn stream into an error instead of a wait.
A frame is 4 bytes of length, big-endian, then that many bytes.
"""

from __future__ import annotations

import struct
from typing import Final, cast

import msgpack

from reconciler.model.action import KeeperAction
from reconciler.model.event import KeeperEvent
from reconciler.model.plain import PlainError, from_plain, to_plain

MAX_FRAME_BYTES: Final = 16 * 2**20

_HEADER = struct.Struct(">I")


class ProtocolError(Exception):
    """The bytes are not what the protocol says."""


def encode(message: KeeperAction | KeeperEvent) -> bytes:
    """Return the frame of one action or event."""
    payload: bytes = msgpack.packb(to_plain(message))
    return _HEADER.pack(len(payload)) + payload


class LinkDecoder:
    """Cuts a stream of bytes into frames; any split of the bytes gives the same messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def frames(self, data: bytes) -> list[bytes]:
        """Return the payloads that `data` completes. Raises `ProtocolError` on an absurd length."""
        self._buffer += data
        found = []
        start = 0
        while len(self._buffer) - start >= _HEADER.size:
            (size,) = _HEADER.unpack_from(self._buffer, start)
            if size > MAX_FRAME_BYTES:
                msg = f"a frame claims {size} bytes, the limit is {MAX_FRAME_BYTES}"
                raise ProtocolError(msg)
            end = start + _HEADER.size + size
            if len(self._buffer) < end:
                break
            found.append(bytes(self._buffer[start + _HEADER.size : end]))
            start = end
        del self._buffer[:start]
        return found

    def actions(self, data: bytes) -> list[KeeperAction]:
        """Return the actions that `data` completes. Raises `ProtocolError` on anything else."""
        return [cast("KeeperAction", _decode(KeeperAction, frame)) for frame in self.frames(data)]

    def events(self, data: bytes) -> list[KeeperEvent]:
        """Return the events that `data` completes. Raises `ProtocolError` on anything else."""
        return [cast("KeeperEvent", _decode(KeeperEvent, frame)) for frame in self.frames(data)]


def _decode(kind: object, payload: bytes) -> object:
    try:
        return from_plain(kind, msgpack.unpackb(payload))
    except (PlainError, ValueError, msgpack.UnpackException) as error:
        msg = f"cannot read a message of the link: {error}"
        raise ProtocolError(msg) from error
