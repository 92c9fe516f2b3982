"""Each record as rows of the tables."""

from __future__ import annotations

import json
import sqlite3
from typing import Final

from reconciler.controller.runtime import clock
from reconciler.controller.state import history, records, schema, seals
from reconciler.controller.state.reads import Reading
from reconciler.model.answer import EventEntry
from reconciler.model.intent import Intent
from reconciler.model.job import Run
from reconciler.model.value import replace, to_plain

KEPT_FORMER: Final = 1000
"""Watchers that stand in no spec any more and whose ledger and words are kept: they may come back."""
MAX_SHOWN: Final = 10_000
"""Characters of a value that is set aside."""


def write(connection: sqlite3.Connection, record: records.Record) -> None:
    """Write one record, within the caller's transaction."""
    match record:
        case records.Applied():
            _write_applied(connection, record)
        case records.RetiringChanged(retiring):
            _change_applied(connection, retiring=_text(retiring))
        case records.FilesChanged(files, environment):
            _write_files(connection, files)
            _change_applied(connection, environment=environment)
        case records.RevisionChanged(revision):
            history.write(connection, revision)
        case records.IntentWritten(watcher, intent):
            _write_intent(connection, watcher, intent)
        case records.GenerationWritten(watcher, generation):
            seals.put(connection, "generations", watcher, _text(generation), 1)
        case records.TimetableWritten(watcher, timetable):
            seals.put(connection, "timetables", watcher, _text(timetable))
        case records.OrderWritten(parts, answered):
            for each in parts:
                write(connection, each)
            if answered is not None:
                _write_answer(connection, answered)
        case records.RunWritten(watcher, run, keep):
            _write_run(connection, watcher, run, keep)
        case records.EventsWritten(events, below, replaced):
            _write_events(connection, events)
            connection.executemany(
                "delete from events where seq = ?", [(number,) for number in replaced]
            )
            schema.set_meta(connection, schema.EVENTS_BELOW, str(below))
        case records.NumbersReserved(below):
            schema.set_meta(connection, schema.EVENTS_BELOW, str(below))
        case records.ServedBy(keeper_id):
            schema.set_meta(connection, "keeper_id", keeper_id)


def set_aside(connection: sqlite3.Connection, read: Reading) -> None:
    """Take the damaged rows out of their tables and write down what is in doubt because of them."""
    for each in read.broken:
        seals.drop(connection, each)
        named = json.dumps([repr(value)[:MAX_SHOWN] for value in each.values])
        connection.execute(
            "insert into damaged values (?, ?, ?)", (clock.wall_ns(), each.table, named)
        )
    connection.execute(
        "delete from damaged where rowid <= (select max(rowid) from damaged) - ?",
        (schema.KEPT_DAMAGED,),
    )
    for watcher, job in read.stored.jobs.items():
        if not job.known:
            text = None if job.generation is None else _text(job.generation)
            seals.put(connection, "generations", watcher, text, 0)
    for watcher, intent in read.stored.intents.items():
        _write_intent(connection, watcher, intent)
    if read.stored.applied is not None:
        _put_applied(connection, read.stored.applied)
    if read.stored.ledger_lost:
        schema.set_meta(connection, schema.LEDGER_LOST, "1")


def _text(value: object) -> str:
    return json.dumps(to_plain(value), separators=(",", ":"))


def _write_intent(connection: sqlite3.Connection, watcher: str, intent: Intent) -> None:
    for table in ("intents", "intents_twin"):
        seals.put(connection, table, watcher, _text(intent))


def _put_applied(connection: sqlite3.Connection, applied: records.Applied) -> str:
    """Write the spec in force; return it as text."""
    spec = _text(applied.spec)
    seals.put(
        connection,
        "applied",
        1,
        applied.revision,
        spec,
        _text(applied.retiring),
        json.dumps(applied.source),
        applied.environment,
        applied.wall_ns,
        applied.uid,
    )
    return spec


def _write_applied(connection: sqlite3.Connection, applied: records.Applied) -> None:
    spec = _put_applied(connection, applied)
    _write_files(connection, applied.files)
    if applied.made is not None:
        history.add(connection, applied.made, spec, applied.files)
    if applied.unknown_jobs:
        have = {row[0] for row in seals.read(connection, "generations", [])}
        for name in {*applied.unknown_jobs} - have:
            seals.put(connection, "generations", name, None, 0)
    connection.execute("delete from meta where key = ?", (schema.LEDGER_LOST,))
    _forget_former(connection, {*applied.spec.watchers, *applied.retiring})


def _forget_former(connection: sqlite3.Connection, known: set[str]) -> None:
    """Drop what is known of watchers that were removed, when there are too many of them."""
    for table, others in (
        ("generations", ("runs",)),
        ("timetables", ()),
        ("intents", ("intents_twin",)),
    ):
        names = connection.execute(f"select watcher from {table}").fetchall()
        former = [name for (name,) in names if name not in known]
        for name in former[KEPT_FORMER:]:
            for each in (table, *others):
                connection.execute(f"delete from {each} where watcher = ?", (name,))


def _change_applied(connection: sqlite3.Connection, **changed: str) -> None:
    """Change columns of the spec in force; a damaged row is left alone, sealing it would make it believed."""
    for row in seals.read(connection, "applied", []):
        values = dict(zip(seals.columns(connection, "applied"), row, strict=False)) | changed
        seals.put(connection, "applied", *values.values())


def _write_files(connection: sqlite3.Connection, files: tuple[records.SourceFile, ...]) -> None:
    connection.execute("delete from files")
    for each in files:
        seals.put(connection, "files", each.path, each.digest, each.size, each.inode, each.text)


def _write_run(connection: sqlite3.Connection, watcher: str, run: Run, keep: int) -> None:
    text = _text(_with_wall_times(run))
    seals.put(connection, "runs", watcher, run.slot, run.generation, text)
    slot = (watcher, run.slot)
    newest = "select generation from runs where watcher = ? and slot = ? order by generation desc"
    connection.execute(
        f"delete from runs where watcher = ? and slot = ? and generation < ({newest} limit 1 offset ?)",
        (*slot, *slot, keep - 1),
    )


_ORDERS: Final = "(" + " or ".join(f"type glob '{each}*'" for each in records.ORDERS) + ")"


def _write_events(connection: sqlite3.Connection, events: tuple[EventEntry, ...]) -> None:
    for each in events:
        place = (each.seq, each.time_ns, each.type, each.watcher, each.slot)
        seals.put(connection, "events", *place, each.message, _text(each.details))
    # The oldest that may stay is found by counting, so not at every batch.
    if (
        events
        and (events[0].seq - 1) // schema.PRUNED_EVERY != events[-1].seq // schema.PRUNED_EVERY
    ):
        for which, kept in (
            (_ORDERS, records.KEPT_ORDERS),
            (f"not {_ORDERS}", records.KEPT_EVENTS),
        ):
            oldest = f"select seq from events where {which} order by seq desc limit 1 offset ?"
            statement = f"delete from events where {which} and seq < ({oldest})"
            connection.execute(statement, (kept - 1,))


def _write_answer(connection: sqlite3.Connection, answered: records.Answered) -> None:
    (newest,) = connection.execute("select coalesce(max(number), 0) from answers").fetchone()
    key = answered.uid, answered.request_id
    seals.put(
        connection, "answers", *key, newest + 1, answered.method, json.dumps(answered.results)
    )
    connection.execute("delete from answers where number <= ?", (newest + 1 - schema.KEPT_ANSWERS,))


def _with_wall_times(run: Run) -> Run:
    """Return a run with the wall times that are known by now; they are for people, the core needs none."""
    if not run.fired_wall_ns:
        run = replace(run, fired_wall_ns=clock.wall_offset_ns() + run.fired_at_ns)
    if run.outcome is not None and run.ended_wall_ns is None:
        ended = clock.wall_ns() if run.duration_ns is None else run.fired_wall_ns + run.duration_ns
        run = replace(run, ended_wall_ns=ended)
    return run
