"""What the keeper knows of a process, and how that and its sockets are written down for the next keeper."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from reconciler.keeper.kernel import Died, Output, Trace
from reconciler.model.process import (
    Exited,
    ProcessId,
    ProcessRecord,
)
from reconciler.model.socket import SocketRecord, SocketTemplate
from reconciler.model.value import Struct, replace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reconciler.keeper.held import Held
    from reconciler.keeper.kernel import Kernel
    from reconciler.model.event import KeeperIntroduced
    from reconciler.model.process import Settings

KEEPER: Final = "keeper"
"""Under this name a keeper tells its own new code who it is."""
INCARNATIONS: Final = "incarnations"
"""Under this name the number of the last incarnation is written down."""
STRANGERS: Final = "strangers"
"""Under this name the processes are written down that the keeper did not start."""
OTHERS: Final = "others"
"""Under this name a keeper tells its own new code which of its children are nobody's remnant."""


@dataclass(slots=True)
class Process:
    """What the keeper holds of one incarnation beside its record.

    By `born`, `sockets`, `listens` and its settings the next keeper finds it and what is its.
    """

    record: ProcessRecord
    sockets: tuple[str, ...] = ()
    listens: tuple[SocketTemplate, ...] = ()
    """How its sockets were bound when it was given them; it may be the last that has one open."""
    pid: int = 0
    born: int = 0
    adopted: bool = False
    """It is another keeper's child: its orphans do not become our children."""
    output: Output | None = None
    died: Died | None = None
    died_at_ns: int = 0
    survivors: set[int] = field(default_factory=set)
    killed: bool = False
    """The whole tree was sent KILL: what escaped by forking meanwhile gets it as soon as it is seen."""

    @property
    def key(self) -> tuple[ProcessId, int]:
        """Return which incarnation of which process it is."""
        return (self.record.id, self.record.incarnation)

    @property
    def is_live(self) -> bool:
        """Tell whether something of it runs."""
        return bool(self.survivors) or (self.pid != 0 and self.died is None)

    def adjust(self, settings: Settings) -> Exception | None:
        """Take other settings; its output stays as it is when it cannot go on as they say: returns why."""
        now, cause = self.record.settings, None
        to = settings.stdout, settings.stderr
        if self.output is not None and to != (now.stdout, now.stderr):
            try:
                self.output.redirect(*to)
            except (OSError, ValueError) as error:
                settings, cause = replace(settings, stdout=now.stdout, stderr=now.stderr), error
        self.record = replace(self.record, settings=settings)
        return cause


class Stranger(Struct, frozen=True):
    """A process that the keeper did not start.

    `owners` is the incarnation whose remnant it is; several, where those are dead and one of them left it.
    Where it is not certain, they are those that may have left it.
    """

    name: str
    born: int
    group: int
    owners: tuple[tuple[ProcessId, int], ...] = ()
    is_certain: bool = True
    adopted: bool = False
    """It is no child of ours."""
    is_readable: bool = True
    """False while it is between two programs, and its marker cannot be read."""
    is_hidden: bool = False
    """It belongs to the manager itself, and is nobody's news."""


# ---- written down --------------------------------------------------------------------------------


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


class WrittenStranger(Struct, frozen=True):
    """A stranger as the next keeper is told of it."""

    pid: int
    stranger: Stranger


class WrittenSocket(Struct, frozen=True):
    """A socket as the next keeper is told of it."""

    record: SocketRecord
    template: SocketTemplate
    trace: Trace
    bound_at_ns: int = 0


class Notes:
    """What has changed since it was written down."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._unwritten: dict[ProcessId | str, None] = {}
        self._strangers: list[WrittenStranger] = []

    def changed(self, what: ProcessId | str) -> None:
        """Remember that a process or (by its name) a socket is no longer as it was written down."""
        self._unwritten[what] = None

    def strangers(self, known: list[WrittenStranger]) -> None:
        """Write down the processes that the keeper did not start, when they are others than before."""
        if known != self._strangers:
            self._strangers = known
            self._kernel.note(STRANGERS, known or None)

    def forget(self, id: ProcessId) -> None:
        """Let the next keeper not know of a process, though its record is still here."""
        self._kernel.note(f"process {id}", None)
        self._unwritten.pop(id, None)

    def write(self, processes: Mapping[ProcessId, Process], sockets: Mapping[str, Held]) -> None:
        """Write down all changes."""
        unwritten, self._unwritten = self._unwritten, {}
        for what in unwritten:
            with self._kernel.border(f"noting {what} for the next keeper") as border:
                if isinstance(what, ProcessId):
                    process = processes.get(what)
                    self._kernel.note(f"process {what}", process and write_process(process))
                else:
                    held = sockets.get(what)
                    self._kernel.note(f"socket {what}", held and write_socket(held))
            if border.fault is not None:
                self._unwritten[what] = None
        with self._kernel.border("writing the journal"):
            self._kernel.write_down()


def written(
    processes: Mapping[ProcessId, Process],
    sockets: Mapping[str, Held],
    incarnations: int,
    keeper: KeeperIntroduced,
) -> dict[str, object]:
    """Return all that is held beside strangers, for new code of the same keeper: with the output of the dead."""
    entries: dict[str, object] = {
        f"process {id_}": write_process(each, whole=True) for id_, each in processes.items()
    }
    entries |= {f"socket {name}": write_socket(held) for name, held in sockets.items()}
    own = {"id": keeper.keeper_id, "upgrades": keeper.upgrades + 1}
    return {**entries, INCARNATIONS: incarnations, KEEPER: own}


def write_process(process: Process, *, whole: bool = False) -> WrittenProcess:
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


def write_socket(held: Held) -> WrittenSocket | None:
    """Return a socket as it is written down, None when nothing is open for it."""
    if held.socket is None or held.template is None:
        return None
    return WrittenSocket(held.record, held.template, held.socket.trace, held.bound_at_ns)
