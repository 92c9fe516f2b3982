"""Claims about when a revision is good, when it is not, and what becomes of its roll."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core import verdict
from reconciler.core.intents import reloaded, restarted, scaled, stopped
from reconciler.model.action import Spawn
from reconciler.model.intent import Intent, RequestedBy
from reconciler.model.job import Job
from reconciler.model.observation import (
    IntentChanged,
    JobChanged,
    ShutdownAsked,
    SignalAsked,
)
from reconciler.model.process import Exited, LaunchError, ProcessRecord, Running
from reconciler.model.revision import Trial
from reconciler.model.spec import BackoffSpec, HookSpec, HooksSpec, ReloadByCommand, ReloadBySignal
from reconciler.model.value import replace
from tests.core.stage import HOOK, S, Stage, job, listener, spec, watcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from reconciler.model.revision import OnFailure
    from reconciler.model.spec import Spec, WatcherSpec

ALICE = RequestedBy("alice", "", 0)
OLD, NEW = ("old",), ("new",)
WAITS = BackoffSpec(burst=0, initial=100 * S, max=100 * S, jitter=0)


def web(cmd: tuple[str, ...] = OLD, n: int = 3, **fields: object) -> WatcherSpec:
    return watcher(cmd=cmd, numprocesses=n, **fields)


def rolled(n: int = 3, on_failure: OnFailure = "pause", **fields: object) -> Stage:
    """Return a stage on which a new command has just been applied over one that has run for long."""
    stage = Stage().apply(spec(web=web(n=n, **fields), db=watcher())).wait(100)
    return stage.try_out(spec(web=web(NEW, n, **fields), db=watcher()), on_failure)


def commands(stage: Stage, name: str = "web") -> list[str]:
    """Return what runs in each slot, by the newest start of each."""
    newest = {a.id: a.launch.argv[0] for _, a in stage.history if isinstance(a, Spawn)}
    return [newest[id] for id in sorted(stage.records, key=str) if id.owner == name]


def test_a_revision_is_good_once_all_that_it_changed_stayed_up() -> None:
    stage = rolled(2).wait(1)  # the second slot goes when the first has lived a second
    assert stage.wait(9.9).outcome == "pending"
    assert stage.wait(0.1).outcome == "good"
    assert [(v.trial.outcome, v.watcher) for v in stage.verdicts] == [("good", "")]
    assert stage.wait(3600).last.wake_at_ns is None


def test_what_it_did_not_change_never_counts() -> None:
    stage = rolled(1)
    for _ in range(3):
        stage.exit("db.1", 1).wait(1)
    assert stage.wait(10).outcome == "good"


def test_a_process_that_does_not_stay_up_stops_the_roll_where_it_is() -> None:
    stage = rolled().wait(1.5).exit("web.1", 3)
    assert stage.outcome == "paused"
    assert stage.trial is not None
    assert stage.trial.reason == "web.1 ended with exit 3 after 1.5s"
    assert [(v.watcher, v.slot) for v in stage.verdicts] == [("web", 1)]
    # The second was under way; the third stays as it was, for good.
    assert commands(stage.wait(3600)) == ["new", "new", "old"]
    assert not stage.status("web").as_desired
    assert (stage.status("web").state, stage.status("web").note[:6]) == ("Rolling", "paused")


def test_a_slot_on_trial_that_died_is_still_kept_alive() -> None:
    stage = rolled().exit("web.1", 3).wait(1)
    assert "web.1" in stage.alive()


def test_a_new_trial_of_the_same_revision_goes_on_with_the_roll() -> None:
    stage = rolled().exit("web.1", 3).wait(60)
    assert stage.trial is not None
    stage.revision -= 1
    stage.apply(
        stage.reconciler.spec,
        replace(stage.trial, begun_ns=stage.now, outcome="pending", reason=""),
    )
    assert commands(stage.wait(2)) == ["new", "new", "new"]
    assert stage.wait(20).outcome == "good"


def test_what_condemned_the_first_trial_does_not_condemn_the_next() -> None:
    stage = rolled(2, backoff=WAITS).exit("web.1", 3).wait(5)
    assert stage.trial is not None
    stage.revision -= 1
    wanted, trial = stage.reconciler.spec, stage.trial
    stage.apply(wanted, replace(trial, begun_ns=stage.now, outcome="pending", reason=""))
    assert stage.wait(50).outcome == "pending"  # dead, and not yet due
    assert stage.wait(50).outcome == "pending"  # started again: its memory is of the first trial
    assert stage.wait(20).outcome == "good"


def test_with_keep_the_roll_goes_on_and_the_outcome_says_it() -> None:
    stage = rolled(on_failure="keep").exit("web.1", 1)
    assert stage.outcome == "failed"
    assert commands(stage.wait(10)) == ["new", "new", "new"]
    assert stage.outcome == "failed"


def test_with_rollback_the_roll_stops_until_the_older_content_comes() -> None:
    stage = rolled(on_failure="rollback").exit("web.1", 1).wait(5)
    assert (stage.outcome, commands(stage)) == ("rolled_back", ["new", "old", "old"])
    stage.try_out(spec(web=web(), db=watcher()), "keep").wait(20)
    assert (stage.outcome, commands(stage)) == ("good", ["old", "old", "old"])
    assert [str(a.id) for _, a in stage.history if isinstance(a, Spawn)].count("web.2") == 1


def test_only_a_death_within_the_time_counts() -> None:
    stage = rolled(2).wait(10.5).exit("web.1", 1)
    assert stage.outcome == "pending"
    assert stage.wait(9).outcome == "pending"
    assert stage.wait(1.1).outcome == "good"


def test_all_watchers_have_to_stay_up_at_the_same_time() -> None:
    stage = Stage().apply(spec(web=web(n=1), api=web(n=3))).wait(100)
    stage.try_out(spec(web=web(NEW, 1), api=web(NEW, 3))).wait(11).exit("web.1", 1)
    assert stage.wait(9.5).outcome == "pending"
    assert stage.wait(0.6).outcome == "good"


def test_processes_that_are_replaced_young_prove_themselves_younger() -> None:
    stage = rolled(2, max_age=8 * S).wait(4.9)
    assert stage.outcome == "pending"
    assert stage.wait(0.1).outcome == "good"


def test_what_an_operator_replaces_or_stops_did_not_fail() -> None:
    stage = rolled(1).wait(3)
    stage.tell(IntentChanged("web", restarted(Intent(), None, at_once=False))).wait(3)
    assert stage.outcome == "pending"
    stage.tell(IntentChanged("web", stopped(Intent(), ALICE)))
    assert stage.wait(60).outcome == "pending"


def test_an_operators_restart_of_what_is_paused_leaves_the_old_ones_alone() -> None:
    stage = rolled().exit("web.1", 3).wait(5)
    stage.tell(IntentChanged("web", restarted(Intent(), None, at_once=True))).wait(60)
    assert commands(stage) == ["new", "old", "old"]
    assert stage.spawned("web.1")[3:] == ["web.1"]


def test_an_old_process_that_dies_says_nothing_against_the_new_command() -> None:
    stage = Stage().apply(spec(web=web(backoff=WAITS)))
    stage.exit("web.3", 1).wait(50).try_out(spec(web=web(NEW, backoff=WAITS)))
    assert commands(stage) == ["old", "old", "new"]
    stage.exit("web.2", 1)
    assert stage.outcome == "pending"
    assert stage.wait(20).outcome == "good"


def test_added_slots_alone_are_on_trial() -> None:
    stage = Stage().apply(spec(web=web(n=2))).wait(100).try_out(spec(web=web(n=4)))
    assert stage.trial is not None
    assert stage.trial.changed == {"web": 3}
    stage.exit("web.1", 1)
    assert stage.outcome == "pending"
    stage.exit("web.4", 1)
    assert stage.outcome == "paused"


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        (spec(web=web()), spec(web=web(n=2)), {}),
        (spec(web=web()), spec(web=web(labels={"a": "b"})), {}),
        (spec(web=web()), spec(web=web(), db=watcher()), {"db": 1}),
        (spec(web=web()), spec(db=watcher(autostart=False)), {}),
        (spec(web=web(n=0)), spec(web=web(n=1)), {"web": 1}),
        (spec(web=job()), spec(web=web()), {"web": 1}),
        (spec(), spec(job=job(numprocesses=2)), {"job": 1}),
        (
            spec({"http": listener(80)}, web=web(use_sockets=("http",)), db=watcher()),
            spec({"http": listener(81)}, web=web(use_sockets=("http",)), db=watcher()),
            {"web": 1},
        ),
    ],
)
def test_what_a_revision_changes(old: Spec, new: Spec, changed: dict[str, int]) -> None:
    stage = Stage().apply(old).wait(100).try_out(new)
    assert stage.trial is not None
    assert stage.trial.changed == changed


def test_a_revision_that_starts_nothing_is_good_at_once() -> None:
    stage = Stage().apply(spec(web=web())).wait(100).try_out(spec(web=web(labels={"a": "b"})))
    assert stage.outcome == "good"


def test_an_operators_scale_says_how_many_have_to_stay_up() -> None:
    stage = Stage().apply(spec(web=web(n=3))).wait(100)
    stage.tell(IntentChanged("web", scaled(Intent(), ALICE, 1)))
    stage.wait(5).try_out(spec(web=web(NEW, 3)))
    assert stage.wait(10).outcome == "good"


# ---- what others do -------------------------------------------------------------------------------


def test_a_stop_leaves_the_verdict_open_until_what_is_new_has_run() -> None:
    stage = rolled(1).wait(2)
    stage.tell(IntentChanged("web", stopped(Intent(), ALICE))).wait(3600)
    assert stage.outlook == (None, "web: it is stopped by alice; `reconcile start web` starts it")
    stage.tell(IntentChanged("web", Intent())).wait(3)
    assert stage.outlook == (7, "")
    assert stage.exit("web.1", 1).outcome == "paused"


@pytest.mark.parametrize("held", [stopped(Intent(), ALICE), scaled(Intent(), ALICE, 0)])
@pytest.mark.parametrize("kind", [web, job])
def test_an_edit_of_what_is_held_is_judged_once_it_runs(
    held: Intent, kind: Callable[..., WatcherSpec]
) -> None:
    stage = Stage().apply(spec(web=kind(cmd=OLD, numprocesses=1) if kind is job else web(n=1)))
    stage.wait(5).tell(IntentChanged("web", held)).wait(5)
    wanted = spec(web=job(cmd=NEW) if kind is job else web(NEW, 1))
    assert stage.try_out(wanted).wait(3600).outcome == "pending"
    stage.tell(IntentChanged("web", Intent())).wait(1)
    assert stage.exit("web.1", 7).outcome == "paused"


def test_slots_that_an_operator_took_away_have_proven_nothing() -> None:
    stage = Stage().apply(spec(web=web(n=2))).wait(100)
    stage.try_out(spec(web=web(n=4))).tell(IntentChanged("web", scaled(Intent(), ALICE, 2)))
    assert stage.wait(60).outcome == "pending"
    stage.tell(IntentChanged("web", scaled(Intent(), ALICE, 3)))
    assert stage.wait(9).outcome == "pending"
    assert stage.wait(1).outcome == "good"


@pytest.mark.parametrize("signal", ["TERM", "KILL", "INT"])
def test_what_an_operators_signal_ends_has_not_failed(signal: str) -> None:
    stage = rolled(1, "rollback").wait(3).tell(SignalAsked("web", 1, signal))
    assert stage.wait(3).outcome == "pending"
    assert stage.alive("web") == ["web.1"]
    assert stage.outlook == (7, f"web.1 was ended by an operator's SIG{signal}")
    assert (stage.slot("web.1").restarts, stage.slot("web.1").attempt) == (1, 0)
    assert stage.wait(7).outcome == "good"


def test_a_program_that_exits_upon_an_operators_signal_has_not_failed() -> None:
    stage = rolled(1).wait(3).tell(SignalAsked("web", 1, "USR2")).wait(2)
    assert stage.exit("web.1", 143).wait(1).outcome == "pending"
    stage.tell(SignalAsked("web", 1, "USR2")).wait(2).new_controller(stage.reconciler.spec)
    assert stage.exit("web.1", 143).wait(1).outcome == "pending"


def test_what_ends_long_after_an_operators_signal_has_failed() -> None:
    stage = Stage().apply(spec(web=web(n=1))).wait(100)
    stage.apply(
        spec(web=web(NEW, 1)),
        replace(_trial(stage, spec(web=web(NEW, 1))), confirm_after=100 * S),
    )
    stage.wait(3).tell(SignalAsked("web", 1, "USR1")).wait(20)
    assert stage.exit("web.1", 1).outcome == "paused"


def _trial(stage: Stage, wanted: Spec) -> Trial:
    core = stage.reconciler
    changed = verdict.changed(core.spec, wanted, core.observed, core.facts)
    return Trial(changed, stage.now, 10 * S, "pause")


@pytest.mark.parametrize("reload", ["HUP", "command"])
def test_what_a_reload_ends_has_not_failed(reload: str) -> None:
    how = ReloadBySignal("HUP") if reload == "HUP" else ReloadByCommand(("reload",))
    stage = rolled(1, reload=how).wait(3)
    stage.tell(IntentChanged("web", reloaded(Intent(), None))).wait(1)
    assert stage.exit("web.1", 1).wait(1).outcome == "pending"


def test_a_restart_begins_the_trial_anew_and_says_so() -> None:
    stage = rolled(1).wait(4)
    stage.tell(IntentChanged("web", restarted(Intent(), None, at_once=False))).wait(3)
    assert stage.outlook == (7, "web.1 was restarted")
    assert stage.wait(7).outcome == "good"


def test_a_job_that_an_operator_stops_is_judged_by_its_next_run() -> None:
    stage = Stage().apply(spec(job=job())).exit("job.1", 0).wait(10).try_out(spec(job=job(cmd=NEW)))
    stage.wait(1).tell(SignalAsked("job", 1, "TERM")).wait(60)
    assert stage.outcome == "pending"
    assert stage.runs[-1].run.outcome == "stopped"
    assert stage.outlook[1] == "job.1 was stopped: use `reconcile rerun job`"


def test_what_is_not_proven_stays_on_trial_through_the_next_edit() -> None:
    stage = rolled(1).wait(5).try_out(spec(web=web(NEW, 1), db=watcher(cmd=NEW))).wait(3)
    assert stage.exit("web.1", 1).outcome == "paused"


def test_an_edit_of_something_else_lets_no_paused_roll_go_on_unjudged() -> None:
    stage = rolled().exit("web.1", 3).wait(60)
    assert stage.outcome == "paused"
    stage.try_out(spec(web=web(NEW, 3), db=watcher(cmd=NEW))).wait(2)
    assert stage.outcome == "pending"
    assert stage.exit("web.3", 3).outcome == "paused"


def test_a_good_revision_says_what_was_measured() -> None:
    def why(stage: Stage) -> str:
        assert stage.outcome == "good"
        assert stage.trial is not None
        return stage.trial.reason

    assert why(rolled(2).wait(12)) == "what it changed stayed up for 10s"
    assert why(rolled(1, max_age=8 * S).wait(5)) == "what it changed stayed up for 4s"
    # What is gone has proven nothing.
    stage = rolled(2).wait(10.5).tell(IntentChanged("web", scaled(Intent(), ALICE, 1)))
    assert why(stage) == "what it changed stayed up for 10s"
    stage = Stage().apply(spec(job=job(), a=watcher())).exit("job.1", 0).wait(10)
    assert why(stage.try_out(spec(job=job()))) == ""
    assert why(stage.try_out(spec(job=job(cmd=NEW))).exit("job.1", 0)) == "what it fired succeeded"


# ---- what cannot be started -----------------------------------------------------------------------


def test_a_program_that_cannot_be_executed_fails_its_revision() -> None:
    stage = Stage().apply(spec(db=watcher())).wait(100)
    stage.unstartable = {"web.1": LaunchError("exec", "ENOENT", "/bin/nothing", "no such file")}
    stage.try_out(spec(db=watcher(), web=web(NEW, 1)))
    assert stage.outcome == "paused"
    assert stage.trial is not None
    assert "cannot execute /bin/nothing: no such file" in stage.trial.reason


def test_a_shortage_and_a_port_in_use_decide_nothing() -> None:
    stage = Stage().apply(spec(db=watcher())).wait(100)
    stage.unstartable = {"web.1": LaunchError("fork", "EAGAIN")}
    stage.refused_ports = {81}
    wanted = spec(
        {"http": listener(81)}, db=watcher(), web=web(n=1), api=web(use_sockets=("http",))
    )
    assert stage.try_out(wanted).wait(60).outcome == "pending"
    stage.unstartable, stage.refused_ports = {}, set()
    assert stage.wait(60).outcome == "good"


@pytest.mark.parametrize("hook", ["before_start", "before_spawn", "after_spawn", "after_start"])
def test_a_hook_that_says_no_fails_the_revision(hook: str) -> None:
    stage = Stage().apply(spec(db=watcher())).wait(100)
    stage.try_out(spec(db=watcher(), web=web(n=1, hooks=HooksSpec(**{hook: HOOK}))))
    slot = "" if hook in {"before_start", "after_start"} else ".1"
    assert stage.wait(20).outcome == "pending"
    stage.exit(f"web{slot}:{hook}", 1)
    assert stage.outcome == "paused"
    assert stage.trial is not None
    assert hook in stage.trial.reason


@pytest.mark.parametrize("on_failure", ["pause", "keep"])
def test_another_hook_puts_what_the_former_one_failed_on_trial_anew(on_failure: OnFailure) -> None:
    stage = Stage().apply(spec(web=web(n=1))).wait(100)
    broken = web(NEW, 1, hooks=HooksSpec(before_spawn=HOOK))
    stage.try_out(spec(web=broken), on_failure).exit("web.1:before_spawn", 1)
    assert stage.outcome == {"pause": "paused", "keep": "failed"}[on_failure]
    mended = web(NEW, 1, hooks=HooksSpec(before_spawn=HookSpec(cmd=("mended",))))
    stage.wait(0.5).try_out(spec(web=mended), on_failure)
    assert stage.outcome == "pending"
    stage.exit("web.1:before_spawn", 0)
    assert stage.wait(30).outcome == "good"


def test_a_service_that_rests_after_success_has_proven_itself() -> None:
    stage = Stage().try_out(spec(web=watcher(restart="on-failure"))).exit("web.1", 0)
    assert stage.outcome == "good"


# ---- jobs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "outcome"), [(0, "good"), (3, "paused")])
def test_a_job_counts_by_its_outcome_however_long_it_takes(code: int, outcome: str) -> None:
    stage = Stage().apply(spec(job=job())).exit("job.1", 1).wait(100)
    stage.try_out(spec(job=job(cmd=NEW)))
    assert stage.wait(3600).outcome == "pending"
    stage.exit("job.1", code)
    assert stage.outcome == outcome


def test_a_job_that_the_revision_does_not_fire_does_not_count() -> None:
    stage = Stage().apply(spec(job=job())).exit("job.1", 1).wait(100)
    stage.try_out(spec(job=job(cmd=NEW, rerun_on=("boot",))))
    assert stage.outcome == "good"


def test_a_job_of_a_lost_ledger_does_not_keep_the_revision_open() -> None:
    stage = Stage().tell(JobChanged("job", Job(known=False)))
    assert stage.try_out(spec(job=job(), web=web(n=1))).wait(10).outcome == "good"


# ---- the end of the controller, and of everything -------------------------------------------------


def test_a_new_controller_comes_to_the_same_verdict() -> None:
    stage = rolled().wait(1.5)
    wanted = stage.reconciler.spec
    # The death was seen and answered, but the controller died before its verdict lay on the disk.
    pending = stage.trial
    stage.exit("web.1", 1)
    assert stage.outcome == "paused"
    stage.trial = pending
    stage.new_controller(wanted)
    assert stage.outcome == "paused"
    assert stage.trial is not None
    assert stage.trial.reason == "web.1 did not stay up"
    assert commands(stage.wait(3600)) == ["new", "new", "old"]


def test_a_paused_roll_stays_paused_under_a_new_controller() -> None:
    stage = rolled().exit("web.1", 1)
    stage.new_controller(stage.reconciler.spec).wait(3600)
    assert commands(stage) == ["new", "old", "old"]
    assert len(stage.verdicts) == 1


def test_the_time_goes_on_under_a_new_controller() -> None:
    stage = rolled(1).wait(6)
    stage.new_controller(stage.reconciler.spec)
    assert stage.wait(3.9).outcome == "pending"
    assert stage.wait(0.2).outcome == "good"


@pytest.mark.parametrize("count", range(4))
@pytest.mark.parametrize("order", ["restart", "reload"])
def test_what_a_controller_ended_that_was_killed_amid_its_words_has_not_failed(
    order: str, count: int
) -> None:
    stage = rolled(1, reload=ReloadBySignal("INT")).wait(3)
    intent = restarted(Intent(), None, at_once=False)
    intent = intent if order == "restart" else reloaded(Intent(), None)
    stage.last_words(IntentChanged("web", intent), count=count)
    stage.new_controller(stage.reconciler.spec, [IntentChanged("web", intent)])
    assert (stage.outcome, stage.slot("web.1").attempt) == ("pending", 0)
    assert stage.wait(20).outcome == "good"


def test_nothing_is_decided_while_everything_stops() -> None:
    stage = rolled(1).wait(3).tell(ShutdownAsked()).wait(60)
    assert (stage.outcome, stage.quit) == ("pending", 0)


# ---- any history ----------------------------------------------------------------------------------


class Ledger:
    """Knows births and deaths of a watcher's new processes by looking at the records, and nothing else."""

    def __init__(self) -> None:
        self.failed = False

    def look(self, stage: Stage, old: set[str]) -> None:
        for record in stage.records.values():
            phase = record.phase
            if record.template_hash not in old and isinstance(phase, Exited):
                assert phase.started_at_ns is not None
                self.failed |= phase.at_ns - phase.started_at_ns < 10 * S

    def proven(self, stage: Stage, old: set[str], n: int) -> bool:
        def stayed(record: ProcessRecord) -> bool:
            phase = record.phase
            return isinstance(phase, Running) and stage.now - phase.started_at_ns >= 10 * S

        new = [r for r in stage.records.values() if r.template_hash not in old]
        return len(new) == n and all(map(stayed, new))


STEPS = st.lists(
    st.one_of(
        st.floats(0.1, 12).map(lambda s: lambda stage: stage.wait(round(s, 1))),
        st.integers(1, 3).map(lambda slot: lambda stage: die(stage, slot)),
        st.just(lambda stage: stage.new_controller(stage.reconciler.spec)),
    ),
    max_size=12,
)


def die(stage: Stage, slot: int) -> None:
    if f"web.{slot}" in stage.alive():
        stage.exit(f"web.{slot}", 1)


@given(STEPS, st.sampled_from(["pause", "keep", "rollback"]))
@settings(max_examples=150, deadline=None)
def test_the_verdict_is_what_births_and_deaths_say(
    steps: list[Callable[[Stage], object]], on_failure: OnFailure
) -> None:
    backoff = BackoffSpec(burst=0, initial=S // 2, max=S // 2, jitter=0)  # the dead can be seen
    stage = Stage().apply(spec(web=web(backoff=backoff))).wait(100)
    old = {record.template_hash for record in stage.records.values()}
    stage.try_out(spec(web=web(NEW, backoff=backoff)), on_failure)
    ledger = Ledger()
    expected = "pending"
    for step in steps:
        step(stage)
        if expected == "pending":
            ledger.look(stage, old)
            failed = {"pause": "paused", "keep": "failed", "rollback": "rolled_back"}[on_failure]
            expected = failed if ledger.failed else expected
            if expected == "pending" and ledger.proven(stage, old, 3):
                expected = "good"
        if stage.outcome == "good" and expected == "pending":
            # It was proven between two of our looks: then nothing new has died young until now.
            assert not ledger.failed
            expected = "good"
        assert stage.outcome == expected
        if expected in {"paused", "rolled_back"}:
            return


def test_what_a_verdict_has_stopped_goes_on_when_a_later_revision_says_the_same() -> None:
    stage = rolled(3).wait(0.5)
    new = f"web.{commands(stage).index('new') + 1}"
    assert stage.exit(new, 1).wait(60).outcome == "paused"
    assert sorted(commands(stage)) == ["new", "old", "old"]
    stage.apply(spec(web=web(NEW, 3), db=watcher())).wait(60)
    assert commands(stage) == ["new"] * 3


def test_so_does_what_the_verdict_has_stopped_of_an_earlier_revision() -> None:
    stage = Stage().apply(spec(web=web(n=3), db=watcher())).wait(100)
    stage.apply(spec(web=web(NEW, 3), db=watcher())).wait(0.5)
    stage.try_out(spec(web=web(NEW, 3), db=watcher(cmd=NEW))).exit("db.1", 1).wait(60)
    assert (stage.outcome, commands(stage)) == ("paused", ["new", "old", "old"])
    stage.apply(spec(web=web(NEW, 3), db=watcher())).wait(60)
    assert commands(stage) == ["new"] * 3
