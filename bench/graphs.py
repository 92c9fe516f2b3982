"""A graph of dependencies: how much longer than its longest path it takes until all are up."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from bench.lives import running
from bench.managers import Reconcile

if TYPE_CHECKING:
    from bench.lives import Effort, Place
    from bench.samples import Samples

MOST_MS: Final = 100
"""No watcher takes longer to be ready."""
MOST_NAMED: Final = 3
NEAR: Final = 40
"""Watchers depend on some of so many before them."""


class Graph:
    """Watchers, each with those before it that it waits for, and how long it takes to be ready; the same each time."""

    def __init__(self, count: int) -> None:
        chance = random.Random(count)
        self.delays_ms = [chance.randint(0, MOST_MS) for _ in range(count)]
        self.waits_for = [_chosen(chance, index) for index in range(count)]

    def longest_path_ms(self) -> int:
        """Return how long after the first ones the last one is started, if nothing else took any time."""
        started: list[int] = []
        for before in self.waits_for:
            started.append(
                max((started[each] + self.delays_ms[each] for each in before), default=0)
            )
        return max(started)


def _chosen(chance: random.Random, index: int) -> list[int]:
    near = range(max(index - NEAR, 0), index)
    return chance.sample(near, min(chance.randint(0, MOST_NAMED), len(near)))


class ReconcileGraph(Reconcile):
    """This checkout, each watcher with its dependencies."""

    name = "reconcile, graph"

    def _watcher(self, index: int, command: tuple[str, ...]) -> str:
        graph = Graph(len(self.crew.commands))
        before = ", ".join(f"worker{each}" for each in graph.waits_for[index])
        text = super()._watcher(index, command)
        return (
            f"{text}    ready: {{delay: {graph.delays_ms[index]}ms}}\n    depends_on: [{before}]\n"
        )


def measure_graph(place: Place, effort: Effort, samples: Samples) -> None:
    """Start as many watchers without dependencies, then with them."""
    count = effort.graph
    path_ms = Graph(count).longest_path_ms()
    for _ in range(effort.repetitions):
        for kind, what in ((Reconcile, "graph_ms without"), (ReconcileGraph, "graph_ms")):
            with running(kind, place, count, settle_s=0) as life:
                up_ns = max(birth.at_ns for birth in life.living.values())
                samples.add(what, Reconcile.name, (up_ns - life.manager.started_ns) / 1e6)
        samples.add("graph_ms path", Reconcile.name, path_ms)
