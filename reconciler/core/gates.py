"""What a slot has to wait for before it is started: secrets, sockets, the pause after another slot, its last death."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.core import hooks, own_sockets, secrets
from reconciler.core.backoff import due_ns, failures_after
from reconciler.core.sockets import waiting_for, why_waiting
from reconciler.core.template import sockets_of
from reconciler.model.process import Exited
from reconciler.model.units import format_duration

if TYPE_CHECKING:
    from reconciler.core.plan import Draft
    from reconciler.model.process import ProcessRecord

BEING_STARTED: Final = "is being started"


def gates_open(draft: Draft, slot: int) -> bool:
    """Tell whether a slot whose hooks have passed may start now; says why where it may not."""
    if may_spawn(draft, slot) and own_sockets.ready(draft, slot):
        return True
    hold_at_gate(draft, slot)
    return False


def may_spawn(draft: Draft, slot: int) -> bool:
    """Tell whether secrets, sockets and the pause between two slots let this slot start now."""
    return secrets.ready(draft) and _sockets_ready(draft, slot) and interval_is_over(draft, slot)


def _sockets_ready(draft: Draft, slot: int) -> bool:
    """Tell whether every socket that a slot shares with others is bound as its spec says."""
    specs = draft.world.socket_specs
    shared = [name for name in sockets_of(draft.spec) if not specs[name].reuseport]
    return all(waiting_for(draft.world, name, slot) is None for name in shared)


def interval_is_over(draft: Draft, slot: int) -> bool:
    """Tell whether the pause since the start of another slot (`spawn_interval`) is over."""
    interval = draft.spec.spawn_interval
    if not interval:
        return True
    newest = draft.newest_starts()
    if newest is None:  # one that is asked for but not running yet comes before this one
        return False
    start_ns = next((start_ns for start_ns, other in newest if other != slot), None)
    return start_ns is None or draft.is_due(start_ns + interval)


def hold_at_gate(draft: Draft, slot: int) -> None:
    """Say which gate keeps a slot from being started: secrets, a socket, or the pause after another slot."""
    reasons = (why_waiting(draft.world, name, slot) for name in sockets_of(draft.spec))
    reason = secrets.waiting_note(draft) or next(filter(None, reasons), "")
    if reason:
        draft.hold(slot, "Waiting", reason)
    elif slot not in draft.binding and draft.spec.spawn_interval:
        newest = draft.newest_starts() or ()
        interval = draft.spec.spawn_interval
        due_ns = next((at + interval for at, other in newest if other != slot), None)
        note = f"waiting for its turn: spawn_interval is {format_duration(interval)}"
        draft.hold(slot, "Waiting", note, 0, due_ns)
    else:
        draft.hold(slot, "Starting", BEING_STARTED)


def hold_death(draft: Draft, record: ProcessRecord) -> None:
    """Say how a process ended that is started again after a while."""
    assert isinstance(record.phase, Exited)
    slot, phase = record.id.slot, record.phase
    failures = failures_after(draft.spec.backoff, record.memory, phase)
    vetoed = record.memory.stop_reason == "vetoed"
    note = (vetoed and hooks.said(draft, "after_spawn", slot)) or str(phase.exit)
    note += f", {failures} times in a row" if failures > 1 else ""
    draft.hold(slot, "BackOff", note, phase.at_ns, due_ns(draft.spec.backoff, record))
