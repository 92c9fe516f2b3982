from __future__ import annotations

from reconciler.cli.views.orders import result_lines
from reconciler.cli.views.painting import paint
from reconciler.model.answer import OrderResult
from reconciler.model.value import from_plain
from tests.cli.answers import NOW_NS, SECOND_NS


def test_a_rerun_names_what_it_fires_and_what_still_runs() -> None:
    (result,) = from_plain(
        tuple[OrderResult, ...],
        [
            {
                "name": "report",
                "generation": 4,
                "fired": [2, 3],
                "running": [{"slot": 1, "pid": 77, "since_ns": NOW_NS - 300 * SECOND_NS}],
            }
        ],
    )

    assert paint(result_lines([result], NOW_NS)) == [
        "report: generation 4 fires slots 2-3; slot 1 still runs (pid 77, since 5m)"
    ]


def test_a_rerun_names_what_waits_for_the_end_of_a_run() -> None:
    result = OrderResult("report", 4, fired=(1, 2), queued=(2,))
    assert paint(result_lines([result], NOW_NS)) == [
        "report: generation 4 fires slots 1-2; slot 2 when its present run has ended"
    ]


def test_many_slots_that_a_rerun_leaves_alone_are_named_together() -> None:
    def told(pids: dict[int, int | None]) -> list[str]:
        running = [{"slot": s, "pid": pid, "since_ns": None} for s, pid in pids.items()]
        results = from_plain(
            tuple[OrderResult, ...],
            [{"name": "job", "generation": 2, "fired": [], "running": running}],
        )
        return paint(result_lines(results, NOW_NS))

    assert told({1: 71, 2: 72}) == ["job: slot 1 still runs (pid 71); slot 2 still runs (pid 72)"]
    assert told({**dict.fromkeys(range(1, 5), 7), 5: None}) == [
        "job: slots 1-4 still run; slot 5 has not started yet"
    ]
    assert told(dict.fromkeys(range(3, 200))) == ["job: slots 3-199 have not started yet"]
