from __future__ import annotations

import select
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import pytest

from reconciler import Client
from reconciler.cli.connection.instances import Instance
from reconciler.cli.connection.transport import TICK
from reconciler.cli.errors import NoManager, Refused, TimedOut
from reconciler.model.answer import RevisionEntry
from reconciler.model.change import Change
from reconciler.model.errors import RequestError
from tests.cli.answers import RUNNING_WEB, status
from tests.cli.manager import Hangup, Manager, Stream

if TYPE_CHECKING:
    from pathlib import Path

Life = Mapping[str, object]


def client_of(manager: Manager, timeout: float = 5) -> Client:
    return Client(runtime_dir=manager.runtime_dir, timeout=timeout)


def test_a_call_brings_the_answer(manager: Manager) -> None:
    manager.answers["status"] = status(RUNNING_WEB)

    with client_of(manager) as client:
        assert [watcher.name for watcher in client.status("web*").watchers] == ["web"]

    assert manager.asked("status") == [{"names": ["web*"], "lean": True}]


def test_a_refusal_carries_code_message_and_details(manager: Manager) -> None:
    error = RequestError("not_found", "cannot stop wbe: no such watcher", hint="did you mean web?")

    def refuse(_: object) -> object:
        raise error

    manager.answers["stop"] = refuse

    with pytest.raises(RequestError, match="no such watcher") as caught:
        client_of(manager).stop("wbe")
    assert (caught.value.code, caught.value.details) == ("not_found", {"hint": "did you mean web?"})


def test_a_broken_connection_is_made_anew_and_the_request_repeated(manager: Manager) -> None:
    lives = iter([Hangup, Hangup, None])

    def answer(_: object) -> object:
        if next(lives):
            raise Hangup
        return {"results": [{"name": "web", "message": "stopped"}]}

    manager.answers["stop"] = answer

    assert client_of(manager).stop("web")[0].message == "stopped"
    identifiers = {params["request_id"] for _, params in manager.calls}
    assert len(manager.calls) == 3
    assert len(identifiers) == 1


def test_each_mutation_has_an_identifier_of_its_own(manager: Manager) -> None:
    manager.answers["stop"] = {"results": []}
    client = client_of(manager)

    client.stop("web")
    client.stop("web")

    assert len({params["request_id"] for _, params in manager.calls}) == 2


def test_revisions_come_with_all_their_fields(manager: Manager) -> None:
    manager.answers |= {
        "history": {"revisions": [{"number": 2}]},
        "diff": {"changes": [{"name": "web"}]},
        "rollback": {"revision": 3},
    }

    with client_of(manager) as client:
        (revision,) = client.history()
        assert revision == RevisionEntry(number=2)
        assert client.diff(1) == (Change(name="web"),)
        assert client.rollback(1, base=2).revision == 3

    assert manager.asked("diff") == [{"old": 1}]
    assert manager.asked("rollback") == [{"revision": 1, "base": 2}]


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("status", {"revision": "two"}),
        ("status", {"watchers": [{"slots": 3}]}),
        ("stop", {"results": ["web"]}),
        ("events", {"events": None}),
        ("logs", {"entries": [{"data": 3}]}),
    ],
)
def test_an_answer_that_makes_no_sense_is_told_with_its_place(
    manager: Manager, method: str, answer: object
) -> None:
    manager.answers[method] = answer

    said = f"cannot understand shop, asked for {method}: Expected .* - at "
    with pytest.raises(Refused, match=said), client_of(manager) as client:
        tuple(getattr(client, method)())


def test_nobody_listening_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(NoManager, match="no manager named shop is running"):
        Client(runtime_dir=str(tmp_path / "shop")).status()


def test_a_socket_file_without_a_listener_is_no_manager(tmp_path: Path) -> None:
    import socket

    (tmp_path / "shop").mkdir()
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "shop" / "control.sock"))
    dead.close()

    with pytest.raises(NoManager):
        Client(runtime_dir=str(tmp_path / "shop")).status()


def test_no_answer_is_a_timeout(manager: Manager) -> None:
    gate = threading.Event()
    manager.answers["status"] = lambda _: gate.wait(20)

    with pytest.raises(TimedOut, match="cannot get an answer to status from shop"):
        client_of(manager, timeout=0.05).status()
    gate.set()


def test_a_manager_that_always_hangs_up_is_a_timeout(manager: Manager) -> None:
    def hang_up(_: object) -> object:
        raise Hangup

    manager.answers["status"] = hang_up

    with pytest.raises(TimedOut):
        client_of(manager, timeout=0.2).status()


def test_a_wait_of_the_manager_lengthens_ours(manager: Manager) -> None:
    gate = threading.Event()

    def late(_: object) -> object:
        gate.wait(0.2)
        return {"results": []}

    manager.answers["start"] = late

    assert client_of(manager, timeout=0.05).start("web", wait=True, timeout_ns=10**9) == ()


def test_progress_ends_when_the_manager_says_done(manager: Manager) -> None:
    steps: list[Life] = [
        {"revision": 3, "waiting": [{"name": "web", "state": "Starting"}]},
        {"revision": 3, "converged": True, "done": True},
    ]
    manager.answers["apply.follow"] = Stream("progress", steps)

    seen = list(client_of(manager).progress(3))

    assert [(step.converged, len(step.waiting)) for step in seen] == [(False, 1), (True, 0)]


def test_events_go_on_after_a_controller_was_replaced(manager: Manager) -> None:
    lives: Iterator[list[Life]] = iter([[{"seq": 1}, {"seq": 2}], [{"seq": 3}]])

    def follow(_: object) -> object:
        life = next(lives, None)
        if life is None:
            threading.Thread(target=manager.close).start()
            raise Hangup
        return Stream("event", life)

    manager.answers["events.follow"] = follow

    assert [event.seq for event in client_of(manager).events(follow=True)] == [1, 2, 3]
    assert manager.asked("events.follow")[:3] == [{}, {"since": 2}, {"since": 3}]


def test_logs_go_on_where_they_were_after_a_controller_was_replaced(manager: Manager) -> None:
    web = {"watcher": "web", "slot": 1, "source": "stdout", "path": "/logs/web"}
    silent = {**web, "path": "/logs/silent", "data": b"", "at": "1:3:0:0"}
    first = {**web, "data": b"one\n", "at": "1:2:4:0"}
    lives: Iterator[list[Life]] = iter([[silent, first], []])

    def follow(_: object) -> object:
        life = next(lives, None)
        if life is None:
            threading.Thread(target=manager.close).start()
            raise Hangup
        return Stream("log", life)

    manager.answers["logs.follow"] = follow

    assert [entry.data for entry in client_of(manager).logs(lines=5, follow=True)] == [b"one\n"]
    assert manager.asked("logs.follow")[:2] == [
        {"lines": 5, "resumable": True},
        {
            "lines": 5,
            "resumable": True,
            "after": ["1:3:0:0 /logs/silent\n1:2:4:0 /logs/web"],
        },
    ]


def test_what_came_before_the_end_is_yielded_though_another_call_found_the_end(
    manager: Manager,
) -> None:
    gate = threading.Event()

    def events() -> Iterator[Life]:
        yield {"seq": 1}
        gate.wait(20)
        yield {"seq": 2}

    manager.answers["events.follow"] = Stream("event", events())
    client = client_of(manager)
    stream = client.follow(("events.follow", {}))
    assert next(stream)[1]["seq"] == 1

    gate.set()
    assert client._socket is not None
    poll = select.poll()
    poll.register(client._socket, select.POLLHUP)
    assert poll.poll(20_000)
    manager.close()
    with pytest.raises(NoManager):
        client.hello()

    assert [item["seq"] for _, item in stream] == [2]


def test_silence_ticks(manager: Manager) -> None:
    manager.answers["events.follow"] = {"stream": 1}
    stream = client_of(manager).follow(("events.follow", {}), tick=0.01)

    assert next(stream) == (TICK, {})


def test_streams_are_opened_again_when_another_call_made_a_new_connection(manager: Manager) -> None:
    manager.answers["events.follow"] = {"stream": 1}
    manager.answers["hello"] = {"name": "shop"}
    client = client_of(manager)
    stream = client.follow(("events.follow", {}), tick=0.01)
    next(stream)

    client.close()
    client.hello()
    next(stream)

    assert len(manager.asked("events.follow")) == 2


def test_a_client_that_is_not_one_of_ours_is_refused(tmp_path: Path) -> None:
    import socket

    (tmp_path / "odd").mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "odd" / "control.sock"))
    listener.listen()

    def speak() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.recv(1000)

    threading.Thread(target=speak, daemon=True).start()
    with pytest.raises(Exception, match="cannot understand odd"):
        Client(instance=Instance("odd", str(tmp_path / "odd"))).hello()
    listener.close()
