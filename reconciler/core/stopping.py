"""How one process is asked to end, and what it leaves behind.

    Running --begin--> stopping since T --before_signal passed--> asked --main ended--> rest asked
                                                                     '--T + timeout--> all that is left killed

To ask and to kill are two things. The main process is asked, for it knows its workers (`stop.ask`); what is
left of the scope when it has ended is asked by the same signal; and what is left at T + timeout is killed.
T is remembered on the record before anything is sent, so a new controller goes on with the same clock, and does
not take an end that was asked for for one that the program came to by itself.
A process that died by itself leaves survivors to KILL at once.
"""

from __future__ import annotations

from typing import Final

from reconciler.core import notifications
from reconciler.core.hooks import STOP_COMMAND, drive, keep, kill_when_due, run_command
from reconciler.core.plan import Plan
from reconciler.core.slots import SlotCondition, is_gone
from reconciler.model.action import Remember, Signal
from reconciler.model.process import MAIN, Exited, Memory, ProcessRecord, Requested, pid_of, several
from reconciler.model.spec import WatcherSpec
from reconciler.model.units import SECOND_NS
from reconciler.model.value import replace

KILL_AGAIN_NS: Final = 5 * SECOND_NS


def stop(plan: Plan, record: ProcessRecord, reason: str) -> ProcessRecord:
    """Take the next step towards the end of a live process; return its record with what is remembered by that."""
    assert not isinstance(record.phase, Exited)
    keep_veto(plan, record)
    if isinstance(record.phase, Requested):
        return record  # no incarnation yet: the keeper's answer brings us back
    record = _begin(plan, record, reason)
    deadline = deadline_ns(plan, record)
    if plan.now_ns >= deadline or plan.world.stop_now:
        return _kill(plan, record)
    plan.wake(deadline)
    if not record.memory.asked:
        record = _ask(plan, record)
    elif plan.spec.stop.cmd is not None:  # it has as long as its process, also at a shutdown
        plan.used.add(plan.id(record.id.slot, STOP_COMMAND))
    if record.memory.asked and plan.spec.hooks.after_signal is not None:
        details = _details(plan, record)
        drive(plan, "after_signal", record.id.slot, record.memory.stopping_since_ns or 0, details)
    return record


def is_asked(plan: Plan, record: ProcessRecord) -> bool:
    """Tell whether nothing more is to be done for a process that is being stopped until its end, or its deadline."""
    by_signal = plan.spec.stop.cmd is None and plan.spec.hooks.after_signal is None
    return by_signal and record.memory.asked and not record.memory.killed


def _begin(plan: Plan, record: ProcessRecord, reason: str) -> ProcessRecord:
    """Remember that a process is being stopped, before anything is done to it.

    The clock starts with what asks it to end, and so anew where a controller died before it sent that: nobody is
    killed for a signal that was never sent.
    """
    memory, now_ns = record.memory, plan.now_ns
    clock_runs = memory.asked or memory.killed or plan.spec.hooks.before_signal is not None
    clock_runs = clock_runs or _has_leftovers(plan, record)
    if memory.stopping_since_ns is None:
        memory = replace(memory, stop_reason=reason)
    elif clock_runs or memory.stopping_since_ns == now_ns:
        return record
    return _remember(plan, record, replace(memory, stopping_since_ns=now_ns))


def _has_leftovers(plan: Plan, record: ProcessRecord) -> bool:
    """Tell whether something is left of a former stop command, which has to end before the next one runs."""
    command = plan.observed.records.get(plan.id(record.id.slot, STOP_COMMAND))
    return command is not None and isinstance(command.phase, Exited) and not is_gone(command)


def deadline_ns(plan: Plan, record: ProcessRecord) -> int:
    """Return when a stopping process is killed; it may have asked for more time."""
    since_ns = record.memory.stopping_since_ns
    assert since_ns is not None
    return notifications.extended_ns(record, since_ns + plan.spec.stop.timeout)


def _ask(plan: Plan, record: ProcessRecord) -> ProcessRecord:
    """Send the stop signal or run the stop command, unless a hook is still thinking or says no."""
    slot, since = record.id.slot, record.memory.stopping_since_ns or 0
    verdict = drive(plan, "before_signal", slot, since, _details(plan, record))
    if verdict.state == "pending":
        return record
    settings = plan.spec.stop
    if verdict.state == "passed" and settings.cmd is not None:
        if not run_command(plan, STOP_COMMAND, slot, since, settings.cmd, leftovers_ns=0):
            return record
    elif verdict.state == "passed":  # KILL at the deadline is never withheld
        reach = "process" if settings.ask == "main" else settings.scope
        plan.act(Signal(record.id, record.incarnation, settings.signal, reach))
    # Remembered last: a controller that dies in between asks twice, never not at all.
    return _remember(plan, record, replace(record.memory, asked=True))


def _end_rest(plan: Plan, record: ProcessRecord, reason: str) -> None:
    """Take the next step with what a dead process has left behind."""
    assert isinstance(record.phase, Exited)
    if is_in_background(plan.spec, record) or record.phase.successor:
        memory = replace(record.memory, stopping_since_ns=plan.now_ns, stop_reason=reason)
        record = replace(record, memory=memory)
    stopping = record.memory.stopping_since_ns is not None
    if not stopping or plan.world.stop_now or plan.is_due(deadline_ns(plan, record)):
        _kill(plan, record)
    elif not record.memory.asked_rest:
        _ask_rest(plan, record)


def _ask_rest(plan: Plan, record: ProcessRecord) -> None:
    """Ask what is left of a scope whose main process has ended, unless it was asked with it."""
    settings = plan.spec.stop
    if settings.ask == "main" or settings.cmd is not None or not record.memory.asked:
        plan.act(Signal(record.id, record.incarnation, settings.signal, settings.scope))
    _remember(plan, record, replace(record.memory, asked_rest=True))


def is_in_background(spec: WatcherSpec, record: ProcessRecord) -> bool:
    """Tell whether a service seems to have put itself into the background: a quick good end, and something lives on.

    That goes on, and so may serve; it is told, and is asked to end when the watcher is stopped or replaced.
    """
    phase = record.phase
    if spec.is_job or not isinstance(phase, Exited) or not phase.survivors:
        return False
    is_good = phase.exit.code == 0 and record.memory.stopping_since_ns is None
    return is_good and record.id.role == MAIN and phase.lived_ns < spec.backoff.reset_after


def in_background(record: ProcessRecord) -> SlotCondition:
    """Return that a service does not run because it has put itself into the background."""
    assert isinstance(record.phase, Exited)
    phase = record.phase
    how = f"ends at once with {phase.exit} and leaves {several(phase.survivors)} running"
    file = record.settings.pid_file
    cure = "does it go into the background? With pid_file it is followed"
    if file is not None:
        cure = f"{file} names none of them"
    return SlotCondition("Failed", f"{how}: {cure}", phase.at_ns)


def reap(plan: Plan, record: ProcessRecord, reason: str = "replaced") -> bool:
    """Take the next step with a dead process; True when nothing of it is left and its hooks have run."""
    assert isinstance(record.phase, Exited)
    keep_veto(plan, record)
    left = _reap(plan, record, reason)
    if left:
        note = f"{record.phase.exit}; {left}"
        plan.conditions[record.id.slot] = SlotCondition("Stopping", note, record.phase.at_ns)
    return not left


def _reap(plan: Plan, record: ProcessRecord, reason: str) -> str:
    """Return what is still to be waited for, empty when nothing is."""
    assert isinstance(record.phase, Exited)
    if not is_gone(record):
        _end_rest(plan, record, reason)
        return f"still running: {several(record.phase.survivors)}"
    if (command := stop_command(plan, record)) is not None:
        # It may go by a name or a pid file: the next one must not meet it.
        plan.used.add(command.id)
        kill_when_due(plan, command, 0 if plan.world.stop_now else plan.spec.stop.timeout)
        return "its stop command still runs"
    if _reap_hooks_passed(plan, record):
        return ""
    slot, about, phase = record.id.slot, record.incarnation, record.phase
    details: dict[str, object] = {"process_pid": phase.pid, "time": phase.at_ns / 1e9}
    if drive(plan, "before_reap", slot, about, details).state == "pending":
        return "its before_reap hook runs"
    exit = phase.exit
    details |= {"exit_code": exit.code, "exit_signal": exit.signal, "process_status": str(exit)}
    if drive(plan, "after_reap", slot, about, details).state == "pending":
        return "its after_reap hook runs"
    _remember(plan, record, replace(record.memory, reaped=True))
    return ""


def is_reaped(plan: Plan, record: ProcessRecord) -> bool:
    """Tell whether nothing is left of a dead process and its reap hooks have run."""
    is_done = _reap_hooks_passed(plan, record) and stop_command(plan, record) is None
    return is_gone(record) and is_done


def _reap_hooks_passed(plan: Plan, record: ProcessRecord) -> bool:
    hooks = plan.spec.hooks
    return record.memory.reaped or (hooks.before_reap is None and hooks.after_reap is None)


def stop_command(plan: Plan, record: ProcessRecord) -> ProcessRecord | None:
    """Return the stop command of a slot, if it runs."""
    command = plan.observed.records.get(plan.id(record.id.slot, STOP_COMMAND))
    return None if command is None or isinstance(command.phase, Exited) else command


def keep_veto(plan: Plan, record: ProcessRecord) -> None:
    """Let what after_spawn said stand as long as status speaks of the process that it refused."""
    if record.memory.stop_reason == "vetoed":
        keep(plan, "after_spawn", record.id.slot, record.incarnation)


def _kill(plan: Plan, record: ProcessRecord) -> ProcessRecord:
    """Send KILL, and again after a while: a fork may have raced with it."""
    last = record.memory.killed_at_ns
    if last is not None and not plan.is_due(last + KILL_AGAIN_NS):
        return record
    plan.wake(plan.now_ns + KILL_AGAIN_NS)
    plan.act(Signal(record.id, record.incarnation, "KILL", plan.spec.stop.scope))
    return _remember(plan, record, replace(record.memory, killed_at_ns=plan.now_ns))


def _remember(plan: Plan, record: ProcessRecord, memory: Memory) -> ProcessRecord:
    plan.act(Remember(record.id, record.incarnation, memory))
    return replace(record, memory=memory)


def _details(plan: Plan, record: ProcessRecord) -> dict[str, object]:
    return {"pid": pid_of(record.phase), "signum": plan.spec.stop.signal}
