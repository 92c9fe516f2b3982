"""docs/protocol.md says of every method what the table says: role, parameters, and what is answered."""

from __future__ import annotations

import re

import pytest
from msgspec import NODEFAULT
from msgspec.structs import fields

from reconciler.wire.methods import METHODS, Method
from tests.shape.source import ROOT

PAGE = (ROOT / "docs" / "protocol.md").read_text()
ROWS = {
    name: (taken, answered)
    for name, taken, answered in re.findall(
        r"^\| `([\w.]+)` \| (.*?) ?\| (.+) \|$", PAGE, re.MULTILINE
    )
    if name in METHODS
}
SELECTION = {"names", "labels"}
TOLD_ONCE = {"request_id", "reason"}
"""All methods take one, all requests the other."""
IN_PROSE = {"stream.cancel"}


def words(taken: str) -> set[str]:
    """Return the parameters that a cell names, with `?` behind those that may be left out."""
    named = set(re.findall(r"`(\w+\??)[:`]", taken))
    return named | ({f"{name}?" for name in SELECTION} if "selection" in taken else set())


def test_every_method_has_its_row() -> None:
    assert METHODS.keys() - ROWS.keys() == IN_PROSE
    assert all(f"`{name}" in PAGE for name in IN_PROSE)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_names_the_parameters(name: str) -> None:
    found = {
        field.encode_name
        + ("?" if (field.default, field.default_factory) != (NODEFAULT, NODEFAULT) else "")
        for field in fields(METHODS[name].parameters)
    }
    assert words(ROWS[name][0]) == found - {f"{each}?" for each in TOLD_ONCE}


@pytest.mark.parametrize(
    "name", [n for n in ROWS if METHODS[n].result and ROWS[n][1].startswith("`")]
)
def test_a_row_names_what_is_answered(name: str) -> None:
    method: Method = METHODS[name]
    assert method.result is not None
    told = set(re.findall(r"\w+", ROWS[name][1].partition("}`")[0]))
    assert {field.encode_name for field in fields(method.result)} <= told | ONLY_OF_SOME.get(
        method.result.__name__, set()
    )


ONLY_OF_SOME: dict[str, set[str]] = {
    "Hello": {"name", "source", "state_dir"},
    "Plan": {"restores", "applied"},
    "Progress": {"revision", "failed", "outcome", "reason"},
    "LogEntry": {"error", "path", "more", "cut", "undated"},
}
"""What is answered by one of several methods that share a type, or told below the table."""


@pytest.mark.parametrize("name", [name for name, each in METHODS.items() if each.follows])
def test_a_row_names_the_notifications(name: str) -> None:
    assert f"`{METHODS[name].follows}` `{{stream, " in ROWS[name][1]


def test_the_table_of_roles_names_every_method() -> None:
    rows = re.findall(r"^\| `(view|operate|admin)` \| (.*) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 3
    for role, cell in rows:
        told = set(re.findall(r"`([a-z.]+)`", cell.partition(", and `plan`")[0]))
        assert told == {name for name, method in METHODS.items() if method.role == role}
