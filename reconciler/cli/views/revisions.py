"""The history of the spec."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.cli.views.layout import Cell, Table
from reconciler.cli.views.phrases import NOTHING, OUTCOME_STYLES, age, commit_text, verdict_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.cli.views.layout import Line
    from reconciler.model.answer import RevisionEntry


def history_table(found: Sequence[RevisionEntry], now_ns: int) -> Table:
    """Return one line for each revision."""
    rows: list[Line] = [
        (
            Cell(str(one.number)),
            Cell(f"{age(one.applied_ns, now_ns)} ago"),
            Cell(one.who),
            Cell(commit_text(one.commit, dirty=one.dirty) or NOTHING),
            Cell(one.outcome, OUTCOME_STYLES.get(one.outcome, "")),
            Cell(_note(one, now_ns)),
        )
        for one in found
    ]
    return Table(("REVISION", "APPLIED", "BY", "COMMIT", "OUTCOME", "NOTE"), rows, ("COMMIT",))


def _note(one: RevisionEntry, now_ns: int) -> str:
    again = f"the content of {one.restores} again" if one.restores else ""
    reason = one.reason
    if one.outcome == "pending":
        reason = verdict_text(one.due_ns, reason, now_ns)
    return "; ".join(part for part in (again, reason) if part)
