"""Where the output of watchers lies, who else writes there, and why there may be none.

A file that several slots write to is one place: whose line is whose is not known, so the place belongs to the watcher
as a whole, or to nobody where several watchers write.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from reconciler.controller.output.log_files import LogPlace
from reconciler.core import desired
from reconciler.core.reconciler import Reconciler
from reconciler.core.template import hooks_log, log_paths
from reconciler.model.process import MAIN
from reconciler.model.spec import WatcherSpec
from reconciler.model.status import WatcherStatus
from reconciler.model.value import Part, field, replace

_NO_FILES: Final = frozenset(("manager", "journal", "syslog", "devnull"))
_UNBUFFERED: Final = frozenset({"-u", "-uB", "-Bu"})


class LogPlaces(Part):
    """The places of all watchers, as the spec in force has them."""

    core: Reconciler
    status_of: Callable[[str], WatcherStatus]
    _revision: int = -1
    _writers: dict[str, set[str]] = field(default_factory=dict)
    """Of files that a spec names, the watchers that write there; all others belong to one slot."""

    def of(
        self, name: str, slots: tuple[int, ...] | None, *, stderr: bool, hooks: bool
    ) -> list[LogPlace]:
        """Return where the output of a watcher's slots lies, also of slots that have ended, each place once.

        `stderr`: of standard error alone. `hooks`: of its hooks, stop and reload commands instead.
        """
        if hooks:
            return [LogPlace(name, 0, "hooks", hooks_log(name, self.core.facts))]
        spec = self.core.watcher_spec(name)
        if spec is None:
            return []
        all_slots = self._slots(name, spec)
        found: dict[str, LogPlace] = {}
        for slot in slots or all_slots:
            for source, path in self._paths(name, spec, slot):
                place = found.get(path)
                if place is None:
                    found[path] = self._place(name, spec, slot, source, path, all_slots)
                elif place.source != source and place.slot in {0, slot}:
                    found[path] = replace(place, source="stdout")
        return [place for place in found.values() if place.source == "stderr" or not stderr]

    def why_empty(self, name: str, *, stderr: bool, hooks: bool) -> str:
        """Return why a watcher has no output to be shown."""
        spec = self.core.watcher_spec(name)
        if spec is None:
            return f"{name} is in no spec any more"
        if hooks:
            return f"no hook, stop command or reload command of {name} has written anything"
        elsewhere = _elsewhere(name, spec, stderr=stderr)
        if elsewhere:
            return elsewhere
        status = self.status_of(name)
        runs = any(slot.pid is not None or slot.exit is not None for slot in status.slots)
        failed = next((s.exit.error for s in status.slots if s.exit and s.exit.error), None)
        if failed is not None or not runs:
            what = "could not be started" if failed is not None else "does not run"
            return f"{name} has not written anything and {what}: {status.note or status.state}"
        what = f"{name} has not written anything" + (" to standard error" if stderr else " yet")
        if status.kind == "job" and all(slot.pid is None for slot in status.slots):
            what = f"{name} has ended without writing anything"
        return what + (_BUFFERS if _buffers(spec) and not stderr else "")

    def _slots(self, name: str, spec: WatcherSpec) -> list[int]:
        observed = self.core.observed(name)
        slots = set(range(1, desired.count(spec, observed.intent) + 1))
        return sorted(slots.union(id.slot for id in observed.records if id.role == MAIN))

    def _paths(self, name: str, spec: WatcherSpec, slot: int) -> list[tuple[str, str]]:
        paths = log_paths(name, spec, slot, self.core.facts)
        return [
            (source, os.path.abspath(path))
            for source, path in zip(("stdout", "stderr"), paths, strict=True)
            if path is not None
        ]

    def _place(
        self, name: str, spec: WatcherSpec, slot: int, source: str, path: str, slots: list[int]
    ) -> LogPlace:
        place = LogPlace(name, slot, source, path)
        if not _names_files(spec):
            return place
        other = next((each for each in slots if each != slot), slot)
        if other != slot and path in {each for _, each in self._paths(name, spec, other)}:
            place = replace(place, slot=0)
        self._look()
        if self._writers.get(path, set()) - {name}:
            place = replace(place, watcher="", slot=0)
        return place

    def _look(self) -> None:
        if self._revision == self.core.revision:
            return
        self._revision, self._writers = self.core.revision, {}
        for name, spec in self.core.spec.watchers.items():
            if _names_files(spec):
                for slot in self._slots(name, spec):
                    for _, path in self._paths(name, spec, slot):
                        self._writers.setdefault(path, set()).add(name)


_BUFFERS: Final = (
    " (Python keeps output back while it goes to no terminal: use python3 -u or PYTHONUNBUFFERED=1)"
)


def _names_files(spec: WatcherSpec) -> bool:
    return spec.logs.stdout.file is not None or spec.logs.stderr.file is not None


def _elsewhere(name: str, spec: WatcherSpec, *, stderr: bool) -> str:
    """Return where the output goes instead of a file, empty when it goes to one."""
    logs = spec.logs
    joins = logs.stderr.to == "stdout" or (logs.stderr.to is None and logs.stderr.file is None)
    if stderr and joins:
        return f"standard error of {name} goes where its standard output goes (logs.stderr): leave --stderr out"
    field, to = ("stderr", logs.stderr.to) if stderr else ("stdout", logs.stdout.to)
    # Only where both go elsewhere there is nothing to be read.
    if not stderr and not joins and logs.stderr.to not in _NO_FILES:
        return ""
    if to == "manager":
        return f"the output of {name} goes to the manager's own output (logs.{field}.to)"
    if to == "journal":
        how = f"journalctl RECONCILE_WATCHER={name}"
        return f"the output of {name} goes to the journal (logs.{field}.to): {how}"
    if to == "syslog":
        how = f"each line with the tag {name}[SLOT]"
        return f"the output of {name} goes to syslog (logs.{field}.to), {how}"
    if to == "devnull":
        return f"the output of {name} is discarded (logs.{field}.to)"
    return ""


def _buffers(spec: WatcherSpec) -> bool:
    """Tell whether this is a Python program that keeps its output back."""
    words = spec.cmd
    if "PYTHONUNBUFFERED" in spec.env or not words:
        return False
    if spec.shell:
        words = tuple(" ".join(words).split())
    starts = [i for i, word in enumerate(words) if os.path.basename(word).startswith("python")]
    return bool(starts) and not _UNBUFFERED.intersection(words[starts[0] :])
