"""User code before and after a step: a process like any other, whose exit decides.

A hook's record is its state: absent means not run, alive means wait, dead is the verdict. `about` in its
memory says which step it was run for, so a verdict is never taken for another step's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from reconciler.core.backoff import SHORTAGE_RETRY_NS, veto_wait_ns
from reconciler.core.plan import Plan, Verdict
from reconciler.core.slots import SlotCondition
from reconciler.core.template import helper_argv, helper_hash, helper_launch
from reconciler.model.action import Forget, Remember, Signal, Spawn
from reconciler.model.probe import PURPOSES
from reconciler.model.process import (
    Exited,
    Memory,
    ProcessId,
    ProcessRecord,
    Requested,
    began_ns,
    pid_of,
)
from reconciler.model.spec import HookSpec
from reconciler.model.units import SECOND_NS, format_duration
from reconciler.model.value import replace

VETO_EXIT_CODE: Final = 100
"""Exit code with which the runner of Python hooks says that the hook returned False."""
LEFTOVER_TIMEOUT_NS: Final = 30 * SECOND_NS
"""How long user code that nobody waits for any more may go on."""
MAX_PIDS_TOLD: Final = 1000
"""Of so many slots a hook is told the pids: one string of an environment has at most 128 KiB (execve(2))."""
SPENT: Final = -1
"""Of a hook that left processes behind: its record must stay with them, its verdict is for no step any more."""

_KEPT: Final = frozenset({"before_start", "before_spawn", "after_spawn"})
"""Hooks whose verdict may stand while their step cannot be taken."""
STOP_COMMAND: Final = "stop"
RELOAD_COMMAND: Final = "reload"


PASSED: Final = Verdict("passed")
PENDING: Final = Verdict("pending")


def hook_of(plan: Plan, role: str) -> HookSpec | None:
    """Return the hook configured for a transition; stop and reload commands are none."""
    found: HookSpec | None = getattr(plan.spec.hooks, role, None)
    return found


def judge(hook: HookSpec, record: ProcessRecord) -> Verdict:
    """Return the verdict of a hook's record.

    Exit 0 passes. A Python hook that returned False vetoes whatever `on_error` says; everything else is
    an error, and `on_error` decides.
    """
    phase = record.phase
    if not isinstance(phase, Exited) or said_nothing(record):
        return PENDING
    if phase.exit.code == 0:  # also if it was to be killed by one who did not know of its end yet
        return PASSED
    returned_false = hook.python is not None and phase.exit.code == VETO_EXIT_CODE
    if hook.on_error == "ignore" and not returned_false:
        return PASSED
    message = failure(hook, record)
    return Verdict("vetoed", message, phase.at_ns, record.memory.attempt)


def failure(hook: HookSpec, record: ProcessRecord) -> str:
    """Return in words how a hook failed, with the last line that it wrote: of a traceback, what was raised."""
    assert isinstance(record.phase, Exited)
    subject = hook.python or " ".join(hook.cmd or ())
    what = f"{record.id.role} hook ({subject})"
    said = record.phase.output.decode(errors="replace").strip().rpartition("\n")[2].strip()
    if record.had_to_be_killed:
        if record.phase.lived_ns < hook.timeout:
            return f"{what} was killed: everything is being stopped"
        return f"{what} timed out after {format_duration(hook.timeout)}"
    if hook.python is not None and record.phase.exit.code == VETO_EXIT_CODE:
        return f"{what} returned False" + (f": {said}" if said else "")
    return f"{what} failed: {said or record.phase.exit}"


def waits_for(record: ProcessRecord) -> str:
    """Return in words what a hook without a verdict is about: it runs, or could not be run just now."""
    role, phase = record.id.role, record.phase
    if isinstance(phase, Exited) and phase.exit.error is not None:
        return f"{role} hook cannot be run just now: {phase.exit}"
    return f"{role} hook runs"


def is_running(plan: Plan, role: str) -> bool:
    """Tell whether a hook of any slot still runs."""
    records, helpers = plan.observed.records, plan.observed.helpers.values()
    running = (id for ids in helpers for id in ids if id.role == role)
    return any(not isinstance(records[id].phase, Exited) for id in running)


def said_nothing(record: ProcessRecord) -> bool:
    """Tell whether a hook did not come to say anything: there was no room for it, or nobody saw how it ended."""
    if not isinstance(record.phase, Exited) or record.had_to_be_killed:
        return False
    exit = record.phase.exit
    if exit.error is not None:
        return exit.error.is_shortage
    return exit.code is None and exit.signal is None


def drive(
    plan: Plan,
    role: str,
    slot: int,
    about: int,
    details: Mapping[str, object] | None = None,
    *,
    attempt: int = 0,
) -> Verdict:
    """Run a hook for the step `about` unless it ran already, and return what it says.

    Without such a hook the verdict is passed. `details` are further keyword arguments of the hook.
    """
    hook, id = hook_of(plan, role), plan.id(slot, role)
    if hook is None:
        return PASSED
    if id not in plan.verdicts:  # several slots may ask in one pass; it runs once
        plan.verdicts[id] = _drive(plan, hook, id, Memory(about=about, attempt=attempt), details)
    return plan.verdicts[id]


def _drive(
    plan: Plan,
    hook: HookSpec,
    id: ProcessId,
    memory: Memory,
    details: Mapping[str, object] | None,
) -> Verdict:
    plan.used.add(id)
    record = plan.observed.records.get(id)
    verdict, again = PENDING, memory if record is None else None
    if record is not None and isinstance(record.phase, Exited):
        if record.memory.about != memory.about:
            again = memory
        elif said_nothing(record):
            due_ns = record.phase.at_ns + (SHORTAGE_RETRY_NS if record.phase.exit.error else 0)
            # Not with all of its memory: the next run was not killed with this one.
            same = Memory(about=memory.about, attempt=record.memory.attempt)
            again = same if plan.is_due(due_ns) else None
        else:
            verdict = judge(hook, record)
            is_edited = record.template_hash != helper_hash(plan.spec, hook)
            again = memory if verdict.state == "vetoed" and is_edited else None
    elif record is not None:
        kill_when_due(plan, record, hook.timeout)
    if again is None or (record is not None and not clear(plan, record, hook.timeout)):
        return verdict
    plan.act(_spawn(plan, hook, id, again, details))
    return PENDING


def drive_with_retry(plan: Plan, role: str, slot: int, about: int) -> Verdict:
    """Like `drive`, but a veto is asked again after a backoff."""
    verdict = drive(plan, role, slot, about)
    if verdict.state != "vetoed" or not plan.is_due(retry_due_ns(plan, verdict)):
        return verdict
    hook, id = hook_of(plan, role), plan.id(slot, role)
    assert hook is not None
    if clear(plan, plan.observed.records[id], hook.timeout):
        memory = Memory(about=about, attempt=verdict.attempt + 1)
        plan.act(_spawn(plan, hook, id, memory, None))
    plan.verdicts[id] = PENDING
    return PENDING


def keep(plan: Plan, role: str, slot: int, about: int) -> None:
    """Let a verdict stand while something else keeps its step from being taken: it is not asked for twice."""
    record = plan.observed.records.get(plan.id(slot, role))
    if record is not None and record.memory.about == about and isinstance(record.phase, Exited):
        plan.used.add(record.id)


def held_by(plan: Plan, role: str, place: int, verdict: Verdict) -> SlotCondition | None:
    """Return what the verdict of a hook in the way comes to: it still runs, or it said no and is asked again."""
    hook, record = hook_of(plan, role), plan.observed.records.get(plan.id(place, role))
    if hook is None or verdict.state == "passed":
        return None
    if record is None:
        return SlotCondition("Waiting", f"{role} hook runs", plan.now_ns)
    found = judge(hook, record)
    if found.state == "vetoed":
        due_ns = retry_due_ns(plan, found)
        return SlotCondition("BackOff", found.message, found.since_ns, due_ns)
    since = began_ns(record.phase)
    refusals = record.memory.attempt
    if refusals:  # no better than between two tries: what it says this time is not known yet
        times = "once" if refusals == 1 else f"{refusals} times"
        return SlotCondition("BackOff", f"{waits_for(record)}, it has said no {times}", since)
    return SlotCondition("Waiting", waits_for(record), since, since + hook.timeout)


def said(plan: Plan, role: str, slot: int) -> str:
    """Return what a hook that has ended said against its step; empty when it said nothing."""
    hook, record = hook_of(plan, role), plan.observed.records.get(plan.id(slot, role))
    if hook is None or record is None or not isinstance(record.phase, Exited):
        return ""
    return judge(hook, record).message


def retry_due_ns(plan: Plan, verdict: Verdict) -> int:
    """Return when a vetoed step may be tried again."""
    return verdict.since_ns + veto_wait_ns(plan.spec.backoff, verdict.attempt)


def run_reload(plan: Plan, slot: int, number: int, command: tuple[str, ...]) -> Verdict:
    """Run the command of a reload once for its number, and return what came of it.

    A reload that is asked for while the command runs begins when that has ended: it may have read half.
    """
    id = plan.id(slot, RELOAD_COMMAND)
    plan.used.add(id)
    record = plan.observed.records.get(id)
    if record is None or record.memory.about != number or not isinstance(record.phase, Exited):
        if record is not None and not isinstance(record.phase, Exited):
            kill_when_due(plan, record, LEFTOVER_TIMEOUT_NS)
        run_command(plan, RELOAD_COMMAND, slot, number, command)
        return PENDING
    if record.had_to_be_killed:
        longest = format_duration(LEFTOVER_TIMEOUT_NS)
        return Verdict("vetoed", f"reload command was killed after {longest}")
    if record.phase.exit.code == 0:
        return PASSED
    said = record.phase.output.decode(errors="replace").strip()
    how = str(record.phase.exit)
    return Verdict("vetoed", f"reload command: {how}" + (f": {said}" if said else ""))


def run_command(
    plan: Plan,
    role: str,
    slot: int,
    about: int,
    command: tuple[str, ...],
    leftovers_ns: int = LEFTOVER_TIMEOUT_NS,
) -> bool:
    """Start the stop or reload command of a slot, unless it is under way; True when it is, or is over.

    What a former one has left behind ends first, and is killed at that age.
    """
    id = plan.id(slot, role)
    plan.used.add(id)
    record = plan.observed.records.get(id)
    if record is not None:
        is_former = isinstance(record.phase, Exited) and record.memory.about != about
        if not is_former:
            return True
        if not clear(plan, record, leftovers_ns):
            return False
    argv, main = helper_argv(plan.spec, command, slot), plan.slots.main(slot)
    env = {"RECONCILE_PID": str((main and pid_of(main.phase)) or "")}
    facts, longest_ns = plan.world.facts, LEFTOVER_TIMEOUT_NS
    helper = helper_launch(plan.name, plan.spec, slot, argv, env, facts, longest_ns)
    plan.act(Spawn(id, helper, memory=Memory(about=about)))
    return True


def clear(plan: Plan, record: ProcessRecord, timeout_ns: int) -> bool:
    """Forget a dead hook; one that left processes behind may keep them until its timeout.

    Returns True when the record is out of the way.
    """
    assert isinstance(record.phase, Exited)
    if record.phase.survivors:
        kill_when_due(plan, record, timeout_ns)
        return False
    plan.act(Forget(record.id, record.incarnation))
    return True


def kill_when_due(plan: Plan, record: ProcessRecord, timeout_ns: int) -> None:
    """Kill a hook and what it started once its time is over."""
    if record.memory.killed or isinstance(record.phase, Requested):
        return
    if not plan.is_due(began_ns(record.phase) + timeout_ns):
        return
    plan.act(Signal(record.id, record.incarnation, "KILL", "tree"))
    memory = replace(record.memory, killed_at_ns=plan.now_ns)
    plan.act(Remember(record.id, record.incarnation, memory))


def clean_up(plan: Plan) -> None:
    """Clear away the records of hooks and commands that this pass had no use for.

    Where a verdict stands while something else is waited for, what its hook has left behind has its time, no more.
    """
    helpers = plan.observed.helpers
    for slot in plan.look(sorted(plan.slots.among(helpers))):
        for id in sorted(helpers[slot] - plan.verdicts.keys(), key=str):
            record = plan.observed.records[id]
            if id not in plan.used:
                _clear_away(plan, id)
            elif id.role in _KEPT and isinstance(record.phase, Exited) and record.phase.survivors:
                kill_when_due(plan, record, _longest_ns(plan, record))


def _clear_away(plan: Plan, id: ProcessId) -> None:
    record = plan.observed.records[id]
    if isinstance(record.phase, Exited):
        if record.phase.survivors and record.memory.about != SPENT:
            memory = replace(record.memory, about=SPENT)
            plan.act(Remember(record.id, record.incarnation, memory))
        else:
            clear(plan, record, LEFTOVER_TIMEOUT_NS)
    else:
        timeout_ns = _longest_ns(plan, record)
        if id.role in PURPOSES:
            timeout_ns = 0  # of a probe nobody waits for the answer any more
        kill_when_due(plan, record, 0 if plan.world.shutting_down else timeout_ns)


def _longest_ns(plan: Plan, record: ProcessRecord) -> int:
    """Return how long a hook or command may go on, with all that it starts."""
    hook = hook_of(plan, record.id.role)
    return LEFTOVER_TIMEOUT_NS if hook is None else hook.timeout


def _spawn(
    plan: Plan,
    hook: HookSpec,
    id: ProcessId,
    memory: Memory,
    details: Mapping[str, object] | None,
) -> Spawn:
    role, slot = id.role, id.slot
    facts, spec = plan.world.facts, plan.spec
    about = {"hook_name": role, "watcher": _snapshot(plan), "slot": slot or None}
    arguments = about | dict(details or {})
    env = {
        "RECONCILE_HOOK": role,
        "RECONCILE_HOOK_ARGUMENTS": json.dumps(arguments, separators=(",", ":")),
        "RECONCILE_CONTROL_SOCKET": facts.control_socket,
    }
    if hook.python is not None:
        python = facts.python.replace("$", "$$")
        if spec.virtualenv:
            python = f"{spec.virtualenv}/bin/python"
        argv = (*helper_argv(spec, (python,), slot), facts.hook_runner, hook.python)
    else:
        argv = helper_argv(spec, hook.cmd or (), slot)
        for key, value in (details or {}).items():
            env[f"RECONCILE_HOOK_{key.upper()}"] = str(value)
    helper = helper_launch(plan.name, spec, slot, argv, env, facts, hook.timeout)
    return Spawn(id, helper, helper_hash(spec, hook), memory)


def _snapshot(plan: Plan) -> dict[str, object]:
    """Return what a hook is told of its watcher; its environment it has already."""
    spec = plan.spec
    return {
        "name": plan.name,
        "cmd": list(spec.cmd),
        "numprocesses": spec.numprocesses,
        "working_dir": spec.working_dir,
        "priority": spec.priority,
        "restart": spec.restart,
        "labels": dict(spec.labels),
        "stop_signal": spec.stop.signal,
        "pids": {
            str(slot): pid
            for slot in sorted(plan.observed.live)[:MAX_PIDS_TOLD]
            if (main := plan.slots.main(slot)) is not None and (pid := pid_of(main.phase))
        },
        "options": dict(spec.x),
    }
