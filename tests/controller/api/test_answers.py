"""What the controller answers is what clients read: neither says or expects a key that the other does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from conftest import by_hand, job, service, until

from reconciler.model.status import Status
from reconciler.model.value import from_plain, to_whole
from reconciler.wire.methods import METHODS

if TYPE_CHECKING:
    from conftest import Client, Instance

ONLY_WHERE_IT_APPLIES = {
    "kept_since_ns",
    "goal",
    "generation",
    "fired",
    "queued",
    "running",
    "applied",
    "restores",
}
"""Keys that an answer has only where they say something."""
FOR_PEOPLE_WHO_ASK = {"protocol", "role", "labels", "controller_pid", "complete", "stream", "at"}
"""Keys that no command reads."""


@pytest.fixture
def client(instance: Instance) -> Client:
    instance.spec_file.parent.mkdir()
    jobs = "mig: {cmd: 'true', restart: never}"
    instance.spec_file.write_text(
        f"apply: {{auto: false}}\nwatchers: {{web: {{cmd: sleep 1000, numprocesses: 2}}, {jobs}}}\n"
    )
    instance.store(by_hand(web=service(), mig=job()))
    client = instance.start().client()
    until(lambda: client.call("status", names=["web"])["watchers"][0]["as_desired"])
    return client


def differences(told: Any, read: Any, place: str = "") -> set[str]:
    """Return the keys that stand on one side only."""
    if isinstance(told, dict) and isinstance(read, dict):
        alone = {f"{place}.{key}" for key in told.keys() ^ read.keys() if place != ".details"}
        both = told.keys() & read.keys()
        return alone.union(*(differences(told[key], read[key], f"{place}.{key}") for key in both))
    if isinstance(told, list | tuple) and isinstance(read, list):
        pairs = zip(told, read, strict=True)
        return set().union(*(differences(*pair, place) for pair in pairs))
    return set()


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("hello", {}),
        ("status", {}),
        ("status", {"usage": True}),
        ("plan", {}),
        ("apply", {"dry_run": True}),
        ("history", {}),
        ("diff", {"old": "newest", "new": "newest"}),
        ("events", {}),
        ("runs", {"names": ["mig"]}),
        ("stats", {}),
        ("options", {"name": "web"}),
        ("exec", {"name": "web"}),
        ("stop", {"names": ["web"]}),
        ("rerun", {"names": ["mig"]}),
    ],
)
def test_an_answer_has_the_keys_that_clients_read(
    client: Client, method: str, params: dict[str, Any]
) -> None:
    newest = client.call("history")["revision"]
    told = client.call(method, **{k: newest if v == "newest" else v for k, v in params.items()})

    found = {
        each.rpartition(".")[2]
        for each in differences(told, to_whole(from_plain(METHODS[method].result, told)))
    }
    assert found <= ONLY_WHERE_IT_APPLIES | FOR_PEOPLE_WHO_ASK


@pytest.mark.parametrize("names", [[], ["web"], ["web.2", "mig"]])
@pytest.mark.parametrize("usage", [False, True])
def test_a_lean_status_says_the_same_by_what_it_leaves_out(
    client: Client, names: list[str], usage: bool
) -> None:
    asked = {"names": names, "usage": usage}
    until(lambda: client.call("status")["settled"])
    lean, whole = client.call("status", lean=True, **asked), client.call("status", **asked)
    web = lean["watchers"][0]

    assert {"note", "drift", "overrides", "restarts"} & web.keys() == set()
    assert ("conditions" in web) == ("web.2" in names)  # the other slot counts for them, too
    assert {"pid", "state"} <= web["slots"][0].keys() < whole["watchers"][0]["slots"][0].keys()
    if usage or "web.2" in names:  # made anew at each look
        assert steady(as_read(lean)) == steady(whole)
    else:
        assert as_read(lean) == whole


def as_read(told: Any) -> Any:
    """Return an answer as a client reads it, and writes it for programs."""
    return to_whole(from_plain(Status, told), told)


def steady(told: Any) -> Any:
    """Return an answer without what differs at each look: what processes use, and nanoseconds."""
    if isinstance(told, dict):
        differs = {"cpu_percent", "memory_bytes"}
        return {
            key: None if key in differs or (key.endswith("_ns") and value) else steady(value)
            for key, value in told.items()
        }
    return [*map(steady, told)] if isinstance(told, list) else told


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("events.follow", {"since": 0}),
        ("apply.follow", {}),
        ("orders.follow", {"goals": [{"name": "web", "kind": "up"}]}),
        ("logs.follow", {}),
        ("wait.follow", {"names": ["web"]}),
        ("stats.follow", {}),
    ],
)
def test_a_notification_has_the_keys_that_clients_read(
    client: Client, instance: Instance, method: str, params: dict[str, Any]
) -> None:
    log = instance.folder / "logs" / "web-1.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text("hello\n")
    told = client.next(client.call(method, **params)["stream"])

    known = to_whole(from_plain(METHODS[method].result, told))
    assert {each.rpartition(".")[2] for each in differences(told, known)} & told.keys() <= {
        "stream",
        "at",
    }
