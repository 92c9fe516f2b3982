"""The table of faults in docs/reliability.md: every row has its promise and its tests, and the tests are there."""

from __future__ import annotations

import re
from functools import cache

from tests.shape.source import ROOT

ROWS = {"D": 16, "P": 25, "C": 18, "S": 14, "K": 9, "L": 3}
ROW = re.compile(r"^\| ([A-Z]\d\d) \| (.+) \| (.+) \| (.+) \|$", re.MULTILINE)
NONE_YET = "none yet"


@cache
def table() -> dict[str, tuple[str, str]]:
    """Return promise and tests of each row."""
    text = (ROOT / "docs/reliability.md").read_text()
    return {row: (promise, tests) for row, _, promise, tests in ROW.findall(text)}


@cache
def named_by_row() -> dict[str, set[str]]:
    """Return the tests that are named by a row, by row."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "tests/e2e").glob("test_*.py"):
        for name, row in re.findall(r"^def (test_([a-z]\d\d)_\w+)", path.read_text(), re.MULTILINE):
            found.setdefault(row.upper(), set()).add(name)
    return found


def test_every_row_is_in_the_table() -> None:
    wanted = [f"{kind}{number:02}" for kind, last in ROWS.items() for number in range(1, last + 1)]
    assert sorted(table()) == sorted(wanted)
    assert all(promise.strip() for promise, _ in table().values())


def test_every_test_of_the_table_exists_and_no_other() -> None:
    """A row without a test says so, and may say so only as long as there is none."""
    for row, (_, named) in table().items():
        listed = set() if named == NONE_YET else set(re.findall(r"`(\w+)`", named))
        there = named_by_row().get(row, set())
        assert listed == there, (
            f"{row}: the table lists {sorted(listed)}, there are {sorted(there)}"
        )
