"""What is known of a history beside the product: what was desired when, and what became of each process."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from reconciler.model.action import Remember, Signal, Spawn
from reconciler.model.process import ProcessId
from reconciler.model.units import SECOND_NS as S
from tests.sim.checkers.answers import Answers
from tests.sim.programs import ASKING

if TYPE_CHECKING:
    from reconciler.model.process import Exit
    from tests.contract.fake_kernel import Process
    from tests.sim.world import World

GIVEN_UP_NS = 5 * S
"""After so long a new keeper waits no longer for the end of what it has killed."""


class Facts:
    """Follows a world and keeps its past, as far as judges ask for it."""

    def __init__(self, world: World) -> None:
        self.world, self.kernel = world, world.kernel
        self._wants: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._most: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._noted: tuple[object, ...] = ()
        self.born_ns: dict[int, int] = {}
        """When each process was born, by its number in the life of the machine."""
        self.asked_ns: dict[int, int] = {}
        """When it was asked to end first: by a signal that does, or by its stop command."""
        self.killed_ns: dict[int, int] = {}
        """When KILL reached it first."""
        self.died_ns: dict[ProcessId, int] = {}
        """When the newest process of a name died."""
        self.exits: dict[ProcessId, Exit] = {}
        """And how."""
        self.died_unknown: set[ProcessId] = set()
        """Of which names the newest process died without a record: the keeper stopped what it did not know."""
        self.said_ns: dict[ProcessId, int] = {}
        """When the keeper was told last to start a process of a name."""
        self.replaces: dict[ProcessId, int] = {}
        """In place of which dead incarnation that was; the keeper refuses any other."""
        self.remembered_ns: dict[tuple[ProcessId, int], int] = {}
        """When the keeper was told last to remember something of an incarnation."""
        self._stamps: dict[object, object] = {}
        self.asked_said_ns: dict[tuple[ProcessId, int], int] = {}
        """When the keeper was told first to ask an incarnation to end."""
        self._seen_hits = self._seen_deaths = self._seen_actions = 0
        world.on_instant.append(self.note)
        world.on_power_loss += [self.asked_said_ns.clear, self.remembered_ns.clear]
        self.kernel.on_born.append(self._born)
        self.answers = Answers(self)

    def changed(self, judge: object) -> bool:
        """Tell whether a process was born, hit or died, or a record came or went, since a judge asked last."""
        now = self.kernel.stamp(), len(self.world.keeper.processes.by_id)
        before = self._stamps.get(judge)
        self._stamps[judge] = now
        return now != before

    def note(self) -> None:
        """Take in what has happened since asked last."""
        self._note_wants()
        for hit in self.kernel.hits[self._seen_hits :]:
            if hit.signal in ASKING | {"KILL"}:
                noted = self.killed_ns if hit.signal == "KILL" else self.asked_ns
                noted.setdefault(hit.process.born, hit.at_ns)
        self._seen_hits = len(self.kernel.hits)
        for death in self.kernel.deaths[self._seen_deaths :]:
            if death.process.leads:
                self.died_ns[death.process.id] = death.at_ns
                self.exits[death.process.id] = death.exit
                is_known = self.has_record(death.process)
                (self.died_unknown.discard if is_known else self.died_unknown.add)(death.process.id)
        self._seen_deaths = len(self.kernel.deaths)
        for at, action in self.world.actions[self._seen_actions :]:
            if isinstance(action, Spawn):
                self.said_ns[action.id], self.replaces[action.id] = at, action.replaces
            elif isinstance(action, Remember):
                self.remembered_ns[action.id, action.incarnation] = at
            elif isinstance(action, Signal) and action.signal in ASKING:
                self.asked_said_ns.setdefault((action.id, action.incarnation), at)
        self._seen_actions = len(self.world.actions)

    def _born(self, process: Process) -> None:
        self.born_ns[process.born] = self.kernel.now
        if process.id.role == "stop":
            for main in self.leaders(process.id.owner):
                if main.id.slot == process.id.slot:
                    self.asked_ns.setdefault(main.born, self.kernel.now)

    def _note_wants(self) -> None:
        disk, now = self.world.disk, self.kernel.now
        asked = disk.revision, tuple(disk.intents.values()), self.world.ending
        if asked == self._noted:
            return
        self._noted = asked
        for name in {*disk.spec.watchers, *self._wants}:
            want = self._want_now(name)
            for noted, count in (
                (self._wants[name], want),
                (self._most[name], want + self.beyond(name, want)),
            ):
                if not noted or noted[-1][1] != count:
                    noted.append((now, count))

    def beyond(self, name: str, want: int) -> int:
        """Return how many more may run while those that are wanted are replaced."""
        spec = self.world.disk.spec.watchers.get(name)
        surge = spec.rollout.max_surge if spec is not None and want else 0
        return surge if isinstance(surge, int) else max(1, int(surge.rstrip("%")) * want // 100)

    def _want_now(self, name: str) -> int:
        disk = self.world.disk
        spec, intent = disk.spec.watchers.get(name), disk.intents.get(name)
        if spec is None or self.world.ending:
            return 0
        hold = None if intent is None else intent.hold
        if hold == "stopped" or not (spec.autostart or spec.is_job or hold == "started"):
            return 0
        if intent is None:
            return spec.numprocesses
        return spec.numprocesses if intent.scale is None else intent.scale

    def wants(self, name: str, said_ns: int | None = None) -> list[int]:
        """Return the numbers of processes that may still be acted on: those of the last moments.

        `said_ns` is when the keeper was told; one that was stopped since then acts late.
        """
        return self._of_late(self._wants[name], said_ns)

    def most(self, name: str, said_ns: int | None = None) -> int:
        """Return how many of the last moments might run at the most, with those of a surge."""
        return max(self._of_late(self._most[name], said_ns))

    def _of_late(self, noted: list[tuple[int, int]], said_ns: int | None) -> list[int]:
        since = (self.kernel.now if said_ns is None else said_ns) - self.world.leeway_ns
        older = [want for at, want in noted if at < since][-1:]
        return older + [want for at, want in noted if at >= since] or [0]

    def want_at(self, name: str, at_ns: int) -> int:
        """Return how many processes were wanted at a time."""
        return ([want for at, want in self._wants[name] if at <= at_ns] or [0])[-1]

    def want(self, name: str) -> int:
        """Return how many processes are wanted now."""
        self._note_wants()
        return self._wants[name][-1][1] if self._wants[name] else 0

    def touched_ns(self, name: str) -> int:
        """Return when somebody last concerned himself with a watcher."""
        return self.world.people.touched_ns.get(name, 0)

    def has_hook(self, name: str, *roles: str) -> bool:
        """Tell whether a watcher of this name ever had one of these hooks."""
        return any((name, role) in self.world.people.hooked for role in roles)

    def may_be_left(self, process: Process) -> bool:
        """Tell whether a process may outlive the one that started it: its scope was not the whole tree."""
        has_used = self.world.people.has_used(process.id.owner, "stop.scope")
        return has_used and not process.leads

    def may_be_nobodys(self, process: Process) -> bool:
        """Tell whether a process has no sign of whose it is; it goes at the latest when everything does.

        docs/reliability.md, not promised: it has overwritten its environment, has a session of its own, and the
        process that made it is dead. As long as that one lives it is below it, and nobody takes it for another's.
        """
        if process.leads or not (process.program.wipes and process.program.escapes):
            return False
        key = process.id, process.incarnation
        return not any((each.id, each.incarnation) == key for each in self.kernel.leaders())

    def may_be_anothers(self, process: Process) -> bool:
        """Tell whether a process without a sign may be taken for one that another watcher leaves alone on purpose.

        docs/reliability.md, not promised: among those that may have left it, the last to die was it.
        """
        leaves = any(path == "stop.scope" for _, path in self.world.people.used)
        return leaves and self.may_be_nobodys(process)

    def taken_sockets(self) -> set[str]:
        """Return the sockets at whose addresses something listens that was left on purpose, or is to stay as it is.

        Nothing else can be bound there while that lives. A paused revision replaces no more users of the former one.
        """
        trial = self.world.disk.trial
        is_paused = trial is not None and trial.outcome == "paused"
        there = {
            each.listen
            for process in self.kernel.alive()
            if self.may_be_left(process) or self.may_be_nobodys(process) or is_paused
            for each in process.sockets
        }
        there -= {each.listen for each in self.kernel.held()}
        sockets = self.world.disk.spec.sockets.items()
        return {name for name, each in sockets if not each.reuseport and str(each.listen) in there}

    def may_be_in_background(self, id: ProcessId) -> bool:
        """Tell whether the last process of a slot ended well, and something lives on that may be of it."""
        deaths = (death for death in reversed(self.kernel.deaths) if death.process.id == id)
        last = next((death.process for death in deaths if death.process.leads), None)
        if last is None or self.exits[id].code != 0:
            return False
        return any(
            self.may_be_nobodys(each) or (each.id == id and not each.leads)
            for each in self.kernel.alive()
        )

    def may_rest(self, name: str) -> bool:
        """Tell whether slots of a watcher may rest by themselves: they have succeeded, were given up, or unhealthy."""
        stops = any(each.action == "stop" for each in self.answers.said(name, "health"))
        return stops or self.world.people.has_used(name, "restart: on-failure", "max_restarts")

    def has_given_up(self, name: str) -> bool:
        """Tell whether a slot of a watcher rests that was to serve: its roll goes no further then."""
        spec, running = self.world.disk.spec.watchers[name], {p.id for p in self.leaders(name)}
        slots = (ProcessId(name, slot) for slot in range(1, self.want(name) + 1))
        missing = [id for id in slots if id not in running]
        if spec.restart != "on-failure":
            return bool(missing) and self.may_rest(name)
        codes = spec.success_exit_codes  # nobody waits for one that has succeeded
        return any(
            id not in self.exits
            or self.exits[id].code not in codes
            or self.said_ns.get(id, 0) > self.died_ns[id]  # what could not be executed did not die
            for id in missing
        )

    def has_record(self, process: Process) -> bool:
        """Tell whether the keeper has a record of a process; strays of a killed one have none."""
        held = self.world.keeper.processes.by_id.get(process.id)
        return held is not None and held.record.incarnation == process.incarnation

    def untold_ends(self, name: str) -> set[ProcessId]:
        """Return the slots of a watcher whose process has ended, and nobody was told yet: its last output comes."""
        ids = (each.record.id for each in self.world.keeper.processes.draining)
        return {id for id in ids if id.owner == name and id.role == "main"}

    def stand_ins(self) -> list[Process]:
        """Return the living children that a keeper has adopted in place of the dead processes that made them.

        docs/reliability.md, not promised: the keeper of such a process died before it wrote down the pid, and it
        ended before the next one looked. Only a child with a session of its own can be taken for it.
        """
        held = self.world.keeper.processes.by_id
        return [
            process
            for process in self.kernel.alive()
            if not process.leads
            and process.program.escapes
            and self.has_record(process)
            and held[process.id].pid == process.pid
        ]

    def is_given_up(self, process: Process) -> bool:
        """Tell whether the keeper goes on beside a process that it has no record of and that KILL does not end."""
        killed_ns = self.killed_ns.get(process.born)
        late = killed_ns is not None and self.kernel.now - killed_ns >= GIVEN_UP_NS
        return late and not self.has_record(process)

    def is_in_the_way(self, process: Process) -> bool:
        """Tell whether a process listens at an address of the spec with a socket that the keeper has closed."""
        wanted = {str(each.listen) for each in self.world.disk.spec.sockets.values()}
        return any(each.closed and each.listen in wanted for each in process.sockets)

    def was_unwatched(self, at_ns: int) -> bool:
        """Tell whether no keeper lived at a time, so that nobody could be told how a process ended."""
        return any(begin <= at_ns <= end for begin, end in self.world.unwatched)

    def leaders(self, name: str) -> list[Process]:
        """Return the live processes of a watcher's slots."""
        return [p for p in self.kernel.leaders() if p.id.owner == name and p.id.role == "main"]
