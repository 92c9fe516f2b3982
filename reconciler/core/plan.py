"""The plan of one watcher: actions, conditions, and when to look again."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, Literal, TypeAlias

from reconciler.core.graph import Graph
from reconciler.core.slots import SlotCondition, Slots
from reconciler.model.action import Action, Forget, Remember, Spawn
from reconciler.model.event import Event
from reconciler.model.observation import Delivery
from reconciler.model.observed import Facts, ProbeObserved, WatcherObserved
from reconciler.model.process import MAIN, ProcessId, ProcessRecord
from reconciler.model.revision import Trial
from reconciler.model.socket import SocketRecord
from reconciler.model.spec import DependencyCondition, SocketSpec, WatcherSpec
from reconciler.model.value import Part, Struct, field, replace

Line: TypeAlias = Literal[
    "to start", "to be first", "to be replaced", "to serve beyond", "to be healthy"
]
WHOLE: Final = 0
"""In place of a slot: the watcher as a whole."""
NOT_WANTED: Final = frozenset({"shutdown", "removed", "stopped"})
"""The reasons for which a whole watcher is stopped."""


class Verdict(Struct, frozen=True):
    """What a hook says. `since_ns` is when it said so, `attempt` how often it has said no before."""

    state: Literal["pending", "passed", "vetoed"]
    message: str = ""
    since_ns: int = 0
    attempt: int = 0


class Standing(Struct, frozen=True):
    """How a watcher stands by its last plan, for those that wait for it."""

    met: frozenset[DependencyCondition] = frozenset()
    is_up_to_date: bool = True
    """What runs is as the spec now says."""
    is_settled: bool = False
    """All of it is ready and up to date."""
    note: str = ""
    """What it does."""
    stuck: str = ""
    """Why it does not come to what is waited for by itself; empty: it may."""
    failed: str = ""
    """Why one of it has failed for good: it comes to no more than its end."""
    renewed_ns: int = 0
    """When a process of it was last started in place of another one (monotonic)."""

    def seen_by(self, asked: frozenset[DependencyCondition]) -> tuple[object, ...]:
        """Return what of it those can see who wait for these conditions: nothing more once they are met."""
        lacks = asked - self.met
        if not lacks and self.is_up_to_date:
            return ()
        return (lacks, self.is_up_to_date, self.note, self.stuck, self.failed)

    def is_settled_as(self, later: Standing) -> bool:
        """Tell whether it was settled with the same processes as later: none was started in place of another one."""
        return self.is_settled and self.renewed_ns == later.renewed_ns

    def why_not(self, condition: DependencyCondition | None) -> str:
        """Return why it does not come to a condition by itself; empty: it may. What has failed may still end."""
        return self.stuck or ("" if condition == "completed" else self.failed)


class Ended(Struct, frozen=True):
    """A process or (slot 0) a whole job whose end is the end of everything, and why it is."""

    id: ProcessId
    at_ns: int
    code: int
    """With what the manager exits."""
    how: str
    why: str


class World(Struct, frozen=True):
    """What every plan may know besides its own watcher."""

    facts: Facts
    socket_specs: Mapping[str, SocketSpec]
    sockets: Mapping[str, SocketRecord]
    now_ns: int
    shutting_down: bool = False
    stop_now: bool = False
    trial: Trial | None = None
    """What the revision in force has to prove, or has; None: nobody asks."""
    standings: Mapping[str, Standing] = field(default_factory=dict)
    """How those stand that others wait for; one that is missing was not looked at yet."""
    waiting_since: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    """By watcher and slot since when it waits for others."""
    wall_offset_ns: int | None = None
    """What is to be added to monotonic time to get time since the epoch; None: nobody has asked yet."""
    under_way: int = 0
    """How many slots of all watchers are being replaced."""
    users: Mapping[str, Collection[str]] = field(default_factory=dict)
    """The watchers of the spec that use a socket."""
    holders: Mapping[ProcessId, Collection[str]] = field(default_factory=dict)
    """The sockets that could not be bound, perhaps no longer, because of a process of ours."""
    graph: Graph = field(default_factory=Graph)


class Plan(Part):
    """What to do now for one watcher, why its slots do what they do, and when the answer could change by itself.

    It is filled by whoever takes part in the plan, then carried out.
    """

    name: str
    spec: WatcherSpec
    observed: WatcherObserved
    world: World
    slots: Slots
    want: int
    """How many slots the spec and the operators want."""
    retired: bool = False
    """The watcher stands in no spec any more."""
    room: int = sys.maxsize
    """How many actions may still be taken in this turn, at about."""
    why_wait_to_stop: str = ""
    """Why it is not this watcher's turn to be stopped; empty: it is."""
    places: int | None = None
    """Of how many slots the replacement may begin now; None: of any number."""
    begun: int = 0
    """Of how many it has begun."""
    waits_for_place: bool = False
    """One more would begin if there were a place."""
    is_unfinished: bool = False
    """There is more to do than one turn allows; the next plan goes on."""
    foreseen: int = 0
    """So many of its actions open the way for nothing: what they change is in what it has found."""
    actions: list[Action] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    """What people are told of them."""
    answered: list[Delivery] = field(default_factory=list)
    """Requests of operators that were carried out or vetoed."""
    used: set[ProcessId] = field(default_factory=set)
    """Hook records that this pass still needs."""
    verdicts: dict[ProcessId, Verdict] = field(default_factory=dict)
    """What the hooks asked in this pass have said."""
    at_gate: set[int] = field(default_factory=set)
    """Slots that wait for another watcher."""
    binding: set[int] = field(default_factory=set)
    """Slots that start as soon as their own sockets are bound, which has been asked for."""
    conditions: dict[int, SlotCondition] = field(default_factory=dict)
    """Of the slots that are looked at and that there are."""
    whole: SlotCondition | None = None
    """What counts for the watcher as a whole, whatever its slots do."""
    coming: dict[int, SlotCondition] = field(default_factory=dict)
    """What keeps slots from being replaced whose turn has come."""
    awaited: set[int] = field(default_factory=set)
    """The slots whose next step the watcher as a whole waits for: to be ready, to be gone, to have run."""
    failed: set[int] = field(default_factory=set)
    """The slots whose new process did not stay up: no other one is replaced until that is mended."""
    beyond: set[int] = field(default_factory=set)
    """Of the slots that are looked at those beyond the wanted ones that run while others are replaced."""
    serving: set[int] = field(default_factory=set)
    """Those of them that serve, so that others may be missing."""
    restless: set[int] = field(default_factory=set)
    """Those that every plan has to look at."""
    lines: dict[Line, dict[int, int]] = field(default_factory=dict)
    """Those that wait for others: as long as the first of a line does, so do those behind it. Each with its rank."""
    unreached: frozenset[int] = frozenset()
    """Those that this turn had no time for."""
    only_ends: bool = False
    """All slots are being stopped: until none lives, whatever hooks of the whole have said concerns none of them."""
    unhealthy: set[int] = field(default_factory=set)
    """Of the slots that are looked at those whose process runs and is unhealthy."""
    resting: set[int] = field(default_factory=set)
    """Of these those that stay down until somebody starts them, of a watcher that has `health`."""
    asked: dict[ProcessId, ProbeObserved] = field(default_factory=dict)
    """What the controller shall ask of the processes that are looked at."""
    ended: Ended | None = None
    """What ends everything, the first where several do."""
    wakes: dict[int, int] = field(default_factory=dict)
    """When to look at a slot (`WHOLE`: at all) though nothing has changed."""
    _looking_at: int = WHOLE
    _remembered: dict[ProcessId, Remember] = field(default_factory=dict)
    """What this plan remembers of processes, the newest of each."""

    @property
    def now_ns(self) -> int:
        """Return the instant of this plan."""
        return self.world.now_ns

    def id(self, slot: int, role: str = MAIN) -> ProcessId:
        """Return the name of a process of this watcher."""
        return ProcessId(self.name, slot, role)

    def look(self, slots: Iterable[int]) -> Iterator[int]:
        """Go through slots: an instant that is asked for meanwhile has the one looked at again that it is about."""
        for slot in tuple(slots):
            self._looking_at = slot
            yield slot
        self._looking_at = WHOLE

    def take_steps(self, slots: Iterable[int]) -> Iterator[int]:
        """Go through slots as `look` does, as long as this turn has room for more; the next one goes on."""
        todo = tuple(slots)
        for place, slot in enumerate(todo):
            if self.is_full:
                self.unreached = frozenset(todo[place:])
                break
            self._looking_at = slot
            yield slot
        self._looking_at = WHOLE

    @property
    def is_full(self) -> bool:
        """Tell whether this turn has done its share; what is left to do has to wait for the next one."""
        self.is_unfinished |= len(self.actions) >= self.room
        return self.is_unfinished

    @property
    def is_final(self) -> bool:
        """Tell whether another plan would find what this one has, although it acts: all that was done was foreseen."""
        is_rest = self.is_unfinished or self.answered or self.observed.helpers
        return not is_rest and 0 < self.foreseen == len(self.actions)

    @property
    def why_not_wanted(self) -> str:
        """Return the reason that goes with stopping a whole watcher."""
        if self.world.shutting_down:
            return "shutdown"
        return "removed" if self.retired else "stopped"

    @property
    def waits_to_stop(self) -> bool:
        """Tell whether a watcher that is to be stopped waits for the end of others: no stop of it has begun."""
        if not self.why_wait_to_stop or self.world.stop_now:
            return False
        return all(each.memory.stop_reason not in NOT_WANTED for each in self.slots.mains.values())

    def act(self, *actions: Action) -> None:
        """Add actions, in the order in which they shall be carried out."""
        for action in actions:
            if isinstance(action, Remember):
                self.actions.append(self._with_what_is_known(action))
            else:
                self.actions.append(action)
        self.slots.is_starting |= any(isinstance(a, Spawn) and a.id.role == MAIN for a in actions)

    def _with_what_is_known(self, action: Remember) -> Remember:
        """Return what is to be remembered of a process with what this plan remembers of it besides.

        Whoever decides that started from the record, and knows only of what itself has added.
        """
        before, record = self._remembered.get(action.id), self.observed.records.get(action.id)
        if before is not None and record is not None and before.incarnation == action.incarnation:
            given, old, now = record.memory, before.memory, action.memory
            added = {
                name: getattr(now, name)
                for name in now.__struct_fields__
                if getattr(now, name) != getattr(given, name)
            }
            action = replace(action, memory=replace(old, **added))
        self._remembered[action.id] = action
        return action

    def forget(self, record: ProcessRecord) -> None:
        """Let go of the record of a slot's own process: for all that is still decided here it is gone."""
        self.act(Forget(record.id, record.incarnation))
        self.slots.forgotten.add(record.id.slot)
        self.slots.mains.pop(record.id.slot, None)

    def forget_all(self) -> None:
        """Let go of the records of all slots' own processes, as many as this turn has room for."""
        for record in self.slots.all_mains().values():
            if self.is_full:
                return
            self.forget(record)

    def stand_in(self, line: Line, *slots: int) -> None:
        """Have slots wait for others, by their number."""
        self.rank_in(line, dict.fromkeys(slots, 0))

    def rank_in(self, line: Line, ranks: Mapping[int, int]) -> None:
        """Have slots wait for others: for those of a lower rank, and of the same one for those of a lower number."""
        self.lines.setdefault(line, {}).update(ranks)

    def wake(self, at_ns: int) -> None:
        """Ask for another look at `at_ns`, or earlier."""
        known = self.wakes.get(self._looking_at)
        if known is None or at_ns < known:
            self.wakes[self._looking_at] = at_ns

    def is_due(self, at_ns: int) -> bool:
        """Tell whether an instant has come; when not, ask for another look then."""
        if self.now_ns >= at_ns:
            return True
        self.wake(at_ns)
        return False
