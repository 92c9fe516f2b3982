"""What the bytes of an answer come to, wherever they are cut."""

from __future__ import annotations

import pytest

from reconciler.controller.probes.http import MAX_ANSWER_BYTES, Outcome, outcome_of, request_of
from reconciler.model.probe import HttpTarget

PLACE = HttpTarget("127.0.0.1", 8000, "/healthz")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
WHAT = "http 127.0.0.1:8000/healthz"


@pytest.mark.parametrize(
    ("answer", "passed", "says"),
    [
        (OK, True, "answers 200"),
        (b"HTTP/1.0 302 Found\r\nLocation: /x\r\n\r\n", True, "answers 302"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", False, "answers 404 Not Found"),
        (b"HTTP/1.1 503 Busy\r\n\r\n\ndatabase away\nmore", False, "answers 503 Busy: database away"),
        (b"HTTP/1.1 500\r\n\r\n", False, "answers 500"),
        (b"HTTP/1.1 503 Busy\r\n\r\nBusy", False, "answers 503 Busy"),
        (b"HTTP/1.1 503 X\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbusy\r\n", False, "answers 503 X: busy"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, True, "answers 200"),
        (b"HTTP/1.1 200 OK\n\nok", True, "answers 200"),
        (b"SSH-2.0-OpenSSH_9\r\n", False, "answers no HTTP: 'SSH-2.0-OpenSSH_9'"),
        (b"HTTP/1.1 999 X\r\n\r\n", False, "answers no HTTP: 'HTTP/1.1 999 X'"),
        (b"", False, "closes the connection without an answer"),
        (b"HTTP/1.1 500 a\x1b[2J\r\n\r\n" + b"\x00" * 9 + "é".encode(), False, "answers 500 a [2J: é"),
    ],
)  # fmt: skip
def test_an_answer_is_understood(answer: bytes, passed: bool, says: str) -> None:
    assert outcome_of(PLACE, answer, is_all=True) == Outcome(passed, f"{WHAT} {says}")


def test_an_answer_is_read_to_its_end_where_its_head_says_how_long_it_is() -> None:
    for length in range(len(OK)):
        assert outcome_of(PLACE, OK[:length], is_all=False) is None
    assert outcome_of(PLACE, OK, is_all=False) == Outcome(True, f"{WHAT} answers 200")
    assert outcome_of(PLACE, b"HTTP/1.1 204 None\r\n\r\n", is_all=False) is not None
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"
    assert outcome_of(PLACE, chunked, is_all=False) is None
    assert outcome_of(PLACE, chunked + b"0\r\n\r\n", is_all=False) is not None


def test_an_answer_without_an_end_is_read_so_far_and_no_further() -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\n"
    assert outcome_of(PLACE, endless + b"x" * 100, is_all=False) is None
    assert outcome_of(PLACE, endless + b"x" * MAX_ANSWER_BYTES, is_all=False) is not None
    assert outcome_of(PLACE, b"x" * MAX_ANSWER_BYTES, is_all=False) is not None


def test_a_status_passes_by_the_ranges_of_the_spec() -> None:
    target = HttpTarget("::1", 80, "/", ((200, 299), (401, 401)))
    found = [
        outcome_of(target, b"HTTP/1.1 %d X\r\n\r\n" % code, is_all=True) for code in (204, 302, 401)
    ]
    assert [each and each.passed for each in found] == [True, False, True]


def test_a_request_says_who_asks_and_takes_the_headers_of_the_spec() -> None:
    target = HttpTarget("::1", 8000, "/x?y", headers={"host": "shop.example", "X-Probe": "1"})
    first, *headers = request_of(target).decode().split("\r\n")
    assert first == "GET /x?y HTTP/1.1"
    assert [each for each in headers if not each.startswith("User-Agent: reconcile/")] == [
        "Accept: */*", "host: shop.example", "X-Probe: 1", "Connection: close", "", "",
    ]  # fmt: skip
    assert b"\r\nHost: 127.0.0.1:8000\r\n" in request_of(PLACE)
