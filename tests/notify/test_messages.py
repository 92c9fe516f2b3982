"""What datagrams of real servers say, and that nothing that anybody sends makes trouble."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.process import Notified
from reconciler.notify.messages import (
    MAX_EXTENSION_NS,
    MAX_STATUS,
    Message,
    after,
    is_milestone,
    parse,
)

OWN = 4711
SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"READY=1", Message(ready=True)),
        (b"STATUS=Ready to accept connections\n", Message(status="Ready to accept connections")),
        (b"READY=1\nSTATUS=\n", Message(ready=True, status="")),
        (b"STATUS=uWSGI is ready\nREADY=1", Message(status="uWSGI is ready", ready=True)),
        (b"READY=1\nMAINPID=4711", Message(ready=True, main_pid=OWN)),
        (b"RELOADING=1\nMONOTONIC_USEC=1", Message(reloading=True)),
        (b"STOPPING=1\nSTATUS=x\nEXTEND_TIMEOUT_USEC=30000000",
         Message(stopping=True, status="x", extension_ns=30 * SECOND)),
        (b"WATCHDOG=1", Message(pings=True)),
        (b"WATCHDOG=trigger", Message(fails=True)),
        (b"WATCHDOG_USEC=20000000", Message(watchdog_ns=20 * SECOND)),
        (b"BARRIER=1", Message(barrier=True)),
        (b"STATUS=one\nSTATUS=two", Message(status="two")),
        (b"STATUS=a=b", Message(status="a=b")),
        # What is not said exactly is not said.
        (b"READY=0", Message()),
        (b"READY=1 ", Message()),
        (b"ready=1", Message()),
        (b" READY=1", Message()),
        (b"READY=1\r\n", Message()),
        (b"READY", Message()),
        (b"MAINPID=0\nWATCHDOG_USEC=-1\nEXTEND_TIMEOUT_USEC=soon", Message()),
        (b"MAINPID=99999999999", Message()),
        (b"ERRNO=22\nBUSERROR=x\nFDSTORE=1\nX_OWN=1\n\n=\n", Message()),
        (b"", Message()),
    ],
)  # fmt: skip
def test_a_datagram_says_what_its_lines_say_exactly(data: bytes, said: Message) -> None:
    assert parse(data) == said


def test_a_status_is_bounded_and_moves_no_cursor() -> None:
    text = "ä\x1b[2J\u202eevil\tend\0" + "x" * 1000
    status = parse(f"STATUS={text}".encode() + b"\xff").status
    assert status is not None
    assert status.startswith("ä\ufffd[2J\ufffdevil end\ufffdxxx")
    assert len(status) == MAX_STATUS


NAMES = (
    "READY",
    "MAINPID",
    "WATCHDOG_USEC",
    "EXTEND_TIMEOUT_USEC",
    "STATUS",
    "WATCHDOG",
    "RELOADING",
)
VALUES = st.one_of(st.binary(max_size=300), st.integers().map(lambda n: b"%d" % n), st.just(b"1"))
LINES = st.one_of(
    st.binary(max_size=40),
    st.tuples(st.sampled_from(NAMES), VALUES).map(lambda pair: pair[0].encode() + b"=" + pair[1]),
)


@given(st.lists(st.lists(LINES, max_size=8).map(b"\n".join), max_size=8))
def test_whatever_is_said_can_be_stored_and_shown(datagrams: list[bytes]) -> None:
    known = Notified()
    for second, data in enumerate(datagrams, start=1):
        before, known = known, after(known, parse(data), OWN, second * SECOND)
        assert known.is_heard
        assert known.status.isprintable()
        assert len(known.status) <= MAX_STATUS
        assert 0 <= known.main_pid <= 2**22
        assert known.main_pid != OWN
        assert known.extended_until_ns is None or (
            known.extended_until_ns <= second * SECOND + MAX_EXTENSION_NS
        )
        # What has happened in a life has happened.
        for name in ("ready_at_ns", "stopping_at_ns", "late_at_ns"):
            assert getattr(before, name) in {None, getattr(known, name)}
        for codec in (msgspec.msgpack, msgspec.json):
            assert codec.decode(codec.encode(known), type=Notified) == known


def said(*texts: str) -> Notified:
    """Return what is known of a process that has said these, one second after the other."""
    known = Notified()
    for second, text in enumerate(texts, start=1):
        known = after(known, parse(text.encode()), OWN, second * SECOND)
    return known


def test_who_is_ready_says_so_as_often_as_it_likes() -> None:
    assert said("READY=1", "READY=1", "READY=1\nMAINPID=4711") == said("READY=1")


def test_reloading_means_nothing_before_it_is_ready() -> None:
    assert said("RELOADING=1", "READY=1") == Notified(is_heard=True, ready_at_ns=2 * SECOND)


def test_a_process_that_reloads_stays_ready_whatever_comes_of_it() -> None:
    reloading = said("READY=1", "RELOADING=1", "RELOADING=1", "STATUS=address already in use")
    assert reloading == Notified(
        is_heard=True,
        ready_at_ns=SECOND,
        reloading_at_ns=2 * SECOND,
        status="address already in use",
    )
    assert said("READY=1", "RELOADING=1", "READY=1") == said("READY=1")


def test_another_main_process_is_one_that_is_not_oneself() -> None:
    assert said("MAINPID=12").main_pid == 12
    assert said("MAINPID=12", "MAINPID=4711").main_pid == 0


def test_what_happens_once_in_a_life_is_a_milestone() -> None:
    once = ("READY=1", "STOPPING=1", "WATCHDOG=trigger", "anything at all")
    often = ("STATUS=x", "RELOADING=1", "MAINPID=12", "EXTEND_TIMEOUT_USEC=1", "WATCHDOG_USEC=1")
    for text in once:
        assert is_milestone(Notified(), said(text)), text
    for text in (*often, *once[:1], *once[3:]):
        assert not is_milestone(said("READY=1"), said("READY=1", text)), text
