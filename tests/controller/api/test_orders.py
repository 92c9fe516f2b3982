"""Claims about what operators ask for, from the socket through the core to the keeper and the store."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import sqlite3
import time
from typing import TYPE_CHECKING, Any

from conftest import by_hand, job, service, until
from paper_keeper import PaperKeeper

from reconciler.controller.state.records import Answered, IntentWritten, OrderWritten
from reconciler.controller.state.store import Store
from reconciler.core.intents import stopped
from reconciler.model.action import Signal
from reconciler.model.intent import NO_INTENT, RequestedBy, Until
from reconciler.model.process import Memory, ProcessId, ProcessRecord, Running
from reconciler.model.spec import DependencySpec, HookSpec, HooksSpec
from reconciler.wire.methods import METHODS

if TYPE_CHECKING:
    from conftest import Client, Instance


def state(client: Client, name: str) -> str:
    return str(client.call("status", names=[name])["watchers"][0]["state"])


def settled(client: Client) -> None:
    until(lambda: client.call("status")["settled"], "settled")


def messages(answer: Any) -> dict[str, str]:
    return {each["name"]: each["message"] for each in answer["results"]}


def taken(answer: Any) -> dict[str, str]:
    return {each["name"]: each["taken"] for each in answer["results"]}


def running(instance: Instance) -> list[str]:
    return sorted(
        str(id)
        for id, record in instance.keeper.records.items()
        if isinstance(record.phase, Running)
    )


def test_stop_and_start_are_kept_told_and_undone(instance: Instance) -> None:
    instance.store(by_hand(web=service(numprocesses=2), db=service()))
    client = instance.start().client()
    settled(client)
    answer = client.call("stop", names=["web"], reason="disk", wait=True, timeout_ns=10 * 10**9)
    assert messages(answer) == {"web": "stops 2 processes"}
    assert running(instance) == ["db.1"]
    (web,) = client.call("status", names=["web"])["watchers"]
    assert web["state"] in {"Stopped", "Held"}
    assert "disk" in web["note"]
    events = client.call("events")["events"]
    (told,) = [each for each in events if each["type"] == "operator.stop"]
    assert (told["watcher"], told["details"]["pid"] > 0) == ("web", True)
    assert "already" in messages(client.call("stop", names=["web"]))["web"]
    client.call("start", names=["web"], wait=True, timeout_ns=10 * 10**9)
    assert running(instance) == ["db.1", "web.1", "web.2"]


def test_an_operators_word_outlives_the_controller(instance: Instance) -> None:
    instance.store(by_hand(web=service()))
    client = instance.start().client()
    settled(client)
    client.call("stop", names=["web"], wait=True)
    client.call("scale", scale={"web": 3})
    instance.stop()
    store = Store(str(instance.folder))
    intent = store.read(lambda _: None).intents["web"]
    store.close()
    assert (intent.hold, intent.scale) == ("stopped", 3)
    instance.clients.clear()
    instance.start(PaperKeeper())
    assert state(instance.client(), "web") in {"Held", "Stopped"}
    assert instance.keeper.spawned() == []


def test_a_stop_with_an_end_is_kept_told_and_ends_by_itself(instance: Instance) -> None:
    instance.store(by_hand(web=service()))
    client = instance.start().client()
    settled(client)
    answer = client.call("stop", names=["web"], reason="disk", for_ns=3600 * 10**9, wait=True)
    assert messages(answer) == {"web": "stops 1 process, for 1h"}
    (web,) = client.call("status", names=["web"])["watchers"]
    (word,) = web["overrides"]
    assert (web["drift"], word["what"], word["why"]) == (True, "stopped", "disk")
    assert abs(word["until_ns"] - word["since_ns"] - 3600 * 10**9) < 10**9
    # The newest word counts: a moment from now, and then the spec does.
    client.call("stop", names=["web"], for_ns=1)
    until(lambda: running(instance) == ["web.1"], "web runs again")
    until(lambda: "operator.expired" in {e["type"] for e in client.call("events")["events"]})
    (web,) = client.call("status", names=["web"])["watchers"]
    assert (web["overrides"], web["drift"]) == ([], False)
    instance.stop()
    store = Store(str(instance.folder))
    assert store.read(lambda _: None).intents["web"] == NO_INTENT
    store.close()
    instance.clients.clear()
    instance.start(PaperKeeper())


def test_a_word_that_ended_while_the_machine_was_off_does_not_count(instance: Instance) -> None:
    instance.store(by_hand(web=service(), db=service()))
    store = Store(str(instance.folder))
    store.read(lambda _: None)
    hour, now = 3600 * 10**9, time.time_ns()
    for name, wall_ns in (("web", now - hour), ("db", now + hour)):
        # By the clock of the boot before, whose hours mean nothing any more, neither is over.
        end = Until(2 * hour, 10**18, wall_ns, "boot-0")
        store.write(IntentWritten(name, stopped(NO_INTENT, RequestedBy("alice", until=end))))
    store.close()
    client = instance.start().client()
    until(lambda: running(instance) == ["web.1"], "web runs")
    (word,) = client.call("status", names=["db"])["watchers"][0]["overrides"]
    assert abs(word["until_ns"] - now - hour) < 60 * 10**9


def test_an_end_that_comes_while_a_newer_word_is_written_takes_nothing_of_it_back(
    instance: Instance,
) -> None:
    instance.store(by_hand(web=service()))
    client = instance.start().client()
    settled(client)
    client.call("scale", scale={"web": 3})
    client.call("stop", names=["web"], for_ns=200 * 10**6)
    with contextlib.closing(sqlite3.connect(instance.folder / "state.db")) as other:
        other.execute("begin immediate")  # the disk takes its time
        number = client.send("resume", names=["web"])
        events = instance.controller.output.event_log.recent
        until(lambda: any(e.type == "operator.expired" for e in events.since(0, 1000)))
        other.rollback()
    assert client.answer(number).error is None
    until(lambda: running(instance) == ["web.1"])
    instance.stop()
    store = Store(str(instance.folder))
    assert store.read(lambda _: None).intents["web"] == NO_INTENT
    store.close()
    instance.clients.clear()
    instance.start(PaperKeeper())


def test_resume_lets_the_spec_count_again(instance: Instance) -> None:
    instance.store(by_hand(web=service(numprocesses=2), db=service()))
    client = instance.start().client()
    client.call("scale", scale={"web": 3}, reason="load")
    client.call("stop", names=["web"], wait=True)
    first, second = client.call("status", names=["web"])["watchers"][0]["overrides"]
    assert (first["what"], second["what"], second["numprocesses"]) == ("stopped", "scaled", 3)
    answer = client.call("resume", names=["web", "db"], wait=True, timeout_ns=20 * 10**9)
    assert messages(answer) == {
        "web": "follows its spec again: 0 -> 2 processes",
        "db": "already follows its spec",
    }
    assert running(instance) == ["db.1", "web.1", "web.2"]
    assert taken(client.call("resume", names=["web.1"])) == {"web": "refused"}
    assert client.error("resume")[0] == "invalid_request"


def test_the_reason_of_every_order_stands_in_its_event(instance: Instance) -> None:
    instance.store(by_hand(web=service()))
    client = instance.start().client()
    settled(client)
    orders = {
        "stop": {"names": ["web"]},
        "start": {"names": ["web"]},
        "restart": {"names": ["web"]},
        "reload": {"names": ["web"]},
        "signal": {"names": ["web"], "signal": "USR1"},
        "scale": {"scale": {"web": 1}},
        "resume": {"names": ["web"]},
        "shutdown": {},
    }
    for method, params in orders.items():
        client.call(method, **params, reason=f"why {method}")
    try:
        named = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as in a container that is run as some number
        named = f"uid {os.getuid()}"
    # After a shutdown nobody may be there to answer.
    told = {
        each.type: each.details
        for each in instance.controller.output.event_log.recent.since(0, 1000)
    }
    for method in orders:
        details = told[f"operator.{method}"]
        assert (details["uid"], details["reason"]) == (os.getuid(), f"why {method}")
        assert details["pid"] == os.getpid()
        assert details["who"] == named


def test_what_a_word_may_say_has_limits(instance: Instance) -> None:
    instance.store(by_hand(web=service()))
    client = instance.start().client()
    for params in ({"for_ns": 0}, {"for_ns": 400 * 86400 * 10**9}, {"reason": "x" * 257}):
        assert client.error("stop", names=["web"], **params)[0] == "invalid_request"
    assert client.error("scale", scale={"web": None}, for_ns=1)[0] == "invalid_request"
    assert client.error("restart", names=["web"], for_ns=1)[0] == "invalid_request"
    assert instance.controller.saving.observed("web").intent == NO_INTENT


def test_restart_waits_until_every_process_is_another(instance: Instance) -> None:
    instance.store(by_hand(web=service(numprocesses=2)))
    client = instance.start().client()
    settled(client)
    before = {id: record.incarnation for id, record in instance.keeper.records.items()}
    client.call("restart", names=["web"], wait=True, at_once=True, timeout_ns=20 * 10**9)
    after = {id: record.incarnation for id, record in instance.keeper.records.items()}
    assert before.keys() == after.keys()
    assert all(after[id] > before[id] for id in before)


def test_one_slot_can_be_restarted(instance: Instance) -> None:
    instance.store(by_hand(web=service(numprocesses=2)))
    client = instance.start().client()
    settled(client)
    client.call("restart", names=["web.2"], wait=True, timeout_ns=20 * 10**9)
    assert [str(id) for id in instance.keeper.spawned()] == ["web.1", "web.2", "web.2"]


def test_requests_in_one_breath_build_upon_each_other(instance: Instance) -> None:
    instance.store(by_hand(web=service()))
    client = instance.start().client()
    settled(client)
    numbers = [client.send("scale", scale={"web": 3}), client.send("restart", names=["web"])]
    assert all(client.answer(number).error is None for number in numbers)
    intent = instance.controller.saving.observed("web").intent
    assert (intent.scale, dict(intent.restart_tokens)) == (3, {0: 1})


def test_a_retried_request_is_done_once(instance: Instance) -> None:
    instance.store(by_hand(web=service()))
    client = instance.start().client()
    settled(client)
    numbers = [client.send("restart", names=["web"], request_id="r1") for _ in range(3)]
    again = instance.client()
    answers = [client.answer(number).result for number in numbers]
    answers.append(again.call("restart", names=["web"], request_id="r1"))
    assert answers == [answers[0]] * 4
    assert dict(instance.controller.saving.observed("web").intent.restart_tokens) == {0: 1}
    assert client.error("stop", names=["web"], request_id="r1")[0] == "conflict"


def again_after_a_crash(instance: Instance) -> Client:
    """Replace the controller by one that knows what its store and its keeper say."""
    records = tuple(instance.keeper.records.values())
    instance.stop()
    instance.clients.clear()
    return instance.start(PaperKeeper(records)).client()


def test_x51_a_request_that_is_repeated_after_a_crash_is_known(instance: Instance) -> None:
    instance.store(by_hand(web=service(), mig=job()))
    client = instance.start().client()
    finish(instance, 1)
    settled(client)
    asked = {"restart": {"names": ["web"]}, "rerun": {"names": ["mig"]}}
    first = {m: client.call(m, **p, request_id=f"id of {m}") for m, p in asked.items()}
    finish(instance, 1)
    settled(client)
    fired = len(instance.keeper.spawned())
    client = again_after_a_crash(instance)
    for method, params in asked.items():
        more = {"wait": True, "timeout_ns": 20 * 10**9}
        again = client.call(method, **params, **more, request_id=f"id of {method}")
        assert (again["results"], again["failed"]) == (first[method]["results"], [])
    assert client.error("stop", names=["web"], request_id="id of rerun")[0] == "conflict"
    assert dict(instance.controller.saving.observed("web").intent.restart_tokens) == {0: 1}
    assert instance.controller.saving.observed("mig").job.generation.number == 2
    assert (fired, instance.keeper.spawned()) == (4, [])
    # Another id is another request.
    client.call("restart", names=["web"], request_id="new", wait=True, timeout_ns=20 * 10**9)
    assert [str(id) for id in instance.keeper.spawned()] == ["web.1"]


def test_what_a_controller_did_not_live_to_answer_is_answered_by_the_next(
    instance: Instance,
) -> None:
    instance.store(by_hand(web=service()))
    store = Store(str(instance.folder))
    store.read(lambda _: None)
    word = IntentWritten("web", stopped(NO_INTENT, RequestedBy("alice")))
    results = ({"name": "web", "message": "stops 1 process"},)
    store.write(OrderWritten((word,), Answered(os.getuid(), "lost", "stop", results)))
    store.write(OrderWritten((), Answered(os.getuid() + 1, "of another", "stop", ())))
    store.close()
    client = instance.start().client()
    answer = client.call("stop", names=["web"], request_id="lost", wait=True)
    assert messages(answer) == {"web": "stops 1 process"}
    assert state(client, "web") == "Held"
    answer = client.call("stop", names=["web"], request_id="of another")
    assert messages(answer) == {"web": "already stopped, by alice"}


def test_scale_up_and_back_to_the_spec(instance: Instance) -> None:
    instance.store(by_hand(web=service()))
    client = instance.start().client()
    answer = client.call("scale", scale={"web": 3}, wait=True, timeout_ns=20 * 10**9)
    assert messages(answer) == {"web": "1 -> 3 processes"}
    assert len(running(instance)) == 3
    client.call("scale", scale={"web": None}, wait=True, timeout_ns=20 * 10**9)
    assert len(running(instance)) == 1
    assert client.error("scale", scale={"wbe": 1})[0] == "not_found"


def test_signals_reach_the_named_slot(instance: Instance) -> None:
    instance.store(by_hand(web=service(numprocesses=2)))
    client = instance.start().client()
    settled(client)
    client.call("signal", signal="SIGUSR1", names=["web.2"])
    until(lambda: any(isinstance(each, Signal) for each in instance.keeper.actions))
    (sent,) = [each for each in instance.keeper.actions if isinstance(each, Signal)]
    assert (str(sent.id), sent.signal) == ("web.2", "USR1")
    assert client.error("signal", signal="BANANA", names=["web"])[0] == "invalid_request"
    assert client.error("signal", signal="HUP")[0] == "invalid_request"


def test_waiting_ends_with_what_is_missing(instance: Instance) -> None:
    instance.store(by_hand(web=service()))
    client = instance.start().client()
    settled(client)
    instance.keeper.stubborn.add("web")
    code, message, details = client.error("stop", names=["web"], wait=True, timeout_ns=200 * 10**6)
    assert (code, details["waiting"][0]["name"]) == ("timeout", "web")
    assert "web is Stopping" in message


def finish(instance: Instance, *slots: int, code: int = 0) -> None:
    for slot in slots:
        id = ProcessId("mig", slot)
        until(
            lambda id=id: isinstance(getattr(instance.keeper.records.get(id), "phase", 0), Running)
        )
        instance.keeper.exit(id, code)


def test_rerun_fires_only_what_does_not_run(instance: Instance) -> None:
    instance.store(by_hand(mig=job(numprocesses=3)))
    client = instance.start().client()
    finish(instance, 1, 3)
    until(lambda: len(running(instance)) == 1)
    until(lambda: [each["state"] for each in status_slots(client)].count("Completed") == 2)
    (result,) = client.call("rerun", names=["mig"])["results"]
    assert result["fired"] == [1, 3]
    assert [each["slot"] for each in result["running"]] == [2]
    assert result["running"][0]["pid"] > 0
    until(lambda: len(running(instance)) == 3)
    assert sorted(id.slot for id in instance.keeper.spawned()) == [1, 1, 2, 3, 3]


def status_slots(client: Client) -> list[dict[str, Any]]:
    return list(client.call("status", names=["mig"])["watchers"][0]["slots"])


def test_start_fires_a_finished_job_by_name_but_not_by_glob(instance: Instance) -> None:
    instance.store(by_hand(mig=job()))
    client = instance.start().client()
    finish(instance, 1)
    until(lambda: state(client, "mig") == "Completed")
    assert "not run" in messages(client.call("start", names=["m*"]))["mig"]
    assert "fires slot 1" in messages(client.call("start", names=["mig"]))["mig"]
    until(lambda: len(instance.keeper.spawned()) == 2)


def test_rerun_waits_for_the_outcome_and_lifts_a_stop(instance: Instance) -> None:
    instance.store(by_hand(mig=job()))
    client = instance.start().client()
    finish(instance, 1)
    until(lambda: state(client, "mig") == "Completed")
    client.call("stop", names=["mig"])
    number = client.send("rerun", names=["mig"], wait=True, timeout_ns=20 * 10**9)
    finish(instance, 1)
    assert client.answer(number).error is None
    assert state(client, "mig") == "Completed"
    assert client.error("rerun", names=["nothing"])[0] == "not_found"


def test_a_service_is_not_rerun(instance: Instance) -> None:
    instance.store(by_hand(web=service()))
    assert taken(instance.start().client().call("rerun", names=["web"])) == {"web": "refused"}


def test_shutdown_answers_when_everything_has_ended(instance: Instance) -> None:
    instance.store(by_hand(web=service(numprocesses=2)))
    client = instance.start().client()
    settled(client)
    assert client.call("shutdown", wait=True) == {}
    instance.join()
    assert instance.keeper.quit is not None
    assert instance.keeper.quit.code == 0
    assert instance.keeper.records == {}


def test_with_jobs_only_the_manager_ends_by_their_outcome(instance: Instance) -> None:
    instance.store(by_hand(mig=job()))
    instance.start(until_done=True)
    id = ProcessId("mig", 1)
    until(lambda: isinstance(getattr(instance.keeper.records.get(id), "phase", 0), Running))
    instance.keeper.exit(id, 3)
    instance.join()
    assert instance.keeper.quit is not None
    assert instance.keeper.quit.code == 1


def test_runs_are_told_newest_first_with_what_fired_them(instance: Instance) -> None:
    instance.store(by_hand(mig=job(numprocesses=2), web=service()))
    client = instance.start().client()
    finish(instance, 1, 2)
    until(lambda: state(client, "mig") == "Completed")
    client.call("rerun", names=["mig.2"])
    until(lambda: len(running(instance)) == 2)
    answer = client.call("runs", names=["mig"])
    assert answer["complete"] is True
    shown = [(run["generation"], run["slot"], run["outcome"]) for run in answer["runs"]]
    assert shown == [(2, 2, None), (1, 2, "succeeded"), (1, 1, "succeeded")] or shown == [
        (2, 2, None),
        (1, 1, "succeeded"),
        (1, 2, "succeeded"),
    ]
    newest, *_, first = answer["runs"]
    assert (newest["trigger"], first["trigger"], first["who"]) == ("operator", "first", "")
    assert newest["who"]
    assert first["ended_ns"] >= first["fired_ns"] > 10**18
    assert (first["pid"] > 0, first["exit"]["code"]) == (True, 0)
    assert [run["slot"] for run in client.call("runs", names=["mig.1"])["runs"]] == [1]
    assert len(client.call("runs", names=["mig"], limit=1)["runs"]) == 1
    assert client.error("runs", names=["web"])[0] == "invalid_request"
    assert client.call("runs", names=["*"])["runs"] == answer["runs"]


def test_runs_are_told_from_memory_while_the_ledger_cannot_be_read(instance: Instance) -> None:
    instance.store(by_hand(mig=job()))
    client = instance.start().client()
    finish(instance, 1)
    until(lambda: state(client, "mig") == "Completed")
    for path in instance.folder.glob("state.db*"):
        path.unlink(missing_ok=True)
    answer = client.call("runs", names=["mig"])
    assert answer["complete"] is False
    assert [run["outcome"] for run in answer["runs"]] == ["succeeded"]


NAMING: dict[str, dict[str, Any]] = {
    "start": {"names": ["web.2"]},
    "stop": {"names": ["web.2"]},
    "resume": {"names": ["web.2"]},
    "restart": {"names": ["web.2"]},
    "reload": {"names": ["web.2"]},
    "signal": {"names": ["web.2"], "signal": "USR1"},
    "scale": {"scale": {"web.2": 1}},
    "rerun": {"names": ["mig.2"]},
    "status": {"names": ["web.2"]},
    "runs": {"names": ["mig.2"]},
    "logs": {"names": ["web.2"]},
}


def test_a_slot_in_a_name_is_honoured_or_refused_by_every_method(instance: Instance) -> None:
    instance.store(by_hand(web=service(numprocesses=2), mig=job(numprocesses=2)))
    client = instance.start().client()
    finish(instance, 1, 2)
    settled(client)
    takes_names = {"start", "stop", "resume", "restart", "reload", "signal", "scale", "rerun"}
    assert takes_names == {name for name, each in METHODS.items() if each.role == "operate"}
    answers = {}
    for method, params in NAMING.items():
        if method == "signal":
            settled(client)  # what was restarted runs again
        answers[method] = client.call(method, **params)
    refused = {m for m in takes_names if answers[m]["results"][0]["taken"] == "refused"}
    assert refused == {"stop", "resume", "scale"}
    for method in refused:
        assert "one slot" in answers[method]["results"][0]["message"]
    honoured = {m: answers[m]["results"][0] for m in takes_names - refused}
    assert {m: r["goal"].get("slots") for m, r in honoured.items() if "goal" in r} == {
        "start": [2],
        "restart": [2],
        "reload": [2],
        "rerun": [2],
    }
    assert honoured["signal"]["message"] == "sent SIGUSR1 to 1 process"
    assert [slot["slot"] for slot in answers["status"]["watchers"][0]["slots"]] == [2]
    assert {run["slot"] for run in answers["runs"]["runs"]} == {2}
    assert sorted(str(id) for id in instance.keeper.spawned()).count("web.1") == 1
    for method, params in NAMING.items():
        beyond = json.loads(json.dumps(params).replace(".2", ".7"))
        assert client.error(method, **beyond)[0] == "not_found"


def test_a_run_that_fails_is_told_to_who_waits_for_it(instance: Instance) -> None:
    instance.store(by_hand(mig=job(), web=service()))
    client = instance.start().client()
    finish(instance, 1)
    settled(client)
    number = client.send("rerun", names=["mig"], wait=True)
    id = ProcessId("mig", 1)
    until(lambda: isinstance(getattr(instance.keeper.records.get(id), "phase", 0), Running))
    # Another client follows the same goal, before and after the end.
    goal = {"name": "mig", "kind": "ended", "slots": [1], "number": 2}
    stream = client.call("orders.follow", goals=[goal])["stream"]
    assert client.next(stream)["remaining"] == 1
    instance.keeper.exit(id, 7)
    failed = [{"name": "mig", "message": "failed: exit 7"}]
    assert client.answer(number).result["failed"] == failed
    item = client.next(stream)
    while not item["done"]:
        item = client.next(stream)
    assert (item["failed"], item["converged"]) == (failed, False)
    gone = client.next(client.call("orders.follow", goals=[{"name": "x", "kind": "up"}])["stream"])
    assert (gone["done"], gone["failed"][0]["message"]) == (True, "was removed meanwhile")
    assert (
        client.error("orders.follow", goals=[{"name": "x", "kind": "sideways"}])[0]
        == "invalid_request"
    )


def test_processes_more_or_fewer_and_what_is_in_force(instance: Instance) -> None:
    instance.store(by_hand(web=service(numprocesses=2), db=service()))
    client = instance.start().client()
    settled(client)
    both = [client.send("scale", by={"web": 1}) for _ in range(2)]  # none of them is lost
    assert [messages(client.answer(each).result)["web"] for each in both] == [
        "2 -> 3 processes",
        "3 -> 4 processes",
    ]
    assert messages(client.call("scale", by={"*": -1})) == {
        "web": "4 -> 3 processes",
        "db": "1 -> 0 processes",
    }
    assert client.error("scale")[0] == "invalid_request"
    code, message, _ = client.error("scale", scale={"web": 1}, by={"w*": 1})
    assert (code, message) == ("invalid_request", "scale: two numbers for web, 1 and 1")
    found = client.call("options", name="web")
    assert found["name"] == "web"
    told = {"field": "numprocesses", "value": "2", "is_default": False, "effect": "live"}
    assert told in found["fields"]
    for name in ("*", "web.1"):
        assert client.error("options", name=name)[0] == "invalid_request"


def test_what_is_waited_for_is_followed_until_it_is_there_or_cannot_come(
    instance: Instance,
) -> None:
    instance.store(by_hand(mig=job(), web=service(), late=service(autostart=False)))
    client = instance.start().client()
    stream = client.call("wait.follow", names=["mig", "w*"])["stream"]
    item = client.next(stream)
    finish(instance, 1)
    while not item["done"]:
        assert not item["converged"]
        item = client.next(stream)
    assert (item["converged"], item["failed"], item["remaining"]) == (True, [], 0)
    asked = {"names": ["*"], "awaits": "ready"}  # of the job nobody can say that
    item = client.next(client.call("wait.follow", **asked)["stream"])
    assert (item["done"], item["converged"]) == (True, False)
    why = "autostart is false; `reconcile start late` starts it"
    assert item["failed"] == [{"name": "late", "message": why}]
    refused = client.error("wait.follow", names=["m*"], awaits="ready")
    never = "mig is a one-shot job, which is never ready: wait for succeeded"
    assert refused[:2] == ("invalid_request", never)
    assert client.error("wait.follow")[0] == "invalid_request"
    assert client.error("wait.follow", names=["web.9"])[0] == "not_found"


def test_a_signal_is_answered_when_it_was_sent_and_survives_the_controller(
    instance: Instance,
) -> None:
    hooks = HooksSpec(before_signal=HookSpec(cmd=("check",)))
    instance.store(by_hand(web=service(hooks=hooks), api=service()))
    client = instance.start().client()
    settled(client)
    hook = ProcessId("web", 1, "before_signal")
    asked = {"names": ["*"], "signal": "USR1", "request_id": "once"}

    def asking() -> bool:
        return isinstance(getattr(instance.keeper.records.get(hook), "phase", 0), Running)

    client.send("signal", **asked)
    until(asking)
    (sent,) = [each for each in instance.keeper.actions if isinstance(each, Signal)]
    assert str(sent.id) == "api.1"
    records = tuple(each for each in instance.keeper.records.values() if each.id != hook)
    # It dies while the hook thinks: no answer came, and the client asks the next one.
    instance.stop()
    instance.clients.clear()
    client = instance.start(PaperKeeper(records)).client()
    number = client.send("signal", **asked)
    until(asking)
    instance.keeper.exit(hook, 0)
    assert taken(client.answer(number).result) == {"web": "accepted", "api": "accepted"}

    def sent_to() -> list[str]:
        return [str(each.id) for each in instance.keeper.actions if isinstance(each, Signal)]

    until(lambda: sent_to() == ["api.1", "web.1"], "the keeper has read it")
    number = client.send("signal", names=["web"], signal="USR2")
    until(asking)
    instance.keeper.exit(hook, 1)
    (result,) = client.answer(number).result["results"]
    assert (result["taken"], "not to slot 1: before_signal hook" in result["message"]) == (
        "refused",
        True,
    )
    error = client.error("signal", names=["web"], signal="USR2", timeout_ns=10**7)
    assert (error[0], "web.1" in error[1]) == ("timeout", True)


def test_apply_only_takes_sockets_and_what_is_removed(instance: Instance) -> None:
    spec = (
        "apply: {{auto: false}}\nsockets: {{{sockets}}}\n"
        "watchers: {{a: {{cmd: sleep 1, use_sockets: {used}}}{rest}}}\n"
    )
    instance.spec_file.parent.mkdir()
    one, two = 'h: {listen: "127.0.0.1:1"}', 'h: {listen: "127.0.0.1:2"}'
    b = ", b: {cmd: sleep 1}"
    instance.spec_file.write_text(spec.format(sockets=one, used="[h]", rest=b))
    client = instance.start().client()
    until(lambda: client.call("status")["revision"] == 1)
    instance.spec_file.write_text(spec.format(sockets=two, used="[]", rest=""))
    for only, names in (("h", {"a", "b"}), ("b", {"a"})):
        answer = client.call("apply", only=[only], allow_removal=True)
        stream = client.call("apply.follow", revision=answer["revision"], names=[only])["stream"]
        until(lambda stream=stream: client.next(stream)["done"])
        assert {each["name"] for each in client.call("status")["watchers"]} == names
    instance.spec_file.write_text(spec.format(sockets="", used="[]", rest=""))
    assert "--only a" in client.error("apply", only=["h"])[2]["hint"]
    assert client.error("apply", only=["b.1"])[0] == "not_found"


def test_scale_takes_globs(instance: Instance) -> None:
    instance.store(by_hand(web=service(), worker=service(), db=service()))
    client = instance.start().client()
    answer = client.call("scale", scale={"w*": 2}, wait=True)
    assert set(messages(answer)) == {"web", "worker"}
    assert len(running(instance)) == 5
    assert client.error("scale", scale={"w*": 2, "web": 3})[0] == "invalid_request"


def test_a_hook_that_asks_for_the_end_is_answered_at_once(instance: Instance) -> None:
    instance.store(by_hand(web=service()))
    # This very process plays the hook, so the end waits for it.
    hook = ProcessRecord(
        ProcessId("web", 1, "after_spawn"),
        1,
        "",
        Memory(),
        Running(os.getpid(), time.monotonic_ns()),
    )
    instance.keeper.close()
    client = instance.start(PaperKeeper((hook,))).client()
    client.call("status")
    instance.keeper.stubborn.add("web")
    assert client.call("shutdown", wait=True, code=7) == {"leaves": False}
    told = [each.message for each in instance.controller.output.event_log.recent.since(0, 1000)]
    assert any("with exit code 7" in each for each in told)


def test_who_follows_an_edit_may_wait_for_the_runs_too(instance: Instance) -> None:
    instance.store(by_hand(mig=job(), web=service()))
    client = instance.start().client()
    settled(client)
    plain = client.call("apply.follow", revision=1)["stream"]
    whole = client.call("apply.follow", revision=1, runs=True)["stream"]
    assert client.next(plain)["done"]
    assert [each["name"] for each in client.next(whole)["waiting"]] == ["mig"]
    finish(instance, 1)
    until(lambda: client.next(whole)["converged"])


# ---- what depends on what ------------------------------------------------------------------------------


def test_who_follows_an_edit_hears_who_waits_for_what_does_not_come(instance: Instance) -> None:
    needs_mig = {"mig": DependencySpec("succeeded")}
    instance.store(by_hand(mig=job(), web=service(depends_on=needs_mig)))
    client = instance.start().client()
    stream = client.call("apply.follow", revision=1)["stream"]
    # The first answer may be of the moment before the job's process is started.
    until(
        lambda: (
            [(each["name"], each["stuck"]) for each in client.next(stream)["waiting"]]
            == [("web", False)]
        )
    )
    finish(instance, 1, code=3)
    until(lambda: client.next(stream)["remaining"] == 2)
    waiting = client.next(client.call("apply.follow", revision=1)["stream"])["waiting"]
    assert [(each["name"], each["stuck"]) for each in waiting] == [("mig", False), ("web", True)]


def shop(**db: object) -> dict[str, object]:
    """Return a database, what uses it, and what uses that."""
    return {
        "db": service(**db),
        "api": service(depends_on={"db": DependencySpec("started")}),
        "web": service(depends_on={"api": DependencySpec("started")}),
        "other": service(),
    }


def test_a_stop_names_who_depends_on_it_and_stops_them_when_asked_to(instance: Instance) -> None:
    instance.store(by_hand(**shop()))
    client = instance.start().client()
    settled(client)
    answer = client.call("stop", names=["db"], wait=True)
    assert messages(answer) == {
        "db": "stops 1 process; api, which depends on it, goes on: --with-dependents stops it too"
    }
    assert running(instance) == ["api.1", "other.1", "web.1"]
    client.call("start", names=["db"], wait=True)
    answer = client.call("stop", names=["db"], with_dependents=True, wait=True)
    assert messages(answer) == dict.fromkeys(("api", "web", "db"), "stops 1 process")
    assert running(instance) == ["other.1"]


def test_a_start_starts_what_it_requires_but_lifts_no_stop(instance: Instance) -> None:
    instance.store(by_hand(**shop(autostart=False)))
    client = instance.start().client()
    until(lambda: state(client, "web") == "Waiting", "web waits")
    answer = client.call("start", names=["web"], wait=True, timeout_ns=10 * 10**9)
    assert list(taken(answer).items()) == [("db", "accepted"), ("web", "accepted")]
    assert running(instance) == ["api.1", "db.1", "other.1", "web.1"]
    client.call("stop", names=["db"], with_dependents=True, wait=True)
    answer = client.call("start", names=["api"], wait=True, timeout_ns=10 * 10**9)
    (only,) = answer["results"]
    assert only["name"] == "api"
    assert "it is stopped by" in only["message"]
    assert running(instance) == ["other.1"]
