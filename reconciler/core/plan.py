"""The draft that one watcher's plan is collected in: actions, and when to look again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from reconciler.model.action import Action
from reconciler.model.event import Request
from reconciler.model.observed import Facts, WatcherObserved
from reconciler.model.process import MAIN, Exited, ProcessId, ProcessRecord
from reconciler.model.revision import Trial
from reconciler.model.socket import SocketRecord
from reconciler.model.spec import SocketSpec, WatcherSpec
from reconciler.model.value import Struct


class Plan(Struct, frozen=True):
    """What to do now for one watcher, and the next instant at which the answer could change by itself."""

    actions: tuple[Action, ...] = ()
    wake_at_ns: int | None = None
    answered: tuple[Request, ...] = ()
    """Wishes of operators that are dealt with, fulfilled or vetoed."""


class Verdict(Struct, frozen=True):
    """What a hook says. `since_ns` is when it said so, `attempt` how often it has said no before."""

    state: Literal["pending", "passed", "vetoed"]
    message: str = ""
    since_ns: int = 0
    attempt: int = 0


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


@dataclass(slots=True)
class Draft:
    """A plan in the making. Lives for one call; nothing in it outlasts the plan."""

    name: str
    spec: WatcherSpec
    observed: WatcherObserved
    world: World
    retired: bool = False
    """The watcher stands in no spec any more."""
    actions: list[Action] = field(default_factory=list)
    wake_at_ns: int | None = None
    used: set[ProcessId] = field(default_factory=set)
    """Hook records that this pass still needs."""
    verdicts: dict[ProcessId, Verdict] = field(default_factory=dict)
    """What the hooks asked in this pass have said."""
    answered: list[Request] = field(default_factory=list)
    binding: set[int] = field(default_factory=set)
    """Slots that start as soon as their own sockets are bound, which has been asked for."""

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
        """Return all slots' own processes, dead or alive, by slot."""
        found = {id.slot: record for id, record in self.observed.records.items() if id.role == MAIN}
        return dict(sorted(found.items())) if len(found) > 1 else found

    def live_mains(self) -> dict[int, ProcessRecord]:
        """Return the slots' own processes that are not known to be gone with all they started."""
        return {slot: record for slot, record in self.mains().items() if not self.is_gone(record)}

    def is_gone(self, record: ProcessRecord) -> bool:
        """Tell whether a process is dead and, where its scope asks for that, its descendants too."""
        return isinstance(record.phase, Exited) and not (
            record.phase.survivors and self.spec.stop.scope != "process"
        )

    def act(self, *actions: Action) -> None:
        """Add actions, in the order in which they shall be carried out."""
        self.actions.extend(actions)

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
        return Plan(tuple(self.actions), self.wake_at_ns, tuple(self.answered))
