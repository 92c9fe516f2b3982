"""Claims about what operators say by hand: until when it counts, and what is left of it."""

from __future__ import annotations

import pytest

from reconciler.core.changes import changes, drift
from reconciler.core.intents import (
    in_force,
    next_end_ns,
    recalled,
    restarted,
    resumed,
    scaled,
    started,
    stopped,
    until,
)
from reconciler.model.intent import Intent, RequestedBy
from reconciler.model.observation import IntentChanged
from reconciler.model.status import Override
from reconciler.model.value import replace
from tests.core.stage import FACTS, S, Stage, spec, watcher

ALICE = RequestedBy("alice", "disk", 0)
NOTHING = Intent()


def said_for(seconds: int, stage: Stage) -> RequestedBy:
    """Return a word of alice that ends by itself."""
    return replace(ALICE, until=until(seconds * S, "boot-1", stage.now, 0))


def test_a_stop_with_an_end_ends_by_itself_and_is_told() -> None:
    stage = Stage().apply(spec(web=watcher(numprocesses=2))).wait(5)
    stage.tell(IntentChanged("web", stopped(NOTHING, said_for(60, stage))))
    stage.apply(spec(web=watcher(numprocesses=2, cmd=("new",))))
    assert stage.last.wake_at_ns == 65 * S
    assert stage.wait(59).alive() == []
    assert stage.status("web").overrides == (
        Override("stopped", "stopped by alice", "alice", "disk", 0, until_ns=65 * S),
    )
    stage.now = 65 * S
    stage.tell()
    assert stage.alive() == ["web.1", "web.2"]
    assert stage.intents == {"web": NOTHING}
    (told,) = [each for each in stage.events if each.type == "operator.expired"]
    assert told.message == "override ended (stopped by alice for 1m): follows the spec again"


def test_each_word_has_an_end_of_its_own() -> None:
    stage = Stage().apply(spec(web=watcher()))
    intent = scaled(stopped(NOTHING, said_for(10, stage)), said_for(20, stage), 3)
    stage.tell(IntentChanged("web", intent)).wait(10)
    assert len(stage.alive()) == 3
    assert len(stage.wait(9).alive()) == 3
    assert stage.wait(1).alive() == ["web.1"]
    assert stage.last.wake_at_ns is None


def test_a_start_with_an_end_stops_again_where_the_spec_does_not_start_it() -> None:
    stage = Stage().apply(spec(web=watcher(autostart=False), api=watcher()))
    for name, autostart in (("web", False), ("api", True)):
        word = started(NOTHING, said_for(30, stage), autostart=autostart)
        stage.tell(IntentChanged(name, word))
    assert stage.wait(29).alive() == ["api.1", "web.1"]
    assert stage.status("web").drift
    assert not stage.status("api").drift
    assert stage.wait(1).alive() == ["api.1"]


def test_resume_takes_back_what_was_said_and_restarts_nothing() -> None:
    stage = Stage().apply(spec(web=watcher(numprocesses=2))).wait(5)
    intent = scaled(restarted(NOTHING, None, at_once=True), ALICE, 3)
    stage.tell(IntentChanged("web", intent)).wait(5)
    before = stage.pid("web.1")
    assert stage.status("web").drift
    stage.tell(IntentChanged("web", resumed(intent))).wait(5)
    assert (stage.alive(), stage.pid("web.1")) == (["web.1", "web.2"], before)
    assert not stage.status("web").drift
    assert stage.status("web").overrides == ()


def test_a_plan_tells_what_stays_otherwise_than_the_spec_says() -> None:
    old = spec(web=watcher(), api=watcher(numprocesses=2), db=watcher())
    stage = Stage().apply(old).wait(5)
    stage.tell(IntentChanged("web", stopped(NOTHING, ALICE))).wait(5)
    stage.tell(IntentChanged("api", scaled(NOTHING, ALICE, 3))).wait(5)
    new = spec(web=watcher(cmd=("new",)), api=watcher(numprocesses=3), db=watcher())
    observed = stage.reconciler.observed
    assert [each.name for each in drift(old, observed, 0)] == ["web", "api"]
    (web,) = drift(new, observed, 0)
    assert [word.message for word in web.overrides] == ["stopped by alice"]
    told = {each.name: (each.how, each.message) for each in changes(old, new, observed, FACTS)}
    assert told["web"] == (
        "none",
        "cmd changed: nothing runs, it is stopped by alice; `reconcile start web` starts it",
    )
    assert told["api"] == ("live", "numprocesses changed: in place")


@pytest.mark.parametrize(
    ("boot", "wall_s", "left_s"),
    [
        ("boot-1", 10_000, 40),  # the clock jumped ahead: nothing to do with us
        ("boot-1", 0, 40),  # or back
        ("boot-2", 1030, 70),  # rebooted within the time: what is left of it by the wall clock
        ("boot-2", 5000, 0),  # off for longer
        ("boot-2", 0, 100),  # off, and the clock begins in 1970: no longer than was said
    ],
)
def test_an_end_is_kept_over_new_controllers_reboots_and_jumps_of_the_clock(
    boot: str, wall_s: int, left_s: int
) -> None:
    said = replace(ALICE, until=until(100 * S, "boot-1", 500 * S, 1000 * S))
    now_ns = 560 * S if boot == "boot-1" else 7 * S
    found = recalled(stopped(NOTHING, said), boot, now_ns, wall_s * S)
    end_ns = next_end_ns(found)
    assert end_ns is not None
    assert end_ns - now_ns == left_s * S
    assert in_force(found, end_ns - 1) == found
    assert in_force(found, end_ns) == NOTHING
    # Read once more by the next controller of the same boot, it is as it is.
    assert recalled(found, boot, now_ns + 1, 0) == found
