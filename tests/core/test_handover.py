"""A main process ends and another one goes on: that restarts nothing and counts for nothing."""

from __future__ import annotations

import pytest

from reconciler.model.action import Follow
from reconciler.model.observation import SpecApplied
from reconciler.model.process import Exit
from reconciler.model.spec import BackoffSpec, MaxRestartsSpec
from tests.core.stage import S, Stage, process, spec, watcher

CHILD = 7
"""The pid of what dead processes leave behind on the stage."""
FILE = "/run/web.pid"
SLOW = BackoffSpec(burst=0, initial=5 * S, max=5 * S, jitter=0)


def running(**fields: object) -> Stage:
    fields = {"pid_file": FILE, "backoff": SLOW, "max_restarts": MaxRestartsSpec(count=1), **fields}
    return Stage().apply(spec(web=watcher(**fields))).wait(20)


def test_the_slot_goes_on_with_who_was_named() -> None:
    stage = running().exit("web.1", survivors=True)
    slot = stage.slot("web.1")
    waits = f"its main process ended (exit 0); waiting for {FILE} to name the one that goes on"
    assert (slot.state, slot.note, slot.next_ns) == ("Starting", waits, 30 * S)
    stage.wait(1).tell(stage.named("web.1", CHILD))
    assert [a for _, a in stage.history if isinstance(a, Follow)] == [
        Follow(process("web.1"), 1, CHILD)
    ]
    slot = stage.slot("web.1")
    assert (slot.state, slot.pid, slot.since_ns) == ("Running", CHILD, 0)
    assert (slot.restarts, slot.replacements, slot.attempt) == (0, 0, 0)
    assert stage.status("web").as_desired
    assert stage.signals() == []
    assert stage.spawned() == ["web.1"]
    assert [each.type for each in stage.events] == [
        "process.started",
        "process.exited",
        "process.followed",
    ]
    assert stage.events[-1].message == (
        "web.1 goes on as child (pid 7): its main process ended (exit 0)"
    )


def test_a_new_controller_follows_what_the_former_did_not_come_to() -> None:
    stage = running()
    wanted = stage.reconciler.spec
    stage.exit("web.1", survivors=True)
    stage.named("web.1", CHILD)  # nobody is there to be told
    stage.new_controller(wanted)
    assert stage.slot("web.1").pid == CHILD


def test_its_end_is_that_of_the_slot() -> None:
    stage = running().exit("web.1", survivors=True)
    stage.tell(stage.named("web.1", CHILD)).wait(1)
    stage.exit("web.1", 7)
    assert stage.events[-2].message == "web.1 ended: exit 7 after 21s"
    assert stage.slot("web.1").restarts == 1


def test_where_nobody_is_named_in_time_what_is_left_is_ended_and_the_slot_started_anew() -> None:
    stage = running().exit("web.1", survivors=True).wait(9)
    assert stage.signals() == []
    stage.wait(1)
    assert stage.signals() == [(30.0, "web.1", "KILL")]
    assert stage.slot("web.1").pid not in {None, CHILD}


def test_what_went_into_the_background_at_once_goes_on_and_is_told() -> None:
    stage = Stage().apply(spec(web=watcher(pid_file=FILE))).wait(1)
    stage.exit("web.1", survivors=True).wait(11)
    slot = stage.slot("web.1")
    assert (slot.state, slot.note) == (
        "Failed",
        "ends at once with exit 0 and leaves child (pid 7) running: /run/web.pid names none of them",
    )
    assert stage.signals() == []
    stage.tell(stage.named("web.1", CHILD))
    assert stage.slot("web.1").state == "Running"


@pytest.mark.parametrize("fields", [{}, {"pid_file": None}])
def test_after_a_crash_nobody_is_waited_for_but_who_is_named_goes_on(
    fields: dict[str, object],
) -> None:
    stage = running(**fields).exit("web.1", 1, survivors=True)
    assert stage.signals() == [(20.0, "web.1", "KILL")]
    stage = running(**fields)
    stage.tell(stage._died(process("web.1"), Exit(1), survivors=True), stage.named("web.1", CHILD))
    assert stage.slot("web.1").pid == CHILD


def test_a_slot_that_is_stopped_follows_nobody_and_asks_what_is_left_to_end() -> None:
    stage = running()
    stage.stubborn = frozenset({"web.1"})
    stage.apply(spec())
    stage.exit("web.1", survivors=True).tell(stage.named("web.1", CHILD))
    assert not any(isinstance(a, Follow) for _, a in stage.history)
    assert [signal for _, _, signal in stage.signals()] == ["TERM", "TERM"]


def test_who_was_named_is_asked_to_end_where_the_slot_is_stopped_before_it_is_followed() -> None:
    stage = running()
    ended = stage._died(process("web.1"), Exit(0), survivors=True)
    stage.tell(ended, stage.named("web.1", CHILD), SpecApplied(spec(), 2))
    assert [signal for _, _, signal in stage.signals()] == ["TERM"]


def test_a_revision_whose_program_goes_into_the_background_is_good() -> None:
    stage = Stage().try_out(spec(web=watcher(pid_file=FILE))).wait(0.1)
    stage.exit("web.1", survivors=True).wait(0.1)
    assert stage.outcome == "pending"
    stage.tell(stage.named("web.1", CHILD)).wait(11)
    assert stage.outcome == "good"


def test_one_whose_successor_is_named_at_once_is_good_too() -> None:
    stage = Stage().try_out(spec(web=watcher(watchdog=60 * S))).wait(0.1)
    ended = stage._died(process("web.1"), Exit(0), survivors=True)
    stage.tell(ended, stage.named("web.1", CHILD)).wait(11)
    assert stage.outcome == "good"


def test_one_whose_file_names_nobody_is_not() -> None:
    stage = Stage().try_out(spec(web=watcher(pid_file=FILE))).wait(0.1)
    stage.exit("web.1", survivors=True).wait(11)
    assert stage.outcome == "paused"


def test_where_one_that_ends_ends_all_the_one_that_goes_on_has_to_end() -> None:
    stage = running(on_exit="shutdown").exit("web.1", survivors=True)
    stage.tell(stage.named("web.1", CHILD)).wait(1)
    assert stage.alive() == ["web.1"]
    stage.exit("web.1", 7).wait(1)
    assert (stage.alive(), stage.quit) == ([], 7)


def test_an_edit_of_the_file_counts_for_what_runs() -> None:
    stage = running(pid_file=None).apply(
        spec(web=watcher(pid_file="/run/other-${slot}.pid", backoff=SLOW))
    )
    assert stage.spawned() == ["web.1"]
    assert stage.records[process("web.1")].settings.pid_file == "/run/other-1.pid"
