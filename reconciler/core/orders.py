"""What each order of an operator does to one watcher, in every state that it may be in.

One function an order, from what is known to a `Decision`: nothing is done here. An order that cannot do
what was asked is `refused`, with the reason and what to type instead; a watcher that was not named but
selected by a glob is `skipped` where naming it is the consent. When an order is done, `core.goals` knows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from reconciler.core import desired, generations, intents, rollout
from reconciler.core.plan import Plan
from reconciler.model.intent import NOBODY, Intent, RequestedBy
from reconciler.model.observation import RetryAsked, SignalAsked
from reconciler.model.observed import Facts, WatcherObserved
from reconciler.model.order import Decision, Goal, GoalKind, Taken
from reconciler.model.process import Exited, Reach, several
from reconciler.model.spec import MAX_NUMPROCESSES, Overlap, WatcherSpec
from reconciler.model.status import SlotStatus, WatcherStatus
from reconciler.model.units import format_count, format_duration, format_few
from reconciler.model.value import Struct, replace

MAX_DEPENDENTS_NAMED: Final = 3
MAX_SLOTS_NAMED: Final = 500
"""A goal that is about more slots of a watcher is about all of them: it has to fit into a request."""


T = TypeVar("T")


class Once(Generic[T]):
    """Makes a value when it is first asked for."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._found: list[T] = []

    def __call__(self) -> T:
        """Return the value."""
        if not self._found:
            self._found.append(self._make())
        return self._found[0]


class Subject(Struct, frozen=True):
    """One watcher that an order means, with all that is known of it."""

    name: str
    spec: WatcherSpec | None
    """None: no spec has it any more, it is being removed."""
    observed: WatcherObserved
    base_hash: str
    facts: Facts
    planned: Once[Plan]
    """Many an order and goal asks neither for the plan nor for the status."""
    shown: Once[WatcherStatus]
    slots: tuple[int, ...] | None = None
    """The slots that are meant; None: the watcher as a whole."""
    by_name: bool = True
    """It was named; False: a glob or a label selected it."""
    by: RequestedBy = NOBODY
    awaits: str = ""
    """Of a start: what it requires that does not come by itself, in words."""
    dependents: tuple[str, ...] = ()
    """Of a stop: those that run, depend on it, and are not stopped with it."""

    @property
    def plan(self) -> Plan:
        """Return what it does by its last plan."""
        return self.planned()

    @property
    def status(self) -> WatcherStatus:
        """Return how it is."""
        return self.shown()

    @property
    def named(self) -> WatcherSpec:
        """Return the spec of a watcher that has one."""
        assert self.spec is not None
        return self.spec

    @property
    def count(self) -> int:
        """Return how many slots it has."""
        return desired.count(self.named, self.observed.intent)

    @property
    def kept(self) -> tuple[int, ...]:
        """Return the slots that go on as before, because the newest revision is not good."""
        found = self.plan.conditions.items()
        return tuple(slot for slot, each in found if rollout.is_kept(self.plan, each))

    @property
    def idle(self) -> str:
        """Return why nothing of it shall run, empty when something shall."""
        return desired.why_idle(self.name, self.named, self.observed.intent)

    @property
    def running(self) -> tuple[int, ...]:
        """Return the slots with a live process, of those that are meant."""
        alive = self.observed.running
        return tuple(slot for slot in alive if self.slots is None or slot in self.slots)

    def due_slots(self, intent: Intent) -> tuple[int, ...]:
        """Return the slots of a job that are fired by themselves under an intent."""
        observed = replace(self.observed, intent=intent)
        return generations.due_slots(self.name, self.named, observed, self.base_hash, self.facts)

    def in_state(self, *states: str) -> tuple[SlotStatus, ...]:
        """Return the slots in one of some states, of those that are meant."""
        shown = self.status.slots
        return tuple(
            each
            for each in shown
            if each.state in states and (self.slots is None or each.slot in self.slots)
        )

    def goal(self, kind: GoalKind, number: int = 0, slots: tuple[int, ...] | None = None) -> Goal:
        """Return what has to come about with the slots that are meant, or with other ones."""
        chosen = (self.slots if slots is None else slots) or ()
        named = chosen if len(chosen) <= MAX_SLOTS_NAMED else ()
        return Goal(self.name, kind, named, number)


def _numbers(slots: tuple[int, ...]) -> str:
    return f"slot{'s' if len(slots) > 1 else ''} {', '.join(map(str, slots))}"


def _refused(message: str) -> Decision:
    return Decision(message, "refused")


def _not_for(it: Subject, message: str) -> Decision:
    """Return that an order says nothing to a watcher: refused where it was named, else skipped."""
    taken: Taken = "refused" if it.by_name else "skipped"
    return Decision(message, taken)


def _going(it: Subject) -> Decision:
    return _not_for(it, "is being removed: it is no longer in the spec")


def _completed(it: Subject) -> Decision:
    return _not_for(it, f"has completed and is not run again; use `reconcile start {it.name}`")


def _beyond(it: Subject) -> str:
    """Return that slots are meant which the watcher does not have (any more), empty when it has them."""
    beyond = tuple(slot for slot in it.slots or () if slot > it.count)
    if not beyond:
        return ""
    has = format_count(it.count, "slot")
    return (
        f"has no {_numbers(beyond)}: it has {has}, `reconcile scale {it.name}=N` sets their number"
    )


def _length(by: RequestedBy) -> str:
    return "" if by.until is None else f", for {format_duration(by.until.length_ns)}"


# ---- start, stop, resume --------------------------------------------------------------------------


def start(it: Subject) -> Decision:
    """Let a watcher run, whatever `autostart` says and whoever stopped it; try at once what waits."""
    decision = _start(it)
    if decision.taken != "accepted" or it.awaits in decision.message:
        return decision
    return replace(decision, message=f"{decision.message}; {it.awaits}")


def _start(it: Subject) -> Decision:
    if it.spec is None:
        return _going(it)
    if it.spec.is_job:
        return _start_job(it)
    intent, ends = it.observed.intent, it.by.until is not None
    said = intents.started(intent, it.by, autostart=it.spec.autostart)
    is_new = said.hold != intent.hold or ends or intent.hold_by.until is not None
    if it.slots is not None and is_new:
        why = it.idle or "all its slots run"
        return _refused(
            f"cannot start one slot: {why}; `reconcile scale {it.name}=N` sets how many run"
        )
    if _beyond(it):
        return _refused(_beyond(it))
    if not it.count:
        why = desired.why_idle(it.name, it.spec, said)
        return Decision(why, "refused", intent=said if is_new else None)
    if it.idle:
        return Decision(f"started{_length(it.by)}", goal=it.goal("up"), intent=said)
    tried, message = _tried_again(it)
    if not tried and it.in_state("Completed") and not it.by_name:
        return _completed(it)
    observations = (RetryAsked(it.name, tried),) if tried else ()
    return Decision(
        message + _length(it.by),
        goal=it.goal("up"),
        intent=said if is_new else None,
        observations=observations,
    )


def _tried_again(it: Subject) -> tuple[tuple[int, ...], str]:
    """Return the dead slots that a start tries again now, and in words what it finds."""
    # What has waited too long for another watcher has not run.
    gave_up = tuple(slot for slot in it.in_state("Failed") if slot.slot not in it.plan.at_gate)
    waiting = tuple(slot for slot in it.in_state("BackOff") if slot.exit is not None)
    completed = it.in_state("Completed") if it.by_name else ()
    tried = tuple(sorted(slot.slot for slot in (*gave_up, *waiting, *completed)))
    which = f"{_numbers(tried)}: " if it.status.want > 1 else ""
    if gave_up:
        restarts = it.named.max_restarts
        after = f" after {restarts.count} restarts" if restarts is not None else ""
        return tried, f"{which}had failed permanently{after}; trying again"
    if waiting:
        return tried, f"{which}was waiting for its next try ({waiting[0].note}); trying now"
    if completed:
        return tried, f"{which}had completed; running again"
    note = f": {it.status.note}" if it.status.note else ""
    found = {
        "Running": "runs already",
        "Starting": "is already starting",
        "Rolling": "already running, being replaced",
        "Stopping": "is stopping, and starts after that",
        "BackOff": f"waits for its next try{note}",
        "Waiting": _waits(it, note),
        "Failed": _waits(it, note),
        "Idle": "rests until a client connects",
    }
    return (), found.get(it.status.state, "runs already")


def _waits(it: Subject, note: str) -> str:
    """Return what holds back a watcher when this order is carried out: what it requires may be started with it."""
    if not any(slot.stuck for slot in it.status.slots):
        return f"waits{note}"
    return it.awaits or "starts as soon as what it requires is there"


def _start_job(it: Subject) -> Decision:
    """Fire the slots of a job that do not run. Naming it is the consent; a glob only lifts a stop."""
    if it.by.until is not None:
        return _not_for(
            it, "is a job and runs until it ends: --for has no effect; use its field `timeout`"
        )
    if it.by_name and not (it.named.waits_for_schedule and it.observed.intent.hold == "stopped"):
        return rerun(it, overlap="skip", lacks="runs already")
    lifted = intents.started(it.observed.intent, it.by, autostart=True)
    is_held, due = it.observed.intent.hold == "stopped", it.due_slots(lifted)
    intent = lifted if is_held else None
    if due:
        number = _next_number(it)
        return Decision(f"fires {_numbers(due)}", goal=it.goal("ended", number, due), intent=intent)
    if it.running:
        return Decision("runs already", goal=_of_present_run(it, it.running), intent=intent)
    why = f"not run; use `reconcile rerun {it.name}`"
    if it.named.waits_for_schedule:
        why = f"waits for its schedule; `reconcile rerun {it.name}` runs it now"
    if is_held:
        return Decision(f"is no longer stopped; {why}", intent=intent)
    return _not_for(it, why)


def _next_number(it: Subject) -> int:
    """Return the number of the generation that what is due belongs to: the present one, or the next."""
    job, spec = it.observed.job, it.named
    lifted = replace(it.observed, intent=replace(it.observed.intent, hold=None))
    number = job.generation.number if job.generation is not None else 0
    due = generations.due_trigger(it.name, spec, lifted, it.base_hash, it.facts)
    return number + (due is not None)


def _of_present_run(it: Subject, slots: tuple[int, ...]) -> Goal:
    runs = it.observed.job.runs
    number = min((runs[slot].generation for slot in slots if slot in runs), default=0)
    return it.goal("ended", number, slots)


def stop(it: Subject) -> Decision:
    """Let a watcher rest until it is started again, or its time is over."""
    if it.slots is not None:
        return _refused(
            f"cannot stop one slot: `reconcile scale {it.name}=N` runs fewer, `reconcile signal TERM "
            f"{it.name}.{it.slots[0]}` ends a process that is then replaced"
        )
    intent, running = it.observed.intent, len(it.running)
    what = (
        f"stops {format_count(running, 'process')}" if running else "stopped; nothing was running"
    )
    phases = (record.phase for record in it.observed.records.values())
    left = [each for phase in phases if isinstance(phase, Exited) for each in phase.survivors]
    if left and not running:
        what = f"stopping what it left running: {several(left)}"
    if it.spec is None:
        return Decision("is already being removed", goal=it.goal("down"))
    says_more = bool(it.by.why) or it.by.until is not None
    if intent.hold == "stopped" and intent.hold_by.until is None and not says_more:
        return Decision(f"already stopped, by {intent.hold_by.who}", goal=it.goal("down"))
    return Decision(
        what + _length(it.by) + _dependents(it),
        goal=it.goal("down"),
        intent=intents.stopped(intent, it.by),
    )


def _dependents(it: Subject) -> str:
    """Return in words who depends on what is stopped and goes on; empty: nobody."""
    if not it.dependents:
        return ""
    goes_on = (
        "which depends on it, goes on" if len(it.dependents) == 1 else "which depend on it, go on"
    )
    names = format_few(it.dependents, MAX_DEPENDENTS_NAMED)
    return f"; {names}, {goes_on}: --with-dependents stops {'it' if len(it.dependents) == 1 else 'them'} too"


def resume(it: Subject) -> Decision:
    """Take back what operators said by hand: the spec counts again."""
    intent, spec = it.observed.intent, it.spec
    if it.slots is not None:
        return _refused("cannot resume one slot: overrides apply to a whole watcher")
    resumed = intents.resumed(intent)
    if spec is None:
        return replace(_going(it), intent=resumed)
    if (intent.hold, intent.scale) == (None, None):
        return Decision("already follows its spec")
    before, after = desired.wanted(spec, intent), desired.wanted(spec, resumed)
    message = f"follows its spec again: {before} -> {format_count(after, 'process')}"
    if spec.is_job:
        due = it.due_slots(resumed)
        goal = it.goal("ended", _next_number(it), due) if due else None
        rests = "waits for its schedule" if spec.waits_for_schedule else "no run is started"
        what = f"fires {_numbers(due)}" if due else rests
        return Decision(f"follows its spec again: {what}", goal=goal, intent=resumed)
    return Decision(message, goal=it.goal("up" if after else "down"), intent=resumed)


# ---- restart, reload, signal, scale ---------------------------------------------------------------


def restart(it: Subject, *, at_once: bool = False) -> Decision:
    """Replace processes one by one, or all at once; what waits for its next try starts now."""
    if it.spec is None:
        return _going(it)
    if it.spec.is_job and not it.by_name:
        return _not_for(it, f"is a job and is not run again; use `reconcile rerun {it.name}`")
    if it.spec.is_job and not it.idle:
        return rerun(it, overlap="replace")
    if it.idle or _beyond(it):
        return _not_for(it, f"cannot be restarted: {it.idle}" if it.idle else _beyond(it))
    if it.in_state("Completed") and not it.by_name:
        return _completed(it)
    kept = {*it.kept}
    wanted = it.slots or tuple(range(1, it.count + 1))
    free = tuple(slot for slot in wanted if slot not in kept)
    if not free:
        return _not_for(
            it,
            "is kept at an older revision, because the newest one is not good: `reconcile apply "
            "--continue` continues it, `reconcile rollback` reverts it",
        )
    slots = free if kept else it.slots
    intent = intents.restarted(it.observed.intent, slots, at_once=at_once)
    return Decision(_restarts(it, at_once=at_once), goal=it.goal("up", slots=slots), intent=intent)


def _restarts(it: Subject, *, at_once: bool) -> str:
    tried, message = _tried_again(replace(it, by_name=True))
    if tried and not it.running:
        return message
    if not it.running:
        return f"nothing runs yet: {message}"
    what = _numbers(it.slots) if it.slots else "its processes"
    pace = "all at once" if at_once else desired.pace(it.named, it.count)
    how = "" if len(it.slots or ()) == 1 else f" {pace}"
    return f"replacing {what}{how}" + (f"; {message}" if tried else "")


def reload(it: Subject) -> Decision:
    """Let running processes take changes, as the field `reload` says."""
    if it.spec is None:
        return _going(it)
    if it.spec.reload == "replace" and not it.spec.is_job:
        if it.in_state("Completed") and not it.running:
            return _not_for(it, f"has completed; `reconcile start {it.name}` runs it once more")
        return restart(it)
    if not it.running:
        return _not_for(it, _nothing_runs(it))
    if it.spec.reload == "replace":
        why = f"it is a job; `reconcile restart {it.name}` stops it and runs it again"
        return _not_for(it, f"its field `reload` has neither signal nor command; {why}")
    intent = intents.reloaded(it.observed.intent, it.slots)
    goal = it.goal("reloaded", max(intent.reloads.values()))
    return Decision(f"reloads {format_count(len(it.running), 'process')}", goal=goal, intent=intent)


def _nothing_runs(it: Subject) -> str:
    """Return that nothing runs, and why."""
    if it.idle:
        return f"nothing runs: {it.idle}"
    if it.spec is not None and it.spec.is_job:
        what = {"Completed": "has completed", "Failed": "has failed"}.get(it.status.state)
        why = f"`reconcile rerun {it.name}` runs it"
        return f"{what}; {why} again" if what else f"nothing runs: {it.status.note or why}"
    note = f" ({it.status.note})" if it.status.note else ""
    what = f"slot {it.slots[0]} does not run" if it.slots else "nothing runs just now"
    return f"{what}: {it.status.state}{note}"


def signal(it: Subject, word: str, at_ns: int, reach: Reach = "process") -> Decision:
    """Send a signal to the processes that run."""
    if not it.running:
        return _going(it) if it.spec is None else _not_for(it, _nothing_runs(it))
    observations = tuple(SignalAsked(it.name, slot, word, at_ns, reach) for slot in it.running)
    whom = {"children": "the children of ", "tree": "the whole tree of "}.get(reach, "")
    return Decision(
        f"sent SIG{word} to {whom}{format_count(len(it.running), 'process')}",
        observations=observations,
    )


def scale(it: Subject, number: int | None) -> Decision:
    """Run another number of processes than the spec says; None takes the spec's again."""
    if it.spec is None:
        return _going(it)
    if it.slots is not None:
        return _refused(
            f"cannot scale one slot: `reconcile scale {it.name}=N` says how many there are"
        )
    before, intent = it.count, intents.scaled(it.observed.intent, it.by, number)
    after = desired.count(it.spec, intent)
    count = format_count(after, "process")
    message = f"{before} -> {count}" if before != after else f"has {count} already"
    message += ", as in the spec" if number is None else _length(it.by)
    idle = desired.why_idle(it.name, it.spec, intent)
    if idle and after:
        return Decision(f"{message}; none runs now: {idle}", intent=intent)
    if it.spec.is_job:
        due = tuple(slot for slot in it.due_slots(intent) if slot > before)
        surplus = tuple(slot for slot in it.running if slot > after)[:MAX_SLOTS_NAMED]
        if due:
            ended = it.goal("ended", _next_number(it), due)
            return Decision(f"{message}; fires {_numbers(due)}", goal=ended, intent=intent)
        goal = it.goal("down", slots=surplus) if surplus else None
        return Decision(message, goal=goal, intent=intent)
    return Decision(message, goal=it.goal("up" if after else "down"), intent=intent)


def scale_by(it: Subject, more: int) -> Decision:
    """Run so many more processes, or fewer, than are to run now; not fewer than none."""
    if it.spec is None:
        return _going(it)
    number = max(it.count + more, 0)
    if number > MAX_NUMPROCESSES:
        return _refused(f"cannot have {number} processes: {MAX_NUMPROCESSES} is the most")
    return scale(it, number)


# ---- jobs -----------------------------------------------------------------------------------------


def rerun(
    it: Subject, *, failed: bool = False, overlap: Overlap | None = None, lacks: str = ""
) -> Decision:
    """Fire a job again: a new generation. What an operator stopped is thereby started again.

    `lacks` is said instead where all slots run already.
    """
    if it.spec is None:
        return _going(it)
    if not it.spec.is_job:
        if it.by_name and it.spec.restart == "on-failure":
            return restart(it)
        how = f"`reconcile restart {it.name}` replaces its processes"
        return _not_for(it, f"is a service, not a job (restart: never); {how}")
    lifted = it.observed
    if it.observed.intent.hold == "stopped":
        intent = intents.started(it.observed.intent, it.by, autostart=True)
        lifted = replace(it.observed, intent=intent)
    if not it.count or _beyond(it):
        return _refused(_beyond(it) or desired.why_idle(it.name, it.spec, lifted.intent))
    asked = generations.rerun(
        it.spec,
        lifted,
        it.slots,
        it.base_hash,
        it.facts,
        failed=failed,
        overlap=overlap,
        who=it.by.who,
    )
    still = f"{_numbers(asked.running)} still run{'s' if len(asked.running) == 1 else ''}"
    if not asked.fired:
        if not asked.running:
            return Decision("no slot has failed" if failed else "nothing to run")
        if lacks:
            return Decision(lacks, goal=_of_present_run(it, asked.running), running=asked.running)
        message = (
            f"no run is started: {still}; use --overlap queue to run it again afterwards, "
            "--overlap replace to stop what runs"
        )
        return Decision(message, "refused", running=asked.running)
    message = f"fires {_numbers(asked.fired)}"
    if asked.queued:
        message += f"; {_numbers(asked.queued)} when its present run has ended"
    return Decision(
        f"{message}; {still}" if asked.running else message,
        goal=it.goal("ended", asked.generation.number, asked.fired),
        intent=lifted.intent if lifted is not it.observed else None,
        generation=asked.generation,
        fired=asked.fired,
        queued=asked.queued,
        running=asked.running,
    )
