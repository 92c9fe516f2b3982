"""Claims about connections and limits, over a real Unix socket with the real core behind it."""

from __future__ import annotations

import contextlib
import inspect
import os
import socket
from typing import TYPE_CHECKING

import msgpack
import pytest
from conftest import by_hand, service, until

from reconciler.controller.api import auth, connection, server, streams
from reconciler.controller.api.auth import Permit
from reconciler.controller.api.methods import logs as log_methods
from reconciler.controller.runtime import reactor
from reconciler.model.units import MILLISECOND_NS
from reconciler.model.value import replace
from reconciler.wire import rpc
from reconciler.wire.methods import METHODS

if TYPE_CHECKING:
    from conftest import Client, Instance

    from reconciler.controller.api.request import Request
    from reconciler.model.spec import Role
    from reconciler.wire.methods import Parameters


@pytest.fixture
def client(instance: Instance) -> Client:
    instance.store(by_hand(web=service(numprocesses=2), db=service(labels={"team": "data"})))
    return instance.start().client()


def test_hello_says_who_answers(client: Client, instance: Instance) -> None:
    assert client.call("hello", client="test", protocol=1) | {"controller_pid": 0} == {
        "version": "0.1.0",
        "protocol": 1,
        "name": "test",
        "source": [str(instance.spec_file)],
        "state_dir": str(instance.folder),
        "role": "admin",
        "labels": [],
        "keeper_pid": 4242,
        "controller_pid": 0,
        "upgrades": 0,
    }


def test_status_has_its_stable_shape(client: Client) -> None:
    until(lambda: client.call("status")["settled"])
    status = client.call("status", names=["web"])
    assert (status["name"], status["revision"], status["observed_revision"]) == ("test", 1, 1)
    (web,) = status["watchers"]
    assert (web["name"], web["kind"], web["want"], web["state"], web["ready"]) == (
        "web",
        "service",
        2,
        "Running",
        2,
    )
    assert {"slot", "state", "since_ns", "pid", "exit", "fired", "next_ns"} <= web["slots"][
        0
    ].keys()


def test_a_name_that_matches_nothing_lists_near_ones(client: Client) -> None:
    code, message, details = client.error("status", names=["wbe"])
    assert (code, message, details["hint"]) == (
        "not_found",
        "no watcher matches 'wbe'",
        "did you mean web?",
    )
    assert client.error("status", names=["web.9"])[0] == "not_found"


def test_labels_and_globs_select(client: Client) -> None:
    names = [each["name"] for each in client.call("status", labels={"team": "data"})["watchers"]]
    assert names == ["db"]
    assert len(client.call("status", names=["*"])["watchers"]) == 2


def test_unknown_methods_and_parameters_are_errors_and_the_connection_goes_on(
    client: Client,
) -> None:
    code, _, details = client.error("staatus")
    assert (code, details["hint"]) == ("unsupported", "did you mean status?")
    assert client.error("status", colour=True)[0] == "invalid_request"
    assert client.call("hello")


def test_requests_may_be_pipelined(client: Client) -> None:
    numbers = [client.send("hello") for _ in range(500)]
    assert all(client.answer(number).error is None for number in reversed(numbers))


def test_who_asks_much_at_once_is_served_call_by_call_between_the_others(
    instance: Instance, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reactor, "TURN_NS", 0)  # every call takes too long
    greedy, served = instance.client(), []
    handlers = instance.controller.api.dispatcher.handlers
    known = handlers["hello"]

    def hello(request: Request, asked: Parameters) -> object:
        if not served:  # the other one asks while the first call is served
            client.send("hello", client="other")
        served.append(request.connection)
        return known(request, asked)

    monkeypatch.setitem(handlers, "hello", hello)
    numbers = range(100, 120)
    greedy.socket.sendall(b"".join(rpc.encode_request(n, "hello", {}) for n in numbers))
    assert all(greedy.answer(number).error is None for number in numbers)
    assert client.answer(1).error is None
    first = [connection is served[0] for connection in served]
    assert first.index(False) <= 3
    assert first.count(True) == 20


def test_a_broken_frame_is_answered_and_ends_only_its_own_connection(
    instance: Instance, client: Client
) -> None:
    other = instance.client()
    other.socket.sendall(b"\xdd\xff\xff\xff\xff" + b"x" * 100_000)
    response = other.answer(0)
    assert response.error is not None
    assert response.error[0] == "invalid_request"
    with pytest.raises(EOFError):
        other.receive()
    assert client.call("hello")


def test_garbage_on_many_connections_disturbs_nobody(instance: Instance, client: Client) -> None:
    # Fewer than one user may have at once: beyond that, the client is the one that has been idle for longest.
    for number in range(server.MAX_CONNECTIONS_PER_UID - 2):
        with socket.socket(socket.AF_UNIX) as stranger, contextlib.suppress(OSError):
            stranger.connect(str(instance.folder / "control.sock"))
            stranger.sendall(bytes((number * step) % 256 for step in range(200)))
    assert client.call("hello")
    until(lambda: len(instance.controller.api.server._connections) == 1)


def test_a_client_that_never_reads_is_not_read_from(instance: Instance, client: Client) -> None:
    deaf = instance.client()
    deaf.socket.setblocking(False)
    request = rpc.encode_request(1, "status", {}) * 1000
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += deaf.socket.send(request)
    assert client.call("hello")
    found = instance.controller.api.server._connections
    until(lambda: any(len(each._output) > connection.PAUSE_OUTPUT_BYTES for each in tuple(found)))
    (reading,) = [each for each in found if each._output]
    assert len(reading._output) < connection.MAX_OUTPUT_BYTES
    # When it reads at last, all that was taken is answered.
    deaf.socket.settimeout(20)
    whole = sent // len(rpc.encode_request(1, "status", {}))
    decoder, answered = rpc.ClientDecoder(), 0
    while answered < whole:
        answered += len(decoder.messages(deaf.socket.recv(2**20)))


def test_the_longest_idle_connection_makes_room(instance: Instance, client: Client) -> None:
    assert client.call("hello")
    crowd = [instance.client() for _ in range(server.MAX_CONNECTIONS_PER_UID + 40)]
    assert crowd[-1].call("hello")
    assert len(instance.controller.api.server._connections) <= server.MAX_CONNECTIONS_PER_UID


def test_a_connection_that_waits_is_not_pushed_out(instance: Instance, client: Client) -> None:
    stream = client.call("events.follow", since=0)["stream"]
    for _ in range(server.MAX_CONNECTIONS_PER_UID + 10):
        instance.client()
    assert client.next(stream)["seq"] == 1


def test_a_frame_that_does_not_end_is_cut_off(
    instance: Instance, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "FRAME_DEADLINE_NS", 50 * MILLISECOND_NS)
    sloth = instance.client()
    with pytest.raises((OSError, EOFError)):  # noqa: PT012  (cut off at any of its bytes)
        for byte in rpc.encode_request(1, "hello", {"client": "x" * 2000}):
            sloth.socket.sendall(bytes([byte]))
            sloth.socket.settimeout(0.02)
            with contextlib.suppress(TimeoutError):
                sloth.receive()
    assert client.call("hello")


def test_a_connection_that_never_speaks_is_closed(
    instance: Instance, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.call("hello")
    monkeypatch.setattr(connection, "FIRST_BYTE_DEADLINE_NS", 50 * MILLISECOND_NS)
    silent = instance.client()
    with pytest.raises(EOFError):
        silent.receive()
    assert client.call("hello")


def test_half_closed_clients_get_their_answers(instance: Instance, client: Client) -> None:
    number = client.send("hello")
    client.socket.shutdown(socket.SHUT_WR)
    assert client.answer(number).error is None
    with pytest.raises(EOFError):
        client.receive()


def test_a_half_closed_client_whose_answer_comes_late_is_let_go(
    instance: Instance, client: Client
) -> None:
    number = client.send("logs")  # read in the thread for slow questions
    client.socket.shutdown(socket.SHUT_WR)
    assert client.answer(number).error is None
    with pytest.raises(EOFError):
        client.receive()


ROLE_OF_METHOD = {
    **dict.fromkeys(
        ("hello", "status", "plan", "apply.follow", "orders.follow", "events", "events.follow"), "view"
    ),
    **dict.fromkeys(("logs", "logs.follow", "stream.cancel", "runs", "history", "diff"), "view"),
    **dict.fromkeys(("options", "stats", "stats.follow", "wait.follow"), "view"),
    **dict.fromkeys(
        ("start", "stop", "restart", "reload", "signal", "scale", "resume", "rerun"), "operate"
    ),
    **dict.fromkeys(("apply", "rollback", "shutdown", "upgrade", "exec"), "admin"),
}  # fmt: skip
"""Written down a second time on purpose: a method's role changes in two places or not at all."""


def test_each_method_has_the_role_that_is_promised() -> None:
    assert {name: method.role for name, method in METHODS.items()} == ROLE_OF_METHOD


def test_each_method_takes_what_the_table_says(instance: Instance, client: Client) -> None:
    for name, handler in instance.controller.api.dispatcher.handlers.items():
        *_, asked = inspect.signature(handler).parameters.values()
        assert asked.annotation.rpartition(".")[2] == METHODS[name].parameters.__name__, name


@pytest.mark.parametrize("role", ["view", "operate"])
def test_a_role_does_what_it_includes_and_no_more(
    instance: Instance, client: Client, monkeypatch: pytest.MonkeyPatch, role: Role
) -> None:
    monkeypatch.setattr(auth.Access, "permit", lambda self, peer: Permit(role))
    caller = instance.client()
    assert caller.call("hello")["role"] == role
    included = {"view", role}
    for method, needed in ROLE_OF_METHOD.items():
        if needed not in included:
            code, message, details = caller.error(method)
            assert (code, details["hint"]) == ("denied", f"{method} needs the role {needed}")
            assert f"(uid {os.getuid()})" in message
    assert caller.call("status")["watchers"]
    if role == "operate":
        assert caller.call("restart", names=["web"])["results"]


def test_too_many_requests_in_flight_are_refused(instance: Instance, client: Client) -> None:
    instance.keeper.stubborn.add("web")
    numbers = [
        client.send("stop", names=["web"], wait=True)
        for _ in range(connection.MAX_REQUESTS_IN_FLIGHT + 1)
    ]
    response = client.answer(numbers[-1])
    assert response.error is not None
    assert response.error[0] == "overloaded"


def test_a_notification_is_no_request(client: Client) -> None:
    client.socket.sendall(msgpack.packb([2, "shutdown", [{}]]))
    assert client.call("hello")


def test_some_places_are_kept_for_root_and_the_owner(
    instance: Instance, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 4)
    monkeypatch.setattr(server, "RESERVED_CONNECTIONS", 2)
    for busy in (client, instance.client()):
        assert busy.call("events.follow")["stream"]  # nobody takes the place of one that follows
    real = server.peer_of
    monkeypatch.setattr(server, "peer_of", lambda one: replace(real(one), uid=12345))
    refused = instance.client().answer(0)
    assert refused.error is not None and refused.error[0] == "overloaded"
    monkeypatch.setattr(server, "peer_of", real)
    assert instance.client().call("hello")


def test_streams_of_all_clients_are_bounded(
    instance: Instance, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MAX_STREAMS", 3)
    for _ in range(3):
        assert client.call("events.follow")["stream"]
    assert instance.client().error("events.follow")[0] == "overloaded"
    monkeypatch.setattr(streams, "MAX_STREAMS", 10)
    monkeypatch.setattr(log_methods, "MAX_FOLLOWED_FILES", 2)
    assert client.error("logs.follow")[1] == "one stream follows at most 2 log files"
    assert client.call("logs.follow", names=["web"])["stream"]


WITH_A_SECRET = """\
apply: {auto: false, max_removal: 10%}
watchers:
  a: {cmd: sleep 1000, secrets: {PW: {cmd: ./vault}}}
"""


@pytest.mark.parametrize("refusal", ["removal", "base"])
def test_an_apply_that_is_refused_has_no_effect(instance: Instance, refusal: str) -> None:
    vault = instance.folder / "specs" / "vault"
    vault.parent.mkdir()
    vault.write_text("#!/bin/sh\necho . >> asked\ndate +%s%N\n")
    vault.chmod(0o755)
    spec = WITH_A_SECRET + "  b: {cmd: sleep 1001}\n  c: {cmd: sleep 1002}\n"
    instance.spec_file.write_text(spec)
    client = instance.start().client()
    until(lambda: str(client.call("events")).count("process.started") == 3)
    before = client.call("events")["events"][-1]["seq"]
    pids = {id: record.phase for id, record in instance.keeper.records.items()}
    instance.spec_file.write_text(
        WITH_A_SECRET if refusal == "removal" else spec + "  d: {cmd: d}\n"
    )
    base = {} if refusal == "removal" else {"base": 7}
    assert client.error("apply", **base)[0] == "conflict"
    until(lambda: client.call("status")["settled"])
    assert (vault.parent / "asked").read_text() == ".\n"
    assert {id: record.phase for id, record in instance.keeper.records.items()} == pids
    # Only that an edit waits is told, since the status was asked for.
    told = {e["type"] for e in client.call("events", since=before)["events"]}
    assert told <= {"spec.pending"}
    client.call("apply", allow_removal=True)
    until(
        lambda: (vault.parent / "asked").read_text() == ".\n.\n",
        "it is read again by one that counts",
    )
