"""An edit of watched files replaces what runs, as an edit of the spec does, and proves nothing about a revision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reconciler.model.action import ScanFiles
from reconciler.model.observation import JobChanged
from reconciler.model.spec import (
    HookSpec,
    HooksSpec,
    MaxRestartsSpec,
    ScheduleSpec,
    SecretSpec,
    WatchSpec,
)
from tests.core.stage import Stage, job, spec, watcher

if TYPE_CHECKING:
    from reconciler.model.spec import Spec

APP = WatchSpec(paths=("/srv/app",))
WEB = watcher(watch=APP)


def stage_of(wanted: Spec, digest: str = "1") -> Stage:
    stage = Stage()
    stage.disk = dict.fromkeys(wanted.watchers, digest)
    return stage.apply(wanted)


def scans(stage: Stage) -> int:
    return sum(isinstance(action, ScanFiles) for _, action in stage.history)


def told(stage: Stage, kind: str) -> list[str]:
    return [event.message for event in stage.events if event.type == kind]


def test_an_edit_replaces_the_processes_one_by_one() -> None:
    stage = stage_of(spec(web=watcher(numprocesses=2, watch=APP), other=watcher())).wait(10)
    before = {name: stage.pid(name) for name in ("web.1", "web.2", "other.1")}
    stage.edit("web", "1").wait(10)
    assert before == {name: stage.pid(name) for name in before}
    stage.edit("web", "2")
    assert stage.pid("web.1") != before["web.1"] and stage.pid("web.2") == before["web.2"]
    stage.wait(10)
    assert stage.pid("web.2") != before["web.2"] and stage.pid("other.1") == before["other.1"]
    assert stage.status("web").as_desired
    assert told(stage, "files.changed") == ["web: watched files changed: app.py"]


def test_an_edit_while_no_controller_was_there_is_found_by_the_next_one() -> None:
    wanted = spec(web=WEB)
    stage = stage_of(wanted).wait(10)
    before = stage.pid("web.1")
    stage.new_controller(wanted).wait(10)
    stage.edit("web", "1").wait(10)
    assert stage.pid("web.1") == before
    stage.new_controller(wanted).wait(10)
    stage.edit("web", "2").wait(10)
    assert stage.pid("web.1") != before
    assert told(stage, "files.changed") == [
        "web: watched files changed while the controller was away"
    ]


def test_an_edit_that_is_undone_before_its_turn_replaces_nobody() -> None:
    stage = stage_of(spec(web=watcher(numprocesses=2, watch=APP))).wait(10)
    before = stage.pid("web.2")
    stage.edit("web", "2").edit("web", "1").wait(60)
    assert (stage.pid("web.2"), stage.status("web").as_desired) == (before, True)


def test_a_start_waits_for_the_first_look_but_not_for_long() -> None:
    stage = Stage().apply(spec(web=WEB, other=watcher()))
    assert (stage.alive(), stage.status("web").state) == (["other.1"], "Waiting")
    assert stage.status("web").note == "its watched files are being looked at"
    assert stage.wait(4.9).alive("web") == []
    assert (stage.wait(0.2).alive("web"), scans(stage)) == (["web.1"], 1)


def test_what_was_started_without_a_look_is_replaced_once() -> None:
    stage = Stage().apply(spec(web=WEB)).wait(20)
    stage.edit("web", "1").wait(20)
    stage.edit("web", "1").wait(20)
    assert stage.spawned() == ["web.1", "web.1"]


def test_what_cannot_be_looked_at_keeps_nothing_from_starting_and_says_so() -> None:
    stage = Stage().apply(spec(web=WEB))
    stage.tell(*stage.seen("web", trouble="there are too many"))
    assert stage.alive() == ["web.1"]
    stage.wait(2)
    assert stage.status("web").note == "edits are not noticed: there are too many"
    assert told(stage, "files.failed") == [
        "web: edits of its watched files are not noticed: there are too many"
    ]


def test_trouble_later_on_replaces_nobody() -> None:
    stage = stage_of(spec(web=WEB)).wait(20)
    before = stage.pid("web.1")
    stage.tell(*stage.seen("web", trouble="gone")).wait(20)
    stage.edit("web", "1").wait(20)
    assert (stage.pid("web.1"), stage.status("web").note) == (before, "")
    assert len(told(stage, "files.recovered")) == 1


def test_nothing_is_stopped_for_watch_before_its_files_were_looked_at() -> None:
    stage = Stage().apply(spec(web=watcher())).wait(10)
    before = stage.pid("web.1")
    stage.apply(spec(web=WEB)).wait(1)
    assert stage.pid("web.1") == before
    stage.edit("web", "1")
    assert stage.pid("web.1") != before


def test_what_was_seen_for_a_former_spec_says_nothing() -> None:
    stage = stage_of(spec(web=WEB)).wait(10)
    late = stage.seen("web")
    stage.disk = {}
    stage.apply(spec(web=watcher(watch=WatchSpec(paths=("/srv/other",)))))
    before = stage.pid("web.1")
    stage.tell(*late).wait(1)
    assert stage.pid("web.1") == before


def test_another_quiet_period_replaces_nobody() -> None:
    stage = stage_of(spec(web=WEB)).wait(10)
    before = stage.pid("web.1")
    stage.apply(spec(web=watcher(watch=WatchSpec(paths=APP.paths, quiet_period=5)))).wait(10)
    assert (stage.pid("web.1"), scans(stage)) == (before, 1)


def test_an_edit_starts_at_once_what_waits_after_crashes_or_has_given_up() -> None:
    limit = MaxRestartsSpec(count=9, window=3600 * 10**9)
    for _ in range(2):
        stage = stage_of(spec(web=watcher(watch=APP, max_restarts=limit)))
        while stage.alive():
            stage.exit("web.1", 1)
        assert stage.status("web").state == "BackOff"
        assert stage.edit("web", "2").alive() == ["web.1"]


# ---- how often ------------------------------------------------------------------------------------


def test_who_saves_often_is_served_each_time_and_a_bit_later_after_ten() -> None:
    stage = stage_of(spec(web=WEB)).wait(60)
    for number in range(10):
        stage.edit("web", f"a{number}").wait(3)
    assert len(stage.spawned()) == 11
    for number in range(20):
        stage.edit("web", f"b{number}").wait(3)
    assert 20 <= len(stage.spawned()) <= 26
    stage.wait(20)
    count = len(stage.spawned())
    assert len(stage.edit("web", "c").spawned()) == count + 1


def test_who_edits_what_it_watches_itself_is_held_back_and_named() -> None:
    stage = stage_of(spec(web=WEB)).wait(60)
    for number in range(600):
        stage.edit("web", str(number)).wait(0.1)
    assert 15 <= len(stage.spawned()) <= 26
    assert stage.status("web").note == (
        f"held back: replaced {stage.records[next(iter(stage.records))].memory.edits} times in a row because "
        "watched files changed each time (last: app.py); now at most every 5s"
    )


def test_edits_are_not_counted_as_changes_of_secrets() -> None:
    key = {"KEY": SecretSpec(file="/run/key")}
    stage = Stage()
    stage.vault, stage.disk = {"web": "1"}, {"web": "1"}
    stage.apply(spec(web=watcher(watch=APP, secrets=key))).wait(60)
    for number in range(8):
        stage.edit("web", f"e{number}").wait(3)
    (record,) = stage.records.values()
    assert (record.memory.edits, record.memory.in_a_row) == (8, 0)


# ---- revisions ------------------------------------------------------------------------------------


def test_a_broken_edit_does_not_decide_against_the_revision() -> None:
    stage = Stage()
    stage.disk = {"web": "1"}
    stage.try_out(spec(web=WEB)).wait(3)
    stage.edit("web", "broken")
    for _ in range(60):
        if "web.1" in stage.alive():
            stage.exit("web.1", 1)
        stage.wait(1)
    assert stage.outcome == "pending"
    stage.edit("web", "mended")
    assert stage.outlook == (10, "web.1 was replaced because watched files changed")
    assert stage.wait(12).outcome == "good"


def test_a_crash_before_any_edit_still_decides_against_the_revision() -> None:
    stage = Stage()
    stage.disk = {"web": "1"}
    stage.try_out(spec(web=WEB)).wait(3)
    assert stage.exit("web.1", 1).outcome == "paused"


def test_an_edit_counts_while_the_revision_is_paused() -> None:
    stage = Stage()
    stage.disk = {"web": "1", "bad": "1"}
    stage.try_out(spec(web=WEB, bad=watcher())).wait(3)
    stage.exit("bad.1", 1).wait(5)
    assert stage.outcome == "paused"
    before = stage.pid("web.1")
    assert stage.edit("web", "2").pid("web.1") != before


def test_a_revision_says_why_it_is_not_good_yet_after_an_edit() -> None:
    stage = Stage()
    stage.disk = {"web": "1"}
    stage.try_out(spec(web=WEB)).wait(5)
    stage.edit("web", "2").wait(1)
    assert stage.outlook == (9.0, "web.1 was replaced because watched files changed")
    assert stage.wait(10).outcome == "good"


# ---- jobs -----------------------------------------------------------------------------------------


def test_a_job_is_fired_again_for_an_edit_and_says_why() -> None:
    wanted = spec(fill=job(watch=APP, rerun_on=()))
    stage = stage_of(wanted).exit("fill.1").wait(10)
    assert stage.generations["fill"] == [1]
    stage.edit("fill", "1").wait(10).edit("fill", "2")
    assert stage.generations["fill"] == [1, 2]
    assert told(stage, "job.fired")[-1] == "fill fires generation 2: its watched files changed"
    known = stage.exit("fill.1").reconciler.observed("fill").job
    stage.new_controller(wanted, [JobChanged("fill", known)]).edit("fill", "2").wait(60)
    assert stage.generations["fill"] == [1, 2]
    stage.edit("fill", "3")
    assert stage.generations["fill"] == [1, 2, 3]


def test_a_job_that_waits_for_its_schedule_is_fired_for_an_edit_too() -> None:
    schedule = ScheduleSpec(every=3600 * 10**9)
    stage = stage_of(spec(fill=job(watch=APP, schedule=schedule)))
    assert stage.edit("fill", "2").spawned() == []  # it has not run yet
    stage.wait(3600).exit("fill.1")
    assert stage.edit("fill", "3").wait(5).spawned() == ["fill.1", "fill.1"]
    watch = WatchSpec(paths=("/srv/other",))
    stage.exit("fill.1").apply(spec(fill=job(watch=watch, schedule=schedule)))
    assert stage.edit("fill", "4").wait(60).spawned() == ["fill.1", "fill.1"]


def test_a_job_that_edits_what_it_watches_is_fired_every_few_seconds() -> None:
    stage = stage_of(spec(fill=job(watch=APP)))
    for number in range(280):
        if "fill.1" in stage.alive():
            stage.exit("fill.1")
        stage.edit("fill", f"e{number}").wait(0.1)
    assert len(stage.generations["fill"]) == 6
    assert stage.status("fill").note == (
        "watched files changed; it is fired for that at most every 5s"
    )


def test_a_rerun_before_the_first_look_is_no_reason_to_fire_again() -> None:
    wanted = spec(fill=job(watch=APP))
    stage = stage_of(wanted).exit("fill.1").wait(10)
    known = stage.reconciler.observed("fill").job
    stage.new_controller(wanted, [JobChanged("fill", known)])
    generation = stage.rerun("fill", None, failed=False, overlap=None).generation
    stage.tell(JobChanged("fill", type(known)(generation, known.runs)))
    stage.exit("fill.1").edit("fill", "1").wait(60)
    assert (stage.spawned("fill"), stage.alive()) == (["fill.1", "fill.1"], [])


@pytest.mark.parametrize("hook", ["before_start", "before_spawn"])
def test_a_veto_keeps_the_old_process_and_an_edit_asks_again(hook: str) -> None:
    hooks = HooksSpec(**{hook: HookSpec(cmd=("check",))})
    stage = stage_of(spec(web=watcher(watch=APP, hooks=hooks)))
    role = f"web:{hook}" if hook == "before_start" else f"web.1:{hook}"
    stage.exit(role).wait(20)
    assert stage.alive() == ["web.1"]
    before = stage.pid("web.1")
    stage.edit("web", "2")
    if hook == "before_spawn":
        assert stage.pid("web.1") == before
        stage.exit(role)
    assert stage.pid("web.1") != before
