from __future__ import annotations

from reconciler.cli.views.painting import paint
from reconciler.cli.views.plan import plan_page
from reconciler.model.change import Change, Drift
from reconciler.model.job import Instant
from reconciler.model.value import from_plain
from tests.cli.answers import NOW_NS, WORD


def test_the_plan_says_what_why_and_how() -> None:
    changes = from_plain(
        tuple[Change, ...],
        [
            {
                "name": "web",
                "how": "replace",
                "message": "replaced one by one: env.COLOUR changed",
                "slots": [1, 2, 4],
                "fields": [
                    {"field": "env.COLOUR", "effect": "restart", "old": "blue", "new": "green"}
                ],
                "impact": "2 of 3 slots run meanwhile; socket http stays open",
            },
            {"name": "old", "how": "remove", "message": "no longer in the spec"},
            {"kind": "socket", "name": "http", "how": "bind", "message": "new"},
        ],
    )

    assert paint(plan_page(changes)) == [
        "~ web  replaced one by one: env.COLOUR changed (slots 1-2, 4)",
        "    env.COLOUR: blue -> green  (restart)",
        "    impact: 2 of 3 slots run meanwhile; socket http stays open",
        "- old  no longer in the spec",
        "+ socket http  new",
        "1 to replace, 1 to remove, 1 to bind",
    ]


def test_the_plan_tells_what_operators_keep_otherwise() -> None:
    drift = from_plain(tuple[Drift, ...], [{"name": "web", "overrides": [WORD]}])

    assert paint(plan_page([], drift, NOW_NS)) == [
        '! web  override: stopped by alice 2h ago: "disk", resumes in 1m30s '
        "(stays in force; undo with: reconcile resume web)",
        "nothing to do",
    ]


def test_an_empty_plan_says_so() -> None:
    assert paint(plan_page([])) == ["nothing to do"]


def test_the_plan_says_when_the_clock_fires_a_job() -> None:
    runs = (Instant(1, "2026-12-01 03:00 CET"), Instant(2, "2026-12-02 03:00 CET"))
    change = Change(name="backup", how="create", message="new job: fires nothing", next_runs=runs)
    assert paint(plan_page([change]))[:2] == [
        "+ backup  new job: fires nothing",
        "    schedule: next runs 2026-12-01 03:00 CET, 2026-12-02 03:00 CET",
    ]
