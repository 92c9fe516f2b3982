"""What answers come to: told when that changes, and now and then what else is said."""

from __future__ import annotations

import pytest

from reconciler.controller.probes.http import Outcome
from reconciler.controller.probes.tally import Tally
from reconciler.model.action import Probe
from reconciler.model.observation import ProbeAnswered
from reconciler.model.probe import Probing, TcpTarget
from reconciler.model.process import ProcessId
from reconciler.model.units import SECOND_NS as S

ID = ProcessId("web", 1, "health")


def told(answers: str, *, failures: int = 1, successes: int = 1) -> list[tuple[int, bool | None]]:
    """Return what is told of answers, one a second: `+` passes, `-` fails, `?` could not be asked."""
    probing = Probing(TcpTarget("127.0.0.1", 1), 0, S, S, failures, successes)
    tally = Tally(Probe(ID, 7, probing))
    found = []
    for second, each in enumerate(answers):
        answer = tally.take(Outcome({"+": True, "-": False, "?": None}[each], each), second * S)
        if answer is not None:
            assert (answer.id, answer.incarnation, answer.probing) == (ID, 7, probing)
            assert answer.at_ns == second * S
            found.append((second, answer.passed))
    return found


@pytest.mark.parametrize(
    ("answers", "counts", "expected"),
    [
        ("++++++", {}, [(0, True)]),
        ("-----++", {}, [(0, False), (5, True)]),
        ("+--+---+", {"failures": 3}, [(0, True), (6, False), (7, True)]),
        ("--+-+", {"failures": 3}, [(2, True)]),
        ("+-++", {"successes": 2}, [(1, False), (3, True)]),
        ("---+-++", {"failures": 3, "successes": 2}, [(2, False), (6, True)]),
        ("??+", {}, [(0, None), (2, True)]),
        ("+???+", {}, [(0, True)]),
        ("-??-+", {}, [(0, False), (4, True)]),
    ],
)
def test_what_counts_is_told_when_it_changes(
    answers: str, counts: dict[str, int], expected: list[tuple[int, bool | None]]
) -> None:
    assert told(answers, **counts) == expected


def test_an_answer_that_says_something_else_each_time_is_told_now_and_then() -> None:
    tally = Tally(Probe(ID, 7, Probing(TcpTarget("127.0.0.1", 1), 0, S, S, 1, 1)))
    answers = [tally.take(Outcome(False, f"at {second}"), second * S) for second in range(12)]
    assert [each.message for each in answers if isinstance(each, ProbeAnswered)] == [
        "at 0", "at 1", "at 2", "at 3", "at 4", "at 7",
    ]  # fmt: skip
