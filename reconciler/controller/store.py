"""What must survive the controller: the applied spec, intents, and the ledger of jobs.

Writing is never waited for. One thread takes everything that has gathered, commits it together (one
fsync for many rows) and answers; an answer means that the row lies on the disk. Order is kept, also
while the disk is full: the thread keeps its batch and tries again, the controller is told.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeAlias

from reconciler.controller import clock
from reconciler.controller.schema import KEPT_RUNS, get_meta, open_database, set_meta
from reconciler.model.intent import Intent
from reconciler.model.job import Generation, Job, Run
from reconciler.model.plain import PlainError, from_plain, to_plain
from reconciler.model.spec import Spec, WatcherSpec

RETRY_S: Final = 2.0
BATCH: Final = 1000


# ---- what is written ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that a spec was read from. `text` is None for files that may hold secrets, such as env files."""

    path: str
    digest: str
    size: int
    inode: int = 0
    text: bytes | None = None


@dataclass(frozen=True, slots=True)
class Applied:
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


@dataclass(frozen=True, slots=True)
class RetiringChanged:
    """Some of what a spec retires is gone."""

    retiring: Mapping[str, WatcherSpec]


@dataclass(frozen=True, slots=True)
class FilesChanged:
    """The files changed, what they mean did not."""

    files: tuple[SourceFile, ...]
    environment: str


@dataclass(frozen=True, slots=True)
class IntentWritten:
    """An operator's word."""

    watcher: str
    intent: Intent


@dataclass(frozen=True, slots=True)
class GenerationWritten:
    """A new generation of a job."""

    watcher: str
    generation: Generation


@dataclass(frozen=True, slots=True)
class RunWritten:
    """A run of a job, before it is fired or with its outcome."""

    watcher: str
    run: Run


@dataclass(frozen=True, slots=True)
class NumbersReserved:
    """Event numbers below this one may have been given."""

    below: int


@dataclass(frozen=True, slots=True)
class ServedBy:
    """The keeper under which this state is used from now on."""

    keeper_id: str


Entry: TypeAlias = (
    Applied
    | RetiringChanged
    | FilesChanged
    | IntentWritten
    | GenerationWritten
    | RunWritten
    | NumbersReserved
    | ServedBy
)


# ---- what is answered -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Written:
    """An entry lies on the disk."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Trouble:
    """Nothing can be written just now; what waits is kept, in order, and tried again."""

    message: str


@dataclass(frozen=True, slots=True)
class Recovered:
    """Writing works again."""


@dataclass(frozen=True, slots=True)
class Damaged:
    """The database turned out to be damaged; the next controller moves it aside."""

    message: str


Answer: TypeAlias = Written | Trouble | Recovered | Damaged


@dataclass(frozen=True, slots=True)
class Stored:
    """Everything that a new controller is told by the store."""

    applied: Applied | None
    jobs: Mapping[str, Job]
    intents: Mapping[str, Intent]
    next_event: int
    ledger_lost: bool
    keeper_id: str
    """Of the keeper under which this state was used last, empty when there was none."""
    notes: tuple[str, ...] = ()
    """What could not be read, for the log and the events."""


class Store:
    """The database and its writer thread."""

    def __init__(self, state_dir: str) -> None:
        """Open `<state_dir>/state.db`. Raises `NewerState`, `sqlite3.OperationalError` or `OSError`."""
        opened = open_database(Path(state_dir, "state.db"))
        self._connection = opened.connection
        self._damage = opened.damage
        self._queue: deque[Entry] = deque()
        self._answers: deque[Answer] = deque()
        self._wanted = threading.Condition()
        self._closing = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._write_for_ever, name="store", daemon=True)

    def fileno(self) -> int:
        """Return the descriptor that is readable when answers wait."""
        return self._wake

    def read(self) -> Stored:
        """Return what was stored, and start the writer; call it once, first."""
        notes = [self._damage] if self._damage else []
        stored = Stored(
            _read_applied(self._connection, notes),
            _read_jobs(self._connection, notes),
            _read_intents(self._connection, notes),
            int(get_meta(self._connection, "events_below") or 1),
            get_meta(self._connection, "ledger_lost") is not None,
            get_meta(self._connection, "keeper_id") or "",
            tuple(notes),
        )
        self._thread.start()
        return stored

    def write(self, entry: Entry) -> None:
        """Queue an entry; a `Written` with the same entry answers it."""
        with self._wanted:
            self._queue.append(entry)
            self._wanted.notify()

    def answers(self) -> list[Answer]:
        """Return the answers that wait."""
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return []
        # The counter is read first: an answer that comes now raises it again.
        return [self._answers.popleft() for _ in range(len(self._answers))]

    def close_writer(self) -> None:
        """Write what is queued, once, and end the writer; what comes later is not written."""
        with self._wanted:
            self._closing = True
            self._wanted.notify()
        if self._thread.ident is not None:
            self._thread.join(RETRY_S * 2)

    def close(self) -> None:
        """Write what is queued, once, and close the database."""
        self.close_writer()
        self._connection.close()
        os.close(self._wake)

    # ---- in the thread ----

    def _write_for_ever(self) -> None:
        while True:
            with self._wanted:
                while not self._queue and not self._closing:
                    self._wanted.wait()
                if not self._queue:
                    return
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH))]
            if not self._commit(batch):
                return

    def _commit(self, batch: list[Entry]) -> bool:
        """Write a batch, however long it takes; False ends the thread."""
        troubled = False
        while True:
            try:
                with self._connection:
                    for entry in batch:
                        _write(self._connection, entry)
            except sqlite3.OperationalError as error:
                if not troubled:
                    self._answer(Trouble(f"cannot write {self._path()}: {error}"))
                troubled = True
            except sqlite3.DatabaseError as error:
                self._answer(Damaged(f"cannot write {self._path()}: {error}"))
                return False
            else:
                if troubled:
                    self._answer(Recovered())
                self._answer(*(Written(entry) for entry in batch))
                return True
            with self._wanted:
                if self._closing:
                    return False
                self._wanted.wait_for(lambda: self._closing, RETRY_S)

    def _answer(self, *answers: Answer) -> None:
        self._answers.extend(answers)
        os.eventfd_write(self._wake, 1)

    def _path(self) -> str:
        return str(self._connection.execute("pragma database_list").fetchone()[2])


# ---- rows -----------------------------------------------------------------------------------------


def _text(value: object) -> str:
    return json.dumps(to_plain(value, tagged=False), separators=(",", ":"))


def _write(connection: sqlite3.Connection, entry: Entry) -> None:
    execute = connection.execute
    match entry:
        case Applied():
            _write_applied(connection, entry)
        case RetiringChanged(retiring):
            execute("update applied set retiring = ?", (_text(retiring),))
        case FilesChanged(files, environment):
            _write_files(connection, files)
            execute("update applied set environment = ?", (environment,))
        case IntentWritten(watcher, intent):
            execute("insert or replace into intents values (?, ?)", (watcher, _text(intent)))
        case GenerationWritten(watcher, generation):
            execute(
                "insert or replace into generations values (?, ?, 1)", (watcher, _text(generation))
            )
        case RunWritten(watcher, run):
            key = (watcher, run.slot, run.generation)
            execute(
                "insert or replace into runs values (?, ?, ?, ?)",
                (*key, _text(_with_wall_times(run))),
            )
            execute(
                "delete from runs where watcher = ? and slot = ? and generation <= ?",
                (watcher, run.slot, run.generation - KEPT_RUNS),
            )
        case NumbersReserved(below):
            set_meta(connection, "events_below", str(below))
        case ServedBy(keeper_id):
            set_meta(connection, "keeper_id", keeper_id)


def _write_applied(connection: sqlite3.Connection, applied: Applied) -> None:
    connection.execute(
        "insert or replace into applied values (1, ?, ?, ?, ?, ?, ?, ?)",
        (
            applied.revision,
            _text(applied.spec),
            _text(applied.retiring),
            json.dumps(applied.source),
            applied.environment,
            applied.wall_ns,
            applied.uid,
        ),
    )
    _write_files(connection, applied.files)
    for name in applied.unknown_jobs:
        connection.execute("insert or ignore into generations values (?, null, 0)", (name,))
    connection.execute("delete from meta where key = 'ledger_lost'")


def _write_files(connection: sqlite3.Connection, files: tuple[SourceFile, ...]) -> None:
    connection.execute("delete from files")
    rows = [(each.path, each.digest, each.size, each.inode, each.text) for each in files]
    connection.executemany("insert into files values (?, ?, ?, ?, ?)", rows)


def _read_applied(connection: sqlite3.Connection, notes: list[str]) -> Applied | None:
    columns = "revision, spec, retiring, source, environment, wall_ns, uid"
    row = connection.execute(f"select {columns} from applied").fetchone()
    if row is None:
        return None
    revision, spec, retiring, source, environment, wall_ns, uid = row
    rows = connection.execute("select path, digest, size, inode, text from files order by path")
    files = tuple(SourceFile(*each) for each in rows)
    try:
        return Applied(
            from_plain(Spec, json.loads(spec)),
            revision,
            from_plain(Mapping[str, WatcherSpec], json.loads(retiring)),
            files,
            tuple(json.loads(source)),
            environment,
            wall_ns,
            uid,
        )
    except (PlainError, ValueError) as error:
        notes.append(f"cannot read the stored spec of revision {revision}: {error}")
        return None


def _read_jobs(connection: sqlite3.Connection, notes: list[str]) -> dict[str, Job]:
    jobs: dict[str, Job] = {}
    for watcher, text, known in connection.execute(
        "select watcher, generation, known from generations"
    ):
        try:
            generation = None if text is None else from_plain(Generation, json.loads(text))
            jobs[watcher] = Job(generation, {}, bool(known))
        except (PlainError, ValueError) as error:
            notes.append(f"cannot read the ledger of job {watcher}: {error}")
            jobs[watcher] = Job(known=False)
    newest = "select watcher, slot, max(generation), run from runs group by watcher, slot"
    runs: dict[str, dict[int, Run]] = {}
    for watcher, slot, _, text in connection.execute(newest):
        try:
            runs.setdefault(watcher, {})[slot] = from_plain(Run, json.loads(text))
        except (PlainError, ValueError) as error:
            notes.append(f"cannot read the ledger of job {watcher}, slot {slot}: {error}")
            jobs[watcher] = replace(jobs.get(watcher, Job()), known=False)
    for watcher, found in runs.items():
        jobs[watcher] = replace(jobs.get(watcher, Job()), runs=found)
    return jobs


def _read_intents(connection: sqlite3.Connection, notes: list[str]) -> dict[str, Intent]:
    intents: dict[str, Intent] = {}
    for watcher, text in connection.execute("select watcher, intent from intents"):
        try:
            intents[watcher] = from_plain(Intent, json.loads(text))
        except (PlainError, ValueError) as error:
            notes.append(f"cannot read what an operator asked of {watcher}: {error}")
    return intents


def _with_wall_times(run: Run) -> Run:
    """Return a run with the wall times that are known by now; they are for people, the core needs none."""
    if not run.fired_wall_ns:
        run = replace(run, fired_wall_ns=clock.wall_offset_ns() + run.fired_at_ns)
    if run.outcome is not None and run.ended_wall_ns is None:
        ended = clock.wall_ns() if run.duration_ns is None else run.fired_wall_ns + run.duration_ns
        run = replace(run, ended_wall_ns=ended)
    return run
