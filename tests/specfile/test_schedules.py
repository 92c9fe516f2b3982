"""Schedules as users write them: what is refused, and what is doubted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from reconciler.model.spec import ScheduleSpec
from reconciler.model.units import DAY_NS, MINUTE_NS
from reconciler.specfile.loading import read_spec
from reconciler.specfile.schedules import next_runs
from tests.specfile.files import Folder, only_error, spec_of, watcher_of

if TYPE_CHECKING:
    from pathlib import Path

JOB = "watchers: {job: {cmd: x, restart: never, "


def test_a_schedule_is_read_with_its_defaults() -> None:
    given = watcher_of(JOB + 'schedule: {cron: "0 3 * * *", timezone: Europe/Berlin}}}').schedule
    assert given == ScheduleSpec(cron="0 3 * * *", timezone="Europe/Berlin")
    assert watcher_of(JOB + "schedule: {every: 15m, catch_up: once, jitter: 1m}}}").schedule == (
        ScheduleSpec(every=15 * MINUTE_NS, catch_up="once", jitter=MINUTE_NS)
    )
    assert watcher_of(JOB + "schedule: null}}").schedule is None


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("watchers: {web: {cmd: x, schedule: {every: 5m}}}", "web.schedule", "for one-shot jobs (write restart: never"),
        (JOB + "schedule: {cron: '@daily', every: 5m}}}", "job.schedule", "expected cron or every, found both"),
        (JOB + "schedule: {}}}", "job.schedule", "expected cron or every, found neither"),
        (JOB + "schedule: {jitter: 5m}}}", "job.schedule", "expected cron or every, found neither"),
        (JOB + "schedule: {cron: '0 0 31 2 *'}}}", "job.schedule.cron", "never fires"),
        (JOB + "schedule: {cron: '0 22-2 * * *'}}}", "job.schedule.cron", "write: 22-23,0-2"),
        (JOB + "schedule: {cron: '0 3 * * * *'}}}", "job.schedule.cron", "expected five fields"),
        (JOB + "schedule: {cron: 5}}}", "job.schedule.cron", "put it into quotes"),
        (JOB + "schedule: {cron: '@daily', timezone: Europe/Berln}}}", "job.schedule.timezone", "mean 'Europe/Berlin'"),
        (JOB + "schedule: {cron: '@daily', timezone: ../UTC}}}", "job.schedule.timezone", "there is no time zone"),
        (JOB + "schedule: {every: 5m, timezone: UTC}}}", "job.schedule.timezone", "counted in real time (remove it)"),
        (JOB + "schedule: {every: 900ms}}}", "job.schedule.every", "at least 1s, found '900ms'"),
        (JOB + "schedule: {every: 300}}}", "job.schedule.every", "300s, when seconds are meant"),
        (JOB + "schedule: {every: 5m, jitter: 5m}}}", "job.schedule.jitter", "not less than the pause"),
        (JOB + "schedule: {cron: '0,5 3 * * *', jitter: 6m}}}", "job.schedule.jitter", "may be 5m apart"),
        (JOB + "schedule: {every: 5m, catch_up: all}}}", "job.schedule.catch_up", "expected skip or once"),
        (JOB + "schedule: 5m}}", "job.schedule", "write: {every: 5m}"),
        (JOB + "schedule: '0 3 * * *'}}", "job.schedule", 'write: {cron: "0 3 * * *"}'),
        (JOB + "schedule: {cron: */5 * * * *}}}", "", 'write: cron: "*/5 * * * *"'),
        (JOB + "schedule: {cron: * * * * *}}}", "", "needs quotes"),
        (JOB + "schedule: {cron: @daily}}}", "", "put the value into quotes"),
    ],
)  # fmt: skip
def test_a_schedule_that_cannot_be_is_told_with_its_place(
    text: str, field: str, words: str
) -> None:
    error = only_error(text)
    assert error.field == (f"watchers.{field}" if field else "")
    assert words in f"{error.message} ({error.hint})"
    assert error.line == 1
    assert error.column > 1


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("autostart: false, schedule: {every: 5m}", "schedule", "nothing but operators fires it"),
        ("rerun_on: [boot], schedule: {every: 5m}", "rerun_on", "write run_at_start: true"),
        ("schedule: {cron: '*/15 2 * * *', timezone: Europe/Berlin}", "schedule.cron", "fires by real time"),
        ("schedule: {cron: '30 0-23 * * *', timezone: Europe/Berlin}", "schedule.cron", "write: 30 *"),
        ("rerun_on: [boot], schedule: {every: 5m, run_at_start: true}", "", ""),
        ("schedule: {cron: '*/15 2 * * *', timezone: Asia/Tokyo}", "", ""),
        ("schedule: {cron: '*/15 5 * * *', timezone: Europe/Berlin}", "", ""),
        ("schedule: {cron: '*/15 2 * * *'}", "", ""),
        ("schedule: {cron: '0 * * * *', timezone: Europe/Berlin}", "", ""),
    ],
)  # fmt: skip
def test_a_schedule_that_may_not_be_meant_so_is_doubted(
    tmp_path: Path, text: str, field: str, words: str
) -> None:
    outcome = read_spec(Folder(tmp_path).write(spec=f"{JOB}{text}}}}}"), {})
    assert outcome.spec is not None
    said = [(each.field, f"{each.message} ({each.hint})") for each in outcome.warnings]
    assert [name for name, _ in said] == ([f"watchers.job.{field}"] if field else [])
    assert all(words in text for _, text in said)


def test_with_a_spec_its_next_runs_are_told() -> None:
    spec = spec_of(
        "watchers: {a: {cmd: x, restart: never, schedule: {every: 1d}}, b: {cmd: x, restart: never}, "
        "c: {cmd: x, restart: never, autostart: false, schedule: {every: 1d}}}"
    )
    found = next_runs(spec)
    assert found.keys() == {"a"}
    assert len(found["a"]) == 5
    assert all(each.at_ns % DAY_NS == 0 and each.at_ns > time.time_ns() for each in found["a"][1:])
