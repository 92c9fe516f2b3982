"""The draft that one watcher's plan is collected in: actions, and when to look again."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Literal

from reconciler.model.action import Action, Forget, Spawn
from reconciler.model.event import Delivery
from reconciler.model.observed import Facts, WatcherObserved
from reconciler.model.process import (
    MAIN,
    Exited,
    ProcessId,
    ProcessRecord,
    Requested,
    Starting,
)
from reconciler.model.revision import Trial
from reconciler.model.socket import SocketRecord
from reconciler.model.spec import SocketSpec, WatcherSpec
from reconciler.model.status import SlotState
from reconciler.model.value import Struct, field


class Plan(Struct, frozen=True):
    """What to do now for one watcher, and the next instant at which the answer could change by itself."""

    actions: tuple[Action, ...] = ()
    wake_at_ns: int | None = None
    answered: tuple[Delivery, ...] = ()
    """Requests of operators that were carried out or vetoed."""
    awake: frozenset[int] | None = None
    """The slots that the next plan has to look at, see `Draft.awake`."""
    stale_rest: bool = False
    """Stale slots rest, until those that are awake are replaced."""
    sleepers: Mapping[int, int] = field(default_factory=dict)
    """Slots that need no look until this instant, unless something changes."""
    is_unfinished: bool = False
    """There was more to do than one turn allows; the next plan goes on."""


class Verdict(Struct, frozen=True):
    """What a hook says. `since_ns` is when it said so, `attempt` how often it has said no before."""

    state: Literal["pending", "passed", "vetoed"]
    message: str = ""
    since_ns: int = 0
    attempt: int = 0


class Held(Struct, frozen=True):
    """What keeps a slot from running, or its process from being left alone. Times are monotonic, 0 is unknown."""

    state: SlotState
    note: str
    since_ns: int = 0
    next_ns: int | None = None
    """When it goes on by itself."""


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
    lowest_going: int | None = None
    """The lowest priority of the watchers that are being stopped and are not gone."""


@dataclasses.dataclass(slots=True)
class Draft:
    """A plan in the making. Lives for one call; nothing in it outlasts the plan."""

    name: str
    spec: WatcherSpec
    observed: WatcherObserved
    world: World
    retired: bool = False
    """The watcher stands in no spec any more."""
    awake: frozenset[int] | None = None
    """The slots to look at, None: all. Of the others it is known that they run as desired and that nothing
    is to be done for them: whatever would change that wakes them."""
    stale_rest: bool = False
    """Some of those that are not to be looked at are stale."""
    want: int = 0
    """How many slots the spec and the operators want; known once the plan is made."""
    room: int = sys.maxsize
    """How many actions may still be taken in this turn, at about."""
    is_unfinished: bool = False
    actions: list[Action] = dataclasses.field(default_factory=list)
    wake_at_ns: int | None = None
    used: set[ProcessId] = dataclasses.field(default_factory=set)
    """Hook records that this pass still needs."""
    verdicts: dict[ProcessId, Verdict] = dataclasses.field(default_factory=dict)
    """What the hooks asked in this pass have said."""
    answered: list[Delivery] = dataclasses.field(default_factory=list)
    binding: set[int] = dataclasses.field(default_factory=set)
    """Slots that start as soon as their own sockets are bound, which has been asked for."""
    restless: set[int] = dataclasses.field(default_factory=set)
    """Slots that the next plan must look at whatever else holds: a verdict waits for them, or an adjustment."""
    held: dict[int, Held] = dataclasses.field(default_factory=dict)
    """Why slots do not run: decided here, and shown by status."""
    is_dry: bool = False
    """Nobody carries the actions out: only what holds slots back is asked for."""
    resting: dict[int, int | None] = dataclasses.field(default_factory=dict)
    """Slots that this plan found in no need of another look, until an instant or (None) a change."""
    is_starting: bool = False
    """A slot's own process is asked for, and does not run yet."""
    _starts: list[tuple[int, int]] | None = dataclasses.field(default=None, init=False)
    _has_live: bool | None = dataclasses.field(default=None, init=False)
    _mains: dict[int, ProcessRecord] | None = dataclasses.field(default=None, init=False)

    @property
    def now_ns(self) -> int:
        """Return the instant of this plan."""
        return self.world.now_ns

    def id(self, slot: int, role: str = MAIN) -> ProcessId:
        """Return the name of a process of this watcher."""
        return ProcessId(self.name, slot, role)

    def main(self, slot: int) -> ProcessRecord | None:
        """Return the record of a slot's own process."""
        return self.observed.records.get(self.id(slot))

    def mains(self) -> dict[int, ProcessRecord]:
        """Return the own processes of the slots to look at, dead or alive, by slot."""
        if self._mains is None:
            records = self.observed.records
            if self.awake is None:
                found = {id.slot: record for id, record in records.items() if id.role == MAIN}
            else:
                mains = ((slot, records.get(self.id(slot))) for slot in self.awake)
                found = {slot: record for slot, record in mains if record is not None}
            self._mains = dict(sorted(found.items())) if len(found) > 1 else found
        return self._mains

    def look_at_all(self) -> None:
        """Leave no slot out."""
        self.awake, self.stale_rest, self._mains = None, False, None

    def desired_slots(self, want: int) -> Sequence[int]:
        """Return which of the slots from 1 to `want` are to be looked at."""
        if self.awake is None:
            return range(1, want + 1)
        return sorted(slot for slot in self.awake if 0 < slot <= want)

    @property
    def is_full(self) -> bool:
        """Tell whether this turn has done its share; the rest of the slots has to wait for the next one."""
        if len(self.actions) < self.room:
            return False
        self.is_unfinished = True
        return True

    def newest_starts(self) -> Sequence[tuple[int, int]] | None:
        """Return the two newest starts of slots, newest first, with the slots; None while one is being started."""
        if self._starts is None:
            self._starts = []
            for slot, record in self.mains().items():
                if isinstance(record.phase, Requested | Starting):
                    self.is_starting = True
                else:
                    self._starts.append((record.phase.started_at_ns or 0, slot))
            self._starts = sorted(self._starts, reverse=True)[:2]
        return None if self.is_starting else self._starts

    def has_live_mains(self) -> bool:
        """Tell whether any slot's own process, or what it started, is not known to be gone; looks at all."""
        if self._has_live is None:
            self._has_live = any(
                id.role == MAIN and not self.is_gone(record)
                for id, record in self.observed.records.items()
            )
        return self._has_live

    def is_gone(self, record: ProcessRecord) -> bool:
        """Tell whether a process is dead and, where the scope in force asks for that, its descendants too."""
        return isinstance(record.phase, Exited) and not record.phase.survivors

    @property
    def why_not_wanted(self) -> str:
        """Return the reason that goes with stopping a whole watcher."""
        if self.world.shutting_down:
            return "shutdown"
        return "removed" if self.retired else "stopped"

    @property
    def waits_to_stop(self) -> bool:
        """Tell whether a watcher that is to be stopped waits for the end of others, of a lower priority."""
        lowest = self.world.lowest_going
        if lowest is None or self.spec.priority <= lowest or self.world.stop_now:
            return False
        return all(each.memory.stopping_since_ns is None for each in self.mains().values())

    def act(self, *actions: Action) -> None:
        """Add actions, in the order in which they shall be carried out."""
        self.actions.extend(actions)
        self.is_starting |= any(isinstance(a, Spawn) and a.id.role == MAIN for a in actions)

    def forget(self, record: ProcessRecord) -> None:
        """Let go of the record of a slot's own process: for all that is still decided here it is gone."""
        self.act(Forget(record.id, record.incarnation))
        self.mains().pop(record.id.slot, None)

    def hold(
        self, slot: int, state: SlotState, note: str, since_ns: int = 0, next_ns: int | None = None
    ) -> None:
        """Note why a slot does not run."""
        self.held[slot] = Held(state, note, since_ns, next_ns)

    def wake(self, at_ns: int) -> None:
        """Ask to be planned again at `at_ns`, or earlier."""
        if self.wake_at_ns is None or at_ns < self.wake_at_ns:
            self.wake_at_ns = at_ns

    def is_due(self, at_ns: int) -> bool:
        """Tell whether an instant has come; when not, ask to be planned again then."""
        if self.now_ns >= at_ns:
            return True
        self.wake(at_ns)
        return False

    def finish(self) -> Plan:
        """Return the plan as collected."""
        return Plan(
            tuple(self.actions),
            self.wake_at_ns,
            tuple(self.answered),
            self._awake_next(),
            self.stale_rest,
            {slot: end for slot, end in self.resting.items() if end is not None},
            self.is_unfinished,
        )

    def _awake_next(self) -> frozenset[int] | None:
        if not self.resting and self.awake is None:
            return None
        return frozenset({*self.desired_slots(self.want), *self.mains()} - self.resting.keys())
