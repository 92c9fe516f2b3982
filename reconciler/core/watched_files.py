"""Files that `watch` names are a part of what runs: once they have changed, processes are outdated as by an edit.

The core knows a digest of them, which becomes part of what a process is made of. So what changed while no
controller was there is found by the next one, and a change that is undone in time changes nothing. A start waits
until the files were looked at, but not for long; what started without is replaced once, when they are known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from reconciler.core.plan import Plan
from reconciler.core.slots import SlotCondition
from reconciler.core.template import files_of
from reconciler.model.action import ScanFiles
from reconciler.model.event import Event
from reconciler.model.observation import FilesSeen
from reconciler.model.observed import FilesObserved
from reconciler.model.process import ProcessRecord
from reconciler.model.spec import WatchSpec
from reconciler.model.units import SECOND_NS, format_few

PATIENCE_NS: Final = 5 * SECOND_NS
"""How long a start waits for the first look: a disk may be slow, or not answer at all."""
MAX_NAMED: Final = 3


def known(files: FilesObserved, watch: WatchSpec | None) -> FilesObserved:
    """Return what is known of the files that are watched: nothing, when others were looked at."""
    if watch is not None and files.paths == watch.paths and files.ignore == watch.ignore:
        return files
    return FilesObserved() if watch is None else FilesObserved(watch.paths, watch.ignore)


def missing(plan: Plan) -> SlotCondition | None:
    """Return what holds back all slots until the files were looked at; has that done when nobody has yet."""
    files = known(plan.observed.files, plan.spec.watch)
    if plan.spec.watch is None or files.digest or files.trouble:
        return None
    asked_ns = files.asked_ns
    if asked_ns is None:
        asked_ns = plan.now_ns
        if ScanFiles(plan.name) not in plan.actions:
            plan.act(ScanFiles(plan.name))
    if plan.is_due(asked_ns + PATIENCE_NS):
        return None
    return SlotCondition("Waiting", "its watched files are being looked at")


def note(plan: Plan) -> str:
    """Return why edits of the watched files are not noticed; empty when they are."""
    trouble = known(plan.observed.files, plan.spec.watch).trouble
    return f"edits are not noticed: {trouble}" if trouble else ""


# ---- folding --------------------------------------------------------------------------------------


def after(before: FilesObserved, seen: FilesSeen) -> FilesObserved:
    """Return what is known after a look; when it was in vain, what was seen before stays good."""
    digest = seen.digest or before.digest
    changed = _named(seen) if digest != before.digest else before.changed
    return FilesObserved(seen.paths, seen.ignore, digest, before.asked_ns, seen.trouble, changed)


def events_of(
    before: FilesObserved, seen: FilesSeen, records: Iterable[ProcessRecord]
) -> Iterator[Event]:
    """Yield what people are told: a change, also one that nobody was there to see, a trouble, and its end."""
    name = seen.watcher
    if seen.trouble:
        if seen.trouble != before.trouble:
            message = f"{name}: edits of its watched files are not noticed: {seen.trouble}"
            yield Event("files.failed", message, name)
        return
    if before.trouble:
        message = f"{name}: edits of its watched files are noticed again"
        yield Event("files.recovered", message, name)
    if before.digest not in {"", seen.digest}:
        message = f"{name}: watched files changed: {_named(seen)}"
        yield Event("files.changed", message, name, details={"files": list(seen.changed)})
    elif not before.digest and any(
        files_of(each.template_hash) not in {"", seen.digest} for each in records
    ):
        message = f"{name}: watched files changed while the controller was away"
        yield Event("files.changed", message, name)


def _named(seen: FilesSeen) -> str:
    """Return which files have changed, the first few by name."""
    more = seen.count - len(seen.changed)
    return format_few([*seen.changed, *[""] * more], MAX_NAMED) if seen.changed else "some"
