"""The instants of a schedule around a time, in nanoseconds since the epoch, and how people read them.

The rule about clock changes is that of Debian's cron, as cronsim implements it. A line whose minute and hour are fixed
(neither begins with `*`) fires once a day also where the clock leaps over that time (right after the leap) or passes it
twice (the first time). Every other line fires by real time.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, tzinfo
from itertools import islice, pairwise, takewhile
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from reconciler.model.job import Instant
from reconciler.model.observation import FOUND, InstantsFound
from reconciler.model.units import DAY_NS, HOUR_NS, SECOND_NS
from reconciler.schedule.line import BadLine, plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from reconciler.model.spec import ScheduleSpec

_NEVER: Final = ("it never fires: no such month has such a day", "look at day and month")
_GAPS: Final = 50
"""Pauses between instants that are looked at for the shortest one."""


class UnknownZone(ValueError):
    """There is no time zone of this name on this machine."""


def checked(schedule: ScheduleSpec, now_ns: int) -> None:
    """See whether a schedule can be kept. Raises `BadLine` and `UnknownZone`."""
    if next(after(schedule, now_ns), None) is None:
        raise BadLine(*_NEVER)


def after(schedule: ScheduleSpec, after_ns: int) -> Iterator[int]:
    """Yield the instants after a time, in order. Raises `BadLine` and `UnknownZone`."""
    if schedule.every is not None:
        return _multiples(schedule.every, after_ns)
    return _of_line(plain(schedule.cron or ""), zone(schedule.timezone), after_ns)


def found(watcher: str, schedule: ScheduleSpec, after_ns: int, now_ns: int) -> InstantsFound:
    """Return what is to be known of the instants after `after_ns`: the newest that has come, and those to come.

    Raises `BadLine` and `UnknownZone`.
    """
    last, left_out = _newest(schedule, after_ns, now_ns)
    coming = list(islice(after(schedule, max(after_ns, now_ns)), FOUND))
    times = tuple(
        Instant(at_ns, shown(schedule, at_ns))
        for at_ns in [*([] if last is None else [last]), *coming]
    )
    return InstantsFound(watcher, schedule.timing, after_ns, times, left_out)


def shortest_pause_ns(schedule: ScheduleSpec, now_ns: int) -> int:
    """Return the shortest pause between some instants to come."""
    times = list(islice(after(schedule, now_ns), _GAPS))
    return min((later - sooner for sooner, later in pairwise(times)), default=DAY_NS)


def shown(schedule: ScheduleSpec, at_ns: int) -> str:
    """Return how people read an instant, in the time zone of its schedule: `2026-12-01 03:00 CET`."""
    local = datetime.fromtimestamp(at_ns // SECOND_NS, zone(schedule.timezone))
    return local.strftime("%Y-%m-%d %H:%M:%S %Z" if local.second else "%Y-%m-%d %H:%M %Z")


def zone(name: str) -> tzinfo:
    """Return a time zone, as the machine's files have it now: they change while we run. Raises `UnknownZone`."""
    if name == "UTC":
        return UTC  # also on a machine without time zone data
    try:
        return ZoneInfo.no_cache(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UnknownZone(name) from error


def zone_names() -> set[str]:
    """Return the names of the time zones that this machine knows."""
    return available_timezones()


def doubt(schedule: ScheduleSpec, now_ns: int) -> tuple[str, str] | None:
    """Return why a line may fire otherwise than it is meant on a day when the clocks change, and what to write."""
    minute, hour, *_ = plain(schedule.cron or "").split()
    if schedule.timezone == "UTC" or minute.startswith("*") == (hour == "0-23"):
        return None
    if hour == "0-23":
        message = "0-23 is not every hour on the days when the clocks change"
        return message, f"for every hour write: {minute} *"
    if hour.startswith("*"):
        return None
    for day, usual, count in _changed_days(schedule, now_ns):
        if count != usual:
            times = "not at all" if not count else f"{count} times instead of {usual}"
            message = f"with * in the minutes it fires by real time: {times} on {day}, when the clocks change"
            return message, "write single minutes, such as 0,15,30,45, or other hours"
    return None


def _changed_days(schedule: ScheduleSpec, now_ns: int) -> Iterator[tuple[date, int, int]]:
    """Yield the days of about a year on which the clocks change: how often a line fires on the one before, and then."""
    local = zone(schedule.timezone)
    today = datetime.fromtimestamp(now_ns // SECOND_NS, local).date()
    midnights = [datetime.combine(today + timedelta(days), time(), local) for days in range(400)]
    begins = [int(each.timestamp()) * SECOND_NS for each in midnights]
    for number in range(1, len(begins) - 1):
        if begins[number + 1] - begins[number] != DAY_NS:
            usual, count = (_count(schedule, *begins[n : n + 2]) for n in (number - 1, number))
            yield midnights[number].date(), usual, count


def _count(schedule: ScheduleSpec, begin_ns: int, end_ns: int) -> int:
    """Return how often a schedule fires from one instant on until before another."""
    return sum(1 for _ in takewhile(lambda at_ns: at_ns < end_ns, after(schedule, begin_ns - 1)))


def _newest(schedule: ScheduleSpec, after_ns: int, now_ns: int) -> tuple[int | None, bool]:
    """Return the newest instant that has come since a time, and whether there are others before it."""
    length_ns = HOUR_NS
    while True:  # an hour back first, then ever further: there may be a million since then
        begin_ns = max(after_ns, now_ns - length_ns)
        last, count = None, 0
        for at_ns in after(schedule, begin_ns):
            if at_ns > now_ns:
                break
            last, count = at_ns, count + 1
        if last is not None or begin_ns <= after_ns:
            is_first = count == 1 and next(after(schedule, after_ns), None) == last
            return last, last is not None and not is_first
        length_ns *= 8


def _multiples(period_ns: int, after_ns: int) -> Iterator[int]:
    at_ns = after_ns // period_ns * period_ns
    while True:
        at_ns += period_ns
        yield at_ns


def _of_line(line: str, local: tzinfo, after_ns: int) -> Iterator[int]:
    """Yield the instants of a line.

    Asked from within an hour that the clock passes twice, cronsim begins with instants that are over, and where a gap
    swallows several it may name one twice: what is not later than the one before is left out. That is decided in UTC:
    two times of one zone would be compared as the wall shows them.
    """
    begin = datetime.fromtimestamp(after_ns // SECOND_NS, local)
    last_ns = after_ns
    try:
        for each in CronSim(line, begin):
            at_ns = int(each.timestamp()) * SECOND_NS
            if at_ns > last_ns:
                last_ns = at_ns
                yield at_ns
    except CronSimError as error:
        raise BadLine(*_NEVER) from error
    except (OverflowError, ValueError):
        return  # beyond the year 9999
