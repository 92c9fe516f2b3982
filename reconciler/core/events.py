"""Which events a change makes: of a record, a socket, a log, a job; each one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, assert_never

from reconciler.core.hooks import failure, judge
from reconciler.core.plan import Ended
from reconciler.model.event import Event
from reconciler.model.intent import Intent
from reconciler.model.job import Generation, Instant, Passed, Run
from reconciler.model.observation import (
    ControlRenewed,
    FaultCaught,
    LimitExceeded,
    LogChanged,
    SocketRestored,
)
from reconciler.model.process import (
    MAIN,
    Exited,
    Memory,
    Orphan,
    ProcessId,
    ProcessRecord,
    Running,
    several,
)
from reconciler.model.socket import BindRefused, BindRequested, Bound, Lost, SocketRecord
from reconciler.model.spec import HookSpec, WatcherSpec
from reconciler.model.units import SECOND_NS, format_duration, format_few
from reconciler.model.value import replace

MAX_SLOTS_NAMED: Final = 5
_STOP_REASONS: Final = {
    "surplus": "no longer needed",
    "expired": "max_age has passed",
    "idle": "nobody uses it",
    "dependency": "a dependency was restarted",
    "vetoed": "the after_spawn hook said no",
    "refused": "the after_start hook said no",
    "announced": "it went on after its STOPPING=1",
}
"""Reasons that are no words for people."""


def of_record(
    before: ProcessRecord | None, now: ProcessRecord, spec: WatcherSpec | None
) -> Iterator[Event]:
    """Yield what a changed process record means to people."""
    is_known = before is not None and before.incarnation == now.incarnation
    if before is not None and is_known and type(before.phase) is type(now.phase):
        return
    id, phase = now.id, now.phase
    if id.role != MAIN:
        hook = getattr(spec.hooks, id.role, None) if spec is not None else None
        yield from _of_hook(now, hook)
    elif isinstance(phase, Running):
        yield _of(id, "process.started", f"{id} started, pid {phase.pid}", {"pid": phase.pid})
    elif isinstance(phase, Exited):
        yield _of_exit(now, phase)


def of_end(ended: Ended) -> Event:
    """Return the event of an end that is the end of everything."""
    message = (
        f"{ended.id} has ended ({ended.how}) and {ended.why}: everything is stopped in order, "
        f"exit code {ended.code}"
    )
    details = {"now": False, "code": ended.code}
    return _of(ended.id, "manager.stopping", message, details)


def of_no_end(name: str, why: str) -> Event:
    """Return the event of a watcher whose end is to be the end of everything, and does not come: `why`."""
    waits = f"{name} does not run, so its end, which --exit-with waits for, does not come"
    return Event("manager.endless", f"{waits}: {why}", name)


def _of(
    id: ProcessId, kind: str, message: str, details: Mapping[str, object], at_ns: int | None = None
) -> Event:
    """Return an event of a slot, or of its watcher as a whole."""
    return Event(kind, message, id.owner, id.slot, details, at_ns)


def of_missed_ends(
    records: Mapping[ProcessId, ProcessRecord], told: Mapping[ProcessId, int | None]
) -> list[Event]:
    """Return the event of ends that came while no controller was there, in the order of their times.

    `told` is as in `EndsTold`. Of what people were never told about there is nothing to add.
    """
    missed = [
        _of_exit(records[id], phase, " while the controller was away", phase.at_ns)
        for id, pid in told.items()
        if id in records and isinstance(phase := records[id].phase, Exited) and phase.pid != pid
    ]
    return sorted(missed, key=lambda event: event.at_ns or 0)


def _of_exit(
    record: ProcessRecord, phase: Exited, when: str = "", at_ns: int | None = None
) -> Event:
    id, memory = record.id, record.memory
    details: dict[str, object] = {
        "pid": phase.pid,
        "exit_code": phase.exit.code,
        "signal": phase.exit.signal,
    }
    if phase.exit.error is not None:
        return _of(id, "process.failed", f"{id} did not start: {phase.exit}", details, at_ns)
    if phase.is_unseen:
        message = f"{id} was being started when the keeper was killed; nobody knows whether it ran"
        return _of(id, "process.exited", message, details, at_ns)
    was_stopped = memory.stopping_since_ns is not None and not record.ended_before_stop
    why = f" ({stop_reason(memory)})" if was_stopped else ""
    how = str(phase.exit)
    if memory.killed and phase.exit.signal == "KILL":
        how = "had to be killed with SIGKILL"
    elif memory.killed:
        how += ", SIGKILL was sent"
    stays = phase.survivors and memory.stopping_since_ns is None  # else its stop goes on with them
    left = f"; leaves {several(phase.survivors)} running" if stays else ""
    details["reason"] = stop_reason(memory) if was_stopped else ""
    details["killed"] = record.had_to_be_killed
    details["survivors"] = [each.pid for each in phase.survivors]
    message = f"{id} ended{when}{why}: {how} after {format_duration(phase.lived_ns)}{left}"
    return _of(id, "process.exited", message, details, at_ns)


def stop_reason(memory: Memory) -> str:
    """Return in words why a process is being stopped, or was."""
    if memory.is_failure and memory.trouble:
        return memory.trouble
    return _STOP_REASONS.get(memory.stop_reason, memory.stop_reason)


def _of_hook(record: ProcessRecord, hook: HookSpec | None) -> Iterator[Event]:
    id = record.id
    if hook is None or not isinstance(record.phase, Exited):
        return
    details: dict[str, object] = {"hook": id.role, "exit_code": record.phase.exit.code}
    if record.phase.exit.code == 0:
        message = f"{id.role} hook of {replace(id, role=MAIN)} passed"
        yield _of(id, "hook.passed", message, details)
        return
    vetoed = judge(hook, record).state == "vetoed"
    message = failure(hook, record) + ("" if vetoed else " (ignored)")
    yield _of(id, "hook.failed", message, details)


def of_handover(record: ProcessRecord, pid: int) -> Event:
    """Return the event of a record that goes on with another main process, as the one that has ended wanted it."""
    assert isinstance(record.phase, Exited)
    name = next((each for each in record.phase.survivors if each.pid == pid), f"pid {pid}")
    ended = f"its main process ended ({record.phase.exit})"
    details = {"pid": pid, "former_pid": record.phase.pid}
    return _of(record.id, "process.followed", f"{record.id} goes on as {name}: {ended}", details)


def of_ready(id: ProcessId, after_ns: int) -> Event:
    """Return the event of a process that has become ready, as its spec says."""
    message = f"{id} is ready after {format_duration(after_ns)}"
    return _of(id, "process.ready", message, {"after_ns": after_ns})


def of_health(id: ProcessId, message: str, *, healthy: bool) -> Event:
    """Return the event of a health probe that has failed often enough, or passed again."""
    if healthy:
        return _of(id, "probe.recovered", f"{id} is healthy again: {message}", {})
    return _of(id, "probe.failing", f"{id} is unhealthy: {message}", {})


def of_reload(id: ProcessId, number: int, trouble: str) -> Event:
    """Return the event of a reload that an operator asked for."""
    kind, message = "process.reloaded", f"{id} was reloaded"
    if trouble:
        kind, message = "process.reload_failed", f"{id} was not reloaded: {trouble}"
    return _of(id, kind, message, {"number": number})


def of_socket(before: SocketRecord | None, now: SocketRecord) -> Iterator[Event]:
    """Yield what a changed socket means to people; a refusal that repeats is told once."""
    was, details = None if before is None else before.phase, {"socket": now.name}
    match now.phase:
        case phase if phase == was:
            return
        case Bound(listen) if not isinstance(was, Bound) or was.listen != listen:
            message = f"socket {now.name} listens on {listen}"
            yield Event("socket.bound", message, details=details)
        case Lost(_, shut_down_by):
            message = f"the file of socket {now.name} is gone; binding it again"
            if shut_down_by:
                message = f"{_names(shut_down_by)} shut down socket {now.name}; binding it again"
            yield Event("socket.lost", message, details=details)
        case BindRefused(errno, message) if not _was_refused(before, now):
            details["errno"] = errno
            yield Event("socket.refused", f"socket {now.name}: {message}", details=details)


def of_restored(restored: SocketRestored, socket: SocketRecord | None) -> Event:
    """Return the event of something that was done to a socket, and undone."""
    name = restored.name
    details = {"socket": name, "by": [str(each) for each in restored.by]}
    who = _names(restored.by)
    match restored.what:
        case "file":
            ended = f"{who} removed the file of socket {name} when it ended" if restored.by else ""
            message = f"{ended or f'the file of socket {name} was removed'}; it was put back, no process is replaced"
        case "listening":
            message = f"{who} shut down socket {name}: its clients were refused; it listens again"
        case "backlog":
            backlog = None if socket is None else socket.backlog or socket.template.backlog
            now = "restored" if backlog is None else f"{backlog} again"
            message = f"{who} set the backlog of socket {name} to {restored.found}; it is {now}"
        case _:
            assert_never(restored.what)
    owner = restored.by[0].owner if restored.by else ""
    slot = restored.by[0].slot if len(restored.by) == 1 else 0
    return Event("socket.restored", message, owner, slot, details)


def _names(ids: tuple[ProcessId, ...]) -> str:
    return " or ".join(str(each) for each in ids) or "a user of it"


def of_words_end(watcher: str, before: Intent, after: Intent) -> Iterator[Event]:
    """Yield the events of an operator's words whose time is over."""
    overrides = (
        (before.hold != after.hold, before.hold, before.hold_by),
        (before.scale != after.scale, f"scaled to {before.scale}", before.scale_by),
    )
    for what, by in ((what, by) for is_over, what, by in overrides if is_over):
        length = "" if by.until is None else f" for {format_duration(by.until.length_ns)}"
        message = f"override ended ({what} by {by.who}{length}): follows the spec again"
        yield Event("operator.expired", message, watcher, details={"who": by.who})


def _was_refused(before: SocketRecord | None, now: SocketRecord) -> bool:
    """Tell whether the same was refused before, as far as we remember: tried often, told once."""
    match before:
        case SocketRecord(template=now.template, phase=BindRefused() | BindRequested(again=True)):
            return True
        case _:
            return False


def of_log(log: LogChanged) -> Event:
    """Return the event of a log file that cannot be written, or can again."""
    details: dict[str, object] = {"path": log.path}
    if not log.trouble:
        message = f"writing {log.path} again"
        if log.lost_bytes:
            message += f"; {log.lost_bytes} bytes were lost"
            details["lost_bytes"] = log.lost_bytes
        return _of(log.id, "log.recovered", message, details)
    message = log_trouble(log)
    if log.lost:
        message += "; output is lost until it can be written"
    return _of(log.id, "log.failed", message, details)


def log_trouble(log: LogChanged) -> str:
    """Return what is wrong with a log file."""
    if log.lost:
        return f"cannot write {log.path}: {log.trouble}"
    return f"{log.path}: {log.trouble}; output continues in the open file"


def of_limit(found: LimitExceeded, over: str, record: ProcessRecord, *, is_beyond: bool) -> Event:
    """Return the event of a process that is over a limit, in words `over`; its slot may be one beyond those wanted."""
    details = {"limit": found.limit, "used": found.used, "samples": found.samples}
    what = "it is replaced"
    if record.memory.stopping_since_ns is not None:
        what = "it is being stopped already"
    elif is_beyond:
        what = "it goes as soon as it need not serve in place of another"
    return _of(found.id, "process.over_limit", f"{found.id} is {over}; {what}", details)


def of_fault(fault: FaultCaught) -> Event:
    """Return the event of something unexpected that the keeper has caught."""
    message = f"unexpected error in the keeper while {fault.doing}: {fault.error}"
    details = {"doing": fault.doing, "error": fault.error}
    return Event("keeper.fault", message, details=details)


def of_control(control: ControlRenewed) -> Event:
    """Return the event of a control socket that somebody removed, perhaps with its folder."""
    kind, message = (
        "control.renewed",
        f"the control socket {control.path} was gone; it is open again",
    )
    if control.trouble:
        kind = "control.failed"
        message = f"the control socket {control.path} is gone and cannot be opened again: {control.trouble}"
    return Event(kind, message, details={"path": control.path})


def of_orphans(before: tuple[Orphan, ...], now: tuple[Orphan, ...]) -> Iterator[Event]:
    """Yield the events of processes that no record speaks for."""
    known = {each.pid for each in before}
    for each in now:
        if each.pid not in known:
            details: dict[str, object] = {"pid": each.pid, "name": each.name}
            yield Event("process.orphaned", orphan_message(each), details=details)


def orphan_message(orphan: Orphan) -> str:
    """Return what is known of a process that no record speaks for."""
    owners = ", ".join(dict.fromkeys(map(str, orphan.owners)))
    if orphan.is_certain and owners:
        return f"{owners} left {orphan} running, as its stop.scope says"
    whose = f"one of {owners}" if owners else "a process that is gone"
    return f"{orphan} runs and belongs to no known watcher: {whose} left it behind"


def of_generation(watcher: str, generation: Generation, wall_ns: int | None) -> Event:
    """Return the event of a job's new generation; `wall_ns` is now, since the epoch, where that is known."""
    instant = generation.instant
    why = {
        "first": "first time",
        "spec_change": "its spec changed",
        "files_changed": "its watched files changed",
        "boot": "the machine booted",
        "daemon_start": "the manager started",
        "lost": "the end of the last run was not observed, and on_lost is rerun",
        "operator": f"requested by {generation.who or 'an operator'}",
        "schedule": "" if instant is None else f"scheduled for {instant.shown}",
    }[generation.trigger]
    message = f"{watcher} fires generation {generation.number}: {why}"
    details: dict[str, object] = {
        "generation": generation.number,
        "trigger": generation.trigger,
        "who": generation.who,
    }
    if instant is not None:
        details["instant_ns"] = instant.at_ns
        late_ns = 0 if wall_ns is None else wall_ns - instant.at_ns
        message += f", {format_duration(late_ns)} late" if late_ns >= SECOND_NS else ""
    return Event("job.fired", message, watcher, details=details)


def of_clock(before_ns: int | None, now_ns: int) -> Iterator[Event]:
    """Yield the event of a wall clock that was set, by what is to be added to monotonic time before and now."""
    leap_ns = 0 if before_ns is None else now_ns - before_ns
    if abs(leap_ns) < SECOND_NS:
        return
    how = "went forward" if leap_ns > 0 else "was set back"
    message = f"the wall clock {how} by {format_duration(abs(leap_ns))}"
    message += ": it was set, or the machine slept" if leap_ns > 0 else ""
    yield Event("clock.set", message, details={"leap_ns": leap_ns})


def of_passed(watcher: str, passed: Passed) -> Event:
    """Return the event of an instant that was passed over."""
    kind = "job.missed" if passed.why == "missed" else "job.skipped"
    details: dict[str, object] = {"instant_ns": passed.instant.at_ns}
    return Event(kind, f"{watcher}: {passed_text(passed)}", watcher, details=details)


def passed_text(passed: Passed) -> str:
    """Return which instant was passed over, and why."""
    if passed.why == "missed":
        return f"{passed.instant.shown} was missed (catch_up: skip)"
    return f"{passed.instant.shown} was skipped: the former run had not ended"


def of_skipped_slots(watcher: str, instant: Instant, slots: Sequence[int]) -> Event:
    """Return the event of slots that are not fired for an instant, as they still run."""
    details: dict[str, object] = {"instant_ns": instant.at_ns, "slots": list(slots)}
    which = f"slot{'s' if len(slots) > 1 else ''} {format_few(slots, MAX_SLOTS_NAMED)}"
    message = f"{watcher}: {instant.shown} was skipped in {which}: the former run had not ended"
    return Event("job.skipped", message, watcher, details=details)


def of_run(watcher: str, run: Run) -> Iterator[Event]:
    """Yield the events of a run that has got its outcome."""
    if run.outcome is None:
        return
    details: dict[str, object] = {"generation": run.generation, "outcome": run.outcome}
    message = f"{watcher}.{run.slot} run {run.generation} {run.result}"
    yield Event("job.ended", message, watcher, run.slot, details)
