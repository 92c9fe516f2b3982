"""The rows of the tables as what a new controller is told.

A row whose seal is broken is named and set aside, and what it was about is in doubt: a job is unknown
until somebody reruns it, and a spec that cannot be read decides nothing.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import TypeVar, cast

from reconciler.controller.state import history, seals
from reconciler.controller.state.records import KEPT_EVENTS, Answered, Applied, SourceFile, Stored
from reconciler.controller.state.schema import COMMITS, EVENTS_BELOW, LEDGER_LOST
from reconciler.controller.state.seals import Broken, Value
from reconciler.model.intent import Intent
from reconciler.model.job import Generation, Job, Run, Timetable
from reconciler.model.spec import Spec, WatcherSpec
from reconciler.model.value import Part, PlainError, field, from_plain, replace

T = TypeVar("T")


class Reading(Part):
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
        return seals.read(self.connection, table, self.broken)

    def parsed(self, kind: type[T], text: str, what: str) -> T | None:
        """Return the value that a row holds; None when it cannot be read, which is noted."""
        try:
            return from_plain(kind, json.loads(text))
        except (PlainError, ValueError) as error:
            self.notes.append(f"cannot read {what}: {error}")
            return None

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
    rows = seals.read(reading.connection, "contents", [])
    newest = max((cast("int", row[0]) for row in rows), default=0)
    if not newest:
        return None
    found = history.read_spec(reading.connection, newest)
    if isinstance(found, str):
        reading.notes.append(f"cannot read revision {newest} of the history: {found}")
        return None
    reading.notes.append(f"the spec in force cannot be read; revision {newest} is in its history")
    return Applied(found, newest, files=files)


_AppliedRow = tuple[int, int, str, str, str, str, int, int | None]


def _read_jobs(reading: Reading) -> dict[str, Job]:
    """Return what the ledger knows; a job of which any row is damaged is unknown."""
    jobs: dict[str, Job] = {}
    for row in reading.rows("generations"):
        watcher, text, known = cast("tuple[str, str | None, int]", row)
        what = f"the ledger of job {watcher}"
        generation = None if text is None else reading.parsed(Generation, text, what)
        is_read = text is None or generation is not None
        jobs[watcher] = Job(generation, {}, bool(known) and is_read)
    newest: dict[tuple[str, int], tuple[int, str]] = {}
    for row in reading.rows("runs"):
        watcher, slot, number, text = cast("tuple[str, int, int, str]", row)
        newest[watcher, slot] = number, text  # they come in the order of their generations
    for (watcher, slot), (_, text) in newest.items():
        job = jobs.get(watcher, Job())
        run = reading.parsed(Run, text, f"the ledger of job {watcher}, slot {slot}")
        if run is None:
            jobs[watcher] = replace(job, known=False)
        else:
            jobs[watcher] = replace(job, runs={**job.runs, slot: run})
    for row in reading.rows("timetables"):
        watcher, text = cast("tuple[str, str]", row)
        table = reading.parsed(Timetable, text, f"the schedule of job {watcher}")
        jobs[watcher] = replace(jobs.get(watcher, Job()), timetable=table)
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
            intent = reading.parsed(Intent, text, f"what an operator asked of {watcher}")
            if intent is not None:
                intents[watcher] = intent
    return intents
