from __future__ import annotations

from reconciler.core.reconciler import Reconciler
from reconciler.core.settings import ADJUST_AGAIN_NS
from reconciler.model.action import Adjust
from reconciler.model.observation import (
    AccountsFound,
    KeeperIntroduced,
    RecordChanged,
    SnapshotEnded,
    SpecApplied,
)
from reconciler.model.process import NOT_KNOWN, DaemonSink, FileSink, Owned, Settings
from reconciler.model.spec import LogsSpec, StderrSpec, StdoutSpec, StopSpec
from reconciler.model.units import DAY_NS
from tests.core.stage import FACTS, S, Stage, job, process, spec, watcher

LOG = "/logs/web-1.log"


def adjusted(stage: Stage) -> list[tuple[float, str, Settings]]:
    return [(at, str(a.id), a.settings) for at, a in stage.history if isinstance(a, Adjust)]


def test_what_was_launched_as_the_spec_says_is_not_adjusted() -> None:
    stop = StopSpec(scope="group", ask="all", signal="INT", timeout=3 * S)
    logs = LogsSpec(timestamps=True, stderr=StderrSpec(file="/logs/err"))
    stage = Stage().apply(spec(web=watcher(stop=stop, logs=logs, numprocesses=2))).wait(60)
    assert adjusted(stage) == []
    in_force = stage.records[process("web.2")].settings
    out, err = FileSink("/logs/web-2.log", timestamps=True), FileSink("/logs/err", timestamps=True)
    assert in_force == Settings("group", "all", "INT", 3 * S, out, err)


def test_an_edit_of_the_stop_block_counts_for_what_runs() -> None:
    stage = Stage().apply(spec(web=watcher(stop=StopSpec(scope="process")))).wait(5)
    stop = StopSpec(scope="tree", ask="all", signal="INT", timeout=2 * S)
    stage.apply(spec(web=watcher(stop=stop))).wait(60)
    ((at, name, settings),) = adjusted(stage)
    assert (at, name) == (5.0, "web.1")
    assert settings == Settings("tree", "all", "INT", 2 * S, FileSink(LOG))
    assert stage.spawned() == ["web.1"]


def test_lines_to_a_log_daemon_say_whose_they_are_and_errors_that_they_are() -> None:
    logs = LogsSpec(stdout=StdoutSpec(to="journal"), stderr=StderrSpec(to="syslog"))
    stage = Stage().apply(spec(web=watcher(numprocesses=2, logs=logs))).wait(60)
    settings = stage.records[process("web.2")].settings
    assert (settings.stdout, settings.stderr) == (
        DaemonSink("journal", FACTS.instance, "web", 2, 6),
        DaemonSink("syslog", FACTS.instance, "web", 2, 3),
    )
    assert adjusted(stage) == []


def test_a_log_goes_to_its_owner_as_soon_as_the_number_is_known() -> None:
    logs = LogsSpec(mode=0o640, owner="www", group=7)
    stage = Stage().apply(spec(web=watcher(logs=logs), api=watcher())).wait(5)
    assert stage.records[process("web.1")].settings.stdout == FileSink(
        LOG, owned=Owned(0o640, NOT_KNOWN, 7)
    )
    stage.tell(AccountsFound({"www": 33}, {})).wait(60)
    known = FileSink(LOG, owned=Owned(0o640, 33, 7))
    assert [(at, name, s.stdout) for at, name, s in adjusted(stage)] == [(5.0, "web.1", known)]


def test_an_owner_that_is_not_known_any_more_or_not_yet_stays_as_it_is() -> None:
    logs = LogsSpec(owner="www")
    stage = Stage().apply(spec(web=watcher(logs=logs)))
    stage.tell(AccountsFound({"www": 33}, {})).wait(5)
    before = len(adjusted(stage))
    stage.new_controller(spec(web=watcher(logs=logs))).wait(60)
    assert len(adjusted(stage)) == before
    stage.tell(AccountsFound({"www": 34}, {})).wait(60)
    assert stage.records[process("web.1")].settings.stdout == FileSink(LOG, owned=Owned(uid=34))


def test_an_edit_that_nobody_was_there_to_see_takes_effect_all_the_same() -> None:
    stage = Stage().apply(spec(web=watcher(), job=job())).wait(5)
    logs = LogsSpec(timestamps=True, max_size=7, rotate=DAY_NS)
    stage.new_controller(spec(web=watcher(logs=logs), job=job(logs=logs))).wait(60)
    found = {name: settings.stdout for _, name, settings in adjusted(stage)}
    assert found == {
        "web.1": FileSink(LOG, timestamps=True, max_size=7, rotate_ns=DAY_NS),
        "job.1": FileSink("/logs/job-1.log", timestamps=True, max_size=7, rotate_ns=DAY_NS),
    }


def test_an_edit_counts_though_the_watcher_was_removed_before_anybody_could_adjust_it() -> None:
    stage = Stage().apply(spec(web=watcher())).wait(5)
    edited = watcher(stop=StopSpec(scope="process", timeout=60 * S))
    stage.stubborn = frozenset({"web.1"})
    records = [RecordChanged(record) for record in stage.records.values()]
    stage.reconciler = Reconciler(FACTS)
    introduced = KeeperIntroduced("keeper-1", "boot-1", 1, 0, "session")
    stage.tell(SpecApplied(spec(), 2, {"web": edited}), introduced, *records, SnapshotEnded())
    ((_, name, settings),) = adjusted(stage)
    assert (name, settings.scope, settings.stop_timeout_ns) == ("web.1", "process", 60 * S)


def test_what_no_spec_knows_is_stopped_as_it_was_launched() -> None:
    stage = Stage().apply(spec(web=watcher(stop=StopSpec(scope="process")))).wait(5)
    stage.stubborn = frozenset({"web.1"})
    stage.new_controller(spec())
    assert adjusted(stage) == []


def test_where_output_goes_changes_only_with_the_process() -> None:
    stage = Stage().apply(spec(job=job())).wait(5)
    logs = LogsSpec(stdout=StdoutSpec(file="/logs/other"), timestamps=True)
    stage.apply(spec(job=job(logs=logs, rerun_on=(), stop=StopSpec(scope="group")))).wait(60)
    ((_, _, settings),) = adjusted(stage)
    assert settings == Settings(scope="group", stdout=FileSink("/logs/job-1.log"))


def test_what_cannot_be_adjusted_is_tried_again_and_not_without_end() -> None:
    stage = Stage().apply(spec(web=watcher())).wait(5)
    stage.unadjustable = frozenset({"web.1"})
    stage.apply(spec(web=watcher(logs=LogsSpec(timestamps=True)))).wait(3 * ADJUST_AGAIN_NS / S)
    assert len(adjusted(stage)) == 4
    stage.unadjustable = frozenset()
    stage.wait(3600)
    assert len(adjusted(stage)) == 5
    assert stage.last.wake_at_ns is None
