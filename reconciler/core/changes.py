"""What applying a spec would do, and why: `reconcile plan`, made from the declared effects alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.core import summarize, watchers
from reconciler.core.template import run_hash, sockets_of
from reconciler.model.change import Change, Drift, FieldChange
from reconciler.model.hiding import HIDDEN, hide, hide_in_command, is_secret_name
from reconciler.model.process import MAIN, pid_of
from reconciler.model.spec import declared_fields
from reconciler.model.units import (
    DURATION,
    MODE,
    SECONDS,
    SIZE,
    format_duration,
    format_mode,
    format_size,
)
from reconciler.model.value import TAG, Struct, Tagged, to_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from reconciler.model.change import How
    from reconciler.model.observed import WatcherObserved
    from reconciler.model.spec import Effect, Field, Spec, WatcherSpec
    from reconciler.model.value import Plain

MAX_SHOWN: Final = 80


def changes(old: Spec, new: Spec, observed: Callable[[str], WatcherObserved]) -> tuple[Change, ...]:
    """Return what applying `new` over `old` does, watcher by watcher and socket by socket."""
    found = list(_socket_changes(old, new))
    same_sockets = old.sockets == new.sockets
    for name, spec in new.watchers.items():
        if name not in old.watchers:
            found.append(_created(name, spec))
        elif not (same_sockets and is_alike(old.watchers[name], spec)):
            found.extend(_edited(name, old, new, observed(name)))
    for name in old.watchers:
        if name not in new.watchers:
            slots = live_slots(observed(name))
            found.append(Change("watcher", name, "remove", _stops(slots), slots))
    for kind in ("daemon", "apply"):
        fields = tuple(_differences(getattr(old, kind), getattr(new, kind), ""))
        if fields:
            found.append(Change(kind, kind, "none", _when(fields), (), fields))
    return tuple(found)


def is_alike(before: WatcherSpec | None, after: WatcherSpec | None) -> bool:
    """Tell whether two watchers are equal; of a spec that was read again most are the very same."""
    return before is after or before == after


def _when(fields: tuple[FieldChange, ...]) -> str:
    """Return which fields of the manager itself count when."""
    now = tuple(f for f in fields if f.effect == "live")
    later = tuple(f for f in fields if f.effect != "live")
    told = [f"{_names(now)} changed: in place"] if now else []
    if later:
        told.append(f"{_names(later)} changed: takes effect at the manager's next start")
    return "; ".join(told)


def drift(
    spec: Spec, observed: Callable[[str], WatcherObserved], wall_offset_ns: int
) -> tuple[Drift, ...]:
    """Return what stays otherwise than a spec says when it is applied: the operators' words."""
    found = []
    for name, watcher in spec.watchers.items():
        intent = observed(name).intent
        if summarize.drifts(watcher, intent):
            found.append(Drift(name, summarize.words(watcher, intent, wall_offset_ns)))
    return tuple(found)


def live_slots(observed: WatcherObserved) -> tuple[int, ...]:
    """Return the slots that have a live process."""
    return tuple(
        sorted(id.slot for id, r in observed.records.items() if id.role == MAIN and pid_of(r.phase))
    )


def _created(name: str, spec: WatcherSpec) -> Change:
    want = spec.numprocesses
    slots = tuple(range(1, want + 1))
    if not spec.autostart:
        return Change("watcher", name, "create", "new, waits for `reconcile start`")
    if spec.is_job:
        return Change("watcher", name, "fire", f"new job: fires {_processes(want)}", slots)
    return Change("watcher", name, "create", f"new: starts {_processes(want)}", slots)


def _stops(slots: tuple[int, ...]) -> str:
    return f"removed: stops {_processes(len(slots))}" if slots else "removed: nothing runs"


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"


def _edited(name: str, old: Spec, new: Spec, observed: WatcherObserved) -> Iterator[Change]:
    before, after = old.watchers[name], new.watchers[name]
    fields = tuple(_differences(before, after, ""))
    hashes = run_hash(before, old.sockets), run_hash(after, new.sockets)
    if not fields and hashes[0] == hashes[1]:
        return
    slots = live_slots(observed)
    how, message = _effect(before, after, fields, observed, replaced=hashes[0] != hashes[1])
    if hashes[0] != hashes[1] and not fields:
        rebound = [s for s in sockets_of(after) if old.sockets.get(s) != new.sockets[s]]
        message = f"{message} (socket {', '.join(rebound)} changed)"
    yield Change("watcher", name, how, message, slots if how == "replace" else (), fields)


def _effect(
    before: WatcherSpec,
    after: WatcherSpec,
    fields: tuple[FieldChange, ...],
    observed: WatcherObserved,
    *,
    replaced: bool,
) -> tuple[How, str]:
    """Return how an edit is carried out, and that in words with its reason."""
    reason = (
        _names(tuple(f for f in fields if f.effect == "restart")) if replaced else _names(fields)
    )
    running = len(live_slots(observed))
    if replaced and not running and observed.intent.hold == "stopped":
        return "none", f"{reason} changed: counts when it is started, an operator stopped it"
    if replaced and after.is_job:
        if "spec_change" in after.rerun_on:
            return "fire", f"job will fire again: {reason} changed"
        return "none", f"{reason} changed: not fired, rerun_on has no spec_change"
    if replaced:
        how = "one by one" if running > 1 else "now"
        return "replace", f"replaced {how}: {reason} changed"
    want = watchers.wanted(before, observed.intent), watchers.wanted(after, observed.intent)
    if want[0] != want[1] and {f.field for f in fields} <= {"numprocesses", "autostart"}:
        return "scale", f"{want[0]} -> {want[1]} processes"
    if all(f.effect == "none" for f in fields):
        return "none", f"{reason} changed: nothing runs differently"
    return "live", f"{reason} changed: in place"


def _names(fields: tuple[FieldChange, ...]) -> str:
    return ", ".join(f.field for f in fields) or "sockets"


def _socket_changes(old: Spec, new: Spec) -> Iterator[Change]:
    for name, spec in new.sockets.items():
        if name not in old.sockets:
            yield Change("socket", name, "bind", f"new: binds {spec.listen}")
            continue
        fields = tuple(_differences(old.sockets[name], spec, ""))
        if any(f.effect == "rebind" for f in fields):
            yield Change(
                "socket", name, "rebind", f"bound anew: {_names(fields)} changed", (), fields
            )
        elif any(f.effect == "restart" for f in fields):
            message = f"{_names(fields)} changed: counts for processes that are started from now on"
            yield Change("socket", name, "live", message, (), fields)
        elif fields:
            yield Change("socket", name, "live", f"{_names(fields)} changed: in place", (), fields)
    for name in old.sockets:
        if name not in new.sockets:
            yield Change("socket", name, "unbind", "removed: closed")


def _differences(old: object, new: object, prefix: str) -> Iterator[FieldChange]:
    """Yield the fields that differ, down to the innermost blocks of the same kind."""
    for declared in declared_fields(type(new)):
        before, after = getattr(old, declared.attribute), getattr(new, declared.attribute)
        path = f"{prefix}{declared.name}"
        if before == after:
            continue
        if isinstance(after, Struct) and type(before) is type(after) and not _is_whole(declared):
            yield from _differences(before, after, f"{path}.")
        elif declared.name == "env":
            yield from _env_differences(path, declared.about.effect, before, after)
        else:
            yield FieldChange(
                path, declared.about.effect, _shown(declared, before), _shown(declared, after)
            )


def _is_whole(declared: Field) -> bool:
    """Addresses are one value for people, though they have parts."""
    return declared.name == "listen"


def _env_differences(
    path: str, effect: Effect, old: Mapping[str, str], new: Mapping[str, str]
) -> Iterator[FieldChange]:
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            shown = [
                "(unset)"
                if side.get(key) is None
                else HIDDEN
                if is_secret_name(key)
                else hide(side[key])[:MAX_SHOWN]
                for side in (old, new)
            ]
            yield FieldChange(f"{path}.{key}", effect, shown[0], shown[1])


def _shown(declared: Field, value: object) -> str:
    """Return a value as users write it."""
    if value is None:
        return "null"
    if isinstance(value, int) and not isinstance(value, bool):
        if DURATION in declared.markers or SECONDS in declared.markers:
            return format_duration(value)
        if SIZE in declared.markers:
            return format_size(value)
        if MODE in declared.markers:
            return format_mode(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if declared.name == "cmd" and isinstance(value, tuple):
        return " ".join(hide_in_command(map(str, value)))[:MAX_SHOWN]
    if declared.name == "listen":
        return str(value)
    plain = to_plain(value)
    if isinstance(value, Tagged):
        del plain[TAG]
    return hide(str(_hidden("", plain)))[:MAX_SHOWN]


def _hidden(name: str, plain: Plain) -> Plain:
    """Return a plain value without the parts that their names or commands make secret."""
    if isinstance(plain, dict):
        return {key: _hidden(str(key), item) for key, item in plain.items()}
    if name == "cmd" and isinstance(plain, list):
        return list(hide_in_command(map(str, plain)))
    return HIDDEN if is_secret_name(name) else plain


# ---- the guard against mass removal ---------------------------------------------------------------


def removal_refused(old: Spec, new: Spec, observed: Callable[[str], WatcherObserved]) -> str | None:
    """Return why an edit removes too much to be applied unasked, or None.

    Counts watchers that run; acts from two removals on (decision: one is an ordinary edit).
    """
    running = [name for name in old.watchers if live_slots(observed(name))]
    removed = [name for name in running if name not in new.watchers]
    if len(removed) < 2 or len(removed) * 100 <= len(running) * new.apply.max_removal:
        return None
    return (
        f"the edit removes {len(removed)} of {len(running)} running watchers ({', '.join(removed[:5])}"
        f"{', ...' if len(removed) > 5 else ''}), more than apply.max_removal {new.apply.max_removal}% allows"
    )
