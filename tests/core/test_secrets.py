"""Starts wait for secrets; a change of a value is a change of what runs; what runs never waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reconciler.model.action import ReadSecrets
from reconciler.model.intent import Intent
from reconciler.model.job import Job
from reconciler.model.observation import IntentChanged, JobChanged, SecretsRead, SecretsUnreadable
from reconciler.model.spec import SecretSpec
from tests.core.stage import Stage, job, spec, watcher

if TYPE_CHECKING:
    from reconciler.model.spec import Spec

KEY = {"KEY": SecretSpec(file="/run/key")}
OTHER = {"KEY": SecretSpec(file="/run/other")}


def readings(stage: Stage) -> int:
    return sum(isinstance(action, ReadSecrets) for _, action in stage.history)


def test_a_start_reads_its_secrets_once_and_all_slots_share_them() -> None:
    stage = Stage()
    stage.vault = {"web": "1"}
    stage.apply(spec(web=watcher(numprocesses=3, secrets=KEY), other=watcher()))
    assert stage.alive() == ["other.1", "web.1", "web.2", "web.3"]
    stage.exit("web.2", 1).wait(60)
    assert (readings(stage), len(stage.alive("web"))) == (1, 3)


def test_what_cannot_be_read_waits_says_why_and_is_tried_again() -> None:
    stage = Stage().apply(spec(web=watcher(secrets=KEY), other=watcher())).wait(10)
    assert stage.alive() == ["other.1"]
    assert stage.status("web").state == "Waiting"
    assert stage.status("web").note == "cannot read the secret KEY: it is missing"
    assert readings(stage) == 4  # at once, then after 1, 2 and 4 s
    stage.vault = {"web": "1"}
    stage.wait(30)
    assert stage.alive("web") == ["web.1"]


def test_another_value_replaces_the_processes_one_by_one() -> None:
    stage = Stage()
    stage.vault = {"web": "1"}
    stage.apply(spec(web=watcher(numprocesses=2, secrets=KEY))).wait(10)
    before = stage.pid("web.1"), stage.pid("web.2")
    stage.tell(SecretsRead("web", "1", KEY)).wait(10)
    assert before == (stage.pid("web.1"), stage.pid("web.2"))
    stage.tell(SecretsRead("web", "2", KEY))
    assert stage.pid("web.1") != before[0] and stage.pid("web.2") == before[1]
    stage.wait(10)
    assert stage.pid("web.2") != before[1]
    assert stage.status("web").as_desired


def test_an_edit_of_how_often_a_secret_is_read_replaces_nothing() -> None:
    stage = Stage()
    stage.vault = {"web": "1"}
    often = {"KEY": SecretSpec(cmd=("vault",), refresh=60 * 10**9)}
    stage.apply(spec(web=watcher(secrets={"KEY": SecretSpec(cmd=("vault",))}))).wait(60)
    before = stage.pid("web.1")
    stage.apply(spec(web=watcher(secrets=often))).wait(60)
    assert stage.pid("web.1") == before
    stage.tell(SecretsRead("web", "2", often)).wait(10)
    assert stage.pid("web.1") != before


def test_a_secret_that_is_lost_touches_nothing_and_its_last_value_stays_good() -> None:
    stage = Stage()
    stage.vault = {"web": "1"}
    stage.apply(spec(web=watcher(secrets=KEY))).wait(60)
    before = stage.pid("web.1")
    stage.tell(SecretsUnreadable("web", "gone", KEY)).wait(3600)
    assert stage.pid("web.1") == before
    stage.exit("web.1", 1)
    assert stage.alive() == ["web.1"]


def test_a_new_controller_reads_nothing_while_everything_runs() -> None:
    wanted = spec(web=watcher(numprocesses=2, secrets=KEY))
    stage = Stage()
    stage.vault = {"web": "1"}
    stage.apply(wanted).wait(60)
    before = readings(stage)
    stage.new_controller(wanted).wait(3600)
    assert readings(stage) == before
    assert stage.status("web").as_desired
    stage.exit("web.1", 1)
    assert (readings(stage), len(stage.alive())) == (before + 1, 2)


@pytest.mark.parametrize("change", ["spec", "restart", "age"])
def test_nothing_is_stopped_that_could_not_be_started_again(change: str) -> None:
    wanted = spec(web=watcher(secrets=KEY, max_age=100 * 10**9))
    stage = Stage()
    stage.vault = {"web": "1"}
    stage.apply(wanted).wait(50)
    stage.vault, before = {}, stage.pid("web.1")
    stage.new_controller(wanted)
    if change == "spec":
        stage.apply(spec(web=watcher(secrets=OTHER)))
    elif change == "restart":
        stage.tell(IntentChanged("web", Intent(restart_tokens={0: 1})))
    stage.wait(500)
    assert stage.pid("web.1") == before
    stage.vault = {"web": "1"}
    stage.wait(40)
    assert stage.pid("web.1") != before


def test_what_was_read_for_a_former_spec_starts_nothing() -> None:
    stage = Stage()
    stage.vault = {"web": "1"}
    stage.apply(spec(web=watcher(secrets=KEY))).wait(60)
    stage.vault, before = {}, stage.pid("web.1")
    stage.apply(spec(web=watcher(secrets=OTHER)))
    # It was on its way when the spec changed.
    stage.tell(SecretsRead("web", "1", KEY)).wait(60)
    assert stage.pid("web.1") == before
    stage.vault = {"web": "1"}
    stage.wait(40)
    assert stage.pid("web.1") != before


@pytest.mark.parametrize(
    "between", [spec(db=watcher()), spec(web=watcher()), spec(web=watcher(secrets=OTHER))]
)
def test_sources_that_come_back_are_read_anew(between: Spec) -> None:
    stage = Stage()
    stage.vault, stage.stubborn = {"web": "1"}, frozenset({"web.1"})
    wanted = spec(web=watcher(secrets=KEY))
    stage.apply(wanted).wait(60)
    stage.vault = {}
    # A value that was on its way when the spec changed: whoever read it lets go of it, too.
    stage.apply(between).tell(SecretsRead("web", "1", KEY)).wait(0.1)
    stage.apply(wanted).wait(60)
    if stage.alive() == ["web.1"]:
        stage.exit("web.1", 1).wait(60)
    assert stage.spawned("web") == ["web.1"]
    stage.vault = {"web": "1"}
    assert stage.wait(60).alive() == ["web.1"]


def test_a_job_fires_once_for_each_value_and_not_for_a_new_controller() -> None:
    wanted = spec(fill=job(secrets=KEY))
    stage = Stage()
    stage.vault = {"fill": "1"}
    stage.apply(wanted).exit("fill.1")
    assert stage.generations["fill"] == [1]
    runs = stage.reconciler.observed("fill").job
    stage.new_controller(wanted, [JobChanged("fill", runs)]).wait(60)
    assert (stage.generations["fill"], readings(stage)) == ([1], 1)
    stage.tell(SecretsRead("fill", "1", KEY)).wait(60)
    assert stage.generations["fill"] == [1]
    stage.tell(SecretsRead("fill", "2", KEY))
    assert stage.generations["fill"] == [1, 2]


def test_a_rerun_that_could_not_compare_secrets_is_no_reason_to_fire_again() -> None:
    wanted = spec(fill=job(secrets=KEY))
    stage = Stage()
    stage.vault = {"fill": "1"}
    stage.apply(wanted).exit("fill.1")
    known = stage.reconciler.observed("fill").job
    stage.new_controller(wanted, [JobChanged("fill", known)])
    generation = stage.rerun("fill", None, failed=False, overlap=None).generation
    stage.tell(JobChanged("fill", Job(generation, known.runs)))
    assert stage.alive() == ["fill.1"]
    stage.exit("fill.1").wait(60)
    assert stage.generations["fill"] == [1]
    assert stage.spawned("fill") == ["fill.1", "fill.1"]


def test_a_secret_that_changes_all_the_time_does_not_replace_without_end() -> None:
    stage = Stage()
    stage.vault["web"] = "0"
    stage.apply(spec(web=watcher(secrets=KEY))).wait(100)
    for number in range(1, 60):
        stage.vault["web"] = str(number)
        stage.tell(SecretsRead("web", str(number), KEY)).wait(3)
    assert 4 <= len(stage.signals()) <= 7
    assert "held back" in stage.status("web").note
    assert "its secrets changed each time" in stage.status("web").note
