"""How long to wait after a death, and when to give a slot up.

Jitter comes from a hash of who died, not from chance: the core answers the same question the same way.
"""

from __future__ import annotations

from typing import Final

from reconciler.model.digest import sha256
from reconciler.model.process import Exited, Memory, ProcessRecord
from reconciler.model.spec import BackoffSpec, WatcherSpec
from reconciler.model.units import SECOND_NS

SIGNAL_EFFECT_NS: Final = 10 * SECOND_NS
"""A process that ends within this time after an operator's signal or reload was ended by that."""
SHORTAGE_RETRY_NS: Final = SECOND_NS
"""No pids, memory or descriptors just now: try again soon, for ever, without counting."""
ANNOUNCED_NS: Final = SECOND_NS
"""How often at most a process is started that ends again and again as it has said it would."""


def wait_ns(spec: BackoffSpec, failures: int, seed: str) -> int:
    """Return how long to wait before the next start after `failures` quick deaths in a row.

    The first `burst` restart at once; then initial, initial x factor, ... up to `max`, plus jitter.
    """
    beyond = failures - spec.burst
    if beyond <= 0:
        return 0
    wait = _grown(spec, beyond - 1)
    return wait + wait * spec.jitter * share(seed) // 100_000


def veto_wait_ns(spec: BackoffSpec, attempt: int) -> int:
    """Return how long to wait after a hook's veto number `attempt` (from 0); no burst, hooks are tries."""
    return _grown(spec, attempt)


def doubled_ns(first_ns: int, last_ns: int, tries: int) -> int:
    """Return how long to wait after `tries` in vain of what may come back by itself: it is tried for ever."""
    return min(last_ns, first_ns << min(tries - 1, 16))


def _grown(spec: BackoffSpec, times: int) -> int:
    # An exponent of 64 is beyond any cap; a larger one would overflow a float.
    return int(min(spec.max, spec.initial * spec.factor ** min(times, 64)))


def share(seed: str) -> int:
    """Return a number from 0 to 999 that looks random and is always the same for a seed."""
    return int.from_bytes(sha256(seed.encode()).digest()[:4], "big") % 1000


def ended_by_operator(memory: Memory, phase: Exited) -> bool:
    """Tell whether an operator's signal or reload ended a process: that says nothing about the program."""
    if not memory.signalled:
        return False
    soon = phase.at_ns - memory.signalled_at_ns <= SIGNAL_EFFECT_NS
    return soon or phase.exit.signal == memory.signalled


def was_announced(spec: WatcherSpec, record: ProcessRecord) -> bool:
    """Tell whether a process ended well after it had said that it would (STOPPING=1), whoever made it.

    Its own shutdown command perhaps: no failure, however soon it came.
    """
    phase, notified = record.phase, record.notified
    if notified is None or notified.stopping_at_ns is None or not isinstance(phase, Exited):
        return False
    by_itself = record.memory.stopping_since_ns is None
    return by_itself and phase.exit.code in spec.success_exit_codes


def proves_nothing(spec: WatcherSpec, record: ProcessRecord) -> bool:
    """Tell whether an end says nothing about the program: a keeper's death, an operator, itself, a successor."""
    assert isinstance(record.phase, Exited)
    is_foreign = record.phase.is_unseen or ended_by_operator(record.memory, record.phase)
    return is_foreign or bool(record.phase.successor) or was_announced(spec, record)


def failures_after(spec: WatcherSpec, record: ProcessRecord) -> int:
    """Return the quick deaths in a row, counting this one; a longer life starts again from none."""
    memory, phase = record.memory, record.phase
    assert isinstance(phase, Exited)
    if proves_nothing(spec, record):
        return memory.attempt
    if phase.exit.error is not None:
        return memory.attempt if phase.exit.error.is_shortage else memory.attempt + 1
    if memory.is_failure and memory.stop_reason in {"not_ready", "unhealthy"}:
        return memory.attempt + 1  # however long it lived
    return memory.attempt + 1 if phase.lived_ns < spec.backoff.reset_after else 0


def last_failure(spec: WatcherSpec, record: ProcessRecord) -> str:
    """Return in words what the last of the quick deaths in a row was, counting this one; empty: there is none."""
    failures, former = failures_after(spec, record), record.memory.attempt
    if failures and failures == former:  # this one does not count
        return record.memory.last_failure
    return how_ended(record) if failures else ""


def how_ended(record: ProcessRecord) -> str:
    """Return in words how a process ended: for what it was stopped where that is a failure, else its exit."""
    assert isinstance(record.phase, Exited)
    trouble = record.memory.trouble if record.memory.is_failure else ""
    return trouble or str(record.phase.exit)


def due_ns(spec: WatcherSpec, record: ProcessRecord) -> int:
    """Return when a slot whose process died by itself may start again."""
    assert isinstance(record.phase, Exited)
    memory, phase = record.memory, record.phase
    if memory.retry or phase.is_unseen or ended_by_operator(memory, phase):
        return phase.at_ns
    if phase.exit.error is not None and phase.exit.error.is_shortage:
        return phase.at_ns + SHORTAGE_RETRY_NS
    if was_announced(spec, record):
        return max(phase.at_ns, (phase.started_at_ns or 0) + ANNOUNCED_NS)
    failures = failures_after(spec, record)
    return phase.at_ns + wait_ns(spec.backoff, failures, f"{record.id}/{record.incarnation}")


def recent_deaths(spec: WatcherSpec, record: ProcessRecord) -> tuple[int, ...]:
    """Return the deaths of a slot that still count, with this one; bounded by the count."""
    limit, phase = spec.max_restarts, record.phase
    assert isinstance(phase, Exited)
    if limit is None:
        return ()
    recent = [death for death in record.memory.deaths_ns if phase.at_ns - death <= limit.window]
    if not proves_nothing(spec, record):
        recent.append(phase.at_ns)
    return tuple(recent[-(limit.count + 1) :])


def gave_up(spec: WatcherSpec, record: ProcessRecord) -> bool:
    """Tell whether a dead slot has used up its restarts."""
    limit = spec.max_restarts
    if limit is None or record.memory.retry or not isinstance(record.phase, Exited):
        return False
    return len(recent_deaths(spec, record)) > limit.count


def is_completed(spec: WatcherSpec, record: ProcessRecord) -> bool:
    """Tell whether a dead slot rests because it succeeded (`restart: on-failure`)."""
    return (
        spec.restart == "on-failure"
        and isinstance(record.phase, Exited)
        and record.phase.exit.code in spec.success_exit_codes
        and record.memory.stopping_since_ns is None
    )
