"""MessagePack-RPC over the control socket, without I/O: bytes in, messages out, and the reverse.

    request      [0, msgid, method, [params]]     params: one map of named parameters, or nothing
    response     [1, msgid, error, result]        error: nil or [code, message, details]
    notification [2, method, [params]]

What a server reads is hostile. A message carries no length, so its end is found by walking over the
headers, and every limit is checked on the way: nothing is unpacked, and no memory is set aside for what
a header claims, before the whole message is known to be harmless. A client trusts its manager and lets
the compiled unpacker find the ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

import msgpack

from reconciler import model
from reconciler.model.value import Struct, field, from_plain, to_plain

if TYPE_CHECKING or not model.shows_only:
    import msgspec

MAX_REQUEST_BYTES: Final = 2**20
MAX_CONTAINER_ITEMS: Final = 1024
"""Elements of one array, or pairs of one map."""
MAX_MESSAGE_ITEMS: Final = 16_384
"""Values in one message; bounds the time that walking over it takes."""
MAX_NESTING: Final = 32
MAX_STRING_BYTES: Final = 256 * 1024
MAX_REPLY_BYTES: Final = 256 * 2**20
"""What a client takes in one message."""

Value: TypeAlias = Any
"""Whatever MessagePack can carry."""
T = TypeVar("T")

if TYPE_CHECKING or not model.shows_only:
    _LEAN: Final = msgspec.msgpack.Encoder()
    _read = msgspec.msgpack.decode
else:
    from reconciler.model.lightly import Unlike

    def _read(packed: bytes, type: Value = None) -> Value:
        """Return what bytes describe, of that type if one is given, without msgspec. Raises `Unlike`."""
        try:
            plain = msgpack.unpackb(packed, strict_map_key=False)
        except ValueError:
            raise Unlike from None
        return plain if type is None else from_plain(type, plain)


class ProtocolError(Exception):
    """The bytes are not what the protocol says, or break one of the limits above.

    Not the link's error of that name: a client imports this module and shall not pay for the link's.
    """


class Call(Struct, frozen=True):
    """A well-formed request; whether method and parameters make sense is not known yet."""

    msgid: int
    method: str
    params: Mapping[str, object] = field(default_factory=dict)


class BadCall(Struct, frozen=True):
    """Bytes that are no request. `fatal`: the stream cannot be followed any further."""

    msgid: int
    message: str
    fatal: bool = True


class Response(Struct, frozen=True):
    """The answer to a request: `error` is None or (code, message, details)."""

    msgid: int
    error: tuple[str, str, Mapping[str, object]] | None
    packed: bytes = b"\xc0"
    """The result as it came: who knows what it is reads it as that, and makes no maps of it first."""

    @property
    def result(self) -> Value:
        """Return the result as maps, lists and scalars. Raises `ProtocolError`."""
        try:
            return _read(self.packed)
        except (ValueError, RecursionError) as error:
            raise _unreadable(error) from error


class Notification(Struct, frozen=True):
    """One element of a stream."""

    method: str
    params: Mapping[str, object]


# ---- reading requests -----------------------------------------------------------------------------


class RequestDecoder:
    """Cuts a client's bytes into calls. After a fatal `BadCall` it gives nothing more."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._walk = _Walk()
        self._broken = False

    def feed(self, data: bytes) -> None:
        """Take bytes as they came; any split of them gives the same calls."""
        if not self._broken:
            self._buffer += data

    @property
    def is_partial(self) -> bool:
        """Tell whether bytes wait for the rest of their message."""
        return bool(self._buffer) and not self._broken

    def next(self) -> Call | BadCall | None:
        """Return the next call, or None when more bytes are needed. Client notifications are ignored."""
        while not self._broken:
            try:
                end = self._walk.end_of_message(self._buffer)
            except ProtocolError as error:
                return self._break(str(error))
            if end is None:
                if len(self._buffer) > MAX_REQUEST_BYTES:
                    return self._break(f"a message is larger than {MAX_REQUEST_BYTES} bytes")
                return None
            payload = bytes(self._buffer[:end])
            del self._buffer[:end]
            self._walk = _Walk()
            try:
                message = msgpack.unpackb(
                    payload,
                    object_pairs_hook=_map_of,
                    strict_map_key=False,
                    unicode_errors="surrogateescape",
                )
            except (ValueError, msgpack.UnpackException) as error:
                return self._break(f"cannot read a message: {error}")
            call = _call_of(message)
            if isinstance(call, BadCall) and call.fatal:
                return self._break(call.message)
            if call is not None:
                return call
        return None

    def _break(self, message: str) -> BadCall:
        self._broken = True
        self._buffer.clear()
        return BadCall(0, message)


def _call_of(message: object) -> Call | BadCall | None:
    match message:
        case [0, int(msgid), (str() | bytes()) as method, params] if 0 <= msgid < 2**32:
            match params:
                case [] | [None]:
                    return Call(msgid, _text_of(method))
                case [_Ambiguous(key)]:
                    return BadCall(msgid, f"a key stands twice in a map: {key:.64}", fatal=False)
                case [dict(named)]:
                    return Call(msgid, _text_of(method), named)
                case _:
                    return BadCall(
                        msgid, "expected one map of named parameters, in a list", fatal=False
                    )
        case [0, int(msgid), *_] if 0 <= msgid < 2**32:
            return BadCall(msgid, "expected [0, msgid, method, [params]]", fatal=False)
        case [2, str() | bytes(), *_]:
            return None
        case _:
            return BadCall(0, "expected a request: [0, msgid, method, [params]]")


class _Ambiguous(Struct, frozen=True):
    """A map in which a key stands twice: it is not guessed which of the two is meant."""

    key: str


def _map_of(pairs: Sequence[tuple[object, object]]) -> dict[str, object] | _Ambiguous:
    found: dict[str, object] = {}
    for key, value in pairs:
        text = _text_of(key)
        if text in found:
            return _Ambiguous(text)
        found[text] = value
    for value in found.values():
        if isinstance(value, _Ambiguous):
            return value
    return found


def _text_of(value: object) -> str:
    """Return a name as text, as far as it is: what is no name is found to be unknown later."""
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else str(value)


class _Walk:
    """Finds the end of one message, going on where it stopped when bytes were missing."""

    def __init__(self) -> None:
        self._position = 0
        self._items = 0
        self._open = [1]
        """Values still to come, per container from the outermost to the innermost."""

    def end_of_message(self, buffer: bytearray) -> int | None:
        """Return where the first message of `buffer` ends, or None while it is not all there.

        Raises `ProtocolError` as soon as a header shows that it breaks a limit.
        """
        size, still_open, position = len(buffer), self._open, self._position
        while still_open:
            if position >= size:
                break
            kind, length_bytes, fixed = _HEADS[buffer[position]]
            end = position + 1 + length_bytes
            if end > size:
                break
            count = int.from_bytes(buffer[position + 1 : end], "big") if length_bytes else fixed
            children = count * _CHILDREN[kind]
            if kind not in _HOLDING:
                end += count
            if trouble := self._trouble(kind, count, end):
                raise ProtocolError(trouble)
            if end > size:
                break
            self._items += 1
            position = end
            still_open[-1] -= 1
            if children:
                still_open.append(children)
            while still_open and still_open[-1] == 0:
                still_open.pop()
        self._position = position
        return None if still_open else position

    def _trouble(self, kind: int, count: int, end: int) -> str:
        """Return which limit a value breaks, empty when it keeps them all."""
        if kind in _HOLDING:
            if count > MAX_CONTAINER_ITEMS:
                return f"a container claims {count} items, the limit is {MAX_CONTAINER_ITEMS}"
            if count and len(self._open) > MAX_NESTING:
                return f"a message is nested deeper than {MAX_NESTING} levels"
        elif kind == _REFUSED:
            return "extension types are not understood here"
        elif kind == _STRING and count > MAX_STRING_BYTES:
            return f"a string claims {count} bytes, the limit is {MAX_STRING_BYTES}"
        if end > MAX_REQUEST_BYTES:
            return f"a message is larger than {MAX_REQUEST_BYTES} bytes"
        if self._items == MAX_MESSAGE_ITEMS:
            return f"a message holds more than {MAX_MESSAGE_ITEMS} values"
        return ""


_SCALAR, _STRING, _CONTAINER, _MAP, _REFUSED = range(5)
_HOLDING: Final = frozenset({_CONTAINER, _MAP})
_CHILDREN: Final = (0, 0, 1, 2, 0)
"""Values in one item of each kind."""

_VALUE: Final = (_SCALAR, 0, 0)
_NOT_TAKEN: Final = (_REFUSED, 0, 0)
_HEADS: Final = (
    *[_VALUE] * 0x80,  # a small number
    *[(_MAP, 0, count) for count in range(16)],
    *[(_CONTAINER, 0, count) for count in range(16)],
    *[(_STRING, 0, count) for count in range(32)],
    *(_VALUE, _NOT_TAKEN, _VALUE, _VALUE),  # nil, never used, false, true
    *[(_STRING, size, 0) for size in (1, 2, 4)],  # bytes
    *[_NOT_TAKEN] * 3,  # extensions
    *[(_SCALAR, 0, size) for size in (4, 8, 1, 2, 4, 8, 1, 2, 4, 8)],  # floats and numbers
    *[_NOT_TAKEN] * 5,  # extensions
    *[(_STRING, size, 0) for size in (1, 2, 4)],
    *[(_CONTAINER, size, 0) for size in (2, 4)],
    *[(_MAP, size, 0) for size in (2, 4)],
    *[_VALUE] * 0x20,  # a small number below 0
)
"""MessagePack's formats by their first byte: kind, bytes of length that follow, and the length where none follow."""


# ---- writing --------------------------------------------------------------------------------------


def pack(value: object) -> bytes:
    """Return the bytes of a value; ours become maps of all their fields."""
    try:
        packed: bytes = msgpack.packb(value, default=_fields_of)
    except UnicodeEncodeError:  # the name of a file that is no UTF-8
        packed = msgpack.packb(value, default=_fields_of, unicode_errors="backslashreplace")
    return packed


def pack_lean(value: object) -> bytes:
    """Return the bytes of a value; ours become maps without the fields that are at their defaults."""
    try:
        return _LEAN.encode(value)
    except UnicodeEncodeError:
        packed: bytes = msgpack.packb(to_plain(value), unicode_errors="backslashreplace")
        return packed


def unpack(kind: type[T], packed: bytes) -> T:
    """Return the value of a type that bytes describe; what they leave out is at its default. Raises `PlainError`."""
    return _read(packed, type=kind)


def _fields_of(value: object) -> object:
    if isinstance(value, Struct):
        return value.all_fields()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, frozenset):
        return sorted(value)
    msg = f"cannot pack a {type(value).__name__}"
    raise TypeError(msg)


def pack_array(items: Sequence[bytes]) -> bytes:
    """Return an array made of values that are packed already."""
    header: bytes = msgpack.Packer().pack_array_header(len(items))
    return b"".join((header, *items))


def pack_map(items: Mapping[str, bytes]) -> bytes:
    """Return a map whose values are packed already."""
    header: bytes = msgpack.Packer().pack_map_header(len(items))
    parts = [header]
    for key, value in items.items():
        parts += pack(key), value
    return b"".join(parts)


def encode_request(msgid: int, method: str, params: Mapping[str, object]) -> bytes:
    """Return a request's bytes."""
    return pack([0, msgid, method, [params] if params else []])


def encode_result(msgid: int, packed: bytes) -> bytes:
    """Return a response with a result that is packed already."""
    return b"".join((b"\x94\x01", pack(msgid), b"\xc0", packed))


def encode_error(msgid: int, code: str, message: str, details: Mapping[str, object]) -> bytes:
    """Return a response that says why there is no result."""
    return pack([1, msgid, [code, message, details], None])


def encode_notification(method: str, params: Mapping[str, object]) -> bytes:
    """Return a notification's bytes."""
    return pack([2, method, [params]])


# ---- reading answers ------------------------------------------------------------------------------


_SHORT_ARRAYS: Final = frozenset(range(0x90, 0xA0))


class ClientDecoder:
    """Cuts a manager's bytes into responses and notifications.

    msgpack finds where a message and a result end, which costs little; a result is read only when somebody asks
    for it.
    """

    def __init__(self) -> None:
        self._ends = msgpack.Unpacker(max_buffer_size=MAX_REPLY_BYTES)
        self._buffer = bytearray()
        self._taken = 0
        """So many bytes of the stream have gone from the buffer."""

    def messages(self, data: bytes) -> list[Response | Notification]:
        """Return the messages that `data` completes. Raises `ProtocolError` on anything else."""
        found = []
        try:
            self._ends.feed(data)
            self._buffer += data
            while self._skip():
                end = self._ends.tell() - self._taken
                message = bytes(memoryview(self._buffer)[:end])
                del self._buffer[:end]
                self._taken += end
                found.append(_message_of(message))
        except (ValueError, RecursionError, msgpack.UnpackException, msgpack.BufferFull) as error:
            raise _unreadable(error) from error
        return found

    def _skip(self) -> bool:
        """Go over one message; False when it is not all there."""
        try:
            self._ends.skip()
        except msgpack.OutOfData:
            return False
        return True


def _message_of(message: bytes) -> Response | Notification:
    parts = msgpack.Unpacker(strict_map_key=False, max_buffer_size=MAX_REPLY_BYTES)
    parts.feed(message)
    size = parts.read_array_header() if message[0] in _SHORT_ARRAYS else 0
    match [parts.unpack() for _ in range(min(size, 3))]:
        case [1, int(msgid), None] if size == 4:
            return Response(msgid, None, message[parts.tell() :])
        case [1, int(msgid), [str(code), str(text), *rest]] if size == 4:
            details = rest[0] if rest and isinstance(rest[0], dict) else {}
            return Response(msgid, (code, text, details))
        case [2, str(method), [dict(params)]] if size == 3:
            return Notification(method, cast("dict[str, object]", params))
        case _:
            msg = f"an answer is neither a response nor a notification: {_read(message)!r:.80}"
            raise ProtocolError(msg)


def _unreadable(error: Exception) -> ProtocolError:
    return ProtocolError(f"cannot read an answer: {type(error).__name__} {error}")
