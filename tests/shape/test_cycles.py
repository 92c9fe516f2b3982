"""No module is part of what it uses: all imports, lazy ones and those for types counted, run in no circle."""

from __future__ import annotations

import ast
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple

import pytest

from tests.shape.source import imports, modules

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.shape.source import Module

How = Literal["for types", "lazily", "at run time"]


class Import(NamedTuple):
    """One module imports another; both without `reconciler.`."""

    by: str
    of: str
    how: How


def _imports_of(module: Module) -> Iterator[Import]:
    seen: dict[How, set[str]] = {}
    for how, tree in _parts(module.tree, "at run time"):
        part = ast.Module([], [])
        part.body = [tree]
        seen.setdefault(how, set()).update(imports(type(module)(module.name, module.path, part)))
    for how, names in seen.items():
        for name in names & modules().keys():
            # `from a import b` names both: it means the module b, where that is one.
            yield Import(_short(module.name), _short(name), how)


def _parts(tree: ast.AST, how: How) -> Iterator[tuple[How, ast.stmt]]:
    """Yield each import with when it happens."""
    for child in ast.iter_child_nodes(tree):
        inner = how
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = "lazily"
        if isinstance(tree, ast.If) and "TYPE_CHECKING" in ast.dump(tree.test):
            inner = "for types"
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield inner, child
        else:
            yield from _parts(child, inner)


def _short(name: str) -> str:
    return name.removeprefix("reconciler.")


@cache
def _all_imports() -> frozenset[Import]:
    """Return who imports whom; a folder's own words are no module that could be in a circle with its files."""
    folders = {_short(name) for name, module in modules().items() if module.is_package}
    found = (each for module in modules().values() for each in _imports_of(module))
    return frozenset(each for each in found if each.by != each.of and each.of not in folders)


def _circles(found: Iterable[Import]) -> list[list[str]]:
    """Return the groups of modules each of which is used by all others (Tarjan)."""
    uses: dict[str, list[str]] = {}
    for each in sorted(found):
        uses.setdefault(each.by, []).append(each.of)
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    circles = []

    def visit(name: str) -> None:
        number[name] = low[name] = len(number)
        stack.append(name)
        for other in uses.get(name, ()):
            if other not in number:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], number[other])
        if low[name] == number[name]:
            group = [stack.pop()]
            while group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                circles.append(sorted(group))

    for name in list(uses):
        if name not in number:
            visit(name)
    return circles


def test_no_imports_run_in_a_circle() -> None:
    assert _circles(_all_imports()) == []


PLANTED = {
    "at run time": "from reconciler.controller import controller",
    "for types": "if TYPE_CHECKING:\n    from reconciler.controller.controller import Controller",
    "lazily": "def late():\n    import reconciler.controller.controller",
}


@pytest.mark.parametrize("how", PLANTED)
def test_a_planted_circle_is_found(how: How) -> None:
    clock = modules()["reconciler.controller.runtime.clock"]
    planted = {*_imports_of(type(clock)(clock.name, clock.path, ast.parse(PLANTED[how])))}
    up = Import("controller.runtime.clock", "controller.controller", how)
    down = Import("controller.controller", "controller.runtime.clock", how)
    assert up in planted
    assert _circles(_all_imports() | planted)
    # Also between two that lie near each other.
    near = Import("controller.runtime.reactor", "controller.runtime.lanes", how)
    assert _circles(_all_imports() | {near})
    assert not _circles(_all_imports() | {down})
