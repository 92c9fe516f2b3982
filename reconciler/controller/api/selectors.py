"""Names, globs, slots and labels of a request: which watchers, and which of their slots, are meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import translate
from functools import lru_cache
from typing import Final, TypeAlias

from reconciler.core import desired
from reconciler.core.reconciler import Reconciler
from reconciler.model.answer import EventEntry
from reconciler.model.errors import RequestError
from reconciler.model.process import ProcessId
from reconciler.model.value import Struct
from reconciler.wire.methods import AskEvents, Selects

Slots: TypeAlias = "tuple[int, ...] | None"
"""Slots of one watcher; None is the watcher as a whole."""


MAX_GLOBS: Final = 16
"""Different globs of one selection; names and slots that are written out cost nothing and are not counted."""
MAX_GLOB: Final = 256
"""Characters of one glob."""
COMPARED_NAMES: Final = 100
"""Names that a mistyped one is compared with."""
_GLOB: Final = re.compile(r"[*?\[]")


class Wanted(Struct, frozen=True):
    """A selection as it was written; it may be asked again when there are other watchers."""

    names: tuple[str, ...] = ()
    labels: Mapping[str, str] | None = None

    @property
    def is_all(self) -> bool:
        """Tell whether all watchers are meant."""
        return not self.names and not self.labels

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Tell whether a watcher is meant, as a whole or one of its slots."""
        if self.labels and any(labels.get(key) != value for key, value in self.labels.items()):
            return False
        return not self.names or compiled(self.names).matches(name)

    def slots(self, name: str) -> Slots:
        """Return which slots of a watcher that matches are meant."""
        return compiled(self.names).slots(name)


class Compiled(Struct, frozen=True):
    """What is written, ready to be compared with many names."""

    written_out: Mapping[str, frozenset[int | None]]
    """Names without a glob, with their slots; None is the watcher as a whole."""
    globs: tuple[tuple[str, re.Pattern[str], int | None], ...]
    """As it is written, its expression, and its slot."""
    any_glob: re.Pattern[str] | None
    """All globs in one expression."""

    def matches(self, name: str) -> bool:
        """Tell whether a name is meant."""
        return name in self.written_out or (
            self.any_glob is not None and self.any_glob.match(name) is not None
        )

    def among(self, names: list[str]) -> list[str]:
        """Return those that are meant; each is looked at once, however much is written."""
        return [name for name in names if self.matches(name)]

    def slots(self, name: str) -> Slots:
        """Return the slots of a watcher that are meant."""
        found = set(self.written_out.get(name, ()))
        if None not in found:
            found |= {slot for _, pattern, slot in self.globs if pattern.match(name)}
        return None if None in found else tuple(sorted(s for s in found if s is not None)) or None


@lru_cache(maxsize=512)
def compiled(names: tuple[str, ...]) -> Compiled:
    """Return names and globs, ready to be compared with many names."""
    written_out: dict[str, set[int | None]] = {}
    globs = []
    for written in dict.fromkeys(names):
        pattern, slot = _split(written)
        if _GLOB.search(pattern) is None:
            written_out.setdefault(pattern, set()).add(slot)
        else:
            globs.append((written, re.compile(translate(pattern)), slot))
    return Compiled(
        {name: frozenset(slots) for name, slots in written_out.items()},
        tuple(globs),
        re.compile("|".join(each.pattern for _, each, _ in globs)) if globs else None,
    )


def _split(written: str) -> tuple[str, int | None]:
    """Return name or glob, and the slot that is meant, None for the watcher as a whole."""
    pattern, dot, slot = written.rpartition(".")
    return (pattern, int(slot)) if dot and slot.isdecimal() else (written, None)


class Selected(Struct, frozen=True):
    """Watchers that exist, with the slots that are meant; `by_name` are those written without a glob."""

    slots: Mapping[str, Slots]
    by_name: frozenset[str]


def wanted(asked: Selects) -> Wanted:
    """Return the selection of a request. Raises `RequestError` when it is too costly."""
    _check_cost("names", asked.names, "write names out, or use labels")
    return Wanted(tuple(dict.fromkeys(asked.names)), asked.labels or None)


def _check_cost(field: str, written: Iterable[str], hint: str) -> None:
    """Refuse names and globs that are too costly. Raises `RequestError`."""
    globs = {each for each in written if _GLOB.search(each)}
    longest = max(map(len, globs), default=0)
    if len(globs) > MAX_GLOBS or longest > MAX_GLOB:
        message = (
            f"{field}: {len(globs)} globs, at most {MAX_GLOBS} can be given"
            if len(globs) > MAX_GLOBS
            else f"{field}: a glob of {longest} characters, it can have {MAX_GLOB}"
        )
        raise RequestError(code="invalid_request", message=message, hint=hint)


def select(core: Reconciler, selection: Wanted, *, needed: bool = False) -> Selected:
    """Return the watchers that a selection means now; none given means all, unless names are `needed`.

    Names without a glob among them come in the order in which they are written, all others in that of the spec.
    Raises `RequestError`: `not_found`, with near names, for each written name that matches nothing.
    """
    if needed and selection.is_all:
        hint = "give names, globs such as 'web*', slots such as web.2, or labels"
        raise RequestError(
            code="invalid_request", message="say which watchers are meant", hint=hint
        )
    written = compiled(selection.names)
    if selection.names:
        if written.any_glob is None:  # of many others none is looked at
            names = [name for name in written.written_out if core.has(name)]
        else:
            names = written.among(core.names())
        _refuse_unknown(selection.names, written, names, core)
    else:
        names = core.names()
    if selection.labels:
        names = [name for name in names if selection.matches(name, labels_of(core, name))]
    if selection.labels and not names:
        shown = ",".join(f"{key}={value}" for key, value in selection.labels.items())
        raise RequestError(code="not_found", message=f"no watcher has the labels {shown}")
    found = {name: written.slots(name) if selection.names else None for name in names}
    for name, slots in found.items():
        for slot in slots or ():
            _check_slot(core, name, slot)
    return Selected(found, frozenset(found) & {_split(written)[0] for written in selection.names})


def _refuse_unknown(
    names: tuple[str, ...], compiled: Compiled, found: list[str], core: Reconciler
) -> None:
    """Raise `RequestError` for the first written name that matches nothing."""
    there = set(found)
    patterns = {written: pattern for written, pattern, _ in compiled.globs}
    for written in names:
        pattern = patterns.get(written)
        name = _split(written)[0]
        if not (name in there if pattern is None else any(map(pattern.match, found))):
            raise _not_found(written, core.names())


def labels_of(core: Reconciler, name: str) -> Mapping[str, str]:
    """Return the labels of a watcher; one that is being removed has none."""
    spec = core.spec.watchers.get(name)
    return spec.labels if spec is not None else {}


def _check_slot(core: Reconciler, name: str, slot: int) -> None:
    spec = core.spec.watchers.get(name)
    observed = core.observed(name)
    count = 0 if spec is None else desired.count(spec, observed.intent)
    exists = ProcessId(name, slot) in observed.records or slot in observed.job.runs
    if not 1 <= slot <= count and not exists:
        hint = f"its slots: 1 to {count}" if count else "it has none just now"
        raise RequestError(code="not_found", message=f"{name} has no slot {slot}", hint=hint)


def near_names(name: str, known: list[str]) -> list[str]:
    """Return a few known names that a mistyped one may mean; only some are compared, so that none waits for it."""
    from difflib import get_close_matches

    name = name[:MAX_GLOB]
    alike = [each for each in known if each[:1] == name[:1]] or known
    return get_close_matches(name, alike[:COMPARED_NAMES], 3)


def _not_found(written: str, known: list[str]) -> RequestError:
    near = near_names(_split(written)[0], known)
    if near:
        hint = f"did you mean {', '.join(near)}?"
    elif known:
        hint = f"there are {', '.join(known[:8])}{', ...' if len(known) > 8 else ''}"
    else:
        hint = "there are no watchers"
    return RequestError(
        "not_found", f"no watcher matches {written[:128]!r}", hint=hint, details={"near": near}
    )


# ---- events ---------------------------------------------------------------------------------------


def event_test(asked: AskEvents) -> Callable[[EventEntry], bool]:
    """Return what tells whether an event is meant: many are asked about, however much is written.

    Names are those of watchers and slots, types such as process.exited, process or *.failed; none: all. Raises
    `RequestError` when it is too costly.
    """
    _check_cost("names", asked.names, "write names out")
    _check_cost("types", asked.types, "write types out")
    names, types = compiled(asked.names), compiled(asked.types)

    def means(told: EventEntry) -> bool:
        if told.time_ns < asked.since_ns:
            return False
        if asked.types and not any(map(types.matches, _forms(told.type))):
            return False
        if not asked.names:
            return True
        if not told.watcher or not names.matches(told.watcher):
            return False
        slots = names.slots(told.watcher)
        return slots is None or told.slot in {0, *slots}

    return means


def _forms(type: str) -> Iterator[str]:
    """Yield a type and its first words: `process.exited` and `process`."""
    while type:
        yield type
        type = type.rpartition(".")[0]
