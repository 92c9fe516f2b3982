"""Claims about events, progress and log lines as they come."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from conftest import by_hand, service, until

from reconciler.model.process import ProcessId
from reconciler.model.spec import LogsSpec, StdoutSpec
from reconciler.model.value import replace

if TYPE_CHECKING:
    from conftest import Client, Instance


@pytest.fixture
def client(instance: Instance) -> Client:
    instance.store(by_hand(web=service(numprocesses=2), db=service()))
    (instance.folder / "logs").mkdir()
    for name in ("web-1", "web-2", "db-1"):
        (instance.folder / "logs" / f"{name}.log").write_bytes(b"old 1\nold 2\nold 3\n")
    client = instance.start().client()
    until(lambda: client.call("status")["settled"])
    return client


def append(instance: Instance, name: str, data: bytes) -> None:
    with (instance.folder / "logs" / f"{name}.log").open("ab") as file:
        file.write(data)


def test_events_come_in_order_from_the_past_to_the_present(
    instance: Instance, client: Client
) -> None:
    stream = client.call("events.follow", since=0)["stream"]
    first = client.next(stream)
    assert {"seq", "time_ns", "type", "watcher", "slot", "message", "details"} <= first.keys()
    client.call("stop", names=["db"])
    seen = [first]
    while seen[-1]["type"] != "operator.stop":
        seen.append(client.next(stream))
    assert [each["seq"] for each in seen] == list(range(1, len(seen) + 1))


def test_events_since_now_are_only_new_ones(client: Client) -> None:
    stream = client.call("events.follow")["stream"]
    client.call("stop", names=["db"])
    assert client.next(stream)["type"] == "operator.stop"


def test_a_cancelled_stream_is_over(instance: Instance, client: Client) -> None:
    stream = client.call("events.follow")["stream"]
    assert instance.client().error("stream.cancel", stream=stream)[0] == "not_found"
    assert client.call("stream.cancel", stream=stream) == {}
    client.call("stop", names=["db"])
    client.call("hello")
    assert client.notifications == []


def test_a_reader_that_is_too_slow_is_told_how_much_it_missed(
    instance: Instance, client: Client
) -> None:
    from reconciler.model.event import Event

    stream = client.call("events.follow")["stream"]
    controller = instance.controller
    newest = controller.output.event_log.recent.newest

    def flood() -> None:
        for number in range(30_000):
            controller.output.tell(Event("test.flood", f"{number} " + "x" * 200))

    controller.runtime.lanes.hand_over(flood)
    until(lambda: controller.output.event_log.recent.newest >= newest + 30_000)
    seen, dropped = 0, 0
    while seen + dropped < 30_000:
        element = client.next(stream)
        if "dropped" in element:
            dropped += element["dropped"]
        else:
            seen += 1
    assert dropped > 0
    assert seen + dropped == 30_000


def test_progress_ends_when_everything_is_as_desired(instance: Instance, client: Client) -> None:
    client.call("restart", names=["web"])
    stream = client.call("apply.follow", revision=1)["stream"]
    seen = [client.next(stream)]
    while not seen[-1]["done"]:
        seen.append(client.next(stream))
    assert seen[0]["converged"] is False
    assert {each["name"] for each in seen[0]["waiting"]} == {"web"}
    assert seen[-1] == {
        "stream": stream,
        "revision": 1,
        "converged": True,
        "waiting": [],
        "remaining": 0,
        "outcome": "",
        "reason": "",
        "done": True,
    }
    assert client.error("stream.cancel", stream=stream)[0] == "not_found"


def test_progress_waits_for_its_revision(instance: Instance, client: Client) -> None:
    stream = client.call("apply.follow", revision=5)["stream"]
    assert client.next(stream)["converged"] is False


def test_the_last_lines_of_all_slots(client: Client) -> None:
    entries = client.call("logs", names=["web"], lines=2)["entries"]
    assert [{**each, "path": each["path"][-9:]} for each in entries] == [
        {
            "watcher": "web",
            "slot": slot,
            "stream": "stdout",
            "path": f"web-{slot}.log",
            "data": b"old 2\nold 3\n",
            "more": True,
        }
        for slot in (1, 2)
    ]
    assert client.call("logs", names=["web.2"], lines=1)["entries"][0]["slot"] == 2
    answer = client.call("logs", names=["web"], stderr=True)
    assert answer["entries"] == []
    assert "goes where its standard output goes" in answer["empty"][0]


def test_followed_lines_come_whole_and_survive_rotation(instance: Instance, client: Client) -> None:
    stream = client.call("logs.follow", names=["db"], lines=1)["stream"]
    assert client.next(stream) == {
        "stream": stream,
        "watcher": "db",
        "slot": 1,
        "source": "stdout",
        "data": b"old 3\n",
    }
    append(instance, "db-1", b"new 1\nne")
    assert client.next(stream)["data"] == b"new 1\n"
    append(instance, "db-1", b"w 2\n")
    path = instance.folder / "logs" / "db-1.log"
    path.rename(path.with_suffix(".log.1"))
    path.write_bytes(b"after\n")
    data = b""
    while not data.endswith(b"after\n"):
        data += client.next(stream)["data"]
    assert data == b"new 2\nafter\n"


def test_with_nobody_following_nothing_is_watched(instance: Instance, client: Client) -> None:
    stream = client.call("logs.follow")["stream"]
    watch = instance.controller.api.logs.watch
    until(lambda: watch._wanted.folders)
    client.call("stream.cancel", stream=stream)
    until(lambda: not watch._wanted.folders)
    again = client.call("logs.follow", names=["db"], lines=0)["stream"]
    append(instance, "db-1", b"again\n")
    assert client.next(again)["data"] == b"again\n"


def test_a_slot_that_comes_later_is_followed_too(instance: Instance, client: Client) -> None:
    stream = client.call("logs.follow", names=["web"], lines=0)["stream"]
    client.call("scale", scale={"web": 3}, wait=True, timeout_ns=20 * 10**9)
    assert ProcessId("web", 3) in instance.keeper.records
    append(instance, "web-3", b"hello\n")
    element = client.next(stream)
    assert (element["slot"], element["data"]) == (3, b"hello\n")


def test_a_stream_goes_on_where_another_has_ended(instance: Instance, client: Client) -> None:
    one = client.call("logs.follow", names=["web"], lines=1, resumable=True)["stream"]
    places = {each["path"]: each["at"] for each in (client.next(one), client.next(one))}
    client.call("stream.cancel", stream=one)
    append(instance, "web-1", b"meanwhile\n")
    after = ["\n".join(f"{at} {path}" for path, at in places.items())]
    again = client.call("logs.follow", names=["web"], lines=1, after=after)["stream"]
    element = client.next(again)
    assert (element["slot"], element["data"]) == (1, b"meanwhile\n")
    append(instance, "web-2", b"later\n")
    assert client.next(again)["data"] == b"later\n"
    assert client.error("logs.follow", after=["1:2 x"])[0] == "invalid_request"


def test_the_whole_output_of_what_was_started_here_comes_however_late(
    instance: Instance, client: Client
) -> None:
    append(instance, "db-1", b"first words\n")
    stream = client.call("logs.follow", names=["db"], lines=0, whole=True)["stream"]
    assert client.next(stream)["data"] == b"first words\n"


def test_a_line_without_end_is_shown_when_its_writer_is_quiet(
    instance: Instance, client: Client
) -> None:
    stream = client.call("logs.follow", names=["db"], lines=0)["stream"]
    append(instance, "db-1", b"Password: ")
    assert client.next(stream)["data"] == b"Password: "
    append(instance, "db-1", b"\nwelcome\n")
    assert client.next(stream)["data"] == b"welcome\n"
    path = instance.folder / "logs" / "db-1.log"
    path.write_bytes(b"fatal: no")
    os.utime(path, (1, 1))
    (entry,) = client.call("logs", names=["db"])["entries"]
    assert entry["data"] == b"fatal: no"


def test_a_file_that_several_write_to_is_shown_once(instance: Instance) -> None:
    shared = LogsSpec(stdout=StdoutSpec(file=str(instance.folder / "w.log")))
    common = LogsSpec(stdout=StdoutSpec(file=str(instance.folder / "all.log")))
    instance.store(
        by_hand(
            w=service(numprocesses=3, logs=shared),
            a=service(logs=common),
            b=service(logs=common),
            quiet=service(logs=LogsSpec(stdout=StdoutSpec(to="devnull"))),
        )
    )
    (instance.folder / "w.log").write_bytes(b"from 1\nfrom 3\n")
    (instance.folder / "all.log").write_bytes(b"whose?\n")
    client = instance.start().client()
    until(lambda: client.call("status")["settled"])

    def shown(*names: str) -> list[tuple[str, int, bytes]]:
        entries = client.call("logs", names=list(names))["entries"]
        return [(each["watcher"], each["slot"], each["data"]) for each in entries]

    assert shown("w") == shown("w.2") == [("w", 0, b"from 1\nfrom 3\n")]
    assert shown("a") == shown("b", "a") == [("", 0, b"whose?\n")]
    stream = client.call("logs.follow", names=["w", "a", "b"], lines=1)["stream"]
    first = {client.next(stream)["data"] for _ in range(2)}
    assert first == {b"from 3\n", b"whose?\n"}
    with (instance.folder / "w.log").open("ab") as file:
        file.write(b"from 2\n")
    element = client.next(stream)
    assert (element["watcher"], element["slot"], element["data"]) == ("w", 0, b"from 2\n")
    assert client.call("logs", names=["quiet"])["empty"] == [
        "the output of quiet is discarded (logs.stdout.to)"
    ]


def test_a_file_that_several_wrote_to_is_let_go_when_none_does(instance: Instance) -> None:
    path = instance.folder / "all.log"
    common = LogsSpec(stdout=StdoutSpec(file=str(path)))
    instance.store(by_hand(a=service(logs=common), b=service(logs=common)))
    client = instance.start().client()
    until(lambda: client.call("status")["settled"])
    stream = client.call("logs.follow", lines=0)["stream"]
    (found,) = instance.controller.api.streams._streams.values()
    client.call("scale", scale={"a": 0, "b": 0})
    until(lambda: not found.paths)
    client.call("stop", names=["a"])  # which has a part in nothing any more
    client.call("scale", scale={"b": 1})
    until(lambda: str(path) in found.paths)
    path.write_bytes(b"again\n")
    assert client.next(stream)["data"] == b"again\n"


def test_an_empty_answer_says_why_it_is_empty(instance: Instance) -> None:
    manager = LogsSpec(stdout=StdoutSpec(to="manager"))
    instance.store(
        by_hand(
            buffered=replace(service(), cmd=("python3", "t.py")),
            unbuffered=replace(service(), cmd=("python3", "-u", "t.py")),
            manager=service(logs=manager),
            journal=service(logs=LogsSpec(stdout=StdoutSpec(to="journal"))),
            syslog=service(logs=LogsSpec(stdout=StdoutSpec(to="syslog"))),
            held=service(autostart=False),
        )
    )
    client = instance.start().client()
    until(lambda: client.call("status")["settled"])

    def why(name: str, **more: object) -> str:
        answer = client.call("logs", names=[name], **more)
        assert answer["entries"] == []
        (said,) = answer["empty"]
        return str(said)

    assert why("buffered").startswith("buffered has not written anything yet (Python keeps output")
    assert why("unbuffered") == "unbuffered has not written anything yet"
    assert (
        why("manager") == "the output of manager goes to the manager's own output (logs.stdout.to)"
    )
    assert why("journal") == (
        "the output of journal goes to the journal (logs.stdout.to): "
        "journalctl RECONCILE_WATCHER=journal"
    )
    assert why("syslog") == (
        "the output of syslog goes to syslog (logs.stdout.to), each line with the tag syslog[SLOT]"
    )
    assert why("held").startswith("held has not written anything and does not run: autostart is")
    assert why("held", hooks=True).startswith("no hook, stop command or reload command of held")
    assert len(client.call("logs")["empty"]) == 6
    (instance.folder / "logs").mkdir(exist_ok=True)
    (instance.folder / "logs" / "held-hooks.log").write_bytes(b"not today\n")
    for stderr in (False, True):  # hooks have but one log
        answer = client.call("logs", names=["held"], hooks=True, stderr=stderr)
        assert answer["entries"][0]["data"] == b"not today\n"
