"""The table of docs/daily-use.md: every case has its tests, and these are there."""

from __future__ import annotations

import re
from functools import cache

from reconciler.spawn.environment import OF_THE_OPERATOR
from tests.shape.source import ROOT

ROW = re.compile(r"^\| (\d+\.\d+) \| (.+) \| (.+) \|$", re.MULTILINE)


@cache
def rows() -> dict[str, str]:
    """Return what stands in the column of tests, by case."""
    text = (ROOT / "docs/daily-use.md").read_text()
    return {case: tests for case, _, tests in ROW.findall(text)}


@cache
def known_tests() -> set[str]:
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
        assert named, f"{case} names no test"
        assert not (missing := set(named) - known_tests()), (
            f"{case} names tests that do not exist: {missing}"
        )


def test_the_guide_lists_every_variable_that_processes_and_commands_get() -> None:
    code = [*ROOT.glob("reconciler/core/*.py"), *ROOT.glob("reconciler/spawn/*.py")]
    given = {
        name for path in code for name in re.findall(r"\bRECONCILE_[A-Z_]+\b", path.read_text())
    }
    page = (ROOT / "docs/guide/hooks.md").read_text()
    table = page[page.index("| command | variables |") :]
    listed = set(re.findall(r"\bRECONCILE_[A-Z]+(?:_[A-Z]+)*\b", table))
    assert given - {"RECONCILE_HOOK_", *OF_THE_OPERATOR} == listed - {"RECONCILE_HOOK_"}
