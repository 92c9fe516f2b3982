"""The plan of one watcher: what is common to services and jobs, around what each of them does."""

from __future__ import annotations

from reconciler.core import events, intents, jobs, probes, services, settings, sockets
from reconciler.core.hooks import clean_up
from reconciler.core.plan import Plan
from reconciler.core.running import send_signals
from reconciler.model.action import RecordIntent


def plan_watcher(plan: Plan, base_hash: str) -> None:
    """Fill the plan of a watcher. `base_hash` is the hash of what its spec runs."""
    if _words_end(plan):
        return
    settings.adjust(plan)
    if plan.spec.is_job:
        jobs.plan_job(plan, base_hash)
    else:
        services.plan_service(plan, base_hash)
    send_signals(plan)
    probes.follow(plan)
    if not plan.is_unfinished:
        sockets.tend(plan)
        clean_up(plan)


def _words_end(plan: Plan) -> bool:
    """Tell whether some of the operator's words are over now; it is planned again without them."""
    intent = plan.observed.intent
    end_ns = intents.next_end_ns(intent)
    if end_ns is None or not plan.is_due(end_ns):
        return False
    rest = intents.in_force(intent, plan.now_ns)
    plan.act(RecordIntent(plan.name, rest))
    plan.events.extend(events.of_words_end(plan.name, intent, rest))
    return True
