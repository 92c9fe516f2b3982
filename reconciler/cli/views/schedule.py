"""When the clock fires jobs next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.cli.views.layout import Cell, Wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.model.job import Instant


def next_runs_text(runs: Sequence[Instant]) -> str:
    """Return when a job is fired next."""
    return f"next runs {', '.join(each.shown for each in runs)}"


def next_runs_line(name: str, runs: Sequence[Instant]) -> Wrapped:
    """Return the line of a job that says so."""
    return Wrapped((Cell(f"{name}: ", "title"), Cell(next_runs_text(runs))), 4)
