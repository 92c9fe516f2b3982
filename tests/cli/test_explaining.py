from __future__ import annotations

import pytest

from reconciler.cli.errors import Refused
from reconciler.cli.explaining import explain
from reconciler.cli.layout import paint


@pytest.mark.parametrize(
    "wanted", ["watchers.web.stop.timeout", "watchers.stop.timeout", "stop.timeout"]
)
def test_a_field_is_found_by_its_path_or_the_end_of_it(wanted: str) -> None:
    assert paint(explain(wanted)) == [
        "watchers.NAME.stop.timeout",
        "  duration; default 10s",
        "  Grace period; then KILL.",
        "  an edit: applied in place (live)",
    ]


def test_a_block_lists_its_fields() -> None:
    lines = paint(explain("watchers.NAME.max_restarts"))

    assert lines[1] == "  block; default null"
    assert [line.split()[0] for line in lines[6:]] == ["count", "window", "then", "retry_in"]


def test_a_name_that_stands_in_several_places_is_explained_in_each() -> None:
    lines = paint(explain("umask"))

    assert "daemon.umask" in lines
    assert "watchers.NAME.umask" in lines


def test_an_unknown_field_is_answered_with_near_ones() -> None:
    with pytest.raises(Refused) as caught:
        explain("watchers.web.numprocs")
    assert caught.value.hint == "did you mean numprocesses or nproc?"


def test_without_a_field_the_top_level_is_listed() -> None:
    assert [line.split()[0] for line in paint(explain(""))[1:4]] == ["version", "daemon", "apply"]
