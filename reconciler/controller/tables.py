"""What lies in the tables: each entry as rows, and the rows as what a new controller is told.

A row whose seal is broken is named and set aside, and what it was about is in doubt: a job is unknown
until somebody reruns it, and a spec that cannot be read decides nothing.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from reconciler.controller import clock, history, rows
from reconciler.controller.entries import (
    KEPT_EVENTS,
    KEPT_ORDERS,
    ORDERS,
    Answered,
    Applied,
    EventsTold,
    FilesChanged,
    GenerationWritten,
    IntentWritten,
    NumbersReserved,
    OrderWritten,
    RetiringChanged,
    RevisionChanged,
    RunWritten,
    ServedBy,
    SourceFile,
    Stored,
    ToldEvent,
)
from reconciler.controller.rows import Broken
from reconciler.controller.schema import (
    COMMITS,
    EVENTS_BELOW,
    KEPT_ANSWERS,
    KEPT_DAMAGED,
    LEDGER_LOST,
    PRUNED_EVERY,
    set_meta,
)
from reconciler.model.intent import Intent
from reconciler.model.job import Generation, Job, Run
from reconciler.model.process import ProcessId
from reconciler.model.spec import Spec, WatcherSpec
from reconciler.model.value import PlainError, from_plain, replace, to_plain

if TYPE_CHECKING:
    from pathlib import Path

    from reconciler.controller.entries import Entry
    from reconciler.controller.rows import Value

KEPT_FORMER: Final = 1000
"""Watchers that stand in no spec any more and whose ledger and words are kept: they may come back."""
MAX_SHOWN: Final = 10_000
"""Characters of a value that is set aside."""

# ---- writing --------------------------------------------------------------------------------------


def write(connection: sqlite3.Connection, entry: Entry) -> None:
    """Write one entry, within the caller's transaction."""
    match entry:
        case Applied():
            _write_applied(connection, entry)
        case RetiringChanged(retiring):
            _change_applied(connection, retiring=_text(retiring))
        case FilesChanged(files, environment):
            _write_files(connection, files)
            _change_applied(connection, environment=environment)
        case RevisionChanged(revision):
            history.write(connection, revision)
        case IntentWritten(watcher, intent):
            _write_intent(connection, watcher, intent)
        case GenerationWritten(watcher, generation):
            rows.put(connection, "generations", watcher, _text(generation), 1)
        case OrderWritten(entries, answered):
            for each in entries:
                write(connection, each)
            if answered is not None:
                _write_answer(connection, answered)
        case RunWritten(watcher, run, keep):
            _write_run(connection, watcher, run, keep)
        case EventsTold(events, below, replaced):
            _write_events(connection, events)
            connection.executemany(
                "delete from events where seq = ?", [(number,) for number in replaced]
            )
            set_meta(connection, EVENTS_BELOW, str(below))
        case NumbersReserved(below):
            set_meta(connection, EVENTS_BELOW, str(below))
        case ServedBy(keeper_id):
            set_meta(connection, "keeper_id", keeper_id)


def set_aside(connection: sqlite3.Connection, read: Reading) -> None:
    """Take the damaged rows out of their tables and write down what is in doubt because of them."""
    for each in read.broken:
        rows.drop(connection, each)
        named = json.dumps([repr(value)[:MAX_SHOWN] for value in each.values])
        connection.execute(
            "insert into damaged values (?, ?, ?)", (clock.wall_ns(), each.table, named)
        )
    connection.execute(
        "delete from damaged where rowid <= (select max(rowid) from damaged) - ?", (KEPT_DAMAGED,)
    )
    for watcher, job in read.stored.jobs.items():
        if not job.known:
            text = None if job.generation is None else _text(job.generation)
            rows.put(connection, "generations", watcher, text, 0)
    for watcher, intent in read.stored.intents.items():
        _write_intent(connection, watcher, intent)
    if read.stored.applied is not None:
        _put_applied(connection, read.stored.applied)
    if read.stored.ledger_lost:
        set_meta(connection, LEDGER_LOST, "1")


def _text(value: object) -> str:
    return json.dumps(to_plain(value), separators=(",", ":"))


def _write_intent(connection: sqlite3.Connection, watcher: str, intent: Intent) -> None:
    for table in ("intents", "intents_twin"):
        rows.put(connection, table, watcher, _text(intent))


def _put_applied(connection: sqlite3.Connection, applied: Applied) -> str:
    """Write the spec in force; return it as text."""
    spec = _text(applied.spec)
    rows.put(
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


def _write_applied(connection: sqlite3.Connection, applied: Applied) -> None:
    spec = _put_applied(connection, applied)
    _write_files(connection, applied.files)
    if applied.made is not None:
        history.add(connection, applied.made, spec, applied.files)
    have = (
        {row[0] for row in rows.read(connection, "generations", [])} if applied.unknown_jobs else ()
    )
    for name in applied.unknown_jobs:
        if name not in have:
            rows.put(connection, "generations", name, None, 0)
    connection.execute("delete from meta where key = ?", (LEDGER_LOST,))
    _forget_former(connection, {*applied.spec.watchers, *applied.retiring})


def _forget_former(connection: sqlite3.Connection, known: set[str]) -> None:
    """Drop what is known of watchers that were removed, when there are too many of them."""
    for table, others in (("generations", ("runs",)), ("intents", ("intents_twin",))):
        names = connection.execute(f"select watcher from {table}").fetchall()
        former = [name for (name,) in names if name not in known]
        for name in former[KEPT_FORMER:]:
            for each in (table, *others):
                connection.execute(f"delete from {each} where watcher = ?", (name,))


def _change_applied(connection: sqlite3.Connection, **changed: str) -> None:
    """Change columns of the spec in force; a damaged row is left alone, sealing it would make it believed."""
    for row in rows.read(connection, "applied", []):
        values = dict(zip(rows.columns(connection, "applied"), row, strict=False)) | changed
        rows.put(connection, "applied", *values.values())


def _write_files(connection: sqlite3.Connection, files: tuple[SourceFile, ...]) -> None:
    connection.execute("delete from files")
    for each in files:
        rows.put(connection, "files", each.path, each.digest, each.size, each.inode, each.text)


def _write_run(connection: sqlite3.Connection, watcher: str, run: Run, keep: int) -> None:
    text = _text(_with_wall_times(run))
    rows.put(connection, "runs", watcher, run.slot, run.generation, text)
    slot = (watcher, run.slot)
    newest = "select generation from runs where watcher = ? and slot = ? order by generation desc"
    connection.execute(
        f"delete from runs where watcher = ? and slot = ? and generation < ({newest} limit 1 offset ?)",
        (*slot, *slot, keep - 1),
    )


_ORDERS: Final = "(" + " or ".join(f"type glob '{each}*'" for each in ORDERS) + ")"


def _write_events(connection: sqlite3.Connection, events: tuple[ToldEvent, ...]) -> None:
    for each in events:
        place = (each.seq, each.time_ns, each.type, each.watcher, each.slot)
        rows.put(connection, "events", *place, each.message, _text(each.details))
    # The oldest that may stay is found by counting, so not at every batch.
    if events and (events[0].seq - 1) // PRUNED_EVERY != events[-1].seq // PRUNED_EVERY:
        for which, kept in ((_ORDERS, KEPT_ORDERS), (f"not {_ORDERS}", KEPT_EVENTS)):
            oldest = f"select seq from events where {which} order by seq desc limit 1 offset ?"
            statement = f"delete from events where {which} and seq < ({oldest})"
            connection.execute(statement, (kept - 1,))


def _write_answer(connection: sqlite3.Connection, answered: Answered) -> None:
    (newest,) = connection.execute("select coalesce(max(number), 0) from answers").fetchone()
    key = answered.uid, answered.request_id
    rows.put(connection, "answers", *key, newest + 1, answered.method, json.dumps(answered.results))
    connection.execute("delete from answers where number <= ?", (newest + 1 - KEPT_ANSWERS,))


def _with_wall_times(run: Run) -> Run:
    """Return a run with the wall times that are known by now; they are for people, the core needs none."""
    if not run.fired_wall_ns:
        run = replace(run, fired_wall_ns=clock.wall_offset_ns() + run.fired_at_ns)
    if run.outcome is not None and run.ended_wall_ns is None:
        ended = clock.wall_ns() if run.duration_ns is None else run.fired_wall_ns + run.duration_ns
        run = replace(run, ended_wall_ns=ended)
    return run


# ---- reading --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Reading:
    """What is read, and what is found broken on the way."""

    connection: sqlite3.Connection
    damage: str = ""
    """What is wrong with the file itself, empty when nothing is."""
    commits: int = 0
    notes: list[str] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    stored: Stored = field(default_factory=Stored)

    def rows(self, table: str) -> list[tuple[Value, ...]]:
        """Return the rows of a table that can be believed."""
        return rows.read(self.connection, table, self.broken)

    def in_doubt(self, *tables: str) -> list[str | None]:
        """Return whose rows of these tables are damaged; None stands for one that says not whose it is."""
        found = [each for each in self.broken if each.table in tables]
        return [None if each.key is None else str(each.key[0]) for each in found]


def read(connection: sqlite3.Connection, damage: str = "") -> Reading:
    """Read everything. `damage` says in a sentence that rows may be missing, empty when none are."""
    reading = Reading(connection, damage, notes=[damage] if damage else [])
    meta = dict(cast("list[tuple[str, str]]", reading.rows("meta")))
    reading.commits = int(meta.get(COMMITS, 0))
    applied = _read_applied(reading)
    jobs = _read_jobs(reading)
    lost = _ledger_is_lost(reading, meta)
    if lost:
        named = (
            {name for name, spec in applied.spec.watchers.items() if spec.is_job} if applied else ()
        )
        jobs = {name: replace(jobs.get(name, Job()), known=False) for name in {*jobs, *named}}
    intents = _read_intents(reading)
    answered = _read_answers(reading)
    revisions, unreadable = history.read(reading.rows("revisions"))
    reading.notes += unreadable
    reading.notes += map(str, reading.broken)
    reading.stored = Stored(
        applied,
        jobs,
        intents,
        _next_event(reading, meta),
        lost and applied is None,
        meta.get("keeper_id", ""),
        tuple(reading.notes),
        revisions,
        answered=answered,
    )
    return reading


def _ledger_is_lost(reading: Reading, meta: Mapping[str, str]) -> bool:
    """Tell whether any job may have had runs that are not there any more."""
    doubts = reading.in_doubt("generations", "runs"), reading.in_doubt("meta")
    return (
        bool(reading.damage)
        or LEDGER_LOST in meta
        or None in doubts[0]
        or bool({None, LEDGER_LOST} & {*doubts[1]})
    )


def _next_event(reading: Reading, meta: Mapping[str, str]) -> int:
    """Return the first number that was never given."""
    (newest,) = reading.connection.execute("select max(seq) from events").fetchone()
    after = (newest or 0) + 1
    if EVENTS_BELOW in meta:
        return max(int(meta[EVENTS_BELOW]), after)
    # How many more were given is not known: more than are ever set aside at a time.
    return after + (KEPT_EVENTS if reading.damage or reading.in_doubt("meta") else 0)


_EventRow = tuple[int, int, str, str, int, str]


def stored_events(path: Path, before: int) -> list[ToldEvent]:
    """Return the events on the disk with smaller numbers than `before`, oldest first; none if it cannot be read."""
    which = "where seq < ? order by seq desc limit ?"
    try:
        with closing(rows.beside(path)) as connection:
            found = rows.read(connection, "events", [], which, (before, KEPT_EVENTS + KEPT_ORDERS))
    except sqlite3.Error:
        return []
    return [
        ToldEvent(*cast("_EventRow", row[:-1]), json.loads(str(row[-1]))) for row in reversed(found)
    ]


_OF_LIVES: Final = "select max(seq) from events where type in (?, ?, ?) group by watcher, slot"
_OF_THESE: Final = (
    "select json_extract(value, '$[0]'), json_extract(value, '$[1]') from json_each(?)"
)


def ends_told(path: Path, ids: Collection[ProcessId]) -> dict[ProcessId, int | None]:
    """Return what the events on the disk say last of some processes, as in `EndsTold`; none if they say nothing."""
    which = f"where seq in ({_OF_LIVES}) and (watcher, slot) in ({_OF_THESE})"
    places = json.dumps([(id.owner, id.slot) for id in ids])
    values = ("process.started", "process.exited", "process.failed", places)
    try:
        with closing(rows.beside(path)) as connection:
            found = rows.read(connection, "events", [], which, values)
    except sqlite3.Error:
        return {}
    told: dict[ProcessId, int | None] = {}
    for _, _, type_, watcher, slot, _, details in cast("list[tuple[*_EventRow, str]]", found):
        pid = 0 if type_ == "process.started" else json.loads(details)["pid"]
        told[ProcessId(watcher, slot)] = pid
    return told


def _read_applied(reading: Reading) -> Applied | None:
    files = tuple(SourceFile(*each) for each in reading.rows("files"))  # type: ignore[arg-type]  # sealed
    for row in reading.rows("applied"):
        _, revision, spec, retiring, source, environment, wall_ns, uid = cast("_AppliedRow", row)
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
            reading.notes.append(f"cannot read the stored spec of revision {revision}: {error}")
    return _from_history(reading, files)


def _from_history(reading: Reading, files: tuple[SourceFile, ...]) -> Applied | None:
    """Return the newest revision of the history, in place of a spec in force that cannot be read."""
    numbers = [cast("int", row[0]) for row in rows.read(reading.connection, "contents", [])]
    if not numbers:
        return None
    newest = max(numbers)
    try:
        spec = history.content(reading.connection, newest).spec
    except history.Unreadable as error:
        reading.notes.append(f"cannot read revision {newest} of the history: {error}")
        return None
    reading.notes.append(f"the spec in force cannot be read; revision {newest} is in its history")
    return Applied(spec, newest, files=files)


_AppliedRow = tuple[int, int, str, str, str, str, int, int | None]


def _read_jobs(reading: Reading) -> dict[str, Job]:
    """Return what the ledger knows; a job of which any row is damaged is unknown."""
    jobs: dict[str, Job] = {}
    for row in reading.rows("generations"):
        watcher, text, known = cast("tuple[str, str | None, int]", row)
        try:
            generation = None if text is None else from_plain(Generation, json.loads(text))
            jobs[watcher] = Job(generation, {}, bool(known))
        except (PlainError, ValueError) as error:
            reading.notes.append(f"cannot read the ledger of job {watcher}: {error}")
            jobs[watcher] = Job(known=False)
    newest: dict[tuple[str, int], tuple[int, str]] = {}
    for row in reading.rows("runs"):
        watcher, slot, number, text = cast("tuple[str, int, int, str]", row)
        newest[watcher, slot] = number, text  # they come in the order of their generations
    for (watcher, slot), (_, text) in newest.items():
        job = jobs.get(watcher, Job())
        try:
            run: Run = from_plain(Run, json.loads(text))
            jobs[watcher] = replace(job, runs={**job.runs, slot: run})
        except (PlainError, ValueError) as error:
            reading.notes.append(f"cannot read the ledger of job {watcher}, slot {slot}: {error}")
            jobs[watcher] = replace(job, known=False)
    for name in _jobs_in_doubt(reading, {key: number for key, (number, _) in newest.items()}):
        jobs[name] = replace(jobs.get(name, Job()), known=False)
    return jobs


def _jobs_in_doubt(reading: Reading, newest: Mapping[tuple[str, int], int]) -> set[str]:
    """Return the jobs of which a row is damaged that decides: an older run is only history."""
    doubted = set()
    for each in reading.broken:
        if each.key is None:
            continue
        if each.table == "generations":
            doubted.add(str(each.key[0]))
        elif each.table == "runs":
            watcher, slot, number = cast("tuple[str, int, int]", each.key)
            if newest.get((watcher, slot), -1) < number:
                doubted.add(watcher)
    return doubted


def _read_answers(reading: Reading) -> tuple[Answered, ...]:
    found = cast("list[tuple[int, str, int, str, str]]", reading.rows("answers"))
    return tuple(
        Answered(uid, request_id, method, tuple(json.loads(results)))
        for uid, request_id, _, method, results in sorted(found, key=lambda row: row[2])
    )


def _read_intents(reading: Reading) -> dict[str, Intent]:
    """Return what operators said; each word stands twice, and one that is whole suffices."""
    intents: dict[str, Intent] = {}
    for table in ("intents_twin", "intents"):
        for row in reading.rows(table):
            watcher, text = cast("tuple[str, str]", row)
            try:
                intents[watcher] = from_plain(Intent, json.loads(text))
            except (PlainError, ValueError) as error:
                note = f"cannot read what an operator asked of {watcher}: {error}"
                reading.notes.append(note)
    return intents
