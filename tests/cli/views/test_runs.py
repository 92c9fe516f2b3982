from __future__ import annotations

from reconciler.cli.views.painting import paint
from reconciler.cli.views.phrases import clock
from reconciler.cli.views.runs import runs_table
from reconciler.model.answer import RunEntry
from reconciler.model.value import from_plain, replace
from tests.cli.answers import NOW_NS, SECOND_NS


def test_the_ledger_of_a_job_says_why_and_how_each_run_ended() -> None:
    run = {"name": "report", "generation": 2, "slot": 1, "fired_ns": NOW_NS, "trigger": "boot"}
    ended = {"outcome": "failed", "exit": {"code": 3}, "duration_ns": 2 * SECOND_NS}
    asked = {"trigger": "operator", "who": "al\x1bice", "generation": 1}
    table = runs_table(
        from_plain(
            tuple[RunEntry, ...],
            [run, run | ended, run | asked | {"outcome": "lost", "note": "power"}],
        )
    )

    lines = [" ".join(line.split()) for line in paint([table], width=None)]
    at = clock(NOW_NS)
    assert lines == [
        "JOB RUN SLOT FIRED TRIGGER TOOK OUTCOME EXIT",
        f"report 2 1 {at} boot - running -",
        f"report 2 1 {at} boot 2s failed exit 3",
        f"report 1 1 {at} operator al\\x1bice - lost power",
    ]


def test_a_run_of_a_schedule_says_for_which_instant_and_how_late() -> None:
    run = RunEntry("backup", 1, 4, "schedule", fired_ns=NOW_NS + 2_000_000, instant_ns=NOW_NS)
    late = replace(run, fired_ns=NOW_NS + 12 * SECOND_NS)
    caught_up = replace(run, fired_ns=NOW_NS + 53 * 3600 * SECOND_NS)
    day, _, time = clock(NOW_NS).partition(" ")
    time = time.removesuffix(".000")

    lines = [
        " ".join(line.split()) for line in paint([runs_table([run, late, caught_up])], width=None)
    ]
    assert [line.split(" - running")[0].split(" ", 5)[5] for line in lines[1:]] == [
        f"schedule {time}",
        f"schedule {time}, 12s late",
        f"schedule {day} {time}, 2d5h late",
    ]
