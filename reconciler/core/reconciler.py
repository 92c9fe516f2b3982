"""Folds observations into the picture of the world and plans the watchers that they touch.

One observation touches one watcher (or the users of one socket), and only what was touched, or whose time has come, is
planned: an exit among 5,000 watchers costs what it costs among ten.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from reconciler.core import ends, events, status
from reconciler.core.assume import act
from reconciler.core.done import Done, Outcome
from reconciler.core.fold import fold
from reconciler.core.orders import Once, Subject
from reconciler.core.picture import Picture
from reconciler.core.plan import Plan
from reconciler.core.slots import Slots
from reconciler.core.sockets import plan_socket
from reconciler.core.wakes import earliest
from reconciler.core.watchers import plan_watcher
from reconciler.model.action import Action
from reconciler.model.event import Event
from reconciler.model.observation import Delivery, Observation, ShutdownAsked
from reconciler.model.observed import Facts
from reconciler.model.process import ProcessId, Running
from reconciler.model.revision import Outlook
from reconciler.model.spec import WatcherSpec
from reconciler.model.status import SocketStatus, WatcherStatus
from reconciler.model.value import Struct

MAX_ROUNDS: Final = 200
"""Plans of one watcher within one step; more means that two rules undo each other."""
ACTIONS_PER_STEP: Final = 500
"""About so much is decided in one step; what more there is to do comes in the next one, and others in between."""
PLANS_PER_STEP: Final = 200
"""So many watchers are planned in one step, whether that comes to anything or not; each until it comes to rest."""


class Step(Struct, frozen=True):
    """What came of one step. `wake_at_ns` None: nothing changes by itself any more."""

    actions: tuple[Action, ...]
    wake_at_ns: int | None
    touched: frozenset[str]
    events: tuple[Event, ...]
    answered: tuple[Delivery, ...] = ()
    """Signals that operators asked for: sent, or why not."""


class Reconciler(Picture):
    """Holds the picture of the world; `step` is the only way to change it."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._done = Done()

    # ---- the step -----------------------------------------------------------------------------

    def step(self, observations: Sequence[Observation], now_ns: int) -> Step:
        """Fold observations in, and return what shall be done now and when to look again.

        Nothing is decided before the keeper's records are known. `now_ns` is monotonic and never goes back.
        """
        for observation in observations:
            fold(self, observation, now_ns)
        if self.knows_keeper:
            self.agenda.wake_due(now_ns)
            self._plan(now_ns)
            self._confirm(now_ns)
            self._end_with_one(now_ns)
            self._tell_what_does_not_end()
            touched, orphans = self.agenda.touched, self.orphans
            self.actions += self.shutdown.go_on(self.known, touched, orphans, now_ns)
        is_busy = self.knows_keeper and self.agenda.has_backlog
        wake_at_ns = earliest(self.agenda.next_wake_ns(), self.shutdown.wake_at_ns)
        result = Step(
            tuple(self.actions),
            now_ns if is_busy else wake_at_ns,
            frozenset(self.agenda.touched),
            tuple(self.events),
            tuple(self.answered),
        )
        self.actions, self.events, self.answered, self.agenda.touched = [], [], [], set()
        return result

    def _plan(self, now_ns: int) -> None:
        """Plan until nothing more is to be done: an action may open the way for the next."""
        agenda = self.agenda
        agenda.take_backlog()
        planned = set[str]()
        for _ in range(MAX_ROUNDS):
            self._plan_sockets(now_ns)
            self.note_going(agenda.due_names())
            names, later = agenda.take(), list[str]()
            for place, name in enumerate(names):
                if len(self.actions) >= ACTIONS_PER_STEP:
                    agenda.go_on_later(names[place:])
                    break
                if len(planned) >= PLANS_PER_STEP and name not in planned:
                    later.append(name)
                    continue
                planned.add(name)
                self._plan_watcher(name, now_ns)
            agenda.go_on_later(later)
            if agenda.is_empty:
                return
        msg = f"the plan does not come to rest: {agenda.due_names()[:3]}"
        raise AssertionError(msg)

    def _plan_watcher(self, name: str, now_ns: int) -> None:
        self.agenda.touched.add(name)
        if not self._is_known(name):
            return
        slots = self.agenda.attention.slots(name, self.observed(name))
        plan = self.new_plan(name, slots, now_ns, ACTIONS_PER_STEP - len(self.actions))
        self._judge(plan)
        plan_watcher(plan, self.base_hash(name))
        is_final = plan.is_final
        if is_final:  # what is touched by its actions it has found as they leave it
            self._act(plan)
            self.agenda.rest(name)
        self.agenda.follow(name, plan)
        self.note_standing(plan)
        self.note_waiting(plan)
        if not is_final:
            self._act(plan)
        self.events += plan.events
        self.shutdown.note(plan.ended)
        self.answer(name, plan.answered)
        for other in self.brake.follow(name, plan):
            self.agenda.plan_again(other)
        if plan.is_unfinished:
            self.agenda.go_on_later((name,))
        elif plan.actions and not is_final:
            self.agenda.plan_again(name)
        elif name in self.retired and not self.observed(name).records:
            self.forget_watcher(name)

    def _act(self, plan: Plan) -> None:
        for action in plan.actions:
            act(self, action, plan.now_ns)

    def _is_known(self, name: str) -> bool:
        """Tell whether a spec says how to treat a watcher.

        Processes that no spec knows, present or former, end like those of a removed watcher, but only once
        there is a spec at all: a missing one never means that nothing is wanted.
        """
        if self.watcher_spec(name) is not None:
            return True
        if not self.observed(name).records or not (self.revision or self.shutdown.asked):
            return False
        self.retired[name] = WatcherSpec(cmd=())
        return True

    def _judge(self, plan: Plan) -> None:
        """See whether a watcher decides about the revision; when it fails, its roll stops."""
        if self.shutdown.asked is not None:
            return
        verdict = self.proof.judge(plan, self.base_hash(plan.name))
        if verdict is not None:
            act(self, verdict, plan.now_ns)
            plan.world = self.world(plan.now_ns)
            self.agenda.touched |= verdict.trial.changed.keys()
            if verdict.trial.stops_roll:
                self.look_at_gates(
                    self.spec.watchers
                )  # what they wait for is not replaced any more

    def _confirm(self, now_ns: int) -> None:
        trial, specs = self.proof.trial, self.spec.watchers
        if trial is not None and self.proof.is_proven:
            changed = (name for name in trial.changed if name in specs)
            known = {name: (specs[name], self.observed(name)) for name in changed}
            act(self, self.proof.confirm(known, now_ns), now_ns)

    def _end_with_one(self, now_ns: int) -> None:
        """End everything because one has ended: the first of those that are known when all are looked through."""
        ended = self.shutdown.first
        if ended is not None and self.shutdown.asked is None and not self.agenda.has_backlog:
            self.events.append(events.of_end(ended))
            fold(self, ShutdownAsked(code=ended.code), now_ns)

    def _tell_what_does_not_end(self) -> None:
        """Tell of those with which everything is to end (`--exit-with`) that nothing of them runs, or is about to."""
        if not self.is_in_force or self.shutdown.asked is not None or self.agenda.has_backlog:
            return
        for name in self.facts.exit_with:
            spec, observed = self.spec.watchers.get(name), self.observed(name)
            hash = self.base_hash(name)
            why = ends.why_not_to_come(name, spec, observed, hash, self.facts)
            if why and self.endless.get(name) != why:
                self.events.append(events.of_no_end(name, why))
            self.endless[name] = why

    def _plan_sockets(self, now_ns: int) -> None:
        names, world = self.agenda.take_sockets(), self.world(now_ns)
        if world.shutting_down:
            return
        # What is wanted is bound before the others are closed.
        for name in sorted(names, key=lambda name: name not in self.spec.sockets):
            actions, wake_at_ns = plan_socket(
                world, name, self.users_alive, self.is_alive, self.users.__contains__
            )
            self.agenda.follow_socket(name, wake_at_ns)
            for action in actions:
                act(self, action, now_ns)

    # ---- how it stands ------------------------------------------------------------------------

    def subject(self, name: str, now_ns: int, wall_offset_ns: int) -> Subject:
        """Return all that is known of a watcher, for `core.orders` and `core.goals`."""
        base_hash, spec = self.base_hash(name), self.spec.watchers.get(name)
        plan = Once(lambda: self._shown(name, now_ns))
        shown = Once(lambda: status.watcher_status(plan(), {}, base_hash, wall_offset_ns))
        return Subject(name, spec, self.observed(name), base_hash, self.facts, plan, shown)

    def watcher_status(
        self,
        name: str,
        now_ns: int,
        wall_offset_ns: int,
        said: Mapping[int, str] | None = None,
    ) -> WatcherStatus:
        """Return the status of a watcher. `wall_offset_ns` plus monotonic time is time since the epoch."""
        plan, base_hash = self._shown(name, now_ns), self.base_hash(name)
        return status.watcher_status(plan, said or {}, base_hash, wall_offset_ns)

    def _shown(self, name: str, now_ns: int) -> Plan:
        """Return a plan that tells what a watcher does, and is not carried out."""
        found = self.agenda.attention.found(name)
        plan = self.new_plan(name, Slots(name, self.observed(name)), now_ns)
        if found is not None:
            plan.conditions, plan.whole, plan.at_gate = (
                found.conditions,
                found.whole,
                {*found.at_gate},
            )
        else:  # what it does has changed, and it is still to be planned
            plan_watcher(plan, self.base_hash(name))
        return plan

    def outlook(self) -> Outlook | None:
        """Return when the revision on trial is judged if nothing happens; None when none is on trial."""
        return self.proof.outlook(self._why_not_running)

    def _why_not_running(self, name: str, slot: int) -> str:
        found = self.agenda.attention.found(name)
        condition = found.conditions.get(slot) if found is not None else None
        note = condition.note if condition is not None else ""
        return f"{ProcessId(name, slot)} does not run{f': {note}' if note else ' yet'}"

    def socket_statuses(self) -> tuple[SocketStatus, ...]:
        """Return the status of every socket of the spec."""
        world, watchers = self.world(0), self.spec.watchers
        return tuple(
            status.socket_status(
                world,
                name,
                {each: watchers[each] for each in self.users.get(name, ())},
                self._runs,
            )
            for name in self.spec.sockets
        )

    def _runs(self, name: str) -> bool:
        return any(isinstance(record.phase, Running) for record in self.live(name))

    def jobs_done(self, now_ns: int, touched: Collection[str] | None = None) -> int | None:
        """Return 0 or 1 by the outcomes when there are only jobs and all have ended, else None.

        `touched` are the watchers that may have changed since the last call, None: any.
        """
        looked_at = self.spec.watchers if touched is None else touched
        return self._done.code(self.spec, looked_at, lambda name: self._outcome_of(name, now_ns))

    def _outcome_of(self, name: str, now_ns: int) -> Outcome:
        if self.observed(name).records or self.spec.watchers[name].schedule is not None:
            return "open"  # the next instant always comes
        state = self.watcher_status(name, now_ns, 0).state
        tally = self.agenda.attention.tally(name)
        if state == "Waiting" and tally is not None and tally.why_stuck:
            return "failed"
        if state not in {"Completed", "Failed", "Unknown", "Held", "Stopped"}:
            return "open"
        return "failed" if state in {"Failed", "Unknown"} else "passed"
