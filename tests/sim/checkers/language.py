"""That what people say in the language comes about: each field of a watcher by the words of its meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.model.process import FileInput, FileSink, ProcessId, TerminalInput
from reconciler.model.spec import ReloadBySignal, SoftHard, StdinSpec
from reconciler.model.units import SECOND_NS as S
from tests.sim.programs import ASKING

if TYPE_CHECKING:
    from reconciler.model.process import Launch
    from reconciler.model.revision import Trial
    from reconciler.model.spec import WatcherSpec
    from tests.contract.fake_kernel import Process, Program
    from tests.sim.checkers.facts import Facts
    from tests.sim.checkers.needs import Needs
    from tests.sim.machine import Death

OVERDUE_NS = 60 * S
"""By so much a process may outlive its max_age in the calm: others of its watcher are replaced before."""

SLOW_NS = 3 * S
"""How long a process may take in the calm until it has shown that it is ready."""


class Language:
    """I20: what a spec says of a watcher is what its processes get, and when they are started, ended and kept."""

    def __init__(self, facts: Facts, needs: Needs) -> None:
        self.facts, self.world, self.kernel = facts, facts.world, facts.kernel
        self.needs = needs
        self.deaths: dict[ProcessId, list[Death]] = {}
        """Of the slots, in this boot."""
        self.failed_ns: dict[str, int] = {}
        """When a process of a watcher could not be started last, or died without having been asked to."""
        self.tried_ns: dict[ProcessId, int] = {}
        """When a slot that was given up was tried again last: its deaths count anew."""
        self._seen_deaths = self._seen_hits = 0
        self.world.on_spawn.append(self.spawned)
        self.world.on_instant.append(self.instant)
        self.world.on_judged.append(self.judged)
        self.world.on_settle.append(self.settles)
        self.world.on_power_loss.append(self.deaths.clear)

    # ---- while it goes on ----------------------------------------------------------------------

    def instant(self) -> None:
        self._note_deaths()
        for hit in self.kernel.hits[self._seen_hits :]:
            if hit.signal in ASKING and self.world.ending and hit.process.leads:
                self._goes_in_its_turn(hit.process)
            if hit.signal in ASKING | {"KILL"} and not hit.process.leads:
                self._is_within_its_scope(hit.process, hit.signal)
        self._seen_hits = len(self.kernel.hits)

    def _note_deaths(self) -> None:
        for death in self.kernel.deaths[self._seen_deaths :]:
            process = death.process
            if process.leads and process.id.role == "main":
                self.deaths.setdefault(process.id, []).append(death)
                if process.born not in self.facts.asked_ns:
                    self.failed_ns[process.id.owner] = death.at_ns
                    self._ends_within_its_timeout(death)
        self._seen_deaths = len(self.kernel.deaths)

    def _goes_in_its_turn(self, process: Process) -> None:
        """`priority`: who is asked to end at a shutdown comes after all of a lower one."""
        specs = self.world.disk.spec.watchers
        spec = specs.get(process.id.owner)
        if spec is None or process.id.role != "main" or not self.facts.has_record(process):
            return
        if self.world.people.needs is not None:
            return  # who stops later because others depend on it is judged by `Needs`
        first = self.facts.asked_ns.get(process.born, self.kernel.now) == self.kernel.now
        lower = [
            other
            for other in self.kernel.leaders()
            if other.id.role == "main"
            and other.id.owner in specs
            and specs[other.id.owner].priority < spec.priority
            and other.born not in self.facts.killed_ns
        ]
        assert not first or not lower, (
            f"{process.id} is stopped before {[str(p.id) for p in lower]}"
        )

    def _is_within_its_scope(self, process: Process, signal: str) -> None:
        """`stop.scope`: what it leaves alone is never asked to end, nor killed."""
        owner = process.id.owner
        spec = self.world.disk.spec.watchers.get(owner)
        if spec is None or process.id.role != "main" or self.world.journal_fails:
            return
        quiet = self.kernel.now - self.facts.touched_ns(owner) > 10 * S + self.world.leeway_ns
        if spec.stop.scope == "process" and quiet and self.facts.has_record(process):
            disturbed = self.kernel.now - self.world.disturbed_ns < self.world.leeway_ns
            assert disturbed, f"{signal} for {process}, which its scope leaves alone"

    def _ends_within_its_timeout(self, death: Death) -> None:
        """`timeout`: no run ends by itself long after its time."""
        owner, born = death.process.id.owner, self.facts.born_ns[death.process.born]
        spec = self.world.disk.spec.watchers.get(owner)
        if spec is None or not spec.is_job or spec.timeout is None:
            return
        if max(self.facts.touched_ns(owner), self.world.disturbed_ns) >= born:
            return
        if death.process.stopped or (not death.exit.code and death.exit.signal):
            return
        late = death.at_ns - born - spec.timeout
        if self.facts.has_hook(owner, "before_signal"):
            late -= max(self.world.people.timeouts_ns[owner])  # it may withhold all but KILL
        assert late <= self.world.leeway_ns, (
            f"{death.process.id} ran {late / S} s longer than it may"
        )

    def spawned(self, id: ProcessId, _incarnation: int, _launch: Launch, program: Program) -> None:
        self._note_deaths()
        spec = self.world.disk.spec.watchers.get(id.owner)
        if program.error is not None:
            self.failed_ns[id.owner] = self.kernel.now
        if spec is None or id.role != "main" or spec.is_job or not self.deaths.get(id):
            return
        last = self.deaths[id][-1]
        since = max(self.facts.touched_ns(id.owner), self._unsure_since())
        begun = self.facts.born_ns[
            last.process.born
        ]  # one of a former spec is replaced, however it ends
        if begun <= since or last.process.born in self.facts.asked_ns:
            return
        if self.facts.has_hook(id.owner, "after_spawn", "after_start"):
            return
        if id.slot > min(self.facts.wants(id.owner)):
            return  # one beyond those wanted serves in place of another, each time anew
        if spec.restart == "on-failure":
            well = last.exit.code in spec.success_exit_codes
            assert not well, f"{id} is started again after {last.exit}"
        self._is_not_given_up(id, spec, since)

    def _is_not_given_up(self, id: ProcessId, spec: WatcherSpec, since: int) -> None:
        """`max_restarts`: who has died too often is left to rest."""
        limit, last = spec.max_restarts, self.deaths[id][-1]
        if limit is None:
            return
        since = max(since, self.tried_ns.get(id, -1))
        recent = [
            each
            for each in self.deaths[id]
            if self.facts.born_ns[each.process.born] >= since
            and last.at_ns - each.at_ns < limit.window
            and each.process.born not in self.facts.asked_ns
        ]
        waited = limit.retry_in is not None and self.kernel.now - last.at_ns >= limit.retry_in
        assert waited or len(recent) <= limit.count, f"{id} is started after {len(recent)} deaths"
        if (
            waited
        ):  # it may have been given up: a start that failed without a process is no death in here
            self.tried_ns[id] = self.kernel.now

    def _unsure_since(self) -> int:
        """Return until when a keeper may have missed deaths, or forgotten them."""
        return max((end for _, end in self.world.unwatched), default=-1)

    # ---- revisions -----------------------------------------------------------------------------

    def judged(self, trial: Trial) -> None:
        """`apply.confirm_after`, `apply.on_failure`: a verdict says what has happened."""
        self.facts.note()  # what somebody has just said counts already
        self._note_deaths()
        if trial.outcome == "good":
            for name, first in trial.changed.items():
                self._has_stayed_up(name, first, trial)
            return
        owner = trial.watcher
        spec = self.world.disk.spec.watchers.get(owner)
        told = spec is None or spec.is_job or self.world.people.hooked_at_all(owner)
        failed = self.failed_ns.get(owner, -1) >= trial.begun_ns
        failed |= self.facts.answers.has_failed(owner, trial.begun_ns)
        assert told or failed or self.world.unwatched, f"nothing of {owner} failed: {trial.reason}"

    def _has_stayed_up(self, name: str, first: int, trial: Trial) -> None:
        spec, now = self.world.disk.spec.watchers.get(name), self.kernel.now
        if spec is None or spec.is_job or self.facts.may_rest(name):
            return
        due = (
            trial.confirm_after
            if spec.max_age is None
            else min(trial.confirm_after, spec.max_age // 2)
        )
        alive = {each.id.slot: each for each in self.facts.leaders(name)}
        for slot in range(first, min(self.facts.wants(name)) + 1):
            # Who has died in this moment is news to come.
            there = alive.get(slot)
            known = there is not None and now - self.facts.born_ns[there.born] >= due
            known = known and there is not None and self.facts.answers.may_be_ready(there)
            died = self.deaths.get(ProcessId(name, slot), [])
            just = bool(died) and now - died[-1].at_ns <= self.world.leeway_ns
            late = now - self.world.disturbed_ns <= self.world.leeway_ns
            assert known or just or late, (
                f"good, and {name}.{slot} has not stayed up for {due / S} s"
            )

    # ---- in the calm ---------------------------------------------------------------------------

    def settles(self) -> None:
        """`max_age`: nobody is much older, when nothing disturbs the rolls."""
        for name, spec in self.world.disk.spec.watchers.items():
            if spec.max_age is None or spec.is_job or self.world.people.hooked_at_all(name):
                continue
            if self.facts.may_rest(name) or not self._may_be_replaced():
                continue
            if self._takes_long(name, spec):
                continue
            for process in self.facts.leaders(name):
                age = self.kernel.now - self.facts.born_ns[process.born]
                most = spec.max_age + spec.max_age_variance + OVERDUE_NS
                assert age <= most, f"{process.id} is {age / S} s old"

    def _takes_long(self, name: str, spec: WatcherSpec) -> bool:
        """Tell whether the first slots may be too old again before the last has had its turn."""
        if spec.max_age is None or not self.world.people.has_used(name, "ready", "rollout.pause"):
            return False
        took = [S, *(each.delay or SLOW_NS for each in self.facts.answers.said(name, "ready"))]
        return (max(took) + spec.rollout.pause) * self.facts.want(name) >= spec.max_age

    def _may_be_replaced(self) -> bool:
        trial = self.world.disk.trial
        return trial is None or trial.outcome != "paused"

    def end(self) -> None:
        """What runs at rest is what the spec says now."""
        for process in self.kernel.leaders():
            spec = self.world.disk.spec.watchers.get(process.id.owner)
            if spec is None or process.id.role != "main":
                continue
            self._is_in_force(process, spec)
            owner = process.id.owner
            # A roll goes no further beside a slot that rests, nor while what its successors need is not there.
            stays = self.facts.has_given_up(owner) or self.needs.waits(owner)
            if self._may_be_replaced() and not stays and not spec.is_job:
                launch = self.world.launches[self.kernel.boots, process.id, process.incarnation]
                self._is_launched_as_said(process, spec, launch)
        self._reloads_came()
        self._lost_runs_came()
        self._sockets_are_tuned()

    def _is_in_force(self, process: Process, spec: WatcherSpec) -> None:
        held = self.world.keeper.processes.by_id[process.id].record.settings
        stop = spec.stop
        found = held.scope, held.ask, held.stop_signal, held.stop_timeout_ns
        assert found == (stop.scope, stop.ask, stop.signal, stop.timeout), f"{process.id}: {found}"
        held_output = self.world.keeper.processes.by_id[process.id].output
        output, logs = getattr(held_output, "stdout", None), spec.logs
        if isinstance(output, FileSink) and logs.stdout.to is None and self._may_be_replaced():
            options = (
                output.timestamps,
                output.max_size,
                output.keep,
                output.compress,
                output.rotate_ns,
            )
            wanted = logs.timestamps, logs.max_size, logs.keep, logs.compress, logs.rotate or 0
            assert options == wanted, f"{process.id} writes its log with {options}"

    def _is_launched_as_said(self, process: Process, spec: WatcherSpec, launch: Launch) -> None:
        slot, limits = str(process.id.slot), spec.limits
        env = {k: v and v.replace("${slot}", slot) for k, v in spec.env.items()}
        env |= {"VIRTUAL_ENV": spec.virtualenv} if spec.virtualenv else {}
        assert launch.env == env, f"{process.id} has {launch.env}"
        place = spec.working_dir and spec.working_dir.replace("${slot}", slot)
        found = launch.working_dir, launch.umask, launch.user, launch.group, launch.inherit_env
        assert found == (place, spec.umask, spec.user, spec.group, spec.inherit_env), (
            f"{process.id}: {found}"
        )
        stdin: object = TerminalInput() if spec.stdin == "pty" else None
        if isinstance(spec.stdin, StdinSpec):
            stdin = FileInput(spec.stdin.file.replace("${slot}", slot))
        assert launch.stdin == stdin, f"{process.id} reads {launch.stdin}"
        path = (f"{spec.virtualenv}/bin",) if spec.virtualenv else ()
        assert launch.path_prefix == path
        scheduling = launch.nice, launch.cpu_affinity, launch.oom_score_adj
        assert scheduling == (limits.nice, limits.cpu_affinity, limits.oom_score_adj)
        for name in (
            "as_",
            "core",
            "cpu",
            "data",
            "fsize",
            "memlock",
            "msgqueue",
            "nofile",
            "nproc",
            "rtprio",
        ):
            said = getattr(limits, name)
            if said is not None:
                assert not isinstance(said, SoftHard | str)
                assert launch.limits[name.rstrip("_")] == (said, said), f"{process.id}: {name}"

    def _reloads_came(self) -> None:
        """`reload`: whoever ran when it was asked for has got the signal, if nothing else was said since."""
        for at_ns, name, signal in self.world.people.reloads:
            spec = self.world.disk.spec.watchers.get(name)
            if spec is None or spec.reload != ReloadBySignal(signal=signal):
                continue
            if self.world.people.reload_edited_ns.get(name, -1) >= at_ns:
                continue
            if self.facts.has_hook(name, "before_signal", "after_spawn"):
                continue
            for process in self.facts.leaders(name):
                if self.facts.born_ns[process.born] >= at_ns or self.world.journal_fails:
                    continue
                got = [h for h in self.kernel.hits if h.process is process and h.signal == signal]
                assert any(hit.at_ns >= at_ns for hit in got), f"{process.id} was never reloaded"

    def _lost_runs_came(self) -> None:
        """`on_lost: rerun`: no slot rests upon a run that was lost."""
        disk = self.world.disk
        for name, spec in disk.spec.watchers.items():
            want = self.facts.want(name)
            if not spec.is_job or spec.on_lost != "rerun" or name not in disk.generations:
                continue
            for slot, run in disk.runs.get(name, {}).items():
                is_newest = run.generation == disk.generations[name].number
                lost = run.outcome == "lost" and is_newest and slot <= want
                assert not lost, f"{name}.{slot} was lost and is not fired again"

    def _sockets_are_tuned(self) -> None:
        said = {str(each.listen): each for each in self.world.disk.spec.sockets.values()}
        taken = self.facts.taken_sockets()
        for socket in self.kernel.held():
            if taken and socket.listen not in said:
                continue  # another address, as the right one is taken
            assert socket.listen in said, f"{socket.listen} is bound, and wanted is {[*said]}"
            spec, is_now = said[socket.listen], socket.template
            found = is_now.backlog, is_now.nodelay, is_now.keepalive
            assert found == (spec.backlog, spec.nodelay, spec.keepalive), (
                f"{socket.listen}: {found}"
            )
