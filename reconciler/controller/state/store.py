"""What must survive the controller: the applied spec, intents, and the ledger of jobs.

Writing is never waited for. One thread takes everything that has gathered, commits it together (one
fsync for many rows) and answers; an answer means that the row lies on the disk. Order is kept, also
while the disk is full: the thread keeps its batch and tries again, the controller is told.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, TypeAlias

from reconciler.controller.runtime.borders import said
from reconciler.controller.state import commit_counter, writes
from reconciler.controller.state.records import EventsWritten, Record, Stored
from reconciler.controller.state.recovery import is_in_place, open_state, put_back
from reconciler.controller.state.schema import COMMITS, open_database, set_meta
from reconciler.model.value import Struct

RETRY_S: Final = 2.0
BATCH: Final = 1000


_OF_THE_ENTRY: Final = (sqlite3.DataError, sqlite3.ProgrammingError)


class Written(Struct, frozen=True):
    """A record lies on the disk."""

    record: Record


class Trouble(Struct, frozen=True):
    """Nothing can be written just now; what waits is kept, in order, and tried again."""

    message: str


class Unwritable(Struct, frozen=True):
    """One record cannot be written, now or later; the others of its batch are."""

    record: Record
    message: str


class WriterDied(Struct, frozen=True):
    """The thread has ended; what it had in hand is kept for the next one, see `replace_writer`."""

    message: str


class Recovered(Struct, frozen=True):
    """Writing works again."""


class Damaged(Struct, frozen=True):
    """The database turned out to be damaged; the next controller moves it aside."""

    message: str


class PutBack(Struct, frozen=True):
    """The file was deleted or replaced under us, and written anew."""

    message: str


Answer: TypeAlias = Written | Unwritable | Trouble | Recovered | Damaged | PutBack | WriterDied


class Store:
    """The database and its writer thread."""

    def __init__(self, state_dir: str) -> None:
        """Open `<state_dir>/state.db`. Raises `NewerState`, `sqlite3.OperationalError` or `OSError`."""
        self.path = os.path.join(state_dir, "state.db")
        self._connection, self._reading = open_state(self.path)
        self._file = os.stat(self.path)
        self._commits = self._reading.commits
        self._unmoved = False
        """Something that matters lies in the write-ahead log alone."""
        self._queue: deque[Record] = deque()
        self._wanted = threading.Condition()
        self._closing = False
        self._in_hand: list[Record] = []
        """What the thread has taken from the queue and not written yet."""
        self._thread = self._writer()

    def read(self, answer: Callable[[Sequence[Answer]], object]) -> Stored:
        """Return what was stored, and start the writer, which answers in its thread; call it once, first."""
        self._answer = answer
        self._thread.start()
        return self._reading.stored

    def write(self, record: Record) -> None:
        """Queue a record; a `Written` with the same record answers it."""
        with self._wanted:
            self._queue.append(record)
            self._wanted.notify()

    def replace_writer(self) -> None:
        """Start another writer after one that died; what that had in hand comes first."""
        self._thread.join()
        with self._wanted:
            self._queue.extendleft(reversed(self._in_hand))
            self._in_hand = []
        self._thread = self._writer()
        self._thread.start()

    def _writer(self) -> threading.Thread:
        return threading.Thread(target=self._run, name="store", daemon=True)

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
        if self._connection is not None:
            self._connection.close()

    # ---- in the thread ----

    def _run(self) -> None:
        """Write for ever. A border: whatever ends the thread is told, and the loop starts another."""
        try:
            self._write_for_ever()
        except BaseException as error:
            self._answer([WriterDied(f"the thread that writes the state has ended: {said(error)}")])

    def _write_for_ever(self) -> None:
        while True:
            with self._wanted:
                while not self._queue and not self._closing:
                    self._wanted.wait()
                if not self._queue:
                    return
                count = min(len(self._queue), BATCH)
                self._in_hand = [self._queue.popleft() for _ in range(count)]
            if not self._commit(self._in_hand):
                return
            self._in_hand = []

    def _commit(self, batch: list[Record]) -> bool:
        """Write a batch, however long it takes; False ends the thread."""
        troubled = False
        while True:
            try:
                self._write(batch)
            except _Refused as error:
                record, message = error.args
                self._answer([Unwritable(record, message)])
                batch.remove(record)
                continue
            except (sqlite3.OperationalError, OSError, MemoryError) as error:
                if not troubled:
                    self._answer([Trouble(f"cannot write {self.path}: {error}")])
                troubled = True
            except sqlite3.DatabaseError as error:
                self._answer([Damaged(f"cannot write {self.path}: {error}")])
                return False
            else:
                if troubled:
                    self._answer([Recovered()])
                self._answer([Written(record) for record in batch])
                self._empty_log()
                return True
            with self._wanted:
                if self._closing:
                    return False
                self._wanted.wait_for(lambda: self._closing, RETRY_S)

    def _write(self, batch: list[Record]) -> None:
        connection = self._file_in_place()
        # A power loss may take events: the log that they lie in is synced by the next commit that matters.
        matters = not all(isinstance(record, EventsWritten) for record in batch)
        connection.execute(f"pragma synchronous = {'full' if matters else 'normal'}")
        commits = self._commits + matters
        with connection:
            for record in batch:
                _write_one(connection, record)
            if matters:
                set_meta(connection, COMMITS, str(commits))
        if matters:
            self._commits, self._unmoved = commits, True
            # Without it the loss of this commit would not be noticed: no reason to stop.
            with suppress(OSError):
                commit_counter.write(self.path, commits)

    def _empty_log(self) -> None:
        """Move what matters from the write-ahead log into the database, where damage to it is noticed.

        SQLite would wait for a thousand pages, and a log that is cut takes an operator's word with it.
        """
        assert self._connection is not None
        if self._unmoved:
            with suppress(sqlite3.OperationalError):
                self._connection.execute("pragma wal_checkpoint(passive)").fetchone()
                self._unmoved = False

    def _file_in_place(self) -> sqlite3.Connection:
        """Return the open database, which is the file at its path."""
        if self._connection is None:
            self._connection = open_database(self.path)
            self._file = os.stat(self.path)
        elif not is_in_place(self._file, self.path):
            self._connection = put_back(self._connection, self.path)
            self._file = os.stat(self.path)
            told = f"{self.path} was removed; it was written again, nothing is lost"
            self._answer([PutBack(told)])
        return self._connection


class _Refused(Exception):
    """A record, and why it cannot be written: it is the reason why a batch cannot be."""


def _write_one(connection: sqlite3.Connection, record: Record) -> None:
    """Write one record. Raises `_Refused` when it is the record's fault, and what SQLite and the system raise."""
    try:
        writes.write(connection, record)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, _OF_THE_ENTRY):
            raise
        message = f"cannot write {type(record).__name__}: {said(error)}"
        raise _Refused(record, message) from error
