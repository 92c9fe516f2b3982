from __future__ import annotations

import pytest

from reconciler.core.changes import changes
from reconciler.core.impact import with_impact
from reconciler.model.action import Signal, Spawn
from reconciler.model.spec import DependencySpec, RolloutSpec, Spec
from reconciler.model.units import SECOND_NS
from tests.core.stage import FACTS, Stage, job, listener, spec, watcher

OTHER = ("other",)
AFTER_MIGRATE = {"migrate": DependencySpec("succeeded")}
AFTER_DB = {"db": DependencySpec("ready")}
ALONG = {"db": DependencySpec("ready", on_restart="restart")}
HTTP = {"http": listener()}
PAUSED = RolloutSpec(max_unavailable=2, pause=10 * SECOND_NS)


def impacts(old: Spec, new: Spec, stage: Stage) -> dict[str, str]:
    found = changes(old, new, stage.reconciler.observed, FACTS)
    told = with_impact(found, old, new, stage.reconciler.observed)
    return {each.name: each.impact for each in told}


@pytest.mark.parametrize(
    ("old", "new", "impact"),
    [
        (watcher(), watcher(cmd=OTHER), "none of its slots runs meanwhile"),
        (watcher(numprocesses=3), watcher(numprocesses=3, cmd=OTHER), "2 of 3 slots run meanwhile"),
        (
            watcher(numprocesses=3),
            watcher(numprocesses=3, cmd=OTHER, rollout=PAUSED),
            "1 of 3 slots run meanwhile; a pause of 10s after each",
        ),
        (
            watcher(),
            watcher(cmd=OTHER, rollout=RolloutSpec(max_surge=2)),
            "1 of 1 slots run meanwhile; up to 1 more slot runs besides",
        ),
        (
            watcher(use_sockets=("http",)),
            watcher(cmd=OTHER, use_sockets=("http",)),
            "none of its slots runs meanwhile; socket http stays open",
        ),
        (watcher(), watcher(numprocesses=2), ""),
        (watcher(), watcher(description="words"), ""),
        (job(), job(cmd=OTHER), ""),
    ],
)
def test_a_plan_says_who_serves_meanwhile(old: object, new: object, impact: str) -> None:
    before, after = spec(HTTP, it=old), spec(HTTP, it=new)  # type: ignore[arg-type]
    assert impacts(before, after, Stage().apply(before).wait(5)) == {"it": impact}


@pytest.mark.parametrize("other", [listener(8001), listener(reuseport=True)])
def test_a_socket_that_is_bound_again_or_a_slots_own_does_not_stay_open(other: object) -> None:
    old = spec(HTTP, it=watcher(use_sockets=("http",)))
    new = spec({"http": other}, it=watcher(cmd=OTHER, use_sockets=("http",)))  # type: ignore[dict-item]
    told = impacts(old, new, Stage().apply(old).wait(5))
    assert told["it"] == "none of its slots runs meanwhile"


def test_a_plan_says_in_which_order_its_changes_come_and_so_they_do() -> None:
    old = spec(migrate=job(), web=watcher(depends_on=AFTER_MIGRATE))
    new = spec(migrate=job(cmd=OTHER), web=watcher(cmd=OTHER, depends_on=AFTER_MIGRATE))
    stage = Stage().apply(old).wait(1)
    stage.exit("migrate.1", 0).wait(5)
    assert impacts(old, new, stage) == {
        "migrate": "web waits for it",
        "web": "waits for migrate to succeed; none of its slots runs meanwhile",
    }
    begun = len(stage.history)
    stage.apply(new).wait(5)
    stage.exit("migrate.1", 0).wait(5)
    acts = (action for _, action in stage.history[begun:])
    done = [(type(each), str(each.id)) for each in acts if isinstance(each, Spawn | Signal)]
    assert done == [(Spawn, "migrate.1"), (Signal, "web.1"), (Spawn, "web.1")]


def test_a_plan_names_those_that_are_replaced_because_another_one_is() -> None:
    follows = {"web": DependencySpec("ready", on_restart="restart")}
    others = {
        "web": watcher(depends_on=ALONG),
        "proxy": watcher(depends_on=follows),
        "api": watcher(depends_on=AFTER_DB),
        "idle": watcher(depends_on=ALONG, numprocesses=0),
    }
    old, new = spec(db=watcher(), **others), spec(db=watcher(cmd=OTHER), **others)
    stage = Stage().apply(old).wait(9)
    assert impacts(old, new, stage) == {
        "db": "none of its slots runs meanwhile; "
        "then web, proxy are replaced, too (on_restart: restart)"
    }
    begun = len(stage.history)
    stage.apply(new).wait(30)
    acts = (action for _, action in stage.history[begun:])
    assert [str(each.id) for each in acts if isinstance(each, Spawn)] == [
        "db.1",
        "web.1",
        "proxy.1",
    ]
