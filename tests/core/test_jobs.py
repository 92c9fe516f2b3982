from __future__ import annotations

import pytest

from reconciler.core.generations import result
from reconciler.core.intents import stopped
from reconciler.model.action import ReadSecrets, RecordRun, Spawn
from reconciler.model.intent import Intent, RequestedBy
from reconciler.model.job import Generation, Job, Run
from reconciler.model.observation import (
    IntentChanged,
    JobChanged,
    KeeperIntroduced,
    RunRecorded,
    ShutdownAsked,
)
from reconciler.model.observed import SecretsObserved
from reconciler.model.process import LaunchError
from reconciler.model.spec import HookSpec, HooksSpec, SecretSpec
from reconciler.model.value import replace
from tests.core.stage import HOOK, S, Stage, job, listener, spec, watcher

ALICE = RequestedBy("alice", "", 0)


def outcomes(stage: Stage, name: str = "job") -> dict[int, str | None]:
    return {slot: run.outcome for slot, run in stage.reconciler.observed(name).job.runs.items()}


def rerun(
    stage: Stage,
    slots: tuple[int, ...] | None = None,
    *,
    failed: bool = False,
    overlap: str | None = None,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    asked = stage.rerun("job", slots, failed=failed, overlap=overlap)  # type: ignore[arg-type]
    known = stage.reconciler.observed("job").job
    stage.tell(JobChanged("job", replace(known, generation=asked.generation)))
    return asked.fired, asked.running


def test_every_slot_is_fired_once_and_never_again() -> None:
    wanted = spec(job=job(numprocesses=2))
    stage = Stage().apply(wanted)
    stage.exit("job.1", 0).exit("job.2", 3).wait(3600)
    stage.apply(wanted).wait(3600)
    assert stage.spawned() == ["job.1", "job.2"]
    assert outcomes(stage) == {1: "succeeded", 2: "failed"}
    assert stage.status("job").state == "Failed"


def test_the_row_is_on_the_disk_before_the_process_is() -> None:
    stage = Stage()
    stage.hold_runs = True
    stage.apply(spec(job=job())).wait(10)
    assert stage.spawned() == []
    stage.hold_runs = False
    stage.tell(RunRecorded("job", stage.runs[0].run))
    assert stage.spawned() == ["job.1"]


def test_completed_jobs_are_as_desired_and_keep_nothing() -> None:
    stage = Stage().apply(spec(job=job())).exit("job.1", 0)
    assert stage.status("job").state == "Completed"
    assert stage.status("job").as_desired
    assert stage.records == {}
    assert stage.reconciler.jobs_done(stage.now) == 0


def test_an_edit_of_what_runs_fires_again_and_other_edits_do_not() -> None:
    task = job(numprocesses=2)
    stage = Stage().apply(spec(job=task)).exit("job.1").exit("job.2")
    stage.apply(spec(job=replace(task, description="words", priority=3)))
    assert len(stage.spawned()) == 2
    stage.apply(spec(job=replace(task, cmd=("other",))))
    assert len(stage.spawned()) == 4


def test_more_slots_fire_only_the_new_ones_and_fewer_keep_their_history() -> None:
    task = job(numprocesses=2)
    stage = Stage().apply(spec(job=task)).exit("job.1").exit("job.2")
    stage.apply(spec(job=replace(task, numprocesses=4)))
    assert stage.spawned() == ["job.1", "job.2", "job.3", "job.4"]
    stage.apply(spec(job=replace(task, numprocesses=2))).wait(1)
    stage.apply(spec(job=replace(task, numprocesses=4))).wait(1)
    assert stage.spawned() == ["job.1", "job.2", "job.3", "job.4"]
    assert outcomes(stage) == {1: "succeeded", 2: "succeeded", 3: "stopped", 4: "stopped"}


def test_a_rerun_fires_exactly_the_slots_that_do_not_run() -> None:
    stage = Stage().apply(spec(job=job(numprocesses=3))).exit("job.1").exit("job.3")
    pid = stage.pid("job.2")
    assert rerun(stage) == ((1, 3), (2,))
    assert stage.alive() == ["job.1", "job.2", "job.3"]
    assert stage.pid("job.2") == pid
    stage.exit("job.2").exit("job.1").exit("job.3").wait(3600)
    assert stage.spawned() == ["job.1", "job.2", "job.3", "job.1", "job.3"]
    assert stage.status("job").state == "Completed"


def test_a_rerun_of_failed_slots_and_of_one_slot() -> None:
    stage = Stage().apply(spec(job=job(numprocesses=3)))
    stage.exit("job.1").exit("job.2", 1).exit("job.3")
    assert rerun(stage, failed=True) == ((2,), ())
    stage.exit("job.2", 0)
    assert stage.status("job").state == "Completed"
    assert rerun(stage, (3,)) == ((3,), ())
    assert stage.alive() == ["job.3"]


def test_overlap_replace_stops_the_running_one_first() -> None:
    stage = Stage().apply(spec(job=job(overlap="replace"))).wait(1)
    assert rerun(stage) == ((1,), ())
    stage.wait(1)
    assert [name for _, name, _ in stage.signals()] == ["job.1"]
    assert stage.spawned() == ["job.1", "job.1"]


def test_overlap_queue_fires_a_running_slot_once_more_when_it_has_ended() -> None:
    stage = Stage().apply(spec(job=job(numprocesses=2, overlap="queue"))).exit("job.1").wait(1)
    for _ in range(3):
        assert rerun(stage) == ((1, 2), ())
        stage.exit("job.1").wait(1)
    assert stage.signals() == []
    assert stage.spawned() == ["job.1", "job.2", "job.1", "job.1", "job.1"]
    stage.exit("job.2").exit("job.2").wait(3600)
    assert stage.spawned("job.2") == ["job.2", "job.2"]
    assert stage.status("job").state == "Completed"


def test_a_spec_change_lets_the_running_slot_finish_first() -> None:
    task = job(numprocesses=2)
    stage = Stage().apply(spec(job=task)).exit("job.1").wait(1)
    stage.apply(spec(job=replace(task, cmd=("new",))))
    assert stage.spawned() == ["job.1", "job.2", "job.1"]
    stage.exit("job.2")
    assert stage.spawned() == ["job.1", "job.2", "job.1", "job.2"]


def test_without_spec_change_a_job_says_that_it_is_stale() -> None:
    task = job(rerun_on=("boot",))
    stage = Stage().apply(spec(job=task)).exit("job.1")
    stage.apply(spec(job=replace(task, cmd=("new",))))
    assert stage.spawned() == ["job.1"]
    assert "older spec" in stage.status("job").note


def test_a_new_controller_does_not_fire_again() -> None:
    task = spec(job=job(numprocesses=2))
    stage = Stage().apply(task).exit("job.1")
    known = stage.reconciler.observed("job").job
    stage.new_controller(task, [JobChanged("job", known)]).wait(10)
    assert stage.spawned() == ["job.1", "job.2"]
    stage.exit("job.2", 5)
    assert outcomes(stage) == {1: "succeeded", 2: "failed"}


def test_a_row_without_process_under_the_same_keeper_is_started() -> None:
    task = spec(job=job())
    stage = Stage()
    stage.hold_runs = True
    stage.apply(task)
    known = stage.reconciler.observed("job").job
    stage.hold_runs = False
    stage.new_controller(task, [JobChanged("job", known)])
    assert stage.spawned() == ["job.1"]


def test_a_before_spawn_hook_that_has_passed_waits_for_a_late_before_start() -> None:
    wanted = job(numprocesses=2, hooks=HooksSpec(before_start=HOOK, before_spawn=HOOK))
    stage = Stage().apply(spec(job=wanted)).exit("job:before_start")
    stage.exit("job.1:before_spawn").exit("job.2:before_spawn").exit("job.1", 0)
    rerun(stage, (1,))  # beside slot 2, which makes before_start unnecessary, until it ends
    stage.exit("job.2", 0)
    assert stage.spawned()[-2:] == ["job.1:before_spawn", "job:before_start"]
    stage.exit("job.1:before_spawn").exit("job:before_start")
    assert stage.spawned()[-2:] == ["job:before_start", "job.1"]


def test_hooks_that_have_passed_are_not_asked_again_when_their_row_was_never_written() -> None:
    task = spec(job=job(hooks=HooksSpec(before_start=HOOK, before_spawn=HOOK)))
    stage = Stage().apply(task)
    known = Job(stage.reconciler.observed("job").job.generation, {})
    stage.hold_runs = True
    stage.exit("job:before_start").exit("job.1:before_spawn")
    assert len(stage.runs) == 1
    stage.hold_runs = False
    stage.new_controller(task, [JobChanged("job", known)])
    assert stage.spawned() == ["job:before_start", "job.1:before_spawn", "job.1"]


def test_a_row_without_process_under_another_keeper_is_lost_and_not_fired() -> None:
    task = spec(job=job(rerun_on=()))
    stage = Stage()
    run = Run(1, 1, "another-keeper", "boot-1", 0)
    generation = Generation(1, "hash", "first", "boot-1", "another-keeper")
    stage.revision = 1
    stage.new_controller(task, [JobChanged("job", Job(generation, {1: run}))]).wait(10)
    assert stage.spawned() == []
    assert outcomes(stage) == {1: "lost"}


def test_a_damaged_ledger_fires_nothing_until_a_rerun() -> None:
    task = spec(job=job())
    stage = Stage()
    stage.revision = 1
    stage.new_controller(task, [JobChanged("job", Job(known=False))]).wait(10)
    assert stage.spawned() == []
    assert stage.status("job").state == "Unknown"


def test_an_open_run_of_a_damaged_ledger_is_lost_and_its_rerun_counts_on() -> None:
    stage = Stage()
    stage.hold_runs = True
    stage.apply(spec(job=job()))
    job_so_far = stage.reconciler.observed("job").job
    stage.hold_runs = False
    doubtful = Job(None, job_so_far.runs, known=False)
    stage.new_controller(spec(job=job()), [JobChanged("job", doubtful)]).wait(10)
    assert stage.spawned() == []
    assert outcomes(stage) == {1: "lost"}
    again = stage.rerun("job", None, failed=False, overlap=None).generation
    assert again.number == 2


def test_a_boot_fires_again_and_a_daemon_start_only_when_asked() -> None:
    done = Run(1, 1, "keeper-0", "boot-1", 0, outcome="succeeded")
    for rerun_on, boot, fires in (
        (("boot",), "boot-0", 1),
        (("boot",), "boot-1", 0),
        (("daemon_start",), "boot-1", 1),
        ((), "boot-0", 0),
    ):
        generation = Generation(1, "h", "first", boot, "keeper-0")
        stage = Stage()
        stage.revision = 1
        ledger = JobChanged("job", Job(generation, {1: done}))
        stage.new_controller(spec(job=job(rerun_on=rerun_on)), [ledger])
        assert len(stage.spawned()) == fires, (rerun_on, boot)


def test_a_timeout_ends_a_run_with_that_outcome() -> None:
    stage = Stage().apply(spec(job=job(timeout=30 * S))).wait(60)
    assert outcomes(stage) == {1: "timeout"}
    assert [at for at, *_ in stage.signals()] == [30.0]


@pytest.mark.parametrize(("code", "outcome"), [(0, "succeeded"), (3, "failed")])
def test_what_had_ended_before_it_was_stopped_was_not_stopped(code: int, outcome: str) -> None:
    """Its last output came late, or the controller stood still meanwhile."""
    stage = Stage()
    stage.drains = frozenset({"job.1", "job.2", "halt.1"})
    stage.apply(spec(job=job(numprocesses=2, timeout=30 * S), halt=job())).wait(29)
    stage.tell(IntentChanged("halt", stopped(Intent(), ALICE))).wait(1)
    assert len(stage.signals()) == 3
    stage.wait(1).exit("job.1", code, ago=1.5).exit("job.2", code, ago=0.5)
    stage.exit("halt.1", code, ago=2.5)
    assert outcomes(stage) == {1: outcome, 2: "timeout"}
    assert outcomes(stage, "halt") == {1: outcome}


def test_a_stopped_job_is_held() -> None:
    task = job()
    stage = Stage().apply(spec(job=task)).wait(1)
    stage.tell(IntentChanged("job", stopped(Intent(), ALICE))).wait(1)
    assert outcomes(stage) == {1: "stopped"}
    stage.apply(spec(job=replace(task, cmd=("new",)))).wait(60)
    assert stage.spawned() == ["job.1"]
    assert stage.status("job").state == "Held"


def test_a_program_that_cannot_be_executed_is_tried_max_retry_times() -> None:
    stage = Stage()
    stage.unstartable["job.1"] = LaunchError("exec", "ENOENT", "/no", "no such file")
    stage.apply(spec(job=job(max_retry=2))).wait(3600)
    assert len(stage.spawned()) == 3
    assert outcomes(stage) == {1: "failed"}
    assert "no such file" in stage.status("job").note


def test_a_veto_writes_its_row_and_fires_nothing() -> None:
    hooks = HooksSpec(before_start=HOOK)
    stage = Stage().apply(spec(job=job(numprocesses=2, hooks=hooks)))
    assert stage.alive() == []
    stage.exit("job:before_start", 1).wait(3600)
    assert stage.spawned() == ["job:before_start"]
    assert outcomes(stage) == {1: "vetoed", 2: "vetoed"}


def test_completion_runs_its_hooks_once_in_order() -> None:
    hooks = HooksSpec(before_stop=HOOK, after_stop=HOOK, after_complete=HOOK)
    stage = Stage().apply(spec(job=job(hooks=hooks))).exit("job.1", 0)
    for role in ("before_stop", "after_complete", "after_stop"):
        stage.exit(f"job:{role}")
    stage.wait(3600)
    assert stage.spawned() == ["job.1", "job:before_stop", "job:after_complete", "job:after_stop"]
    assert stage.records == {}


def test_every_run_gets_one_row_open_and_one_closed() -> None:
    stage = Stage().apply(spec(job=job(numprocesses=3)))
    for slot in (1, 2, 3):
        stage.exit(f"job.{slot}", slot)
    rows = [(a.run.slot, a.run.outcome) for _, a in stage.history if isinstance(a, RecordRun)]
    assert rows == [(1, None), (2, None), (3, None), (1, "failed"), (2, "failed"), (3, "failed")]


def test_jobs_beside_services_are_never_the_end() -> None:
    stage = Stage().apply(spec(job=job(), web=watcher())).exit("job.1")
    assert stage.reconciler.jobs_done(stage.now) is None


def test_job_hooks_by_python_that_return_false_veto_even_when_errors_are_ignored() -> None:
    hook = HookSpec(python="a.b", on_error="ignore")
    stage = Stage().apply(spec(job=job(hooks=HooksSpec(before_start=hook))))
    stage.exit("job:before_start", 100)
    assert outcomes(stage) == {1: "vetoed"}


def test_a_spawn_never_comes_before_its_row() -> None:
    stage = Stage().apply(spec(job=job(numprocesses=5)))
    seen: set[int] = set()
    for _, action in stage.history:
        if isinstance(action, RecordRun):
            seen.add(action.run.slot)
        if isinstance(action, Spawn):
            assert action.id.slot in seen


def test_another_keeper_is_told_by_its_introduction() -> None:
    stage = Stage().apply(spec(job=job()))
    stage.reconciler.step([KeeperIntroduced("keeper-2", "boot-1", 1, 0, "session")], stage.now)
    assert stage.reconciler.facts.keeper_id == "keeper-2"


def test_a_removed_job_is_not_tried_again() -> None:
    stage = Stage()
    stage.unstartable["job.1"] = LaunchError("fork", "EAGAIN")
    stage.apply(spec(job=job(), web=watcher())).wait(5)
    before = len(stage.spawned("job"))
    stage.apply(spec(web=watcher())).wait(60)
    assert len(stage.spawned("job")) == before
    assert stage.reconciler.names() == ["web"]


def lost_run(stage: Stage, task: object, *, boot: str = "boot-1") -> None:
    """Let a controller find an open run of slot 1 that an earlier keeper had started; slot 2 is done."""
    runs = {
        1: Run(1, 4, "keeper-0", boot, 0),
        2: Run(2, 4, "keeper-0", boot, 0, outcome="succeeded"),
    }
    generation = Generation(4, stage.reconciler.base_hash("job"), "first", boot, "keeper-0")
    wanted = spec(job=task)  # type: ignore[arg-type]
    run_hash = Stage().apply(wanted).reconciler.base_hash("job")
    ledger = Job(replace(generation, run_hash=run_hash), runs)
    stage.revision = 1
    stage.new_controller(wanted, [JobChanged("job", ledger)]).wait(10)


def test_x02_after_a_power_loss_a_run_in_doubt_is_lost_and_not_fired_again() -> None:
    stage = Stage()
    lost_run(stage, job(numprocesses=2, rerun_on=()), boot="boot-0")
    assert stage.spawned() == []
    assert outcomes(stage) == {1: "lost", 2: "succeeded"}
    assert "the machine went down while it ran" in stage.status("job").note


def test_x02_a_lost_run_is_fired_again_where_on_lost_says_so_and_its_neighbour_is_not() -> None:
    stage = Stage()
    lost_run(stage, job(numprocesses=2, rerun_on=(), on_lost="rerun"), boot="boot-0")
    assert stage.spawned() == ["job.1"]
    stage.exit("job.1", 0).wait(3600)
    assert stage.spawned() == ["job.1"]
    assert outcomes(stage) == {1: "succeeded", 2: "succeeded"}
    assert [(r.run.trigger, r.run.generation) for r in stage.runs[-1:]] == [("lost", 5)]


def test_a_boot_fires_a_lost_run_like_any_other_and_says_that_it_was_lost() -> None:
    stage = Stage()
    lost_run(stage, job(numprocesses=2), boot="boot-0")
    assert sorted(stage.spawned()) == ["job.1", "job.2"]
    ends = [(r.run.slot, r.run.outcome, r.run.trigger) for r in stage.runs]
    assert ends == [(1, "lost", "first"), (2, None, "boot"), (1, None, "boot")]


def test_a_held_job_is_not_fired_again_because_it_was_lost() -> None:
    task = spec(job=job(rerun_on=(), on_lost="rerun"))
    stage = Stage().apply(task)
    known = stage.reconciler.observed("job").job
    held = IntentChanged("job", Intent("stopped"))
    doubtful = replace(known.runs[1], keeper_id="keeper-0")
    stage.records.clear()
    stage.new_controller(task, [JobChanged("job", replace(known, runs={1: doubtful})), held])
    stage.wait(3600)
    assert stage.spawned() == ["job.1"]


def test_a_rerun_of_one_slot_does_not_take_another_ones_turn() -> None:
    stage = Stage().apply(spec(job=job(numprocesses=3, spawn_interval=10 * S)))
    stage.exit("job.1", 3)
    assert rerun(stage, (1,)) == ((1,), ())
    stage.wait(60)
    assert sorted(stage.spawned()) == ["job.1", "job.1", "job.2", "job.3"]


def test_each_run_says_what_fired_it() -> None:
    stage = Stage().apply(spec(job=job())).exit("job.1", 0)
    stage.apply(spec(job=job(cmd=("other",)))).exit("job.1", 0)
    asked = stage.rerun("job", None, failed=False, overlap=None, who="alice")
    known = stage.reconciler.observed("job").job
    stage.tell(JobChanged("job", replace(known, generation=asked.generation))).exit("job.1", 0)
    ended = [record.run for record in stage.runs if record.run.outcome]
    assert [(run.trigger, run.who) for run in ended] == [
        ("first", ""),
        ("spec_change", ""),
        ("operator", "alice"),
    ]
    assert all(run.pid is not None for run in ended)


def test_of_a_damaged_ledger_only_the_slots_that_are_named_are_fired() -> None:
    wanted = spec(job=job(numprocesses=3))
    stage = Stage()
    stage.revision = 1
    stage.new_controller(wanted, [JobChanged("job", Job(known=False))])

    def say(slots: tuple[int, ...] | None) -> None:
        asked = stage.rerun("job", slots, failed=False, overlap=None)
        known = stage.reconciler.observed("job").job
        stage.tell(JobChanged("job", replace(known, generation=asked.generation, known=True)))

    say((2,))
    stage.exit("job.2", 0).wait(3600)
    assert stage.spawned() == ["job.2"]
    assert [slot.state for slot in stage.status("job").slots] == ["Unknown", "Completed", "Unknown"]
    say((3,))
    stage.exit("job.3", 0).wait(3600)
    assert stage.spawned() == ["job.2", "job.3"]
    stage.apply(spec(job=job(numprocesses=4))).exit("job.4", 0)
    assert stage.spawned() == ["job.2", "job.3", "job.4"], "a new slot has not run for sure"
    say(None)
    assert sorted(stage.spawned()[3:]) == ["job.1", "job.2", "job.3", "job.4"]


def test_of_a_damaged_ledger_a_slot_that_runs_is_not_fired_again_when_it_ends() -> None:
    wanted = spec(job=job(numprocesses=2))
    stage = Stage().apply(wanted)
    stage.exit("job.1", 0)
    stage.new_controller(wanted, [JobChanged("job", Job(known=False))])
    asked = stage.rerun("job", None, failed=False, overlap=None)
    assert (asked.fired, asked.running) == ((1,), (2,))
    known = stage.reconciler.observed("job").job
    stage.tell(JobChanged("job", replace(known, generation=asked.generation, known=True)))
    stage.exit("job.1", 0).exit("job.2", 0).wait(3600)
    assert stage.spawned() == ["job.1", "job.2", "job.1"]


def test_a_job_without_autostart_is_fired_by_operators_only() -> None:
    task = job(numprocesses=2, autostart=False)
    stage = Stage().apply(spec(job=task)).wait(60)
    status = stage.status("job")
    assert (stage.spawned(), status.state, status.as_desired) == ([], "Stopped", True)
    assert "reconcile rerun job" in status.note
    assert rerun(stage, (2,)) == ((2,), ())
    stage.exit("job.2", 3).wait(60)
    status = stage.status("job")
    assert (stage.spawned(), status.state, status.as_desired) == (["job.2"], "Failed", False)
    assert rerun(stage) == ((1, 2), ())
    stage.exit("job.1", 0).exit("job.2", 0).wait(60)
    assert (stage.status("job").state, stage.status("job").as_desired) == ("Completed", True)
    # Neither an edit nor a boot nor more slots fire it.
    stage.apply(spec(job=replace(task, cmd=("other",), numprocesses=3))).wait(60)
    stage.tell(KeeperIntroduced("keeper-2", "boot-2", 1, 0, "session")).wait(60)
    assert len(stage.spawned()) == 3
    why = "autostart is false; `reconcile rerun job` runs it"
    assert stage.status("job").note == f"ran with an older spec: {why}"


def test_the_process_of_a_service_that_becomes_a_job_is_its_first_run() -> None:
    stage = Stage().apply(spec(job=watcher(numprocesses=2))).wait(30)
    stage.apply(spec(job=job(numprocesses=2))).wait(5)
    stage.exit("job.1", 0).wait(60)
    assert stage.slot("job.1").state == "Completed"
    stage.exit("job.2", 7).wait(60)
    assert (stage.spawned(), outcomes(stage)) == (["job.1", "job.2"], {1: "succeeded", 2: "failed"})
    # And one that has become a service and a job again in the middle of a run goes on with it.
    assert rerun(stage) == ((1, 2), ())
    stage.apply(spec(job=watcher(numprocesses=2))).wait(5)
    stage.exit("job.1", 1).wait(5)
    stage.apply(spec(job=job(numprocesses=2))).wait(5)
    stage.exit("job.1", 0).exit("job.2", 0).wait(60)
    assert stage.spawned()[2:] == ["job.1", "job.2", "job.1"]
    assert outcomes(stage) == {1: "succeeded", 2: "succeeded"}


def test_a_controller_that_dies_amid_the_change_to_a_job_fires_nothing() -> None:
    stage = Stage().apply(spec(job=watcher())).wait(30)
    wanted = spec(job=job())
    stage.hold_runs = True
    stage.apply(wanted)
    known = stage.reconciler.observed("job").job
    stage.hold_runs = False
    for lost in ({}, known.runs):  # with and without the row on the disk
        stage.new_controller(wanted, [JobChanged("job", replace(known, runs=lost))]).wait(5)
    stage.exit("job.1", 0).wait(60)
    assert (stage.spawned(), outcomes(stage)) == (["job.1"], {1: "succeeded"})


def test_a_rerun_of_a_scaled_job_fires_what_there_is() -> None:
    stage = Stage().apply(spec(job=job(numprocesses=3)))
    stage.exit("job.1").exit("job.2").exit("job.3")
    stage.tell(IntentChanged("job", replace(Intent(), scale=2)))
    assert (stage.status("job").want, stage.status("job").ready) == (2, 2)
    assert rerun(stage) == ((1, 2), ())
    assert stage.alive() == ["job.1", "job.2"]


def test_after_complete_is_told_the_exit_code_of_the_job() -> None:
    hooks = HooksSpec(after_complete=HOOK)
    stage = Stage().apply(spec(job=job(numprocesses=3, hooks=hooks)))
    stage.exit("job.1", 0).exit("job.2", 7).exit("job.3", None, signal="KILL")
    (told,) = [
        a for _, a in stage.history if isinstance(a, Spawn) and a.id.role == "after_complete"
    ]
    assert told.launch.env["RECONCILE_HOOK_EXIT_CODE"] == "7"
    assert result(stage.reconciler.observed("job").job, 1)[1] == 0
    # A hook that the end of everything kills has not timed out.
    stage.tell(ShutdownAsked(now=True))
    record = stage.events[-1]
    assert "timed out" not in record.message


@pytest.mark.parametrize("end", ["removed", "stopped"])
def test_a_run_that_is_due_when_its_job_ends_is_stopped_without_hooks_and_secrets(end: str) -> None:
    stage = Stage()
    stage.vault, stage.stubborn = {"job": "1"}, frozenset({"job.2"})
    hooks = HooksSpec(before_spawn=HookSpec(cmd=("hook",)))
    key = {"KEY": SecretSpec(file="/run/key")}
    stage.apply(spec(job=job(numprocesses=2, hooks=hooks, secrets=key)))
    stage.exit("job.1:before_spawn").exit("job.2:before_spawn").wait(5).exit("job.1", 0)
    rerun(stage, overlap="replace")  # slot 2 is fired once its run of before has ended
    stage.reconciler.note("job", secrets=SecretsObserved())  # as after another controller
    before = len(stage.history)
    if end == "removed":
        stage.apply(spec())
    else:
        stage.tell(IntentChanged("job", Intent(hold="stopped")))
    stage.wait(60)
    asked = [action for _, action in stage.history[before:]]
    assert not any(isinstance(each, ReadSecrets | Spawn) for each in asked)
    last = stage.runs[-1].run
    assert (last.slot, last.generation, last.outcome) == (2, 2, "stopped")
    assert stage.alive() == []


@pytest.mark.parametrize("waits_for", ["its socket", "its older run"])
def test_a_run_that_is_due_at_a_shutdown_is_fired_by_the_next_manager(waits_for: str) -> None:
    stage = Stage()
    stage.stubborn, stage.refused_ports = frozenset({"job.1"}), {82}
    stage.apply(spec({"http": listener(81)}, job=job(use_sockets=("http",)))).wait(5)
    wanted = stage.reconciler.spec
    if waits_for == "its socket":
        wanted = spec({"http": listener(82)}, job=job(use_sockets=("http",)))
        stage.exit("job.1", 0).apply(wanted).wait(5)
    else:
        rerun(stage, overlap="replace")
    stage.tell(ShutdownAsked()).wait(60)
    assert stage.quit is not None
    outcome = "succeeded" if waits_for == "its socket" else "stopped"
    runs = stage.reconciler.observed("job").job
    assert {slot: (run.generation, run.outcome) for slot, run in runs.runs.items()} == {
        1: (1, outcome)
    }
    stage.refused_ports = set()
    stage.new_controller(wanted, [JobChanged("job", runs)]).wait(60)
    assert (stage.runs[-1].run.generation, stage.alive()) == (2, ["job.1"])
