"""Sealed rows: what a row says is believed only while its seal is whole.

SQLite notices a page whose structure is broken, not a letter that has changed inside a value. So every
row ends in a `seal` over its table, its columns and their types. `put` seals, `read` opens; nothing else
writes or reads a table that a decision rests on.

A seal has two parts. The first covers the key alone: a row whose content is damaged still says whose it
is, and only that one is in doubt. When that part is broken too, nobody knows whose row it was.

Tables are `without rowid`, so that each value lies in the file once: with an index beside the table,
damage to one of the two would show one row in two versions.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, TypeAlias

from reconciler.model.digest import blake2b
from reconciler.model.value import Struct

Value: TypeAlias = int | float | str | bytes | None

KEYS: Final = {
    "meta": 1,
    "applied": 1,
    "files": 1,
    "revisions": 1,
    "contents": 1,
    "intents": 1,
    "intents_twin": 1,
    "generations": 1,
    "timetables": 1,
    "runs": 3,
    "answers": 2,
    "events": 1,
}
"""The sealed tables, each with how many of its first columns are its key; `seal` is always its last."""

_KEY_DIGITS: Final = 8


class Broken(Struct, frozen=True):
    """A row whose seal does not fit what it says. `key` is None when the key itself cannot be trusted."""

    table: str
    key: tuple[Value, ...] | None
    values: tuple[Value, ...]
    """All columns as they were found, the seal among them."""

    def __str__(self) -> str:
        """Return a sentence that names the row."""
        if self.key is None:
            return f"a row of table {self.table} is damaged; its watcher is unknown"
        place = ", ".join(map(str, self.key))
        return f"the row of table {self.table} for {place} is damaged"


def put(connection: sqlite3.Connection, table: str, *values: Value) -> None:
    """Insert or replace a row, and seal it. `values` are all its columns but the seal, in order."""
    marks = ", ".join("?" * (len(values) + 1))
    row = (*values, _seal(table, values))
    connection.execute(f"insert or replace into {table} values ({marks})", row)


def read(
    connection: sqlite3.Connection,
    table: str,
    broken: list[Broken],
    which: str = "",
    values: tuple[Value, ...] = (),
) -> list[tuple[Value, ...]]:
    """Return the rows of a table, without their seals; those that are damaged are added to `broken`.

    `which` is what follows in the statement, such as `where slot = ?`, with its values.
    """
    found = []
    for row in connection.execute(f"select * from {table} {which}", values):
        if row[-1] == _seal(table, row[:-1]):
            found.append(row[:-1])
        else:
            broken.append(_as_broken(table, row))
    return found


def salvage(connection: sqlite3.Connection, table: str) -> list[tuple[Value, ...]]:
    """Return the rows that can still be read out of a damaged file and whose seals are whole.

    A page that cannot be read ends a walk through a table, so the table is walked from both ends.
    """
    found: dict[tuple[Value, ...], tuple[Value, ...]] = {}
    backwards = ", ".join(f"{column} desc" for column in range(1, KEYS[table] + 1))
    for order in ("", f"order by {backwards}"):
        with suppress(sqlite3.DatabaseError):
            for row in connection.execute(f"select * from {table} {order}"):
                if row[-1] == _seal(table, row[:-1]):
                    found[row[: KEYS[table]]] = row[:-1]
    return list(found.values())


def drop(connection: sqlite3.Connection, broken: Broken) -> None:
    """Delete a damaged row, found by what it holds: the tree's order cannot be relied upon to find it."""
    # Text that is no text any more was read as bytes.
    names = columns(connection, broken.table)
    same = " and ".join(f"cast({name} as blob) is cast(? as blob)" for name in names)
    connection.execute(f"delete from {broken.table} where {same}", broken.values)


def columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """Return the names of a table's columns, none when there is no such table."""
    return [str(column[1]) for column in connection.execute(f"pragma table_info({table})")]


def beside(path: str) -> sqlite3.Connection:
    """Return another connection that only reads, and leaves even a damaged file as it is."""
    return _connect(path, "mode=ro")


def alone(path: str) -> sqlite3.Connection:
    """Return the only connection: it reads the write-ahead log, too, without a file for it beside."""
    connection = _connect(path, "mode=rw")
    connection.execute("pragma locking_mode = exclusive")
    return connection


def frozen(path: str) -> sqlite3.Connection:
    """Return a connection that needs nothing but the file itself, and does not see the write-ahead log."""
    return _connect(path, "immutable=1")


def _connect(path: str, how: str) -> sqlite3.Connection:
    from urllib.parse import quote  # late: nobody needs it to start

    place = quote(os.path.abspath(path))
    connection = sqlite3.connect(f"file://{place}?{how}", uri=True, timeout=1)
    connection.text_factory = as_read
    return connection


def as_read(data: bytes) -> str | bytes:
    """Return text as SQLite found it, or the bytes when they are no text: damage must not raise."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _as_broken(table: str, row: tuple[Value, ...]) -> Broken:
    seal, expected = row[-1], _seal(table, row[:-1])
    trusted = isinstance(seal, str) and seal[:_KEY_DIGITS] == expected[:_KEY_DIGITS]
    return Broken(table, row[: KEYS[table]] if trusted else None, row)


def _seal(table: str, values: Sequence[Value]) -> str:
    keys = KEYS[table]
    digest = blake2b(_bytes_of((table, *values[:keys])), digest_size=8)
    key = digest.hexdigest()[:_KEY_DIGITS]
    digest.update(_bytes_of(values[keys:]))
    return key + digest.hexdigest()


def _bytes_of(values: Sequence[Value]) -> bytes:
    """Return type, length and bytes of each value: no two rows give the same bytes."""
    parts: list[bytes] = []
    for value in values:
        data = value if isinstance(value, bytes) else str(value).encode()
        parts += (f"{type(value).__name__} {len(data)} ".encode(), data)
    return b"".join(parts)
