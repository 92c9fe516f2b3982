"""Bugs planted on purpose: the simulation must find each, or its checkers are worth nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from reconciler.core import (
    backoff,
    brake,
    dependencies,
    desired,
    fold,
    gates,
    generations,
    hooks,
    jobs,
    picture,
    probes,
    readiness,
    reconciler,
    recovery,
    rollout,
    running,
    secrets,
    services,
    settings,
    standing,
    stopping,
    surge,
    template,
    timetable,
    verdict,
    watchers,
)
from reconciler.core import sockets as core_sockets
from reconciler.core.stop_order import StopOrder
from reconciler.core.template import same_template
from reconciler.keeper import keeper as keeper_module
from reconciler.keeper.keeper import Keeper
from reconciler.keeper.listeners import Listeners
from reconciler.keeper.orphans import Orphans
from reconciler.keeper.processes import Processes
from reconciler.keeper.succession import adoption
from reconciler.keeper.succession.notes import INCARNATIONS, Notes
from reconciler.model.action import Bind, Remember, Signal, Unbind
from reconciler.model.observation import ClockSet, SnapshotEnded
from reconciler.model.process import Exit, Exited, Memory, Running
from reconciler.model.units import SECOND_NS
from reconciler.model.value import replace


class Bug(NamedTuple):
    """Which function of which place is replaced by what is made of it, and a seed that notices."""

    place: object
    function: str
    make: Callable[[Any], Any]
    seed: int
    faults: str = ""
    """With which it does; empty: with its own."""


def _always(value: object) -> Callable[[Any], Any]:
    return lambda original: lambda *args, **options: value


def _whatever_has_changed(_original: Any) -> Any:
    """A restart of all at once counts for what was edited since, too."""
    return lambda plan, record, wanted_hash: plan.observed.intent.at_once


def _no_gate(original: Any) -> Any:
    """before_spawn and before_start are taken as passed."""

    def drive(plan: Any, role: str, slot: int, about: int, details: Any = None) -> Any:
        if role in {"before_spawn", "before_start"}:
            return hooks.PASSED
        return original(plan, role, slot, about, details)

    return drive


def _without_record_first(original: Any) -> Any:
    """A run counts as written while it is on its way to the disk."""

    def close(plan: Any, slot: int) -> None:
        plan.observed = replace(plan.observed, writing={})
        original(plan, slot)

    return close


def _tells_nobody(original: Any) -> Any:
    """Nobody is looked at again when it changes how another watcher stands."""

    def note(self: Any, plan: Any) -> None:
        graph, self.graph = (
            self.graph,
            replace(self.graph, dependents=dict.fromkeys(self.graph.dependents, ())),
        )
        original(self, plan)
        self.graph = graph

    return note


def _only_by_priority(original: Any) -> Any:
    def why_wait(self: Any, name: str, spec: Any) -> str:
        before, self._before = self._before, {}
        found: str = original(self, name, spec)
        self._before = before
        return found

    return why_wait


def _ready_when_started(original: Any) -> Any:
    def met(*of: Any, **how: Any) -> Any:
        found = original(*of, **how)
        return found | {"ready"} if "started" in found else found

    return met


def _succeeded_when_completed(original: Any) -> Any:
    def met(*of: Any, **how: Any) -> Any:
        found = original(*of, **how)
        return found | {"succeeded"} if "completed" in found else found

    return met


def _kill_at_once(original: Any) -> Any:
    return lambda plan, record: record.memory.stopping_since_ns


def _forgets_stopping(original: Any) -> Any:
    """What was asked of a process is not remembered."""

    def remember(plan: Any, record: Any, memory: Any) -> Any:
        return original(plan, record, replace(memory, asked=False))

    return remember


def _restarts_on_labels(original: Any) -> Any:
    return lambda spec, sockets: (
        original(spec, sockets) + str(sorted(spec.labels.items()))[:40].replace(".", "")
    )


def _closes_sockets(original: Any) -> Any:
    """Every plan of a socket closes a wanted one that is bound."""

    def plan(world: Any, name: str, *rest: Any) -> Any:
        actions, wake_at_ns = original(world, name, *rest)
        if world.now_ns > 5 * SECOND_NS and "http" in world.sockets and not actions:
            return [Unbind("http")], wake_at_ns
        return actions, wake_at_ns

    return plan


def _drops_link(original: Any) -> Any:
    """What the dead controller had still said is thrown away, and so is what it never got to know."""

    def reap(self: Processes) -> None:
        supervisor, died = self._supervisor, self._supervisor.died

        def drops(exit: Exit) -> None:
            while supervisor._linked and supervisor._kernel.receive():
                pass
            supervisor.actions.clear()
            for process in list(self.by_id.values()):
                if isinstance(process.record.phase, Exited):
                    self._forget(process)
            died(exit)

        supervisor.died = drops  # type: ignore[method-assign]  # for this once
        try:
            original(self)
        finally:
            supervisor.died = died  # type: ignore[method-assign]  # as before

    return reap


def _spawns_doubly(original: Any) -> Any:
    """A spawn over a live record is not refused."""

    def spawn(self: Processes, action: Any) -> None:
        self.by_id.pop(action.id, None)
        original(self, action)

    return spawn


def _no_survivors(original: Any) -> Any:
    return lambda self, process: None


def _trusts_late_news(original: Any) -> Any:
    """Survivors do not hold up a respawn."""

    def bury(plan: Any, record: Any, *reason: str) -> bool:
        original(plan, record, *reason)
        return True

    return bury


def _kills_instead(original: Any) -> Any:
    def ask(plan: Any, record: Any) -> Any:
        plan.act(Signal(record.id, record.incarnation, "KILL", "tree"))
        return original(plan, record)

    return ask


def _binds_early(original: Any) -> Any:
    """The sockets of a slot are bound with those that it shares, and stay while something else is waited for."""

    def gate(plan: Any, slot: int) -> Any:
        found = original(plan, slot) or core_sockets.own_sockets(plan, slot)
        plan.binding.add(slot)
        return found

    return gate


def _rolls_when_one_is_missing(original: Any) -> Any:
    """A slot counts as serving whatever becomes of it."""
    return lambda plan, record: record is not None


def _keeps_no_pause(original: Any) -> Any:
    """A slot is done with as soon as its new process is ready."""
    return rollout.is_available


def _lets_one_more(original: Any) -> Any:
    return lambda *args: original(*args) + 1


def _counts_those_to_come(original: Any) -> Any:
    """A slot beyond those wanted counts from its start on."""
    return lambda plan, base_hash: sum(slot in plan.slots.mains for slot in surge.beyond(plan))


def _lets_them_go_early(original: Any) -> Any:
    """A slot beyond those wanted goes with the last one that has been asked to end."""

    def next_slots(plan: Any, roll: Any, *rest: Any) -> Any:
        return original(plan, roll, *rest) if roll.put_off else {}

    return next_slots


def _frees_its_place_early(original: Any) -> Any:
    """A slot counts as being replaced until its old process is dead."""
    return lambda record: (
        not isinstance(record.phase, Running)
        or (record.memory.stopping_since_ns is not None and original(record))
    )


def _forgets_restarts(original: Any) -> Any:
    """What was started before a restart is as good as what comes after it."""
    return lambda plan, record, wanted: (
        original(plan, record, wanted) and not same_template(record.template_hash, wanted)
    )


def _waits_for_no_hook(original: Any) -> Any:
    """before_spawn is asked when the old process has gone."""

    def before_replacement(plan: Any, record: Any, wanted: str, **how: Any) -> Any:
        own = replace(plan.spec.hooks, before_spawn=None)
        spec, plan.spec = plan.spec, replace(plan.spec, hooks=own)
        found = original(plan, record, wanted, **how)
        plan.spec = spec
        return found

    return before_replacement


def _asks_hook_again(original: Any) -> Any:
    """A verdict is thrown away while something else keeps its step from being taken."""
    return lambda plan, role, slot: None


def _unbinds_first(original: Any) -> Any:
    """The old socket is closed before the new one is there."""

    def bind(self: Listeners, asked: Any, processes: Any) -> None:
        self.unbind(asked.name)
        original(self, asked, processes)

    return bind


def _misreports(original: Any) -> Any:
    """The exit status of one process is told of another."""

    def reap(self: Processes) -> None:
        original(self)
        for each in self.draining:
            assert each.died is not None
            if each.died.exit.code == 1:
                each.died = replace(each.died, exit=replace(each.died.exit, code=0))

    return reap


def _keeps_output(original: Any) -> Any:
    """The output of the dead stays open until their record goes."""

    def announce(self: Processes) -> Any:
        kept = [(each, each.output) for each in self.draining]
        due = original(self)
        for process, output in kept:
            if output is not None and process not in self.draining:
                output.closed, process.output = False, output
        return due

    return announce


def _forgets_memory(original: Any) -> Any:
    """What the controller wants remembered is not."""

    def act_on(self: Processes, action: Any) -> None:
        if not isinstance(action, Remember):
            original(self, action)

    return act_on


def _tells_once(original: Any) -> Any:
    """A new controller is told of live processes only."""

    def start(self: Keeper) -> Any:
        due, untold, records = original(self), self._supervisor._untold, self.processes.by_id
        for id in [each for each in untold if each in records]:
            if isinstance(records[id].record.phase, Exited):
                del untold[id]
        return due

    return start


def _restarts_one(original: Any) -> Any:
    """A new controller replaces what it finds."""

    def fold(self: Any, observation: Any, now_ns: int) -> None:
        original(self, observation, now_ns)
        for name, seen in self.known.items() if isinstance(observation, SnapshotEnded) else ():
            records = {id: replace(r, template_hash="?") for id, r in seen.records.items()}
            self.known[name] = replace(seen, records=records)

    return fold


def _stops_before_hook(original: Any) -> Any:
    """before_stop is not waited for and not run."""

    def drive(plan: Any, role: str, *rest: Any, **options: Any) -> Any:
        return hooks.PASSED if role == "before_stop" else original(plan, role, *rest, **options)

    return drive


def _after_stop_early(original: Any) -> Any:
    """after_stop runs as soon as everybody was asked to end."""

    def stop_whole(plan: Any, reason: str) -> bool:
        if plan.slots.mains and not plan.world.stop_now:
            start = plan.slots.any_main().memory.start
            services.drive(plan, "after_stop", 0, start, {"reason": reason})
        return bool(original(plan, reason))

    return stop_whole


def _outcome_by_hope(original: Any) -> Any:
    return lambda spec, memory, exit: "succeeded"


def _repeats_lost_runs(original: Any) -> Any:
    """A run whose process nobody knows of is started again, under whatever keeper."""

    def close(plan: Any, slot: int) -> None:
        world = plan.world
        runs = {
            slot: replace(run, keeper_id=world.facts.keeper_id)
            for slot, run in plan.observed.job.runs.items()
        }
        plan.observed = replace(plan.observed, job=replace(plan.observed.job, runs=runs))
        original(plan, slot)

    return close


def _kill_is_withheld(original: Any) -> Any:
    return lambda plan, record: original(plan, record) + 10**12


def _old_spec(original: Any) -> Any:
    """An edit that adds or removes nothing is not taken."""

    def fold(self: Any, observation: Any) -> None:
        if self.spec.watchers.keys() != observation.spec.watchers.keys():
            original(self, observation)

    return fold


def _socket_rebound(original: Any) -> Any:
    """A socket is bound anew at each spec."""

    def fold(self: Any, observation: Any) -> None:
        original(self, observation)
        for name, record in list(self.sockets.items()):
            self.actions.append(Unbind(name))
            self.actions.append(Bind(name, record.template))

    return fold


def _counts_anew(original: Any) -> Any:
    def take_over(kernel: Any) -> Any:
        found = original(kernel)
        found.incarnations = 0
        return found

    return take_over


def _hands_over_no_count(original: Any) -> Any:
    return lambda self, *rest: {**original(self, *rest), INCARNATIONS: 0}


def _hands_over_no_dead(original: Any) -> Any:
    def whole(self: Notes, *rest: Any) -> Any:
        found, processes = original(self, *rest), self._processes.items()
        dead = {f"process {id}" for id, p in processes if isinstance(p.record.phase, Exited)}
        return {name: each for name, each in found.items() if name not in dead}

    return whole


def _ended_well(original: Any) -> Any:
    return lambda pid, exit: original(pid, Exit(code=0) if exit == Exit() else exit)


def _without_memory(original: Any) -> Any:
    def restore(self: Any, written: Any) -> Any:
        process = original(self, written)
        process.record = replace(process.record, memory=Memory())
        return process

    return restore


def _but(*reasons: str) -> Callable[[Any], Any]:
    """Whatever is said for these reasons is not done."""

    def make(original: Any) -> Any:
        def found(*args: Any, **options: Any) -> Any:
            said = original(*args, **options)
            return None if said in reasons else said

        return found

    return make


def _later(original: Any) -> Any:
    return lambda *args, **options: original(*args, **options) + 10**15


def _always_tree(original: Any) -> Any:
    """Whatever a dead process has left must be gone."""

    def survivors(self: Any, process: Any) -> Any:
        left = set(self.of(process))
        return left, ()

    return survivors


def _forgets_what_was_fired(original: Any) -> Any:
    """Of what was fired nothing is remembered but the last: the clock may come by it once more."""
    return lambda table, instant, known: ()


def _catches_up_always(original: Any) -> Any:
    """What was missed is fired whatever `catch_up` says."""

    def take(plan: Any, schedule: Any, *rest: Any) -> Any:
        return original(plan, replace(schedule, catch_up="once"), *rest)

    return take


def _knows_one_clock(original: Any) -> Any:
    """That the clock was set is not noticed once it is known."""

    def calendar(it: Any, observation: Any, now_ns: int) -> None:
        if it.wall_offset_ns is None or not isinstance(observation, ClockSet):
            original(it, observation, now_ns)

    return calendar


def _counts_the_hold(original: Any) -> Any:
    """What came while the schedule was not in force is caught up with."""

    def begun(plan: Any, schedule: Any, table: Any, wall_ns: int) -> Any:
        if table is not None and table.since_ns is None:
            table = replace(table, since_ns=wall_ns - 30 * SECOND_NS)
        return original(plan, schedule, table, wall_ns)

    return begun


def _loses_the_timetable(original: Any) -> Any:
    """A new controller does not know how far a schedule has come."""

    def job(it: Any, watcher: str, known: Any, now_ns: int) -> None:
        original(it, watcher, replace(known, timetable=None), now_ns)

    return job


def _passes_over_silently(original: Any) -> Any:
    """An instant that is late is dealt with as if it were not there."""

    def come(plan: Any, schedule: Any, table: Any, wall_ns: int) -> Any:
        found = original(plan, schedule, table, wall_ns)
        return None if found is None or wall_ns - found.at_ns > 3 * SECOND_NS else found

    return come


def _ready_by_age(original: Any) -> Any:
    """Nobody has to show that it is ready."""
    return lambda plan, record: readiness._age(plan, record, readiness.READY_AFTER_NS)


def _early(original: Any) -> Any:
    def deadline_ns(*of: Any) -> Any:
        found = original(*of)
        return None if found is None else found - 2 * SECOND_NS

    return deadline_ns


def _impatient(original: Any) -> Any:
    """One answer is enough, however many the spec asks for."""
    return lambda *times, **more: replace(original(*times, **more), failures=1, successes=1)


def _restarts_the_healthy(original: Any) -> Any:
    """With an unhealthy process all others of its watcher are restarted."""
    return lambda plan, hashes: frozenset(hashes) if original(plan, hashes) else frozenset()


def _is_no_failure(original: Any) -> Any:
    """Who was stopped because it was late or unhealthy does not count as one that has failed."""

    def failures_after(spec: Any, record: Any) -> Any:
        reason = record.memory.stop_reason
        return record.memory.attempt if reason == "not_ready" else original(spec, record)

    return failures_after


def _starts_what_was_stopped(original: Any) -> Any:
    """`action: stop` is as `restart`."""

    def after_death(plan: Any, record: Any, wanted_hash: str) -> Any:
        found = original(plan, record, wanted_hash)
        is_stopped = found is not None and found.note.startswith("stopped: unhealthy")
        return None if is_stopped else found

    return after_death


def _serves_by_age(original: Any) -> Any:
    """A roll waits for a second, and not until its process is ready."""

    def is_available(plan: Any, record: Any) -> bool:
        if record is None or record.memory.stopping_since_ns is not None:
            return False
        is_running = isinstance(record.phase, Running)
        return is_running and plan.is_due(record.phase.started_at_ns + SECOND_NS)

    return is_available


LATE = "ready=0.7, late readiness=0.7, never ready=0.3, hooks.after_ready=0.3"
SICK = "health=0.7, sickness=0.7"
BUGS: dict[str, Bug] = {
    # the language
    "secrets are not waited for": Bug(secrets, "ready", _always(True), 33),
    "what has succeeded is started again": Bug(
        gates, "is_completed", _always(False), 1, "restart: on-failure=0.7, exits=0.6"
    ),
    "nothing is ever given up": Bug(
        gates,
        "gave_up",
        _always(False),
        0,
        "max_restarts=0.7, quick exits=0.6, busy people=0.05",
    ),
    "nothing is ever too old": Bug(rollout, "lifetime_ns", _later, 43),
    "a revision is good at once": Bug(verdict, "find", _always({}), 3),
    "what runs well is held against its revision": Bug(
        rollout, "why_failed", _always("did not stay up"), 39
    ),
    "reloads are forgotten": Bug(
        running,
        "carry_out_reload",
        _always(None),
        6,
        "reload=0.7, order reload=0.7, busy people=0.6",
    ),
    "all stop together": Bug(picture, "is_going", _always(False), 74),
    "edits of what is in force are not taken": Bug(settings, "pending", _always(None), 37),
    "stop commands are not run": Bug(stopping, "run_command", _always(None), 38),
    "lost runs stay lost": Bug(
        generations,
        "lost_slots",
        _always(()),
        214,
        "full journal=0.6, power losses=0.6, logs.stdout.to=0.3, logs.timestamps=0.7, "
        "logs.max_size=0.3, logs.mode=0.3, hook.timeout=0.7, rerun_on=0.3, on_lost=0.7, "
        "apply.on_failure=0.3, limits.memlock=0.7, limits.msgqueue=0.3, limits.nofile=0.3, "
        "limits.rtprio=0.3",
    ),
    "runs have all the time": Bug(
        jobs,
        "_why_stop",
        _but("timeout"),
        189,
        "wiped environments=0.6, backoff.factor=0.3, max_age_variance=0.3, "
        "logs.stderr.to=0.3, logs.compress=0.3, hook.timeout=0.3, hook.on_error=0.7, "
        "timeout=0.7, overlap=0.3, limits.oom_score_adj=0.7",
    ),
    "the scope is always the tree": Bug(Orphans, "survivors", _always_tree, 11),
    "limits are left out": Bug(template, "_limits", _always({}), 1),
    "an order to stop is never over": Bug(watchers, "_words_end", _always(False), 4),
    "autostart is always on": Bug(
        desired,
        "wanted",
        lambda f: lambda spec, intent: f(replace(spec, autostart=True), intent),
        2,
    ),
    # core
    "no backoff": Bug(backoff, "wait_ns", _always(0), 115),
    "a roll does not wait": Bug(rollout, "is_available", _rolls_when_one_is_missing, 165),
    # rolls
    "what has crashed does not count for a roll": Bug(rollout, "missing_slots", _always([]), 7),
    "one more is replaced at a time than may be": Bug(
        desired, "max_unavailable", _lets_one_more, 0
    ),
    "nobody is left alone after a replacement": Bug(rollout, "is_settled", _keeps_no_pause, 15),
    "a roll goes on past what has failed": Bug(
        rollout,
        "has_failed",
        _always(False),
        69,
        "quick exits=0.2, rollout.max_unavailable=0.7, busy people=0.2",
    ),
    "one restart at once lets all later rolls be": Bug(
        rollout, "is_at_once", _whatever_has_changed, 30
    ),
    "restarts of what is up to date are forgotten": Bug(
        rollout, "is_outdated", _forgets_restarts, 15
    ),
    "a process gives way before its hook has passed": Bug(
        gates, "before_replacement", _waits_for_no_hook, 25
    ),
    "a process gives way though no socket is there": Bug(
        rollout, "waiting_for_shared", _always(None), 1
    ),
    "those beyond count before they serve": Bug(surge, "serving", _counts_those_to_come, 26),
    "those beyond go before the last is replaced": Bug(
        surge, "next_slots", _lets_them_go_early, 26
    ),
    "one more than may be runs beside those wanted": Bug(desired, "max_surge", _lets_one_more, 0),
    "nobody waits for a place": Bug(gates, "_place", _always(None), 206),
    "a place is free before a successor is ready": Bug(
        brake, "_is_being_replaced", _frees_its_place_early, 206
    ),
    "a passed hook is asked again": Bug(hooks, "keep", _asks_hook_again, 162),
    "before_stop is skipped": Bug(services, "drive", _stops_before_hook, 5),
    "before_stop is not waited for": Bug(
        services, "_may_stop_whole", lambda f: lambda *of: f(*of) or not of[0].waits_to_stop, 6
    ),
    "after_stop comes early": Bug(services, "_stop_whole", _after_stop_early, 4),
    "every run succeeds": Bug(jobs, "outcome_of", _outcome_by_hope, 0),
    "lost runs are fired again": Bug(jobs, "_close_orphaned_run", _repeats_lost_runs, 1),
    "KILL never comes": Bug(stopping, "deadline_ns", _kill_is_withheld, 2),
    "edits are not taken": Bug(fold, "_spec", _old_spec, 4),
    "every edit binds sockets anew": Bug(fold, "_spec", _socket_rebound, 0),
    "a new controller replaces what it finds": Bug(reconciler, "fold", _restarts_one, 4),
    "our own processes keep an address taken": Bug(
        rollout,
        "keeps_a_socket",
        _always(False),
        41,
        "ignored TERM=0.6, slow ends=0.6, busy people=0.6",
    ),
    "who keeps an address from what it waits for waits for it": Bug(
        dependencies, "kept_back", _always(set()), 12214
    ),
    # dependencies
    "nobody waits for others": Bug(dependencies, "held", _always(None), 12),
    "who waits is not told that its dependency is there": Bug(
        picture.Picture, "note_standing", _tells_nobody, 12
    ),
    "a process gives way before its successor could start": Bug(
        gates, "before_replacement", _always(None), 20
    ),
    "dependents stop last": Bug(StopOrder, "why_wait", _only_by_priority, 8),
    "a started dependency is ready": Bug(standing, "_met", _ready_when_started, 12),
    "a failed job has succeeded": Bug(standing, "_met", _succeeded_when_completed, 52),
    # adoption
    "users of the former socket are taken for users of the lost one": Bug(
        adoption,
        "_may_hold",
        _always(True),
        3,
        "keeper kills=0.6, busy people=0.6, slow ends=0.6, ignored TERM=0.2",
    ),
    "users of a socket are not asked for it": Bug(adoption, "_may_hold", _always(False), 4),
    "strays of a killed keeper stay": Bug(
        adoption.Inheritance, "_find_intruders", lambda find: lambda self: None, 2
    ),
    "nobody waits until strays are gone": Bug(
        adoption.Intruders, "are_here", lambda are_here: property(lambda self: False), 2
    ),
    "a new keeper counts anew": Bug(keeper_module, "Inheritance", _counts_anew, 2),
    "what ended unwatched ended well": Bug(adoption, "Died", _ended_well, 2),
    "memory dies with the keeper": Bug(adoption.Inheritance, "_restored", _without_memory, 0),
    "what was about to be is not looked for": Bug(
        adoption.Inheritance, "_about_to_be", _always((0, 0)), 43
    ),
    # new code
    "new code counts anew": Bug(Notes, "whole", _hands_over_no_count, 154),
    "new code is not told of the dead": Bug(Notes, "whole", _hands_over_no_dead, 63),
    # keeper
    "the old socket is closed first": Bug(Listeners, "bind", _unbinds_first, 10),
    "exit statuses are mixed up": Bug(Processes, "reap", _misreports, 0),
    "outputs of the dead stay open": Bug(Processes, "announce", _keeps_output, 0),
    "memory is not kept": Bug(Processes, "act_on", _forgets_memory, 0),
    "the dead are not told to a new controller": Bug(Keeper, "_start_controller", _tells_once, 0),
    "hook gates are open": Bug(gates, "drive_with_retry", _no_gate, 0),
    "a job is fired before its row": Bug(jobs, "_close_orphaned_run", _without_record_first, 0),
    "every controller fires jobs anew": Bug(
        generations,
        "due_trigger",
        lambda f: (
            lambda n, s, o, b, k: (
                f(n, s, replace(o, job=replace(o.job, generation=None)), b, k)
                if len(o.job.runs) > 1 and any(r.outcome for r in o.job.runs.values())
                else f(n, s, o, b, k)
            )
        ),
        0,
    ),
    "KILL without grace": Bug(stopping, "deadline_ns", _kill_at_once, 0),
    "KILL before TERM": Bug(stopping, "_ask", _kills_instead, 0),
    "the stop is forgotten": Bug(stopping, "_remember", _forgets_stopping, 0),
    "survivors do not matter": Bug(stopping, "reap", _trusts_late_news, 30),
    "the keeper sees no survivors": Bug(Processes, "_update_survivors", _no_survivors, 0),
    "labels restart": Bug(picture, "run_hash", _restarts_on_labels, 4),
    "wanted sockets are closed": Bug(reconciler, "plan_socket", _closes_sockets, 0),
    "the keeper spawns over a live record": Bug(Processes, "spawn", _spawns_doubly, 59),
    "a dead controller's words are lost": Bug(Processes, "reap", _drops_link, 5),
    "sockets are never retried": Bug(
        core_sockets, "retry_due_ns", lambda f: lambda refused: f(refused) + 10**15, 26
    ),
    "surplus slots stay": Bug(services, "_drop_slot", _always(None), 8),
    "outdated slots stay": Bug(rollout, "why_stale", _always(None), 0),
    "leftover hooks stay": Bug(watchers, "clean_up", _always(None), 0),
    "a job's hooks are forgotten before its row is written": Bug(
        jobs,
        "_keep_verdicts",
        _always(None),
        53,
        "controller kills=0.2, slow disk=0.6, full disk=0.6, busy people=0.6",
    ),
    "outcomes are not written": Bug(jobs, "_settle", _always(None), 0),
    "the socket of a slot that is gone listens on": Bug(core_sockets, "tend", _always(None), 41),
    "a slot's own socket is bound before its hook is asked": Bug(
        gates, "_interval", _binds_early, 41, "slow hooks=0.6, hook vetoes=0.6, exits=0.6"
    ),
    "the pause between slots is ignored": Bug(gates, "_interval", _always(None), 0),
    # schedules
    "what was fired is forgotten when the clock is set": Bug(
        timetable,
        "_with",
        _forgets_what_was_fired,
        110,
        "hanging hooks=0.2, description=0.3, working_dir=0.7, max_retry=0.7, stop.cmd=0.7, "
        "logs.stdout.file=0.3, logs.stdout.to=0.7, logs.owner=0.3, logs.compress=0.7, x=0.7, "
        "limits.fsize=0.7, limits.memlock=0.7, limits.rtprio=0.3, order reload=0.3, "
        "rollout.pause=0.3, schedule=0.3, clock leaps=0.7",
    ),
    "what was missed is always caught up with": Bug(
        timetable,
        "_take",
        _catches_up_always,
        761,
        "slow ends=0.05, controller kills=0.6, busy people=0.2, upgrades=0.05, autostart=0.3, "
        "backoff.burst=0.3, backoff.initial=0.3, backoff.reset_after=0.7, max_retry=0.3, "
        "stop.cmd=0.7, logs.stderr.to=0.7, hook.python=0.3, timeout=0.7, limits.cpu=0.3, "
        "limits.memlock=0.3, limits.sigpending=0.7, order resume=0.3, new secrets=0.7, "
        "schedule=0.3, clock leaps=0.3",
    ),
    "that the clock was set is not noticed": Bug(
        fold,
        "_calendar",
        _knows_one_clock,
        110,
        "logs.compress=0.7, limits.rtprio=0.3, order reload=0.3, schedule=0.3, clock leaps=0.7",
    ),
    "nobody asks for the next instants": Bug(
        timetable,
        "NEXT_RUNS",
        lambda _: -1,
        11,
        "shell=0.3, virtualenv=0.7, user=0.3, stop.scope=0.3, logs.stdout.to=0.3, "
        "logs.timestamps=0.7, rerun_on=0.3, schedule=0.3",
    ),
    "a job skips what it could run": Bug(
        timetable,
        "_runs",
        _always(True),
        11,
        "user=0.3, stop.scope=0.3, logs.stdout.to=0.3, logs.timestamps=0.7, rerun_on=0.3, "
        "schedule=0.3",
    ),
    "a job fires before its time": Bug(
        timetable,
        "_jitter_ns",
        _always(-2 * SECOND_NS),
        11,
        "user=0.3, stop.scope=0.3, logs.stdout.to=0.3, logs.timestamps=0.7, rerun_on=0.3, "
        "schedule=0.3",
    ),
    "a stopped job is fired by its schedule": Bug(
        timetable,
        "can_fire",
        _always(True),
        2,
        "hooks.after_complete=0.3, limits.cpu_affinity=0.7, order rollback=0.7, "
        "rollout.pause=0.7, schedule=0.7",
    ),
    "what came while a job was stopped is caught up with": Bug(
        timetable,
        "_begun",
        _counts_the_hold,
        343,
        "exits=0.6, unkillable=0.2, exec errors=0.2, shortages=0.05, few pids=0.6, hook vetoes=0.05, "
        "hook errors=0.05, hanging hooks=0.2, untold exits=0.05, slow link=0.6, slow disk=0.6, "
        "full disk=0.05, late output=0.6, other processes=0.6, group=0.3, backoff.initial=0.3, "
        "backoff.max=0.7, stop.cmd=0.3, logs.max_size=0.7, limits.fsize=0.7, limits.memlock=0.7, "
        "limits.stack=0.3, rollout.max_unavailable=0.3, schedule=0.3",
    ),
    "a new controller begins a schedule anew": Bug(
        fold,
        "_job",
        _loses_the_timetable,
        219,
        "ignored TERM=0.6, unkillable=0.2, survivors=0.6, shortages=0.05, hook errors=0.05, "
        "hanging hooks=0.05, slow hooks=0.2, keeper kills=0.2, taken ports=0.05, "
        "inherit_env=0.7, priority=0.3, success_exit_codes=0.3, stop.signal=0.7, "
        "stop.cmd=0.3, reload=0.3, logs.timestamps=0.7, logs.rotate=0.3, limits.msgqueue=0.3, "
        "limits.nice=0.7, schedule=0.7, clock leaps=0.7",
    ),
    "an instant that is a little late is lost": Bug(
        timetable,
        "_come",
        _passes_over_silently,
        4414,
        "exits=0.6, shortages=0.05, fork road=0.2, hook vetoes=0.05, hook errors=0.05, slow "
        "hooks=0.2, keeper kills=0.6, pauses=0.6, full disk=0.2, taken ports=0.05, late "
        "output=0.2, other processes=0.6, success_exit_codes=0.3, stop.scope=0.3, "
        "apply.confirm_after=0.3, limits.sigpending=0.7, schedule=0.7",
    ),
    # readiness and health
    "nobody has to show that it is ready": Bug(readiness, "missing", _ready_by_age, 2, LATE),
    "a roll does not wait until who came is ready": Bug(
        rollout, "is_available", _serves_by_age, 20, LATE
    ),
    "a process may take for ever to be ready": Bug(
        readiness, "deadline_ns", _always(None), 2, LATE
    ),
    "a deadline is over too early": Bug(readiness, "deadline_ns", _early, 1, LATE),
    "who was late has not failed": Bug(
        backoff,
        "failures_after",
        _is_no_failure,
        47,
        "ready=0.7, never ready=0.7, backoff.burst=0.7",
    ),
    "the unhealthy go on": Bug(recovery, "next_slots", _always(frozenset()), 6, SICK),
    "one failed probe is enough": Bug(probes, "Probing", _impatient, 15, SICK),
    "the healthy are restarted with the unhealthy": Bug(
        recovery, "next_slots", _restarts_the_healthy, 27, SICK
    ),
    "who was stopped for its health is started again": Bug(
        gates, "after_death", _starts_what_was_stopped, 8, SICK
    ),
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Run with one bug in the code."""
    bug = BUGS[name]
    original = getattr(bug.place, bug.function)
    setattr(bug.place, bug.function, bug.make(original))
    try:
        yield
    finally:
        setattr(bug.place, bug.function, original)
