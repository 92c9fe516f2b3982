"""How running processes are replaced: who serves meanwhile, how fast it goes, and that it goes on to its end.

A stop is judged at the instant at which a controller says it, by the spec in force then and by what the keeper had told
that controller: whoever knows less cannot do better. That the keeper tells the truth is judged elsewhere (I3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.model.action import Remember, Signal, Spawn
from reconciler.model.intent import NO_INTENT
from reconciler.model.observation import (
    KeeperIntroduced,
    RecordChanged,
    RecordForgotten,
    SocketChanged,
    SocketClosed,
)
from reconciler.model.process import Exited, ProcessId, Running
from reconciler.model.socket import BindRefused, Bound
from reconciler.model.units import SECOND_NS as S
from reconciler.model.value import replace
from tests.sim.programs import ASKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reconciler.model.action import Action
    from reconciler.model.observation import KeeperObservation
    from reconciler.model.process import ProcessRecord
    from reconciler.model.socket import SocketRecord
    from reconciler.model.spec import RolloutSpec, Spec, WatcherSpec
    from tests.sim.checkers.facts import Facts
    from tests.sim.checkers.needs import Needs

READY_NS = S
"""A process without `ready` counts as ready when it has lived this long."""
OF_ITS_OWN = {"vetoed", "refused", "not_ready", "unhealthy", "watchdog", "announced", "idle"}
"""For what a process is stopped that is no good, or not needed: nobody takes that for a roll."""


class Rollout:
    """I13, I24, I25, I26, I27."""

    def __init__(self, facts: Facts, needs: Needs) -> None:
        self.facts, self.needs, self.world = facts, needs, facts.world
        self.told: dict[ProcessId, ProcessRecord] = {}
        """What the controller of the moment has heard of processes, and has had remembered of them."""
        self.sockets: dict[str, SocketRecord] = {}
        self.asked: set[tuple[ProcessId, int]] = set()
        """Which incarnations it knows to have been asked to end."""
        self.giving_way: set[tuple[ProcessId, int]] = set()
        """Those of them that were asked for a successor."""
        self.coming: dict[ProcessId, tuple[int, bool]] = {}
        """What was started last in a slot: in place of which incarnation, and whether that had given way to it."""
        self.successors: set[tuple[ProcessId, int]] = set()
        self.requested: set[ProcessId] = set()
        """Slots whose start this controller has said and not heard of yet."""
        self.said_ns: dict[ProcessId, int] = {}
        """When a start of a slot was said last."""
        self.failed: dict[ProcessId, int] = {}
        """Slots whose newest process ended by itself before that was no failure any more: when it was to be started."""
        self.passed_ns: dict[ProcessId, int] = {}
        """When a hook was heard to have passed last."""
        self.restarted_ns: dict[tuple[str, int], int] = {}
        """When a restart of a slot (0: of all) was asked for last."""
        self._tokens: dict[str, dict[int, int]] = {}
        self.world.on_heard.append(self.heard)
        self.world.on_said.append(self.said)
        self.world.on_power_loss.append(self.forget)

    def forget(self) -> None:
        """The machine starts anew."""
        for each in (self.coming, self.said_ns, self.failed, self.passed_ns):
            each.clear()
        self.successors.clear()
        self._begin_anew()

    def _begin_anew(self) -> None:
        """A controller knows nothing yet."""
        for each in (self.told, self.sockets):
            each.clear()
        for known in (self.asked, self.giving_way):
            known.clear()
        self.requested.clear()

    # ---- what is known ------------------------------------------------------------------------

    def heard(self, observation: KeeperObservation) -> None:
        match observation:
            case KeeperIntroduced():
                self._begin_anew()
            case RecordChanged(record) if record.id.role == "main":
                self._process_changed(record)
            case RecordChanged(record) if record.id.role == "before_spawn":
                if isinstance(record.phase, Exited) and record.phase.exit.code == 0:
                    self.passed_ns[record.id] = record.phase.at_ns
            case RecordForgotten(id):
                self.told.pop(id, None)
                self.requested.discard(id)
            case SocketChanged(socket):
                self.sockets[socket.name] = socket
            case SocketClosed(name):
                self.sockets.pop(name, None)

    def _process_changed(self, record: ProcessRecord) -> None:
        key, before = (record.id, record.incarnation), self.told.get(record.id)
        if before is not None and before.incarnation == record.incarnation:
            # What it was told to remember it may not have got yet.
            record = replace(record, memory=before.memory)
        elif record.memory.stopping_since_ns is not None:
            self.asked.add(key)
            if _is_of_roll(record.memory.stop_reason):
                self.giving_way.add(key)
        replaced, gave_way = self.coming.get(record.id, (record.incarnation, False))
        if gave_way and record.incarnation > replaced:
            self.successors.add(key)
        if record.incarnation > replaced:
            self.requested.discard(record.id)
        self.told[record.id] = record
        if isinstance(record.phase, Exited):
            self._note_end(record, record.phase)

    def _note_end(self, record: ProcessRecord, phase: Exited) -> None:
        spec = self.world.disk.spec.watchers.get(record.id.owner)
        if (record.id, record.incarnation) in self.asked or spec is None:
            return
        error = phase.exit.error
        is_shortage = error is not None and error.is_shortage
        if phase.is_unseen or is_shortage:
            return
        if phase.lived_ns < spec.backoff.reset_after:
            self.failed[record.id] = self.said_ns.get(record.id, -1)
        else:
            self.failed.pop(record.id, None)

    def _note_restarts(self) -> None:
        for name, intent in self.world.disk.intents.items():
            before = self._tokens.get(name, {})
            if before == intent.restart_tokens:
                continue
            for slot, token in intent.restart_tokens.items():
                if before.get(slot) != token:
                    self.restarted_ns[name, slot] = self.world.kernel.now
            self._tokens[name] = dict(intent.restart_tokens)

    def said(self, action: Action) -> None:
        self._note_restarts()
        match action:
            case Spawn(id) if id.role == "main":
                self._starts(id, action.replaces)
            case Spawn(ProcessId(owner, slot, "stop")):
                if (record := self.told.get(ProcessId(owner, slot))) is not None:
                    self._asks(record.id, record.incarnation)
            case Signal(id, incarnation, signal) if id.role == "main" and signal in ASKING:
                self._asks(id, incarnation)
            case Remember(id, incarnation, memory) if id.role == "main":
                if memory.stopping_since_ns is not None:
                    self._asks(id, incarnation, memory.stop_reason)
                known = self.told.get(id)
                if known is not None and known.incarnation == incarnation:
                    self.told[id] = replace(known, memory=memory)

    def _starts(self, id: ProcessId, replaces: int) -> None:
        """Take note of a start; one beyond those wanted is there for others, as a successor is."""
        is_beyond = not replaces and id.slot in self._slots_beyond(id.owner)
        if is_beyond:
            self._brake_holds(id)
        self.coming[id] = replaces, is_beyond or (id, replaces) in self.giving_way
        self.said_ns[id] = self.world.kernel.now
        self.requested.add(id)

    def _slots_beyond(self, name: str) -> range:
        spec, want = self.world.disk.spec.watchers.get(name), self.facts.want(name)
        beyond = 0 if spec is None or spec.is_job else self.facts.beyond(name, want)
        return range(want + 1, want + 1 + beyond)

    def _asks(self, id: ProcessId, incarnation: int, reason: str = "") -> None:
        """Judge that a live process is to end, when that is first said."""
        record = self.told.get(id)
        if (id, incarnation) in self.asked or record is None or record.incarnation != incarnation:
            return
        if isinstance(record.phase, Exited):
            return  # what it has left behind is asked
        if self._is_for_successor(id, reason):
            self._judge(record)
        elif id.slot in self._slots_beyond(id.owner) and reason not in OF_ITS_OWN:
            spec = self.world.disk.spec.watchers[id.owner]
            if self._serves(id, spec, surely=True) and not self._is_in_the_way(record, spec):
                self._others_serve(record, spec)
        if _is_of_roll(reason):
            self.giving_way.add((id, incarnation))
        self.asked.add((id, incarnation))

    def _is_for_successor(self, id: ProcessId, reason: str) -> bool:
        """Tell whether the manager itself has a slot that is to run start anew."""
        spec = self.world.disk.spec.watchers.get(id.owner)
        if spec is None or spec.is_job or reason in OF_ITS_OWN:
            return False
        return id.slot <= self.facts.want(id.owner)

    # ---- what is judged -----------------------------------------------------------------------

    def _judge(self, record: ProcessRecord) -> None:
        spec = self.world.disk.spec.watchers[record.id.owner]
        self._successor_could_start(record, spec)
        if self._is_in_the_way(record, spec):
            return
        is_at_once = self._is_at_once(record)
        if not is_at_once:  # that goes by the brake, and by the others
            self._brake_holds(record.id)
        if not self._serves(record.id, spec, surely=True):
            return
        self.failed.pop(record.id, None)
        if is_at_once:
            return
        self._others_serve(record, spec)
        self._stops_at_failure(record)

    def _others_serve(self, record: ProcessRecord, spec: WatcherSpec) -> None:
        """I13, I24: no more slots are missing than may be, and one that was replaced is left alone for a while."""
        owner, id = record.id.owner, record.id
        want = self.facts.want(owner)
        if id.slot > want and spec.health is not None and "sickness" in self.world.faults.strength:
            return  # one beyond those wanted serves nobody while it is unhealthy
        if record.memory.ready_at_ns is None and "full journal" in self.world.faults.strength:
            return  # that it was ready could not be written down
        missing = [
            f"{each} {why}" for each in self._others(id) if (why := self._why_missing(each, spec))
        ]
        beyond = [ProcessId(owner, slot) for slot in self._slots_beyond(owner)]
        serving = [each for each in beyond if each != id and not self._why_missing(each, spec)]
        most = _most_unavailable(spec.rollout, want) + len(serving)
        assert len(missing) + (id.slot <= want) <= most, (
            f"{id} is stopped for a roll while {', '.join(missing) or 'nobody serves in its place'}"
        )

    def _others(self, id: ProcessId) -> Iterator[ProcessId]:
        slots = range(1, self.facts.want(id.owner) + 1)
        return (ProcessId(id.owner, slot) for slot in slots if slot != id.slot)

    def _why_missing(self, id: ProcessId, spec: WatcherSpec) -> str:
        record = self.told.get(id)
        if not self._serves(id, spec):
            return "" if self._has_succeeded(record, spec) else "does not serve"
        assert record is not None
        if (id, record.incarnation) not in self.successors or self.world.journal_fails:
            return ""  # with what it has noted, a keeper may have forgotten that it is one
        is_over = self.world.kernel.now >= (self._ready_ns(record, spec) or 0) + spec.rollout.pause
        return "" if is_over else "has just been replaced"

    def _serves(self, id: ProcessId, spec: WatcherSpec, *, surely: bool = False) -> bool:
        record = self.told.get(id)
        if record is None or (id, record.incarnation) in self.asked:
            return False
        if not isinstance(record.phase, Running):
            return False
        ready_ns = self._ready_ns(record, spec, surely=surely)
        return ready_ns is not None and self.world.kernel.now >= ready_ns

    def _ready_ns(
        self, record: ProcessRecord, spec: WatcherSpec, *, surely: bool = False
    ) -> int | None:
        """Return when a process was ready, or will be by its age; None: it has to show it yet."""
        assert isinstance(record.phase, Running)
        if record.memory.ready_at_ns:
            return record.memory.ready_at_ns
        if spec.ready is None or not record.memory.probed:
            return record.phase.started_at_ns + READY_NS
        if spec.ready.delay is not None:
            return record.phase.started_at_ns + spec.ready.delay
        shown_ns = self.facts.answers.ready_ns(record.id, record.incarnation, surely=surely)
        if surely and shown_ns is not None:
            shown_ns += (
                S  # an answer that comes together with an edit of the question counts for neither
            )
        return shown_ns

    def _has_succeeded(self, record: ProcessRecord | None, spec: WatcherSpec) -> bool:
        """Tell whether a slot rests because its process has succeeded: nobody waits for it."""
        if record is None or not isinstance(record.phase, Exited):
            return False
        return spec.restart == "on-failure" and record.phase.exit.code in spec.success_exit_codes

    def _stops_at_failure(self, record: ProcessRecord) -> None:
        """I25: a roll stops at the first new process that did not stay up."""
        owner = record.id.owner
        spec = self.world.disk.spec.watchers[owner]
        if spec.secrets:
            return  # of what a process was made that failed is not known here
        if spec.health is not None and "sickness" in self.world.faults.strength:
            return  # one that is unhealthy serves nobody, and may be replaced beside one that has failed
        for other in self._others(record.id):
            is_new = self.failed.get(other, -1) > self.facts.touched_ns(owner)
            if is_new and not self._serves(other, spec):
                rests = self._has_succeeded(self.told.get(other), spec)
                assert rests, f"{record.id} is replaced though {other} has failed"

    def _brake_holds(self, id: ProcessId) -> None:
        """I26: no more slots of all watchers are being replaced than may be."""
        spec = self.world.disk.spec
        most = spec.daemon.max_concurrent_restarts
        if most is None or self.world.journal_fails:
            return
        others = {*self.told, *self.requested} - {id}
        replaced = [str(each) for each in others if self._is_being_replaced(each, spec)]
        assert len(replaced) < most, f"{id} is replaced beside {sorted(replaced)}"

    def _is_being_replaced(self, id: ProcessId, spec: Spec) -> bool:
        watcher, record = spec.watchers.get(id.owner), self.told.get(id)
        if watcher is None or watcher.is_job or id.slot >= self._slots_beyond(id.owner).stop:
            return False
        if record is None or isinstance(record.phase, Exited):
            # It may wait at a gate, until its start is said.
            return id in self.requested and self.coming[id][1]
        key = id, record.incarnation
        if key in self.asked:
            return key in self.giving_way
        return key in self.successors and not self._serves(id, watcher)

    # ---- at rest ------------------------------------------------------------------------------

    def end(self) -> None:
        """I28: what was asked for has come: nobody runs on whom a restart was to replace.

        That all that runs is as the spec says is judged in `Rest` and `Language`.
        """
        self._note_restarts()
        trial = self.world.disk.trial
        if trial is not None and trial.outcome == "paused":
            return  # who runs as before that stays so
        for id, record in self.told.items():
            spec = self.world.disk.spec.watchers.get(id.owner)
            if spec is None or spec.is_job or not isinstance(record.phase, Running):
                continue
            if self.facts.has_given_up(id.owner) or self.needs.waits(id.owner):
                continue
            if {*spec.use_sockets, spec.stdin_socket} & self.facts.taken_sockets():
                continue
            since_ns = record.phase.started_at_ns
            assert since_ns >= self._restarted_ns(id), f"{id} has not been restarted"

    # ---- what would come in its place ---------------------------------------------------------

    def _successor_could_start(self, record: ProcessRecord, spec: WatcherSpec) -> None:
        """I27: nobody is stopped for a successor that could not start; what it depends on is judged in `Needs`."""
        id = record.id
        assert not spec.secrets or self._knows_secrets(id.owner, spec), (
            f"{id} gives way, and the secrets of its successor are not known"
        )
        if not isinstance(record.phase, Running):
            return
        if spec.hooks.before_spawn is not None and not self._is_lenient(id.owner):
            passed_ns = self.passed_ns.get(ProcessId(id.owner, id.slot, "before_spawn"), -1)
            assert passed_ns >= record.phase.started_at_ns, (
                f"{id} gives way, and before_spawn has not passed for its successor"
            )
        for name in (*spec.use_sockets, *filter(None, (spec.stdin_socket,))):
            why = self._why_not_bound(name, id)
            assert not why, f"{id} gives way, and {why}"
        for other in self._others(id):
            there = self.told.get(other)
            if there is None or not isinstance(there.phase, Running):
                continue
            age = self.world.kernel.now - there.phase.started_at_ns
            assert age >= spec.spawn_interval, f"{id} gives way {age / S} s after {other} started"

    def _knows_secrets(self, name: str, spec: WatcherSpec) -> bool:
        controller = self.world.controller
        return controller is not None and controller.secrets.get(name) == spec.secrets

    def _is_lenient(self, name: str) -> bool:
        """Tell whether errors of hooks of a watcher of this name may be passed over."""
        return self.world.people.has_used(name, "hook.on_error")

    def _why_not_bound(self, name: str, id: ProcessId) -> str:
        spec = self.world.disk.spec.sockets[name]
        held = self.sockets.get(f"{name}.{id.slot}" if spec.reuseport else name)
        if held is None:
            return f"{name} is not bound"
        if isinstance(held.phase, BindRefused):
            return "" if self._is_held_by(held, id) else f"{name} is refused"
        # One of its own, at the address that it has, is bound anew when it has gone.
        is_there = isinstance(held.phase, Bound) and held.template.address == spec.listen
        return "" if is_there else f"{name} is not bound where it is wanted"

    def _is_in_the_way(self, record: ProcessRecord, spec: WatcherSpec) -> bool:
        """Tell whether a socket can be bound only when a process has ended."""
        names = (*spec.use_sockets, *filter(None, (spec.stdin_socket,)))
        held = (self.sockets.get(name) for name in names)
        return any(each is not None and self._is_held_by(each, record.id) for each in held)

    def _is_held_by(self, socket: SocketRecord, id: ProcessId) -> bool:
        if not isinstance(socket.phase, BindRefused):
            return False
        former = socket.held
        must_go = former is not None and former.address == socket.template.address
        return id in socket.phase.held_by or must_go

    def _is_at_once(self, record: ProcessRecord) -> bool:
        """Tell whether a process is older than a restart that replaces all at once."""
        id = record.id
        if not self.world.disk.intents.get(id.owner, NO_INTENT).at_once:
            return False
        return self.said_ns.get(id, -1) <= self._restarted_ns(id)

    def _restarted_ns(self, id: ProcessId) -> int:
        return max(self.restarted_ns.get((id.owner, slot), -1) for slot in (0, id.slot))


def _is_of_roll(reason: str) -> bool:
    """Tell whether a process is stopped for another one to take its place, and neither is to blame."""
    return reason in {"replaced", "dependency", "expired"} or reason.startswith("over ")


def _most_unavailable(rollout: RolloutSpec, slots: int) -> int:
    """Return how many slots may be missing for a roll; with `max_surge` none need be."""
    asked, least = rollout.max_unavailable, int(not rollout.max_surge)
    if asked is None:
        return least
    return asked if isinstance(asked, int) else max(least, int(asked.rstrip("%")) * slots // 100)
