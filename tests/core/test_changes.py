from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reconciler.core.changes import changes, come_about
from reconciler.core.intents import scaled, stopped
from reconciler.model.action import Signal, Spawn
from reconciler.model.change import FieldChange
from reconciler.model.intent import NO_INTENT, RequestedBy
from reconciler.model.observation import IntentChanged
from reconciler.model.observed import WatcherObserved
from reconciler.model.process import MAIN
from reconciler.model.spec import (
    AccessSpec,
    DaemonSpec,
    HookSpec,
    HooksSpec,
    LimitsSpec,
    LogsSpec,
    MaxRestartsSpec,
    SecretSpec,
    StopSpec,
)
from reconciler.model.units import DAY_NS, MINUTE_NS
from reconciler.model.value import replace
from tests.core.stage import FACTS, Stage, job, spec, watcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from reconciler.model.intent import Intent
    from reconciler.model.spec import WatcherSpec

ALICE = RequestedBy("alice")
HELD = stopped(NO_INTENT, ALICE)


def test_a_plan_shows_what_changed_and_no_secret() -> None:
    def variant(value: str) -> object:
        before_stop = HookSpec(cmd=("notify", "--token", value))
        return watcher(
            cmd=("serve", f"--password={value}", f"--mode={len(value)}"),
            env={"DB_PASSWORD": value, "BROKER": f"amqp://me:{value}@mq", "DEBUG": value[:1]},
            stop=StopSpec(cmd=("ask", "--api-key", value)),
            hooks=HooksSpec(before_stop=before_stop),
            x={"x-auth": {"client-secret": value, "realm": f"realm-{value[:1]}"}},
        )

    old, new = spec(web=variant("hunter2")), spec(web=variant("tr0ub4dor"))  # type: ignore[arg-type]
    (change,) = changes(old, new, lambda _: WatcherObserved(), FACTS)
    shown = {each.field: (each.old, each.new) for each in change.fields}
    assert "hunter2" not in str(change) and "tr0ub4dor" not in str(change)
    assert shown["cmd"][0] == "serve --password=(hidden) --mode=7"
    assert shown["env.DB_PASSWORD"] == ("(hidden)", "(hidden)")
    assert shown["env.BROKER"][1] == "amqp://me:(hidden)@mq"
    assert shown["env.DEBUG"] == ("h", "t")
    assert "realm-t" in shown["x"][1]


def test_a_plan_says_what_of_a_secret_changed_and_hides_where_it_comes_from() -> None:
    def variant(refresh: int, **others: SecretSpec) -> WatcherSpec:
        token = SecretSpec(cmd=("vault", "read"), refresh=refresh)
        return watcher(secrets={"TOKEN": token, "KEY": SecretSpec(file=f"k{refresh}"), **others})

    old, new = spec(web=variant(MINUTE_NS)), spec(web=variant(DAY_NS, PIN=SecretSpec(file="pin")))
    (change,) = changes(old, new, lambda _: WatcherObserved(), FACTS)
    assert change.fields == (
        FieldChange("secrets.KEY.file", "restart", "(hidden)", "(hidden)"),
        FieldChange("secrets.PIN", "restart", "(unset)", "(hidden)"),
        FieldChange("secrets.TOKEN.refresh", "live", "1m", "1d"),
    )


def test_a_plan_shows_values_as_a_spec_has_them() -> None:
    old = spec(a=watcher(), b=watcher(), c=watcher())
    hooks = HooksSpec(before_start=HookSpec(python="h.f", timeout=120 * 10**9))
    new = spec(
        a=watcher(hooks=hooks, max_restarts=MaxRestartsSpec(3), labels={"team": "a b", "n": "1"}),
        b=watcher(env={"A": None}, success_exit_codes=(0, 2), limits=LimitsSpec(as_=2**30)),
        c=watcher(umask=0o27, max_age=3600 * 10**9, logs=LogsSpec(rotate=7 * DAY_NS)),
    )
    new = replace(new, daemon=DaemonSpec(access=(AccessSpec("view", user="www-data"),)))
    shown = {
        f"{change.name}.{each.field}": f"{each.old} -> {each.new}"
        for change in changes(old, new, lambda _: WatcherObserved(), FACTS)
        for each in change.fields
    }
    assert shown == {
        "a.hooks.before_start": "null -> {python: h.f, timeout: 2m}",
        "a.max_restarts": "null -> {count: 3}",
        "a.labels": '{} -> {team: a b, n: "1"}',
        "b.env.A": "(unset) -> null",
        "b.success_exit_codes": "[0] -> [0, 2]",
        "b.limits.as": "null -> 1073741824",
        "c.umask": "null -> 0027",
        "c.max_age": "null -> 1h",
        "c.logs.rotate": "null -> weekly",
        "daemon.access": "[] -> [{role: view, user: www-data}]",
    }


def test_a_number_that_was_worked_out_is_shown_with_its_formula() -> None:
    plain, worked_out = (
        watcher(numprocesses=8),
        watcher(numprocesses=8, numprocesses_formula="cpus*2"),
    )
    (edited,) = changes(spec(web=plain), spec(web=worked_out), lambda _: WatcherObserved(), FACTS)
    (created,) = changes(spec(), spec(web=worked_out), lambda _: WatcherObserved(), FACTS)
    assert [(each.old, each.new) for each in edited.fields] == [("8", "cpus*2 = 8")]
    assert created.message == "new: starts 8 processes (cpus*2 = 8)"


def done(*slots: int) -> Callable[[Stage], object]:
    """Let these slots of `it` end well."""
    return lambda stage: [stage.exit(f"it.{slot}", 0) for slot in slots]


def failing(stage: Stage) -> None:
    while "it.1" in stage.alive():
        stage.exit("it.1", 1)


def giving_up(stage: Stage) -> None:
    for _ in range(3):
        stage.exit("it.1", 1).wait(1)


def said(intent: Intent) -> Callable[[Stage], object]:
    return lambda stage: stage.tell(IntentChanged("it", intent)).wait(1)


def nothing(_: Stage) -> None:
    pass


GIVES_UP = MaxRestartsSpec(count=2, window=MINUTE_NS)
OTHER = ("other",)
RARELY = {"autostart": False, "rerun_on": ()}

# What was before, what has happened to it, what is applied, and the plan: how, slots, words in it.
PLANS: list[
    tuple[
        WatcherSpec | None, Callable[[Stage], object], WatcherSpec | None, str, tuple[int, ...], str
    ]
] = [
    # services
    (None, nothing, watcher(numprocesses=2), "create", (1, 2), "starts 2 processes"),
    (None, nothing, watcher(autostart=False), "create", (), "reconcile start it"),
    (None, nothing, watcher(numprocesses=0), "create", (), "reconcile scale it=N"),
    (None, said(HELD), watcher(), "create", (), "stopped by alice"),
    (None, said(scaled(NO_INTENT, ALICE, 3)), watcher(), "create", (1, 2, 3), "3 processes"),
    (watcher(), nothing, None, "remove", (1,), "stops 1 process"),
    (watcher(), said(HELD), None, "remove", (), "nothing runs"),
    (watcher(), nothing, watcher(cmd=OTHER), "replace", (1,), "replaced now: cmd"),
    (
        watcher(numprocesses=2),
        nothing,
        watcher(numprocesses=2, cmd=OTHER),
        "replace",
        (1, 2),
        "one by one",
    ),
    (
        watcher(numprocesses=2),
        nothing,
        watcher(numprocesses=3, cmd=OTHER),
        "replace",
        (1, 2),
        "2 -> 3",
    ),
    (watcher(numprocesses=2), nothing, watcher(cmd=OTHER), "replace", (1,), "2 -> 1 processes"),
    (watcher(), nothing, watcher(numprocesses=3), "scale", (), "1 -> 3 processes"),
    (watcher(), nothing, watcher(numprocesses=3, priority=1), "scale", (), "1 -> 3 processes"),
    (watcher(numprocesses=2), nothing, watcher(numprocesses=0, cmd=OTHER), "scale", (), "2 -> 0"),
    (watcher(), nothing, watcher(autostart=False), "scale", (), "1 -> 0 processes"),
    (watcher(), said(HELD), watcher(cmd=OTHER), "none", (), "reconcile start it"),
    (
        watcher(autostart=False),
        nothing,
        watcher(autostart=False, cmd=OTHER),
        "none",
        (),
        "start it",
    ),
    (
        watcher(numprocesses=0),
        nothing,
        watcher(numprocesses=0, cmd=OTHER),
        "none",
        (),
        "scale it=N",
    ),
    (watcher(), nothing, watcher(stop=StopSpec(timeout=MINUTE_NS)), "live", (), "in place"),
    (watcher(), nothing, watcher(description="words"), "none", (), "nothing runs differently"),
    (
        watcher(max_restarts=GIVES_UP),
        giving_up,
        watcher(max_restarts=GIVES_UP, cmd=OTHER),
        "replace",
        (),
        "cmd",
    ),
    # jobs
    (None, nothing, job(numprocesses=2), "fire", (1, 2), "fires 2 processes"),
    (None, nothing, job(autostart=False), "create", (), "reconcile rerun it"),
    (None, nothing, job(numprocesses=0), "create", (), "numprocesses is 0"),
    (job(), done(1), job(cmd=OTHER), "fire", (1,), "fires again 1 process: cmd"),
    (
        job(numprocesses=2),
        done(1),
        job(numprocesses=2, cmd=OTHER),
        "fire",
        (1, 2),
        "slot 2 when its run",
    ),
    (
        job(rerun_on=()),
        done(1),
        job(rerun_on=(), cmd=OTHER),
        "none",
        (),
        "rerun_on has no spec_change",
    ),
    (job(**RARELY), nothing, job(cmd=OTHER, **RARELY), "none", (), "reconcile rerun it"),
    (
        job(autostart=False),
        nothing,
        job(autostart=False, cmd=OTHER),
        "none",
        (),
        "autostart is false",
    ),
    (job(autostart=False), nothing, job(), "fire", (1,), "fires 1 process: autostart"),
    (job(), done(1), job(autostart=False), "live", (), "in place"),
    (job(), nothing, job(autostart=False), "live", (), "in place"),
    (job(), said(HELD), job(cmd=OTHER), "none", (), "stopped by alice"),
    (job(), done(1), job(numprocesses=0, cmd=OTHER), "none", (), "numprocesses is 0"),
    (job(numprocesses=2), done(1, 2), job(numprocesses=4), "fire", (3, 4), "2 processes"),
    (job(numprocesses=2), done(1), job(), "scale", (), "stops slot 2"),
    (job(), done(1), job(description="words"), "none", (), "nothing runs differently"),
    # from one to the other
    (watcher(), nothing, job(), "live", (), "in place"),
    (watcher(numprocesses=2), failing, job(numprocesses=2), "fire", (1,), "restart"),
    (watcher(), nothing, job(cmd=OTHER), "fire", (1,), "when its run has ended"),
    (job(), nothing, watcher(), "live", (), "in place"),
    (job(), done(1), watcher(), "scale", (), "0 -> 1 processes"),
]


@pytest.mark.parametrize(
    ("before", "happens", "after", "how", "slots", "words"), PLANS, ids=range(len(PLANS))
)
def test_the_plan_says_exactly_what_then_happens(
    before: WatcherSpec | None,
    happens: Callable[[Stage], object],
    after: WatcherSpec | None,
    how: str,
    slots: tuple[int, ...],
    words: str,
) -> None:
    old, new = (spec(db=watcher(), **({"it": it} if it else {})) for it in (before, after))
    stage = Stage().apply(old).wait(5)
    happens(stage)
    (change,) = changes(old, new, stage.reconciler.observed, FACTS)
    assert (change.how, change.slots) == (how, slots)
    assert words in change.message
    ran = {int(name.partition(".")[2]) for name in stage.alive("it")}
    begun = len(stage.history)
    stage.apply(new).wait(10)
    for slot in (1, 2):  # a job that still runs comes to its end
        if how == "fire" and slot in ran:
            stage.exit(f"it.{slot}", 0)
    acts = [action for _, action in stage.history[begun:]]
    mains = [each for each in acts if isinstance(each, Spawn | Signal) and each.id.role == MAIN]
    spawned = {each.id.slot for each in mains if isinstance(each, Spawn)}
    stopped_ = {each.id.slot for each in mains if isinstance(each, Signal)}
    want = len(stage.alive("it"))
    happened: dict[str, bool] = {
        "create": (spawned, stopped_) == ({*slots}, set()),
        "fire": (spawned, stopped_) == ({*slots}, set()),
        "remove": (spawned, stopped_) == (set(), {*slots}),
        "replace": stopped_ >= {*slots} and spawned >= {*slots} and bool(spawned),
        "scale": f"-> {want} processes" in change.message
        or (change.message.startswith("stops slot") and (spawned, stopped_) == (set(), {2})),
        "live": not spawned | stopped_,
        "none": not spawned | stopped_,
    }
    assert happened[how], (spawned, stopped_, change)


def test_a_difference_of_revisions_fires_only_what_an_edit_fires() -> None:
    old = spec(a=job(), b=job(), c=job())
    new = spec(a=job(cmd=OTHER), b=job(description="words"), c=job(numprocesses=2))
    found = changes(old, new, come_about(old, FACTS), FACTS)
    assert [(each.name, each.how, each.slots) for each in found] == [
        ("a", "fire", (1,)),
        ("b", "none", ()),
        ("c", "fire", (2,)),
    ]


@pytest.mark.parametrize("count", [1, 3])
def test_a_difference_of_revisions_says_the_same_of_a_service_as_its_plan(count: int) -> None:
    old, new = (spec(web=watcher(numprocesses=count, cmd=(cmd,))) for cmd in ("old", "new"))
    stage = Stage().apply(old).wait(10)
    (planned,) = changes(old, new, stage.reconciler.observed, FACTS)
    (found,) = changes(old, new, come_about(old, FACTS), FACTS)
    assert (found.how, found.message) == (planned.how, planned.message)
