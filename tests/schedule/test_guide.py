"""The dates in the guide are those on which schedules fire."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from itertools import takewhile
from pathlib import Path

import pytest

from reconciler.model.spec import ScheduleSpec
from reconciler.model.units import SECOND_NS
from reconciler.schedule.instants import after, shown, zone

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "schedules.md"
ROW = re.compile(
    r"^\| `([^`@]+)` \| (\w+/\w+) \| (\d{4}-\d\d-\d\d)[^|]* \| ([^|]+) \|$", re.MULTILINE
)
ROWS = [match.groups() for match in ROW.finditer(PAGE.read_text())]


@pytest.mark.parametrize(("line", "name", "day", "expected"), ROWS)
def test_a_line_fires_on_a_day_when_the_guide_says_so(
    line: str, name: str, day: str, expected: str
) -> None:
    schedule = ScheduleSpec(cron=line, timezone=name)
    begin = datetime.fromisoformat(day).replace(tzinfo=zone(name))
    end_ns = int((begin + timedelta(days=1)).timestamp()) * SECOND_NS
    begin_ns = int(begin.timestamp()) * SECOND_NS
    found = takewhile(lambda at_ns: at_ns < end_ns, after(schedule, begin_ns - 1))
    times = [shown(schedule, at_ns) for at_ns in found]
    said = [] if expected == "not at all" else [f"{day} {each}" for each in expected.split(", ")]
    assert times == said


def test_the_guide_has_its_dates() -> None:
    assert len(ROWS) == 11
