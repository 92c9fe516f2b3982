"""The history of applied specs as rows: an entry per revision, and its content beside it.

Entries are few words and are all read at the start. A content is as large as the spec, compressed, and
read only when somebody asks for it: for a difference, or to take it again.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import zlib
from collections.abc import Iterable
from typing import Final, cast

from reconciler.controller.state import seals
from reconciler.controller.state.records import SourceFile
from reconciler.controller.state.seals import Broken, Value
from reconciler.model.revision import Revision
from reconciler.model.spec import Spec
from reconciler.model.value import PlainError, from_plain, to_plain

KEPT_REVISIONS: Final = 50
"""So many of the newest are kept, and the newest good one however old it is."""


# ---- writing --------------------------------------------------------------------------------------


def add(
    connection: sqlite3.Connection, made: Revision, spec: str, files: tuple[SourceFile, ...]
) -> None:
    """Write a new revision with its content, and drop those that are too old. `spec` is plain JSON."""
    write(connection, made)
    listed = json.dumps([_plain_file(each) for each in files])
    text = f'{{"spec":{spec},"files":{listed}}}'
    seals.put(connection, "contents", made.number, zlib.compress(text.encode()))
    known, _ = read(seals.read(connection, "revisions", []))
    for number in dropped(known):
        for table in ("revisions", "contents"):
            connection.execute(f"delete from {table} where number = ?", (number,))


def write(connection: sqlite3.Connection, revision: Revision) -> None:
    """Write what is known of a revision."""
    text = json.dumps(to_plain(revision), separators=(",", ":"))
    seals.put(connection, "revisions", revision.number, text)


def dropped(revisions: dict[int, Revision]) -> list[int]:
    """Return the revisions that are too old to be kept."""
    good = max((n for n, each in revisions.items() if each.outcome == "good"), default=0)
    return [number for number in sorted(revisions)[:-KEPT_REVISIONS] if number != good]


def _plain_file(file: SourceFile) -> dict[str, object]:
    text = None if file.text is None else base64.b64encode(file.text).decode()
    return {"path": file.path, "digest": file.digest, "size": file.size, "text": text}


# ---- reading --------------------------------------------------------------------------------------


def read(found: Iterable[tuple[Value, ...]]) -> tuple[dict[int, Revision], list[str]]:
    """Return the entries of the history by number, and what is to be told of those that are unreadable."""
    revisions: dict[int, Revision] = {}
    notes = []
    for number, text in cast("Iterable[tuple[int, str]]", found):
        try:
            revisions[number] = from_plain(Revision, json.loads(text))
        except (PlainError, ValueError) as error:
            notes.append(f"cannot read the history's entry of revision {number}: {error}")
    return revisions, notes


def read_spec(connection: sqlite3.Connection, number: int) -> Spec | str:
    """Return the spec of a revision, or why it cannot be had. Raises errors of SQLite."""
    broken: list[Broken] = []
    found = seals.read(connection, "contents", broken, "where number = ?", (number,))
    if not found:
        return str(broken[0]) if broken else "it is not in the store (any more)"
    try:
        data = zlib.decompress(cast("bytes", found[0][1]))
        found_spec: Spec = from_plain(Spec, json.loads(data)["spec"])
    except (PlainError, ValueError, KeyError, TypeError, zlib.error) as error:
        return str(error)
    return found_spec
