"""What shall be done: values that the core returns, the keeper or the store carries out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from reconciler.model.process import Launch, Memory, ProcessId, Scope, Sink
from reconciler.model.socket import SocketTemplate

if TYPE_CHECKING:
    # What stands in actions of the store: the keeper, which gets only the others, need not import it.
    from reconciler.model.intent import Intent
    from reconciler.model.job import Generation, Run
    from reconciler.model.revision import Trial


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a process. Refused while a record of that id is not forgotten.

    `replaces` is the dead incarnation whose record it takes the place of, in one act: a controller that
    dies in between must not leave a slot without a past.
    """

    id: ProcessId
    launch: Launch
    template_hash: str = ""
    memory: Memory = field(default_factory=Memory)
    replaces: int = 0


@dataclass(frozen=True, slots=True)
class Signal:
    """Send a signal (a name without SIG) to this incarnation, or to what survives of it."""

    id: ProcessId
    incarnation: int
    signal: str
    scope: Scope = "process"


@dataclass(frozen=True, slots=True)
class Remember:
    """Replace the memory of this incarnation's record."""

    id: ProcessId
    incarnation: int
    memory: Memory


@dataclass(frozen=True, slots=True)
class Forget:
    """Drop the record of a dead incarnation."""

    id: ProcessId
    incarnation: int


@dataclass(frozen=True, slots=True)
class Redirect:
    """Let the output of a running incarnation go on with other sink options (size, timestamps ...)."""

    id: ProcessId
    incarnation: int
    stdout: Sink
    stderr: Sink | None


@dataclass(frozen=True, slots=True)
class Bind:
    """Bind a socket, or bring the one of that name to this template; in place where only tuning differs."""

    name: str
    template: SocketTemplate


@dataclass(frozen=True, slots=True)
class Unbind:
    """Close a socket, and remove its file."""

    name: str


@dataclass(frozen=True, slots=True)
class Quit:
    """Everything has ended: the keeper exits with this code. `leaves`: all lives on for the next keeper."""

    code: int
    leaves: bool = False


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell this to whoever started the manager (sd_notify(3)); to the keeper it shows that we live."""

    text: str


@dataclass(frozen=True, slots=True)
class Upgrade:
    """The keeper replaces its own code: it becomes the one that this interpreter runs, in the same process.

    The next controller comes from there too. When it cannot be, `UpgradeFailed` says why and nothing changed.
    """

    python: str


KeeperAction: TypeAlias = (
    Spawn | Signal | Remember | Forget | Redirect | Bind | Unbind | Quit | Notify | Upgrade
)


@dataclass(frozen=True, slots=True)
class RecordGeneration:
    """Write down a new generation of a job."""

    watcher: str
    generation: Generation


@dataclass(frozen=True, slots=True)
class RecordRun:
    """Write down a run of a job: durably before it is fired, and again with its outcome.

    The store answers with `RunRecorded` once it lies on the disk.
    """

    watcher: str
    run: Run


@dataclass(frozen=True, slots=True)
class RecordVerdict:
    """Write down what came of a revision, `outcome` of its trial; a failure names watcher and slot."""

    revision: int
    trial: Trial
    watcher: str = ""
    slot: int = 0


@dataclass(frozen=True, slots=True)
class RecordIntent:
    """Write down what is left of an operator's word: the rest of it is over."""

    watcher: str
    intent: Intent


@dataclass(frozen=True, slots=True)
class ReadSecrets:
    """Read the values that a watcher's processes get; answered by `SecretsRead` or `SecretsUnreadable`."""

    watcher: str


StoreAction: TypeAlias = RecordGeneration | RecordRun | RecordVerdict | RecordIntent
Action: TypeAlias = KeeperAction | StoreAction | ReadSecrets
