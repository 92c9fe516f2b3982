"""What is given to the store and what a new controller is given back: values, no rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from reconciler.model.answer import EventEntry
from reconciler.model.intent import Intent
from reconciler.model.job import Generation, Job, Run, Timetable
from reconciler.model.revision import Revision
from reconciler.model.spec import KEEP_RUNS, Spec, WatcherSpec
from reconciler.model.value import Struct, field
from reconciler.wire.methods import MAX_EVENTS

KEPT_EVENTS: Final = 10_000
"""So many of the newest events are kept, on the disk and in memory, of those that no order is."""
KEPT_ORDERS: Final = MAX_EVENTS - KEPT_EVENTS
"""So many of what people ordered and what was applied: room of its own."""
ORDERS: Final = ("operator.", "revision.", "manager.", "rollback.", "spec.applied", "spec.restored")


def is_order(type: str) -> bool:
    """Tell whether an event is an order of people, an applied revision, or what came of it."""
    return type.startswith(ORDERS)


class SourceFile(Struct, frozen=True):
    """A file that a spec was read from. `text` is None for files that may hold secrets, such as env files."""

    path: str
    digest: str
    size: int
    inode: int = 0
    text: bytes | None = None


class Applied(Struct, frozen=True):
    """The spec in force, what it retires, and where it came from."""

    spec: Spec
    revision: int
    retiring: Mapping[str, WatcherSpec] = field(default_factory=dict)
    files: tuple[SourceFile, ...] = ()
    source: tuple[str, ...] = ()
    environment: str = ""
    """Digest of the environment that it was read in."""
    wall_ns: int = 0
    uid: int | None = None
    unknown_jobs: tuple[str, ...] = ()
    """Jobs of it whose ledger was lost; written down with the first spec after the loss."""
    made: Revision | None = None
    """Its record in the history; the content is this spec with its files."""


class RetiringChanged(Struct, frozen=True):
    """Some of what a spec retires is gone."""

    retiring: Mapping[str, WatcherSpec]


class FilesChanged(Struct, frozen=True):
    """The files changed, what they mean did not."""

    files: tuple[SourceFile, ...]
    environment: str


class RevisionChanged(Struct, frozen=True):
    """More is known of a revision: what came of it, its commit."""

    revision: Revision


class IntentWritten(Struct, frozen=True):
    """An operator's word."""

    watcher: str
    intent: Intent


class GenerationWritten(Struct, frozen=True):
    """A new generation of a job."""

    watcher: str
    generation: Generation


class TimetableWritten(Struct, frozen=True):
    """How far the schedule of a job has come."""

    watcher: str
    timetable: Timetable


class Answered(Struct, frozen=True):
    """What a request with an id is answered, for whoever asks again because no answer came."""

    uid: int
    request_id: str
    method: str
    results: tuple[Mapping[str, object], ...]


class OrderWritten(Struct, frozen=True):
    """All that one request of an operator, or one instant of a schedule, changes: written together or not at all."""

    records: tuple[IntentWritten | GenerationWritten | TimetableWritten, ...]
    answered: Answered | None = None


class RunWritten(Struct, frozen=True):
    """A run of a job, before it is fired or with its outcome. `keep` is how many of its slot stay."""

    watcher: str
    run: Run
    keep: int = KEEP_RUNS


class EventsWritten(Struct, frozen=True):
    """Events, oldest first. They are written without a sync: nothing follows from them.

    Numbers below `below` may have been given.
    """

    events: tuple[EventEntry, ...]
    below: int
    replaced: tuple[int, ...] = ()
    """Numbers of older events whose place some of these have taken."""


class NumbersReserved(Struct, frozen=True):
    """Event numbers below this one may have been given."""

    below: int


class ServedBy(Struct, frozen=True):
    """The keeper under which this state is used from now on."""

    keeper_id: str


Record: TypeAlias = (
    Applied
    | RetiringChanged
    | FilesChanged
    | RevisionChanged
    | IntentWritten
    | GenerationWritten
    | TimetableWritten
    | OrderWritten
    | RunWritten
    | EventsWritten
    | NumbersReserved
    | ServedBy
)


class Stored(Struct, frozen=True):
    """Everything that a new controller is told by the store."""

    applied: Applied | None = None
    jobs: Mapping[str, Job] = field(default_factory=dict)
    intents: Mapping[str, Intent] = field(default_factory=dict)
    next_event: int = 1
    ledger_lost: bool = False
    """There may have been jobs that nobody can name any more."""
    keeper_id: str = ""
    """Of the keeper under which this state was used last, empty when there was none."""
    notes: tuple[str, ...] = ()
    """What could not be read, for the log and the events."""
    revisions: Mapping[int, Revision] = field(default_factory=dict)
    answered: tuple[Answered, ...] = ()
    """The newest answers to requests with an id, oldest first."""
