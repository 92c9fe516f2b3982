"""The instants of schedules: each as Debian's cron fires it, watched across the clock changes of many zones."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from itertools import islice, pairwise

import pytest

from reconciler.model.job import Instant
from reconciler.model.observation import FOUND, InstantsFound
from reconciler.model.spec import ScheduleSpec
from reconciler.model.units import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS
from reconciler.schedule.instants import (
    UnknownZone,
    after,
    checked,
    found,
    shortest_pause_ns,
    shown,
)
from reconciler.schedule.line import BadLine

# The line, its zone, from when (UTC, of 2027 unless it says otherwise), and when it fires: in UTC, and in brackets as
# the wall shows it there, with the offset from UTC in hours.
FIRES = """
30 2 * * * | Europe/Berlin | 03-26 12:00 | 03-27 01:30 (02:30+1), 03-28 01:00 (03:00+2), 03-29 00:30 (02:30+2)
30 2 * * * | Europe/Berlin | 10-29 12:00 | 10-30 00:30 (02:30+2), 10-31 00:30 (02:30+2), 11-01 01:30 (02:30+1)
30 2 * * * | Europe/Berlin | 10-31 01:10 | 11-01 01:30 (02:30+1)
30 2 * * * | Europe/Berlin | 03-28 01:00 | 03-29 00:30 (02:30+2)
0 2 * * * | Europe/Berlin | 03-27 12:00 | 03-28 01:00 (03:00+2), 03-29 00:00 (02:00+2)
0 3 * * * | Europe/Berlin | 03-27 12:00 | 03-28 01:00 (03:00+2), 03-29 01:00 (03:00+2)
0 3 * * * | Europe/Berlin | 10-30 12:00 | 10-31 02:00 (03:00+1), 11-01 02:00 (03:00+1)
30 1 * * * | Europe/Berlin | 10-30 12:00 | 10-30 23:30 (01:30+2), 11-01 00:30 (01:30+1)
0 * * * * | Europe/Berlin | 03-27 23:59 | 03-28 00:00 (01:00+1), 01:00 (03:00+2), 02:00 (04:00+2)
0 * * * * | Europe/Berlin | 10-30 22:59 | 10-30 23:00 (01:00+2), 10-31 00:00 (02:00+2), 01:00 (02:00+1), 02:00 (03:00+1), 03:00 (04:00+1)
*/30 * * * * | Europe/Berlin | 03-27 23:59 | 03-28 00:00 (01:00+1), 00:30 (01:30+1), 01:00 (03:00+2), 01:30 (03:30+2), 02:00 (04:00+2)
*/30 * * * * | Europe/Berlin | 10-30 23:59 | 10-31 00:00 (02:00+2), 00:30 (02:30+2), 01:00 (02:00+1), 01:30 (02:30+1), 02:00 (03:00+1)
30 * * * * | Europe/Berlin | 03-28 00:00 | 03-28 00:30 (01:30+1), 01:30 (03:30+2)
30 * * * * | Europe/Berlin | 10-30 23:00 | 10-30 23:30 (01:30+2), 10-31 00:30 (02:30+2), 01:30 (02:30+1), 02:30 (03:30+1)
30 */2 * * * | Europe/Berlin | 03-28 00:00 | 03-28 02:30 (04:30+2)
30 */2 * * * | Europe/Berlin | 10-31 00:00 | 10-31 00:30 (02:30+2), 01:30 (02:30+1), 03:30 (04:30+1)
30 2,14 * * * | Europe/Berlin | 03-28 00:00 | 03-28 01:00 (03:00+2), 12:30 (14:30+2)
30 2,14 * * * | Europe/Berlin | 10-31 00:00 | 10-31 00:30 (02:30+2), 13:30 (14:30+1)
0,30 2 * * * | Europe/Berlin | 03-28 00:00 | 03-28 01:00 (03:00+2), 03-29 00:00 (02:00+2), 00:30 (02:30+2)
0,30 2 * * * | Europe/Berlin | 10-30 23:59 | 10-31 00:00 (02:00+2), 00:30 (02:30+2), 11-01 01:00 (02:00+1)
*/15 2 * * * | Europe/Berlin | 03-27 23:00 | 03-29 00:00 (02:00+2)
*/15 2 * * * | Europe/Berlin | 10-30 23:00 | 10-31 00:00 (02:00+2), 00:15 (02:15+2), 00:30 (02:30+2), 00:45 (02:45+2), 01:00 (02:00+1), 01:15 (02:15+1), 01:30 (02:30+1), 01:45 (02:45+1), 11-01 01:00 (02:00+1)
30 0-23 * * * | Europe/Berlin | 03-28 00:00 | 03-28 00:30 (01:30+1), 01:00 (03:00+2), 01:30 (03:30+2)
30 0-23 * * * | Europe/Berlin | 10-30 23:00 | 10-30 23:30 (01:30+2), 10-31 00:30 (02:30+2), 02:30 (03:30+1)
0 2-4 * * * | Europe/Berlin | 03-28 00:00 | 03-28 01:00 (03:00+2), 02:00 (04:00+2), 03-29 00:00 (02:00+2)
0 2-4 * * * | Europe/Berlin | 10-30 23:00 | 10-31 00:00 (02:00+2), 02:00 (03:00+1), 03:00 (04:00+1)
30 2 28 3 * | Europe/Berlin | 03-26 12:00 | 03-28 01:00 (03:00+2)
30 2 * * 0 | Europe/Berlin | 03-26 12:00 | 03-28 01:00 (03:00+2), 04-04 00:30 (02:30+2)
30 2 * * * | America/New_York | 03-13 12:00 | 03-14 07:00 (03:00-4), 03-15 06:30 (02:30-4)
30 1 * * * | America/New_York | 11-06 12:00 | 11-07 05:30 (01:30-4), 11-08 06:30 (01:30-5)
0 * * * * | America/New_York | 11-07 03:59 | 11-07 04:00 (00:00-4), 05:00 (01:00-4), 06:00 (01:00-5), 07:00 (02:00-5), 08:00 (03:00-5)
15 2 * * * | Australia/Lord_Howe | 10-01 12:00 | 10-01 15:45 (02:15+10.5), 10-02 15:30 (02:30+11), 10-03 15:15 (02:15+11)
45 1 * * * | Australia/Lord_Howe | 04-02 12:00 | 04-02 14:45 (01:45+11), 04-03 14:45 (01:45+11), 04-04 15:15 (01:45+10.5)
*/15 * * * * | Australia/Lord_Howe | 10-02 15:00 | 10-02 15:15 (01:45+10.5), 15:30 (02:30+11), 15:45 (02:45+11), 16:00 (03:00+11)
*/15 * * * * | Australia/Lord_Howe | 04-03 14:20 | 04-03 14:30 (01:30+11), 14:45 (01:45+11), 15:00 (01:30+10.5), 15:15 (01:45+10.5), 15:30 (02:00+10.5)
0 * * * * | Australia/Lord_Howe | 10-02 13:00 | 10-02 13:30 (00:00+10.5), 14:30 (01:00+10.5), 16:00 (03:00+11)
0 * * * * | Australia/Lord_Howe | 04-03 12:30 | 04-03 13:00 (00:00+11), 14:00 (01:00+11), 15:30 (02:00+10.5), 16:30 (03:00+10.5)
30 2 * * * | Africa/Casablanca | 02-06 12:00 | 02-07 01:30 (02:30+1), 02-08 02:30 (02:30+0)
30 2 * * * | Africa/Casablanca | 03-13 12:00 | 03-14 02:00 (03:00+1), 03-15 01:30 (02:30+1)
0 0 * * * | Africa/Cairo | 04-28 12:00 | 04-28 22:00 (00:00+2), 04-29 22:00 (01:00+3), 04-30 21:00 (00:00+3)
0 0 30 4 * | Africa/Cairo | 04-29 12:00 | 04-29 22:00 (01:00+3)
0 0 * * 5 | Africa/Cairo | 04-29 12:00 | 04-29 22:00 (01:00+3)
30 23 * * * | Africa/Cairo | 10-28 12:00 | 10-28 20:30 (23:30+3), 10-29 21:30 (23:30+2)
0 0 * * * | Africa/Cairo | 10-28 12:00 | 10-28 22:00 (00:00+2), 10-29 22:00 (00:00+2)
30 1 * * * | Europe/Dublin | 03-27 12:00 | 03-28 01:00 (02:00+1), 03-29 00:30 (01:30+1)
30 1 * * * | Europe/Dublin | 10-30 12:00 | 10-31 00:30 (01:30+1), 11-01 01:30 (01:30+0)
45 2 * * * | America/Caracas | 2016-04-30 00:00 | 04-30 07:15 (02:45-4.5), 05-01 07:00 (03:00-4), 05-02 06:45 (02:45-4)
45 23 * * * | Asia/Pyongyang | 2018-05-03 12:00 | 05-03 15:15 (23:45+8.5), 05-04 15:00 (00:00+9), 05-05 14:45 (23:45+9)
30 1 * * * | Europe/Volgograd | 2020-12-25 12:00 | 12-25 21:30 (01:30+4), 12-26 21:30 (01:30+4), 12-27 22:30 (01:30+3)
0 12 * * * | Pacific/Apia | 2011-12-29 12:00 | 12-29 22:00 (12:00-10), 12-30 10:00 (00:00+14), 12-30 22:00 (12:00+14)
"""  # noqa: E501
ROWS = [tuple(map(str.strip, row.split("|"))) for row in FIRES.strip().splitlines()]


def ns(text: str) -> int:
    """Return the instant of `2027-03-28 01:00`, in UTC; without a year it is 2027."""
    whole = text if text[4] == "-" else f"2027-{text}"
    return int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp()) * SECOND_NS


def utc(at_ns: int) -> str:
    return f"{datetime.fromtimestamp(at_ns // SECOND_NS, UTC):%Y-%m-%d %H:%M}"


def times(cron: str, zone: str, since: str, count: int) -> list[str]:
    return [
        utc(each)
        for each in islice(after(ScheduleSpec(cron=cron, timezone=zone), ns(since)), count)
    ]


@pytest.mark.parametrize(("line", "zone", "since", "expected"), ROWS)
def test_a_line_fires_when_debians_cron_fires_it(
    line: str, zone: str, since: str, expected: str
) -> None:
    year, day, instants = since[:5] if since[4] == "-" else "2027-", "", []
    for match in re.finditer(r"(?:(\d\d-\d\d) )?(\d\d:\d\d) \((\d\d:\d\d)([+-][\d.]+)\)", expected):
        day = match[1] or day
        at = datetime.fromisoformat(f"{year}{day} {match[2]}").replace(tzinfo=UTC)
        local = at.astimezone(timezone(timedelta(hours=float(match[4]))))
        assert f"{local:%H:%M}" == match[3], f"the row is wrong: {match[0]}"
        instants.append(f"{at:%Y-%m-%d %H:%M}")
    assert times(line, zone, since, len(instants)) == instants
    schedule = ScheduleSpec(cron=line, timezone=zone)
    last = re.findall(r"\((\d\d:\d\d)", expected)[-1]
    assert f" {last} " in shown(schedule, ns(instants[-1]))


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Africa/Cairo"])
def test_a_daily_line_fires_once_on_each_day_and_an_hourly_one_in_each_hour(zone: str) -> None:
    daily = times("30 2 * * *", zone, "01-01 12:00", 365)
    local = [shown(ScheduleSpec(timezone=zone), ns(each))[:10] for each in daily]
    assert len({*local}) == 365
    hours = times("5 * * * *", zone, "01-01 12:00", 24 * 365)
    assert {ns(b) - ns(a) for a, b in pairwise(hours)} == {HOUR_NS}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 0 29 2 *", ["2028-02-29", "2032-02-29"]),
        ("0 0 1 * 1", ["2027-01-01", "2027-01-04", "2027-01-11"]),
        ("0 0 1 * */2", ["2027-04-01", "2027-05-01", "2027-06-01"]),
        ("0 0 */2 * 1", ["2027-01-11", "2027-01-25"]),
        ("0 0 1-31 * 1", ["2027-01-01", "2027-01-02", "2027-01-03"]),
        ("0 0 * * 7", ["2027-01-03", "2027-01-10"]),
        ("0 0 * * 0,7", ["2027-01-03", "2027-01-10"]),
        ("0 0 * * 5-7", ["2027-01-01", "2027-01-02", "2027-01-03", "2027-01-08"]),
        ("0 0 * * 0-7", ["2027-01-01", "2027-01-02", "2027-01-03"]),
        ("0 0 * * mon", ["2027-01-04", "2027-01-11"]),
        ("0 0 * * MON-FRI", ["2027-01-01", "2027-01-04"]),
        ("0 0 1 jan,JUL *", ["2027-01-01", "2027-07-01"]),
        ("0 0 L * *", ["2027-01-31", "2027-02-28"]),
        ("0 0 1,1,1 * *", ["2027-01-01", "2027-02-01"]),
        ("@daily", ["2027-01-01", "2027-01-02"]),
        ("@weekly", ["2027-01-03", "2027-01-10"]),
        ("@monthly", ["2027-01-01", "2027-02-01"]),
        ("@yearly", ["2027-01-01", "2028-01-01"]),
        ("@annually", ["2027-01-01", "2028-01-01"]),
        ("@midnight", ["2027-01-01", "2027-01-02"]),
    ],
)
def test_the_days_of_a_line(line: str, expected: list[str]) -> None:
    found_days = times(line, "UTC", "2026-12-31 23:59", len(expected))
    assert found_days == [f"{day} 00:00" for day in expected]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("*/7 0 * * *", ["00:00", "00:07", "00:14", "00:21", "00:28", "00:35", "00:42", "00:49", "00:56"]),
        ("1-20/5,40 0 * * *", ["00:01", "00:06", "00:11", "00:16", "00:40"]),
        ("09 08 * * *", ["08:09"]),
        ("*/60 * * * *", ["00:00", "01:00", "02:00"]),
        ("@hourly", ["00:00", "01:00", "02:00"]),
        ("*,5 * * * *", ["00:00", "00:01", "00:02"]),
    ],
)  # fmt: skip
def test_the_minutes_of_a_line(line: str, expected: list[str]) -> None:
    assert times(line, "UTC", "2026-12-31 23:59", len(expected)) == [
        f"2027-01-01 {t}" for t in expected
    ]


@pytest.mark.parametrize("line", ["0 0 31 2 *", "0 0 30 2 */2", "0 0 31 4,6,9,11 *"])
def test_a_line_that_never_fires_is_refused(line: str) -> None:
    with pytest.raises(BadLine, match="never fires"):
        checked(ScheduleSpec(cron=line), ns("01-01 00:00"))


def test_a_zone_that_nobody_knows_is_told() -> None:
    for name in ("Europe/Berln", "../etc/passwd", "", "Europe"):
        with pytest.raises(UnknownZone):
            checked(ScheduleSpec(cron="@daily", timezone=name), ns("01-01 00:00"))


def test_periods_are_counted_from_the_epoch() -> None:
    def shown_times(every_ns: int, since: str) -> list[str]:
        return [utc(each)[5:] for each in islice(after(ScheduleSpec(every=every_ns), ns(since)), 3)]

    assert shown_times(15 * MINUTE_NS, "03-28 00:07") == [
        "03-28 00:15",
        "03-28 00:30",
        "03-28 00:45",
    ]
    assert shown_times(15 * MINUTE_NS, "03-28 00:15") == [
        "03-28 00:30",
        "03-28 00:45",
        "03-28 01:00",
    ]
    assert shown_times(DAY_NS, "03-28 00:15") == ["03-29 00:00", "03-30 00:00", "03-31 00:00"]


def test_what_is_found_is_the_newest_that_has_come_and_those_to_come() -> None:
    daily = ScheduleSpec(cron="0 3 * * *", timezone="Europe/Berlin")
    answer = found("job", daily, ns("03-01 00:00"), ns("03-27 12:00"))
    assert (answer.watcher, answer.timing, answer.after_ns) == (
        "job",
        daily.timing,
        ns("03-01 00:00"),
    )
    assert answer.left_out
    assert answer.times[:3] == (
        Instant(ns("03-27 02:00"), "2027-03-27 03:00 CET"),
        Instant(ns("03-28 01:00"), "2027-03-28 03:00 CEST"),
        Instant(ns("03-29 01:00"), "2027-03-29 03:00 CEST"),
    )
    assert len(answer.times) == 1 + FOUND


@pytest.mark.parametrize(
    ("since", "now", "first", "left_out"),
    [
        ("03-27 12:00", "03-27 12:30", "03-28 01:00", False),  # none has come
        ("03-27 12:00", "03-28 01:00", "03-28 01:00", False),  # one has, just now
        ("03-27 01:59", "03-27 12:00", "03-27 02:00", False),
        ("03-26 01:59", "03-27 12:00", "03-27 02:00", True),
        ("2000-01-01 00:00", "03-27 12:00", "03-27 02:00", True),
    ],
)
def test_of_many_that_have_come_only_the_newest_is_found(
    since: str, now: str, first: str, left_out: bool
) -> None:
    schedule = ScheduleSpec(cron="0 3 * * *", timezone="Europe/Berlin")
    answer = found("job", schedule, ns(since), ns(now))
    assert (utc(answer.times[0].at_ns), answer.left_out) == (f"2027-{first}", left_out)
    of_period = found("job", ScheduleSpec(every=SECOND_NS), ns("2000-01-01 00:00"), ns(now) + 5)
    assert of_period == InstantsFound(
        "job",
        f"every {SECOND_NS}",
        ns("2000-01-01 00:00"),
        tuple(
            Instant(at, shown(ScheduleSpec(), at))
            for at in range(ns(now), ns(now) + 11 * SECOND_NS, SECOND_NS)
        ),
        True,
    )


def test_the_clock_may_be_anywhere() -> None:
    yearly = ScheduleSpec(cron="@yearly", timezone="Europe/Berlin")
    end = found("job", yearly, ns("2020-01-01 00:00"), ns("9998-06-01 00:00"))
    assert [each.shown for each in end.times] == ["9998-01-01 00:00 CET", "9999-01-01 00:00 CET"]
    assert found("job", yearly, 0, 0).times[0].shown == "1971-01-01 00:00 CET"


@pytest.mark.parametrize(
    ("schedule", "pause_ns"),
    [
        (ScheduleSpec(every=90 * SECOND_NS), 90 * SECOND_NS),
        (ScheduleSpec(cron="0,5,30 3 * * *"), 5 * MINUTE_NS),
        (ScheduleSpec(cron="@daily"), DAY_NS),
    ],
)
def test_the_shortest_pause_of_a_schedule(schedule: ScheduleSpec, pause_ns: int) -> None:
    assert shortest_pause_ns(schedule, ns("01-01 00:00")) == pause_ns


def test_how_people_read_an_instant() -> None:
    tokyo = ScheduleSpec(timezone="Asia/Tokyo")
    assert shown(tokyo, ns("01-01 00:00")) == "2027-01-01 09:00 JST"
    assert shown(ScheduleSpec(every=1), ns("01-01 00:00") + SECOND_NS) == "2027-01-01 00:00:01 UTC"
