"""Claims about processes that are over a limit that the manager watches."""

from __future__ import annotations

from reconciler.core.intents import stopped
from reconciler.model.action import Adjust
from reconciler.model.intent import Intent, RequestedBy
from reconciler.model.observation import IntentChanged, LimitExceeded, RecordChanged
from reconciler.model.spec import GroupLimitsSpec, HooksSpec, LimitsSpec, RolloutSpec, WatcherSpec
from reconciler.model.value import replace
from tests.core.stage import HOOK, Stage, process, spec, watcher

MIB = 2**20
OVER = "over max_memory 512MiB: 530MiB in 3 samples"


def limited(**fields: object) -> WatcherSpec:
    return watcher(limits=LimitsSpec(max_memory=512 * MIB, max_cpu=90), **fields)


def sees(stage: Stage, name: str, used: int = 530 * MIB) -> Stage:
    """Let a process of the stage be seen above max_memory, or (0) not be any more."""
    id = process(name)
    incarnation = stage.records[id].incarnation
    found = LimitExceeded(id, incarnation, "max_memory" if used else None, used, 3)
    return stage.tell(found)


def leaky(count: int, **fields: object) -> Stage:
    stage = Stage().apply(spec(web=limited(numprocesses=count, **fields))).wait(100)
    for slot in range(1, count + 1):
        sees(stage, f"web.{slot}")
    return stage


def test_a_process_over_its_limit_is_replaced_and_people_are_told_what_and_how_much() -> None:
    stage = leaky(1)
    assert stage.signals() == [(100.0, "web.1", "TERM")]
    assert [(each.type, each.message) for each in stage.events[1:]] == [
        ("process.over_limit", f"web.1 is {OVER}; it is replaced"),
        ("process.exited", f"web.1 ended ({OVER}): killed by SIGTERM after 1m40s"),
        ("process.started", f"web.1 started, pid {stage.pid('web.1')}"),
    ]
    memory = stage.records[process("web.1")].memory
    assert (memory.replacements, memory.restarts, memory.attempt) == (1, 0, 0)


def test_those_over_their_limit_are_replaced_one_at_a_time_and_the_others_say_why_they_wait() -> (
    None
):
    stage = leaky(3)
    assert stage.slot("web.2").note == f"{OVER}; waiting for its turn to be replaced"
    stage.wait(10)
    assert [at for at, *_ in stage.signals()] == [100.0, 101.0, 102.0]
    assert stage.status("web").as_desired


def test_one_that_uses_less_again_keeps_its_process() -> None:
    stage = leaky(2)
    sees(stage, "web.2", 0).wait(10)
    assert stage.signals() == [(100.0, "web.1", "TERM")]


def test_an_edit_of_the_limit_counts_at_once() -> None:
    stage = leaky(2)
    wider = replace(limited(numprocesses=2), limits=LimitsSpec(max_memory=531 * MIB))
    stage.apply(spec(web=wider)).wait(10)
    assert stage.signals() == [(100.0, "web.1", "TERM")]
    stage.apply(spec(web=limited(numprocesses=2))).wait(10)
    assert stage.signals()[1:] == [(110.0, "web.2", "TERM")]


def test_what_was_seen_of_a_former_process_says_nothing_of_its_successor() -> None:
    stage = leaky(1)
    stage.tell(LimitExceeded(process("web.1"), 1, "max_memory", 530 * MIB, 3)).wait(200)
    assert stage.signals() == [(100.0, "web.1", "TERM")]


def test_a_new_controller_hears_of_it_again_and_goes_on() -> None:
    stage = leaky(2)
    stage.new_controller(spec(web=limited(numprocesses=2))).wait(10)
    assert stage.signals() == [(100.0, "web.1", "TERM")]
    sees(stage, "web.2")
    assert stage.signals()[1:] == [(110.0, "web.2", "TERM")]


def test_one_that_is_not_replaced_since_it_goes_says_so() -> None:
    roll = {"numprocesses": 1, "rollout": RolloutSpec(max_surge=1)}
    stage = Stage().apply(spec(web=limited(**roll))).wait(100)
    stage.drains = frozenset({"web.1", "web.2"})
    stage.apply(spec(web=limited(cmd=("new",), **roll))).wait(1.5)
    assert stage.alive() == ["web.1", "web.2"]
    sees(sees(stage, "web.1"), "web.2")
    told = [each.message for each in stage.events if each.type == "process.over_limit"]
    assert told == [
        f"web.1 is {OVER}; it is being stopped already",
        f"web.2 is {OVER}; it goes as soon as it need not serve in place of another",
    ]


def test_processor_time_is_told_as_a_share_of_one_processor() -> None:
    stage = Stage().apply(spec(web=limited())).wait(100)
    stage.tell(LimitExceeded(process("web.1"), 1, "max_cpu", 97, 1))
    (told,) = [each for each in stage.events if each.type == "process.over_limit"]
    assert told.message == "web.1 is over max_cpu 90%: 97% in 1 sample; it is replaced"


def test_a_program_that_does_not_fit_its_limit_is_replaced_a_few_times_then_once_a_minute() -> None:
    stage = Stage().apply(spec(web=limited()))
    for _ in range(20):
        sees(stage.wait(10), "web.1")
    times = [at for at, *_ in stage.signals()]
    assert times == [10.0, 20.0, 30.0, 90.0, 150.0]
    status = stage.status("web")
    assert status.state == "Failing"
    assert status.note == (
        f"held back: replaced 5 times in a row because it was {OVER}, each time; now at most every 1m"
    )


def test_a_hook_that_does_not_let_the_next_one_start_keeps_the_process() -> None:
    stage = Stage().apply(spec(web=limited(hooks=HooksSpec(before_spawn=HOOK))))
    stage.exit("web.1:before_spawn").wait(100)
    sees(stage, "web.1").exit("web.1:before_spawn", 1).wait(1)
    assert stage.signals() == []
    assert "before_spawn" in stage.slot("web.1").note


def test_a_watcher_that_is_stopped_stays_so() -> None:
    stage = leaky(1)
    stage.tell(IntentChanged("web", stopped(Intent(), RequestedBy("root", "", 0)))).wait(10)
    assert stage.alive() == []
    assert stage.reconciler.observed("web").exceeded == {}


# ---- limits of control groups ---------------------------------------------------------------------

GROUP = GroupLimitsSpec(
    memory_max=512 * MIB, memory_swap_max=0, cpu_max=150, cpu_weight=50, io_weight=20, pids_max=100
)
FILES = {
    "memory.max": "536870912",
    "memory.swap.max": "0",
    "cpu.max": "150000 100000",
    "cpu.weight": "50",
    "io.weight": "default 20",
    "pids.max": "100",
}


def grouped(*controllers: str, **cgroup: object) -> Stage:
    stage = Stage()
    stage.controllers = controllers
    cgroup = cgroup or {"memory_max": 512 * MIB, "pids_max": 100}
    return stage.apply(spec(web=in_group(**cgroup))).wait(5)


def in_group(**cgroup: object) -> WatcherSpec:
    return watcher(limits=LimitsSpec(cgroup=GroupLimitsSpec(**cgroup)))  # type: ignore[arg-type]


def in_force(stage: Stage) -> dict[str, str]:
    return dict(stage.records[process("web.1")].settings.group_limits)


def adjusted(stage: Stage) -> list[float]:
    return [at for at, each in stage.history if isinstance(each, Adjust)]


def test_limits_of_a_group_are_written_as_its_files_take_them() -> None:
    stage = Stage()
    stage.controllers = ("memory", "cpu", "io", "pids")
    stage.apply(spec(web=watcher(limits=LimitsSpec(cgroup=GROUP)))).wait(60)
    assert in_force(stage) == FILES
    assert (adjusted(stage), stage.slot("web.1").note) == ([], "")


def test_an_edit_of_them_replaces_nothing() -> None:
    stage = grouped("memory", "pids").apply(spec(web=in_group(pids_max=50))).wait(60)
    assert in_force(stage) == {"pids.max": "50"}
    assert (stage.spawned(), adjusted(stage)) == (["web.1"], [5.0])


def test_without_control_groups_the_process_runs_and_its_note_says_that_they_do_not_count() -> None:
    stage = grouped().wait(60)
    assert (in_force(stage), adjusted(stage)) == ({}, [])
    assert stage.status("web").as_desired
    assert stage.slot("web.1").note == (
        "limits.cgroup not in force: memory_max, pids_max: the manager has no control groups for them;"
        " see reconcile doctor"
    )


def test_a_controller_that_is_missing_is_named_and_the_others_count() -> None:
    stage = grouped("pids")
    assert in_force(stage) == {"pids.max": "100"}
    assert stage.slot("web.1").note == (
        "limits.cgroup not in force: memory_max: control groups have no memory controller here;"
        " see reconcile doctor"
    )


def test_what_the_kernel_did_not_take_is_told_and_tried_again() -> None:
    stage = grouped("memory", "pids")
    record = stage.records[process("web.1")]
    refused = replace(record.settings, group_limits={"pids.max": "100"})
    stage.unadjustable = frozenset({"web.1"})
    stage.records[record.id] = replace(record, settings=refused)
    stage.tell(RecordChanged(stage.records[record.id])).wait(6)
    assert adjusted(stage) == [5.0, 10.0]
    assert stage.slot("web.1").note == (
        "limits.cgroup not in force: memory_max: the kernel does not take them; see reconcile doctor"
    )
