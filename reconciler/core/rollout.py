"""Which running slots are replaced next: outdated or aged ones, never more at once than may be missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.core.backoff import share
from reconciler.core.sockets import needs_handover, waiting_for
from reconciler.core.template import sockets_of
from reconciler.model.process import Running
from reconciler.model.units import SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reconciler.core.plan import Draft
    from reconciler.model.process import ProcessRecord
    from reconciler.model.spec import WatcherSpec

SETTLED_AFTER_NS: Final = SECOND_NS
"""Without a `ready` probe a process counts as available when it has lived this long."""
MAX_UNAVAILABLE: Final = 1


def next_slots(draft: Draft, hashes: Mapping[int, str]) -> dict[int, str]:
    """Return the slots to stop now so that they start anew, each with the reason.

    Slots that are already on their way stay in; a slot that is not available anyway costs nothing, and a
    new process that dies quickly keeps its slot unavailable: the roll stops there by itself.
    """
    mains = {slot: draft.main(slot) for slot in hashes}
    stale = {}
    for slot, record in mains.items():
        reason = None if record is None else why_stale(draft, record, hashes[slot])
        if reason:
            stale[slot] = reason
    if not stale:
        return {}
    under_way = {
        slot: reason
        for slot, reason in stale.items()
        if (record := mains[slot]) and record.memory.stopping_since_ns is not None
    }
    if _handover(draft):
        return stale
    if draft.observed.intent.at_once:
        under_way |= {
            slot: stale[slot] for slot in stale if _by_restart_only(mains[slot], hashes[slot])
        }
    if not _sockets_bound(draft, hashes):
        return under_way
    missing = [slot for slot in hashes if not is_available(draft, mains[slot])]
    budget = MAX_UNAVAILABLE - len(missing)
    chosen = dict(under_way)
    for slot, reason in sorted(stale.items()):
        if slot in chosen:
            continue
        if slot in missing:
            if missing == [slot]:
                chosen[slot] = reason
        elif budget > 0:
            chosen[slot] = reason
            budget -= 1
    return chosen


def _by_restart_only(record: ProcessRecord | None, wanted_hash: str) -> bool:
    """Tell whether only an operator's restart makes a process stale: its template is the wanted one."""
    return (
        record is not None
        and record.template_hash.partition(".")[0] == wanted_hash.partition(".")[0]
    )


def why_stale(draft: Draft, record: ProcessRecord, wanted_hash: str) -> str | None:
    """Return why a running process shall be replaced, or None."""
    if not isinstance(record.phase, Running):
        return None
    if record.template_hash != wanted_hash:
        return "replaced"
    if draft.spec.max_age is not None:
        end = record.phase.started_at_ns + lifetime_ns(draft.spec, record)
        if draft.is_due(end):
            return "expired"
    return None


def lifetime_ns(spec: WatcherSpec, record: ProcessRecord) -> int:
    """Return how long this process may live: max_age, and its own share of the variance."""
    assert spec.max_age is not None
    return spec.max_age + spec.max_age_variance * share(f"{record.id}/{record.incarnation}") // 1000


def is_available(draft: Draft, record: ProcessRecord | None) -> bool:
    """Tell whether a slot's process serves: it runs, is not being stopped and has settled."""
    if record is None or not isinstance(record.phase, Running):
        return False
    if record.memory.stopping_since_ns is not None:
        return False
    return draft.is_due(record.phase.started_at_ns + SETTLED_AFTER_NS)


def _sockets_bound(draft: Draft, hashes: Mapping[int, str]) -> bool:
    """Tell whether new processes would find their sockets; old ones are worth more than none."""
    specs = draft.world.socket_specs
    shared = [name for name in sockets_of(draft.spec) if not specs[name].reuseport]
    return all(waiting_for(draft.world, name, slot=0) is None for name in shared)


def _handover(draft: Draft) -> bool:
    return any(needs_handover(draft.world, name) for name in sockets_of(draft.spec))
