"""A plan: what happens to each watcher and socket, and why."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from reconciler.cli.views.layout import Block, Cell, Wrapped
from reconciler.cli.views.phrases import override_text, slots_text
from reconciler.cli.views.schedule import next_runs_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.cli.views.layout import Style
    from reconciler.model.change import Change, Drift

_SIGNS: Final[dict[str, tuple[str, Style]]] = {
    **dict.fromkeys(("create", "bind", "fire"), ("+", "good")),
    **dict.fromkeys(("remove", "unbind"), ("-", "bad")),
    **dict.fromkeys(("replace", "rebind", "scale", "live"), ("~", "busy")),
    "none": (" ", "quiet"),
}
REMOVALS: Final = frozenset({"remove", "unbind"})
_TO_DO: Final = {"live": "update in place"}
"""Verbs for changes whose name in the protocol is none."""


def plan_page(
    changes: Sequence[Change], drift: Sequence[Drift] = (), now_ns: int = 0
) -> list[Block]:
    """Return the plan: per watcher and socket what happens, to which slots, why, and a summary.

    `drift` are the manual overrides that stay in force, as of `now_ns`.
    """
    page: list[Block] = []
    for change in changes:
        page += _change_blocks(change)
    for one in drift:
        said = "; ".join(override_text(each, now_ns) for each in one.overrides)
        stays = f" (stays in force; undo with: reconcile resume {one.name})"
        head = Cell(f"! {one.name}", "busy")
        page.append(Wrapped((head, Cell("  override: "), Cell(said + stays))))
    return [*page, ((Cell(plan_summary(changes), "title")),)]


def _change_blocks(change: Change) -> list[Block]:
    sign, style = _SIGNS.get(change.how, ("~", "busy"))
    # There is one `daemon` and one `apply`: they are called so.
    kind = "" if change.kind in {"watcher", change.name} else f"{change.kind} "
    slots = slots_text(change.slots)
    head = f"{sign} {kind}{change.name}".rstrip()
    where = f" ({slots})" if slots else ""
    blocks: list[Block] = [Wrapped((Cell(head, style), Cell(f"  {change.message}{where}")))]
    for field in change.fields:
        values = f"{field.old} -> {field.new}"
        cells = (
            Cell(f"    {field.field}: ", "quiet"),
            Cell(f"{values}  ({field.effect})"),
        )
        blocks.append(Wrapped(cells, 8))
    if change.impact:
        cells = (Cell("    impact: ", "quiet"), Cell(change.impact))
        blocks.append(Wrapped(cells, 8))
    if change.next_runs:
        cells = (Cell("    schedule: ", "quiet"), Cell(next_runs_text(change.next_runs)))
        blocks.append(Wrapped(cells, 8))
    return blocks


def plan_summary(changes: Sequence[Change]) -> str:
    """Return one line that counts what happens."""
    counts = Counter(change.how for change in changes if change.how != "none")
    if not counts:
        return "nothing to do" if not changes else "no running process is affected"
    return ", ".join(f"{number} to {_TO_DO.get(how, how)}" for how, number in counts.items())
