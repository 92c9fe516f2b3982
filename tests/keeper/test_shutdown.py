"""An end comes to its end whatever the controller does; in virtual time."""

from __future__ import annotations

from reconciler.model.action import ShutDown, Spawn
from reconciler.model.observation import SignalReceived
from reconciler.model.process import Exit, Launch, ProcessId
from reconciler.wire.link import encode
from tests.contract.fake_kernel import Program
from tests.keeper.test_liveness import Bench, S

WEB = ProcessId("web", 1)


def stopping(grace_ns: int, asked: ShutDown | None = None) -> Bench:
    """Return a keeper that was told to stop, by a signal or its controller, while something heeds KILL only."""
    it = Bench()
    it.kernel.script = lambda *_: Program(ignores=frozenset({"TERM"}))
    it.pass_time(S)
    launch = Launch(("web",), stop_timeout_ns=grace_ns)
    it.kernel.feed(encode(Spawn(WEB, launch)))
    it.pass_time(2 * S)
    if asked is not None:
        it.kernel.feed(encode(asked))
    else:
        it.kernel.tell("stop")
    return it


def ended_after(it: Bench) -> int:
    """Let time pass until the keeper has ended, and return how long it took, in seconds."""
    begun = it.kernel.now
    while it.keeper.exit_code is None:
        assert it.kernel.now < begun + 100 * S, "it never ends"
        it.pass_time(it.kernel.now + S)
    return (it.kernel.now - begun) // S


def test_a_controller_that_read_the_order_and_fell_silent_does_not_hold_up_the_end() -> None:
    it = stopping(grace_ns=5 * S)
    it.answers = False
    assert 5 + 5 <= ended_after(it) <= 5 + 5 + 5
    assert it.kernel.alive() == []


def test_one_that_falls_silent_later_does_not_either() -> None:
    it = stopping(grace_ns=30 * S)
    it.pass_time(20 * S)
    assert it.kernel.alive(WEB)
    it.answers = False
    assert 30 <= ended_after(it) <= 30 + 15


def test_one_that_waits_for_a_grace_period_and_says_so_is_given_the_time() -> None:
    it = stopping(grace_ns=60 * S)
    it.pass_time(90 * S)
    assert it.keeper.exit_code is None
    assert it.kernel.alive(WEB)


def test_a_controller_that_answers_and_stops_nothing_does_not_hold_up_the_end() -> None:
    it = stopping(grace_ns=10 * S)
    assert 10 + 30 <= ended_after(it) <= 10 + 30 + 10 + 10
    assert it.kernel.alive() == []


def test_an_end_that_a_controller_has_begun_goes_on_under_the_next_one_and_keeps_its_code() -> None:
    it = stopping(grace_ns=60 * S, asked=ShutDown(7))
    it.pass_time(3 * S)
    assert it.signals == []
    it.kernel.end_controller()
    it.pass_time(10 * S)
    assert it.signals == [SignalReceived("stop", 7)]
    it.kernel.tell("stop")  # the first signal asks for what goes on already
    it.pass_time(20 * S)
    assert it.kernel.alive(WEB)
    it.kernel.tell("stop")
    assert ended_after(it) < 20
    assert it.keeper.exit_code == 7


def test_one_under_which_one_after_the_other_ends_is_given_the_time() -> None:
    it = stopping(grace_ns=10 * S)
    for slot in range(2, 6):
        it.kernel.feed(encode(Spawn(ProcessId("web", slot), Launch(("web",)))))
    for slot in range(2, 6):
        it.pass_time(it.kernel.now + 30 * S)
        (process,) = it.kernel.alive(ProcessId("web", slot))
        it.kernel.end(process.pid, Exit(0))
    it.pass_time(it.kernel.now + 30 * S)
    assert it.keeper.exit_code is None
    assert it.kernel.alive(WEB)
