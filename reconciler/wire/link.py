"""The link between controller and keeper: length-prefixed MessagePack of our values.

Both ends are ours and trusted; the limit only turns a torn stream into an error instead of a wait.
A frame is 4 bytes of length, big-endian, then that many bytes.
"""

from __future__ import annotations

import struct
from typing import Final, TypeVar

import msgspec

from reconciler.model.action import KeeperAction
from reconciler.model.observation import KeeperObservation

T = TypeVar("T")

MAX_FRAME_BYTES: Final = 16 * 2**20

_HEADER = struct.Struct(">I")
_ENCODER: Final = msgspec.msgpack.Encoder()
_ACTIONS: Final = msgspec.msgpack.Decoder(KeeperAction)
_EVENTS: Final = msgspec.msgpack.Decoder(KeeperObservation)


class ProtocolError(Exception):
    """The bytes are not what the protocol says."""


def encode(message: KeeperAction | KeeperObservation) -> bytes:
    """Return the frame of one action or observation."""
    payload = _ENCODER.encode(message)
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
        return [_decode(_ACTIONS, frame) for frame in self.frames(data)]

    def observations(self, data: bytes) -> list[KeeperObservation]:
        """Return the observations that `data` completes. Raises `ProtocolError` on anything else."""
        return [_decode(_EVENTS, frame) for frame in self.frames(data)]


def _decode(decoder: msgspec.msgpack.Decoder[T], payload: bytes) -> T:
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        msg = f"cannot read a message of the link: {error}"
        raise ProtocolError(msg) from error
