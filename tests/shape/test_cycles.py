"""No module is part of what it uses: all imports, lazy ones and those for types counted, run in no circle.

Those that do are named here, each by the one import that closes it and with the reason why it is there. A list of
closing imports and not of circles: so a further one in the midst of a circle that is known fails, too.
"""

from __future__ import annotations

import ast
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


CLOSING = {
    Import(f"controller.{part}", "controller.loop", "for types"): (
        "is made by `Controller` and acts on it: to be had by a narrow port"
    )
    for part in (
        "access",
        "applying",
        "compress",
        "event_log",
        "exchange",
        "files",
        "last_words",
        "methods",
        "notifying",
        "port_holders",
        "readings",
        "refusals",
        "revising",
        "revisions",
        "secrets",
        "selection",
        "server",
        "status",
        "streams",
        "upgrading",
        "waiting",
    )
} | {
    Import(f"controller.{part}", "controller.server", "for types"): (
        "is held by the server that it answers or writes through: to be had by a narrow port"
    )
    for part in ("exchange", "streams", "waiting")
}
"""Every import without which a circle would be open, and why it is there."""


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


def _all_imports() -> set[Import]:
    """Return who imports whom; a folder's own words are no module that could be in a circle with its files."""
    folders = {_short(name) for name, module in modules().items() if module.is_package}
    found = (each for module in modules().values() for each in _imports_of(module))
    return {each for each in found if each.by != each.of and each.of not in folders}


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


def test_every_circle_of_imports_is_known_with_its_reason() -> None:
    found = _all_imports()
    assert not CLOSING.keys() - found, "no longer there: take it off the list"
    assert _circles(found - CLOSING.keys()) == []
    needless = [each for each in CLOSING if not _circles(found - (CLOSING.keys() - {each}))]
    assert not needless, "closes no circle: take it off the list"


PLANTED = {
    "at run time": "from reconciler.controller import loop",
    "for types": "if TYPE_CHECKING:\n    from reconciler.controller.loop import Controller",
    "lazily": "def late():\n    import reconciler.controller.loop",
}


@pytest.mark.parametrize("how", PLANTED)
def test_a_planted_circle_is_found(how: How) -> None:
    clock = modules()["reconciler.controller.clock"]
    planted = {*_imports_of(type(clock)(clock.name, clock.path, ast.parse(PLANTED[how])))}
    assert Import("controller.clock", "controller.loop", how) in planted
    known = _all_imports() - CLOSING.keys()
    assert _circles(known | planted)
    # Also in the midst of a circle that is known.
    assert _circles(known | {Import("controller.methods", "controller.server", how)})
    assert not _circles(known | {Import("controller.loop", "controller.clock", how)})
