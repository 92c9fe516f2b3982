"""The machine of a history: the fake kernel, with faults of its own and a witness of all that happens to processes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reconciler.model.process import ProcessId
from reconciler.model.socket import AS_MADE
from reconciler.spawn.launch_errors import LaunchFailed
from tests.contract.fake_kernel import INIT, FakeKernel, Output, Process, Program, Replaced, Socket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from reconciler.keeper.kernel import Adopted, Child
    from reconciler.model.process import Exit, Launch, Sink
    from reconciler.model.socket import FileOwner, SocketTemplate
    from reconciler.sockets.bound import BoundSocket
    from reconciler.system.facts import Died


OTHER = ProcessId("", 0)
"""Of a process that is none of ours."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A signal that reached a live process."""

    at_ns: int
    process: Process
    signal: str


@dataclass(frozen=True, slots=True)
class Death:
    """How a process really ended, whatever anybody was told."""

    at_ns: int
    process: Process
    exit: Exit


class KeeperDied(Exception):
    """The keeper was killed before or after one of its effects."""


class Machine(FakeKernel):
    """Kills what cannot be killed only later, loses its power, and writes down what it saw."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]  # the fields of FakeKernel
        self.deaths: list[Death] = []
        self.hits: list[Hit] = []
        self.controllers = 0
        self.boots = 1
        self.made: list[Output] = []
        self.keepers = 0
        self.on_born: list[Callable[[Process], None]] = []
        self.on_died: list[Callable[[Process], None]] = []
        self.unkillable_ns: Callable[[Process], int] = lambda _process: 0
        """How long KILL takes to end a process: one in uninterruptible sleep dies when it wakes."""
        self.other_lives_ns: Callable[[], int] = lambda: 0
        """Called when a number is free again: how long somebody else lives who takes the next one; 0: nobody does."""
        self.may_kill_keeper: Callable[[], None] = lambda: None
        """Called before and after each effect of the keeper. Raises `KeeperDied`."""

    def spawn(self, id: ProcessId, incarnation: int, launch: Launch, *rest: object) -> Child:
        self.may_kill_keeper()
        child = super().spawn(id, incarnation, launch, *rest)  # type: ignore[arg-type]
        self.made.append(self.outputs[child.pid])
        for check in self.on_born:
            check(self.processes[child.pid])
        self.may_kill_keeper()
        return child

    def signal_tree(self, group: int, roots: Iterable[int], signal: str) -> None:
        self.may_kill_keeper()
        super().signal_tree(group, roots, signal)
        self.may_kill_keeper()

    def bind(self, template: SocketTemplate, owner: FileOwner = AS_MADE) -> BoundSocket:
        self.may_kill_keeper()
        socket = super().bind(template, owner)
        self.may_kill_keeper()
        return socket

    def write_down(self) -> None:
        self.may_kill_keeper()
        super().write_down()
        self.may_kill_keeper()

    def send(self, data: bytes) -> int:
        self.may_kill_keeper()
        return super().send(data)

    def adopt(self, pid: int, born: int) -> Adopted:
        self.may_kill_keeper()
        return super().adopt(pid, born)

    def alive(self, id_: ProcessId | None = None) -> list[Process]:
        """Return what lives of ours, of one id or of all but the controller."""
        return [each for each in super().alive(id_) if each.id != OTHER]

    def reap(self) -> Died | None:
        died = super().reap()
        lives_ns = self.other_lives_ns() if died is not None else 0
        if lives_ns:
            with contextlib.suppress(LaunchFailed):
                self._start(OTHER, 0, Program(lives_ns, wipes=True), INIT)
        return died

    def reopen(self, id: ProcessId, stdout: Sink, stderr: Sink | None) -> Output:
        output = super().reopen(id, stdout, stderr)
        self.made.append(output)
        return output

    def replace_code(self, *what: object) -> None:
        self.may_kill_keeper()
        try:
            super().replace_code(*what)  # type: ignore[arg-type]
        except Replaced:
            self.made.clear()  # the new code has opened its own
            raise

    def end_keeper(self, *, controller_hangs: bool = False) -> None:
        super().end_keeper(controller_hangs=controller_hangs)
        self.made.clear()

    def open_outputs(self) -> int:
        """Return how many outputs nobody has closed yet."""
        self.made = [output for output in self.made if not output.closed]
        return len(self.made)

    def late_outputs(self) -> int:
        """Return how many outputs are open though their process is dead, as there is more to come."""
        return sum(not output.closed and not output.drained() for output in self.made)

    def lingering_outputs(self) -> int:
        """Return how many outputs are open of the dead of which there was more to come, whether it has or not."""
        lingering = (each for each in self.made if each.died_ns is not None)
        return sum(not each.closed and bool(each.program.drains_ns) for each in lingering)

    def held(self) -> list[Socket]:
        """Return the sockets that the keeper holds, not those that only a process still has."""
        return [each for there in self.bound.values() for each in there if not each.closed]

    def untold_deaths(self) -> int:
        """Return how many adopted processes are dead of which the keeper does not know yet."""
        return len(self._adopted_dead)

    def stamp(self) -> tuple[int, int, int]:
        """Return what is another value when a process was born, hit or has died."""
        return self._births, len(self.hits), len(self.deaths)

    def leaders(self) -> list[Process]:
        """Return the live processes that the keeper itself started, but for the controller."""
        return [p for p in self.processes.values() if p.leads and p.ended is None]

    def start_controller(self, *, quick_deaths: int) -> int:
        self.controllers += 1
        return super().start_controller(quick_deaths=quick_deaths)

    def pause(self, length_ns: int) -> None:
        """Stand still: the clock goes on and no process does, as when a virtual machine is halted."""
        self.now += length_ns
        for process in self.processes.values():
            process.due_ns = None if process.due_ns is None else process.due_ns + length_ns
            if process.executes_ns is not None:
                process.executes_ns += length_ns

    def lose_power(self) -> None:
        """Start again: nothing runs, nothing is bound, nobody was told anything."""
        self.boots += 1
        self.processes.clear()
        self.bound.clear()
        self.outputs.clear()
        self.made.clear()
        self.to_keeper.clear()
        self.to_controller.clear()
        self.controller_pid, self.link, self.control_open = None, "none", True
        self._told, self._died = [], True
        self._noted, self.journal = {}, {}  # that of another boot says nothing
        self.adopted.clear()
        self._adopted_dead.clear()

    def _hit(self, process: Process, signal: str) -> None:
        assert process.id != OTHER, f"{signal} hits {process.pid}, which is none of ours"
        if process.ended is None:
            self.hits.append(Hit(self.now, process, signal))
        if signal == "KILL" and process.ended is None and not process.dies_of:
            delay_ns = self.unkillable_ns(process)
            if delay_ns:
                process.dies_of, process.due_ns, process.stopped = (
                    "KILL",
                    self.now + delay_ns,
                    False,
                )
        if process.dies_of != "KILL":
            super()._hit(process, signal)

    def _die(self, process: Process, exit_: Exit) -> None:
        if process.ended is None:
            self.deaths.append(Death(self.now, process, exit_))
            super()._die(process, exit_)
            for tell in self.on_died:
                tell(process)
