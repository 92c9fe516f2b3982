"""Edits of watched files are noticed, and mean other processes; with the real inotify."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from conftest import Instance, service, until
from paper_keeper import PaperKeeper

from reconciler.controller.specs import trees
from reconciler.model.action import Spawn
from reconciler.model.spec import ApplySpec, Spec, WatchSpec

if TYPE_CHECKING:
    from conftest import Client

QUIET = 20_000_000


def by_hand(*paths: Path, **watch: Any) -> Spec:
    names = tuple(map(str, paths))
    watch = {"quiet_period": QUIET, **watch}
    web = service(watch=WatchSpec(names, **watch))
    return Spec(watchers={"web": web, "other": service()}, apply=ApplySpec(auto=False))


def spawned(instance: Instance, name: str = "web") -> int:
    actions = (a for a in instance.keeper.actions if isinstance(a, Spawn))
    return sum(action.id.owner == name for action in actions)


def changes(client: Client) -> list[str]:
    events = client.call("events")["events"]
    return [each["message"] for each in events if each["type"] == "files.changed"]


@pytest.fixture
def app(tmp_path: Path) -> Path:
    app = tmp_path / "releases" / "1"
    (app / "sub").mkdir(parents=True)
    (app / "main.py").write_text("one")
    return app


def test_an_edit_replaces_the_process_wherever_it_is(instance: Instance, app: Path) -> None:
    instance.store(by_hand(app))
    client = instance.start().client()
    until(lambda: spawned(instance) == 1)
    (app / "main.py").write_text("two")
    until(lambda: spawned(instance) == 2)
    (app / "new" / "deep").mkdir(parents=True)
    until(lambda: spawned(instance) == 3)
    (app / "new" / "deep" / "part.py").touch()
    until(lambda: spawned(instance) == 4)
    assert changes(client) == [
        "web: watched files changed: 1/main.py",
        "web: watched files changed: 1/new, 1/new/deep",
        "web: watched files changed: 1/new/deep/part.py",
    ]
    assert spawned(instance, "other") == 1


def test_a_link_that_moves_replaces_the_process(instance: Instance, app: Path) -> None:
    current, beside = app.parent / "current", app.parent / "next"
    current.symlink_to("1")
    instance.store(by_hand(current))
    instance.start()
    until(lambda: spawned(instance) == 1)
    (app.parent / "2").mkdir()
    beside.symlink_to("2")
    beside.replace(current)
    until(lambda: spawned(instance) == 2)
    (app.parent / "2" / "main.py").touch()
    until(lambda: spawned(instance) == 3)


def test_one_file_is_watched_alone_also_when_it_is_not_there_yet(
    instance: Instance, app: Path
) -> None:
    file = app / "web.conf"
    instance.store(by_hand(file))
    instance.start()
    until(lambda: spawned(instance) == 1)
    file.touch()
    until(lambda: spawned(instance) == 2)
    (app / "main.py").write_text("two")
    beside = app / "beside"
    beside.write_text("new")
    beside.replace(file)
    until(lambda: spawned(instance) == 3)


def test_what_is_ignored_or_undone_replaces_nobody(instance: Instance, app: Path) -> None:
    instance.store(by_hand(app, ignore=("*.log",)))
    instance.start()
    until(lambda: spawned(instance) == 1)
    (app / "a.log").touch()
    (app / "__pycache__").mkdir()
    (app / "brief").touch()
    (app / "brief").unlink()
    (app / "main.py").write_text("two")
    until(lambda: spawned(instance) == 2)
    assert changes(instance.client()) == ["web: watched files changed: 1/main.py"]


def test_an_edit_while_no_controller_was_there_is_found(instance: Instance, app: Path) -> None:
    instance.store(by_hand(app))
    instance.start()
    until(lambda: spawned(instance) == 1 and spawned(instance, "other") == 1)
    records = tuple(instance.keeper.records.values())
    instance.stop()
    (app / "main.py").write_text("two")
    again = Instance(instance.folder)
    try:
        client = again.start(PaperKeeper(records)).client()
        until(lambda: spawned(again) == 1)
        assert changes(client) == ["web: watched files changed while the controller was away"]
        assert spawned(again, "other") == 0
    finally:
        again.stop()
        instance._thread = None


def test_files_that_never_rest_are_looked_at_all_the_same(instance: Instance, app: Path) -> None:
    instance.store(by_hand(app, quiet_period=100_000_000))
    instance.start()
    until(lambda: spawned(instance) == 1)
    began, number = time.monotonic(), 0
    while spawned(instance) == 1 and time.monotonic() < began + 10:
        (app / "main.py").write_text(str(number := number + 1))
        threading.Event().wait(0.01)
    assert spawned(instance) == 2
    assert time.monotonic() > began + 0.9  # ten times the quiet period


def test_too_many_files_are_told_and_keep_nobody_from_starting(
    instance: Instance, app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "MAX_WATCHED_FILES", 1)
    instance.store(by_hand(app))
    client = instance.start().client()
    told = f"edits are not noticed: there are more than 1 files below {app}; watch less of it, or ignore more"
    until(lambda: client.call("status", names=["web"])["watchers"][0]["note"] == told)
    assert spawned(instance) == 1


def test_watchers_that_watch_the_same_are_all_told(instance: Instance, app: Path) -> None:
    watch = WatchSpec((str(app),), quiet_period=QUIET)
    watchers = {name: service(watch=watch) for name in ("a", "b")}
    instance.store(Spec(watchers=watchers, apply=ApplySpec(auto=False)))
    instance.start()
    until(lambda: spawned(instance, "a") + spawned(instance, "b") == 2)
    (app / "main.py").write_text("two")
    until(lambda: (spawned(instance, "a"), spawned(instance, "b")) == (2, 2))
