"""The state is opened whatever became of it: what can be read is kept, what is lost is told.

| found | what becomes of it |
|---|---|
| a row whose seal is broken | set aside; what it was about is in doubt (`reads`) |
| a broken file | moved aside; all rows that can still be read go into a new one; every job is in doubt |
| fewer commits than the counter saw | kept; every job is in doubt |
| no file, but a counter | a new one; every job is in doubt, also those that nobody can name any more |
| a newer version's file | refused, and left alone |
| a file deleted while it is used | written anew from what we hold open; nothing is lost |
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing, suppress
from typing import Final

from reconciler.controller.runtime import clock
from reconciler.controller.state import commit_counter, reads, seals, writes
from reconciler.controller.state.reads import Reading
from reconciler.controller.state.schema import COMMITS, SCHEMA_WORD, open_database, set_meta
from reconciler.controller.state.seals import Value

KEPT_ASIDE: Final = 5
"""Damaged files that are kept; a disk that breaks again and again shall not be filled as well."""
_COMPANIONS: Final = ("-wal", "-shm")


def open_state(path: str) -> tuple[sqlite3.Connection | None, Reading]:
    """Open the state, however damaged, and read it; None when it can be read, but not be written just now.

    Raises `NewerState`, and `sqlite3.OperationalError` or `OSError` when it cannot even be read just now.
    """
    counted = commit_counter.read(path)
    try:
        return _open(path, counted)
    except (sqlite3.OperationalError, OSError) as error:
        for look in (seals.alone, seals.frozen):
            with suppress(sqlite3.Error, UnicodeDecodeError), closing(look(path)) as connection:
                # Without its log the database may be an older one: the counter knows.
                return None, _read(connection, path, counted)
        raise error from None


def _open(path: str, counted: int) -> tuple[sqlite3.Connection, Reading]:
    damage = f"{path} was deleted" if counted and not os.path.exists(path) else ""
    try:
        connection = open_database(path)
        reading = _read(connection, path, counted, damage)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if not _is_damage(error):
            raise
        connection, damage = _renew(path, counted, error)
        reading = _read(connection, path, counted, damage)
    if reading.damage or reading.broken:
        # While nothing can be written, the next controller finds it again.
        reading.commits = max(reading.commits, counted)
        with suppress(sqlite3.OperationalError), connection:
            writes.set_aside(connection, reading)
            set_meta(connection, COMMITS, str(reading.commits))
    return connection, reading


def _read(connection: sqlite3.Connection, path: str, counted: int, damage: str = "") -> Reading:
    """Read the state; when its newest changes are missing, it is in doubt. Closes what cannot be read."""
    try:
        reading = reads.read(connection, damage)
        lacking = counted - reading.commits
        if lacking > 0 and not damage:
            return reads.read(connection, f"{path} lacks its newest {lacking} changes")
    except BaseException:
        connection.close()
        raise
    return reading


def _is_damage(error: Exception) -> bool:
    """Tell whether an error says that the file is broken; else it cannot be used just now.

    Locked, read-only, no space, no permission: the file itself may be good, so it is left alone. A
    statement of ours that SQLite cannot make sense of means that the schema in the file is not ours.
    """
    if isinstance(error, sqlite3.OperationalError):
        return error.sqlite_errorcode == sqlite3.SQLITE_ERROR
    # SQLite quotes what it finds in the file, also when that is no text.
    return isinstance(error, sqlite3.DatabaseError | UnicodeDecodeError)


# ---- a broken file --------------------------------------------------------------------------------


def _renew(path: str, counted: int, error: Exception) -> tuple[sqlite3.Connection, str]:
    """Move a broken database aside and begin a new one with what could be read; say so in a sentence."""
    if not counted:
        # From here on a file that is not there is one that was lost, whenever we are killed.
        commit_counter.write(path, 1)
    saved = _salvage(path)
    aside = _move_aside(path)
    connection = open_database(path)
    with connection:
        for table, found in saved.items():
            for row in found:
                seals.put(connection, table, *row)
        set_meta(connection, COMMITS, "0")
    count = sum(map(len, saved.values()))
    return (
        connection,
        f"{path} is damaged ({error}); {count} rows were saved, it was moved to {aside}",
    )


def _salvage(path: str) -> dict[str, list[tuple[Value, ...]]]:
    """Return all rows of a broken file that can be believed, leaving the file as it is."""
    saved: dict[str, list[tuple[Value, ...]]] = {}
    with suppress(sqlite3.Error, UnicodeDecodeError), closing(seals.beside(path)) as connection:
        saved = {table: seals.salvage(connection, table) for table in seals.KEYS}
        saved["meta"] = [row for row in saved["meta"] if row[0] not in {COMMITS, SCHEMA_WORD}]
    return saved


def _move_aside(path: str) -> str:
    """Give the file and its log another name; of those that lie there already the newest are kept."""
    folder, name = os.path.split(path)
    prefix = f"{name}.damaged-"
    earlier = sorted(
        os.path.join(folder, each)
        for each in os.listdir(folder)
        if each.startswith(prefix) and not each.endswith(_COMPANIONS)
    )
    for each in earlier[: max(0, len(earlier) - KEPT_ASIDE + 1)]:
        for companion in ("", *_COMPANIONS):
            _unlink(f"{each}{companion}")
    # Nanoseconds: two in one second keep their order.
    now = clock.wall_ns()
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now // 10**9))
    aside = os.path.join(folder, f"{prefix}{stamp}.{now % 10**9:09d}Z")
    os.rename(path, aside)
    with suppress(FileNotFoundError):
        os.rename(f"{path}-wal", f"{aside}-wal")
    _unlink(f"{path}-shm")
    return aside


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


# ---- a file that is taken away --------------------------------------------------------------------


def is_in_place(connection_file: os.stat_result, path: str) -> bool:
    """Tell whether the file that was opened is still the one at its path."""
    try:
        return os.path.samestat(connection_file, os.stat(path))
    except FileNotFoundError:
        return False


def put_back(connection: sqlite3.Connection, path: str) -> sqlite3.Connection:
    """Write the database anew from the deleted file that is still open, which is closed.

    Raises `sqlite3.Error` or `OSError` when that cannot be done just now; the open file is kept then.
    """
    new = f"{path}.new"
    for companion in ("", *_COMPANIONS):
        _unlink(f"{new}{companion}")
    os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(new)) as copy:
        connection.backup(copy)
    for companion in _COMPANIONS:
        _unlink(f"{path}{companion}")
    os.rename(new, path)
    # SQLite removes its companions by name when it closes: those of the new file come after that.
    connection.close()
    return open_database(path)
