"""What shall be done: values that the core returns, the keeper or the store carries out."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from reconciler.model.process import Launch, Memory, ProcessId, Reach, Settings
from reconciler.model.socket import AS_MADE, FileOwner, SocketTemplate
from reconciler.model.value import Struct, Tagged, field

if TYPE_CHECKING:
    # What stands in actions of the store: the keeper, which gets only the others, need not import it.
    from reconciler.model.intent import Intent
    from reconciler.model.job import Generation, Run, Timetable
    from reconciler.model.probe import Probing
    from reconciler.model.revision import Trial


class Spawn(Tagged, frozen=True):
    """Start a process. Refused while a record of that id is not forgotten.

    `replaces` is the dead incarnation whose record it takes the place of, in one act: a controller that
    dies in between must not leave a slot without a past.
    """

    id: ProcessId
    launch: Launch
    template_hash: str = ""
    memory: Memory = field(default_factory=Memory)
    replaces: int = 0


class Signal(Tagged, frozen=True):
    """Send a signal (a name without SIG) to this incarnation, or to what survives of it."""

    id: ProcessId
    incarnation: int
    signal: str
    scope: Reach = "process"


class Remember(Tagged, frozen=True):
    """Replace the memory of this incarnation's record."""

    id: ProcessId
    incarnation: int
    memory: Memory


class Forget(Tagged, frozen=True):
    """Drop the record of a dead incarnation."""

    id: ProcessId
    incarnation: int


class Adjust(Tagged, frozen=True):
    """Bring what is in force for this incarnation to other settings; its record tells what came of it."""

    id: ProcessId
    incarnation: int
    settings: Settings


class Follow(Tagged, frozen=True):
    """Let the record of a dead incarnation go on with this one of the processes that it has left behind."""

    id: ProcessId
    incarnation: int
    pid: int


class EndOrphans(Tagged, frozen=True):
    """Send a signal to all processes that the keeper did not start and that belong to nobody for certain."""

    signal: str


class Bind(Tagged, frozen=True):
    """Bind a socket, or bring the one of that name to this template; in place where only tuning differs."""

    name: str
    template: SocketTemplate
    owner: FileOwner = AS_MADE
    """What the template's names of user and group mean on this machine."""


class Unbind(Tagged, frozen=True):
    """Close a socket, and remove its file."""

    name: str


class ShutDown(Tagged, frozen=True):
    """Everything is being stopped in order, or (`now`) at once: the keeper says so to each controller to come."""

    code: int | None = None
    """With what the manager exits; None: 0 when everything ended in time, else 1."""
    now: bool = False


class Quit(Tagged, frozen=True):
    """Everything has ended: the keeper exits with this code. `leaves`: all lives on for the next keeper."""

    code: int
    leaves: bool = False


class Notify(Tagged, frozen=True):
    """Tell this to whoever started the manager (sd_notify(3)); to the keeper it shows that we live."""

    text: str


class Upgrade(Tagged, frozen=True):
    """The keeper replaces its own code: it becomes the one that this interpreter runs, in the same process.

    The next controller comes from there too. When it cannot be, `UpgradeFailed` says why and nothing changed.
    """

    python: str


KeeperAction: TypeAlias = (
    Spawn
    | Signal
    | Remember
    | Forget
    | Adjust
    | Follow
    | EndOrphans
    | Bind
    | Unbind
    | ShutDown
    | Quit
    | Notify
    | Upgrade
)


class RecordGeneration(Struct, frozen=True):
    """Write down a new generation of a job, and with it how far its schedule has come (None: as far as before)."""

    watcher: str
    generation: Generation
    timetable: Timetable | None = None


class RecordTimetable(Struct, frozen=True):
    """Write down how far the schedule of a job has come."""

    watcher: str
    timetable: Timetable


class RecordRun(Struct, frozen=True):
    """Write down a run of a job: durably before it is fired, and again with its outcome.

    The store answers with `RunRecorded` once it lies on the disk.
    """

    watcher: str
    run: Run


class RecordVerdict(Struct, frozen=True):
    """Write down what came of a revision, `outcome` of its trial; a failure names watcher and slot."""

    revision: int
    trial: Trial
    watcher: str = ""
    slot: int = 0
    output: bytes | None = None
    """What a hook wrote that said no; None: the process itself failed."""


class RecordIntent(Struct, frozen=True):
    """Write down what is left of an operator's word: the rest of it is over."""

    watcher: str
    intent: Intent


class CountClients(Struct, frozen=True):
    """Ask how many clients are connected at a watcher's sockets; answered by `ClientsCounted`."""

    watcher: str
    sockets: tuple[str, ...]


class ReadSecrets(Struct, frozen=True):
    """Read the values that a watcher's processes get; answered by `SecretsRead` or `SecretsUnreadable`."""

    watcher: str


class Probe(Struct, frozen=True):
    """Ask a process again and again, as `probing` says; in place of what was asked under that name before.

    `id` has the purpose as its role, `incarnation` is the process. `ProbeAnswered` tells what comes of it.
    """

    id: ProcessId
    incarnation: int
    probing: Probing


class Unprobe(Struct, frozen=True):
    """Ask no more."""

    id: ProcessId


class ScanFiles(Struct, frozen=True):
    """Look at the files that a watcher watches; answered by `FilesSeen`."""

    watcher: str


class FindInstants(Struct, frozen=True):
    """Work out the instants of a job's schedule after a time (None: after now); answered by `InstantsFound`."""

    watcher: str
    after_ns: int | None


StoreAction: TypeAlias = (
    RecordGeneration | RecordTimetable | RecordRun | RecordVerdict | RecordIntent
)
Action: TypeAlias = (
    KeeperAction
    | StoreAction
    | ReadSecrets
    | ScanFiles
    | FindInstants
    | CountClients
    | Probe
    | Unprobe
)
