"""What the ledger holds of jobs: which run was fired when, by what and whom, and how it ended.

It is read beside the writer, by a connection of its own in a thread, so that nobody waits for a full disk.
The newest run of each slot is known in memory, too, and may be newer there than on the disk.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final, TypeAlias

from reconciler.controller import clock, rows
from reconciler.controller.exchange import Method
from reconciler.controller.selection import select, wanted
from reconciler.model.errors import RequestError
from reconciler.model.job import Run
from reconciler.model.value import PlainError, from_plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from reconciler.controller.exchange import Exchange
    from reconciler.controller.parameters import Parameters
    from reconciler.controller.selection import Slots

MAX_RUNS: Final = 10_000
DEFAULT_RUNS: Final = 1000

Key: TypeAlias = tuple[str, int, int]
"""Job, slot, generation."""


def _runs(exchange: Exchange, params: Parameters) -> object:
    selection, limit = wanted(params), params.number("limit", 1, MAX_RUNS) or DEFAULT_RUNS
    params.end()
    controller = exchange.controller
    selected = select(controller, selection, needed=True)
    jobs = {}
    for name, slots in selected.slots.items():
        spec = controller.reconciler.watcher_spec(name)
        if spec is not None and spec.is_job:
            jobs[name] = slots
        elif name in selected.by_name:
            hint = "only jobs (restart: never) have runs; see: reconcile events"
            raise RequestError(
                code="invalid_request", message=f"{name} is a service, not a job", hint=hint
            )
    path = controller.store.path

    def read(stored: dict[Key, Run] | None) -> None:
        found = stored or {}
        for name, slots in jobs.items():
            for slot, run in controller.observed(name).job.runs.items():
                key = (name, slot, run.generation)
                if slots is not None and slot not in slots:
                    continue
                # The row has wall times, so it counts unless the run has ended since.
                if key not in found or found[key].outcome != run.outcome:
                    found[key] = run
        exchange.reply({"runs": _told(found, limit), "complete": stored is not None})

    return exchange.in_lane("records", lambda: stored_runs(path, jobs, limit), read)


def _told(found: Mapping[Key, Run], limit: int) -> list[dict[str, object]]:
    """Return runs as clients see them, the newest first."""
    offset = clock.wall_offset_ns()
    fired = {key: run.fired_wall_ns or run.fired_at_ns + offset for key, run in found.items()}
    newest = sorted(found, key=lambda key: (fired[key], key[2], -key[1]), reverse=True)
    return [
        {
            "name": key[0],
            "slot": key[1],
            "generation": key[2],
            "trigger": found[key].trigger,
            "who": found[key].who,
            "fired_ns": fired[key],
            "ended_ns": _ended_ns(found[key], fired[key]),
            "duration_ns": found[key].duration_ns,
            "outcome": found[key].outcome,
            "pid": found[key].pid,
            "exit": found[key].exit,
            "note": found[key].note,
        }
        for key in newest[:limit]
    ]


def _ended_ns(run: Run, fired_ns: int) -> int | None:
    if run.ended_wall_ns is not None or run.duration_ns is None:
        return run.ended_wall_ns
    return fired_ns + run.duration_ns


def stored_runs(path: Path, jobs: Mapping[str, Slots], limit: int) -> dict[Key, Run] | None:
    """Return the newest runs on the disk, None when it cannot be read; damaged rows are left out."""
    found: dict[Key, Run] = {}
    try:
        with closing(rows.beside(path)) as connection:
            for name, slots in jobs.items():
                found |= _runs_of(connection, name, slots, limit)
    except sqlite3.Error:
        return None
    return found


def _runs_of(
    connection: sqlite3.Connection, name: str, slots: Slots, limit: int
) -> Iterable[tuple[Key, Run]]:
    tail = "where watcher = ? order by generation desc, slot limit ?"
    for watcher, slot, generation, text in rows.read(connection, "runs", [], tail, (name, limit)):
        if slots is None or slot in slots:
            try:
                run: Run = from_plain(Run, json.loads(str(text)))
            except (PlainError, ValueError):
                continue  # of a newer version
            yield (str(watcher), int(str(slot)), int(str(generation))), run


METHODS: Final[Mapping[str, Method]] = {"runs": Method(_runs, "view")}
