"""The runs of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.cli.views.layout import Cell, Table
from reconciler.cli.views.phrases import NOTHING, clock, exit_text
from reconciler.model.units import SECOND_NS, format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.cli.views.layout import Line, Style
    from reconciler.model.answer import RunEntry


def runs_table(runs: Sequence[RunEntry], *, wide: bool = False) -> Table:
    """Return one line for each run; `wide` with its pid and when it ended."""
    more = ("PID", "ENDED") if wide else ()
    columns = ("JOB", "RUN", "SLOT", "FIRED", "TRIGGER", *more, "TOOK", "OUTCOME", "EXIT")
    return Table(columns, [_row(run, wide=wide) for run in runs], ("TRIGGER", "EXIT"))


def _row(run: RunEntry, *, wide: bool) -> Line:
    outcome = run.outcome or "running"
    style: Style = {"succeeded": "good", "running": "busy"}.get(outcome, "bad")  # type: ignore[assignment]  # mypy widens
    took = run.duration_ns
    until = NOTHING if run.ended_ns is None else clock(run.ended_ns)
    ended = exit_text(run.exit) if run.exit is not None else run.note
    return (
        Cell(run.name),
        Cell(str(run.generation)),
        Cell(str(run.slot)),
        Cell(clock(run.fired_ns)),
        Cell(trigger_text(run)),
        *((Cell(str(run.pid or NOTHING)), Cell(until)) if wide else ()),
        Cell(NOTHING if took is None else format_duration(took)),
        Cell(outcome, style),
        Cell(ended or NOTHING),
    )


def trigger_text(run: RunEntry) -> str:
    """Return what fired a run: for its schedule the instant, and how late that was."""
    if run.instant_ns is None:
        return f"{run.trigger} {run.who}".strip()
    day, _, time = clock(run.instant_ns).partition(" ")
    time = time.removesuffix(".000")
    wanted = time if clock(run.fired_ns).startswith(day) else f"{day} {time}"
    late_ns = run.fired_ns - run.instant_ns
    late = f", {format_duration(late_ns)} late" if late_ns >= SECOND_NS else ""
    return f"{run.trigger} {wanted}{late}"
