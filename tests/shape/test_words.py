"""What users read is said in the words of the field: full names of signals, and none of our own coinages."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

from tests.shape.source import ROOT, Module, modules

if TYPE_CHECKING:
    from collections.abc import Iterator

NOT_FOR_USERS = re.compile(
    r"\bas wanted\b|\bkilled by (?!SIG|\{|the |a )[A-Z]|\bKILL (was|in|to)\b|\banew\b|\bshall\b|\bwithout a word\b"
)
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md"))]


def _messages(module: Module) -> Iterator[str]:
    """Yield the strings of a module that are no docstrings: what it may say to people."""
    bare = {id(node.value) for node in ast.walk(module.tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare:
            yield node.value


@pytest.mark.parametrize(
    ("sentence", "is_found"),
    [
        ("2 of 3 as wanted", True),
        ("killed by TERM after 2s", True),
        ("KILL in 8s", True),
        ("killed by SIGTERM after 2s", False),
        ("reconcile signal KILL web", False),
    ],
)
def test_the_words_that_are_looked_for_are_found(sentence: str, is_found: bool) -> None:
    assert bool(NOT_FOR_USERS.search(sentence)) == is_found


def test_messages_and_pages_use_the_words_of_the_field() -> None:
    said = [(each.name, text) for each in modules().values() for text in _messages(each)]
    said += [(page.name, line) for page in PAGES for line in page.read_text().splitlines()]
    assert [(where, text) for where, text in said if NOT_FOR_USERS.search(text)] == []
