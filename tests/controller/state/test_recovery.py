"""Claims about a damaged state: whatever became of the file, it is told and nothing is fired twice.

The checker knows only what was written and what is read: each job is as it was, or unknown.
"""

from __future__ import annotations

import random
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.controller.state.records import (
    Applied,
    GenerationWritten,
    IntentWritten,
    NumbersReserved,
    Record,
    RunWritten,
    SourceFile,
    Stored,
)
from reconciler.controller.state.recovery import KEPT_ASIDE
from reconciler.controller.state.store import PutBack, Recovered, Trouble, Written
from reconciler.model.intent import Intent, RequestedBy
from reconciler.model.job import Generation, Run
from reconciler.model.revision import Revision
from reconciler.model.spec import Spec, WatcherSpec
from reconciler.model.value import replace
from tests.controller.state.test_store import AnsweredStore, answers

SEED = 20_260_301
JOBS = [f"job-{number}" for number in range(1, 9)]
SPEC = Spec(
    watchers={name: WatcherSpec(cmd=("true",), restart="never", numprocesses=2) for name in JOBS}
    | {"web": WatcherSpec(cmd=("run",))}
)
FILE = SourceFile("/specs/reconcile.yaml", "digest", 2000, 7, b"# words\n" * 250)


def history() -> list[Record]:
    """Return a life: each job fired three times, the last time with everything succeeded."""
    entries: list[Record] = [Applied(SPEC, 3, files=(FILE,)), NumbersReserved(10_001)]
    for name in JOBS:
        for number in range(1, 4):
            entries.append(GenerationWritten(name, Generation(number, "h", "first", "b", "k")))
            for slot in (1, 2):
                run = Run(slot, number, "k", "b", 1, 2, 3, "succeeded")
                entries.append(RunWritten(name, run))
    return [*entries, IntentWritten("web", Intent("stopped", hold_by=RequestedBy("alice")))]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    write(folder, *history())
    return folder


def write(folder: Path, *entries: Record) -> None:
    store = AnsweredStore(folder)
    store.read()
    for entry in entries:
        store.write(entry)
    store.close()


def read(folder: Path) -> Stored:
    store = AnsweredStore(folder)
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


def damaged_copy(good: Path, folder: Path, data: bytes, name: str = "state.db") -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(good, folder)
    (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what a killed controller leaves: the newest changes lie in the write-ahead log alone."""
    folder = tmp_path_factory.mktemp("live")
    store = AnsweredStore(folder)
    # A reader keeps the log from being emptied, and a kill comes before that at any time.
    reader = sqlite3.connect(folder / "state.db", isolation_level=None)
    reader.execute("begin")
    reader.execute("select * from meta").fetchall()
    store.read()
    for entry in history():
        store.write(entry)
    store.close_writer()
    copy = shutil.copytree(folder, tmp_path_factory.mktemp("killed") / "state")
    reader.close()
    store.close()
    return copy


def compacted(good: Path, folder: Path) -> bytes:
    """Return the database without what SQLite leaves of rows that were moved or changed."""
    shutil.copytree(good, folder)
    connection = sqlite3.connect(folder / "state.db", isolation_level=None)
    connection.execute("vacuum")
    connection.close()
    return (folder / "state.db").read_bytes()


def sizes(path: Path) -> list[int]:
    """Return where to cut a file: all around the edges of its pages and frames, and within each."""
    whole = path.stat().st_size
    edges = {base + more for base in range(0, whole, 4096) for more in (-1, 0, 24, 2000)}
    return sorted(size for size in edges if 0 <= size < whole)


def test_a_whole_state_is_read_without_a_word(good: Path) -> None:
    stored = read(good)
    assert stored.notes == ()
    assert all(job.known and job.runs.keys() == {1, 2} for job in stored.jobs.values())
    assert stored.jobs.keys() == set(JOBS)


def test_x04_flipped_bits_never_make_a_job_run_again(good: Path, tmp_path: Path) -> None:
    whole, data = read(good), compacted(good, tmp_path / "compact")
    chance, expected = random.Random(SEED), (whole.jobs, whole.applied, whole.intents)
    outcomes = {found.start() for found in re.finditer(b"succeeded", data)}
    assert len(outcomes) == len(JOBS) * 3 * 2
    for place in [*sorted(outcomes), *chance.sample(range(len(data)), 200)]:
        broken = bytearray(data)
        broken[place] ^= 1 << chance.randrange(8)
        folder = damaged_copy(good, tmp_path / "flipped", bytes(broken))
        stored = read(folder)
        check(stored, whole)
        if stored.applied is not None:
            assert stored.intents == whole.intents, place
        if (stored.jobs, stored.applied, stored.intents) != expected:
            assert stored.notes, place
        # Most bytes of a file say nothing; each of these says how a run ended.
        assert stored.notes or place not in outcomes, place
        check(read(folder), whole)


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


@pytest.mark.parametrize(
    ("left", "name"), [("good", "state.db"), ("killed", "state.db"), ("killed", "state.db-wal")]
)
def test_x03_a_file_cut_anywhere_never_makes_a_job_run_again(
    request: pytest.FixtureRequest, tmp_path: Path, left: str, name: str
) -> None:
    before: Path = request.getfixturevalue(left)
    shutil.copytree(before, tmp_path / "whole")
    whole, data = read(tmp_path / "whole"), (before / name).read_bytes()
    assert not whole.notes
    for size in sizes(before / name):
        folder = damaged_copy(before, tmp_path / "cut", data[:size], name)
        stored = read(folder)
        check(stored, whole)
        assert stored.notes or stored.jobs == whole.jobs, size
        check(read(folder), whole)


def test_of_a_broken_file_all_is_kept_that_can_still_be_read(good: Path, tmp_path: Path) -> None:
    whole, data = read(good), (good / "state.db").read_bytes()
    # A leaf of the ledger's tree, of which there are several.
    leaves = [at for at in range(0, len(data), 4096) if data[at] == 0x0A]
    place = max(leaves, key=lambda at: data.count(b"succeeded", at, at + 4096))
    folder = damaged_copy(
        good, tmp_path / "page", data[:place] + bytes(4096) + data[place + 4096 :]
    )
    stored = read(folder)
    assert (stored.applied, stored.intents) == (whole.applied, whole.intents)
    assert stored.next_event == whole.next_event
    assert not any(job.known for job in stored.jobs.values())
    assert any(job.runs for job in stored.jobs.values())
    (aside,) = folder.glob("state.db.damaged-*Z")
    assert aside.read_bytes() == (data[:place] + bytes(4096) + data[place + 4096 :])
    assert read(folder) == replace(stored, notes=())


def test_a_state_that_was_deleted_is_not_an_absent_one(good: Path, tmp_path: Path) -> None:
    folder = damaged_copy(good, tmp_path / "gone", b"")
    (folder / "state.db").unlink()
    stored = read(folder)
    assert stored.ledger_lost
    assert "was deleted" in stored.notes[0]
    assert read(folder).ledger_lost


def test_a_state_from_an_old_copy_is_whole_but_not_the_newest(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "live")
    old = (tmp_path / "live" / "state.db").read_bytes()
    write(tmp_path / "live", RunWritten("job-1", Run(1, 4, "k", "b", 1)))
    stored = read(damaged_copy(tmp_path / "live", tmp_path / "back", old))
    assert "lacks its newest 1 change" in stored.notes[0]
    assert not any(job.known for job in stored.jobs.values())
    assert stored.applied == read(good).applied
    second = read(tmp_path / "back")
    assert (second.notes, second.jobs) == ((), stored.jobs)


@pytest.mark.parametrize("counter", [b"", b"garbage", bytes(30)])
def test_a_broken_commit_counter_is_no_evidence_against_a_whole_state(
    good: Path, tmp_path: Path, counter: bytes
) -> None:
    folder = damaged_copy(good, tmp_path / "counter", counter, "state.commits")
    assert read(folder) == read(good)
    (folder / "state.db").unlink()
    assert read(folder).ledger_lost == bool(counter)


def test_a_state_that_is_deleted_while_it_is_used_is_written_anew(tmp_path: Path) -> None:
    store = AnsweredStore(tmp_path)
    store.read()
    for entry in history():
        store.write(entry)
    answers(store, len(history()))
    for path in tmp_path.glob("state.db*"):
        path.unlink()
    last = RunWritten("job-1", Run(1, 4, "k", "b", 1))
    store.write(last)
    told, written = answers(store, 2)
    assert isinstance(told, PutBack)
    assert written == Written(last)
    store.close()
    stored = read(tmp_path)
    assert not stored.notes
    assert stored.jobs["job-1"].runs[1].generation == 4
    assert stored.jobs.keys() == set(JOBS)
    assert (tmp_path / "state.db").stat().st_mode & 0o777 == 0o600


def test_a_state_that_is_deleted_with_its_folder_is_told_and_written_when_there_is_one(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    write(folder, *history())
    store = AnsweredStore(folder)
    store.read()
    shutil.rmtree(folder)
    store.write(NumbersReserved(20_001))
    (trouble,) = answers(store, 1)
    assert isinstance(trouble, Trouble)
    folder.mkdir()
    assert [type(each) for each in answers(store, 3)] == [PutBack, Recovered, Written]
    store.close()
    assert read(folder).jobs.keys() == set(JOBS)


def test_only_the_newest_damaged_files_are_kept(tmp_path: Path) -> None:
    for number in range(KEPT_ASIDE + 3):
        (tmp_path / "state.db").write_bytes(b"damage %d" % number * 100)
        read(tmp_path)
    aside = sorted(tmp_path.glob("state.db.damaged-*Z"))
    assert [path.read_bytes()[:8] for path in aside] == [b"damage %d" % n for n in range(3, 8)]


@pytest.mark.parametrize("table", ["intents", "intents_twin"])
@pytest.mark.parametrize("change", ["intent = '{}'", "watcher = 'wed'"])
def test_an_operators_word_stands_twice_and_one_damaged_copy_changes_nothing(
    good: Path, tmp_path: Path, table: str, change: str
) -> None:
    shutil.copytree(good, tmp_path / "word")
    with sqlite3.connect(tmp_path / "word" / "state.db") as connection:
        connection.execute(f"update {table} set {change}")
    first, second = read(tmp_path / "word"), read(tmp_path / "word")
    assert first.intents == second.intents == read(good).intents
    assert table in first.notes[0]
    assert not second.notes
    with sqlite3.connect(tmp_path / "word" / "state.db") as connection:
        copies = [
            connection.execute(f"select * from {name}").fetchall()
            for name in ("intents", "intents_twin")
        ]
    assert [len(rows) for rows in copies] == [1, 1]


def test_a_damaged_spec_in_force_is_taken_from_the_history(tmp_path: Path) -> None:
    made = Revision(3, who="alice")
    write(tmp_path, Applied(SPEC, 3, files=(FILE,), made=made))
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute("update applied set spec = replace(spec, 'true', 'evil')")
    first, second = read(tmp_path), read(tmp_path)
    for stored in (first, second):
        assert stored.applied is not None
        assert (stored.applied.spec, stored.applied.revision) == (SPEC, 3)
    assert "revision 3 is in its history" in " ".join(first.notes)
    assert not second.notes


FULL_DISK = """
import resource, sys, time
from reconciler.controller.state.records import NumbersReserved
from reconciler.controller.state.store import Recovered, Store, Trouble, Written
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
store = Store(sys.argv[1])
answers = []
stored = store.read(answers.extend)
print(sorted(name for name, job in stored.jobs.items() if job.known), *stored.notes, sep="|")
entry = NumbersReserved(77_777)
store.write(entry)
while not answers:
    time.sleep(0.01)
(trouble,) = answers
assert isinstance(trouble, Trouble), trouble
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
while len(answers) < 3:
    time.sleep(0.01)
assert answers[1:] == [Recovered(), Written(entry)], answers
store.close()
"""
"""A size limit of zero lets no file grow, as a full disk does, also for root."""


@pytest.mark.parametrize("left", ["good", "killed"])
def test_x05_a_controller_comes_back_while_nothing_can_be_written(
    request: pytest.FixtureRequest, tmp_path: Path, left: str
) -> None:
    shutil.copytree(request.getfixturevalue(left), tmp_path / "full")
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "full")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{sorted(JOBS)}\n", "all is known, also what lies in the log alone"
    stored = read(tmp_path / "full")
    assert stored.next_event == 77_777
    assert stored.jobs == read(request.getfixturevalue("good")).jobs


def test_what_matters_does_not_stay_in_the_log_alone(tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    store = AnsweredStore(tmp_path / "live")
    store.read()
    for entry in history():
        store.write(entry)
    store.close_writer()
    shutil.copytree(tmp_path / "live", tmp_path / "cut")
    store.close()
    (tmp_path / "cut" / "state.db-wal").write_bytes(b"")
    stored = read(tmp_path / "cut")
    assert not stored.notes
    assert (stored.jobs, stored.intents) == (read(tmp_path / "live").jobs, stored.intents)
    assert stored.intents.keys() == {"web"}
