"""Why a slot does not run is said once, and a crash loop is a problem until it has been outlived."""

from __future__ import annotations

import pytest

from reconciler.model.observation import ShutdownAsked
from reconciler.model.spec import BackoffSpec, HooksSpec, ReadySpec, WatcherSpec
from tests.core.stage import HOOK, S, Stage, job, listener, spec, watcher

LOOP = BackoffSpec(burst=1, initial=S, max=S, jitter=0, reset_after=10 * S)


def looping(deaths: int, **fields: object) -> Stage:
    """Return a stage on which a process has died so often, and runs again."""
    stage = Stage().apply(spec(web=watcher(backoff=LOOP, **fields)))
    for _ in range(deaths):
        stage.exit("web.1", 7).wait(1)
    return stage


def test_a_crash_loop_is_a_problem_until_it_has_been_outlived() -> None:
    stage = looping(8)
    for wait in (0.5, 2, 7):
        seen = stage.wait(wait).status("web")
        note = "8 deaths in a row, last: exit 7"
        assert (seen.state, seen.note, seen.as_desired) == ("Failing", note, False)
        assert seen.slots[0].pid is not None
    seen = stage.wait(1).status("web")
    assert (seen.state, seen.note, seen.as_desired) == ("Running", "", True)
    assert looping(8).last.wake_at_ns is not None  # whoever waits for it is told


def test_in_a_crash_loop_what_comes_next_is_the_deadline_of_what_is_not_ready() -> None:
    stage = looping(3, ready=ReadySpec(notify=True, deadline=4 * S))
    slot = stage.slot("web.1")
    assert slot.note.startswith("not ready: has sent nothing")
    assert (slot.state, slot.next_ns) == ("Failing", slot.since_ns + 4 * S)


def test_one_death_makes_no_loop() -> None:
    assert looping(1).wait(2).status("web").state == "Running"


def test_what_an_operator_starts_anew_counts_anew() -> None:
    stage = looping(8)
    stage.apply(spec(web=watcher(backoff=LOOP, cmd=("mended",)))).wait(3)
    assert stage.status("web").state == "Running"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"use_sockets": ("own",)},
        {"use_sockets": ("all",)},
        {"use_sockets": ("own", "all")},
        {"spawn_interval": S},
    ],
)
def test_a_dead_slot_says_how_it_ended_whatever_else_it_needs(fields: dict[str, object]) -> None:
    sockets = {"own": listener(81, reuseport=True), "all": listener(82)}
    stage = Stage().apply(spec(sockets, web=watcher(backoff=LOOP, **fields)))
    for _ in range(3):
        stage.wait(1).exit("web.1", 7)
    slot = stage.slot("web.1")
    assert (slot.state, slot.note) == ("BackOff", "exit 7, 3 times in a row")
    assert slot.next_ns == stage.now + S
    assert stage.status("web").conditions[3].status  # Failing


@pytest.mark.parametrize("kind", [watcher, job])
@pytest.mark.parametrize(
    ("fields", "state", "note"),
    [
        ({"use_sockets": ("busy",)}, "Waiting", "socket busy: address in use"),
        ({"use_sockets": ("mine",)}, "Waiting", "socket mine: address in use"),
        ({"secrets": {"KEY": "k"}}, "Waiting", "cannot read the secret KEY: it is missing"),
        ({"hooks": HooksSpec(before_start=HOOK)}, "Waiting", "before_start hook runs"),
        ({"hooks": HooksSpec(before_spawn=HOOK)}, "Waiting", "before_spawn hook runs"),
        (
            {"spawn_interval": 60 * S, "numprocesses": 2},
            "Waiting",
            "slot 2: waiting for its turn: spawn_interval is 1m",
        ),
    ],
)
def test_each_gate_says_that_it_is_shut(
    kind: type[WatcherSpec], fields: dict[str, object], state: str, note: str
) -> None:
    stage = Stage()
    stage.refused_ports = {81, 82}
    sockets = {"busy": listener(81), "mine": listener(82, reuseport=True)}
    seen = stage.apply(spec(sockets, web=kind(**fields))).wait(3).status("web")
    assert (seen.state, seen.note) == (state, note)


def test_what_is_under_way_says_so() -> None:
    def note(stage: Stage) -> str:
        return stage.status("web").note

    stage = Stage().apply(spec(web=watcher()))
    assert note(stage) == "ready after 1s of uptime"
    stage.wait(60).apply(spec(web=watcher(numprocesses=3))).wait(5)
    stage.stubborn = frozenset({"web.1"})
    stage.apply(spec(web=watcher(numprocesses=3, cmd=("new",)))).wait(1)
    assert note(stage) == "0 of 3 replaced, slot 1 is stopping: replaced"
    stage.wait(10)
    assert note(stage).endswith("ready after 1s of uptime")
    assert stage.tell(ShutdownAsked()).status("web").note == "slot 1: shutdown"
