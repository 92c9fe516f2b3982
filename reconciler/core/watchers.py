"""The plan of one watcher: what is common to services and jobs, around what each of them does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.core import intents, jobs, own_sockets, services, settings
from reconciler.core.hooks import clean_up
from reconciler.core.running import send_signals
from reconciler.model.action import RecordIntent

if TYPE_CHECKING:
    from reconciler.core.plan import Draft, Plan


def plan_watcher(draft: Draft, base_hash: str) -> Plan:
    """Return what to do for one watcher now. `base_hash` is the hash of what its spec runs."""
    if _words_end(draft):
        return draft.finish()
    settings.adjust(draft)
    if draft.spec.is_job:
        jobs.plan_job(draft, base_hash)
    else:
        services.plan_service(draft, base_hash)
    send_signals(draft)
    if not draft.is_unfinished:
        own_sockets.tend(draft)
        clean_up(draft)
    return draft.finish()


def _words_end(draft: Draft) -> bool:
    """Tell whether some of the operator's words are over now; it is planned again without them."""
    intent = draft.observed.intent
    end_ns = intents.next_end_ns(intent)
    if end_ns is None or not draft.is_due(end_ns):
        return False
    draft.act(RecordIntent(draft.name, intents.in_force(intent, draft.now_ns)))
    return True
