"""Work is done in turns: what one wants never holds up all others; in virtual time."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.keeper.keeper import TURN_NS, Keeper
from reconciler.keeper.kernel import Child, HeldSocket
from reconciler.model.action import Spawn
from reconciler.model.event import KeeperIntroduced
from reconciler.model.process import Launch, ProcessId
from reconciler.wire.link import encode
from tests.contract.fake_kernel import FakeKernel

SPAWN_NS = 1_000_000
COUNT = 200


class Kernel(FakeKernel):
    """The fake one, on which a start takes its time."""

    def spawn(
        self, id: ProcessId, incarnation: int, launch: Launch, sockets: Mapping[str, HeldSocket]
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
