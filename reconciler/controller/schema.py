"""The tables of `<state_dir>/state.db`, and what is done with a damaged or newer file.

| table | a row is |
|---|---|
| `meta` | a word and its value: schema, next event number, keeper, whether a ledger was lost |
| `applied` | the spec in force: revision, plain JSON, what it retires, who and when; one row |
| `files` | a file that the spec in force was read from, with its digest and, of YAML files, its text |
| `intents` | an operator's word about a watcher |
| `generations` | the newest generation of a job; `known` 0: its ledger was lost |
| `runs` | one run of one slot of a job; the newest `KEPT_RUNS` of each slot |
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SCHEMA: Final = 1
KEPT_RUNS: Final = 50

TABLES: Final = frozenset({"meta", "applied", "files", "intents", "generations", "runs"})
_TABLES: Final = """
create table if not exists meta (key text primary key, value text not null);
create table if not exists applied (
    one integer primary key check (one = 1), revision integer not null, spec text not null,
    retiring text not null, source text not null, environment text not null,
    wall_ns integer not null, uid integer);
create table if not exists files (
    path text primary key, digest text not null, size integer not null, inode integer not null, text blob);
create table if not exists intents (watcher text primary key, intent text not null);
create table if not exists generations (
    watcher text primary key, generation text, known integer not null default 1);
create table if not exists runs (
    watcher text not null, slot integer not null, generation integer not null, run text not null,
    primary key (watcher, slot, generation)) without rowid;
"""


class NewerState(Exception):
    """The state was written by a newer version, which knows things that this one would lose."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An open database. `damage` tells in a sentence what was lost, empty when nothing was."""

    connection: sqlite3.Connection
    damage: str = ""


def open_database(path: Path) -> Opened:
    """Open or create the database; a damaged one is moved aside and its loss is written into the new one.

    Raises `NewerState`, and `sqlite3.OperationalError` or `OSError` when the folder cannot be used at all.
    """
    try:
        return Opened(_open(path))
    except sqlite3.OperationalError:
        # Locked, read-only, no space, no permission: the file itself may be good, so it is left alone.
        raise
    except sqlite3.DatabaseError as error:
        aside = _move_aside(path)
        connection = _open(path)
        with connection:
            set_meta(connection, "ledger_lost", "1")
        return Opened(connection, f"{path} is damaged ({error}); it was moved to {aside}")


def _open(path: Path) -> sqlite3.Connection:
    # The file exists with its mode before anything is in it; WAL and shared memory files inherit it.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=5, check_same_thread=False, cached_statements=32)
    try:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute("pragma cache_size = -512")
        # What is there already needs no write: a controller must come back while the disk is full.
        if not _check(connection, path):
            connection.executescript(_TABLES)
            with connection:
                connection.execute(
                    "insert or ignore into meta values ('schema', ?)", (str(SCHEMA),)
                )
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, path: Path) -> bool:
    """Tell whether the tables are there. Raises `NewerState`, and `DatabaseError` for damage."""
    (verdict,) = connection.execute("pragma quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)
    tables = {
        name
        for (name,) in connection.execute("select name from sqlite_master where type = 'table'")
    }
    if "meta" not in tables:
        if tables:
            msg = "it holds other tables than ours"
            raise sqlite3.DatabaseError(msg)
        return False
    version = int(get_meta(connection, "schema") or SCHEMA)
    if version > SCHEMA:
        msg = (
            f"cannot use {path}: it was written by a newer version of reconcile (state version {version}, "
            f"this one knows {SCHEMA}); install that version again, or give another --state-dir"
        )
        raise NewerState(msg)
    return tables >= TABLES


def _move_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    number = 1
    while aside.exists():
        number += 1
        aside = aside.with_name(f"{aside.name.partition('+')[0]}+{number}")
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
    return aside


def get_meta(connection: sqlite3.Connection, key: str) -> str | None:
    """Return a word's value, or None."""
    row = connection.execute("select value from meta where key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def set_meta(connection: sqlite3.Connection, key: str, value: str) -> None:
    """Set a word's value."""
    connection.execute("insert or replace into meta values (?, ?)", (key, value))
