"""Claims about what survives the controller: a real sqlite file, no doubles."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import until

from reconciler.controller.output.events import RecentEvents
from reconciler.controller.specs.snapshot import Snapshot, look
from reconciler.controller.state import writes
from reconciler.controller.state.records import (
    Answered,
    Applied,
    EventsWritten,
    FilesChanged,
    GenerationWritten,
    IntentWritten,
    NumbersReserved,
    OrderWritten,
    RetiringChanged,
    RunWritten,
    SourceFile,
    TimetableWritten,
)
from reconciler.controller.state.schema import NewerState
from reconciler.controller.state.store import (
    Damaged,
    Recovered,
    Store,
    Trouble,
    Unwritable,
    Written,
)
from reconciler.controller.state.writes import KEPT_FORMER
from reconciler.model.address import InternetAddress
from reconciler.model.answer import EventEntry
from reconciler.model.event import Event
from reconciler.model.intent import Intent, RequestedBy, Until
from reconciler.model.job import Generation, Instant, Job, Passed, Run, Timetable
from reconciler.model.process import Exit
from reconciler.model.spec import ReloadBySignal, SocketSpec, Spec, WatcherSpec
from reconciler.model.value import replace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reconciler.controller.state.records import Record, Stored
    from reconciler.controller.state.store import Answer

SPEC = Spec(
    watchers={
        "web": WatcherSpec(cmd=("run", "${slot}"), env={"A": "1"}, reload=ReloadBySignal("HUP")),
        "job": WatcherSpec(cmd=("true",), restart="never"),
    },
    sockets={"http": SocketSpec(InternetAddress("127.0.0.1", 8000))},
)
GENERATION = Generation(3, "hash", "operator", "boot", "keeper")
RUN = Run(1, 3, "keeper", "boot", 1000)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    os.chmod(tmp_path, 0o700)


class AnsweredStore(Store):
    """A store that keeps its answers."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.answers: deque[Answer] = deque()

    def read(self) -> Stored:  # type: ignore[override]
        return super().read(self.answers.extend)


def answers(store: AnsweredStore, count: int) -> list[Answer]:
    """Wait until as many answers have come."""
    found: list[Answer] = []
    until(lambda: len(store.answers) >= count)
    while store.answers:
        found.append(store.answers.popleft())
    return found


def write(folder: Path, *entries: Record) -> list[Answer]:
    store = AnsweredStore(folder)
    store.read()
    for entry in entries:
        store.write(entry)
    found = answers(store, len(entries))
    store.close()
    return found


def read(folder: Path) -> Stored:
    store = AnsweredStore(folder)
    try:
        return store.read()
    finally:
        store.close()


def test_an_absent_state_is_empty(folder: Path) -> None:
    stored = read(folder)
    assert (stored.applied, stored.jobs, stored.intents) == (None, {}, {})
    assert (stored.next_event, stored.ledger_lost, stored.notes) == (1, False, ())


def test_what_was_written_is_read_again(folder: Path) -> None:
    applied = Applied(
        SPEC,
        7,
        {"old": WatcherSpec(cmd=("x",))},
        (SourceFile("/s/a.yaml", "aa", 3, 12, b"a: 1"), SourceFile("/s/env", "bb", 1)),
        ("/s",),
        "environment",
        99,
        1000,
    )
    alice = RequestedBy("alice", "disk", 5, Until(7, 8, 9, "boot-1"))
    intent = Intent("stopped", 4, {0: 1, 2: 3}, at_once=True, hold_by=alice)
    write(
        folder,
        applied,
        IntentWritten("web", intent),
        GenerationWritten("job", GENERATION),
        RunWritten("job", replace(RUN, fired_wall_ns=50)),
        NumbersReserved(20_001),
    )
    stored = read(folder)
    assert stored.applied == applied
    assert stored.intents == {"web": intent}
    assert stored.jobs == {"job": Job(GENERATION, {1: replace(RUN, fired_wall_ns=50)})}
    assert stored.next_event == 20_001


def test_how_far_a_schedule_has_come_is_read_again(folder: Path) -> None:
    begun = Timetable("0 3 * * * UTC", 100)
    missed = Passed(Instant(300, "2026-12-01 03:00 UTC"), "missed")
    come = Timetable("0 3 * * * UTC", 300, ((100, 100), (200, 300)), missed)
    fired = replace(GENERATION, trigger="schedule", instant=missed.instant)
    both = OrderWritten((GenerationWritten("job", fired), TimetableWritten("job", come)))
    write(folder, TimetableWritten("job", begun), TimetableWritten("new", begun), both)
    assert read(folder).jobs == {"job": Job(fired, timetable=come), "new": Job(timetable=begun)}


def test_a_damaged_row_of_a_schedule_leaves_its_job_known(folder: Path) -> None:
    begun = Timetable("every 5", 100)
    write(folder, GenerationWritten("job", GENERATION), TimetableWritten("job", begun))
    with sqlite3.connect(folder / "state.db") as connection:
        connection.execute("update timetables set timetable = '{}'")
    stored = read(folder)
    assert stored.jobs == {"job": Job(GENERATION)}
    assert "job" in stored.notes[0]


def test_the_newest_answers_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes.schema, "KEPT_ANSWERS", 3)
    answers = [Answered(1, f"id {number}", "stop", ({"name": "web"},)) for number in range(6)]
    write(folder, *(OrderWritten((), each) for each in answers[:5]))
    write(folder, OrderWritten((IntentWritten("web", Intent("stopped")),), answers[5]))
    stored = read(folder)
    assert stored.answered == tuple(answers[3:])
    assert stored.intents == {"web": Intent("stopped")}


def test_every_entry_is_answered_in_order_with_itself(folder: Path) -> None:
    entries = [RunWritten("job", replace(RUN, slot=slot)) for slot in range(1, 200)]
    assert write(folder, *entries) == [Written(entry) for entry in entries]


def test_a_run_gets_its_outcome_in_its_own_row_and_wall_times_for_people(folder: Path) -> None:
    ended = replace(RUN, outcome="failed", exit=Exit(code=3), duration_ns=10)
    write(folder, RunWritten("job", RUN), RunWritten("job", ended))
    (run,) = read(folder).jobs["job"].runs.values()
    assert (run.outcome, run.exit) == ("failed", Exit(code=3))
    assert run.ended_wall_ns == run.fired_wall_ns + 10 > 10**18


def test_only_so_many_runs_of_a_slot_are_kept_and_the_newest_always(folder: Path) -> None:
    # Slot 2 was fired by every third rerun only.
    entries = [RunWritten("job", replace(RUN, generation=number), 7) for number in range(1, 31)]
    entries += [
        RunWritten("job", replace(RUN, slot=2, generation=number), 7) for number in range(1, 31, 3)
    ]
    entries.append(RunWritten("job", replace(RUN, slot=3, generation=1), 1))
    write(folder, *entries)
    with sqlite3.connect(folder / "state.db") as connection:
        rows = connection.execute("select slot, generation from runs order by 1, 2").fetchall()
    assert rows == [
        *((1, number) for number in range(24, 31)),
        *((2, number) for number in range(10, 31, 3)),
        (3, 1),
    ]
    newest = {slot: run.generation for slot, run in read(folder).jobs["job"].runs.items()}
    assert newest == {1: 30, 2: 28, 3: 1}


def test_retiring_and_files_change_without_a_new_revision(folder: Path) -> None:
    write(folder, Applied(SPEC, 1, {"old": WatcherSpec(cmd=("x",))}))
    write(
        folder, RetiringChanged({}), FilesChanged((SourceFile("/a.yaml", "d", 1),), "environment")
    )
    applied = read(folder).applied
    assert applied is not None
    assert (applied.revision, applied.retiring, applied.environment) == (1, {}, "environment")
    assert [each.path for each in applied.files] == ["/a.yaml"]


def test_the_database_belongs_to_nobody_else(folder: Path) -> None:
    umask = os.umask(0)
    try:
        store = AnsweredStore(folder)
        store.read()
        store.write(NumbersReserved(5))
        answers(store, 1)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        store.close()
    finally:
        os.umask(umask)
    assert set(modes.values()) == {0o600}, modes


@pytest.mark.parametrize(
    "damage", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_damaged_database_is_moved_aside_and_its_ledger_counts_as_lost(
    folder: Path, damage: bytes
) -> None:
    (folder / "state.db").write_bytes(damage)
    stored = read(folder)
    assert stored.ledger_lost
    assert "damaged" in stored.notes[0]
    (aside,) = folder.glob("state.db.damaged-*Z")
    assert aside.read_bytes() == damage


def test_a_torn_page_is_found_at_the_start(folder: Path) -> None:
    write(folder, *(RunWritten(f"job{number}", RUN) for number in range(400)))
    with (folder / "state.db").open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\x55" * 4096)
    assert read(folder).ledger_lost


def test_a_lost_ledger_stays_lost_until_a_spec_names_its_jobs(folder: Path) -> None:
    (folder / "state.db").write_bytes(b"x" * 5000)
    assert read(folder).ledger_lost
    assert read(folder).ledger_lost
    write(folder, Applied(SPEC, 1, unknown_jobs=("job",)))
    stored = read(folder)
    assert not stored.ledger_lost
    assert stored.jobs == {"job": Job(known=False)}
    write(folder, GenerationWritten("job", GENERATION))
    assert read(folder).jobs == {"job": Job(GENERATION)}


def test_a_newer_state_is_refused_and_left_alone(folder: Path) -> None:
    write(folder, NumbersReserved(5))
    with sqlite3.connect(folder / "state.db") as connection:
        connection.execute("update meta set value = '99' where key = 'schema'")
        connection.execute("pragma user_version = 99")
    before = (folder / "state.db").read_bytes()
    with pytest.raises(NewerState, match="state version 99"):
        AnsweredStore(folder)
    assert (folder / "state.db").read_bytes() == before


def test_rows_that_cannot_be_read_make_one_job_unknown_and_are_told(folder: Path) -> None:
    write(folder, GenerationWritten("job", GENERATION), GenerationWritten("fine", GENERATION))
    with sqlite3.connect(folder / "state.db") as connection:
        connection.execute("update generations set generation = '{' where watcher = 'job'")
    stored = read(folder)
    assert stored.jobs == {"job": Job(known=False), "fine": Job(GENERATION)}
    assert "job" in stored.notes[0]


def test_what_cannot_be_written_is_told_kept_in_order_and_written_later(folder: Path) -> None:
    store = AnsweredStore(folder)
    store.read()
    # Another writer holds the lock: what a full disk does too, an OperationalError.
    other = sqlite3.connect(folder / "state.db", isolation_level=None)
    other.execute("begin immediate")
    first, second = RunWritten("job", RUN), RunWritten("job", replace(RUN, outcome="succeeded"))
    store.write(first)
    (trouble,) = answers(store, 1)
    assert isinstance(trouble, Trouble)
    assert "locked" in trouble.message
    store.write(second)
    other.execute("rollback")
    assert answers(store, 3) == [Recovered(), Written(first), Written(second)]
    store.close()
    assert read(folder).jobs["job"].runs[1].outcome == "succeeded"


def test_damage_while_running_is_told_and_ends_the_writer(folder: Path) -> None:
    store = AnsweredStore(folder)
    store.read()
    with sqlite3.connect(folder / "state.db") as connection:
        connection.execute("drop table runs")
        connection.execute(
            "create table runs (watcher primary key, slot, generation, run check (0), seal)"
        )
    store.write(RunWritten("job", RUN))
    (answer,) = answers(store, 1)
    assert isinstance(answer, Damaged)
    store.close()


def test_a_folder_that_cannot_be_written_is_an_error_not_a_loss(folder: Path) -> None:
    (folder / "state.db").mkdir()
    with pytest.raises((OSError, sqlite3.OperationalError)):
        AnsweredStore(folder)
    assert not list(folder.glob("*damaged*"))


def test_of_removed_watchers_only_so_many_are_remembered_and_of_present_ones_all(
    folder: Path,
) -> None:
    former = [f"a{number}" for number in range(KEPT_FORMER + 20)]
    names = [*former, "job", "zebra"]
    write(folder, *(GenerationWritten(name, GENERATION) for name in names))
    write(folder, *(RunWritten(name, RUN) for name in names))
    write(folder, *(IntentWritten(name, Intent("stopped")) for name in names))
    write(folder, Applied(SPEC, 1, {"zebra": WatcherSpec(cmd=("x",))}))
    stored = read(folder)
    assert len(stored.jobs) == len(stored.intents) == KEPT_FORMER + 2
    assert {"job", "zebra"} <= stored.jobs.keys() & stored.intents.keys()
    assert all(job.runs and job.known for job in stored.jobs.values())


def test_an_inode_with_all_its_bits_and_a_name_that_is_no_utf8_are_stored(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "a.yaml"
    path.write_text("watchers: {}")
    real = os.stat

    def stat_of(of: str, **more: object) -> os.stat_result:
        found = list(real(of, **more))  # type: ignore[call-overload]  # what os.stat takes
        found[1] = 2**64 - 5
        return os.stat_result(found)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", stat_of)
        seen = look([str(path)], (), Snapshot({})).files[str(path)]
    told = RecentEvents(1).add(Event("a", "a path \udcff"), 1)
    entries = (
        FilesChanged((SourceFile(seen_path := str(path), seen.digest, 1, seen.inode),), ""),
        EventsWritten((told,), 2),
    )
    assert write(folder, *entries) == [Written(each) for each in entries]
    assert (seen.inode, seen_path, told.message) == (-5, str(path), r"a path \udcff")


@pytest.mark.parametrize("count", [1, 3])
def test_a_batch_is_written_without_the_entries_that_cannot_be(folder: Path, count: int) -> None:
    bad = [FilesChanged((SourceFile("/a", "d", 1, 2**63 + n),), "") for n in range(count)]
    good = GenerationWritten("job", GENERATION)
    told = EventsWritten((EventEntry(1, 1, "x", "w", 0, "no UTF-8: \udcff", {}),), 2)
    store = AnsweredStore(folder)
    for entry in (*bad, good, told):
        store.write(entry)
    store.read()
    found = answers(store, count + 2)
    store.close()
    assert [type(each) for each in found] == [*[Unwritable] * (count + 1), Written]
    assert read(folder).jobs["job"].generation == GENERATION
