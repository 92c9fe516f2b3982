"""What events are told to people: each change of a record or socket as one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from reconciler.core.hooks import failure, judge
from reconciler.model.news import News
from reconciler.model.process import MAIN, Exited, ProcessId, ProcessRecord, Running, several
from reconciler.model.socket import BindRefused, BindRequested, Bound, Lost, SocketRecord
from reconciler.model.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from reconciler.model.event import ControlRenewed, FaultCaught, LogChanged, SocketRestored
    from reconciler.model.intent import Intent, RequestedBy
    from reconciler.model.job import Generation, Run
    from reconciler.model.process import Memory, Orphan
    from reconciler.model.spec import HookSpec, WatcherSpec

_STOP_REASONS: Final = {
    "surplus": "scaled down",
    "expired": "max_age has passed",
    "vetoed": "the after_spawn hook said no",
    "refused": "the after_start hook said no",
}
"""Reasons that are no words for people."""


def of_record(
    before: ProcessRecord | None, now: ProcessRecord, spec: WatcherSpec | None
) -> Iterator[News]:
    """Yield what a changed process record means to people."""
    known = before is not None and before.incarnation == now.incarnation
    was = before.phase if known and before is not None else None
    if type(was) is type(now.phase):
        return
    id, phase = now.id, now.phase
    if id.role != MAIN:
        hook = getattr(spec.hooks, id.role, None) if spec is not None else None
        yield from _of_hook(now, hook)
    elif isinstance(phase, Running):
        yield News(
            "process.started",
            f"{id} started, pid {phase.pid}",
            id.owner,
            id.slot,
            {"pid": phase.pid},
        )
    elif isinstance(phase, Exited):
        yield _of_exit(now, phase, ends_rest=spec is None or spec.stop.scope == "tree")


def of_missed_ends(
    records: Mapping[ProcessId, ProcessRecord], told: Mapping[ProcessId, int | None]
) -> list[News]:
    """Return the news of ends that came while no controller was there, in the order of their times.

    `told` is as in `EndsTold`. Of what people were never told about there is nothing to add.
    """
    missed = [
        _of_exit(records[id], phase, " while the controller was away", phase.at_ns)
        for id, pid in told.items()
        if id in records and isinstance(phase := records[id].phase, Exited) and phase.pid != pid
    ]
    return sorted(missed, key=lambda news: news.at_ns or 0)


def _of_exit(
    record: ProcessRecord,
    phase: Exited,
    when: str = "",
    at_ns: int | None = None,
    *,
    ends_rest: bool = True,
) -> News:
    """Return the news of an end. `ends_rest`: a stop goes on with what the process leaves behind."""
    id, memory = record.id, record.memory
    details: dict[str, object] = {
        "pid": phase.pid,
        "exit_code": phase.exit.code,
        "signal": phase.exit.signal,
    }
    if phase.exit.error is not None:
        message = f"{id} did not start: {phase.exit}"
        return News("process.failed", message, id.owner, id.slot, details, at_ns)
    if phase.is_unseen:
        message = (
            f"{id} was being started when the keeper was killed; it is not known whether it ran"
        )
        return News("process.exited", message, id.owner, id.slot, details, at_ns)
    since = phase.at_ns if phase.started_at_ns is None else phase.started_at_ns
    lived = format_duration(phase.at_ns - since)
    was_stopped = memory.stopping_since_ns is not None and not record.ended_before_stop
    why = f" ({stop_reason(memory)})" if was_stopped else ""
    how = str(phase.exit)
    if memory.killed:
        how = (
            "had to be killed with SIGKILL"
            if phase.exit.signal == "KILL"
            else f"{how}, SIGKILL was sent"
        )
    stays = phase.survivors and not (ends_rest and memory.stopping_since_ns is not None)
    left = f"; leaves {several(phase.survivors)} running" if stays else ""
    details["killed"] = record.had_to_be_killed
    details["survivors"] = [each.pid for each in phase.survivors]
    message = f"{id} ended{when}{why}: {how} after {lived}{left}"
    return News("process.exited", message, id.owner, id.slot, details, at_ns)


def stop_reason(memory: Memory) -> str:
    """Return in words why a process is being stopped, or was."""
    return _STOP_REASONS.get(memory.stop_reason, memory.stop_reason)


def _of_hook(record: ProcessRecord, hook: HookSpec | None) -> Iterator[News]:
    id = record.id
    if hook is None or not isinstance(record.phase, Exited):
        return
    details: dict[str, object] = {"hook": id.role, "exit_code": record.phase.exit.code}
    if record.phase.exit.code == 0:
        message = f"{id.role} hook of {_place(id.owner, id.slot)} passed"
        yield News("hook.passed", message, id.owner, id.slot, details)
        return
    vetoed = judge(hook, record).state == "vetoed"
    message = failure(hook, record) + ("" if vetoed else " (ignored)")
    yield News("hook.failed", message, id.owner, id.slot, details)


def of_reload(id: ProcessId, before: Memory, now: Memory) -> Iterator[News]:
    """Yield what came of a reload that an operator asked for."""
    if now.reloaded == before.reloaded:
        return
    details = {"number": now.reloaded}
    if now.reload_trouble:
        message = f"{id} was not reloaded: {now.reload_trouble}"
        yield News("process.reload_failed", message, id.owner, id.slot, details)
    else:
        yield News("process.reloaded", f"{id} was reloaded", id.owner, id.slot, details)


def _place(owner: str, slot: int) -> str:
    return f"{owner}.{slot}" if slot else owner


def of_socket(before: SocketRecord | None, now: SocketRecord) -> Iterator[News]:
    """Yield what a changed socket means to people; a refusal that repeats is told once."""
    if before is not None and before.phase == now.phase:
        return
    match now.phase:
        case Bound(listen):
            if (
                before is None
                or not isinstance(before.phase, Bound)
                or before.phase.listen != listen
            ):
                yield News(
                    "socket.bound",
                    f"socket {now.name} listens on {listen}",
                    details={"socket": now.name},
                )
        case Lost(_, shut_down_by):
            message = f"the file of socket {now.name} is gone; binding it again"
            if shut_down_by:
                message = f"{_names(shut_down_by)} shut down socket {now.name}; binding it again"
            yield News("socket.lost", message, details={"socket": now.name})
        case BindRefused(errno, message):
            if not _was_refused(before, now):
                details = {"socket": now.name, "errno": errno}
                yield News("socket.refused", f"socket {now.name}: {message}", details=details)
        case _:
            return


def of_restored(event: SocketRestored, socket: SocketRecord | None) -> News:
    """Return the news of something that was done to a socket, and undone."""
    name, details = event.name, {"socket": event.name, "by": [str(each) for each in event.by]}
    who = _names(event.by)
    match event.what:
        case "file":
            ended = f"{who} removed the file of socket {name} when it ended" if event.by else ""
            message = f"{ended or f'the file of socket {name} was removed'}; it was put back, no process is replaced"
        case "listening":
            message = f"{who} shut down socket {name}: its clients were refused; it listens again"
        case "backlog":
            now = (
                "restored"
                if socket is None
                else f"{socket.backlog or socket.template.backlog} again"
            )
            message = f"{who} set the backlog of socket {name} to {event.found}; it is {now}"
        case _:
            assert_never(event.what)
    owner = event.by[0].owner if event.by else ""
    slot = event.by[0].slot if len(event.by) == 1 else 0
    return News("socket.restored", message, owner, slot, details)


def _names(ids: tuple[ProcessId, ...]) -> str:
    return " or ".join(str(each) for each in ids) or "a user of it"


def of_words_end(watcher: str, before: Intent, after: Intent) -> Iterator[News]:
    """Yield the news of an operator's words whose time is over."""
    ended: list[tuple[str | None, RequestedBy]] = []
    if before.hold != after.hold:
        ended.append((before.hold, before.hold_by))
    if before.scale != after.scale:
        ended.append((f"scaled to {before.scale}", before.scale_by))
    for what, by in ended:
        length = "" if by.until is None else f" for {format_duration(by.until.length_ns)}"
        message = f"override ended ({what} by {by.who}{length}): follows the spec again"
        yield News("operator.expired", message, watcher, details={"who": by.who})


def _was_refused(before: SocketRecord | None, now: SocketRecord) -> bool:
    """Tell whether the same was refused before, as far as we remember: tried often, told once."""
    match before:
        case SocketRecord(template=now.template, phase=BindRefused() | BindRequested(again=True)):
            return True
        case _:
            return False


def of_log(event: LogChanged) -> News:
    """Return the news of a log file that cannot be written, or can again."""
    details: dict[str, object] = {"path": event.path}
    if not event.trouble:
        message = f"writing {event.path} again"
        if event.lost_bytes:
            message += f"; {event.lost_bytes} bytes were lost"
            details["lost_bytes"] = event.lost_bytes
        return News("log.recovered", message, event.id.owner, event.id.slot, details)
    message = log_trouble(event)
    if event.lost:
        message += "; output is lost until it can be written"
    return News("log.failed", message, event.id.owner, event.id.slot, details)


def log_trouble(event: LogChanged) -> str:
    """Return what is wrong with a log file."""
    if event.lost:
        return f"cannot write {event.path}: {event.trouble}"
    return (
        f"{event.path} can no longer be trusted: {event.trouble}; output continues in the open file"
    )


def of_fault(event: FaultCaught) -> News:
    """Return the news of something unexpected that the keeper has caught."""
    message = f"unexpected error in the keeper while {event.doing}: {event.error}"
    details = {"doing": event.doing, "error": event.error}
    return News("keeper.fault", message, details=details)


def of_control(event: ControlRenewed) -> News:
    """Return the news of a control socket that somebody removed, perhaps with its folder."""
    if event.trouble:
        message = (
            f"the control socket {event.path} is gone and cannot be opened again: {event.trouble}"
        )
    else:
        message = f"the control socket {event.path} was gone; it is open again"
    return News(
        "control.failed" if event.trouble else "control.renewed",
        message,
        details={"path": event.path},
    )


def of_orphans(before: tuple[Orphan, ...], now: tuple[Orphan, ...]) -> Iterator[News]:
    """Yield the news of processes that no record speaks for."""
    known = {each.pid for each in before}
    for each in now:
        if each.pid not in known:
            details: dict[str, object] = {"pid": each.pid, "name": each.name}
            yield News("process.orphaned", orphan_message(each), details=details)


def orphan_message(orphan: Orphan) -> str:
    """Return what is known of a process that no record speaks for."""
    owners = ", ".join(dict.fromkeys(map(str, orphan.owners)))
    if orphan.is_certain and owners:
        return f"{owners} left {orphan} running, as its stop.scope says"
    whose = f"one of {owners}" if owners else "a process that is gone"
    return f"{orphan} runs and belongs to no known watcher: {whose} left it behind"


def of_generation(watcher: str, generation: Generation) -> News:
    """Return the news of a job's new generation."""
    why = {
        "first": "first time",
        "spec_change": "its spec changed",
        "boot": "the machine booted",
        "daemon_start": "the manager started",
        "lost": "the end of the last run was not observed, and on_lost is rerun",
        "operator": f"requested by {generation.who or 'an operator'}",
    }[generation.trigger]
    message = f"{watcher} fires generation {generation.number}: {why}"
    details = {
        "generation": generation.number,
        "trigger": generation.trigger,
        "who": generation.who,
    }
    return News("job.fired", message, watcher, details=details)


def of_run(watcher: str, run: Run) -> Iterator[News]:
    """Yield the news of a run that has got its outcome."""
    if run.outcome is None:
        return
    how = f": {run.exit}" if run.exit is not None else f": {run.note}" if run.note else ""
    details: dict[str, object] = {"generation": run.generation, "outcome": run.outcome}
    message = f"{watcher}.{run.slot} run {run.generation} {run.outcome}{how}"
    yield News("job.ended", message, watcher, run.slot, details)
