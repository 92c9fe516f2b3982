"""What must go on whatever happens: sockets, neighbours, revisions; and that nothing is held for nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.model.units import SECOND_NS as S
from tests.sim.machine import OTHER

if TYPE_CHECKING:
    from reconciler.model.process import ProcessId
    from tests.contract.fake_kernel import Process, Socket
    from tests.sim.checkers.facts import Facts


class Serving:
    """I7, I10, I12, I15, I19."""

    def __init__(self, facts: Facts) -> None:
        self.facts, self.world, self.kernel = facts, facts.world, facts.kernel
        self.bystanders: dict[ProcessId, Process] = {}
        self.was_open = False
        self.held: list[Socket] = []
        """What the keeper had open last."""
        self.wanted: str | None = None
        self.wanted_since_ns = 0
        self.socket: object = None
        self.revision = 0
        self.deaf_since_ns: dict[int, int] = {}
        self.world.on_instant.append(self.instant)
        self.world.on_keeper_death.append(self.keeper_died)
        self.kernel.on_born.append(self.born)

    def forget(self) -> None:
        """The machine starts anew: who lived is dead, what was open is closed."""
        self.bystanders, self.socket, self.was_open = {}, None, False

    def keeper_died(self) -> None:
        """What nobody else holds open is closed with the keeper; what a process uses is taken back."""
        open_ = {id(each) for sockets in self.kernel.bound.values() for each in sockets}
        self.socket = self.socket if id(self.socket) in open_ else None
        self.was_open = any(id(each) in open_ for each in self.held)

    def born(self, process: Process) -> None:
        if process.id.owner == "bystander":
            again = process.id in self.bystanders and not self.world.journal_fails
            assert not again, f"{process.id} is started again"
            self.bystanders[process.id] = process

    def instant(self) -> None:
        if not self.world.ending and not self.world.journal_fails:
            self._socket_stays()
            self._bystanders_live_on()
            self._own_sockets_are_served()
        self._revision_goes_on()
        if self.facts.changed(self):
            self._handles_are_bounded()

    def _socket_stays(self) -> None:
        """I12: a socket that stays in the spec stays bound, and stays the same."""
        spec = self.world.disk.spec.sockets.get("http")
        wanted = None if spec is None else str(spec.listen)
        held = [each for each in self.kernel.held() if not each.template.reuseport]
        if held or self.world.keeper_lives:
            self.held = held
        socket = next((each for each in held if each.listen == wanted), None)
        if self.wanted != wanted:
            self.wanted_since_ns = self.kernel.now
        if not self.world.keeper_lives:
            return
        assert held or not self.was_open, "nothing listens any more, whatever the address"
        self.was_open = bool(held)
        # Who is stopped between two edits of the port takes back the first one late.
        stops = {"controller stalls", "keeper stalls"} & self.world.faults.strength.keys()
        stalls = 65 * S if stops else 0
        settled = self.kernel.now - self.wanted_since_ns > self.world.leeway_ns + stalls
        if settled and self.socket is not None:
            assert socket is not None, f"the socket at {wanted} is closed"
            assert socket is self.socket, f"the socket at {wanted} was bound anew"
        self.wanted, self.socket = wanted, socket

    def _own_sockets_are_served(self) -> None:
        """I19: a socket of one slot listens only while its process lives, or is about to start."""
        used = {id(each) for process in self.kernel.alive() for each in process.sockets}
        deaf = {
            id(each): each
            for each in self.kernel.held()
            if each.template.reuseport and id(each) not in used
        }
        since = {key: self.deaf_since_ns.get(key, self.kernel.now) for key in deaf}
        self.deaf_since_ns = since
        if not self.world.keeper_lives or self.world.controller is None:
            self.deaf_since_ns = {}
            return
        stalls = 65 * S if "controller stalls" in self.world.faults.strength else 0
        for key, at_ns in since.items():
            waits = self.kernel.now - max(at_ns, self.world.disturbed_ns)
            assert waits <= self.world.leeway_ns + stalls, (
                f"{deaf[key].listen} listens for {waits / S} s and no process accepts"
            )

    def _bystanders_live_on(self) -> None:
        """I10: who was never edited, commanded or broken keeps its process through everything."""
        for id, process in self.bystanders.items():
            there = self.kernel.processes.get(process.pid)
            assert there is process and process.ended is None, f"{id} lost its process"

    def _revision_goes_on(self) -> None:
        """I7: no controller works by an older revision than one before it did."""
        if self.world.controller is not None:
            revision = self.world.controller.core.revision
            assert revision == 0 or revision >= self.revision, f"{self.revision} then {revision}"
            assert revision <= self.world.disk.revision, f"{revision} is on no disk"
            self.revision = max(revision, self.revision)

    def _taken_for_others(self) -> int:
        """Return how many dead processes may be held to have left what has no sign of whose it is."""
        if not any(map(self.facts.may_be_nobodys, self.kernel.processes.values())):
            return 0
        return sum(bool(each.survivors) for each in self.world.keeper.processes.by_id.values())

    def _handles_are_bounded(self) -> None:
        """I15: an output is open only while something lives that may write, a socket for each in the spec."""
        there = self.kernel.processes.values()
        ours = (p for p in there if p.pid != self.kernel.controller_pid and p.id != OTHER)
        writers = {(p.id, p.incarnation) for p in ours}
        if not self.world.keeper_lives:
            return
        outputs = self.kernel.open_outputs()
        # The death of an adopted process is told in the next step; it is no zombie of the keeper's.
        most = len(writers) + self.kernel.untold_deaths() + self.kernel.lingering_outputs()
        most += self._taken_for_others()
        assert outputs <= most, f"{outputs} outputs are open for {len(writers)} writers"
        sockets = [each for each in self.kernel.held() if not each.template.reuseport]
        assert len(sockets) <= 1, f"{len(sockets)} sockets are open"
