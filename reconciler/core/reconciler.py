"""Folds events into the picture of the world and plans the watchers that they touch.

The only mutable thing of the core. One event touches one watcher (or the users of one socket), and only
what was touched, or whose time has come, is planned: an exit among 5,000 watchers costs what it costs
among ten. Actions are folded in as soon as they are decided; the link to the keeper keeps their order, and
the keeper's answers overwrite whatever was assumed.
"""

from __future__ import annotations

import heapq
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, assert_never

from reconciler.core import secrets, summarize, tell, verdict
from reconciler.core.attention import Attention
from reconciler.core.changes import is_alike
from reconciler.core.done import Done
from reconciler.core.orders import Subject
from reconciler.core.plan import Draft, World
from reconciler.core.sockets import plan_sockets
from reconciler.core.stop_order import StopOrder, priority_of_going
from reconciler.core.stopping import KILL_AGAIN_NS
from reconciler.core.template import run_hash, sockets_of, with_secrets
from reconciler.core.verdict import Finding
from reconciler.core.watchers import plan_watcher
from reconciler.model.action import (
    Action,
    Adjust,
    Bind,
    EndOrphans,
    Forget,
    Notify,
    Quit,
    ReadSecrets,
    RecordGeneration,
    RecordIntent,
    RecordRun,
    RecordVerdict,
    Remember,
    Signal,
    Spawn,
    Unbind,
    Upgrade,
)
from reconciler.model.event import (
    ControlRenewed,
    Delivery,
    EndsTold,
    FaultCaught,
    IntentChanged,
    JobChanged,
    KeeperIntroduced,
    LogChanged,
    LogRotated,
    OrphansChanged,
    PulseAsked,
    RecordChanged,
    RecordForgotten,
    Request,
    RetryAsked,
    RunRecorded,
    SecretsRead,
    SecretsUnreadable,
    ShutdownAsked,
    SignalAsked,
    SignalReceived,
    SnapshotEnded,
    SocketChanged,
    SocketClosed,
    SocketRestored,
    SpecApplied,
    UpgradeFailed,
)
from reconciler.model.intent import NO_INTENT
from reconciler.model.job import Job
from reconciler.model.news import News
from reconciler.model.observed import Facts, SecretsObserved, WatcherObserved
from reconciler.model.process import (
    MAIN,
    Exited,
    LaunchError,
    ProcessId,
    ProcessRecord,
    Requested,
    Running,
    pid_of,
)
from reconciler.model.socket import BindRefused, BindRequested, SocketRecord
from reconciler.model.spec import Spec, WatcherSpec
from reconciler.model.units import SECOND_NS
from reconciler.model.value import Struct, replace

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from reconciler.core.done import Outcome
    from reconciler.model.event import Event
    from reconciler.model.job import Run
    from reconciler.model.process import Orphan
    from reconciler.model.revision import Outlook, Trial
    from reconciler.model.status import SocketStatus, WatcherStatus

NOTHING_SAID: Final[Mapping[int, str]] = MappingProxyType({})
MAX_ROUNDS: Final = 200
"""Plans of one watcher within one step; more means that two rules undo each other."""
ORPHANS_TIMEOUT_NS: Final = 10 * SECOND_NS
"""How long processes that belong to nobody may take to end at a shutdown."""
BACKLOG_PER_STEP: Final = 100
"""Of many watchers that are to be planned at once, so many are in each step."""
ACTIONS_PER_STEP: Final = 500
"""About so much is decided in one step; what more there is to do comes in the next one, and others in between."""
MAX_REQUESTS: Final = 16
"""Signals to one process that wait for its hooks; more are refused."""


class Step(Struct, frozen=True):
    """What came of one step. `wake_at_ns` None: nothing changes by itself any more."""

    actions: tuple[Action, ...]
    wake_at_ns: int | None
    touched: frozenset[str]
    news: tuple[News, ...]
    answered: tuple[Delivery, ...] = ()
    """Signals that operators asked for: sent, or why not."""


class Reconciler:
    """Holds the picture of the world; `step` is the only way to change it."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.spec = Spec()
        self.revision = 0
        self._retiring: dict[str, WatcherSpec] = {}
        self._hashes: dict[str, str] = {}
        self._users: dict[str, set[str]] = {}
        self._observed: dict[str, WatcherObserved] = {}
        self._attention = Attention()
        self._sockets: dict[str, SocketRecord] = {}
        self._dirty: set[str] = set()
        self._backlog: list[str] = []
        """Watchers to be planned when there is time, the first of them last."""
        self._sockets_dirty = False
        self._touched: set[str] = set()
        self._wakes: list[tuple[int, str]] = []
        self._wake_of: dict[str, int] = {}
        self._sockets_wake_ns: int | None = None
        self._news: list[News] = []
        self._actions: list[Action] = []
        self._answered: list[Delivery] = []
        self._knows_keeper = False
        self.orphans: tuple[Orphan, ...] = ()
        """Processes that nobody's record speaks for."""
        self._orphans_due_ns: int | None = None
        """At a shutdown: until when they may take to end."""
        self._killed_orphans = False
        self._stop_order = StopOrder()
        self._trial: Trial | None = None
        self._unproven: dict[str, Finding] = {}
        """Watchers of the trial that have not stayed up long enough yet."""
        self._shutdown: ShutdownAsked | None = None
        self._killed_at_shutdown = False
        self._last_incarnation: dict[ProcessId, int] = {}
        self._has_quit = False
        self._wanting: dict[ProcessId, LaunchError] = {}
        """What was short when a process could not be started last."""
        self._done = Done()
        self._busy: set[str] | None = None
        """While everything stops: who still has something; only who was touched may have changed."""

    # ---- what others ask ----------------------------------------------------------------------

    @property
    def is_in_force(self) -> bool:
        """Tell whether a spec has been held against what the keeper holds."""
        return self._knows_keeper and self.revision > 0

    def names(self) -> list[str]:
        """Return the watchers of the spec, and those that are still being removed."""
        return [*self.spec.watchers, *(n for n in self._retiring if n not in self.spec.watchers)]

    def observed(self, name: str) -> WatcherObserved:
        """Return what is known of a watcher; an empty picture when nothing is."""
        return self._observed.get(name) or WatcherObserved()

    def helpers(self, name: str) -> list[ProcessRecord]:
        """Return the records of a watcher's hooks and commands."""
        observed = self.observed(name)
        return [observed.records[id] for id in observed.helpers]

    def retiring(self) -> Mapping[str, WatcherSpec]:
        """Return the watchers that stand in no spec any more and still have processes."""
        return dict(self._retiring)

    def watcher_spec(self, name: str) -> WatcherSpec | None:
        """Return the spec by which a watcher is treated, also while it is being removed."""
        return self.spec.watchers.get(name) or self._retiring.get(name)

    def base_hash(self, name: str) -> str:
        """Return the hash of what a watcher's processes are made of; empty for one that is going."""
        if name not in self.spec.watchers:
            return ""
        if name not in self._hashes:
            self._hashes[name] = run_hash(self.spec.watchers[name], self.spec.sockets)
        return with_secrets(self._hashes[name], self.observed(name).secrets.digest)

    def subject(self, name: str, now_ns: int, wall_offset_ns: int) -> Subject:
        """Return all that is known of a watcher, for `core.orders` and `core.goals`."""
        status = self.watcher_status(name, now_ns, wall_offset_ns)
        paused = self._trial is not None and self._trial.stops_roll
        spec, observed = self.spec.watchers.get(name), self.observed(name)
        return Subject(
            name, spec, observed, status, self.base_hash(name), self.facts, paused=paused
        )

    def watcher_status(
        self,
        name: str,
        now_ns: int,
        wall_offset_ns: int,
        said: Mapping[int, str] = NOTHING_SAID,
    ) -> WatcherStatus:
        """Return the status of a watcher. `wall_offset_ns` plus monotonic time is time since the epoch."""
        base_hash, asked = self.base_hash(name), self._draft(name, now_ns)
        self._attention.limit(asked)
        asked.is_dry = True
        plan_watcher(asked, base_hash)
        draft = self._draft(name, now_ns)
        return summarize.watcher_status(draft, asked.held, said, base_hash, wall_offset_ns)

    def outlook(self) -> Outlook | None:
        """Return when the revision on trial is judged if nothing happens; None when none is on trial."""
        if self._trial is None or self._trial.outcome != "pending":
            return None
        return verdict.outlook(self._unproven.values())

    def socket_statuses(self) -> tuple[SocketStatus, ...]:
        """Return the status of every socket of the spec."""
        world, watchers = self._world(0), self.spec.watchers
        return tuple(
            summarize.socket_status(
                world,
                name,
                {each: watchers[each] for each in self._users.get(name, ())},
                self._runs,
            )
            for name in self.spec.sockets
        )

    def _runs(self, name: str) -> bool:
        records = self.observed(name).records.values()
        return any(r.id.role == MAIN and isinstance(r.phase, Running) for r in records)

    def settled(self, now_ns: int) -> bool:
        """Tell whether every watcher is as desired."""
        return all(self.watcher_status(name, now_ns, 0).as_desired for name in self.names())

    def jobs_done(self, now_ns: int, touched: Collection[str] | None = None) -> int | None:
        """Return 0 or 1 by the outcomes when there are only jobs and all have ended, else None.

        `touched` are the watchers that may have changed since the last call, None: any.
        """
        looked_at = self.spec.watchers if touched is None else touched
        return self._done.code(self.spec, looked_at, lambda name: self._outcome_of(name, now_ns))

    def _outcome_of(self, name: str, now_ns: int) -> Outcome:
        state = self.watcher_status(name, now_ns, 0).state
        ended = state in {"Completed", "Failed", "Unknown", "Held", "Stopped"}
        if not ended or self.observed(name).records:
            return "open"
        return "failed" if state in {"Failed", "Unknown"} else "passed"

    # ---- the step -----------------------------------------------------------------------------

    def step(self, events: Sequence[Event], now_ns: int) -> Step:
        """Fold events in, and return what shall be done now and when to look again.

        Nothing is decided before the keeper's records are known. `now_ns` is monotonic and never goes back.
        """
        for event in events:
            self._fold(event, now_ns)
        if self._knows_keeper:
            self._wake_due(now_ns)
            self._plan_dirty(now_ns)
            self._confirm(now_ns)
            self._quit_when_empty(now_ns)
        wake_at_ns = now_ns if self._knows_keeper and self._backlog else self._next_wake()
        news, answered = tuple(self._news), tuple(self._answered)
        result = Step(tuple(self._actions), wake_at_ns, frozenset(self._touched), news, answered)
        self._actions, self._news, self._answered, self._touched = [], [], [], set()
        return result

    def _wake_due(self, now_ns: int) -> None:
        while self._wakes and self._wakes[0][0] <= now_ns:
            at_ns, name = heapq.heappop(self._wakes)
            if self._wake_of.get(name) == at_ns:
                del self._wake_of[name]
                self._dirty.add(name)
                self._attention.wake_due(name, now_ns)
        if self._sockets_wake_ns is not None and self._sockets_wake_ns <= now_ns:
            self._sockets_dirty = True

    def _plan_dirty(self, now_ns: int) -> None:
        """Plan until nothing more is to be done: an action may open the way for the next."""
        self._dirty.update(self._backlog[-BACKLOG_PER_STEP:])
        del self._backlog[-BACKLOG_PER_STEP:]
        for _ in range(MAX_ROUNDS):
            if self._sockets_dirty:
                self._plan_sockets(now_ns)
            self._note_going()
            names = sorted(self._dirty, key=self._start_order)
            self._dirty = set()
            for place, name in enumerate(names):
                if len(self._actions) >= ACTIONS_PER_STEP:
                    self._backlog += reversed(names[place:])
                    break
                self._plan_watcher(name, now_ns)
            if not self._dirty and not self._sockets_dirty:
                return
        msg = f"the plan does not come to rest: {sorted(self._dirty)[:3]}"
        raise AssertionError(msg)

    def _put_off(self, names: set[str]) -> None:
        """Have many watchers planned, some in each step.

        So the keeper has work while we go on, and a process that dies meanwhile is not kept waiting.
        """
        self._touched |= names
        self._note_going(names)
        for name in names:
            self._attention.wake_all(name)
        self._backlog = sorted({*self._backlog, *names}, key=self._start_order, reverse=True)

    def _note_going(self, names: set[str] | None = None) -> None:
        """See which of these watchers are going now, and plan those whose turn has come by that."""
        for name in sorted(self._dirty if names is None else names):
            whole = self._shutdown is not None or name not in self.spec.watchers
            going = priority_of_going(self.watcher_spec(name), self.observed(name), whole=whole)
            turn = self._stop_order.note(name, going)
            self._dirty |= turn
            self._touched |= turn

    def _start_order(self, name: str) -> tuple[int, str]:
        """Order watchers by priority: higher first when starting, last when everything stops."""
        spec = self.watcher_spec(name)
        priority = 0 if spec is None else spec.priority
        return (priority if self._shutdown else -priority, name)

    def _plan_watcher(self, name: str, now_ns: int) -> None:
        self._touched.add(name)
        if not self._is_known(name):
            return
        draft = self._draft(name, now_ns, ACTIONS_PER_STEP - len(self._actions))
        self._attention.limit(draft)
        self._judge(draft)
        plan = plan_watcher(draft, self.base_hash(name))
        self._schedule(name, self._attention.follow(name, plan))
        for action in plan.actions:
            self._do(action, now_ns)
        self._answer(name, plan.answered)
        if plan.is_unfinished:
            self._backlog.append(name)
        elif plan.actions or plan.answered:
            self._dirty.add(name)
        elif name in self._retiring and not self.observed(name).records:
            self._forget_watcher(name)

    def _judge(self, draft: Draft) -> None:
        """See whether a watcher lets the revision fail, or has proven it.

        Comes before its plan: what died is replaced there, and a roll must not go on.
        """
        trial, name, now_ns = self._trial, draft.name, draft.now_ns
        if trial is None or trial.outcome != "pending" or self._shutdown is not None:
            return
        if name not in trial.changed or name not in self.spec.watchers:
            return
        found = verdict.find(draft, trial, self.base_hash(name))
        if found.state == "proven":
            self._unproven.pop(name, None)
        else:
            self._unproven[name] = found
        if found.state == "failed":
            outcome = verdict.OUTCOME_OF_FAILURE[trial.on_failure]
            self._trial = replace(trial, outcome=outcome, reason=found.reason, watcher=name)
            self._do(
                RecordVerdict(self.revision, self._trial, name, found.slot, found.output), now_ns
            )
            draft.world = self._world(now_ns)  # the roll stops
            self._touched |= trial.changed.keys()

    def _touch(self, name: str) -> None:
        """Have a watcher planned as a whole."""
        self._attention.wake_all(name)
        self._dirty.add(name)

    def _touch_slot(self, id: ProcessId) -> None:
        """Have the slot of a record planned."""
        self._attention.wake(id.owner, id.slot)
        self._dirty.add(id.owner)

    def _forget_watcher(self, name: str) -> None:
        """Forget a watcher that stands in no spec and of which nothing is left, but for what the store keeps."""
        del self._retiring[name]
        self._attention.wake_all(name)
        self._wake_of.pop(name, None)
        self._hashes.pop(name, None)
        observed = self.observed(name)
        if observed.intent == NO_INTENT and observed.job == Job() and not observed.writing:
            self._observed.pop(name, None)
        else:
            self._observed[name] = WatcherObserved(
                job=observed.job,
                intent=observed.intent,
                writing=observed.writing,
                open_runs=observed.open_runs,
            )

    def _confirm(self, now_ns: int) -> None:
        """Call the revision good once everything that it changed has proven it."""
        trial = self._trial
        if trial is None or trial.outcome != "pending" or self._unproven:
            return
        specs = self.spec.watchers
        known = {
            name: (specs[name], self.observed(name)) for name in trial.changed if name in specs
        }
        self._trial = replace(trial, outcome="good", reason=verdict.why_good(known, now_ns))
        self._actions.append(RecordVerdict(self.revision, self._trial))

    def _is_known(self, name: str) -> bool:
        """Tell whether a spec says how to treat a watcher.

        Processes that no spec knows, present or former, end like those of a removed watcher, but only once
        there is a spec at all: a missing one never means that nothing is wanted.
        """
        if self.watcher_spec(name) is not None:
            return True
        if not self.observed(name).records or not (self.revision or self._shutdown):
            return False
        self._retiring[name] = WatcherSpec(cmd=())
        return True

    def _answer(self, name: str, answered: tuple[Delivery, ...]) -> None:
        """Take requests that were carried out or vetoed off the list, and tell what came of them."""
        requests = self.observed(name).requests
        for each in answered:
            id = each.request.id
            waiting = tuple(other for other in requests.pop(id, ()) if other != each.request)
            if waiting:
                requests[id] = waiting
        self._answered += answered

    def _plan_sockets(self, now_ns: int) -> None:
        self._sockets_dirty = False
        if self._shutdown is not None:
            return
        plan = plan_sockets(
            self._world(now_ns), self._users_alive, self._is_alive, self._users.__contains__
        )
        self._sockets_wake_ns = plan.wake_at_ns
        for action in plan.actions:
            self._do(action, now_ns)

    def _users_alive(self, socket: str) -> bool:
        return any(
            record.id.role == MAIN and not isinstance(record.phase, Exited)
            for name in self._users.get(socket, ())
            for record in self.observed(name).records.values()
        )

    def _is_alive(self, id: ProcessId) -> bool:
        """Tell whether a process, or something that it left behind, lives."""
        record = self.observed(id.owner).records.get(id)
        return record is not None and (
            not isinstance(record.phase, Exited) or bool(record.phase.survivors)
        )

    def _quit_when_empty(self, now_ns: int) -> None:
        """End the manager once a shutdown has left nothing alive."""
        if self._shutdown is None or self._has_quit:
            return
        if self._busy is None:
            self._busy, looked_at = set(), set(self._observed)
        else:
            looked_at = self._touched
        self._busy -= looked_at
        self._busy |= {n for n in looked_at if self.observed(n).records or self.observed(n).writing}
        if self._busy or not self._are_orphans_gone(now_ns):
            return
        self._has_quit = True
        self._actions.append(Quit(max(self._shutdown.code, int(self._killed_at_shutdown))))

    def _are_orphans_gone(self, now_ns: int) -> bool:
        """End last what belongs to nobody for certain; True when it is gone, or nothing helps."""
        assert self._shutdown is not None
        if all(each.is_certain for each in self.orphans):
            return True
        if self._orphans_due_ns is None and not self._shutdown.now:
            self._actions.append(EndOrphans("TERM"))
            self._orphans_due_ns = now_ns + ORPHANS_TIMEOUT_NS
        elif not self._killed_orphans and now_ns >= (self._orphans_due_ns or 0):
            self._actions.append(EndOrphans("KILL"))
            self._killed_orphans = self._killed_at_shutdown = True
            self._orphans_due_ns = now_ns + KILL_AGAIN_NS
        return self._orphans_due_ns is not None and now_ns >= self._orphans_due_ns

    def _schedule(self, name: str, at_ns: int | None) -> None:
        if at_ns is None:
            self._wake_of.pop(name, None)
        elif self._wake_of.get(name) != at_ns:
            self._wake_of[name] = at_ns
            heapq.heappush(self._wakes, (at_ns, name))
            if len(self._wakes) > 2 * len(self._wake_of) + 64:  # most of them are over
                self._wakes = [(at_ns, name) for name, at_ns in self._wake_of.items()]
                heapq.heapify(self._wakes)

    def _next_wake(self) -> int | None:
        while self._wakes and self._wake_of.get(self._wakes[0][1]) != self._wakes[0][0]:
            heapq.heappop(self._wakes)
        wakes = [self._wakes[0][0]] if self._wakes else []
        if self._orphans_due_ns is not None and not self._has_quit:
            wakes.append(self._orphans_due_ns)
        if self._sockets_wake_ns is not None and self._shutdown is None:
            wakes.append(self._sockets_wake_ns)
        return min(wakes, default=None)

    def _draft(self, name: str, now_ns: int, room: int = sys.maxsize) -> Draft:
        spec = self.watcher_spec(name)
        assert spec is not None
        is_retired = name not in self.spec.watchers
        world = self._world(now_ns)
        return Draft(name, spec, self.observed(name), world, is_retired, room=room)

    def _world(self, now_ns: int) -> World:
        shutdown = self._shutdown
        return World(
            self.facts,
            self.spec.sockets,
            self._sockets,
            now_ns,
            shutdown is not None,
            shutdown is not None and shutdown.now,
            self._trial,
            self._stop_order.lowest,
        )

    # ---- carrying out -------------------------------------------------------------------------

    def _do(self, action: Action, now_ns: int) -> None:
        """Take an action as done: it is on its way, and the picture says so."""
        self._actions.append(action)
        match action:
            case Spawn(id, _, template_hash, memory, replaces):
                after = max(replaces, self._last_incarnation.pop(id, 0))
                self._put(ProcessRecord(id, 0, template_hash, memory, Requested(now_ns, after)))
            case Remember(id, _, memory):
                record = self.observed(id.owner).records[id]
                self._news.extend(tell.of_reload(id, record.memory, memory))
                self._put(replace(record, memory=memory))
            case Adjust(id, _, settings):
                self._put(replace(self.observed(id.owner).records[id], settings=settings))
            case Forget(id, incarnation):
                self._last_incarnation[id] = incarnation
                self._drop(id)
            case Bind(name, template):
                known = self._sockets.get(name)
                held = known.held if known else None
                match known:
                    case SocketRecord(template=action.template, phase=BindRefused()):
                        requested = BindRequested(now_ns, again=True)
                    case _:
                        requested = BindRequested(now_ns)
                self._sockets[name] = SocketRecord(name, template, requested, held)
            case Unbind(name):
                self._sockets.pop(name, None)
            case ReadSecrets(watcher):
                self._observed[watcher] = secrets.asked(self.observed(watcher))
            case RecordGeneration(watcher, generation):
                self._news.append(tell.of_generation(watcher, generation))
                observed = self.observed(watcher)
                self._observed[watcher] = replace(
                    observed, job=replace(observed.job, generation=generation)
                )
                self._touch(watcher)
            case RecordRun(watcher, run):
                self._news.extend(tell.of_run(watcher, run))
                observed = self.observed(watcher)
                _note_run(observed, run)
                observed.writing[run.slot] = run
                self._touch_slot(ProcessId(watcher, run.slot))
            case RecordIntent(watcher, intent):
                observed = self.observed(watcher)
                self._news.extend(tell.of_words_end(watcher, observed.intent, intent))
                self._observed[watcher] = replace(observed, intent=intent)
                self._touch(watcher)
            case Signal() | EndOrphans() | RecordVerdict() | Quit() | Notify() | Upgrade():
                pass
            case _:
                assert_never(action)

    def _note_killed(self, dead: ProcessRecord) -> None:
        """Note who had to be killed during shutdown, for the exit code of the manager."""
        if self._shutdown is not None and dead.id.role == MAIN and dead.had_to_be_killed:
            self._killed_at_shutdown = True

    def _drop_requests(self, dead: ProcessRecord) -> None:
        """Give up the requests that concerned a process that is dead."""
        waiting = self.observed(dead.id.owner).requests.get(dead.id, ())
        void = [request for request in waiting if request.incarnation == dead.incarnation]
        self._answer(dead.id.owner, tuple(Delivery(each, "it ended before") for each in void))

    def _put(self, record: ProcessRecord) -> None:
        observed = self._observed.setdefault(record.id.owner, WatcherObserved())
        observed.records[record.id] = record
        if record.id.role != MAIN:
            observed.helpers.add(record.id)
        self._touch_slot(record.id)

    def _record(self, id: ProcessId) -> ProcessRecord | None:
        return self.observed(id.owner).records.get(id)

    def _drop(self, id: ProcessId) -> None:
        self._wanting.pop(id, None)
        observed = self.observed(id.owner)
        observed.records.pop(id, None)
        observed.helpers.discard(id)
        self._touch_slot(id)

    # ---- folding ------------------------------------------------------------------------------

    def _fold(self, event: Event, now_ns: int) -> None:
        match event:
            case RecordChanged(record):
                self._fold_record(record)
            case RecordForgotten(id):
                self._last_incarnation.pop(id, None)  # no older news of it can follow
                if self._record(id) is not None:  # else we have asked for it, and know
                    self._drop(id)
            case SocketChanged(record):
                if self._knows_keeper:
                    self._news.extend(tell.of_socket(self._sockets.get(record.name), record))
                self._sockets[record.name] = record
                self._touch_socket(record.name)
            case SocketClosed(name):
                self._sockets.pop(name, None)
                self._touch_socket(name)
            case SocketRestored(name):
                self._news.append(tell.of_restored(event, self._sockets.get(name)))
            case SpecApplied():
                self._fold_spec(event)
            case IntentChanged(watcher, intent):
                self._observed[watcher] = replace(self.observed(watcher), intent=intent)
                self._touch(watcher)
            case JobChanged(watcher, job):
                own = replace(job, runs=dict(job.runs))  # it changes here, and nowhere else
                open_runs = {slot for slot, run in own.runs.items() if run.outcome is None}
                self._observed[watcher] = replace(
                    self.observed(watcher), job=own, open_runs=open_runs
                )
                self._touch(watcher)
            case EndsTold(pids):
                known = {id: found for id in pids if (found := self._record(id)) is not None}
                self._news.extend(tell.of_missed_ends(known, pids))
            case RunRecorded(watcher, run):
                self._fold_run(watcher, run)
            case SecretsRead() | SecretsUnreadable():
                self._fold_secrets(event, now_ns)
            case SignalAsked():
                self._fold_signal(event, now_ns)
            case RetryAsked(watcher, slots):
                self._fold_retry(watcher, slots, now_ns)
            case ShutdownAsked():
                self._fold_shutdown(event)
            case SignalReceived(meaning):
                if meaning != "reload":
                    self._fold_shutdown(ShutdownAsked(now=meaning == "stop_now"))
            case KeeperIntroduced():
                self._fold_keeper(event)
            case SnapshotEnded():
                self._knows_keeper = True
                self._put_off(set(self._observed) | set(self.names()))
                self._sockets_dirty = True
            case LogChanged():
                self._fold_log(event)
            case FaultCaught():
                self._news.append(tell.of_fault(event))
            case ControlRenewed():
                self._news.append(tell.of_control(event))
            case OrphansChanged(orphans):
                if self._knows_keeper:
                    self._news.extend(tell.of_orphans(self.orphans, orphans))
                self.orphans = orphans
            case LogRotated() | PulseAsked() | UpgradeFailed():
                pass
            case _:
                assert_never(event)

    def _fold_secrets(self, event: SecretsRead | SecretsUnreadable, now_ns: int) -> None:
        observed = self.observed(event.watcher)
        self._news.extend(secrets.news_of(observed.secrets, event))
        self._observed[event.watcher] = (
            secrets.read(observed, event)
            if isinstance(event, SecretsRead)
            else secrets.unreadable(observed, event, now_ns)
        )
        self._touch(event.watcher)

    def _fold_run(self, watcher: str, run: Run) -> None:
        """A run lies on the disk: what waited for it may go on. The store has put the wall time in."""
        observed = self.observed(watcher)
        writing = observed.writing.get(run.slot)
        if writing is None or (writing.generation, writing.outcome) != (
            run.generation,
            run.outcome,
        ):
            return
        del observed.writing[run.slot]
        _note_run(observed, run)
        self._touch_slot(ProcessId(watcher, run.slot))

    def _fold_keeper(self, event: KeeperIntroduced) -> None:
        self.facts = replace(self.facts, keeper_id=event.keeper_id, boot_id=event.boot_id)
        self._sockets = {}
        self._last_incarnation = {}
        for name, observed in self._observed.items():
            self._observed[name] = replace(observed, records={}, helpers=set())
            self._attention.wake_all(name)

    def _fold_record(self, record: ProcessRecord) -> None:
        owner = record.id.owner
        before = self.observed(owner).records.get(record.id)
        if self._knows_keeper and not self._repeats(record):
            self._news.extend(tell.of_record(before, record, self.watcher_spec(owner)))
        if before is not None and isinstance(before.phase, Requested):
            if record.incarnation <= before.phase.after:
                return  # the one that we have just replaced
        if before is not None and before.incarnation == record.incarnation:
            # What we remembered since the keeper wrote this is on its way to it and newer.
            record = replace(record, memory=before.memory)
        self._put(record)
        if isinstance(record.phase, Exited):
            if before is None or not isinstance(before.phase, Exited):
                self._note_killed(record)
            self._drop_requests(record)
            self._sockets_dirty = self._sockets_dirty or self._waits_for_handover()

    def _fold_log(self, event: LogChanged) -> None:
        name = event.id.owner
        if self.watcher_spec(name) is None and name not in self._observed:
            return  # of one that is gone
        observed = self.observed(name)
        rest = {path: each for path, each in observed.unwritten.items() if path != event.path}
        if event.trouble:
            rest[event.path] = event
        if self._knows_keeper:
            self._news.append(tell.of_log(event))
        self._observed[name] = replace(observed, unwritten=rest)
        self._dirty.add(name)

    def _repeats(self, record: ProcessRecord) -> bool:
        """Tell whether a start failed for want of what the last one wanted too: tried often, told once."""
        if not isinstance(record.phase, Running | Exited):
            return False
        before = self._wanting.pop(record.id, None)
        error = record.phase.exit.error if isinstance(record.phase, Exited) else None
        if error is None or not error.is_shortage:
            return False
        self._wanting[record.id] = error
        return error == before

    def _waits_for_handover(self) -> bool:
        return any(
            record.held is not None
            or (isinstance(record.phase, BindRefused) and record.phase.held_by)
            for record in self._sockets.values()
        )

    def _touch_socket(self, held: str) -> None:
        self._sockets_dirty = True
        for name in self._users.get(held.partition(".")[0], ()):
            self._touch(name)

    def _fold_spec(self, event: SpecApplied) -> None:
        old, new = self.spec, event.spec
        retiring = {**self._retiring, **event.retiring}
        retiring |= {n: s for n, s in old.watchers.items() if n not in new.watchers}
        self.spec, self.revision, self._trial = new, event.revision, event.trial
        changed = event.trial.changed if event.trial is not None else {}
        self._unproven = {n: Finding("open", f"{n} does not run yet") for n in changed}
        self._retiring = {n: s for n, s in retiring.items() if n not in new.watchers}
        self._users = {}
        for name, spec in new.watchers.items():
            for socket in sockets_of(spec):
                self._users.setdefault(socket, set()).add(name)
        edited = {
            name
            for name in {*old.watchers, *new.watchers, *self._retiring}
            if not self._is_same(name, old, new)
        }
        for name in edited:
            self._hashes.pop(name, None)
            if not _same_secrets(name, old, new):
                self._observed[name] = replace(self.observed(name), secrets=SecretsObserved())
        unknown = {
            name
            for name, observed in self._observed.items()
            if observed.records and not self.watcher_spec(name)
        }
        self._put_off(edited | unknown | self._unproven.keys())
        self._sockets_dirty = True

    def _is_same(self, name: str, old: Spec, new: Spec) -> bool:
        before, after = old.watchers.get(name), new.watchers.get(name)
        if before is None or not is_alike(before, after):
            return False
        return all(old.sockets.get(s) == new.sockets.get(s) for s in sockets_of(before))

    def _fold_signal(self, asked: SignalAsked, now_ns: int) -> None:
        """Put a signal on the list of each process that lives; of the others it is known now that none is sent."""
        observed, at_ns = self.observed(asked.watcher), asked.at_ns or now_ns
        chosen = [ProcessId(asked.watcher, asked.slot or 0)]
        if asked.slot is None:
            chosen = [id for id in observed.records if id.role == MAIN] or chosen
        for id in chosen:
            record, waiting = observed.records.get(id), observed.requests.get(id, ())
            alive = record is not None and pid_of(record.phase) is not None
            incarnation = record.incarnation if record is not None and alive else 0
            request = Request(id, incarnation, at_ns, asked.signal, asked.reach)
            if not alive:
                self._answered.append(Delivery(request, "it does not run"))
            elif len(waiting) >= MAX_REQUESTS:
                why = f"{MAX_REQUESTS} signals already wait for its before_signal hook"
                self._answered.append(Delivery(request, why))
            else:
                observed.requests[id] = (*waiting, request)
                self._touch_slot(id)

    def _fold_retry(self, watcher: str, slots: tuple[int, ...] | None, now_ns: int) -> None:
        for record in [*self.observed(watcher).records.values()]:
            if slots is not None and record.id.slot not in slots:
                continue
            if record.id.role == MAIN and isinstance(record.phase, Exited):
                memory = replace(record.memory, retry=True)
                self._do(Remember(record.id, record.incarnation, memory), now_ns)
        self._touch(watcher)

    def _fold_shutdown(self, asked: ShutdownAsked) -> None:
        if self._shutdown is None or (asked.now and not self._shutdown.now):
            self._shutdown = asked if self._shutdown is None else replace(self._shutdown, now=True)
            self._put_off(set(self._observed) | set(self.names()))


def _note_run(observed: WatcherObserved, run: Run) -> None:
    observed.job.runs[run.slot] = run
    (observed.open_runs.add if run.outcome is None else observed.open_runs.discard)(run.slot)


def _same_secrets(name: str, old: Spec, new: Spec) -> bool:
    """Tell whether what was read for a watcher is what it says now."""
    before, after = old.watchers.get(name), new.watchers.get(name)
    return after is None or (before.secrets if before else {}) == after.secrets
