"""What a cron line may say, and what is said to who writes something else."""

from __future__ import annotations

import pytest

from reconciler.schedule.line import BadLine, plain


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("0 3 * * *", "0 3 * * *"),
        ("  */5\t*  * * MON-FRI ", "*/5 * * * MON-FRI"),
        ("@daily", "0 0 * * *"),
        ("@HOURLY", "0 * * * *"),
        ("0 0 1,L * *", "0 0 1,L * *"),
        ("1-20/5,40 0-23 * jan-dec 0,7", "1-20/5,40 0-23 * jan-dec 0,7"),
        ("*/60 */24 * * *", "*/60 */24 * * *"),
    ],
)
def test_a_line_is_taken(line: str, fields: str) -> None:
    assert plain(line) == fields


NTH = "the nth weekday cannot be said: let the command look at the date"
NAMED = "expected one of @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually, found"
FIVE = "expected five fields (minute, hour, day of the month, month and weekday), found"
MORE = "a line has no seconds and no year; every: 10s fires more often than each minute"
REFUSED = [
    ("", f"{FIVE} 0", 'write: "0 3 * * *"'),
    ("* * * *", f"{FIVE} 4", 'write: "0 3 * * *"'),
    ("0 0 3 * * *", f"{FIVE} 6", MORE),
    ("0 0 3 * * * 2027", f"{FIVE} 7", MORE),
    ("TZ=Europe/Berlin 0 3 * * *", "the time zone is a field of its own", "write: timezone: Europe/Berlin"),
    ("CRON_TZ=UTC 0 3 * * *", "the time zone is a field of its own", "write: timezone: UTC"),
    ("@reboot", f"{NAMED} '@reboot'", "write run_at_start: true; a job without schedule is fired by a boot, too"),
    ("@every 1h", f"{NAMED} '@every 1h'", "write every: 1h in place of cron"),
    ("@sometimes", f"{NAMED} '@sometimes'", ""),
    ("60 * * * *", "minute: expected 0 to 59, found '60'", ""),
    ("0 0 0 * *", "day of the month: expected 1 to 31, found '0'", ""),
    ("0 0 * 13 *", "month: expected 1 to 12, found '13'", ""),
    ("0 0 * * 8", "weekday: expected 0 to 7, found '8'", ""),
    ("0 0 * * monday", "weekday: expected a number from 0 to 7, or sun to sat, found 'monday'", "write: mon"),
    ("0 0 * * fri-mon", "weekday: the range 'fri-mon' ends before it begins", "write: fri-sat,sun-mon"),
    ("0 0 * * sat-sun", "weekday: the range 'sat-sun' ends before it begins", "write: sat,sun"),
    ("0 0 * * 6-1", "weekday: the range '6-1' ends before it begins", "write: 6,0-1"),
    ("0 22-2 * * *", "hour: the range '22-2' ends before it begins", "write: 22-23,0-2"),
    ("50-10 * * * *", "minute: the range '50-10' ends before it begins", "write: 50-59,0-10"),
    ("0 0 * nov-feb *", "month: the range 'nov-feb' ends before it begins", "write: nov-dec,jan-feb"),
    ("5/15 * * * *", "minute: a step needs a range, found '5/15'", "write: 5-59/15"),
    ("*/0 * * * *", "minute: expected a step from 1 up after '/', found '0'", ""),
    ("*/ * * * *", "minute: expected a step from 1 up after '/', found ''", ""),
    (
        "*/90 * * * *",
        "minute: a step of 90 leads beyond the field: '*/90' is '*/60'",
        "for such a period write every, such as every: 90m",
    ),
    ("0 0 * * 5#2", "weekday: expected a number from 0 to 7, or sun to sat, found '5#2'", NTH),
    ("0 0 * * 5L", "weekday: expected a number from 0 to 7, or sun to sat, found '5L'", NTH),
    (
        "0 0 15W * *",
        "day of the month: expected a number from 1 to 31, found '15W'",
        "a day near a weekday cannot be said: let the command look at the date",
    ),
    ("0 0 ? * *", "day of the month: expected a number from 1 to 31, found '?'", "write: *"),
    ("0 L * * *", "hour: expected a number from 0 to 23, found 'L'", ""),
    (
        "H 0 * * *",
        "minute: expected a number from 0 to 59, found 'H'",
        "write a number; the field jitter spreads jobs over time",
    ),
    ("0~59 * * * *", "minute: expected a number from 0 to 59, found '0~59'", "the field jitter spreads jobs over time"),
    ("1,,2 * * * *", "minute: expected a number from 0 to 59, found ''", ""),
    ("-5 * * * *", "minute: expected a number from 0 to 59, found ''", ""),
    ("٣ 3 * * *", "minute: expected a number from 0 to 59, found '٣'", ""),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message", "hint"), REFUSED)
def test_a_line_is_refused_with_what_to_write(line: str, message: str, hint: str) -> None:
    with pytest.raises(BadLine) as refused:
        plain(line)
    assert (refused.value.message, refused.value.hint) == (message, hint)
