"""What watchers wait for: that it exists, that it can come about, and that no watcher waits for itself."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from reconciler.model.spec import DependencyCondition, DependencySpec, WatcherSpec
from reconciler.model.value import Struct, replace
from reconciler.specfile.hints import did_you_mean
from reconciler.specfile.merge import place_of
from reconciler.specfile.mistakes import Mistakes, quoted
from reconciler.specfile.yaml_text import List, Map, Node, Scalar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_OF_ENDS: Final = frozenset(("succeeded", "completed"))


class Written(Struct, frozen=True):
    """A watcher with the nodes in which its `depends_on` may stand: its own, then that of `defaults`."""

    spec: WatcherSpec
    where: str
    nodes: tuple[Node, ...]

    def place(self, name: str) -> Node:
        """Return where a dependency is named."""
        for node in self.nodes:
            if isinstance(node, Map) and name in node.entries:
                return node.entries[name].key
            for item in node.items if isinstance(node, List) else ():
                if isinstance(item, Scalar) and item.text == name:
                    return item
        return self.nodes[0]


def check(
    written: Mapping[str, Written], names: Mapping[str, object], mistakes: Mistakes
) -> dict[str, WatcherSpec]:
    """Return the watchers with all conditions filled in; report what cannot be waited for.

    `names` are all watchers of the spec, also those that have mistakes.
    """
    found = {}
    for name, each in written.items():
        known = {}
        for other, dependency in each.spec.dependencies.items():
            where = f"{each.where}.depends_on.{other}"
            if other not in names:
                message = f"there is no watcher {quoted(other)}"
                hint = did_you_mean(other, names, what="watchers")
                mistakes.at(each.place(other), where, message, hint)
            elif other in written:
                known[other] = _with_condition(
                    dependency, other, written[other].spec, each, where, mistakes
                )
        found[name] = replace(each.spec, depends_on=known) if each.spec.depends_on else each.spec
    _check_circles(written, mistakes)
    return found


def _with_condition(
    dependency: DependencySpec,
    name: str,
    spec: WatcherSpec,
    by: Written,
    where: str,
    mistakes: Mistakes,
) -> DependencySpec:
    """Return a dependency whose condition is known, and can come about."""
    default: DependencyCondition = "succeeded" if spec.is_job else "ready"
    condition = dependency.condition or default
    if condition in _OF_ENDS and spec.restart == "always":
        message = f"'{name}' is a service and never {condition}: it is started again when it ends"
        mistakes.at(by.place(name), where, message, "write: ready, or started")
    if condition == "ready" and spec.is_job:
        message = f"'{name}' is a one-shot job, which is never ready: it ends"
        mistakes.at(by.place(name), where, message, "write: succeeded, completed or started")
    if dependency.on_restart == "restart" and spec.is_job:
        message = f"'{name}' is a one-shot job: it is not restarted"
        mistakes.at(by.place(name), where, message, "leave on_restart out")
    return replace(dependency, condition=condition)


def _check_circles(written: Mapping[str, Written], mistakes: Mistakes) -> None:
    """Report each circle once, with its path and the place of each step."""
    done: set[str] = set()
    for start in written:
        for circle in _circles_from(start, written, done):
            steps = [*circle, circle[0]]
            path = " -> ".join(steps)
            edges = list(pairwise(steps))
            places = [place_of(written[one].place(other)) for one, other in edges]
            message = f"the dependencies make a circle: {path}"
            says = "; ".join(
                f"{one} names {other} at {place}"
                for (one, other), place in zip(edges, places, strict=True)
            )
            hint = says if len(edges) > 1 else "a watcher cannot wait for itself: remove it"
            first, second = edges[0]
            where = f"{written[first].where}.depends_on.{second}"
            mistakes.at(written[first].place(second), where, message, hint)


def _circles_from(
    start: str, written: Mapping[str, Written], done: set[str]
) -> Iterator[list[str]]:
    """Yield the circles that a walk from `start` closes; without recursion, since a chain may be long."""
    path: dict[str, None] = {}
    todo: list[tuple[str, bool]] = [(start, False)]
    while todo:
        name, is_left = todo.pop()
        if is_left:
            done.add(path.popitem()[0])
        elif name in path:
            names = list(path)
            yield names[names.index(name) :]
        elif name not in done and name in written:
            path[name] = None
            todo.append((name, True))
            todo += [(other, False) for other in written[name].spec.dependencies]
