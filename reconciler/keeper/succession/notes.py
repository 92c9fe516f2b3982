"""What is noted of all that is held, for the next keeper: in the journal, or for our own new code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.model.process import Exited, ProcessId, ProcessRecord
from reconciler.model.socket import SocketRecord, SocketTemplate
from reconciler.model.value import Struct, replace
from reconciler.sockets.bound import Trace
from reconciler.system.facts import Died

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from reconciler.keeper.kernel import Kernel
    from reconciler.keeper.listeners import Listener
    from reconciler.keeper.records import Process
    from reconciler.keeper.supervisor import Change
    from reconciler.model.observation import KeeperIntroduced

KEEPER: Final = "keeper"
"""Under this name a keeper tells its own new code who it is."""
INCARNATIONS: Final = "incarnations"
"""Under this name the number of the last incarnation is written down."""
STRANGERS: Final = "strangers_by_pid"
"""Under this name the processes are written down that the keeper did not start; as a list they were "strangers"."""
OTHERS: Final = "others"
"""Under this name a keeper tells its own new code which of its children are nobody's remnant."""


class WrittenProcess(Struct, frozen=True):
    """A process as the next keeper is told of it."""

    record: ProcessRecord
    sockets: tuple[str, ...] = ()
    born: int = 0
    adopted: bool = False
    listens: tuple[SocketTemplate, ...] = ()
    died: Died | None = None
    """How it ended, while that waits for its last output and its record does not say so."""
    died_at_ns: int = 0

    @property
    def pid(self) -> int:
        """Return its pid, also of one that has ended; 0: it had none."""
        return getattr(self.record.phase, "pid", None) or 0


class WrittenSocket(Struct, frozen=True):
    """A socket as the next keeper is told of it."""

    record: SocketRecord
    template: SocketTemplate
    trace: Trace
    bound_at_ns: int = 0


class Notes:
    """What has changed since it was written down. `report` is given what the controller is told."""

    def __init__(
        self,
        kernel: Kernel,
        processes: Mapping[ProcessId, Process],
        listeners: Mapping[str, Listener],
        report: Callable[[Change], None],
    ) -> None:
        self._kernel = kernel
        self._processes, self._listeners = processes, listeners
        self._report = report
        self._unwritten: dict[ProcessId | str, None] = {}

    def changed(self, what: ProcessId | str) -> None:
        """Remember that a process or (by its name) a socket is no longer as it was written down."""
        self._unwritten[what] = None

    def tell(self, change: Change) -> None:
        """Tell the controller of a change, and remember it where it is one of a process or socket."""
        if isinstance(change, ProcessId | str):
            self.changed(change)
        self._report(change)

    def forget(self, id: ProcessId) -> None:
        """Let the next keeper not know of a process, though its record is still here."""
        self._kernel.note(f"process {id}", None)
        self._unwritten.pop(id, None)

    def write(self) -> None:
        """Write down all changes."""
        unwritten, self._unwritten = self._unwritten, {}
        for what in unwritten:
            with self._kernel.border(f"noting {what} for the next keeper") as border:
                self._kernel.note(*self._entry(what))
            if border.fault is not None:
                self._unwritten[what] = None
        with self._kernel.border("writing the journal"):
            self._kernel.write_down()

    def whole(self, incarnations: int, keeper: KeeperIntroduced) -> dict[str, object]:
        """Return all that is held beside strangers, for our own new code: with the output of the dead."""
        held: list[ProcessId | str] = [*self._processes, *self._listeners]
        own = {"id": keeper.keeper_id, "upgrades": keeper.upgrades + 1}
        entries = dict(self._entry(each, whole=True) for each in held)
        return {**entries, INCARNATIONS: incarnations, KEEPER: own}

    def _entry(self, what: ProcessId | str, *, whole: bool = False) -> tuple[str, object | None]:
        """Return by what name a process or socket is written down, and how it is; None: it is gone."""
        if isinstance(what, ProcessId):
            process = self._processes.get(what)
            return f"process {what}", process and _written_process(process, whole=whole)
        held = self._listeners.get(what)
        return f"socket {what}", held and _written_socket(held)


def _written_process(process: Process, *, whole: bool) -> WrittenProcess:
    """Return a process as it is written down: without its output, unless `whole`, as that may say anything."""
    record = process.record
    if isinstance(record.phase, Exited) and not whole:
        record = replace(record, phase=replace(record.phase, output=b""))
    return WrittenProcess(
        record,
        process.sockets,
        process.born,
        process.adopted,
        process.listens,
        None if isinstance(record.phase, Exited) else process.died,
        process.died_at_ns,
    )


def _written_socket(held: Listener) -> WrittenSocket | None:
    """Return a socket as it is written down, None when nothing is open for it."""
    if held.socket is None or held.template is None:
        return None
    return WrittenSocket(held.record, held.template, held.socket.trace, held.bound_at_ns)
