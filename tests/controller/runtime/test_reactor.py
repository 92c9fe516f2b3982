"""Claims about the reactor: who is called, in which order, and what a call that fails costs."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

from reconciler.controller.runtime import clock
from reconciler.controller.runtime.lanes import Lanes
from reconciler.controller.runtime.reactor import READ, REST_NS, TURN_NS, Reactor
from reconciler.controller.specs.loader import Loader
from reconciler.model.units import DAY_NS

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
from conftest import raised


def test_the_reactor_calls_what_is_ready_and_what_is_due() -> None:
    reactor, called = Reactor(raised), []
    reader, writer = os.pipe()
    reactor.watch(reader, READ, lambda _: called.append(os.read(reader, 9)))
    os.write(writer, b"x")
    reactor.wait(None)
    reactor.at("a", clock.now_ns() + 1_000_000, lambda: called.append("a"))
    reactor.at("b", clock.now_ns() - 1, lambda: called.append("b"))
    reactor.at("b", None, lambda: None)
    while "a" not in called:
        reactor.wait(None)
    assert called == [b"x", "a"]
    for descriptor in (reader, writer):
        os.close(descriptor)


def test_a_sleep_may_be_longer_than_epoll_can_count() -> None:
    reactor, called = Reactor(raised), []
    reader, writer = os.pipe()
    reactor.watch(reader, READ, lambda _: called.append(os.read(reader, 9)))
    os.write(writer, b"x")
    reactor.wait(clock.now_ns() + 3650 * DAY_NS)
    assert called == [b"x"]
    for descriptor in (reader, writer):
        os.close(descriptor)


def test_what_is_put_off_comes_with_the_next_wait() -> None:
    reactor, called = Reactor(raised), []
    reactor.soon(lambda: reactor.soon(lambda: called.append(2)))
    reactor.wait(None)
    assert called == []
    reactor.wait(None)
    assert called == [2]


def test_work_that_takes_long_lets_others_have_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_ns = [clock.now_ns()]
    monkeypatch.setattr(clock, "now_ns", lambda: now_ns[0])
    reactor, called = Reactor(raised), []
    reader, writer = os.pipe()

    def work(number: int) -> None:
        called.append(number)
        now_ns[0] += TURN_NS // 3 + 1

    for number in range(7):
        reactor.soon(lambda number=number: work(number))  # type: ignore[misc]  # bound now, not later
    reactor.watch(reader, READ, lambda _: called.append(os.read(reader, 1)))
    os.write(writer, b"ab")
    for _ in range(3):
        reactor.wait(None)
    assert called == [0, 1, 2, b"a", 3, 4, 5, b"b", 6]
    for descriptor in (reader, writer):
        os.close(descriptor)


def test_a_descriptor_that_was_closed_in_the_same_round_is_not_called() -> None:
    reactor, called = Reactor(raised), list[str]()
    (first, first_end), (second, second_end) = os.pipe(), os.pipe()

    def close(of: int) -> None:
        called.append("closes")
        reactor.ignore(of)
        os.close(of)

    # Whichever of the two is called first closes the other one.
    reactor.watch(first, READ, lambda _: close(second))
    reactor.watch(second, READ, lambda _: close(first))
    for end in (first_end, second_end):
        os.write(end, b"x")
    reactor.wait(None)
    assert called == ["closes"]


def test_a_number_that_came_back_in_the_same_round_is_another_descriptor() -> None:
    reactor, called = Reactor(raised), list[str]()
    wake = os.eventfd(1, os.EFD_NONBLOCK)
    old, old_end = os.pipe()
    os.write(old_end, b"x")

    def woken(_: int) -> None:
        os.eventfd_read(wake)
        reactor.ignore(old)
        os.close(old)
        new, new_end = os.pipe()
        assert old in {new, new_end}
        reactor.watch(old, READ, ready)

    def ready(_: int) -> None:
        called.append("ready")

    reactor.watch(wake, READ, woken)
    reactor.watch(old, READ, ready)
    reactor.wait(None)
    # Had the older descriptor had its turn first, it would have been called rightly.
    assert called in ([], ["ready"])
    called.clear()
    reactor.wait(clock.now_ns())
    assert called == []


def test_an_edit_while_the_loader_answers_drops_the_answer(tmp_path: Path) -> None:
    spec = tmp_path / "a.yaml"
    spec.write_text("watchers: {a: {cmd: 'true'}}\n")
    reactor, readings = Reactor(raised), list[object]()
    lanes = Lanes(reactor, lambda _, error: str(error))
    wake = os.eventfd(0, os.EFD_NONBLOCK)
    loaders = [Loader(reactor, lanes)]

    def woken(_: int) -> None:
        os.eventfd_read(wake)
        loaders[-1].cancel()
        loaders.append(Loader(reactor, lanes))

    reactor.watch(wake, READ, woken)  # before the pipes of the loader, as it really is
    loaders[0].ask((str(spec),), readings.append)
    child = loaders[0]._child
    child._send()
    assert child._process.stdout is not None
    poll = select.poll()
    poll.register(child._process.stdout.fileno(), select.POLLIN)
    assert poll.poll(20_000)  # the loader has answered
    os.eventfd_write(wake, 1)
    reactor.wait(clock.now_ns() + 10**9)
    loaders[1].ask((str(spec),), readings.append)
    while not readings:
        reactor.wait(None)
    assert len(readings) == 1


def test_a_call_that_fails_is_reported_and_costs_no_other_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_ns = [clock.now_ns()]
    monkeypatch.setattr(clock, "now_ns", lambda: now_ns[0])
    reported, called = list[str](), list[str]()
    reactor = Reactor(lambda where, error: reported.append(f"{where}: {error!r}"))
    bad, good = (os.eventfd(1, os.EFD_NONBLOCK) for _ in range(2))

    def fails(*_: object) -> None:
        raise KeyError(1)

    def works(*_: object) -> None:
        called.append("works")

    reactor.watch(bad, READ, fails)
    reactor.watch(good, READ, works)
    for key in (fails, works):
        reactor.soon(key)
        reactor.at(key, now_ns[0], key)
    reactor.wait(None)
    assert called == ["works"] * 3
    assert len(reported) == 3
    assert all(each.startswith("calling test_a_call_that_fails") for each in reported)
    reactor.wait(None)  # it rests: it would fail without end
    assert len(reported) == 3
    now_ns[0] += REST_NS
    reactor.wait(None)
    reactor.wait(None)
    assert len(reported) == 4
