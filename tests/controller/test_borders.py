"""Claims about borders: what goes wrong at one costs the one thing that was asked for, never the controller.

At every border a fault is raised that nobody could expect. The controller must go on: answer the next
request, have told `controller.fault`, and have the traceback in its own log.
"""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any

import pytest
from conftest import by_hand, job, service, until

from reconciler.controller.api import request
from reconciler.controller.api.auth import Access
from reconciler.controller.api.connection import Connection
from reconciler.controller.api.methods import events, logs, progress, status
from reconciler.controller.api.server import Server
from reconciler.controller.api.waiters import Waiters
from reconciler.controller.output import log_files
from reconciler.controller.output.compress import Compressor
from reconciler.controller.output.systemd import Notifier
from reconciler.controller.runtime import file_watch
from reconciler.controller.runtime.keeper_link import LinkClosed
from reconciler.controller.specs.apply import Applier
from reconciler.controller.specs.files import SpecFiles
from reconciler.controller.specs.in_force import InForce
from reconciler.controller.specs.loader import Loader
from reconciler.controller.specs.source import SourceWatch
from reconciler.controller.state.records import FilesChanged, ServedBy, SourceFile
from reconciler.controller.state.saving import Saving
from reconciler.model.event import Event
from reconciler.model.observation import LogRotated, SignalReceived

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Client, Instance


class Surprise(Exception):
    """Nobody expects it."""


def surprise(*_: object, **__: object) -> Any:
    raise Surprise


@pytest.fixture
def running(instance: Instance) -> Instance:
    instance.store(by_hand(web=service(), once=job()))
    instance.start()
    until(lambda: len(instance.keeper.spawned()) == 2)
    return instance


def goes_on(instance: Instance) -> None:
    """Claim that the controller answers, and that it has told what went wrong."""
    client = instance.client()
    until(lambda: any(_failures(client)), "controller.fault is told")
    assert client.call("hello")["controller_pid"] == os.getpid()
    assert instance.failure is None
    log = instance.folder / "controller.log"
    until(lambda: "test_borders.Surprise" in log.read_text(), "the traceback is in the log")


def _failures(client: Client) -> list[str]:
    return [
        e["message"] for e in client.call("events")["events"] if e["type"] == "controller.fault"
    ]


REQUESTS: dict[str, tuple[Any, str, str, dict[str, object]]] = {
    "the handler of a request": (status, "select", "status", {"names": ["web"]}),
    "a background task of a request": (logs, "last_lines", "logs", {}),
    "what follows a background task": (status, "_with_usage", "status", {"usage": True}),
    "what follows the loader": (InForce, "changes", "plan", {}),
    "putting the answer together": (request.Request, "reply", "hello", {}),
    "the start of the loader": (Loader, "__init__", "plan", {}),
    "reading the answer of the loader": (Loader, "_reading", "plan", {}),
}


@pytest.mark.parametrize("border", REQUESTS)
def test_a_request_that_fails_is_answered_with_an_error(
    running: Instance, border: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, name, method, params = REQUESTS[border]
    running.spec_file.parent.mkdir()
    running.spec_file.write_text("watchers: {web: {cmd: sleep 1000}}\n")
    client = running.client()
    with monkeypatch.context() as patch:
        patch.setattr(where, name, surprise)
        code, message, _ = client.error(method, **params)
        assert (code, "Surprise" in message) in {("internal", True), ("invalid_spec", True)}
    goes_on(running)


@pytest.mark.parametrize("part", ["_tell_applied", "changes"])
def test_a_part_of_an_apply_that_fails_leaves_no_half_of_it(
    running: Instance, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.spec_file.parent.mkdir()
    running.spec_file.write_text("watchers: {new: {cmd: sleep 1000}, web: {cmd: sleep 1000}}\n")
    client = running.client()
    with monkeypatch.context() as patch:
        patch.setattr(Applier if part == "_tell_applied" else InForce, part, surprise)
        answer = client.answer(client.send("apply", allow_removal=True))
    goes_on(running)
    if part == "changes":
        assert answer.error is not None
        assert client.call("status")["revision"] == 1
    else:
        assert answer.result["revision"] == 2
        until(lambda: "new" in {one["name"] for one in client.call("status")["watchers"]})


def _wake_files(instance: Instance, _: Client) -> None:
    os.eventfd_write(instance.controller.specs.source._watch.fileno(), 1)


def _wait(_: Instance, client: Client) -> None:
    client.send("restart", names=["web"], wait=True)


def _follow(method: str) -> Callable[[Instance, Client], None]:
    def follow(instance: Instance, client: Client) -> None:
        client.call(method)  # it follows by then
        _tell_something(instance, client)

    return follow


def _tell_something(instance: Instance, _: Client) -> None:
    instance.controller.runtime.lanes.hand_over(
        lambda: instance.controller.output.tell(Event("a", "b"))
    )


def _hear(event: Any) -> Callable[[Instance, Client], None]:
    return lambda instance, _: instance.keeper.tell(event)


def _connect(instance: Instance, _: Client) -> None:
    instance.client()


def _ask(_: Instance, client: Client) -> None:
    client.send("hello")


BORDERS: dict[str, tuple[Any, str, Callable[[Instance, Client], None]]] = {
    "a file event": (SourceWatch, "_woken", _wake_files),
    "admitting a client": (Server, "_admit", _connect),
    "who a client is": (Access, "meet", _connect),
    "reading from a client": (Connection, "_read", _ask),
    "serving a client": (Connection, "_serve", _ask),
    "a request that waits": (Waiters, "_look", _wait),
    "a stream of events": (events.EventStream, "pump", _follow("events.follow")),
    "a stream of progress": (progress.ProgressStream, "pump", _follow("apply.follow")),
    "a stream of lines": (logs.LogStream, "pump", _follow("logs.follow")),
    "a rotated log": (Compressor, "add", _hear(LogRotated("/x"))),
    "a signal": (SpecFiles, "read_again", _hear(SignalReceived("reload"))),
    "systemd": (Notifier, "acted", _wait),
    "a batch of events": (Saving, "_go_on_after", _tell_something),
}


@pytest.mark.parametrize("border", BORDERS)
def test_what_fails_at_a_border_costs_nobody_else(
    running: Instance, border: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, name, act = BORDERS[border]
    with monkeypatch.context() as patch:
        failed: list[int] = []

        def fail(*_: object, **__: object) -> Any:
            failed.append(1)
            raise Surprise

        client = running.client()
        client.call("hello")
        patch.setattr(where, name, fail)
        act(running, client)
        until(lambda: failed, "it is called")
    goes_on(running)


def test_a_thread_that_watches_goes_on_after_a_surprise(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken: list[tuple[str, BaseException]] = []
    with monkeypatch.context() as patch:
        patch.setattr(file_watch, "_identities", surprise)
        patch.setattr(file_watch, "SHORTAGE_MS", 10)
        watch = file_watch.Watch(
            10, lambda call: call(), lambda _: None, lambda *what: broken.append(what)
        )
        watch.want(file_watch.Wanted(frozenset({str(tmp_path)})))
        until(lambda: broken)
    until(lambda: watch.changed() == {""})
    new = tmp_path / "new"
    until(lambda: new.write_text("x") and str(new) in watch.changed())
    watch.close()
    assert broken[0][0] == "watching files"


def test_a_request_that_is_refused_leaves_nothing_in_memory(running: Instance) -> None:
    client = running.client()
    client.call("hello")
    for _ in range(20):
        assert client.error("stop", names=["no-such-watcher"])[0] == "not_found"
    client.close()

    def are_gone() -> bool:
        gc.collect()
        return not [each for each in gc.get_objects() if isinstance(each, request.Request)]

    until(are_gone, "all of them are collected")


def test_the_keepers_end_is_no_surprise_and_passes_every_border(running: Instance) -> None:
    def gone() -> None:
        raise LinkClosed

    running.controller.runtime.lanes.hand_over(gone)
    running.join()
    assert running.failure is None


def test_a_log_that_cannot_be_read_is_told_and_the_others_are_shown(tmp_path: Any) -> None:
    good = tmp_path / "good.log"
    good.write_text("a line\n")
    bad = "/sys/devices/virtual/net/lo/speed"  # opens well; reading it is an error
    places = [
        log_files.LogPlace(name, 1, "stdout", path) for name, path in (("b", bad), ("g", str(good)))
    ]
    told, shown = log_files.last_lines(places, 5)
    assert shown["data"] == b"a line\n"
    assert (told["watcher"], told["error"]) == ("b", f"cannot read {bad}: invalid argument")
    follower = log_files.Follower(places[0])
    assert (follower.begin(5), follower.notes) == (b"", [told["error"]])
    assert follower.more() == b""
    assert follower._file is None


def test_one_event_tells_of_the_same_failure_again_and_again(running: Instance) -> None:
    controller = running.controller
    for _ in range(50):
        controller.runtime.lanes.hand_over(surprise)
    client = running.client()
    until(lambda: _failures(client))
    until(lambda: not controller.runtime.lanes._finished)
    assert len(_failures(client)) == 1


# ---- the store ------------------------------------------------------------------------------------


def test_an_entry_that_cannot_be_written_is_told_and_the_rest_is_stored(running: Instance) -> None:
    bad = FilesChanged((SourceFile("/a.yaml", "d", 1, 2**63, b"x"),), "")
    done: list[str] = []
    controller = running.controller

    def write() -> None:
        controller.saving.write_then(bad, lambda: done.append("bad"))
        controller.saving.write_then(ServedBy("k"), lambda: done.append("good"))

    controller.runtime.lanes.hand_over(write)
    until(lambda: len(done) == 2)
    client = running.client()
    (event,) = [e for e in client.call("events")["events"] if e["type"] == "store.failed"]
    assert "cannot write FilesChanged: OverflowError" in event["message"]
    client.call("stop", names=["web"])
    assert client.call("status")["store_state"] == "good"


def test_a_writer_that_dies_is_replaced_and_nothing_is_lost(
    running: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = running.controller
    with monkeypatch.context() as patch:
        patch.setattr(controller.store, "_commit", surprise)
        former = controller.store._thread
        client = running.client()
        request = client.send("stop", names=["web"])
        until(lambda: not former.is_alive())
    until(lambda: controller.store._thread.is_alive())
    assert client.answer(request).error is None
