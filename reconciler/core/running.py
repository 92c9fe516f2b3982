"""What is to be done for a process that runs on: its after_spawn hook, and the reloads and signals of operators."""

from __future__ import annotations

from reconciler.core import events, hooks, notifications, probing, stopping
from reconciler.core.hooks import drive
from reconciler.core.plan import Plan, Verdict
from reconciler.model.action import Remember, Signal
from reconciler.model.observation import Delivery
from reconciler.model.process import (
    Exited,
    ProcessRecord,
    Requested,
    Running,
    Starting,
    pid_of,
)
from reconciler.model.spec import ReloadByCommand, ReloadBySignal
from reconciler.model.value import replace


def go_on(plan: Plan, record: ProcessRecord, reason: str | None) -> None:
    """Take the next step with a live process: towards its end, for a `reason` or once begun, else onwards."""
    if reason is not None or record.memory.stopping_since_ns is not None:
        stopping.stop(plan, record, reason or record.memory.stop_reason)
    elif isinstance(record.phase, Running) and _run_after_spawn(plan, record):
        failure = notifications.why_stop(plan, record)
        if failure is not None:
            stopping.stop(plan, failure.noted_on(record), failure.reason)
        elif probing.go_on(plan, record):
            carry_out_reload(plan, record)


def counts_for_others(plan: Plan, record: ProcessRecord) -> bool:
    """Tell whether the next steps of other slots depend on this one: the pause after its start, or after_start."""
    if awaits_after_start(plan, record):
        return True
    interval = plan.spec.spawn_interval
    if not interval or isinstance(record.phase, Requested | Starting):
        return bool(interval)
    return not plan.is_due((record.phase.started_at_ns or 0) + interval)


def awaits_after_start(plan: Plan, record: ProcessRecord) -> bool:
    """Tell whether a process belongs to a start for which the hook after_start is still to come."""
    return record.memory.fresh and plan.spec.hooks.after_start is not None


def _run_after_spawn(plan: Plan, record: ProcessRecord) -> bool:
    """Run after_spawn once; a veto stops the process. True when it has passed."""
    if after_spawn_passed(plan, record):
        return True
    assert isinstance(record.phase, Running)
    details = {"pid": record.phase.pid}
    verdict = drive(plan, "after_spawn", record.id.slot, record.incarnation, details)
    if verdict.state == "passed":
        memory = replace(record.memory, after_spawn_passed=True)
        plan.act(Remember(record.id, record.incarnation, memory))
    elif verdict.state == "vetoed":
        stopping.stop(plan, record, "vetoed")
    return False


def after_spawn_passed(plan: Plan, record: ProcessRecord) -> bool:
    """Tell whether after_spawn has passed for a process, or there is none."""
    return record.memory.after_spawn_passed or plan.spec.hooks.after_spawn is None


def mark_started(plan: Plan, fresh: list[ProcessRecord]) -> None:
    """Remember that after_start has passed for these processes."""
    for record in fresh:
        memory = replace(record.memory, fresh=False)
        plan.act(Remember(record.id, record.incarnation, memory))


def carry_out_reload(plan: Plan, record: ProcessRecord) -> None:
    """Carry out the newest reload that an operator asked for, unless this process has, or began after it."""
    slot = record.id.slot
    number, reload = plan.observed.intent.reload_number(slot), plan.spec.reload
    if record.memory.reloaded >= number:
        return
    # Noted before: what it ends says nothing against the program, whoever of us is there to see it.
    signalled = replace(record.memory, signalled=f"reload {number}", signalled_at_ns=plan.now_ns)
    noted = Remember(record.id, record.incarnation, signalled)
    if isinstance(reload, ReloadByCommand):
        if record.memory.signalled != signalled.signalled:
            plan.act(noted)
        verdict = hooks.run_reload(plan, slot, number, reload.cmd)
    elif isinstance(reload, ReloadBySignal):
        verdict = _before_signal(plan, record, number, reload.signal)
    else:  # edited meanwhile
        verdict = hooks.PASSED
    if verdict.state == "pending":
        return
    if verdict.state == "passed" and isinstance(reload, ReloadBySignal):
        plan.act(noted, Signal(record.id, record.incarnation, reload.signal, "process"))
    # Remembered last: a controller that dies in between reloads twice, never not at all.
    memory = signalled if verdict.state == "passed" else record.memory
    memory = replace(memory, reloaded=number, reload_trouble=verdict.message)
    plan.act(Remember(record.id, record.incarnation, memory))
    plan.events.append(events.of_reload(record.id, number, verdict.message))


def send_signals(plan: Plan) -> None:
    """Send the oldest signal that an operator asked for to each process, also to one that is being stopped."""
    requests, looked_at = plan.observed.requests, plan.slots.looked_at
    slots = [id.slot for id in requests] if looked_at is None else looked_at
    for slot in plan.look(sorted(slot for slot in slots if plan.id(slot) in requests)):
        id = plan.id(slot)
        record = plan.observed.records.get(id)
        alive = 0 if record is None or isinstance(record.phase, Exited) else record.incarnation
        void = [each for each in requests[id] if each.incarnation != alive]
        plan.answered.extend(Delivery(each, "it ended before") for each in void)
        request = next((each for each in requests[id] if each.incarnation == alive), None)
        if record is None or request is None or not isinstance(record.phase, Running):
            continue
        if record.memory.stopping_since_ns is None and not after_spawn_passed(plan, record):
            continue
        verdict = _before_signal(plan, record, request.at_ns, request.signal)
        if verdict.state == "pending":
            continue
        sent = verdict.state == "passed" or request.signal == "KILL"
        plan.answered.append(Delivery(request, "" if sent else verdict.message))
        if sent:  # noted first: what it ends says nothing against the program
            memory = replace(record.memory, signalled=request.signal, signalled_at_ns=plan.now_ns)
            plan.act(Remember(id, record.incarnation, memory))
            plan.act(Signal(id, record.incarnation, request.signal, request.reach))


def _before_signal(plan: Plan, record: ProcessRecord, about: int, signal: str) -> Verdict:
    """Ask the hook before_signal about a signal of an operator; the stop of the process comes first."""
    if plan.id(record.id.slot, "before_signal") in plan.verdicts:
        return hooks.PENDING
    details = {"pid": pid_of(record.phase), "signum": signal}
    return drive(plan, "before_signal", record.id.slot, about, details)
