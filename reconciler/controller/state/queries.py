"""What is read of the database later, when somebody asks: beside the writer, in a thread that may wait."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping
from contextlib import closing, suppress
from typing import Final, TypeAlias, cast

from reconciler.controller.state import history, seals
from reconciler.controller.state.records import KEPT_EVENTS, KEPT_ORDERS
from reconciler.model.answer import EventEntry
from reconciler.model.job import Run
from reconciler.model.process import ProcessId
from reconciler.model.spec import Spec
from reconciler.model.value import PlainError, from_plain

Key: TypeAlias = tuple[str, int, int]
"""Job, slot, generation."""
Slots: TypeAlias = tuple[int, ...] | None
"""Slots of a job; None: all."""
_EventRow = tuple[int, int, str, str, int, str]


def stored_runs(path: str, jobs: Mapping[str, Slots], limit: int) -> dict[Key, Run] | None:
    """Return the newest runs on the disk, None when it cannot be read; damaged rows are left out."""
    found: dict[Key, Run] = {}
    tail = "where watcher = ? order by generation desc, slot limit ?"
    try:
        with closing(seals.beside(path)) as connection:
            for name, slots in jobs.items():
                rows = seals.read(connection, "runs", [], tail, (name, limit))
                for _, slot, generation, text in cast("list[tuple[str, int, int, str]]", rows):
                    if slots is None or slot in slots:
                        with suppress(PlainError, ValueError):  # of a newer version
                            found[name, slot, generation] = from_plain(Run, json.loads(text))
    except sqlite3.Error:
        return None
    return found


def read_spec(path: str, number: int) -> Spec | str:
    """Return the spec of a revision, or why it cannot be had."""
    try:
        with closing(seals.beside(path)) as connection:
            return history.read_spec(connection, number)
    except sqlite3.Error as error:
        return str(error)


def stored_events(path: str, before: int) -> list[EventEntry]:
    """Return the events on the disk with smaller numbers than `before`, oldest first; none if it cannot be read."""
    which = "where seq < ? order by seq desc limit ?"
    try:
        with closing(seals.beside(path)) as connection:
            found = seals.read(connection, "events", [], which, (before, KEPT_EVENTS + KEPT_ORDERS))
    except sqlite3.Error:
        return []
    return [
        EventEntry(*cast("_EventRow", row[:-1]), json.loads(str(row[-1])))
        for row in reversed(found)
    ]


_OF_LIVES: Final = "select max(seq) from events where type in (?, ?, ?) group by watcher, slot"
_OF_THESE: Final = (
    "select json_extract(value, '$[0]'), json_extract(value, '$[1]') from json_each(?)"
)


def ends_told(path: str, ids: Collection[ProcessId]) -> dict[ProcessId, int | None]:
    """Return what the events on the disk say last of some processes, as in `EndsTold`; none if they say nothing."""
    which = f"where seq in ({_OF_LIVES}) and (watcher, slot) in ({_OF_THESE})"
    places = json.dumps([(id.owner, id.slot) for id in ids])
    values = ("process.started", "process.exited", "process.failed", places)
    try:
        with closing(seals.beside(path)) as connection:
            found = seals.read(connection, "events", [], which, values)
    except sqlite3.Error:
        return {}
    told: dict[ProcessId, int | None] = {}
    for _, _, type_, watcher, slot, _, details in cast("list[tuple[*_EventRow, str]]", found):
        pid = 0 if type_ == "process.started" else json.loads(details)["pid"]
        told[ProcessId(watcher, slot)] = pid
    return told
