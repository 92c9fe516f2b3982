"""Every order against every state of a watcher: what is said, what then happens, and when it is done."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reconciler.core import goals, orders
from reconciler.core.intents import started, stopped
from reconciler.model.action import Signal, Spawn
from reconciler.model.intent import NO_INTENT, RequestedBy
from reconciler.model.observation import IntentChanged, JobChanged
from reconciler.model.order import Judged
from reconciler.model.process import MAIN
from reconciler.model.spec import MaxRestartsSpec, ReloadBySignal
from reconciler.model.units import MINUTE_NS
from reconciler.model.value import replace
from tests.core.stage import Stage, job, process, spec, watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from reconciler.model.intent import Intent
    from reconciler.model.order import Decision, Goal
    from reconciler.model.spec import WatcherSpec

ALICE = RequestedBy("alice")
HUP = ReloadBySignal("HUP")


def order(
    stage: Stage, what: str, slots: tuple[int, ...] | None = None, *, glob: bool = False
) -> Decision:
    """Give an order, and let happen what happens at once."""
    method, _, argument = what.partition(" ")
    it = stage.reconciler.subject("it", stage.now, 0)
    it = replace(it, slots=slots, by_name=not glob, by=ALICE)
    decision = {
        "start": lambda: orders.start(it),
        "stop": lambda: orders.stop(it),
        "resume": lambda: orders.resume(it),
        "restart": lambda: orders.restart(it),
        "reload": lambda: orders.reload(it),
        "signal": lambda: orders.signal(it, argument, stage.now),
        "scale": lambda: orders.scale(it, None if argument == "spec" else int(argument)),
        "scale_by": lambda: orders.scale_by(it, int(argument)),
        "rerun": lambda: orders.rerun(it, failed=argument == "failed"),
    }[method]()
    if decision.intent is not None:
        stage.tell(IntentChanged("it", decision.intent))
    if decision.generation is not None:
        known = stage.reconciler.observed("it").job
        stage.tell(JobChanged("it", replace(known, generation=decision.generation)))
    stage.tell(*decision.observations)
    return decision


def judged(stage: Stage, goal: Goal | None) -> str:
    if goal is None:
        return "-"
    if "it" not in stage.reconciler.names():
        return goals.gone(goal).state
    return goals.judge(goal, stage.reconciler.subject("it", stage.now, 0)).state


def gives_up(stage: Stage) -> None:
    for _ in range(3):
        stage.exit("it.1", 1).wait(10)


def backs_off(stage: Stage) -> None:
    while "it.1" in stage.alive():
        stage.exit("it.1", 1)


def ends(*codes: int) -> Callable[[Stage], None]:
    def end(stage: Stage) -> None:
        for slot, code in enumerate(codes, 1):
            stage.exit(f"it.{slot}", code)
        stage.wait(1)

    return end


def said(intent: Intent) -> Callable[[Stage], None]:
    return lambda stage: stage.tell(IntentChanged("it", intent)).wait(5) and None


def removed(stage: Stage) -> None:
    stage.stubborn = frozenset({"it.1"})
    stage.apply(spec(db=watcher()))


def edited(stage: Stage) -> None:
    stage.apply(spec(it=watcher(cmd=("new",), numprocesses=2, reload=HUP)))


def nothing(_: Stage) -> None:
    pass


def ends_and_is_held(stage: Stage) -> None:
    ends(0)(stage)
    stage.tell(IntentChanged("it", HELD)).wait(5)


HELD = stopped(NO_INTENT, ALICE)
STATES: dict[str, tuple[WatcherSpec, float, Callable[[Stage], None]]] = {
    "never started": (watcher(autostart=False, reload=HUP), 5, nothing),
    "started by hand": (
        watcher(autostart=False),
        5,
        said(started(NO_INTENT, ALICE, autostart=False)),
    ),
    "held": (watcher(reload=HUP), 5, said(HELD)),
    "numprocesses 0": (watcher(numprocesses=0), 5, nothing),
    "starting": (watcher(reload=HUP), 0, nothing),
    "running": (watcher(numprocesses=2, reload=HUP), 5, nothing),
    "rolling": (watcher(numprocesses=2, reload=HUP), 5, edited),
    "backing off": (watcher(reload=HUP), 5, backs_off),
    "given up": (watcher(max_restarts=MaxRestartsSpec(2, MINUTE_NS)), 5, gives_up),
    "completed": (watcher(restart="on-failure"), 5, ends(0)),
    "being removed": (watcher(), 5, removed),
    "job on demand": (job(autostart=False), 5, nothing),
    "job running": (job(numprocesses=2, reload=HUP), 5, ends(0)),
    "job completed": (job(), 5, ends(0)),
    "job failed": (job(numprocesses=2), 5, ends(0, 7)),
    "job held": (job(), 5, ends_and_is_held),
    "job with none": (job(numprocesses=0), 5, nothing),
}
ORDERS = (
    "start",
    "stop",
    "resume",
    "restart",
    "reload",
    "signal USR1",
    "scale 3",
    "scale 0",
    "rerun",
)


def play(state: str, what: str, **how: object) -> tuple[str, str, str, str]:
    """Return what is taken, said, done within three seconds, and whether that was what was asked for.

    What is done: +1 a start of slot 1, -1 its stop, USR1.1 a signal to it. Jobs end well after that.
    """
    wanted, at, prepare = STATES[state]
    stage = Stage().apply(spec(it=wanted, db=watcher())).wait(at)
    prepare(stage)
    begun = len(stage.history)
    decision = order(stage, what, **how)  # type: ignore[arg-type]  # slots and glob
    stage.wait(3)
    acts = []
    for _, action in stage.history[begun:]:
        if (
            isinstance(action, Spawn | Signal)
            and action.id.role == MAIN
            and action.id.owner == "it"
        ):
            name = (
                "+"
                if isinstance(action, Spawn)
                else {"TERM": "-"}.get(action.signal, action.signal + ".")
            )
            acts.append(f"{name}{action.id.slot}")
    if wanted.is_job:
        for name in stage.alive("it"):
            if stage.records[process(name)].memory.stopping_since_ns is None:
                stage.exit(name, 0)
    return decision.taken, decision.message, " ".join(acts), judged(stage, decision.goal)


TABLE = Path(__file__).with_name("orders.txt")
"""For each state and order: taken, whether it was done, what happened, what was said."""


def cell(state: str, what: str, **how: object) -> str:
    taken, message, acts, done = play(state, what, **how)
    return f"{taken:8}  {done:6}  {acts:20}  {message}".rstrip()


def table() -> Iterator[str]:
    for state in STATES:
        yield state
        for what in ORDERS:
            yield f"    {what:11}  {cell(state, what)}"


@pytest.mark.parametrize("state", STATES)
def test_every_order_in_every_state_says_what_it_does_and_does_it(state: str) -> None:
    lines = TABLE.read_text().splitlines()
    begin = lines.index(state) + 1
    said = dict(zip(ORDERS, lines[begin : begin + len(ORDERS)], strict=True))
    found = {what: f"    {what:11}  {cell(state, what)}" for what in ORDERS}
    assert found == said, (
        "if it is right so: python -m tests.core.test_orders > tests/core/orders.txt"
    )


def test_the_table_keeps_its_rules() -> None:
    """What is refused has no effect and nothing to wait for; what is accepted is done, or says why not."""
    rows = [line for line in TABLE.read_text().splitlines() if line.startswith(" ")]
    cells = [(row[17:25].strip(), row[27:33].strip(), row[35:55].strip(), row[57:]) for row in rows]
    assert len(cells) == len(STATES) * len(ORDERS)
    for taken, done, acts, message in cells:
        if taken == "refused":
            assert (
                done,
                "reconcile" in message or "just now" in message or "removed" in message,
            ) == ("-", True)
            assert acts in {"", "+1", "-2 +2"}  # what it does without any order
        assert message


# Watchers that a glob selects, and single slots.
OTHERS = [
    (
        "completed",
        "start",
        None,
        "skipped   -                             has completed and is not run again",
    ),
    (
        "completed",
        "restart",
        None,
        "skipped   -                             has completed and is not run again",
    ),
    (
        "job completed",
        "start",
        None,
        "skipped   -                             not run; use `reconcile rerun it`",
    ),
    (
        "job completed",
        "restart",
        None,
        "skipped   -                             is a job and is not run again",
    ),
    (
        "job on demand",
        "start",
        None,
        "skipped   -                             not run; use `reconcile rerun it`",
    ),
    (
        "job held",
        "start",
        None,
        "accepted  -                             is no longer stopped; not run",
    ),
    ("job running", "start", None, "accepted  done                          runs already"),
    ("held", "restart", None, "skipped   -                             cannot be restarted"),
    ("never started", "signal USR1", None, "skipped   -                             nothing runs"),
    ("running", "rerun", None, "skipped   -                             is a service"),
    ("running", "start", (2,), "accepted  done                          runs already"),
    (
        "held",
        "start",
        (1,),
        "refused   -                             cannot start one slot: it is stopped",
    ),
    ("given up", "start", (1,), "accepted  done    +1                    had failed permanently"),
    (
        "running",
        "stop",
        (1,),
        "refused   -                             cannot stop one slot: `reconcile scale",
    ),
    ("running", "resume", (1,), "refused   -                             cannot resume one slot"),
    ("running", "scale 3", (1,), "refused   -                             cannot scale one slot"),
    ("running", "restart", (2,), "accepted  done    -2 +2                 replacing slot 2"),
    (
        "running",
        "restart",
        (3,),
        "refused   -                             has no slot 3: it has 2 slots",
    ),
    ("running", "reload", (2,), "accepted  done    HUP.2                 reloads 1 process"),
    (
        "running",
        "signal USR1",
        (2,),
        "accepted  -       USR1.2                sent SIGUSR1 to 1 process",
    ),
    (
        "job running",
        "rerun",
        (2,),
        "refused   -                             no run is started: slot 2 still runs",
    ),
    ("job running", "start", (2,), "accepted  done                          runs already"),
    ("job running", "start", (1,), "accepted  done    +1                    fires slot 1"),
    (
        "job completed",
        "rerun",
        (3,),
        "refused   -                             has no slot 3: it has 1 slot",
    ),
    (
        "job failed",
        "rerun failed",
        (1,),
        "accepted  -                             no slot has failed",
    ),
    ("job failed", "rerun failed", (2,), "accepted  done    +2                    fires slot 2"),
]


@pytest.mark.parametrize(("state", "what", "slots", "begins"), OTHERS)
def test_a_glob_is_no_consent_and_a_slot_is_honoured_or_refused(
    state: str, what: str, slots: tuple[int, ...] | None, begins: str
) -> None:
    assert cell(state, what, slots=slots, glob=slots is None).startswith(begins)


def test_a_failed_run_fails_the_order_and_an_older_or_other_one_does_not() -> None:
    stage = Stage().apply(spec(it=job(numprocesses=2), other=job())).wait(1)
    stage.exit("other.1", 1).exit("it.1", 7).exit("it.2", 0).wait(1)
    goal = order(stage, "rerun").goal
    assert judged(stage, goal) == "open"
    stage.exit("it.1", 0).wait(1)
    assert judged(stage, goal) == "open"
    stage.exit("it.2", 0).wait(1)
    assert judged(stage, goal) == "done"
    goal = order(stage, "rerun failed").goal
    goal = order(stage, "rerun", (2,)).goal
    stage.exit("it.2", 3).wait(1)
    assert goals.judge(goal, stage.reconciler.subject("it", stage.now, 0)) == Judged(
        "failed", "slot 2: failed: exit 3"
    )


def test_more_or_fewer_processes_count_from_what_there_are_to_be() -> None:
    stage = Stage().apply(spec(it=watcher(numprocesses=2))).wait(5)
    for more, message in (("1", "2 -> 3"), ("1", "3 -> 4"), ("-3", "4 -> 1"), ("-5", "1 -> 0")):
        assert order(stage, f"scale_by {more}").message.startswith(message)
        stage.wait(5)
    assert order(stage, "scale_by 2").message == "0 -> 2 processes"
    refused = order(stage, "scale_by 9999")
    assert (refused.taken, refused.message) == (
        "refused",
        "cannot have 10001 processes: 10000 is the most",
    )
    assert order(stage, "scale_by 1", (1,)).taken == "refused"


def test_goals_of_many_slots_fit_into_a_request() -> None:
    many = orders.MAX_SLOTS_NAMED + 1
    stage = Stage().apply(spec(it=job(numprocesses=many, reload=HUP)))
    assert order(stage, "reload").goal.slots == ()
    for slot in range(1, many + 1):
        stage.exit(f"it.{slot}", 0)
    goal = order(stage, "rerun").goal
    assert (goal.slots, judged(stage, goal)) == ((), "open")
    for slot in range(2, many + 1):
        stage.exit(f"it.{slot}", slot % 2)
    assert judged(stage, goal) == "open"
    stage.exit("it.1", 0)
    found = goals.judge(goal, stage.reconciler.subject("it", stage.now, 0))
    assert found.message.startswith("slot 3: failed: exit 1; slot 5: failed: exit 1; slot 7")
    assert found.message.endswith("and 247 more")


def test_what_makes_a_goal_impossible_fails_it() -> None:
    stage = Stage().apply(spec(it=watcher(numprocesses=2))).wait(5)
    up, down = order(stage, "restart").goal, None
    order(stage, "stop")
    assert judged(stage, up) == "failed"
    down = order(stage, "stop").goal
    order(stage, "start")
    assert judged(stage, down) == "failed"
    stage.wait(10)
    up = order(stage, "restart", (2,)).goal
    order(stage, "scale 1")
    assert judged(stage, up) == "failed"
    stage.wait(10).apply(spec()).wait(10)
    assert (judged(stage, up), judged(stage, down)) == ("failed", "done")


def test_a_revision_that_is_paused_by_one_watcher_is_nothing_to_another() -> None:
    old = spec(it=watcher(), bad=watcher(), kept=watcher())
    stage = Stage().apply(old).wait(60)
    stage.try_out(spec(it=watcher(), bad=watcher(cmd=("false",)), kept=watcher(cmd=("new",))))
    while stage.outcome == "pending":
        stage.exit("bad.1", 1).wait(1)
    stage.wait(60)
    assert stage.outcome == "paused"
    for what in ("restart", "stop", "start"):
        goal = order(stage, what).goal
        stage.wait(5)
        assert judged(stage, goal) == "done"


def test_a_restart_of_what_a_paused_revision_keeps_is_refused() -> None:
    stage = Stage().apply(spec(it=watcher(numprocesses=2))).wait(60)
    stage.try_out(spec(it=watcher(cmd=("bad",), numprocesses=2)))
    stage.exit("it.1", 1).wait(60)
    assert (stage.outcome, stage.status("it").state) == ("paused", "Rolling")
    assert order(stage, "restart", (2,)).taken == "refused"
    decision = order(stage, "restart")
    assert (decision.taken, decision.goal.slots) == ("accepted", (1,))
    stage.wait(10)
    assert judged(stage, decision.goal) == "done"


if __name__ == "__main__":
    print("\n".join(table()))
