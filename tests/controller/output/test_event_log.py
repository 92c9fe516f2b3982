"""Claims about events across the lives of controllers: in order, bounded, resumable, and in nobody's way."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Any

from conftest import by_hand, service, until
from paper_keeper import PaperKeeper

from reconciler.controller.output.event_log import NUMBERS_PER_RESERVATION
from reconciler.controller.state.records import KEPT_EVENTS, EventsWritten, NumbersReserved
from reconciler.controller.state.store import Answer, Store, Written
from reconciler.model.answer import EventEntry
from reconciler.model.event import Event
from reconciler.model.process import Exit, Exited, Running
from reconciler.model.spec import BackoffSpec
from reconciler.model.units import MAX_DURATION_NS, SECOND_NS
from reconciler.model.value import replace

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Client, Instance


def event(seq: int, message: str = "m") -> EventEntry:
    return EventEntry(seq, seq * 10, "test.told", "web", 1, message, {"seq": seq})


def stored(folder: Path, type: str = "%") -> list[int]:
    statement = "select seq from events where type like ? order by seq"
    with sqlite3.connect(folder / "state.db") as connection:
        return [seq for (seq,) in connection.execute(statement, (type,))]


def write(folder: Path, *entries: EventsWritten) -> None:
    store = Store(str(folder))
    store.read(lambda _: None)
    for entry in entries:
        store.write(entry)
    store.close()


def all_events(client: Client, since: int = 0) -> list[dict[str, Any]]:
    return list(client.call("events", since=since, limit=KEPT_EVENTS)["events"])


def test_events_of_an_earlier_controller_are_told_by_the_next(instance: Instance) -> None:
    instance.store(by_hand(web=service()))
    client = instance.start().client()
    until(lambda: instance.keeper.spawned())
    client.call("stop", names=["web"], reason="move", wait=True)
    before = all_events(client)
    middle = before[1]["seq"]
    instance.stop()

    client = instance.start(PaperKeeper()).client()
    client.call("start", names=["web"], wait=True)
    after = all_events(client)
    assert after[: len(before)] == before
    assert "operator.start" in [each["type"] for each in after[len(before) :]]
    assert all_events(client, middle) == after[2:]
    numbers = [each["seq"] for each in after]
    assert numbers == sorted(set(numbers))
    assert client.call("events", limit=2)["events"] == after[-2:]
    # Ended in order: no number was skipped.
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_who_follows_the_whole_gets_what_this_controller_told_and_reads_no_more(
    instance: Instance,
) -> None:
    instance.store(by_hand(web=service()))
    client = instance.start().client()
    client.call("stop", names=["web"], wait=True)
    former = all_events(client)[-1]["seq"]
    instance.stop()

    client = instance.start(PaperKeeper()).client()
    client.call("start", names=["web"], wait=True)
    stream = client.call("events.follow", whole=True)["stream"]
    first = client.next(stream)
    assert first["seq"] == former + 1
    recent = instance.controller.output.event_log.recent
    assert all(number > former for number in recent._entries)


def test_a_follower_that_comes_back_gets_what_it_missed_meanwhile(instance: Instance) -> None:
    instance.store(by_hand(web=service()))
    client = instance.start().client()
    until(lambda: "process.started" in [each["type"] for each in all_events(client)])
    last = all_events(client)[-1]["seq"]
    client.call("stop", names=["web"], wait=True)
    instance.stop()

    client = instance.start(PaperKeeper()).client()
    stream = client.call("events.follow", since=last)["stream"]
    assert client.next(stream)["type"] == "operator.stop"
    assert client.next(stream)["type"] == "process.exited"
    client.call("start", names=["web"])
    while client.next(stream)["type"] != "operator.start":
        pass


def test_after_a_kill_no_number_is_given_twice_and_the_gap_is_no_loss(instance: Instance) -> None:
    instance.store(by_hand(web=service()))
    write(instance.folder, EventsWritten((event(1), event(2)), 1 + NUMBERS_PER_RESERVATION))
    client = instance.start().client()
    until(lambda: instance.keeper.spawned())
    seen = all_events(client)
    assert [each["seq"] for each in seen[:3]] == [1, 2, 1 + NUMBERS_PER_RESERVATION]
    assert seen[0] == {
        "seq": 1,
        "time_ns": 10,
        "type": "test.told",
        "watcher": "web",
        "slot": 1,
        "message": "m",
        "details": {"seq": 1},
    }
    stream = client.call("events.follow", since=1)["stream"]
    assert client.next(stream)["seq"] == 2
    assert client.next(stream)["seq"] == 1 + NUMBERS_PER_RESERVATION
    assert not [each for each in client.notifications if "dropped" in each.params]


def test_many_events_are_few_writes_and_only_the_newest_are_kept(
    instance: Instance, tmp_path: Path
) -> None:
    instance.store(by_hand())
    batches = [
        EventsWritten(tuple(map(event, range(first, first + 500))), 1)
        for first in range(1, KEPT_EVENTS + 3001, 500)
    ]
    write(tmp_path, *batches)
    numbers = stored(tmp_path)
    assert numbers[-1] == KEPT_EVENTS + 3000
    assert KEPT_EVENTS <= len(numbers) < KEPT_EVENTS + 1000
    assert numbers == list(range(numbers[0], numbers[-1] + 1))


def test_a_burst_of_events_is_written_in_batches(instance: Instance) -> None:
    instance.store(by_hand(web=service()))
    instance.start()
    until(lambda: instance.keeper.spawned())
    controller = instance.controller
    assert controller is not None

    def burst() -> None:
        for number in range(1200):
            controller.output.tell(Event("test.burst", str(number)))

    controller.runtime.lanes.hand_over(burst)
    until(lambda: len(stored(instance.folder, "test.burst")) == 1200)
    numbers = stored(instance.folder, "test.burst")
    assert numbers == list(range(numbers[0], numbers[0] + 1200))


def test_events_alone_are_not_synced_and_an_idle_controller_writes_nothing(
    tmp_path: Path,
) -> None:
    store = Store(str(tmp_path))
    answers: list[Answer] = []
    store.read(answers.extend)
    store.write(NumbersReserved(4))
    until(lambda: Written(NumbersReserved(4)) in answers)
    commits = (tmp_path / "state.commits").read_bytes()
    told = EventsWritten((event(1),), 2)
    store.write(told)
    until(lambda: Written(told) in answers)
    assert (tmp_path / "state.commits").read_bytes() == commits
    store.write(NumbersReserved(5))
    until(lambda: Written(NumbersReserved(5)) in answers)
    assert (tmp_path / "state.commits").read_bytes() != commits
    # Not the time of access: what is moved into the database is read from the log.
    written = os.stat(tmp_path / "state.db-wal")
    threading.Event().wait(0.3)
    later = os.stat(tmp_path / "state.db-wal")
    assert (later.st_size, later.st_mtime_ns) == (written.st_size, written.st_mtime_ns)
    store.close()


def test_while_nothing_can_be_written_events_wait_and_processes_do_not(instance: Instance) -> None:
    instance.store(by_hand(web=service()))
    client = instance.start().client()
    until(lambda: instance.keeper.spawned())
    other = sqlite3.connect(instance.folder / "state.db", isolation_level=None)
    other.execute("begin immediate")
    before = len(stored(instance.folder))
    instance.keeper.exit(next(iter(instance.keeper.records)))
    until(lambda: len(instance.keeper.spawned()) == 2)
    until(lambda: client.call("status")["store_state"] == "failing")
    types = [each["type"] for each in all_events(client)]
    assert "store.failed" in types
    assert len(stored(instance.folder)) == before
    other.execute("rollback")
    other.close()
    told = [each["seq"] for each in all_events(client)]
    until(lambda: set(told) <= set(stored(instance.folder)))


def test_an_end_that_came_between_two_controllers_is_told_once_with_its_time(
    instance: Instance,
) -> None:
    slow = service(backoff=BackoffSpec(burst=0, initial=MAX_DURATION_NS, max=MAX_DURATION_NS))
    instance.store(by_hand(web=slow))
    instance.start()
    until(lambda: instance.keeper.spawned())
    until(lambda: stored(instance.folder, "process.started"))
    (alive,) = instance.keeper.records.values()
    assert isinstance(alive.phase, Running)
    ended_ns = alive.phase.started_at_ns + 1
    dead = Exited(ended_ns, Exit(code=3), alive.phase.pid, alive.phase.started_at_ns)
    records = (replace(alive, phase=dead),)
    for _ in range(2):
        instance.stop()
        client = instance.start(PaperKeeper(records)).client()
        (told,) = [each for each in all_events(client) if each["type"] == "process.exited"]
        assert told["message"].startswith("web.1 ended while the controller was away: exit 3 after")
        wall_ns = time.time_ns() - time.monotonic_ns() + ended_ns
        assert abs(told["time_ns"] - wall_ns) < SECOND_NS


def test_what_comes_again_and_again_is_counted_on_the_disk_too(instance: Instance) -> None:
    instance.store(by_hand(web=service()))
    client = instance.start().client()
    until(lambda: instance.keeper.spawned())
    controller = instance.controller
    assert controller is not None
    stream = client.call("events.follow")["stream"]

    def crash_loop() -> None:
        for number in range(3000):
            details = {"pid": number, "exit_code": 1}
            controller.output.tell(Event("process.exited", f"pid {number}", "loop", 1, details))
            if number % 1000 == 0:
                controller.output.tell(
                    Event("process.exited", "other", "loop", 1, {"exit_code": 2})
                )

    controller.runtime.lanes.hand_over(crash_loop)
    # Who follows is told of each.
    messages = [client.next(stream)["message"] for _ in range(3003)]
    assert messages[-1] == "pid 2999"
    answer = client.call("events", names=["loop"])
    assert [each["message"] for each in answer["events"]] == [
        *("pid 0", "other", "pid 1", "pid 2", "pid 3", "pid 4", "other", "other", "pid 2999"),
    ]
    last = answer["events"][-1]["details"]
    assert (last["pid"], last["count"]) == (2999, 3000)
    assert last["since_ns"] == answer["events"][0]["time_ns"]
    assert answer["left_out"] == 0
    seqs = [each["seq"] for each in answer["events"]]
    until(lambda: stored(instance.folder, "process.exited")[-9:] == seqs)


def test_filters_come_before_limits_and_what_is_left_out_is_said(instance: Instance) -> None:
    instance.store(by_hand(web=service(), db=service()))
    client = instance.start().client()
    until(lambda: client.call("status")["settled"])
    client.call("stop", names=["db"], wait=True)
    controller = instance.controller
    assert controller is not None

    def flood() -> None:
        for number in range(KEPT_EVENTS + 100):
            controller.output.tell(Event("test.flood", str(number)))

    controller.runtime.lanes.hand_over(flood)
    until(lambda: client.call("events", limit=1)["events"][0]["message"] == str(KEPT_EVENTS + 99))
    # An order has room of its own.
    answer = client.call("events", since_ns=1)
    assert [each["type"] for each in answer["events"]].count("operator.stop") == 1
    assert len(answer["events"]) > KEPT_EVENTS
    assert answer["kept_since_ns"] > 1
    (order,) = client.call("events", types=["operator"], names=["d*"], limit=5)["events"]
    assert order["watcher"] == "db"
    answer = client.call("events", types=["*.flood"], limit=3)
    assert [each["message"] for each in answer["events"]] == ["10097", "10098", "10099"]
    assert answer["left_out"] == KEPT_EVENTS - 3
    late = client.call("events", since_ns=answer["events"][1]["time_ns"], types=["test"])
    assert late["events"][-1]["message"] == "10099"
    assert "kept_since_ns" not in late
    stream = client.call("events.follow", types=["operator.start"])["stream"]
    client.call("start", names=["db"])
    assert client.next(stream)["type"] == "operator.start"
