"""The machine of a history: the fake kernel, with faults of its own and a witness of all that happens to processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reconciler.model.socket import AS_MADE
from tests.contract.fake_kernel import FakeKernel, Output, Process, Replaced, Socket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from reconciler.keeper.kernel import Adopted, Child, HeldSocket
    from reconciler.model.process import Exit, Launch, ProcessId, Sink
    from reconciler.model.socket import FileOwner, SocketTemplate


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
        self.unkillable_ns: Callable[[Process], int] = lambda _process: 0
        """How long KILL takes to end a process: one in uninterruptible sleep dies when it wakes."""
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

    def bind(self, template: SocketTemplate, owner: FileOwner = AS_MADE) -> HeldSocket:
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

    def start_controller(self, *, last_good: bool) -> int:
        self.controllers += 1
        return super().start_controller(last_good=last_good)

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
