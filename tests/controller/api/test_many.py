"""An order or a question about many watchers: others have their turn meanwhile, and nobody is told what is not so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from conftest import by_hand, service, until

from reconciler.controller.runtime import inbox, reactor

if TYPE_CHECKING:
    from conftest import Instance

MANY = 40


@pytest.fixture
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each turn be over as soon as something was done in it, and each round hear of three things."""
    monkeypatch.setattr(reactor, "TURN_NS", 0)
    monkeypatch.setattr(inbox, "OBSERVATIONS_PER_ROUND", 3)


def many(instance: Instance) -> Any:
    instance.store(by_hand(**{f"w{n}": service() for n in range(MANY)}))
    instance.start()
    client = instance.client()
    until(lambda: client.call("status")["settled"])
    return client


@pytest.mark.usefixtures("short_turns")
@pytest.mark.parametrize("wait", [True, False])
def test_an_order_is_decided_and_carried_out_a_few_watchers_in_each_turn(
    instance: Instance, wait: bool
) -> None:
    client = many(instance)
    controller: Any = instance.controller
    methods = controller.api.dispatcher.handlers["stop"].__self__
    turn, decided, fed = [0], [], []
    one_round, feed = controller._round, methods.feed
    kind = type(methods)
    subject = kind._subject

    def round() -> None:
        turn[0] += 1
        one_round()

    def noted(self: Any, *more: Any, **named: Any) -> Any:
        decided.append(turn[0])
        assert not controller.saving.intents, "nobody builds upon half of an order"
        assert all(seen.intent.hold is None for seen in controller.core.known.values())
        return subject(self, *more, **named)

    def told(observation: Any) -> None:
        fed.append(turn[0])
        feed(observation)

    controller._round, methods.feed = round, told
    kind._subject = noted
    try:
        answer = client.call("stop", names=["w*"], wait=wait)
    finally:
        kind._subject = subject
    assert (len(decided), len(fed)) == (MANY, MANY)
    assert max(map(decided.count, decided)) <= 2
    assert max(map(fed.count, fed)) <= 3
    assert answer.get("failed", []) == []


@pytest.mark.usefixtures("short_turns")
def test_of_two_orders_the_later_one_builds_upon_the_earlier_one_however_large_that_is(
    instance: Instance,
) -> None:
    client, other = many(instance), instance.client()
    large = client.send("stop", names=["w*"], wait=True)
    small = client.send("start", names=["w7", "w30"], wait=True)
    unheard = other.send("status", names=["w3"])
    assert [each["name"] for each in other.answer(unheard).result["watchers"]] == ["w3"]
    assert client.answer(small).result["failed"] == []
    client.answer(large)
    until(lambda: client.call("status")["settled"])
    states = {each["name"]: each["state"] for each in client.call("status")["watchers"]}
    assert [name for name, state in states.items() if state == "Running"] == ["w7", "w30"]


@pytest.mark.usefixtures("short_turns")
def test_an_order_of_which_nothing_is_stored_when_the_end_begins_has_no_effect(
    instance: Instance,
) -> None:
    client, other = many(instance), instance.client()
    large = client.send("restart", names=["w*"])
    other.send("shutdown")
    answer = client.answer(large)
    intents = [seen.intent.restart_tokens for seen in instance.controller.core.known.values()]
    if answer.error is None:  # it was stored before
        assert len(answer.result["results"]) == MANY
    else:
        assert answer.error[0] == "shutting_down"
        assert not any(intents)


@pytest.mark.usefixtures("short_turns")
def test_a_status_of_many_is_made_a_few_in_each_turn_and_tells_of_all_how_they_are(
    instance: Instance,
) -> None:
    client = many(instance)
    controller: Any = instance.controller
    board, turn, made = controller.output.board, [0], []
    one_round = controller._round
    kind = type(board)
    of = kind.of

    def round() -> None:
        turn[0] += 1
        one_round()

    def noted(self: Any, name: str) -> Any:
        made.append(turn[0])
        return of(self, name)

    controller._round = round
    client.call("stop", names=["w*"], wait=True)
    kind.of = noted
    try:
        for lean in (True, False):
            found = client.call("status", lean=lean)["watchers"]
            assert len(found) == MANY
        assert {each["state"] for each in found} == {"Held"}
    finally:
        kind.of = of
    assert max(map(made.count, made)) <= 3


def test_more_than_one_round_hears_of_is_waited_for(instance: Instance) -> None:
    count = 3 * inbox.OBSERVATIONS_PER_ROUND
    instance.store(by_hand(**{f"w{n}": service() for n in range(count)}))
    instance.start()
    client = instance.client()
    until(lambda: client.call("status")["settled"])
    for method in ("stop", "start"):
        answer = client.call(method, names=["w*"], wait=True)
        assert (len(answer["results"]), answer["failed"]) == (count, [])
