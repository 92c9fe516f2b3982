"""The tables of `<state_dir>/state.db`, and how it is opened.

All but `damaged` are sealed: see `seals`, where new tables are listed too.

| table | a row is |
|---|---|
| `meta` | a word and its value: schema, number of commits, next event, keeper, whether a ledger was lost |
| `applied` | the spec in force: revision, plain JSON, what it retires, who and when; one row |
| `files` | a file that the spec in force was read from, with its digest and, of YAML files, its text |
| `revisions` | an entry of the history: when, who, what came of it; the newest `KEPT_REVISIONS` |
| `contents` | the content of a revision: spec and files, as compressed JSON |
| `intents` | an operator's word about a watcher |
| `intents_twin` | the same again, in another page: there is no safe guess of what was said |
| `generations` | the newest generation of a job; `known` 0: its ledger was lost |
| `timetables` | how far the schedule of a job has come |
| `runs` | one run of one slot of a job; as many of each slot as `keep_runs` says |
| `events` | one event; the newest `KEPT_EVENTS`, and `KEPT_ORDERS` of what was ordered and applied |
| `answers` | what a request with an id was answered; the newest `KEPT_ANSWERS` |
| `damaged` | a row of another table whose seal was broken, as it was found, and when |
"""

from __future__ import annotations

import os
import sqlite3
from typing import Final

from reconciler.controller.state import seals
from reconciler.controller.state.migrations import VERSION, climb

KEPT_DAMAGED: Final = 1000
KEPT_ANSWERS: Final = 1000
PRUNED_EVERY: Final = 256
"""Events between two looks at how many there are."""

# Words of `meta`.
LEDGER_LOST: Final = "ledger_lost"
COMMITS: Final = "commits"
EVENTS_BELOW: Final = "events_below"
SCHEMA_WORD: Final = "schema"

TABLES: Final = """
create table if not exists meta (key text primary key, value text not null, seal text not null) without rowid;
create table if not exists applied (
    one integer primary key check (one = 1), revision integer not null, spec text not null,
    retiring text not null, source text not null, environment text not null,
    wall_ns integer not null, uid integer, seal text not null) without rowid;
create table if not exists files (
    path text primary key, digest text not null, size integer not null, inode integer not null, text blob,
    seal text not null) without rowid;
create table if not exists revisions (
    number integer primary key, revision text not null, seal text not null) without rowid;
create table if not exists contents (
    number integer primary key, content blob not null, seal text not null) without rowid;
create table if not exists intents (
    watcher text primary key, intent text not null, seal text not null) without rowid;
create table if not exists intents_twin (
    watcher text primary key, intent text not null, seal text not null) without rowid;
create table if not exists generations (
    watcher text primary key, generation text, known integer not null, seal text not null) without rowid;
create table if not exists timetables (
    watcher text primary key, timetable text not null, seal text not null) without rowid;
create table if not exists runs (
    watcher text not null, slot integer not null, generation integer not null, run text not null,
    seal text not null, primary key (watcher, slot, generation)) without rowid;
create table if not exists events (
    seq integer primary key, time_ns integer not null, type text not null, watcher text not null,
    slot integer not null, message text not null, details text not null, seal text not null) without rowid;
create table if not exists answers (
    uid integer not null, request_id text not null, number integer not null, method text not null,
    results text not null, seal text not null, primary key (uid, request_id)) without rowid;
create table if not exists damaged (wall_ns integer not null, "table" text not null, row text not null);
"""


class NewerState(Exception):
    """The state was written by a newer version, which knows things that this one would lose."""


def open_database(path: str) -> sqlite3.Connection:
    """Open or create the database.

    Raises `NewerState`, `OSError` when the folder cannot be used at all, and any error of SQLite; `damage` judges them.
    """
    # The file exists with its mode before anything is in it; WAL and shared memory files inherit it.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=1, check_same_thread=False, cached_statements=32)
    connection.text_factory = seals.as_read
    try:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute("pragma cache_size = -512")
        # What is there already needs no write: a controller must come back while the disk is full.
        found = _check(connection, path)
        former = _version(connection) if found else VERSION
        if former < VERSION or not found >= {*seals.KEYS, "damaged"}:
            connection.execute("begin immediate")
            with connection:
                climb(connection, former)
                for statement in TABLES.split(";"):
                    connection.execute(statement)
                connection.execute(f"pragma user_version = {VERSION}")
                set_meta(connection, SCHEMA_WORD, str(VERSION))
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, path: str) -> set[str]:
    """Return the tables that are there. Raises `NewerState`, and `DatabaseError` for damage."""
    (verdict,) = connection.execute("pragma quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(str(verdict))
    named = connection.execute("select name from sqlite_master where type = 'table'")
    tables = {str(name) for (name,) in named}
    if not tables:
        return tables
    if "meta" not in tables:
        msg = "it holds other tables than ours"
        raise sqlite3.DatabaseError(msg)
    version = _version(connection)
    if version > VERSION:
        msg = (
            f"cannot use {path}: it was written by a newer version of reconcile (state version {version}, "
            f"this one knows {VERSION}); install that version again, or give another --state-dir"
        )
        raise NewerState(msg)
    return tables


def _version(connection: sqlite3.Connection) -> int:
    """Return the version of the state. It stands in two places: what only one of them says is damage, not news."""
    (number,) = connection.execute("pragma user_version").fetchone()
    row = connection.execute("select value from meta where key = 'schema'").fetchone()
    word = int(row[0]) if row is not None and str(row[0]).isdecimal() else VERSION
    number = number or 1  # version 1 did not say so there
    return min(number, word) if number == word or min(number, word) > VERSION else VERSION


def set_meta(connection: sqlite3.Connection, key: str, value: str) -> None:
    """Set a word's value."""
    seals.put(connection, "meta", key, value)
