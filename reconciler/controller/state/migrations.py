"""From each former version of the state to the next one: a ladder, climbed in one transaction.

A change of the tables in `schema` is a new version with a rung here. A rung stays as it was written: it carries the
statements that it needs, and knows nothing of the tables as they are today.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final

from reconciler.controller.state import seals

_SEALED: Final = {
    "meta": "key text primary key, value text not null, seal text not null",
    "applied": "one integer primary key check (one = 1), revision integer not null, spec text not null, "
    "retiring text not null, source text not null, environment text not null, wall_ns integer not null, uid integer, "
    "seal text not null",
    "files": "path text primary key, digest text not null, size integer not null, inode integer not null, text blob, "
    "seal text not null",
    "intents": "watcher text primary key, intent text not null, seal text not null",
    "generations": "watcher text primary key, generation text, known integer not null, seal text not null",
    "runs": "watcher text not null, slot integer not null, generation integer not null, run text not null, "
    "seal text not null, primary key (watcher, slot, generation)",
}


def _seal(connection: sqlite3.Connection) -> None:
    """Give the rows of version 1 the seals that they have from version 2 on."""
    for table, columns in _SEALED.items():
        connection.execute(f"alter table {table} rename to former")
        connection.execute(f"create table {table} ({columns}) without rowid")
        for row in connection.execute("select * from former").fetchall():
            seals.put(connection, table, *row)
        connection.execute("drop table former")


def _add_timetables(connection: sqlite3.Connection) -> None:
    """Make the table of the schedules of jobs; up to version 2 there were none."""
    columns = "watcher text primary key, timetable text not null, seal text not null"
    connection.execute(f"create table timetables ({columns}) without rowid")


LADDER: Final[tuple[Callable[[sqlite3.Connection], None], ...]] = (_seal, _add_timetables)
"""The first leads from version 1 to version 2."""
VERSION: Final = len(LADDER) + 1


def climb(connection: sqlite3.Connection, version: int) -> None:
    """Change the tables of a former version into today's, within the caller's transaction."""
    for rung in LADDER[version - 1 :]:
        rung(connection)
