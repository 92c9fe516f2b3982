"""Claims about what a client that may only look can cost others: nothing but its own time."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from conftest import Client, raised, service, until

from reconciler.controller.api import connection, readings, server, streams
from reconciler.controller.api.auth import Peer
from reconciler.controller.api.methods import logs as log_methods
from reconciler.controller.api.turns import Turns
from reconciler.controller.runtime.reactor import Reactor
from reconciler.controller.specs.loader import Loader
from reconciler.model.spec import AccessSpec, ApplySpec, DaemonSpec, Spec

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Instance

VIEWER, OTHER = 64_101, 64_102
"""Between what systems give to people and what they give to packages: nobody who runs this is one of them."""


class Crowd:
    """Clients of several users on one instance."""

    def __init__(self, instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
        self.instance = instance
        self.started: list[str] = []
        real_peer, crowd = server.peer_of, self

        def peer_of(connection: socket.socket) -> Peer:
            found = real_peer(connection)
            uid = crowd._uid
            return found if uid is None else Peer(uid, found.pid, frozenset({uid}))

        class Counted(Loader):
            def __init__(self, *of: Any, is_urgent: bool, **more: Any) -> None:
                crowd.started.append("admin" if is_urgent else "viewer")
                super().__init__(*of, is_urgent=is_urgent, **more)

        self._uid: int | None = None
        monkeypatch.setattr(server, "peer_of", peer_of)
        monkeypatch.setattr(readings, "Loader", Counted)
        access = tuple(AccessSpec("view", user=uid) for uid in (VIEWER, OTHER))
        watchers = {f"w{number}": service() for number in range(50)}
        spec = Spec(
            watchers=watchers, daemon=DaemonSpec(access=access), apply=ApplySpec(auto=False)
        )
        instance.store(spec)
        instance.spec_file.parent.mkdir()
        lines = [f"  {name}: {{cmd: [sleep, '1000']}}\n" for name in watchers]
        head = "apply: {auto: false}\ndaemon: {access: [{user: 64101, role: view}, {user: 64102, role: view}]}\n"
        instance.spec_file.write_text(f"{head}watchers:\n{''.join(lines)}")
        instance.start()
        self.admin = self.client(None)
        self.admin_uid = os.geteuid()
        until(lambda: len(instance.keeper.spawned()) == len(watchers))

    def client(self, uid: int | None) -> Client:
        """Return a client of a user; None is the owner."""
        self._uid = uid
        client = self.instance.client()
        client.call("hello")
        return client


@pytest.fixture
def crowd(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> Crowd:
    return Crowd(instance, monkeypatch)


def test_a_flood_of_a_viewer_holds_up_no_admin_and_leaves_no_descriptor(crowd: Crowd) -> None:
    def timed(method: str) -> float:
        begun = time.monotonic()
        crowd.admin.call(method)
        return time.monotonic() - begun

    quiet = {method: min(timed(method) for _ in range(2)) for method in ("apply", "status")}
    descriptors = len(os.listdir("/proc/self/fd"))
    crowd.started.clear()
    viewers = [crowd.client(VIEWER) for _ in range(4)]
    sent = [
        (viewer, viewer.send(method))
        for viewer in viewers
        for method in ("logs", "plan", "status") * 20
    ]
    busy = {method: timed(method) for method in ("status", "apply", "status")}
    codes = {error[0] if (error := viewer.answer(n).error) else "" for viewer, n in sent}
    assert codes == {""}
    # Five times the quiet time, and what a machine that is busy with other things may add.
    assert all(busy[method] < 5 * quiet[method] + 0.3 for method in busy), (quiet, busy)
    # 80 plans were answered by a few readings, and the admin's did not wait for them.
    assert crowd.started.count("viewer") < 20
    for viewer in viewers:
        viewer.close()
    until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)


def test_each_user_has_one_reading_and_some_places_are_kept_for_admins(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    running: list[int] = []
    controller = crowd.instance.controller
    start = readings.Readings._start

    def watched(self: Any, kind: Any, group: Any, **more: Any) -> None:
        start(self, kind, group, **more)
        running.append(len({uid for uid, _ in self._running}))
        assert len([each for each in self._running if each[0] == kind[0]]) == 1

    monkeypatch.setattr(readings.Readings, "_start", watched)
    monkeypatch.setattr(readings, "RESERVED_READINGS", readings.MAX_READINGS - 1)
    users = [crowd.client(uid) for uid in (VIEWER, OTHER) for _ in range(2)]
    sent = [(user, user.send("plan")) for user in users for _ in range(3)]
    assert crowd.admin.call("apply")["applied"]
    assert all(user.answer(number).error is None for user, number in sent)
    assert max(running) <= 2  # one viewer at a time, and the admin
    assert controller.api.readings._waiting == {}


def test_a_user_with_too_many_plans_is_told_who_uses_the_place(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "MAX_WAITING_READINGS", 2)
    viewer = crowd.client(VIEWER)
    numbers = [viewer.send("plan") for _ in range(6)]
    errors = [error for number in numbers if (error := viewer.answer(number).error)]
    assert {error[0] for error in errors} == {"overloaded"}
    assert "2 requests of uid 64101 wait for their plan" in errors[0][1]
    assert crowd.client(OTHER).call("plan")
    assert viewer.call("plan")


def test_users_take_turns() -> None:
    reactor, order = Reactor(raised), list[str]()
    turns = Turns(reactor)

    def serve(name: str, left: int) -> None:
        order.append(name)
        if left:
            ask(name, left - 1)

    def ask(name: str, left: int) -> None:
        turns.add(ord(name[0]), lambda: serve(name, left), may_operate=True)

    for name in ("a1", "a2", "a3"):
        ask(name, 1)
    ask("b1", 1)
    while turns.are_taken:
        reactor.wait(None)
    assert order == ["a1", "b1", "a2", "b1", "a3", "a1", "a2", "a3"]


def test_who_may_operate_comes_before_all_who_may_only_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reactor, order = Reactor(raised), list[str]()
    turns = Turns(reactor)
    # Whoever is served uses up the turn of all: one of each kind has its turn all the same.
    monkeypatch.setattr(Reactor, "turn_is_over", property(lambda _: bool(order)))
    for number in range(3):
        for uid, name in enumerate(("viewer", "other viewer", "operator", "admin")):
            ask = partial(order.append, f"{name} {number}")
            turns.add(uid, ask, may_operate=uid >= 2)
    while len(order) < 12:
        reactor.wait(0)
    names = ("operator", "viewer", "admin", "other viewer")
    assert order == [f"{name} {number}" for number in range(3) for name in names]


def test_an_admin_is_served_at_once_and_viewers_one_request_at_a_time(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, real = list[int](), connection.Connection._serve
    asked = threading.Event()

    def serve(self: Any, call: Any) -> None:
        served.append(self.peer.uid)
        if served == [VIEWER]:  # while it is served, all others ask
            asked.wait(10)
        real(self, call)

    viewers = [crowd.client(VIEWER) for _ in range(6)]
    monkeypatch.setattr(connection.Connection, "_serve", serve)
    sent = [(viewer, viewer.send("status")) for viewer in viewers for _ in range(4)]
    until(lambda: served == [VIEWER])
    numbers = [crowd.admin.send("status") for _ in range(3)]
    asked.set()
    assert all(crowd.admin.answer(number).error is None for number in numbers)
    assert all(viewer.answer(number).error is None for viewer, number in sent)
    # All of the admin's were there at once; at most the viewer whose turn was under way came between.
    assert served[1:5].count(crowd.admin_uid) == 3


def open_below(folder: Path) -> list[str]:
    """Return what this process has open below a folder."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return [path for path in found if path.startswith(str(folder))]


def test_followers_hold_no_descriptors_and_streams_of_a_user_are_bounded(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = crowd.instance.folder / "logs"
    logs.mkdir(exist_ok=True)
    for number in range(50):
        (logs / f"w{number}-1.log").write_text("old\n")
    viewer = crowd.client(VIEWER)
    followed = [viewer.call("logs.follow", lines=1)["stream"] for _ in range(6)]
    for stream in followed:
        assert {viewer.next(stream)["watcher"] for _ in range(50)} == {f"w{n}" for n in range(50)}
    until(lambda: not open_below(logs))
    with (logs / "w7-1.log").open("a") as file:
        file.write("new\n")
    assert [viewer.next(stream)["data"] for stream in followed] == [b"new\n"] * 6
    monkeypatch.setattr(streams, "MAX_STREAMS_PER_UID", 6)
    code, message, _ = crowd.client(VIEWER).error("events.follow")
    assert (code, message) == ("overloaded", "more than 6 streams of uid 64101")
    monkeypatch.setattr(streams, "MAX_STREAMS", 7)
    monkeypatch.setattr(streams, "RESERVED_STREAMS", 1)
    assert crowd.client(OTHER).error("events.follow")[0] == "overloaded"
    assert crowd.admin.call("events.follow")["stream"]


def test_files_that_are_gone_make_room_in_a_stream(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_methods, "MAX_FOLLOWED_FILES", 51)
    viewer, admin = crowd.client(VIEWER), crowd.admin
    stream = viewer.call("logs.follow", lines=0)["stream"]
    (found,) = crowd.instance.controller.api.streams._streams.values()
    admin.call("scale", scale={"w1": 2})
    until(lambda: len(found.paths) == 51)
    admin.call("scale", scale={"w2": 2})
    told = viewer.next(stream)
    assert (told["watcher"], "at most 51 log files" in told["error"]) == ("w2", True)
    admin.call("scale", scale={"w1": 1, "w2": 1})
    until(lambda: len(found.paths) == 50)
    admin.call("scale", scale={"w3": 2})
    until(lambda: any(path.endswith("w3-2.log") for path in found.paths))


def test_the_last_descriptors_are_for_operators(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = crowd.client(VIEWER)
    limit = len(os.listdir("/proc/self/fd")) + 5
    monkeypatch.setattr(server.resource, "getrlimit", lambda _: (limit, limit))
    crowd._uid = VIEWER
    refused = crowd.instance.client().answer(0).error
    assert refused is not None
    assert refused[:2] == ("overloaded", "too many open files")
    assert crowd.client(None).call("status")
    assert viewer.call("hello")
