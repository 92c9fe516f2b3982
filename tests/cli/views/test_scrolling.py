"""Claims about `status --watch` on a small screen."""

from __future__ import annotations

import pytest

from reconciler.cli.views.layout import width_of
from reconciler.cli.views.scrolling import page, scrolled
from reconciler.cli.views.status import View
from reconciler.model.status import Status
from reconciler.model.value import from_plain
from tests.cli.answers import HTTP, MAILER, RUNNING_WEB, status

LONG = {**MAILER, "note": "exit 78: " + "no route to host " * 20}
MANY = from_plain(
    Status,
    status(*({**RUNNING_WEB, "name": f"web{i:02}"} for i in range(60)), LONG, sockets=[HTTP]),
)


def lines(offset: int = 0, **view: bool) -> tuple[list[str], int]:
    return page(MANY, View(**view), 80, 23, offset, colour=False)


def test_on_a_small_screen_the_summary_and_what_is_wrong_come_first_each_in_one_row() -> None:
    shown, _ = lines()
    assert shown[0].endswith("61 watchers, 120 processes · 1 problem")
    assert shown[1].startswith("WATCHER ")
    assert shown[2].startswith("mailer ")
    assert [line.split()[0] for line in shown[3:6]] == ["web00", "web01", "web02"]
    assert len(shown) == 23
    assert max(map(width_of, shown)) <= 80


@pytest.mark.parametrize("view", [View(), View(slots=True, usage=True)])
def test_keys_reach_every_row_and_not_what_is_beyond(view: View) -> None:
    seen: set[str] = set()
    offset = 0
    for _ in range(20):
        shown, offset = page(MANY, view, 80, 23, offset, colour=False)
        seen |= {line.split()[0] for line in shown if line}
        offset = scrolled(offset, " ", 23)
    assert {"mailer", "http", *(f"web{i:02}" for i in range(60))} <= seen
    _, end = page(MANY, view, 80, 23, scrolled(0, "G", 23), colour=False)
    assert page(MANY, view, 80, 23, scrolled(end, "j\x1b[B", 23), colour=False)[1] == end
    assert scrolled(end, "g", 23) == 0
    assert scrolled(5, "k\x1b[A", 23) == 3


def test_only_what_is_not_as_desired_where_that_is_asked_for() -> None:
    shown, _ = lines(failed=True)
    assert [line.split()[0] for line in shown[1:3]] == ["WATCHER", "mailer"]
    assert not any(line.startswith("web") for line in shown)
    assert "1 problem" in shown[0]
