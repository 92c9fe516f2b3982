"""Claims about a damaged state: whatever became of the file, it is told and nothing is fired twice.

The checker knows only what was written and what is read: each job is as it was, or unknown.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.controller.entries import (
    Applied,
    Entry,
    GenerationWritten,
    IntentWritten,
    NumbersReserved,
    RunWritten,
    SourceFile,
    Stored,
)
from reconciler.controller.store import Store
from reconciler.model.intent import Intent
from reconciler.model.job import Generation, Run
from reconciler.model.spec import Spec, WatcherSpec

SEED = 20_260_301
JOBS = [f"job-{number}" for number in range(1, 9)]
SPEC = Spec(
    watchers={name: WatcherSpec(cmd=("true",), restart="never", numprocesses=2) for name in JOBS}
    | {"web": WatcherSpec(cmd=("run",))}
)
FILE = SourceFile("/specs/reconcile.yaml", "digest", 2000, 7, b"# words\n" * 250)


def history() -> list[Entry]:
    """Return a life: each job fired three times, the last time with everything succeeded."""
    entries: list[Entry] = [Applied(SPEC, 3, files=(FILE,)), NumbersReserved(10_001)]
    for name in JOBS:
        for number in range(1, 4):
            entries.append(GenerationWritten(name, Generation(number, "h", "first", "b", "k")))
            for slot in (1, 2):
                run = Run(slot, number, "k", "b", 1, 2, 3, "succeeded")
                entries.append(RunWritten(name, run))
    return [*entries, IntentWritten("web", Intent("stopped", who="alice"))]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    write(folder, *history())
    return folder


def write(folder: Path, *entries: Entry) -> None:
    store = Store(str(folder))
    store.read()
    for entry in entries:
        store.write(entry)
    store.close()


def read(folder: Path) -> Stored:
    store = Store(str(folder))
    try:
        return store.read()
    finally:
        store.close()


def check(stored: Stored, whole: Stored) -> None:
    """Assert that every job is as it was, or in doubt, and so is the spec."""
    for name, job in whole.jobs.items():
        found = stored.jobs.get(name)
        assert found == job or stored.ledger_lost or (found is not None and not found.known), name
    if stored.applied is not None and whole.applied is not None:
        # Of files that are not known any more it is only not known whether they have changed.
        assert replace(stored.applied, files=whole.applied.files) == whole.applied


def damaged_copy(good: Path, folder: Path, data: bytes) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "state.db").write_bytes(data)
    return folder


def test_a_whole_state_is_read_without_a_word(good: Path) -> None:
    stored = read(good)
    assert stored.notes == ()
    assert all(job.known and job.runs.keys() == {1, 2} for job in stored.jobs.values())
    assert stored.jobs.keys() == set(JOBS)


def test_x04_flipped_bits_never_make_a_job_run_again(good: Path, tmp_path: Path) -> None:
    whole, data = read(good), (good / "state.db").read_bytes()
    chance, expected = random.Random(SEED), (whole.jobs, whole.applied, whole.intents)
    told = 0
    for place in chance.sample(range(len(data)), 300):
        broken = bytearray(data)
        broken[place] ^= 1 << chance.randrange(8)
        folder = damaged_copy(good, tmp_path / "flipped", bytes(broken))
        stored = read(folder)
        check(stored, whole)
        if (stored.jobs, stored.applied, stored.intents) != expected:
            assert stored.notes, place
        told += bool(stored.notes)
        check(read(folder), whole)
    assert told > 50


def test_a_damaged_row_is_told_once_set_aside_and_its_job_stays_unknown(
    good: Path, tmp_path: Path
) -> None:
    data = (good / "state.db").read_bytes()
    # The outcome of the newest run of one slot, changed by one letter.
    place = data.index(b'"succeeded"', data.index(b"job-5", data.index(b'"generation":3')))
    folder = damaged_copy(
        good, tmp_path / "row", data[:place] + b'"sUcceeded"' + data[place + 11 :]
    )
    first, second = read(folder), read(folder)
    (name,) = {name for name, job in first.jobs.items() if not job.known}
    assert [note for note in first.notes if name in note], first.notes
    assert not second.notes
    assert {name} == {name for name, job in second.jobs.items() if not job.known}
    with sqlite3.connect(folder / "state.db") as connection:
        ((table, row),) = connection.execute('select "table", row from damaged').fetchall()
    assert table == "runs"
    assert "sUcceeded" in row
    write(folder, GenerationWritten(name, Generation(4, "h", "operator", "b", "k")))
    assert all(job.known for job in read(folder).jobs.values())


def test_damage_to_an_older_run_is_history_and_puts_nothing_in_doubt(
    good: Path, tmp_path: Path
) -> None:
    shutil.copytree(good, tmp_path / "old")
    with sqlite3.connect(tmp_path / "old" / "state.db") as connection:
        connection.execute("update runs set run = '{}' where watcher = 'job-2' and generation = 1")
    stored = read(tmp_path / "old")
    assert stored.jobs == read(good).jobs
    assert "job-2" in stored.notes[0]


def test_a_row_that_says_not_whose_it_is_puts_every_job_in_doubt(
    good: Path, tmp_path: Path
) -> None:
    shutil.copytree(good, tmp_path / "renamed")
    with sqlite3.connect(tmp_path / "renamed" / "state.db") as connection:
        connection.execute("update runs set watcher = 'job-x' where watcher = 'job-2' and slot = 1")
    stored = read(tmp_path / "renamed")
    assert stored.jobs.keys() == set(JOBS)
    assert not any(job.known for job in stored.jobs.values())


def test_a_state_of_version_1_is_sealed_as_it_is(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "old")
    with sqlite3.connect(tmp_path / "old" / "state.db") as connection:
        for table in ("meta", "applied", "files", "intents", "generations", "runs"):
            columns = [row[1] for row in connection.execute(f"pragma table_info({table})")][:-1]
            chosen = ", ".join(columns)
            connection.execute(f"create table old as select {chosen} from {table}")
            connection.execute(f"drop table {table}")
            connection.execute(f"alter table old rename to {table}")
        connection.execute("update meta set value = '1' where key = 'schema'")
        connection.execute("pragma user_version = 0")
    assert read(tmp_path / "old") == read(good)
    assert read(tmp_path / "old") == read(good)
