"""What the spec says when it is read, and what the running manager says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.model.finding import Finding
from reconciler.model.units import format_count, format_few

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.model.errors import SpecError
    from reconciler.model.status import Status

_NAMED: Final = 3
_NOT_IN_FORCE: Final = "limits.cgroup not in force"


def spec(
    paths: Sequence[str],
    watchers: int | None,
    errors: Sequence[SpecError],
    warnings: Sequence[SpecError],
) -> Finding:
    """Return what reading the spec came to; `watchers` is None when it cannot be used."""
    where = ", ".join(paths)
    if watchers is None:
        count = format_count(len(errors), "mistake")
        first = f", first: line {errors[0].line}: {errors[0].message}" if errors else ""
        meaning = (
            "an edit like this is not applied; a manager that starts uses what was applied last"
        )
        return Finding("spec", "problem", f"{where}: {count}{first}", meaning, "reconcile validate")
    found = f"{where}: {format_count(watchers, 'watcher')}"
    if warnings:
        found += f"; {format_count(len(warnings), 'warning')}, first: {warnings[0].message}"
        return Finding("spec", "warning", found, "", "reconcile validate")
    return Finding("spec", "ok", found)


def manager(status: Status) -> list[Finding]:
    """Return what a running manager says."""
    found = [
        Finding(
            "manager",
            "ok",
            f"{status.name} runs, pid {status.keeper_pid}, revision {status.revision}",
        )
    ]
    if status.spec_state == "invalid":
        meaning = f"the saved files are not in force: {status.spec_message}"
        found.append(
            Finding("files", "problem", "the spec is invalid", meaning, "reconcile validate")
        )
    if status.watching:
        meaning = "saved files are not applied by themselves"
        found.append(Finding("files", "warning", status.watching, meaning, "reconcile apply"))
    if status.store_state != "good":
        meaning = "history, overrides or runs of jobs may be lost"
        advice = "make room or mend the disk; the guide: Files on disk"
        found.append(
            Finding("store", "problem", status.store_message or status.store_state, meaning, advice)
        )
    notes = {
        each.name: slot.note
        for each in status.watchers
        for slot in each.slots
        if slot.note.startswith(_NOT_IN_FORCE)
    }
    if notes:
        found.append(_limits(notes))
    return found


def _limits(notes: dict[str, str]) -> Finding:
    which = format_few(sorted(notes), _NAMED)
    meaning = "the kernel does not keep what the spec says: memory, processor time or processes are not limited"
    why = next(iter(notes.values())).partition("; see")[0]
    return Finding(
        "limits", "warning", f"{which}: {why}", meaning, "see the lines on cgroups and delegation"
    )
