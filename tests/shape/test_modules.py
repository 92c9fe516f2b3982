"""Every file is wanted, is described by its room, and is short enough to be read."""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from typing import TYPE_CHECKING

import pytest

from tests.shape.source import PACKAGE, ROOT, Module, imports, modules, project, strings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_FUNCTION_LINES = 70
KEEPER_LINES = 2864
"""Of code, all files of the room but those of its start: a comment that explains a line does not make it longer.

Of these 240 came with what processes say of themselves and whom they name to go on: whose word counts, and whom a
record may follow, only the keeper's own tables tell. What could be said without them lies in the library `notify`.
Ten are for what the kernel takes of the limits of control groups, which is on the record.
"""

ROOMS = [
    ".".join(path.parent.relative_to(ROOT).parts)
    for path in sorted(PACKAGE.rglob("__init__.py"))
    if path.parent != PACKAGE
]


def test_no_function_is_longer_than_a_screen() -> None:
    too_long = [
        f"{module.path.relative_to(ROOT)}:{node.lineno} {node.name}: {lines} lines"
        for module in modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert too_long == []


def test_the_keeper_does_not_grow() -> None:
    files = {*(PACKAGE / "keeper").rglob("*.py")}
    # What runs before there is anything to keep is read apart.
    files -= {PACKAGE / "keeper/__main__.py", *(PACKAGE / "keeper/startup").glob("*.py")}
    lines = {path: len(code_lines(path)) for path in files}
    assert sum(lines.values()) <= KEEPER_LINES, lines


def code_lines(path: Path) -> set[int]:
    """Return the numbers of the lines that hold code: neither blank, nor comment, nor docstring."""
    text = path.read_text()
    tree = ast.parse(text)
    prose = {
        number
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    empty = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    code = {
        number
        for token in tokens
        if token.type not in empty | {tokenize.ENDMARKER}
        for number in range(token.start[0], token.end[0] + 1)
    }
    return code - prose


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_says_its_duty_and_lists_its_files(name: str) -> None:
    room = modules()[name]
    docstring = ast.get_docstring(room.tree) or ""
    listed = set(re.findall(r"^\| `(\w+)` \|", docstring, re.MULTILINE))
    files = {path.stem for path in room.path.parent.glob("*.py")} - {"__init__"}
    assert docstring.strip() != ""
    assert (files - listed, listed - files) == (set(), set())


def test_every_module_is_reached_from_a_program() -> None:
    reached: set[str] = set()
    todo = {
        "reconciler",
        *(entry.partition(":")[0] for entry in project()["project"]["scripts"].values()),
    }
    while todo:
        name = todo.pop()
        reached.add(name)
        todo |= set(_uses(modules()[name])) - reached
    assert sorted(set(modules()) - reached) == []


def test_every_dependency_is_declared_and_used() -> None:
    # Only these are imported by another name than they are installed by.
    import_names = {"pyyaml": "yaml"}
    requirements = project()["project"]["dependencies"]
    distributions = [re.split(r"[^\w-]", requirement)[0] for requirement in requirements]
    declared = {import_names.get(name, name) for name in distributions}
    imported = {name.partition(".")[0] for module in modules().values() for name in imports(module)}
    # `_sha2` is there since Python 3.12.
    assert imported - sys.stdlib_module_names - {"reconciler", "_sha2"} == declared


def _uses(module: Module) -> Iterator[str]:
    """Yield the modules that a module needs, whichever way it names them."""
    for name in _named(module):
        if name in modules():
            yield name
            yield from _parents(name)


def _named(module: Module) -> Iterator[str]:
    yield from imports(module)
    texts = set(strings(module))
    packages = [text[:-1] for text in texts if text.endswith(".") and text[:-1] in modules()]
    by_file = {other.path.name: other.name for other in modules().values()}
    for text in texts:
        # Run with `python -m`.
        yield from (text, f"{text}.__main__")
        # Run by its path, in somebody else's environment: a room, and files beside its program.
        yield f"reconciler.{text}.__main__"
        if text.endswith(".py") and text in by_file:
            yield by_file[text]
        # A table of commands, each in a file of the package that an f-string begins with.
        yield from (f"{package}.{text}" for package in packages)


def _parents(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name
