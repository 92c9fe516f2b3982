"""Claims about the time before a line: how it is written, and how it is found again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.model.process import FileSink
from reconciler.model.units import DAY_NS, HOUR_NS
from reconciler.output.log_file import LogFile
from reconciler.output.stamps import stamp, time_of

WALL_NS = 1_767_323_045_123_456_000
SUMMER_NS = WALL_NS + 182 * DAY_NS


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("form", "wall_ns", "written"),
    [
        (True, WALL_NS, "2026-01-02T03:04:05.123456Z"),
        ("local", WALL_NS, "2026-01-02T04:04:05.123456+01:00"),
        ("local", SUMMER_NS, "2026-07-03T05:04:05.123456+02:00"),
        ("unix", WALL_NS, "1767323045.123456"),
        ("%Y-%m-%d %H:%M:%S", WALL_NS, "2026-01-02 04:04:05"),
        ("[%d/%b/%Y:%T %z]", SUMMER_NS, "[03/Jul/2026:05:04:05 +0200]"),
        ("%H:%M:%S.%f %Z 100%% é", WALL_NS, "04:04:05.123456 CET 100% é"),
    ],
)
def test_a_time_is_written_in_its_form(form: str | bool, wall_ns: int, written: str) -> None:
    assert stamp(wall_ns, form).decode() == written


@pytest.mark.parametrize("form", [True, "local", "unix"])
@pytest.mark.parametrize("wall_ns", [WALL_NS, SUMMER_NS, 0, 1_792_890_000 * 10**9])
def test_a_time_of_a_known_form_is_read_again(form: str | bool, wall_ns: int) -> None:
    """Also in the hour that comes twice when the clocks are put back."""
    assert time_of(stamp(wall_ns, form) + b" text\n") == wall_ns


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"text",
        b"2026-01-02 03:04:05 text",
        b"2026-02-30T03:04:05.123456Z text",
        b"2026-01-02T03:04:05.123456Ztext",
        b"2026-01-02T03:04:05Z text",
        b"1767323045 text",
        "\u0662026-01-02T03:04:05.123456Z text".encode(),
    ],
)
def test_what_is_no_time_of_a_known_form_is_none(line: bytes) -> None:
    assert time_of(line) is None


@pytest.mark.parametrize(
    ("form", "period_ns", "now", "until"),
    [
        (True, DAY_NS, "2026-01-02T03:04:05+00:00", "2026-01-03T00:00:00+00:00"),
        ("unix", DAY_NS, "2026-01-02T03:04:05+00:00", "2026-01-03T00:00:00+00:00"),
        ("local", DAY_NS, "2026-01-02T03:04:05+01:00", "2026-01-03T00:00:00+01:00"),
        ("%H:%M", DAY_NS, "2026-01-02T23:59:59+01:00", "2026-01-03T00:00:00+01:00"),
        # 29 March has 23 hours there, 25 October 25.
        ("local", DAY_NS, "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00"),
        ("local", DAY_NS, "2026-10-25T00:30:00+02:00", "2026-10-26T00:00:00+01:00"),
        ("local", 6 * HOUR_NS, "2026-10-25T01:00:00+02:00", "2026-10-25T06:00:00+01:00"),
        ("local", HOUR_NS, "2026-10-25T02:30:00+02:00", "2026-10-25T02:00:00+01:00"),
        ("local", 7 * DAY_NS, "2026-10-24T12:00:00+02:00", "2026-10-26T00:00:00+01:00"),
    ],
)
def test_rotation_follows_the_zone_of_the_times(
    tmp_path: Path, form: str | bool, period_ns: int, now: str, until: str
) -> None:
    sink = FileSink(str(tmp_path / "log"), timestamps=form, rotate_ns=period_ns)
    file = LogFile(sink.path, sink, -1, datetime.fromisoformat(now).timestamp())
    file.close()
    expected = datetime.fromisoformat(until)
    assert datetime.fromtimestamp(file.rotate_at, UTC) == expected
