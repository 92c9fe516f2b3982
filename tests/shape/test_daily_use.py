"""The table of docs/daily-use.md: every test that it names is there."""

from __future__ import annotations

import re
from functools import cache

from tests.shape.source import ROOT

ROW = re.compile(r"^\| (\d+\.\d+) \| (.+) \| (.+) \|$", re.MULTILINE)
NONE_YET = "none yet"


@cache
def rows() -> dict[str, str]:
    """Return what stands in the column of tests, by case."""
    text = (ROOT / "docs/daily-use.md").read_text()
    return {case: tests for case, _, tests in ROW.findall(text)}


@cache
def tests() -> set[str]:
    """Return the names of all tests."""
    return {
        name
        for path in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r"^ *def (test_\w+)", path.read_text(), re.MULTILINE)
    }


def test_every_case_names_its_tests_and_these_exist() -> None:
    assert len(rows()) > 100
    for case, column in rows().items():
        named = re.findall(r"`(test_\w+)`", column)
        assert named or column == NONE_YET, f"{case} names no test"
        assert not (missing := set(named) - tests()), (
            f"{case} names tests that do not exist: {missing}"
        )
