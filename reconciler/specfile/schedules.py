"""When a job is fired by the clock: lines and time zones that cannot be, and what does not fit together.

What reads cron lines is imported only where a spec has one.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from reconciler.model.spec import ScheduleSpec
from reconciler.model.units import SECOND_NS, format_duration, parse_duration_ns
from reconciler.specfile.hints import did_you_mean
from reconciler.specfile.mistakes import quoted

if TYPE_CHECKING:
    from reconciler.model.job import Instant
    from reconciler.model.spec import Spec
    from reconciler.specfile.given import Given
    from reconciler.specfile.yaml_text import Map

SHORTEST_NS: Final = SECOND_NS
_NO_ZONES: Final = "it has no time zone data: install tzdata, or leave timezone out for UTC"
SHOWN: Final = 5
"""Instants of a job that are told with a spec."""


def check_schedule(watcher: Given, own: Map) -> None:
    """Check the schedule of a job, if it has one; `own` is what the watcher says itself, without defaults."""
    schedule = watcher.block("schedule")
    if schedule is None:
        return
    given = schedule.says("cron", "every")
    if len(given) != 1:
        message = f"expected cron or every, found {'both' if given else 'neither'}"
        hint = "keep one of them" if given else 'write: {cron: "0 3 * * *"} or {every: 15m}'
        schedule.mistakes.at(schedule.node, schedule.where, message, hint)
        return
    if given == ["every"]:
        _check_period(schedule)
    else:
        _check_line(schedule)
    if watcher.data.get("autostart") is False:
        message = "with autostart: false nothing but operators fires it, and its schedule does not"
        watcher.warn("schedule", message, "remove one of them")
    if "rerun_on" in own.entries and schedule.data.get("run_at_start") is not True:
        message = "a job with a schedule is fired by nothing else, so rerun_on has no meaning"
        watcher.warn("rerun_on", message, "write run_at_start: true in its schedule, or remove it")


def next_runs(spec: Spec) -> dict[str, tuple[Instant, ...]]:
    """Return the next instants of each job that has a schedule."""
    schedules = {
        name: each.schedule
        for name, each in spec.watchers.items()
        if each.schedule is not None and each.autostart
    }
    if not schedules:
        return {}
    from reconciler.schedule import instants

    now = time.time_ns()
    return {
        name: instants.found(name, each, now, now).times[:SHOWN] for name, each in schedules.items()
    }


def _check_period(schedule: Given) -> None:
    every = _duration(schedule, "every")
    if every is not None and every < SHORTEST_NS:
        message = f"expected a period of at least 1s, found '{format_duration(every)}'"
        schedule.wrong("every", message)
        return
    if schedule.says("timezone"):
        message = "a time zone is for cron lines: a period is counted in real time"
        schedule.out_of_place("timezone", message, "remove it")
    if every is not None:
        _check_jitter(schedule, ScheduleSpec(every=every))


def _check_line(schedule: Given) -> None:
    from reconciler.schedule import instants
    from reconciler.schedule.line import BadLine

    line, zone = schedule.text("cron"), schedule.data.get("timezone", "UTC")
    if line is None or not isinstance(zone, str):
        return
    spec = ScheduleSpec(cron=line, timezone=zone)
    try:
        instants.checked(spec, time.time_ns())
    except BadLine as error:
        schedule.wrong("cron", error.message, error.hint)
    except instants.UnknownZone:
        names = instants.zone_names()
        hint = did_you_mean(zone, names, what="time zones") if names else _NO_ZONES
        schedule.wrong("timezone", f"there is no time zone {quoted(zone)} on this machine", hint)
    else:
        _check_jitter(schedule, spec)
        doubt = instants.doubt(spec, time.time_ns())
        if doubt:
            schedule.warn("cron", *doubt)


def _check_jitter(schedule: Given, spec: ScheduleSpec) -> None:
    """Jitter must not have a run overtake the next one."""
    from reconciler.schedule import instants

    jitter = _duration(schedule, "jitter")
    if not jitter:
        return
    pause = instants.shortest_pause_ns(spec, time.time_ns())
    if jitter >= pause:
        message = (
            f"a jitter of {format_duration(jitter)} is not less than the pause between two runs"
        )
        hint = f"they may be {format_duration(pause)} apart"
        schedule.wrong("jitter", message, hint)


def _duration(schedule: Given, name: str) -> int | None:
    """Return a duration that is given, None where there is none, or a mistake."""
    with suppress(ValueError):
        if schedule.says(name):
            return parse_duration_ns(schedule.data.get(name))
    return None
