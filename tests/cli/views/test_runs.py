from __future__ import annotations

from reconciler.cli.views.painting import paint
from reconciler.cli.views.phrases import clock
from reconciler.cli.views.runs import runs_table
from reconciler.model.answer import RunEntry
from reconciler.model.value import from_plain
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
