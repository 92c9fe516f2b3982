"""Claims about state of former versions: each becomes today's, whole or not at all, and means what it meant."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from reconciler.controller.state import migrations, schema
from reconciler.controller.state.migrations import LADDER, VERSION
from reconciler.controller.state.records import RunWritten
from reconciler.controller.state.store import Store
from reconciler.model.intent import NO_INTENT
from reconciler.model.job import Run
from reconciler.model.value import replace

if TYPE_CHECKING:
    from pathlib import Path

    from reconciler.controller.state.records import Stored

FORMER = {
    1: """
create table meta (key text primary key, value text not null);
create table applied (
    one integer primary key check (one = 1), revision integer not null, spec text not null,
    retiring text not null, source text not null, environment text not null,
    wall_ns integer not null, uid integer);
create table files (
    path text primary key, digest text not null, size integer not null, inode integer not null, text blob);
create table intents (watcher text primary key, intent text not null);
create table generations (
    watcher text primary key, generation text, known integer not null default 1);
create table runs (
    watcher text not null, slot integer not null, generation integer not null, run text not null,
    primary key (watcher, slot, generation)) without rowid;
insert into meta values ('schema', '1'), ('commits', '7'), ('keeper_id', 'keeper-1');
insert into applied values (
    1, 3, '{"watchers":{"web":{"cmd":["sleep","9"]},"mig":{"cmd":["true"],"restart":"never"}}}',
    '{}', '["/etc/shop.yaml"]', 'e', 5, 1000);
insert into files values ('/etc/shop.yaml', 'd', 4, 77, x'61626364');
insert into intents values ('web', '{"scale":3}');
insert into generations values (
    'mig', '{"number":2,"run_hash":"h","trigger":"first","boot_id":"b","keeper_id":"k"}', 1);
insert into runs values ('mig', 1, 2,
    '{"slot":1,"generation":2,"keeper_id":"k","boot_id":"b","incarnation":1,"fired_at_ns":1,"outcome":"succeeded"}');
""",
    2: """
CREATE TABLE answers (
    uid integer not null, request_id text not null, number integer not null, method text not null,
    results text not null, seal text not null, primary key (uid, request_id)) without rowid;
CREATE TABLE applied (one integer primary key check (one = 1), revision integer not null, spec text not null,
    retiring text not null, source text not null, environment text not null, wall_ns integer not null, uid integer,
    seal text not null) without rowid;
INSERT INTO "applied" VALUES(1,3,
    '{"watchers":{"web":{"cmd":["sleep","9"]},"mig":{"cmd":["true"],"restart":"never"}}}','{}','["/etc/shop.yaml"]','e',5,1000,'2fc8035871604846c2b2f934');
CREATE TABLE contents (
    number integer primary key, content blob not null, seal text not null) without rowid;
CREATE TABLE damaged (wall_ns integer not null, "table" text not null, row text not null);
CREATE TABLE events (
    seq integer primary key, time_ns integer not null, type text not null, watcher text not null,
    slot integer not null, message text not null, details text not null, seal text not null) without rowid;
CREATE TABLE files (path text primary key, digest text not null, size integer not null, inode integer not null,
    text blob, seal text not null) without rowid;
INSERT INTO "files" VALUES('/etc/shop.yaml','d',4,77,X'61626364','471e314455b7555c56e5ba95');
CREATE TABLE generations (watcher text primary key, generation text, known integer not null,
    seal text not null) without rowid;
INSERT INTO "generations" VALUES('mig',
    '{"number":2,"run_hash":"h","trigger":"first","boot_id":"b","keeper_id":"k"}',1,'d6bbf47d3ab304f9b634438d');
CREATE TABLE intents (watcher text primary key, intent text not null, seal text not null) without rowid;
INSERT INTO "intents" VALUES('web','{"scale":3}','0af6e1d455aa7304f6ddb6c3');
CREATE TABLE intents_twin (
    watcher text primary key, intent text not null, seal text not null) without rowid;
CREATE TABLE meta (key text primary key, value text not null, seal text not null) without rowid;
INSERT INTO "meta" VALUES('commits','7','47142f3ada9fcf71c5c4c16b');
INSERT INTO "meta" VALUES('keeper_id','keeper-1','ac2d0ca31f5f14c46e285e77');
INSERT INTO "meta" VALUES('schema','2','83f3f2e3c30cdb35a727519b');
CREATE TABLE revisions (
    number integer primary key, revision text not null, seal text not null) without rowid;
CREATE TABLE runs (watcher text not null, slot integer not null, generation integer not null, run text not null,
    seal text not null, primary key (watcher, slot, generation)) without rowid;
INSERT INTO "runs" VALUES('mig',1,2,
    '{"slot":1,"generation":2,"keeper_id":"k","boot_id":"b","incarnation":1,"fired_at_ns":1,"outcome":"succeeded"}','f76316fa77fec6b03f595f22');
pragma user_version = 2;
""",
}
"""State of each former version, as it was written then: the statements are never changed."""
TABLES = {2: "d7c01c67", 3: "a1f00b67"}
"""What the tables of each version are, in short: tables that change without a new version leave old state behind."""


def state(folder: Path, version: int) -> Path:
    """Return the database of a former version."""
    path = folder / "state.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FORMER[version])
    return path


def read(folder: Path) -> Stored:
    store = Store(str(folder))
    stored = store.read(lambda _: None)
    store.close()
    return stored


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def shape(path: Path) -> tuple[set[tuple[str, tuple[tuple[object, ...], ...]]], tuple[int, str]]:
    """Return the tables with their columns, and the version in both of its places."""
    with closing(sqlite3.connect(path)) as connection:
        names = [name for (name,) in connection.execute("select name from sqlite_master")]
        columns = {
            name: connection.execute(f"pragma table_info({name})").fetchall() for name in names
        }
        (number,) = connection.execute("pragma user_version").fetchone()
        (word,) = connection.execute("select value from meta where key = 'schema'").fetchone()
    return {(name, tuple(each)) for name, each in columns.items()}, (number, word)


def test_every_former_version_has_its_rung_and_its_state_here() -> None:
    assert FORMER.keys() == set(range(1, VERSION))
    assert len(LADDER) == len(FORMER)


def test_tables_do_not_change_without_a_new_version() -> None:
    assert hashlib.sha256(schema.TABLES.encode()).hexdigest()[:8] == TABLES[VERSION]


@pytest.mark.parametrize("version", FORMER)
def test_state_of_a_former_version_becomes_todays_and_means_the_same(
    tmp_path: Path, version: int
) -> None:
    (tmp_path / "new").mkdir()
    read(tmp_path / "new")
    path = state(tmp_path, version)
    stored = read(tmp_path)
    assert shape(path) == shape(tmp_path / "new" / "state.db")
    assert shape(path)[1] == (VERSION, str(VERSION))
    assert stored.notes == ()
    assert stored.applied is not None
    assert (stored.applied.revision, stored.applied.uid) == (3, 1000)
    assert stored.applied.source == ("/etc/shop.yaml",)
    assert [file.text for file in stored.applied.files] == [b"abcd"]
    assert stored.applied.spec.watchers.keys() == {"web", "mig"}
    assert stored.intents == {"web": replace(NO_INTENT, scale=3)}
    assert stored.jobs["mig"].known
    assert stored.jobs["mig"].runs[1].outcome == "succeeded"
    assert stored.keeper_id == "keeper-1"
    assert read(tmp_path) == stored


@pytest.mark.parametrize("version", FORMER)
def test_a_climb_that_is_cut_short_leaves_all_as_it_was(
    tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = state(tmp_path, version)
    before = dump(path)

    def cut_short(*_: object) -> None:
        raise sqlite3.OperationalError

    with monkeypatch.context() as patch:
        patch.setattr(migrations, "LADDER", (*LADDER, cut_short))
        with pytest.raises(sqlite3.OperationalError):
            schema.open_database(path)
    assert dump(path) == before
    assert read(tmp_path).notes == ()


def test_a_version_that_only_one_of_its_places_says_is_damage_and_no_former_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state.db"
    store = Store(str(tmp_path))
    store.read(lambda _: None)
    store.write(RunWritten("mig", Run(1, 1, "k", "b", 1, 2)))
    store.close()
    for statement in (
        "pragma user_version = 0",
        "update meta set value = '1' where key = 'schema'",
    ):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(statement)
        with closing(schema.open_database(path)) as connection:
            (count,) = connection.execute("select count(*) from runs").fetchone()
            assert count == 1
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(f"pragma user_version = {VERSION}")
