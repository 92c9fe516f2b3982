"""Claims about the framing of the control protocol."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.wire.rpc import (
    MAX_CONTAINER_ITEMS,
    MAX_MESSAGE_ITEMS,
    MAX_NESTING,
    MAX_REQUEST_BYTES,
    MAX_STRING_BYTES,
    BadCall,
    Call,
    ClientDecoder,
    Notification,
    ProtocolError,
    RequestDecoder,
    Response,
    encode_error,
    encode_notification,
    encode_request,
    encode_result,
    pack,
    pack_array,
    pack_map,
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=300)
    | st.binary(max_size=300)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=40), inner, max_size=20)
    ),
    max_leaves=10,
)
calls = st.builds(
    Call,
    st.integers(0, 2**32 - 1),
    st.text(min_size=1, max_size=20),
    st.dictionaries(st.text(max_size=20), values, max_size=5),
)


def read(data: bytes) -> list[Call | BadCall]:
    decoder = RequestDecoder()
    decoder.feed(data)
    return rest_of(decoder)


def rest_of(decoder: RequestDecoder) -> list[Call | BadCall]:
    found = []
    while (call := decoder.next()) is not None:
        found.append(call)
    return found


def request(value: object) -> bytes:
    return bytes(msgpack.packb([0, 7, "m", [{"v": value}]]))


@given(st.lists(calls, max_size=4), st.lists(st.integers(0, 5000), max_size=8))
def test_any_split_of_the_bytes_gives_the_same_calls(sent: list[Call], cuts: list[int]) -> None:
    data = b"".join(encode_request(call.msgid, call.method, call.params) for call in sent)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    decoder = RequestDecoder()
    found = []
    for start, end in pairwise(places):
        decoder.feed(data[start:end])
        found += rest_of(decoder)
    assert found == sent
    assert not decoder.is_partial


@given(st.binary(max_size=2000))
def test_garbage_gives_calls_or_an_error_and_never_raises(data: bytes) -> None:
    found = read(data)
    assert all(isinstance(one, Call | BadCall) for one in found)
    fatal = [place for place, one in enumerate(found) if isinstance(one, BadCall) and one.fatal]
    assert fatal in ([], [len(found) - 1])


@given(calls, st.integers(0, 10_000), st.integers(0, 255))
def test_a_changed_byte_never_raises(call: Call, place: int, byte: int) -> None:
    data = bytearray(encode_request(call.msgid, call.method, call.params))
    data[place % len(data)] = byte
    read(bytes(data))


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (b"\xdd\xff\xff\xff\xff", "claims 4294967295 items"),
        (b"\xdf\xff\xff\xff\xff", "claims 4294967295 items"),
        (b"\xdb\xff\xff\xff\xff", "claims 4294967295 bytes"),
        (b"\xc6\x00\x10\x00\x00", "claims 1048576 bytes"),
        (b"\xc7\x01\x05", "extension"),
        (b"\xd4\x01\x05", "extension"),
        (b"\xc1", "extension"),
        (b"\x91" * 100_000, "nested deeper"),
    ],
)
def test_a_limit_is_refused_by_the_header_alone(head: bytes, told: str) -> None:
    (bad,) = read(head)
    assert isinstance(bad, BadCall)
    assert bad.fatal
    assert told in bad.message


def test_the_limits_themselves_are_allowed() -> None:
    nested: object = "x"
    for _ in range(MAX_NESTING - 3):  # the request, its list and its map are levels too
        nested = [nested]
    assert isinstance(read(request(nested))[0], Call)
    assert isinstance(read(request([nested]))[0], BadCall)
    assert isinstance(read(request([None] * MAX_CONTAINER_ITEMS))[0], Call)
    assert isinstance(read(request([None] * (MAX_CONTAINER_ITEMS + 1)))[0], BadCall)
    assert isinstance(read(request("x" * MAX_STRING_BYTES))[0], Call)
    assert isinstance(read(request("x" * (MAX_STRING_BYTES + 1)))[0], BadCall)


def test_a_message_of_many_small_values_is_refused() -> None:
    (bad,) = read(request([[None] * 1000] * (MAX_MESSAGE_ITEMS // 1000 + 1)))
    assert isinstance(bad, BadCall)
    assert "values" in bad.message


def test_a_message_beyond_the_size_limit_is_refused_before_it_is_complete() -> None:
    decoder = RequestDecoder()
    data = request(["x" * 200_000] * 8)
    for start in range(0, len(data), 65536):
        decoder.feed(data[start : start + 65536])
        found = decoder.next()
        if found is not None:
            break
    assert isinstance(found, BadCall)
    assert start <= MAX_REQUEST_BYTES
    assert not decoder.is_partial


@pytest.mark.parametrize(
    "message", [5, [], [0], [1, 1, None, None], ["a", 1, "m", []], {"a": 1}, [0, -1, "m", []]]
)
def test_what_is_no_request_ends_the_connection(message: object) -> None:
    (bad,) = read(msgpack.packb(message))
    assert isinstance(bad, BadCall)
    assert bad.fatal


@pytest.mark.parametrize("params", [[1], [{}, {}], {}, None, [[]]])
def test_unnamed_parameters_are_answered_and_the_connection_goes_on(params: object) -> None:
    bad, good = read(msgpack.packb([0, 3, "m", params]) + encode_request(4, "m", {}))
    assert isinstance(bad, BadCall)
    assert (bad.msgid, bad.fatal) == (3, False)
    assert good == Call(4, "m")


@pytest.mark.parametrize(
    "params",
    [
        b"\x82\xa1a\x01\xa1a\x02",
        b"\x82\xa15\x01\x05\x02",  # a number, and its digits
        b"\x81\xa1m\x82\xa1a\x01\xc4\x01a\x02",  # further inside, as text and as bin
    ],
)
def test_a_key_that_stands_twice_is_answered_and_the_connection_goes_on(params: bytes) -> None:
    bad, good = read(b"\x94\x00\x07\xa1m\x91" + params + encode_request(4, "m", {}))
    assert isinstance(bad, BadCall)
    assert (bad.msgid, bad.fatal, "twice" in bad.message) == (7, False, True)
    assert good == Call(4, "m")


@pytest.mark.parametrize(
    ("key", "text"), [(5, "5"), (1.5, "1.5"), (None, "None"), (b"names", "names"), (True, "True")]
)
def test_a_key_of_any_type_is_a_name_that_may_be_unknown(key: object, text: str) -> None:
    assert read(msgpack.packb([0, 1, "m", [{key: 1}]])) == [Call(1, "m", {text: 1})]


@pytest.mark.parametrize("params", [[], [1, 2], [{"a": 1}], {}, None, "x"])
@pytest.mark.parametrize("method", ["x", b"x"])
def test_a_notification_of_a_client_is_ignored(method: str | bytes, params: object) -> None:
    data = msgpack.packb([2, method, params]) + msgpack.packb([0, 1, b"hello", []])
    assert read(data) == [Call(1, "hello")]


def test_keys_may_be_bin_and_a_notification_is_ignored() -> None:
    data = msgpack.packb([2, "m", []]) + b"\x94\x00\x01\xa1m\x91\x81\xc4\x01a\x01"
    assert read(data) == [Call(1, "m", {"a": 1})]


def test_a_method_that_is_no_utf8_is_an_unknown_one() -> None:
    (call,) = read(b"\x94\x00\x01\xa2\xff\xfe\x90")
    assert isinstance(call, Call)
    assert (call.msgid, call.method) == (1, "\udcff\udcfe")
    assert encode_error(1, "unsupported", call.method, {})  # and it can be answered


@given(values, st.integers(1, 7))
def test_a_client_reads_what_the_server_writes(value: object, step: int) -> None:
    data = (
        encode_result(5, pack(value))
        + encode_error(6, "not_found", "no such watcher: wbe", {"hint": "web"})
        + encode_notification("event", {"stream": 1, "value": value})
    )
    decoder = ClientDecoder()
    found = [
        message
        for at in range(0, len(data), step)
        for message in decoder.messages(data[at : at + step])
    ]
    assert found == [
        Response(5, None, pack(value)),
        Response(6, ("not_found", "no such watcher: wbe", {"hint": "web"})),
        Notification("event", {"stream": 1, "value": value}),
    ]
    assert isinstance(found[0], Response)
    assert found[0].result == value


@given(st.binary(max_size=500))
def test_a_client_meets_garbage_with_one_error(data: bytes) -> None:
    for begun in (b"", b"\x94\x01\x05\xc0"):
        with suppress(ProtocolError):
            for message in ClientDecoder().messages(begun + data):
                assert not isinstance(message, Response) or message.result is not message


def test_packed_pieces_join_to_the_same_bytes() -> None:
    items = [{"name": f"w{n}"} for n in range(40)]
    joined = pack_map({"watchers": pack_array([pack(item) for item in items]), "n": pack(1)})
    assert joined == pack({"watchers": items, "n": 1})
