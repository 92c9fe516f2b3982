"""docs/limits.md says what the constants say, and leaves none of the files' that it speaks of out."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

from tests.shape.source import ROOT, modules

if TYPE_CHECKING:
    from collections.abc import Iterator

ROW = re.compile(r"^\| .+ \| (\d+)(?: (KiB|MiB|s))? \| `([\w.]+)\.(\w+)` \|$", re.MULTILINE)
PAGE = (ROOT / "docs" / "limits.md").read_text()
ROWS = [match.groups() for match in ROW.finditer(PAGE)]
UNIT = {None: 1, "KiB": 2**10, "MiB": 2**20, "s": 1}
BOUNDS = re.compile(
    r"^[A-Z]*(MAX|LIMIT|DEADLINE)[A-Z_]*$|^MAX_|_LIMIT_|_DEADLINE_|^REMEMBERED_|^RESERVED_"
)
NOT_FOR_PEOPLE = {
    # Bounds of the language itself, told with its fields.
    "MAX_DURATION_NS", "MAX_SIZE_BYTES", "MAX_ID", "MAX_UNIX_PATH_BYTES",
    # How much is shown of something long.
    "MAX_SHOWN", "MAX_TOLD", "MAX_REASONS", "MAX_WAITING_SHOWN", "MAX_WARNINGS_TOLD", "MAX_NAMED", "MAX_SLOTS_NAMED",
    # The reader's own limit, which the controller knows, too.
    "MAX_BYTES",
    # Rules of the core's own work.
    "MAX_ROUNDS",
    # Bounds of patience, which are options or belong to a procedure.
    "MAX_TIMEOUT_NS", "DRAIN_LIMIT_NS",
    # How much of a log is read backwards at a time.
    "MAX_TAIL_BYTES",
}  # fmt: skip


def constants() -> Iterator[tuple[str, str]]:
    for name, module in modules().items():
        for node in module.tree.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                yield name, node.target.id


@pytest.mark.parametrize(("number", "unit", "module", "name"), ROWS)
def test_a_limit_is_what_the_page_says(
    number: str, unit: str | None, module: str, name: str
) -> None:
    value = getattr(import_module(f"reconciler.{module}"), name)
    if name.endswith("_NS"):
        value /= 10**9
    assert value == int(number) * UNIT[unit]


def test_the_page_has_every_limit_of_the_files_it_speaks_of() -> None:
    said = {f"reconciler.{module}.{name}" for _, _, module, name in ROWS}
    told_of = {f"reconciler.{module}" for _, _, module, _ in ROWS}
    found = {
        f"{module}.{name}"
        for module, name in constants()
        if module in told_of and BOUNDS.search(name) and name not in NOT_FOR_PEOPLE
    }
    assert found - said == set()
    assert len(ROWS) == len(said) == PAGE.count("| `")
