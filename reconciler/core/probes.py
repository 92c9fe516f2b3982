"""What is asked of a process, by its spec, and what has come of it so far.

A command is a process that the keeper runs (`probe_commands`). All else is asked by the controller, which is told what,
of whom and how often, and tells when the answer changes: many slots that are asked each second cost the core nothing.
What is asked is held against what should be at each plan of a slot, so that the next controller asks the same.
"""

from __future__ import annotations

from typing import Final

from reconciler.core import probe_commands
from reconciler.core.plan import Plan
from reconciler.core.probe_commands import Answer
from reconciler.core.template import expand
from reconciler.model.action import Probe, Unprobe
from reconciler.model.observed import ProbeObserved
from reconciler.model.probe import (
    PURPOSES,
    HttpTarget,
    LogTarget,
    Probing,
    Target,
    TcpTarget,
    UnixTarget,
    parse_endpoint,
    parse_path,
    parse_port,
    parse_ranges,
    parse_unix_path,
    parse_url,
)
from reconciler.model.process import ProcessId, ProcessRecord
from reconciler.model.spec import ProbeSpec, ReadySpec
from reconciler.model.value import replace

READY, HEALTH = PURPOSES


_UNREADABLE: Final = "log: where its output begins is not known, it was started before an edit"


def answer(plan: Plan, main: ProcessRecord, role: str, probe: ProbeSpec) -> Answer:
    """Return what the probe of a process has come to; its message says what was asked."""
    if probe.exec is not None:
        return probe_commands.answer(plan, main, role, probe)
    target = target_of(probe, main)
    if isinstance(target, str):
        return Answer(False, target)
    asked = plan.observed.probes.get(plan.id(main.id.slot, role))
    found = asked.answer if asked is not None else None
    if asked is None or found is None or asked.incarnation != main.incarnation:
        return Answer(None, f"{target} has not answered yet")
    return Answer(found.passed, found.message, found.at_ns)


def ask(plan: Plan, main: ProcessRecord, role: str, probe: ProbeSpec, since_ns: int) -> None:
    """See to it that a process is asked, for the first time `initial_delay` after an instant."""
    if probe.exec is not None:
        probe_commands.ask(plan, main, role, probe, since_ns)
        return
    target = target_of(probe, main)
    if not isinstance(target, str):
        times = (since_ns + probe.initial_delay, probe.interval, probe.timeout)
        probing = Probing(target, *times, probe.patience, probe.successes)
        plan.asked[plan.id(main.id.slot, role)] = ProbeObserved(main.incarnation, probing)


def follow(plan: Plan) -> None:
    """Have the controller ask what this plan wants to know of the slots that it has looked at, and nothing else."""
    known = plan.observed.probes
    if not known and not plan.asked:
        return
    for id in dict.fromkeys((*plan.asked, *_asked_until_now(plan))):
        now, wanted = known.get(id), plan.asked.get(id)
        if wanted is None:
            plan.act(Unprobe(id))
        elif now is None or replace(now, answer=None) != wanted:
            plan.act(Probe(id, wanted.incarnation, wanted.probing))


def _asked_until_now(plan: Plan) -> list[ProcessId]:
    """Return what is asked of the slots that this plan has looked at."""
    slots, known = plan.slots.looked_at, plan.observed.probes
    ids = known if slots is None else (plan.id(s, role) for s in sorted(slots) for role in PURPOSES)
    return [id for id in ids if id in known and id.slot not in plan.unreached]


def target_of(probe: ProbeSpec, main: ProcessRecord) -> Target | str:
    """Return what is asked of a process; in words why that cannot be, where its slot makes no address."""
    if isinstance(probe, ReadySpec) and probe.log is not None:
        places = main.memory.log_places
        return LogTarget(probe.log, places) if places else _UNREADABLE
    try:
        return _target(probe, main.id.slot)
    except ValueError as error:
        return f"cannot ask slot {main.id.slot}: {error}"


def _target(probe: ProbeSpec, slot: int) -> Target:
    """Return what is asked of a slot. Raises `ValueError`."""

    def text(template: str) -> str:
        return expand(template, slot, {})

    http = probe.http
    if isinstance(http, str):
        return HttpTarget(*parse_url(text(http)))
    if http is not None:
        if http.url is not None:
            place = parse_url(text(http.url))
        else:
            place = text(http.host), parse_port(text(http.port or "")), parse_path(text(http.path))
        headers = {name: text(value) for name, value in http.headers.items()}
        return HttpTarget(*place, parse_ranges(http.status), headers)
    if probe.tcp is not None:
        return TcpTarget(*parse_endpoint(text(probe.tcp)))
    assert probe.unix is not None
    return UnixTarget(parse_unix_path(text(probe.unix)))


def is_asked(probe: ProbeSpec) -> bool:
    """Tell whether there is anything to ask: a probe may be a matter of time alone."""
    log = probe.log if isinstance(probe, ReadySpec) else None
    return any(each is not None for each in (probe.http, probe.tcp, probe.unix, probe.exec, log))
