"""What happened: values in the past tense that are folded into the picture of the world.

Those of the keeper are level-triggered: "this record is now so". However many changes a slow reader
missed, the last one says all, so the keeper's queue is bounded by its records.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from reconciler.model.process import Orphan, ProcessId, ProcessRecord, Reach
from reconciler.model.socket import SocketRecord
from reconciler.model.value import Struct, Tagged, field

if TYPE_CHECKING:
    # What stands in observations that never travel: the keeper, which sends only the others, need not import it.
    from reconciler.model.intent import Intent
    from reconciler.model.job import Instant, Job, Run
    from reconciler.model.probe import Probing
    from reconciler.model.revision import Trial
    from reconciler.model.spec import SecretSpec, Spec, WatcherSpec


WatchedLimit: TypeAlias = Literal["max_memory", "max_cpu"]
"""A limit that the manager watches, by the name of its field."""
FOUND: Final = 10
"""So many instants to come are worked out at a time."""


class KeeperIntroduced(Tagged, frozen=True):
    """The link to the keeper stands; its records follow until `SnapshotEnded`."""

    keeper_id: str
    """Different for every keeper that ever was; an upgrade does not make another one of it."""
    boot_id: str
    pid: int
    started_at_ns: int
    containment: str
    """How trees are held together here: cgroup or session."""
    notifies: bool = False
    """Whoever started the manager listens to what is said with `Notify`."""
    upgrades: int = 0
    """How often it has replaced its own code."""
    format: int = 1
    """In which format it hands over what it holds, to another version."""
    controllers: tuple[str, ...] = ()
    """Which limits the control groups of processes can have: memory, cpu, pids, io; none without such groups."""


class OrphansChanged(Tagged, frozen=True):
    """These are all the processes that live, that the keeper did not start and that no record speaks for."""

    orphans: tuple[Orphan, ...] = ()


class SnapshotEnded(Tagged, frozen=True):
    """All that the keeper holds has been told; from here on come changes."""


class RecordChanged(Tagged, frozen=True):
    """A process record is now so."""

    record: ProcessRecord


class RecordForgotten(Tagged, frozen=True):
    """There is no such record (any more)."""

    id: ProcessId


class SocketChanged(Tagged, frozen=True):
    """A socket is now so."""

    record: SocketRecord


class SocketClosed(Tagged, frozen=True):
    """There is no such socket (any more)."""

    name: str


class SocketRestored(Tagged, frozen=True):
    """What a user of a socket had done to it was undone. Nobody was disturbed."""

    name: str
    what: Literal["file", "listening", "backlog"]
    """Its file was removed, it was shut down, or its backlog was changed."""
    by: tuple[ProcessId, ...]
    """Who did it; several when it may have been any of them, or somebody else."""
    found: int | None = None
    """The backlog that was found."""


class LogRotated(Tagged, frozen=True):
    """The log file at `path` was rotated; what it left behind under other names shall be compressed."""

    path: str


class LogChanged(Tagged, frozen=True):
    """What is written to the log file at `path` is lost just now, and why; or (empty) no longer.

    `id` is one of the processes that write there. Not `lost`: the file is written on, but its path leads elsewhere,
    where the manager must not write, or it cannot be given its mode and owner.
    """

    id: ProcessId
    path: str
    trouble: str
    lost: bool = True
    lost_bytes: int = 0
    """When the trouble is over: how much was lost meanwhile."""


class SignalReceived(Tagged, frozen=True):
    """The keeper was sent a signal that is meant for the whole: stop, stop now, or read again.

    Or a former controller has begun to stop everything, with the exit code that it had said.
    """

    meaning: Literal["stop", "stop_now", "reload"]
    code: int | None = None


class HeartbeatAsked(Tagged, frozen=True):
    """The keeper wants to know whether the controller lives; any `Notify` is the answer."""


class UpgradeFailed(Tagged, frozen=True):
    """The keeper could not replace its code; all is as it was."""

    cause: str


class FaultCaught(Tagged, frozen=True):
    """Something unexpected happened to the keeper while it was `doing` this; that failed, and nothing else."""

    doing: str
    error: str


class ControlRenewed(Tagged, frozen=True):
    """The control socket at `path` was gone and is open again; or (`trouble`) why that cannot be just now."""

    path: str
    trouble: str = ""


KeeperObservation: TypeAlias = (
    KeeperIntroduced
    | SnapshotEnded
    | RecordChanged
    | RecordForgotten
    | OrphansChanged
    | SocketChanged
    | SocketClosed
    | SocketRestored
    | LogRotated
    | LogChanged
    | SignalReceived
    | HeartbeatAsked
    | UpgradeFailed
    | FaultCaught
    | ControlRenewed
)


class SpecApplied(Struct, frozen=True):
    """A spec is valid, stored, and from now on wanted."""

    spec: Spec
    revision: int
    retiring: Mapping[str, WatcherSpec] = field(default_factory=dict)
    """Watchers of former specs that are still being stopped, as they were."""
    trial: Trial | None = None
    """What it has to prove, or has proven; None: nothing."""


class IntentChanged(Struct, frozen=True):
    """An operator's word about a watcher is stored."""

    watcher: str
    intent: Intent


class JobChanged(Struct, frozen=True):
    """What the ledger knows of a job was read or replaced."""

    watcher: str
    job: Job


class EndsTold(Struct, frozen=True):
    """Of processes that the keeper's snapshot shows dead: which end people were told of last.

    By process its pid, None for one that could not be started, 0 when they were told of a start since.
    """

    pids: Mapping[ProcessId, int | None]


class RunRecorded(Struct, frozen=True):
    """A run lies on the disk."""

    watcher: str
    run: Run


class SecretsRead(Struct, frozen=True):
    """All secrets of a watcher are at hand; `digest` is a keyed hash of what `sources` hold."""

    watcher: str
    digest: str
    sources: Mapping[str, SecretSpec]


class SecretsUnreadable(Struct, frozen=True):
    """A secret of a watcher cannot be read from one of `sources`; `message` says which and why."""

    watcher: str
    message: str
    sources: Mapping[str, SecretSpec]


class AccountsFound(Struct, frozen=True):
    """Users and groups that the spec names as owners of log files have these numbers; others are not known."""

    uids: Mapping[str, int]
    gids: Mapping[str, int]


class ProbeAnswered(Struct, frozen=True):
    """What a probe has come to, by all its answers up to now; told again when it is another, or says something else.

    `id` has the purpose as its role, `incarnation` is the process that was asked.
    """

    id: ProcessId
    incarnation: int
    probing: Probing
    passed: bool | None
    """None: the process could not be asked, which is no fault of its own."""
    message: str
    at_ns: int


class ClientsCounted(Struct, frozen=True):
    """So many clients are connected at the sockets of a watcher, or were a moment ago; None: nobody can tell."""

    watcher: str
    clients: int | None


class ClockSet(Struct, frozen=True):
    """What is to be added to monotonic time is now another: the wall clock was set, or is known for the first time."""

    wall_offset_ns: int


class InstantsFound(Struct, frozen=True):
    """These are the first instants of a schedule after a time, or `trouble` says why they are not known."""

    watcher: str
    timing: str
    """Of which schedule (`ScheduleSpec.timing`)."""
    after_ns: int
    times: tuple[Instant, ...] = ()
    """`FOUND` of those to come, or all that there are; before them the newest of those that have come."""
    left_out: bool = False
    """There are others between `after_ns` and the first of them."""
    trouble: str = ""


class FilesSeen(Struct, frozen=True):
    """The files that a watcher watches (`paths` without `ignore`) look so; or (`trouble`) why nobody can tell."""

    watcher: str
    paths: tuple[str, ...]
    ignore: tuple[str, ...]
    digest: str = ""
    trouble: str = ""
    changed: tuple[str, ...] = ()
    """The first few of those that differ from the last look."""
    count: int = 0
    """How many do."""


class SignalAsked(Struct, frozen=True):
    """An operator wants a signal sent, to one slot or (None) to all. `at_ns` tells it from others."""

    watcher: str
    slot: int | None
    signal: str
    at_ns: int = 0
    reach: Reach = "process"


class RetryAsked(Struct, frozen=True):
    """An operator wants slots that have ended to be tried again now; None: all."""

    watcher: str
    slots: tuple[int, ...] | None = None


class LimitExceeded(Struct, frozen=True):
    """A process, with all that it started, was above a `limit` of its watcher in the last `samples`; None: no longer.

    `used` is the least of them: bytes, or a percentage of one processor.
    """

    id: ProcessId
    incarnation: int
    limit: WatchedLimit | None = None
    used: int = 0
    samples: int = 0


class ShutdownAsked(Struct, frozen=True):
    """Everything shall end, in order; `now` skips all grace."""

    now: bool = False
    code: int | None = None
    """Exit code of the manager; None: 0 when everything ended in time, else 1."""


Observation: TypeAlias = (
    KeeperObservation
    | SpecApplied
    | IntentChanged
    | JobChanged
    | EndsTold
    | RunRecorded
    | SecretsRead
    | SecretsUnreadable
    | ClientsCounted
    | FilesSeen
    | AccountsFound
    | ProbeAnswered
    | ClockSet
    | InstantsFound
    | SignalAsked
    | RetryAsked
    | LimitExceeded
    | ShutdownAsked
)


class Request(Struct, frozen=True):
    """A signal that an operator asked for: it is for one incarnation, and gone when it was sent."""

    id: ProcessId
    incarnation: int
    at_ns: int
    signal: str
    reach: Reach = "process"


class Delivery(Struct, frozen=True):
    """What came of a request: the signal was sent, or `trouble` says why not."""

    request: Request
    trouble: str = ""
