"""Who waits for whom, by the spec: the order in which watchers start, and the reverse, in which they stop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.model.spec import DependencyCondition, WatcherSpec
from reconciler.model.value import Struct, field


class Graph(Struct, frozen=True):
    """What the dependencies of all watchers come to; nobody waits for itself (`specfile.dependencies`)."""

    dependents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By watcher those that wait for it, whatever for."""
    asked: Mapping[str, frozenset[DependencyCondition]] = field(default_factory=dict)
    """By watcher what these wait for."""
    followers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By watcher those that are replaced after a process of it was (`on_restart`)."""
    depths: Mapping[str, int] = field(default_factory=dict)
    """By watcher how many others come before it, one after the other; 0 is left out."""
    raised: Mapping[str, int] = field(default_factory=dict)
    """The priority of a watcher at a stop where a dependent has a higher one: it stops no earlier."""

    def all_dependents(self, names: Iterable[str]) -> set[str]:
        """Return all that wait for some watchers, directly or by way of others; not these themselves."""
        named = set(names)
        found, todo = set[str](), [*named]
        while todo:
            for each in self.dependents.get(todo.pop(), ()):
                if each not in found:
                    found.add(each)
                    todo.append(each)
        return found - named

    def depth(self, name: str) -> int:
        """Return how many others come before a watcher, one after the other."""
        return self.depths.get(name, 0)

    def stop_priority(self, name: str, spec: WatcherSpec) -> int:
        """Return the priority that counts when a watcher stops: at least that of all that wait for it."""
        return self.raised.get(name, spec.priority)


def graph_of(watchers: Mapping[str, WatcherSpec]) -> Graph:
    """Return the graph of some watchers; a name that is none of them counts for nothing."""
    edges = {
        name: tuple(other for other in spec.dependencies if other in watchers)
        for name, spec in watchers.items()
        if spec.depends_on
    }
    if not edges:
        return Graph()
    dependents: dict[str, list[str]] = {}
    for name, others in edges.items():
        for other in others:
            dependents.setdefault(other, []).append(name)
    order = _dependencies_first(edges, dependents)
    depths: dict[str, int] = {}
    for name in order:
        depths[name] = max((1 + depths.get(other, 0) for other in edges.get(name, ())), default=0)
    raised: dict[str, int] = {}
    for name in reversed(order):
        own = watchers[name].priority
        highest = max(
            (raised.get(each, watchers[each].priority) for each in dependents.get(name, ())),
            default=own,
        )
        if highest > own:
            raised[name] = highest
    return Graph(
        {name: tuple(each) for name, each in dependents.items()},
        {name: _asked(name, each, watchers) for name, each in dependents.items()},
        {name: _followers(name, each, watchers) for name, each in dependents.items()},
        depths,
        raised,
    )


def _asked(
    name: str, dependents: Iterable[str], watchers: Mapping[str, WatcherSpec]
) -> frozenset[DependencyCondition]:
    asked = (watchers[each].dependencies[name].condition for each in dependents)
    return frozenset(condition for condition in asked if condition is not None)


def _followers(
    name: str, dependents: Iterable[str], watchers: Mapping[str, WatcherSpec]
) -> tuple[str, ...]:
    return tuple(
        each for each in dependents if watchers[each].dependencies[name].on_restart == "restart"
    )


def _dependencies_first(
    edges: Mapping[str, tuple[str, ...]], dependents: Mapping[str, list[str]]
) -> list[str]:
    """Return all that have an edge, each after those that it waits for."""
    left = {name: len(others) for name, others in edges.items()}
    order = [name for name in dependents if name not in left]
    for name in order:  # it grows as we go
        for each in dependents.get(name, ()):
            left[each] -= 1
            if not left[each]:
                order.append(each)
    return order
