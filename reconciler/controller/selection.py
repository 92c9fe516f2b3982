"""Names, globs, slots and labels of a request: which watchers, and which of their slots, are meant."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TypeAlias

from reconciler.model.errors import RequestError
from reconciler.model.process import MAIN
from reconciler.model.value import Struct

if TYPE_CHECKING:
    from reconciler.controller.loop import Controller
    from reconciler.controller.parameters import Parameters

Slots: TypeAlias = "tuple[int, ...] | None"
"""Slots of one watcher; None is the watcher as a whole."""


class Wanted(Struct, frozen=True):
    """A selection as it was written; it may be asked again when there are other watchers."""

    names: tuple[str, ...] = ()
    labels: Mapping[str, str] | None = None

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Tell whether a watcher is meant, as a whole or one of its slots."""
        if self.labels and any(labels.get(key) != value for key, value in self.labels.items()):
            return False
        return not self.names or any(_covers(written, name) is not False for written in self.names)

    def slots(self, name: str) -> Slots:
        """Return which slots of a watcher that matches are meant."""
        found: set[int] = set()
        for written in self.names:
            covered = _covers(written, name)
            if covered is None:
                return None
            if covered is not False:
                found.add(covered)
        return tuple(sorted(found)) or None


def _covers(written: str, name: str) -> int | bool | None:
    """Return the slot that is meant, None for the whole watcher, False for none of it."""
    pattern, dot, slot = written.rpartition(".")
    if dot and slot.isdecimal():
        return int(slot) if fnmatchcase(name, pattern) else False
    return None if fnmatchcase(name, written) else False


class Selected(Struct, frozen=True):
    """Watchers that exist, with the slots that are meant; `by_name` are those written without a glob."""

    slots: Mapping[str, Slots]
    by_name: frozenset[str]


def wanted(params: Parameters) -> Wanted:
    """Take the selection out of a request's parameters."""
    return Wanted(params.texts("names"), params.text_map("labels") or None)


def select(controller: Controller, selection: Wanted, *, needed: bool = False) -> Selected:
    """Return the watchers that a selection means now; none given means all, unless names are `needed`.

    Raises `RequestError`: `not_found`, with near names, for each written name that matches nothing.
    """
    if needed and not selection.names and not selection.labels:
        hint = "give names, globs such as 'web*', slots such as web.2, or labels"
        raise RequestError(
            code="invalid_request", message="say which watchers are meant", hint=hint
        )
    known = controller.reconciler.names()
    labels = {name: labels_of(controller, name) for name in known} if selection.labels else {}
    for written in selection.names:
        if all(_covers(written, name) is False for name in known):
            raise _not_found(written, known)
    names = [name for name in known if selection.matches(name, labels.get(name, {}))]
    if selection.labels and not names:
        shown = ",".join(f"{key}={value}" for key, value in selection.labels.items())
        raise RequestError(code="not_found", message=f"no watcher has the labels {shown}")
    found = {name: selection.slots(name) for name in names}
    for name, slots in found.items():
        for slot in slots or ():
            _check_slot(controller, name, slot)
    return Selected(found, frozenset(found) & {_plain(written) for written in selection.names})


def labels_of(controller: Controller, name: str) -> Mapping[str, str]:
    """Return the labels of a watcher; one that is being removed has none."""
    spec = controller.reconciler.spec.watchers.get(name)
    return spec.labels if spec is not None else {}


def _plain(written: str) -> str:
    name, dot, slot = written.rpartition(".")
    return name if dot and slot.isdecimal() else written


def _check_slot(controller: Controller, name: str, slot: int) -> None:
    spec = controller.reconciler.spec.watchers.get(name)
    observed = controller.reconciler.observed(name)
    scale = observed.intent.scale
    count = (spec.numprocesses if scale is None else scale) if spec is not None else 0
    exists = {id.slot for id in observed.records if id.role == MAIN} | observed.job.runs.keys()
    if not 1 <= slot <= count and slot not in exists:
        hint = f"its slots: 1 to {count}" if count else "it has none just now"
        raise RequestError(code="not_found", message=f"{name} has no slot {slot}", hint=hint)


def _not_found(written: str, known: list[str]) -> RequestError:
    from difflib import get_close_matches

    near = get_close_matches(_plain(written), known, 3)
    if near:
        hint = f"did you mean {', '.join(near)}?"
    elif known:
        hint = f"there are {', '.join(known[:8])}{', ...' if len(known) > 8 else ''}"
    else:
        hint = "there are no watchers"
    return RequestError(
        "not_found", f"no watcher matches {written[:128]!r}", hint=hint, details={"near": near}
    )
