"""The picture of the world: what is wanted and what is known of it, cut by watcher.

Events are folded in (`core.fold`), and so are actions as soon as they are decided (`core.assume`): the link to
the keeper keeps their order, and the keeper's answers overwrite whatever was assumed. Whatever changes here puts
what it may concern on the agenda, so that one observation among 5,000 watchers costs what it costs among ten.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from reconciler.core import desired, secrets, watched_files
from reconciler.core.agenda import Agenda
from reconciler.core.brake import Brake
from reconciler.core.graph import Graph, graph_of
from reconciler.core.plan import Plan, Standing, World
from reconciler.core.shutdown import Shutdown
from reconciler.core.slots import Slots, is_gone
from reconciler.core.standing import renewal_ns, standing_of
from reconciler.core.stop_order import StopOrder, is_going
from reconciler.core.template import run_hash, with_files, with_secrets
from reconciler.core.trial import Proof
from reconciler.model.action import Action
from reconciler.model.event import Event
from reconciler.model.intent import NO_INTENT
from reconciler.model.job import Job, Run
from reconciler.model.observation import Delivery
from reconciler.model.observed import NOTHING, Facts, WatcherObserved
from reconciler.model.process import MAIN, Exited, LaunchError, Orphan, ProcessId, ProcessRecord
from reconciler.model.socket import SocketRecord
from reconciler.model.spec import DependencySpec, Spec, WatcherSpec
from reconciler.model.value import replace


class Picture:
    """The only mutable thing of the core."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.spec = Spec()
        self.revision = 0
        self.knows_keeper = False
        self.known: dict[str, WatcherObserved] = {}
        """What is known of each watcher, of the spec or not."""
        self.retired: dict[str, WatcherSpec] = {}
        """Watchers that stand in no spec any more and still have processes, as they were."""
        self.sockets: dict[str, SocketRecord] = {}
        self.users: dict[str, set[str]] = {}
        """The watchers of the spec that use a socket."""
        self.holders: dict[ProcessId, set[str]] = {}
        """The sockets that could not be bound because of a process of ours."""
        self.orphans: tuple[Orphan, ...] = ()
        """Processes that nobody's record speaks for."""
        self.wall_offset_ns: int | None = None
        """What is to be added to monotonic time to get time since the epoch, once that is asked for."""
        self.scheduled: set[str] = set()
        """The watchers of the spec that have a schedule."""
        self.last_incarnation: dict[ProcessId, int] = {}
        self.wanting: dict[ProcessId, LaunchError] = {}
        """What was short when a process could not be started last."""
        self.endless: dict[str, str] = {}
        """Why those do not end with which everything is to end, as far as that was told; empty: they may."""
        self.proof = Proof()
        self.shutdown = Shutdown()
        self.agenda = Agenda(self._start_order)
        self.actions: list[Action] = []
        """What was decided in this step, and what people are told of it."""
        self.events: list[Event] = []
        self.answered: list[Delivery] = []
        self._hashes: dict[str, str] = {}
        self.graph = Graph()
        self.standings: dict[str, Standing] = {}
        """How those stand that others wait for, by their last plans."""
        self._renewed_ns: dict[str, int] = {}
        """When a process of theirs was last started in place of another one."""
        self.waiting_since: dict[str, dict[int, int]] = {}
        """Since when slots wait for other watchers, as far as this controller has seen it."""
        self._stop_order = StopOrder()
        self.brake = Brake()

    # ---- what others ask ----------------------------------------------------------------------

    @property
    def is_in_force(self) -> bool:
        """Tell whether a spec has been held against what the keeper holds."""
        return self.knows_keeper and self.revision > 0

    def names(self) -> list[str]:
        """Return the watchers of the spec, and those that are still being removed."""
        return [*self.spec.watchers, *(n for n in self.retired if n not in self.spec.watchers)]

    def has(self, name: str) -> bool:
        """Tell whether a name is one of these."""
        return name in self.spec.watchers or name in self.retired

    def observed(self, name: str) -> WatcherObserved:
        """Return what is known of a watcher; an empty picture when nothing is."""
        return self.known.get(name) or WatcherObserved()

    def record(self, id: ProcessId) -> ProcessRecord | None:
        """Return what is known of a process."""
        return self.observed(id.owner).records.get(id)

    def helpers(self, name: str) -> list[ProcessRecord]:
        """Return the records of a watcher's hooks and commands."""
        observed = self.observed(name)
        return [observed.records[id] for ids in observed.helpers.values() for id in ids]

    def retiring(self) -> Mapping[str, WatcherSpec]:
        """Return the watchers that stand in no spec any more and still have processes."""
        return dict(self.retired)

    def watcher_spec(self, name: str) -> WatcherSpec | None:
        """Return the spec by which a watcher is treated, also while it is being removed."""
        return self.spec.watchers.get(name) or self.retired.get(name)

    def base_hash(self, name: str) -> str:
        """Return the hash of what a watcher's processes are made of; empty for one that is going."""
        spec = self.spec.watchers.get(name)
        if spec is None:
            return ""
        if name not in self._hashes:
            self._hashes[name] = run_hash(spec, self.spec.sockets)
        if not spec.secrets and spec.watch is None:
            return self._hashes[name]
        read = secrets.known(self.observed(name).secrets, spec.secrets)
        seen = watched_files.known(self.observed(name).files, spec.watch)
        return with_files(with_secrets(self._hashes[name], read.digest), seen.digest)

    def world(self, now_ns: int) -> World:
        """Return what every plan may know besides its own watcher."""
        ending = self.shutdown.asked
        return World(
            self.facts,
            self.spec.sockets,
            self.sockets,
            now_ns,
            ending is not None,
            ending is not None and ending.now,
            self.proof.trial,
            self.standings,
            self.waiting_since,
            self.wall_offset_ns,
            self.brake.under_way,
            self.users,
            self.holders,
            self.graph,
        )

    def new_plan(self, name: str, slots: Slots, now_ns: int, room: int = sys.maxsize) -> Plan:
        """Return an empty plan of a watcher."""
        spec, observed, world = self.watcher_spec(name), self.observed(name), self.world(now_ns)
        assert spec is not None
        is_retired = name not in self.spec.watchers
        is_going = is_retired or world.shutting_down
        want = 0 if is_going else desired.wanted(spec, observed.intent)
        why_wait, places = self._stop_order.why_wait(name, spec), self.brake.places(name)
        return Plan(name, spec, observed, world, slots, want, is_retired, room, why_wait, places)

    def to_start_first(self, names: Iterable[str]) -> list[str]:
        """Return what some watchers require and what nobody has started, in the order in which it is needed.

        What an operator has stopped is not among it, nor what that one requires.
        """
        watchers, seen, todo = self.spec.watchers, set[str](), [*names]
        while todo:
            spec = watchers.get(todo.pop())
            for other, each in (spec.dependencies if spec is not None else {}).items():
                if each.required and other not in seen and self._is_missed(other, each):
                    seen.add(other)
                    todo.append(other)
        idle = (name for name in seen if not watchers[name].autostart)
        return sorted(idle, key=self._start_order)

    def why_stuck(self, name: str, but: Collection[str]) -> str:
        """Return what a watcher requires that does not come by itself, in words; empty: nothing but these."""
        spec = self.spec.watchers.get(name)
        found = []
        for other, each in (spec.dependencies if spec is not None else {}).items():
            standing = self.standings.get(other)
            if other in but or not each.required:
                continue
            if standing is not None and each.condition not in standing.met:
                why = standing.why_not(each.condition)
                found += [f"waits for {other}: {why}"] if why else []
        return "; ".join(found)

    def _is_missed(self, name: str, dependency: DependencySpec) -> bool:
        """Tell whether a dependency does not stand as it should, and no operator has stopped it."""
        standing = self.standings.get(name)
        is_met = standing is not None and dependency.condition in standing.met
        return not is_met and self.observed(name).intent.hold is None

    # ---- changes ------------------------------------------------------------------------------

    def note(self, name: str, **known: object) -> None:
        """Take down what else is known of a watcher, and have it planned as a whole."""
        self.known[name] = replace(self.observed(name), **known)
        self.agenda.touch(name)

    def own(self, name: str, what: str) -> dict[Any, Any]:
        """Return a mapping of what is known of a watcher, to be added to: the empty one is many others' too."""
        observed = self.observed(name)
        found: dict[Any, Any] = getattr(observed, what)
        if found is NOTHING:
            found = {}
            self.known[name] = replace(observed, **{what: found})
        return found

    def put(self, record: ProcessRecord) -> None:
        """Take down how a process is."""
        observed = self.known.setdefault(record.id.owner, WatcherObserved())
        before = observed.records.get(record.id)
        record = record if before is None else _with_the_same(record, before)
        id = record.id
        observed.records[id] = record
        if id.role != MAIN:
            self.own(id.owner, "helpers").setdefault(id.slot, set()).add(id)
        else:
            (observed.live.discard if is_gone(record) else observed.live.add)(id.slot)
            self.brake.note(id, record)
        self.agenda.touch_slot(id)

    def drop(self, id: ProcessId) -> None:
        """Forget a process."""
        self.wanting.pop(id, None)
        observed = self.observed(id.owner)
        observed.records.pop(id, None)
        if id.role == MAIN:
            observed.live.discard(id.slot)
            self.brake.note(id, None)
            observed.exceeded.pop(id.slot, None)
        elif id in observed.helpers.get(id.slot, ()):
            observed.helpers[id.slot].discard(id)
            if not observed.helpers[id.slot]:
                del observed.helpers[id.slot]
        self.agenda.touch_slot(id)

    def users_alive(self, socket: str) -> bool:
        """Tell whether any process lives that uses a socket."""
        mains = (record for name in self.users.get(socket, ()) for record in self.live(name))
        return any(not isinstance(record.phase, Exited) for record in mains)

    def live(self, name: str) -> Iterator[ProcessRecord]:
        """Yield the own processes of a watcher's slots that are not gone."""
        observed = self.observed(name)
        return (observed.records[ProcessId(name, slot)] for slot in observed.live)

    def is_alive(self, id: ProcessId) -> bool:
        """Tell whether a process, or something that it left behind, lives."""
        record = self.record(id)
        return record is not None and not is_gone(record)

    def note_run(self, watcher: str, run: Run) -> None:
        """Take down the newest run of a slot."""
        job = self.observed(watcher).job
        if job.runs is NOTHING:
            job = replace(job, runs={})
            self.known[watcher] = replace(self.observed(watcher), job=job)
        job.runs[run.slot] = run
        if run.outcome is None:
            self.own(watcher, "open_runs")[run.slot] = None
        else:
            self.observed(watcher).open_runs.pop(run.slot, None)

    def forget_hash(self, name: str) -> None:
        """Work the hash of a watcher out anew when it is asked for."""
        self._hashes.pop(name, None)

    def answer(self, name: str, answered: Iterable[Delivery]) -> None:
        """Take requests that were carried out or vetoed off the list, and tell what came of them."""
        requests = self.observed(name).requests
        for each in answered:
            id = each.request.id
            waiting = tuple(other for other in requests.pop(id, ()) if other != each.request)
            if waiting:
                requests[id] = waiting
            self.agenda.touch_slot(id)
            self.answered.append(each)

    def put_off(self, names: set[str]) -> None:
        """Have many watchers planned as a whole, some in each step."""
        self.note_going(names)
        self.agenda.put_off(names)

    def note_going(self, names: Iterable[str]) -> None:
        """See which of these watchers are going now, and plan those whose turn has come by that."""
        for name in sorted(names):
            whole = self.shutdown.asked is not None or name not in self.spec.watchers
            spec = self.watcher_spec(name)
            going = is_going(spec, self.observed(name), name, whole=whole)
            for other in self._stop_order.note(name, spec, is_going=going):
                self.agenda.touch(other)
                self.agenda.touched.add(other)

    def follow_graph(self) -> None:
        """Take from the spec who waits for whom, and see anew who is going."""
        graph = graph_of({**self.retired, **self.spec.watchers})
        if graph != self.graph:
            self.graph = graph
            # How one stands is followed only as long as somebody waits for it.
            kept = self.standings.keys() & graph.dependents.keys()
            self.standings = {name: self.standings[name] for name in kept}
            renewed = self._renewed_ns.items()
            self._renewed_ns = {name: ns for name, ns in renewed if name in graph.dependents}
            going = self._stop_order.follow(graph)
            self.note_going({*self.known, *self.names()})
            for name in going:
                self.agenda.touch(name)

    def note_standing(self, plan: Plan) -> None:
        """See how a watcher stands now, and have those looked at that wait for it when that has changed."""
        name = plan.name
        if name not in self.graph.dependents:
            return
        # Also of a plan that is not finished: the next one looks at other slots.
        renewed_ns = self._renewed_ns[name] = max(self._renewed_ns.get(name, 0), renewal_ns(plan))
        tally, before = self.agenda.attention.tally(name), self.standings.get(name)
        if tally is None:
            return
        waits = bool(self.agenda.attention.at_gate(name))
        now = self.standings[name] = standing_of(plan, tally, renewed_ns, waits=waits)
        if now.is_settled and not (before is not None and before.is_settled_as(now)):
            for other in self.graph.followers[name]:
                self.agenda.touch(other)
        asked = self.graph.asked[name]
        if before is not None and now.seen_by(asked) == before.seen_by(asked):
            return
        self.agenda.touched.update(self.graph.dependents[name])
        self.look_at_gates(self.graph.dependents[name])

    def look_at_gates(self, names: Iterable[str]) -> None:
        """Have those slots of watchers looked at that wait for others."""
        for name in names:
            for slot in self.agenda.attention.at_gate(name):
                self.agenda.touch_slot(ProcessId(name, slot))

    def note_waiting(self, plan: Plan) -> None:
        """Take down since when slots of a watcher wait for others, of those that the plan has come to."""
        since, looked_at = self.waiting_since.get(plan.name, {}), plan.slots.looked_at
        for slot in ({*since, *plan.at_gate} if looked_at is None else looked_at) - plan.unreached:
            if slot in plan.at_gate:
                since.setdefault(slot, plan.now_ns)
            else:
                since.pop(slot, None)
        if since:
            self.waiting_since[plan.name] = since
        else:
            self.waiting_since.pop(plan.name, None)

    def forget_watcher(self, name: str) -> None:
        """Forget a watcher that stands in no spec and of which nothing is left, but for what the store keeps."""
        del self.retired[name]
        self.agenda.forget(name)
        self.brake.forget(name)
        self.forget_hash(name)
        observed = self.known.pop(name, WatcherObserved())
        if observed.intent != NO_INTENT or observed.job != Job() or observed.writing:
            stored = WatcherObserved(job=observed.job, intent=observed.intent)
            self.known[name] = replace(
                stored, writing=observed.writing, open_runs=observed.open_runs
            )

    def _start_order(self, name: str) -> tuple[int, int, str]:
        """Order watchers by what waits for what, then by priority, higher first; the other way round at a shutdown."""
        spec, depth = self.watcher_spec(name), self.graph.depth(name)
        if self.shutdown.asked:
            return (-depth, 0 if spec is None else self.graph.stop_priority(name, spec), name)
        return (depth, 0 if spec is None else -spec.priority, name)


_SELDOM_CHANGED: Final = ("id", "template_hash", "memory", "settings")


def _with_the_same(record: ProcessRecord, before: ProcessRecord) -> ProcessRecord:
    """Return a record whose parts are the very ones of the record before wherever they are equal.

    Each report of the keeper brings all of them anew, and they take more room than what has changed.
    """
    parts = ((name, getattr(before, name)) for name in _SELDOM_CHANGED)
    return replace(record, **{name: part for name, part in parts if part == getattr(record, name)})
