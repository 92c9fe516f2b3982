"""What other managers have and this one has not stands in the guide, with what to use instead."""

from __future__ import annotations

import re

from tests.shape.source import ROOT

PAGE = (ROOT / "docs/guide/operating.md").read_text()
ROW = re.compile(r"^\| (.+) \| (.+) \|$", re.MULTILINE)
WANTED = (
    "`singleton: true`",
    "`extended_stats`",
    "without stopping it",
    "only some services",
    "everything held",
)


def test_what_is_not_offered_is_told_with_what_to_use_instead() -> None:
    table = dict(ROW.findall(PAGE.partition("## Coming from another manager")[2]))
    for each in WANTED:
        assert any(each in there for there in table), each
    reference = (ROOT / "docs/reference.md").read_text()
    for here in table.values():
        for field in re.findall(r"`([a-z_]+(?:\.[a-z_]+)*)[`:]", here):
            assert f"`{field.rpartition('.')[2]}`" in reference or field == "view", field
