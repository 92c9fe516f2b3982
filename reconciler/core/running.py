"""What is to be done for a process that runs on: its after_spawn hook, and the reloads and signals of operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.core import hooks, stopping
from reconciler.core.hooks import drive
from reconciler.model.action import Remember, Signal
from reconciler.model.observation import Delivery
from reconciler.model.process import Requested, Running, Starting, pid_of
from reconciler.model.spec import ReloadByCommand, ReloadBySignal
from reconciler.model.value import replace

if TYPE_CHECKING:
    from reconciler.core.plan import Draft, Verdict
    from reconciler.model.process import ProcessRecord


def attend(draft: Draft, record: ProcessRecord) -> None:
    """See to a slot that runs and goes on."""
    if run_after_spawn(draft, record):
        carry_out_reload(draft, record)


def counts_for_others(draft: Draft, record: ProcessRecord) -> bool:
    """Tell whether the next steps of other slots depend on this one: the pause after its start, or after_start."""
    if draft.spec.hooks.after_start is not None and record.memory.fresh:
        return True
    interval = draft.spec.spawn_interval
    if not interval or isinstance(record.phase, Requested | Starting):
        return bool(interval)
    return not draft.is_due((record.phase.started_at_ns or 0) + interval)


def run_after_spawn(draft: Draft, record: ProcessRecord) -> bool:
    """Run after_spawn once; a veto stops the process. True when it has passed."""
    if after_spawn_passed(draft, record):
        return True
    assert isinstance(record.phase, Running)
    details = {"pid": record.phase.pid}
    verdict = drive(draft, "after_spawn", record.id.slot, record.incarnation, details)
    if verdict.state == "passed":
        memory = replace(record.memory, after_spawn_passed=True)
        draft.act(Remember(record.id, record.incarnation, memory))
    elif verdict.state == "vetoed":
        stopping.stop(draft, record, "vetoed")
    return False


def after_spawn_passed(draft: Draft, record: ProcessRecord) -> bool:
    """Tell whether after_spawn has passed for a process, or there is none."""
    return record.memory.after_spawn_passed or draft.spec.hooks.after_spawn is None


def mark_started(draft: Draft, fresh: list[ProcessRecord]) -> None:
    """Remember that after_start has passed for these processes."""
    for record in fresh:
        memory = replace(record.memory, fresh=False)
        draft.act(Remember(record.id, record.incarnation, memory))


def carry_out_reload(draft: Draft, record: ProcessRecord) -> None:
    """Carry out the newest reload that an operator asked for, unless this process has, or began after it."""
    slot = record.id.slot
    number, reload = draft.observed.intent.reload_number(slot), draft.spec.reload
    if record.memory.reloaded >= number:
        return
    # Noted before: what it ends says nothing against the program, whoever of us is there to see it.
    signalled = replace(record.memory, signalled=f"reload {number}", signalled_at_ns=draft.now_ns)
    noted = Remember(record.id, record.incarnation, signalled)
    if isinstance(reload, ReloadByCommand):
        if record.memory.signalled != signalled.signalled:
            draft.act(noted)
        verdict = hooks.run_reload(draft, slot, number, reload.cmd)
    elif isinstance(reload, ReloadBySignal):
        verdict = _before_signal(draft, record, number, reload.signal)
    else:  # edited meanwhile
        verdict = hooks.PASSED
    if verdict.state == "pending":
        return
    if verdict.state == "passed" and isinstance(reload, ReloadBySignal):
        draft.act(noted, Signal(record.id, record.incarnation, reload.signal, "process"))
    # Remembered last: a controller that dies in between reloads twice, never not at all.
    memory = signalled if verdict.state == "passed" else record.memory
    memory = replace(memory, reloaded=number, reload_trouble=verdict.message)
    draft.act(Remember(record.id, record.incarnation, memory))


def send_signals(draft: Draft) -> None:
    """Send the oldest signal that an operator asked for to each process, also to one that is being stopped."""
    if not draft.observed.requests:
        return
    told = {each.id: each.memory for each in draft.actions if isinstance(each, Remember)}
    requests = draft.observed.requests
    asked = {draft.id(slot) for slot in draft.slots.mains} & requests.keys()
    for slot in draft.look(sorted(id.slot for id in asked)):
        id = draft.id(slot)
        request, *_ = requests[id]
        record = draft.observed.records.get(id)
        if record is None or record.incarnation != request.incarnation:
            continue
        awaits_hook = (
            draft.spec.hooks.after_spawn is not None and not record.memory.after_spawn_passed
        )
        if not isinstance(record.phase, Running) or (
            awaits_hook and record.memory.stopping_since_ns is None
        ):
            continue
        verdict = _before_signal(draft, record, request.at_ns, request.signal)
        if verdict.state == "pending":
            continue
        sent = verdict.state == "passed" or request.signal == "KILL"
        draft.answered.append(Delivery(request, "" if sent else verdict.message))
        if sent:  # noted first: what it ends says nothing against the program
            memory = told.get(id, record.memory)
            memory = replace(memory, signalled=request.signal, signalled_at_ns=draft.now_ns)
            draft.act(Remember(id, record.incarnation, memory))
            draft.act(Signal(id, record.incarnation, request.signal, request.reach))


def _before_signal(draft: Draft, record: ProcessRecord, about: int, signal: str) -> Verdict:
    """Ask the hook before_signal about a signal of an operator; the stop of the process comes first."""
    if draft.id(record.id.slot, "before_signal") in draft.verdicts:
        return hooks.PENDING
    details = {"pid": pid_of(record.phase), "signum": signal}
    return drive(draft, "before_signal", record.id.slot, about, details)
