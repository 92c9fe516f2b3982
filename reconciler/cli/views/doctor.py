"""How the machine is: one line for each thing that was looked at, what is amiss explained below it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.cli.views.layout import Cell, Table
from reconciler.model.units import format_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.cli.views.layout import Block, Style
    from reconciler.model.finding import Finding

_STYLES: Final[dict[str, Style]] = {"ok": "good", "warning": "busy", "problem": "bad"}


def report(findings: Sequence[Finding]) -> list[Block]:
    """Return the table of all findings, and how many are amiss."""
    rows = [row for each in findings for row in _rows(each)]
    counts = {level: sum(each.level == level for each in findings) for level in _STYLES}
    amiss = [
        format_count(counts[level], level) for level in ("problem", "warning") if counts[level]
    ]
    worst = next((level for level in ("problem", "warning", "ok") if counts[level]), "ok")
    summary = " and ".join(amiss) or "nothing is amiss"
    return [Table(("CHECK", "STATE", "FOUND"), rows), (), (Cell(summary, _STYLES[worst]),)]


def _rows(finding: Finding) -> list[tuple[Cell, ...]]:
    first = Cell(finding.check), Cell(finding.level, _STYLES[finding.level]), Cell(finding.found)
    more = [Cell(finding.meaning)] if finding.meaning else []
    more += [Cell(f"try: {finding.advice}", "cyan")] if finding.advice else []
    return [first, *((Cell(""), Cell(""), each) for each in more)]
