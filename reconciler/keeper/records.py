"""What the keeper knows of a process that it started, and of one that it did not start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.model.process import (
    Exited,
    ProcessId,
    ProcessRecord,
    Requested,
    Running,
    Starting,
)
from reconciler.model.value import Part, Struct, field, replace

if TYPE_CHECKING:
    from reconciler.keeper.kernel import NotifySocket, Output
    from reconciler.model.process import Settings
    from reconciler.model.socket import SocketTemplate
    from reconciler.system.facts import Died, Identity


class Process(Part):
    """What the keeper holds of one incarnation beside its record.

    By `born`, `sockets`, `listens` and its settings the next keeper finds it and what is its.
    """

    record: ProcessRecord
    sockets: tuple[str, ...] = ()
    listens: tuple[SocketTemplate, ...] = ()
    """How its sockets were bound when it was given them; it may be the last that has one open."""
    pid: int = 0
    born: int = 0
    session: int = 0
    """In which it began; another one's than its own if it goes on for one that has ended."""
    adopted: bool = False
    """It is another keeper's child: its orphans do not become our children."""
    output: Output | None = None
    notify_socket: NotifySocket | None = None
    user: int | None = None
    """Whose it was when it was heard first."""
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

    @property
    def since_ns(self) -> int:
        """Return since when it runs or has run, or else was about to."""
        match self.record.phase:
            case Running(started_at_ns=since_ns) | Exited(started_at_ns=int(since_ns)):
                return since_ns
            case Starting() | Exited() | Requested() as phase:
                return phase.at_ns

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
    is_readable: bool = True
    """False while it is between two programs, and its marker cannot be read."""
    is_hidden: bool = False
    """It belongs to the manager itself, and is nobody's news."""


def as_stranger(identity: Identity, *owners: tuple[ProcessId, int]) -> Stranger:
    """Return a process that was looked at as one that these incarnations may have left."""
    return Stranger(identity.name, identity.born, identity.group, owners)
