"""What is in force for a process, held against what its spec says: the difference becomes one `Adjust`.

Every plan compares the two, so it does not matter who saw the edit, or whether anybody did. Where the output
goes changes only with the process; how it is written there changes in place.
"""

from __future__ import annotations

from typing import Final

from reconciler.core.limits import group_limits_here
from reconciler.core.plan import Plan
from reconciler.core.template import pid_file, sinks
from reconciler.model.action import Adjust, Remember
from reconciler.model.observed import Facts
from reconciler.model.process import (
    NOT_KNOWN,
    DaemonSink,
    FileSink,
    ProcessRecord,
    Requested,
    Settings,
    Sink,
)
from reconciler.model.spec import WatcherSpec
from reconciler.model.units import SECOND_NS
from reconciler.model.value import replace

ADJUST_AGAIN_NS: Final = 5 * SECOND_NS
"""When a process that could not take its settings, such as a log on a full disk, is told them again."""


def wanted(name: str, spec: WatcherSpec, slot: int, facts: Facts) -> Settings:
    """Return the settings that the spec wants for a slot."""
    stop = spec.stop
    return Settings(
        stop.scope,
        stop.ask,
        stop.signal,
        stop.timeout,
        *sinks(name, spec, slot, facts),
        pid_file(spec, slot),
        group_limits=group_limits_here(spec.limits, facts),
    )


def adjust(plan: Plan) -> None:
    """Bring what is in force for the watcher's processes to what the spec says."""
    if not plan.spec.cmd:
        return  # nobody knows its spec
    for slot in plan.look(plan.slots.mains):
        record = plan.slots.mains[slot]
        if isinstance(record.phase, Requested):
            continue
        differs = pending(record, wanted(plan.name, plan.spec, slot, plan.world.facts))
        last = record.memory.adjusted_at_ns
        if differs is None or (last and not plan.is_due(last + ADJUST_AGAIN_NS)):
            continue
        plan.act(Adjust(record.id, record.incarnation, differs))
        memory = replace(record.memory, adjusted_at_ns=plan.now_ns)
        plan.act(Remember(record.id, record.incarnation, memory))


def pending(record: ProcessRecord, wanted: Settings) -> Settings | None:
    """Return to which settings a process is still to be brought, None when it has them."""
    now = record.settings
    reachable = wanted
    if not (_same_place(now.stdout, wanted.stdout) and _same_place(now.stderr, wanted.stderr)):
        reachable = replace(wanted, stdout=now.stdout, stderr=now.stderr)
    stdout, stderr = (
        _as_known(now.stdout, reachable.stdout),
        _as_known(now.stderr, reachable.stderr),
    )
    assert stdout is not None
    reachable = replace(reachable, stdout=stdout, stderr=stderr)
    return None if reachable == now else reachable


def _same_place(one: Sink | None, other: Sink | None) -> bool:
    if isinstance(one, FileSink) and isinstance(other, FileSink):
        return one.path == other.path
    if isinstance(one, DaemonSink) and isinstance(other, DaemonSink):
        return one.to == other.to
    return type(one) is type(other)


def _as_known(now: Sink | None, wanted: Sink | None) -> Sink | None:
    """Return a sink with the owners that the file has where those that are wanted have no number yet."""
    if not (isinstance(now, FileSink) and isinstance(wanted, FileSink)):
        return wanted
    own, has = wanted.owned, now.owned
    uid = has.uid if own.uid == NOT_KNOWN else own.uid
    gid = has.gid if own.gid == NOT_KNOWN else own.gid
    return replace(wanted, owned=replace(own, uid=uid, gid=gid))
