"""What a death costs the keeper does not grow with the processes that it has started or adopted.

Counted are the questions to the kernel layer: each is a walk through /proc, or opens files there.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import pytest

from reconciler.model.action import Spawn
from reconciler.model.process import Exit, Exited, Launch, ProcessId, pid_of
from tests.contract.worlds import PROGRAMS, Fake

QUESTIONS = ("children", "search", "identify", "has_forked", "adopt", "reap", "marker")
FEW, MANY = 5, 300


def asked_at_a_death(count: int, *, adopted: bool, deaths: int = 1) -> Counter[str]:
    """Return what the kernel layer is asked when some of so many processes die at once."""
    world = Fake()
    world.kernel.pids = 3 * MANY
    ids = [ProcessId("web", slot) for slot in range(1, count + 1)]
    world.send(*(Spawn(id, Launch(PROGRAMS["sleeps"].argv)) for id in ids))
    world.wait(lambda: ids[-1] in world.records)
    if adopted:
        world.lose_keeper()
        world.next_keeper()
    asked: Counter[str] = Counter()
    within: list[str] = []

    def ask(name: str, original: Any, *arguments: Any) -> Any:
        asked[name] += not within  # what the fake one asks itself is its own affair
        within.append(name)
        try:
            return original(*arguments)
        finally:
            within.pop()

    for name in QUESTIONS:
        setattr(world.kernel, name, partial(ask, name, getattr(world.kernel, name)))
    for id in ids[:deaths]:
        world.kernel.end(pid_of(world.records[id].phase) or 0, Exit(code=1))
    for id in ids[:deaths]:
        world.wait(lambda id=id: isinstance(world.records[id].phase, Exited))  # type: ignore[misc]
    return asked


@pytest.mark.parametrize("adopted", [False, True])
def test_a_death_asks_the_same_among_few_and_among_many(adopted: bool) -> None:
    few, many = (asked_at_a_death(count, adopted=adopted) for count in (FEW, MANY))
    assert few == many
    assert (many["children"], many["search"]) == (1, int(adopted))


def test_all_deaths_of_a_step_are_looked_into_at_once() -> None:
    asked = asked_at_a_death(MANY, adopted=True, deaths=MANY)
    assert (asked["search"], asked["identify"]) == (1, 0)
    assert asked["children"] <= 2  # one may be the look after a start
