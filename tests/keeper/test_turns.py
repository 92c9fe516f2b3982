"""Work is done in turns: what one wants never holds up all others; in virtual time."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from reconciler.keeper.keeper import TURN_NS, Keeper
from reconciler.keeper.kernel import Child
from reconciler.keeper.processes import DRAIN_TURN_NS
from reconciler.model.action import Spawn
from reconciler.model.observation import KeeperIntroduced
from reconciler.model.process import Exited, Launch, ProcessId
from reconciler.sockets.bound import BoundSocket
from reconciler.wire.link import encode
from tests.contract import fake_kernel
from tests.contract.fake_kernel import FakeKernel, Program

SPAWN_NS = 1_000_000
READ_NS = 500_000
COUNT = 200


class Kernel(FakeKernel):
    """The fake one, on which a start takes its time."""

    def spawn(
        self, id: ProcessId, incarnation: int, launch: Launch, sockets: Mapping[str, BoundSocket]
    ) -> Child:
        self.now += SPAWN_NS
        return super().spawn(id, incarnation, launch, sockets)


def test_what_a_dead_controller_still_had_said_is_carried_out_in_turns() -> None:
    kernel = Kernel(pids=COUNT + 10)
    keeper = Keeper(kernel, KeeperIntroduced("keeper", "boot", 1, 0, "session"))
    keeper.step()
    first = kernel.controller_pid
    for slot in range(1, COUNT + 1):
        kernel.feed(encode(Spawn(ProcessId("web", slot), Launch(("web",)))))
    kernel.end_controller()
    most = 0
    while len(kernel.spawned) < COUNT:
        before = len(kernel.spawned)
        due = keeper.step()
        most = max(most, len(kernel.spawned) - before)
        if len(kernel.spawned) < COUNT:
            assert due == kernel.now, "the rest is due at once"
            assert kernel.controller_pid is None, "the next one must find all that was said done"
    assert most <= TURN_NS // SPAWN_NS + 1
    keeper.step()
    assert kernel.controller_pid not in {None, first}


def test_the_last_output_of_many_is_read_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = FakeKernel(pids=COUNT + 10, script=lambda *_: Program(lives_ns=1, output=b"x\n"))
    keeper = Keeper(kernel, KeeperIntroduced("keeper", "boot", 1, 0, "session"))
    keeper.step()
    for slot in range(1, COUNT + 1):
        kernel.feed(encode(Spawn(ProcessId("web", slot), Launch(("web",)))))
        keeper.step()
    real = fake_kernel.Output.drained

    def slow(self: fake_kernel.Output) -> bool:
        self.kernel.now += READ_NS
        return real(self)

    monkeypatch.setattr(fake_kernel.Output, "drained", slow)
    kernel.advance(kernel.now + 1)
    most = told = 0
    while told < COUNT:
        began = kernel.now
        due = keeper.step()
        most = max(most, kernel.now - began)
        told = sum(isinstance(p.record.phase, Exited) for p in keeper.processes.by_id.values())
        if told < COUNT:
            assert due is not None
            assert due <= kernel.now, "the rest is due at once"
    assert most <= DRAIN_TURN_NS + READ_NS
