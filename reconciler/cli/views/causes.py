"""Why a watcher is as it is: a chain of causes, put together from what the manager has told; nothing is guessed.

Whoever holds something back has said so in a condition, an event or a run. Here that is brought into an order: what is
so, since when, what it comes from, what it waits for of others, what happens next by itself, and else what to type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final

from reconciler.cli.views.exits import meaning
from reconciler.cli.views.phrases import TROUBLE
from reconciler.cli.views.runs import trigger_text
from reconciler.model.answer import EventEntry, RunEntry
from reconciler.model.status import SlotStatus, Status, WatcherStatus
from reconciler.model.units import format_few
from reconciler.model.value import Struct, Word, field

Kind = Word[
    "state", "override", "exit", "start", "hook", "probe", "run", "socket", "revision", "spec", "next", "do", "told"
]  # fmt: skip
ENDS: Final = ("process.exited", "process.failed", "hook.failed", "probe.failing")
"""Types of events that say how something went wrong, or ended."""
_NEXT: Final = {
    "BackOff": "the next try",
    "Failed": "the next try",
    "Failing": "it counts as steady, unless it ends before",
    "Running": "its clients are counted, and it is stopped when it has had none",
    "Stopping": "SIGKILL",
    "Waiting": "it goes on",
}
"""What comes next by itself, at a slot's `next_ns`."""
NOT_GOOD: Final = frozenset({"paused", "failed"})
"""Verdicts on the revision in force, which names the watcher that decided."""


_REVISION: Final = "the revision"
"""Among the names of what was told, which have no blanks."""


class Cause(Struct, frozen=True):
    """One link of the chain: whose, what is so, since when or when it was, and what it comes from."""

    kind: Kind = "state"
    name: str = ""
    message: str = ""
    since_ns: int = 0
    due_ns: int | None = None
    """When it comes about by itself, or ends."""
    lines: tuple[str, ...] = ()
    """Of output."""
    because: tuple[Cause, ...] = ()


class Told(Struct, frozen=True):
    """What the manager has told: of all that are in the chain, by their names; lines by watcher and slot."""

    status: Status = field(default_factory=Status)
    watchers: Mapping[str, WatcherStatus] = field(default_factory=dict)
    events: Mapping[str, Sequence[EventEntry]] = field(default_factory=dict)
    runs: Mapping[str, Sequence[RunEntry]] = field(default_factory=dict)
    lines: Mapping[tuple[str, int], tuple[str, ...]] = field(default_factory=dict)


def comes_from(watcher: WatcherStatus) -> tuple[str, ...]:
    """Return the other watchers that may be the reason why one is as it is."""
    wanted = is_fine(watcher)
    return tuple(each.name for each in watcher.depends_on if not (each.met and wanted))


def is_fine(watcher: WatcherStatus) -> bool:
    """Tell whether nothing is wrong with a watcher, or with those of its slots that were asked for."""
    return watcher.as_desired or (bool(watcher.slots) and all(s.as_desired for s in watcher.slots))


def causes(told: Told, names: Sequence[str]) -> tuple[Cause, ...]:
    """Return the chain of each of these watchers, and what is wrong with the spec as a whole."""
    known: set[str] = set()
    return (*(_chain(told, told.watchers[name], known) for name in names), *_spec(told))


def _chain(told: Told, watcher: WatcherStatus, known: set[str]) -> Cause:
    """Return the chain of one watcher; what is in `known` was told before."""
    name = watcher.name
    if name in known:
        return Cause("told", name, f"{name} is {watcher.state}: see above")
    known.add(name)
    slots = [slot for slot in watcher.slots if not slot.as_desired]
    is_one, is_job = len(watcher.slots) == 1 and bool(slots), watcher.kind == "job"
    is_culprit = told.status.culprit == name
    revision = tuple(_revision(told, watcher, known))
    because = (
        *_overrides(watcher),
        *(() if is_culprit else revision),
        *_others(told, watcher, known),
        *_sockets(told, watcher),
        *(_last_end(told, watcher, slots[0]) if is_one else _groups(told, watcher, slots)),
        *(_run(told, watcher) if is_job else ()),
        *(_last_start(told, watcher) if is_fine(watcher) and not is_job else ()),
        *(revision if is_culprit else ()),
        *_next(watcher, slots),
    )
    since_ns = slots[0].since_ns if is_one else watcher.since_ns
    head = (slots[0].note if is_one else "") or _own_note(watcher)
    return Cause("state", name, _state(watcher, head), since_ns, because=because)


def _state(watcher: WatcherStatus, note: str) -> str:
    """Return in one sentence what a watcher does."""
    is_plain = is_fine(watcher) and watcher.state in {"Running", "Rolling"}
    state = "as desired" if is_plain else watcher.state
    ready = f"{watcher.ready} of {watcher.want} ready" if watcher.want > 1 else ""
    said = "; ".join(part for part in (ready, note) if part)
    return f"{watcher.name} is {state}" + (f": {said}" if said else "")


def _others(told: Told, watcher: WatcherStatus, known: set[str]) -> Iterator[Cause]:
    """Yield the chains of those that it waits for, and of the one for whose sake its revision is not good."""
    names = [] if watcher.state in {"Held", "Stopped"} else [*comes_from(watcher)]
    if _is_for_revision(told, watcher):
        names.append(told.status.culprit)
    unmet = {each.name for each in watcher.depends_on if not each.met}
    for name in dict.fromkeys(names):
        other = told.watchers.get(name)
        if other is not None and other is not watcher and (name in unmet or not is_fine(other)):
            yield _chain(told, other, known)


def _own_note(watcher: WatcherStatus) -> str:
    """Return the note of a watcher, without what stands in lines of its own: overrides, the next run, what to type."""
    said = [one.message for one in watcher.overrides] + [
        f"next run {i.shown}" for i in watcher.next_runs
    ]
    parts = watcher.note.partition("; try: reconcile")[0].split("; ")
    return "; ".join(part for part in parts if not any(each in part for each in said))


def _likeness(slot: SlotStatus) -> tuple[str, str]:
    return slot.state, slot.note


def _groups(told: Told, watcher: WatcherStatus, slots: Sequence[SlotStatus]) -> Iterator[Cause]:
    """Yield what slots do that all do the same."""
    for _, each in groupby(sorted(slots, key=_likeness), key=_likeness):
        alike = list(each)
        first, names = alike[0], [f"{watcher.name}.{slot.slot}" for slot in alike]
        message = f"{format_few(names, 5)} {'is' if len(names) == 1 else 'are'} {first.state}"
        stale = "of an older spec" if _is_kept(watcher) else "to be replaced"
        note = first.note or (stale if first.outdated else "")
        message += f": {note}" if note else ""
        since_ns = min(slot.since_ns for slot in alike)
        because = tuple(_last_end(told, watcher, first))
        yield Cause("state", names[0], message, since_ns, because=because)


# ---- what has happened ----------------------------------------------------------------------------


def _last_end(told: Told, watcher: WatcherStatus, slot: SlotStatus) -> Iterator[Cause]:
    """Yield how the last process of a slot ended, and what it wrote; the run of a job says it itself."""
    if watcher.kind == "job" and slot.state not in {"BackOff", "Waiting"}:
        return
    if slot.state in TROUBLE or slot.attempt or slot.state == "Waiting":
        event = _newest_end(told, watcher.name, slot)
        if event is not None:
            yield _ended(event, told.lines.get((watcher.name, slot.slot), ()))


def _newest_end(told: Told, name: str, slot: SlotStatus) -> EventEntry | None:
    """Return how something of a slot, or of its watcher as a whole, ended last."""
    events = told.events.get(name, ())
    found = [e for e in events if e.type in ENDS and e.slot in {0, slot.slot}]
    if slot.state == "Waiting" and not slot.attempt:  # for a hook, perhaps
        found = [each for each in found if each.type == "hook.failed"]
    return max(found, key=lambda event: event.time_ns, default=None)


def _ended(event: EventEntry, lines: tuple[str, ...] = ()) -> Cause:
    """Return an end, with what its exit usually means."""
    code, signal = event.details.get("exit_code"), event.details.get("signal")
    kinds: dict[str, Kind] = {"hook.failed": "hook", "probe.failing": "probe"}
    means = ""
    if event.type == "process.exited" and not event.details.get("reason"):
        means = meaning(
            code if isinstance(code, int) else None,
            signal if isinstance(signal, str) else None,
            event.message,
        )
    message = event.message + (f" ({means})" if means else "")
    who = f"{event.watcher}.{event.slot}" if event.slot else event.watcher
    return Cause(kinds.get(event.type, "exit"), who, message, event.time_ns, lines=lines)


def _run(told: Told, watcher: WatcherStatus) -> Iterator[Cause]:
    """Yield the last run of a job: of several slots that of one which did not succeed."""
    runs = told.runs.get(watcher.name, ())
    newest = [run for run in runs if run.generation == runs[0].generation]
    run = next((each for each in newest if each.outcome not in {"succeeded", None}), None)
    run = run or next(iter(newest), None)
    if run is None:
        return
    who = f"{run.name}.{run.slot}" if watcher.want > 1 else run.name
    message = f"run {run.generation} of {who} ({trigger_text(run)}) "
    if run.outcome is None:
        yield Cause("run", who, message + "is under way", run.fired_ns)
        return
    how = "" if run.exit is None else str(run.exit)
    means = ""
    if run.exit is not None and run.outcome == "failed":  # else it is known who ended it
        means = meaning(run.exit.code, run.exit.signal, how)
    message += ": ".join(part for part in (run.outcome, how or run.note) if part)
    message += f" ({means})" if means else ""
    lines = told.lines.get((run.name, run.slot), ()) if run.outcome != "succeeded" else ()
    yield Cause("run", who, message, run.ended_ns or run.fired_ns, lines=lines)


def _last_start(told: Told, watcher: WatcherStatus) -> Iterator[Cause]:
    """Yield which process was started last in place of another one, and why."""
    again = [s for s in watcher.slots if s.pid is not None and (s.restarts or s.replacements)]
    slot = max(again, key=lambda slot: slot.since_ns, default=None)
    if slot is None:
        return
    who = f"{watcher.name}.{slot.slot}"
    why = slot.renewed or "was replaced, as it was to run another spec"
    ends = (
        event
        for event in told.events.get(watcher.name, ())
        if event.slot == slot.slot and event.type in {"process.exited", "process.failed"}
        if event.time_ns <= slot.since_ns
    )
    end = max(ends, key=lambda event: event.time_ns, default=None)
    because = () if end is None else (_ended(end),)
    yield Cause("start", who, f"{who} {why}", slot.since_ns, because=because)


# ---- what keeps it so -----------------------------------------------------------------------------


def _overrides(watcher: WatcherStatus) -> Iterator[Cause]:
    for one in watcher.overrides:
        message = one.message + (f': "{one.why}"' if one.why else "")
        yield Cause("override", watcher.name, message, one.since_ns, one.until_ns)


def _sockets(told: Told, watcher: WatcherStatus) -> Iterator[Cause]:
    for socket in told.status.sockets:
        if watcher.name in socket.used_by and socket.state in {"Failed", "Unserved"}:
            message = f"socket {socket.name} ({socket.listen}) is {socket.state}: {socket.note}"
            yield Cause("socket", socket.name, message)


def _is_for_revision(told: Told, watcher: WatcherStatus) -> bool:
    """Tell whether the revision is not good, and that keeps a watcher from being replaced or is for its sake."""
    status = told.status
    return status.outcome in NOT_GOOD and (_is_kept(watcher) or status.culprit == watcher.name)


def _is_kept(watcher: WatcherStatus) -> bool:
    return any(each.reason == "Paused" for each in watcher.conditions)


def _revision(told: Told, watcher: WatcherStatus, known: set[str]) -> Iterator[Cause]:
    """Yield that the revision is not good, once."""
    status = told.status
    if _REVISION in known or not _is_for_revision(told, watcher):
        return
    known.add(_REVISION)
    what = "is paused" if status.outcome == "paused" else "failed and stays in force"
    what = f"revision {status.revision} {what}: {status.reason}"
    is_told = any(name == status.culprit for name, _ in told.lines)
    yield Cause("revision", status.culprit, what, lines=() if is_told else status.log)
    if status.outcome == "paused":
        do = "it goes on with: reconcile apply --continue, or a spec that is mended; back with: reconcile rollback"
        yield Cause("do", watcher.name, do)


def _spec(told: Told) -> Iterator[Cause]:
    """Yield that the files say something else than what is in force."""
    status = told.status
    if status.spec_state in {"pending", "invalid", "missing", "held", "rolled_back"}:
        said = status.spec_message or "; ".join(str(each) for each in status.spec_errors[:1])
        said = said or (status.reason if status.spec_state == "rolled_back" else "")
        what = f"the spec files are {status.spec_state.replace('_', ' ')}, and not in force"
        yield Cause("spec", "", f"{what}: {said}" if said else what)


# ---- what comes next ------------------------------------------------------------------------------


def _next(watcher: WatcherStatus, slots: Sequence[SlotStatus]) -> Iterator[Cause]:
    """Yield what the manager does next by itself, and when; else what to type."""
    due = [slot for slot in (slots or watcher.slots) if slot.next_ns is not None]
    first = min(due, key=lambda slot: slot.next_ns or 0, default=None)
    if first is not None:
        what = _NEXT.get(first.state, "it counts as ready")
        if first.state in {"Starting", "Failing"} and first.note.startswith("not ready"):
            what = "it fails unless it is ready"
        who = f"{watcher.name}.{first.slot}"
        what = f"{who}: {what}" if len(watcher.slots) > 1 else what
        yield Cause("next", who, what, due_ns=first.next_ns)
    for instant in watcher.next_runs[:1]:
        yield Cause("next", watcher.name, f"the next run: {instant.shown}", due_ns=instant.at_ns)
    if first is None and (do := _to_type(watcher)):
        yield Cause("do", watcher.name, do)


def _to_type(watcher: WatcherStatus) -> str:
    """Return what has to be typed for a watcher to go on; empty: nothing has."""
    name, state = watcher.name, watcher.state
    if state in {"Held", "Stopped"} and any(one.until_ns is not None for one in watcher.overrides):
        return f"sooner with: reconcile resume {name}"
    what = {
        "Held": f"reconcile resume {name}",
        "Stopped": "" if watcher.kind == "job" else f"reconcile start {name}",
        "Unknown": f"reconcile rerun {name}",
        "Failed": f"reconcile rerun {name} --failed"
        if watcher.kind == "job"
        else f"reconcile start {name}",
    }.get(state, "")
    return f"it stays so until: {what}" if what else ""
