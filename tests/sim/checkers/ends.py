"""How processes are ended, and that each end is told as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.model.action import RecordRun, Signal
from reconciler.model.observation import RecordChanged
from reconciler.model.process import Exit, Exited, ProcessId
from reconciler.model.units import SECOND_NS as S
from tests.sim.programs import ASKING

if TYPE_CHECKING:
    from reconciler.model.action import StoreAction
    from reconciler.model.job import Run
    from reconciler.model.observation import KeeperObservation
    from tests.contract.fake_kernel import Process
    from tests.sim.checkers.facts import Facts
    from tests.sim.machine import Death, Hit

PROMPT_NS = 5 * S
"""In which time a manager that nothing disturbs does what is due."""
Key = tuple[int, ProcessId, int]
"""A process of the keeper's: in which boot, its name and incarnation."""


class Ends:
    """I3, I5, I11."""

    def __init__(self, facts: Facts) -> None:
        self.facts, self.world, self.kernel = facts, facts.world, facts.kernel
        self.truth: dict[Key, Exit] = {}
        self.ended_ns: dict[Key, int] = {}
        self.told: dict[Key, Exit] = {}
        self.generations: dict[tuple[ProcessId, int], Key] = {}
        self.named: set[tuple[ProcessId, int, str]] = set()
        self.strays: set[Key] = set()
        self.waiting: dict[int, Process] = {}
        """Processes that were asked to end and have not, by birth."""
        self.intruded_ns = 0
        """When a new keeper still waited for the end of processes that must not be here."""
        self._seen_actions = self._seen_hits = self._seen_deaths = 0
        self.world.on_instant.append(self.instant)
        self.world.on_heard.append(self.heard)
        self.world.on_committed.append(self.committed)
        self.world.on_keeper_death.append(self.keeper_died)
        self.world.on_power_loss += [self.waiting.clear, self.named.clear]
        self.kernel.on_born.append(self.born)

    def _key(self, process: Process) -> Key:
        return (self.kernel.boots, process.id, process.incarnation)

    def born(self, process: Process) -> None:
        if process.id.role == "main":
            memory = self.world.keeper.processes.by_id[process.id].record.memory
            if memory.generation:
                self.generations[process.id, memory.generation] = self._key(process)

    # ---- what is told -------------------------------------------------------------------------

    def heard(self, observation: KeeperObservation) -> None:
        """I3: whatever a controller hears of an end is what happened."""
        if isinstance(observation, RecordChanged) and isinstance(observation.record.phase, Exited):
            self._note_deaths()
            key = (self.kernel.boots, observation.record.id, observation.record.incarnation)
            self._tells_the_truth(key, observation.record.phase)

    def _tells_the_truth(self, key: Key, phase: Exited) -> None:
        if phase.pid is None:
            # Or its keeper died between writing it down and starting it.
            cut = phase.exit == Exit() and (
                key not in self.truth
                or self.facts.was_unwatched(self.ended_ns[key])
                or self.world.journal_fails  # it knows an old beginning and nothing of the rest
            )
            assert cut or phase.exit.error is not None, f"{key[1]} never ran, nobody says why"
            self.told[key] = phase.exit
            return
        real = self.truth.get(key)
        assert real is not None, f"{key[1]} is said to have ended and has not"
        unknown = self._may_be_unknown(key) and (phase.exit == Exit() or self._is_another(key[1]))
        assert unknown or phase.exit == real, f"{key[1]} ended with {real}, told is {phase.exit}"
        self.told[key] = phase.exit

    def _is_another(self, id: ProcessId) -> bool:
        """Tell whether what was adopted may be an escaped child of the process that it was taken for.

        Of a process whose keeper died before it wrote down the pid, the marker tells no more than that.
        """
        return "escaped survivors" in self.world.faults.strength and id.role == "main"

    def _is_stood_in_for(self, key: Key) -> bool:
        """Tell whether nobody knows a process dead because a child of its was adopted in its place."""
        unseen = self.facts.was_unwatched(self.ended_ns[key])
        return unseen and key in {self._key(each) for each in self.facts.stand_ins()}

    def _may_be_unknown(self, key: Key) -> bool:
        """Tell whether a status may be said to be unknown: of one that ended while no keeper lived to see it."""
        adopted = bool(self.world.unwatched) and not self.kernel.tells_exits
        return adopted or self.world.journal_fails or self.facts.was_unwatched(self.ended_ns[key])

    def committed(self, action: StoreAction) -> None:
        """I3, I7: the outcome of a run is that of the process of its own generation."""
        if isinstance(action, RecordRun) and action.run.outcome is not None:
            self._note_deaths()
            self._outcome_is_true(ProcessId(action.watcher, action.run.slot), action.run)

    def _outcome_is_true(self, id: ProcessId, run: Run) -> None:
        key = self.generations.get((id, run.generation))
        real = None if key is None else self.truth.get(key)
        if run.outcome in {"succeeded", "failed", "timeout"}:
            assert run.exit is not None
            if run.exit.error is not None:
                return
            assert real is not None and key, (
                f"{id} is {run.outcome} in {run.generation} and never ended"
            )
            unknown = run.outcome == "timeout" and self._may_be_unknown(key)
            unknown &= run.exit == Exit() or self._is_another(id)
            assert unknown or run.exit == real, f"{id} ended with {real}, written is {run.exit}"
            self._outcome_fits(id, run, real)
        if run.outcome == "lost":
            assert run.keeper_id != self.world.keeper_id, f"{id} is lost under its own keeper"
            known = key in self.told and self.told[key] != Exit() and key[0] == self.kernel.boots
            # What cannot be executed is tried again, and it is the last try of which nothing is known.
            if known and self.told[key].error is not None:
                known = self.facts.said_ns.get(id, -1) < self.ended_ns.get(key, 0)
            assert not known or self.world.journal_fails, f"{id} is lost, and {self.told} is known"

    def _outcome_fits(self, id: ProcessId, run: Run, real: Exit) -> None:
        """A run has succeeded with an exit code that counts as such, by one of the specs that it ever had."""
        if run.outcome == "timeout":
            assert self.world.people.has_used(id.owner, "timeout"), f"{id} has no timeout"
            return
        codes = self.world.people.used.get((id.owner, "success_exit_codes"), [])
        spec_codes = [(0,), *codes]
        if run.outcome == "succeeded":
            fits = any(real.code in each for each in spec_codes)
        else:
            fits = any(real.code not in each for each in spec_codes)
        assert fits, f"{id}: {real} {run.outcome}"

    def keeper_died(self) -> None:
        """Whoever the journal does not know is a stray for the next keeper, and its end is nobody's news."""
        written = self.kernel.journal
        for process in self.kernel.leaders():
            name = f"process {process.id}"
            if process.id.owner != "controller" and not any(name in each for each in written):
                self.strays.add(self._key(process))

    def _note_deaths(self) -> None:
        for death in self.kernel.deaths[self._seen_deaths :]:
            if death.process.leads:
                self._died(death)
        self._seen_deaths = len(self.kernel.deaths)

    def _died(self, death: Death) -> None:
        key = self._key(death.process)
        twice = key in self.truth and not self.world.journal_fails
        assert not twice, f"{death.process.id} dies twice"
        self.truth[key], self.ended_ns[key] = death.exit, death.at_ns
        self.waiting.pop(death.process.born, None)

    def end(self) -> None:
        """I3: every exit was told, once the manager had the time to."""
        self._note_deaths()
        untold = [
            key
            for key, exit in self.truth.items()
            if key[0] == self.kernel.boots
            and key not in self.told
            and exit.error is None
            and key not in self.strays
            and not self._is_stood_in_for(key)
        ]
        assert not untold or self.world.journal_fails, (
            f"nobody was told how {[f'{k[1]}/{k[2]}' for k in untold]} ended"
        )

    # ---- how they are asked -------------------------------------------------------------------

    def instant(self) -> None:
        for _, action in self.world.actions[self._seen_actions :]:
            if isinstance(action, Signal):
                self.named.add((action.id, action.incarnation, action.signal))
        self._seen_actions = len(self.world.actions)
        for hit in self.kernel.hits[self._seen_hits :]:
            self._hits_whom_it_means(hit)
            if hit.process.leads and hit.process.id.role == "main":
                if hit.signal == "KILL":
                    self._kill_is_allowed(hit)
                elif hit.signal in ASKING and hit.process.born not in self.waiting:
                    if hit.process.ended is None:
                        self.waiting[hit.process.born] = hit.process
        self._seen_hits = len(self.kernel.hits)
        self._note_deaths()
        self._kill_comes()

    def _hits_whom_it_means(self, hit: Hit) -> None:
        """I5: every signal was meant for this very incarnation."""
        process = hit.process
        if process.id.owner == "controller":
            return
        if not self.facts.has_record(process) or self.world.journal_fails:
            return  # a stray of a killed keeper, which must not stay
        if self.facts.may_be_nobodys(process):
            return  # it may be taken for what another one has left behind
        meant = (process.id, process.incarnation, hit.signal)
        assert meant in self.named, f"{hit.signal} hits {process}, which nobody meant"

    def _kill_is_allowed(self, hit: Hit) -> None:
        """I11: TERM first, and KILL not before the grace period is over."""
        process, owner = hit.process, hit.process.id.owner
        if not self.facts.has_record(process):
            return
        if self.facts.has_hook(owner, "before_signal"):
            return  # a hook may withhold the first signal, and counts inside the grace period
        asked = self.facts.asked_ns.get(process.born)
        if self.world.people.has_used(owner, "stop.cmd") and asked is None:
            # The command could not be started; the clock runs all the same.
            asked = self.facts.said_ns.get(ProcessId(owner, process.id.slot, "stop"))
        if asked in self.world.resumed_ns:
            return  # a keeper that was stopped itself passes on late, and together, what it was told
        assert asked is not None, f"KILL for {process.id}, which was never asked to end"
        shortest = min(self.world.people.timeouts_ns[owner])
        assert hit.at_ns - asked >= shortest - S, (
            f"KILL for {process.id} after {(hit.at_ns - asked) / S}s"
        )

    def _kill_comes(self) -> None:
        """I11: what does not end in its grace period is killed, unless the manager was kept from it."""
        if self.world.keeper.processes.intruders.are_here:
            # What nobody wrote down goes first, within ten seconds, and until then there is no controller.
            self.intruded_ns = self.kernel.now
        quiet_since = max(self.world.disturbed_ns, self.intruded_ns)
        for born, process in self.waiting.items():
            if born in self.facts.killed_ns or born not in self.facts.asked_ns:
                continue
            asked_ns, unwatched = self.facts.asked_ns[born], self.world.unwatched
            if self.world.journal_fails and asked_ns <= unwatched[-1][1]:
                continue  # that it was asked could not be written down, and it may be wanted again
            if any(begin == asked_ns for begin, _ in unwatched):
                continue  # nor could a keeper that was killed in the same step
            longest = max(self.world.people.timeouts_ns[process.id.owner])
            due = max(self.facts.asked_ns[born] + longest, quiet_since) + PROMPT_NS
            assert self.kernel.now <= due, f"{process.id} was asked to end, did not, and lives on"
