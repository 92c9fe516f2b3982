"""What a death costs the keeper does not grow with the processes that it has started or adopted.

Counted are the questions to the kernel layer, each of which is a walk through /proc or opens files there, and the work
of the state machine and of the lists by which the kernel layer finds who is new. What the system itself does is not:
it lists all children at each look, which takes it some microseconds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Mapping
from functools import partial
from typing import Any

import pytest

from reconciler.model.action import Signal, Spawn
from reconciler.model.process import Exit, Exited, Launch, ProcessId, pid_of
from reconciler.system.facts import Identity
from reconciler.system.procfs import _appended
from tests.contract.fake_kernel import FakeKernel
from tests.contract.worlds import PROGRAMS, Fake
from tests.growth import Work, work_of

QUESTIONS = ("children", "search", "identify", "has_forked", "adopt", "reap", "marker")
FEW, MANY = 10, 2000
OURS = [f"/reconciler/{room}/" for room in ("keeper", "output", "sockets", "spawn", "system")]
"""The fake kernel layer uses values of the model, and the other end of the link decodes: that is not its work."""


class Kernel(FakeKernel):
    """The fake one, which finds each process once, as the real one does."""

    def search(self, sessions: Container[int]) -> Mapping[int, Identity]:
        found = super().search(sessions)
        told: set[int] = vars(self).setdefault("told", set())
        new = {pid: each for pid, each in found.items() if pid not in told}
        told.update(found)
        return new


def held(count: int, *, adopted: bool, what: str = "sleeps") -> tuple[Fake, list[ProcessId]]:
    """Return a keeper that holds so many processes, has signalled all of them, and rests."""
    world = Fake(make=partial(Kernel, pids=3 * count + 20))
    ids = [ProcessId("web", slot) for slot in range(1, count + 1)]
    world.send(*(Spawn(id, Launch(PROGRAMS[what].argv)) for id in ids))
    world.wait(lambda: ids[-1] in world.records)
    if adopted:
        world.lose_keeper()
        world.next_keeper()
    world.send(*(Signal(id, world.records[id].incarnation, "CONT", "tree") for id in ids))
    rests_ns = world.kernel.now + 100_000_000_000
    world.wait(lambda: world.kernel.now >= rests_ns or not world.step())
    return world, ids


def end(world: Fake, id: ProcessId) -> None:
    world.kernel.end(pid_of(world.records[id].phase) or 0, Exit(code=1))
    world.wait(lambda: isinstance(world.records[id].phase, Exited))


def asked(world: Fake, ids: list[ProcessId]) -> Counter[str]:
    """Return what the kernel layer is asked when these die at once."""
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
    for id in ids:
        world.kernel.end(pid_of(world.records[id].phase) or 0, Exit(code=1))
    for id in ids:
        world.wait(lambda id=id: isinstance(world.records[id].phase, Exited))  # type: ignore[misc]
    return asked


@pytest.mark.parametrize("adopted", [False, True], ids=["own", "adopted"])
@pytest.mark.parametrize("what", ["sleeps", "has an escaped child"])
def test_a_death_costs_the_same_among_few_and_among_many(what: str, adopted: bool) -> None:
    counts, works = [], []
    for count in (FEW, MANY):
        world, ids = held(count, adopted=adopted, what=what)
        end(world, ids[0])  # the first look of all is another one
        orphans = world.keeper.processes.orphans
        orphans._below = Work.counted(orphans._below)
        works.append(work_of(partial(end, world, ids[1]), *OURS))
        counts.append(asked(world, ids[2:3]))
    assert counts[0] == counts[1]
    assert (counts[1]["children"], counts[1]["search"]) == (1, int(adopted))
    assert works[1] <= works[0] * 1.05


def test_all_deaths_of_a_step_are_looked_into_at_once() -> None:
    world, ids = held(300, adopted=True)
    counts = asked(world, ids)
    assert (counts["search"], counts["identify"]) == (1, 0)
    assert counts["children"] <= 2  # one may be the look after a start


def test_who_is_new_below_an_heir_is_found_by_work_that_does_not_grow_with_its_children() -> None:
    works = []
    for count in (FEW, MANY):
        before = list(range(count))
        now = [pid for pid in before if pid not in {3, count - 2}] + [3]
        assert _appended(before, now) == [3], "its number was given anew"
        works.append(work_of(partial(_appended, before, now), *OURS))
    assert works[1] <= works[0] * math.log(MANY, FEW)
