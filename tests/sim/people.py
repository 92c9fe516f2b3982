"""What people do in a history: edits of the spec, commands, and now and then something to the machine."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar

from reconciler.core import generations, orders, verdict
from reconciler.core.intents import restarted, scaled, started, stopped, until
from reconciler.model.address import InternetAddress
from reconciler.model.intent import NO_INTENT, RequestedBy
from reconciler.model.observation import (
    IntentChanged,
    JobChanged,
    ShutdownAsked,
    SignalAsked,
    SpecApplied,
)
from reconciler.model.process import LaunchError
from reconciler.model.revision import Trial
from reconciler.model.spec import (
    ApplySpec,
    DaemonSpec,
    DependencySpec,
    HookSpec,
    HooksSpec,
    ReloadBySignal,
    Spec,
    StopSpec,
    WatcherSpec,
)
from reconciler.model.units import SECOND_NS as S
from reconciler.model.value import Struct, replace
from tests.sim.language import ORDERS, VALUES, changed, default, kind_of, listener
from tests.sim.programs import HOOK_TIMEOUT_NS, SHORTAGES

if TYPE_CHECKING:
    from tests.sim.controller import Controller
    from tests.sim.world import World

T = TypeVar("T", bound=Struct)
ORDER = ("bystander", "job", "web", "api", "extra", "jobs")
"""Who may depend on whom: on those before it."""
SOMEBODY = RequestedBy("somebody", "", 0)
HOOK = HookSpec(cmd=("hook",), timeout=HOOK_TIMEOUT_NS)
HOOK_NAMES = (
    "before_start",
    "after_start",
    "before_spawn",
    "after_spawn",
    "before_signal",
    "before_stop",
    "after_stop",
    "before_reap",
    "after_reap",
)


class People:
    """Edits and commands of one world. `touched_ns` tells when one concerned a watcher last."""

    def __init__(self, world: World) -> None:
        self.world, self.rng = world, world.rng
        self.has_own = random.Random(f"own {world.seed}").random() < 0.2
        """The slots of `api` have a socket each (reuseport). Of a die of its own: no other history changes."""
        own_die = random.Random(f"needs {world.seed}")
        self.needs = own_die if own_die.random() < 0.3 else None
        """By what it is found who depends on whom; None: nobody does. Of a die of its own, too."""
        self.touched_ns: dict[str, int] = {}
        self.upset_ns: dict[str, int] = {}
        """When somebody asked for more than a roll: a stop, a start, another number, all at once."""
        self.versions: dict[str, int] = {}
        self.timeouts_ns = {"bystander": [StopSpec().timeout]}
        """The grace periods that a watcher of a name ever had."""
        self.hooked: set[tuple[str, str]] = set()
        """Hooks that a watcher of a name ever had."""
        speaks = world.faults.strength
        self.says = {path: speaks[path] for path in VALUES if path in speaks}
        """Which fields they make use of beside those that all do, and how often."""
        self.gives = [order for order in ORDERS if order in speaks]
        self.used: dict[tuple[str, str], list[object]] = {}
        """By name of a watcher and field: the values that it ever had beside the default."""
        self.occurred: set[str] = set()
        """Fields and orders of which use was made."""
        self.reloads: list[tuple[int, str, str]] = []
        """When a reload of which watcher was asked for, and by which signal."""
        self.reload_edited_ns: dict[str, int] = {}
        """When what a reload does was edited last."""
        self.has_settled = False
        """What never comes to rest was taken back."""
        self.secret = 0
        """The value of all secrets."""

    def next_deed_ns(self) -> int:
        """Return when somebody does something next."""
        busy = "busy people" in self.world.faults.strength
        return self.world.kernel.now + self.rng.randrange(1, (S if busy else 4 * S))

    def first_spec(self) -> Spec:
        watchers = {"bystander": WatcherSpec(cmd=("bystander",), numprocesses=2)}
        for name in ("web", "api", "job"):
            watchers[name] = self._depending(name, self._new_watcher(name))
        own = {"own": replace(listener(7000), reuseport=True)} if self.has_own else {}
        apply = self._flavoured(ApplySpec(), "apply", "apply")
        daemon = self._flavoured(DaemonSpec(), "daemon", "daemon")
        return Spec(
            apply=apply, daemon=daemon, sockets={"http": listener(8000), **own}, watchers=watchers
        )

    def _sockets_of(self, name: str) -> tuple[str, ...]:
        if name == "api" and self.has_own:
            return ("own",)
        return ("http",) if name == "web" else ()

    def _new_watcher(self, name: str) -> WatcherSpec:
        rng = self.rng
        hooks = HooksSpec(**{each: HOOK for each in HOOK_NAMES if rng.random() < 0.15})
        self.hooked |= {(name, each) for each in HOOK_NAMES if getattr(hooks, each) is not None}
        self.versions[name] = self.versions.get(name, 0) + 1
        spec = WatcherSpec(
            cmd=(name, f"v{self.versions[name]}"),
            numprocesses=rng.randrange(1, 4),
            restart="never" if name.startswith("job") else "always",
            use_sockets=self._sockets_of(name),
            stop=StopSpec(timeout=rng.randrange(1, 5) * S),
            spawn_interval=rng.choice((0, 0, S)),
            hooks=hooks,
        )
        self.timeouts_ns.setdefault(name, []).append(spec.stop.timeout)
        if not self.says:
            return spec
        for role in HOOK_NAMES:
            hook = getattr(hooks, role)
            if hook is not None:
                hooks = replace(hooks, **{role: self._flavoured(hook, "hook", name)})
        return self._flavoured(replace(spec, hooks=hooks), "watcher", name)

    def _depending(self, name: str, spec: WatcherSpec) -> WatcherSpec:
        """Return a watcher that depends on some of those before it in `ORDER`, if anybody does in this history."""
        if self.needs is None or name == "bystander":
            return spec
        before = ORDER[: ORDER.index(name)]
        chosen = [each for each in before if self.needs.random() < 0.5]
        return replace(spec, depends_on={each: self._dependency(each) for each in chosen})

    def _dependency(self, name: str) -> DependencySpec:
        assert self.needs is not None
        is_job = name.startswith("job")
        of_job = ("succeeded", "completed", "started")
        condition = self.needs.choice(of_job if is_job else ("ready", "ready", "started"))
        follows = not is_job and self.needs.random() < 0.2
        return DependencySpec(
            condition,
            required=self.needs.random() < 0.8,
            on_restart="restart" if follows else "ignore",
            timeout=self.needs.choice((None, None, 2 * S)),
        )

    # ---- the language ---------------------------------------------------------------------------

    def _flavoured(self, spec: T, kind: str, name: str) -> T:
        """Return a spec in which some of the fields are given that this seed makes use of."""
        for path, strength in self.says.items():
            fits = kind_of(path) == kind and not self._is_senseless(spec, path)
            if fits and self.rng.random() < strength:
                spec = self._given(spec, path, name, VALUES[path](self.rng))
        return spec

    def _is_senseless(self, spec: object, path: str) -> bool:
        """Tell whether a field says nothing beside the others."""
        if not isinstance(spec, WatcherSpec):
            return False
        if path == "stdin_socket":
            return bool(spec.use_sockets)
        if path == "schedule":
            return not spec.is_job
        if path in {"max_restarts", "max_age", "max_age_variance", "ready", "health"}:
            return spec.is_job
        if path.startswith(("restart", "rollout.")) or path == "hooks.after_ready":
            return spec.is_job
        return False

    def _given(self, spec: T, path: str, name: str, value: object) -> T:
        self.occurred.add(path)
        self.used.setdefault((name, path), []).append(value)
        plain = path.partition(".")[2] if kind_of(path) != "watcher" else path
        spec = changed(spec, plain, value)
        if path == "hook.python":
            spec = changed(spec, "cmd", None)
        if path.startswith("hooks."):
            self.hooked.add((name, path.removeprefix("hooks.")))
        return spec

    def hooked_at_all(self, name: str) -> bool:
        """Tell whether a watcher of this name ever had any hook."""
        return any(owner == name for owner, _ in self.hooked)

    def has_used(self, name: str, *paths: str) -> bool:
        """Tell whether a watcher of this name ever had one of these fields."""
        return any((name, path) in self.used for path in paths)

    def _edit_field(self, name: str) -> None:
        """Give a field of a watcher another value, or take it back."""
        rng, spec = self.rng, self.world.disk.spec
        old = spec.watchers[name]
        path = rng.choice(sorted(self.says))
        if kind_of(path) == "socket":
            sockets = dict(spec.sockets)
            key = rng.choice(sorted(sockets))
            sockets[key] = self._given(sockets[key], path, "", VALUES[path](rng))
            self._touch_users(key)
            self.edit(replace(spec, sockets=sockets))
        elif kind_of(path) == "apply":
            self.edit(replace(spec, apply=self._given(spec.apply, path, "", VALUES[path](rng))))
        elif kind_of(path) == "daemon":
            self._edit_all(
                replace(spec, daemon=self._given(spec.daemon, path, "", VALUES[path](rng)))
            )
        elif kind_of(path) == "watcher" and path != "stdin_socket":
            if self._is_senseless(old, path):
                return
            if rng.random() < 0.4 and path != "restart: on-failure":
                new = changed(old, path, default(path))
            else:
                new = self._given(old, path, name, VALUES[path](rng))
            self._touch(name, upset=True)
            self.edit(replace(spec, watchers={**spec.watchers, name: new}))

    def _edit_all(self, spec: Spec) -> None:
        """Apply a spec with another command for all watchers but the bystander: they are replaced together."""
        watchers = dict(spec.watchers)
        for name in sorted(watchers.keys() - {"bystander"}):
            self._touch(name)
            self.versions[name] += 1
            watchers[name] = replace(watchers[name], cmd=(name, f"v{self.versions[name]}"))
        self.edit(replace(spec, watchers=watchers))

    def _touch_users(self, socket: str) -> None:
        for name, each in self.world.disk.spec.watchers.items():
            if socket in each.use_sockets or socket == each.stdin_socket:
                self._touch(name)

    def _touch_changed(self, wanted: Spec) -> None:
        """Touch all that another spec says otherwise."""
        spec = self.world.disk.spec
        for name in {*spec.watchers, *wanted.watchers}:
            if spec.watchers.get(name) != wanted.watchers.get(name):
                self._touch(name, upset=True)
        for socket in {*spec.sockets, *wanted.sockets}:
            if spec.sockets.get(socket) != wanted.sockets.get(socket):
                self._touch_users(socket)

    def settle(self) -> bool:
        """Take back what never comes to rest, for good; False when there is nothing of it."""
        self.has_settled, spec = True, self.world.disk.spec
        restless = [
            name
            for name, each in spec.watchers.items()
            if each.max_age is not None or each.schedule is not None
        ]
        if not restless:
            return False
        for name in restless:
            self._touch(name)
        self.edit(spec)
        return True

    def do_something(self) -> None:
        """Let somebody do something, or the machine fail somehow."""
        world, rng = self.world, self.rng
        if world.hits("shortages"):
            errors = [
                LaunchError("fork", rng.choice(SHORTAGES)) for _ in range(rng.randrange(1, 4))
            ]
            world.kernel.shortages.extend(errors)
        if world.hits("taken ports"):
            address = InternetAddress("127.0.0.1", rng.choice((8000, 9000)))
            if world.kernel.taken.pop(address, None) is None:
                world.kernel.taken[address] = "address already in use"
        world.strike()
        if world.controller is None or world.kernel.now < world.controller.ready_ns:
            return  # they wait in the backlog
        rng.choice(
            (self._edit_one, self._edit_one, self._command, self._command, self._edit_list)
        )()

    # ---- edits ----------------------------------------------------------------------------------

    def _edit_one(self) -> None:
        """Change one field of one watcher, or the port."""
        rng, spec = self.rng, self.world.disk.spec
        name = rng.choice(sorted(spec.watchers))
        old = spec.watchers[name]
        if self.needs is not None and self.needs.random() < 0.5:
            self._edit_what_depends(self.needs)
            return
        if self.says and name != "bystander" and rng.random() < 0.5:
            self._edit_field(name)
            return
        what = "label" if name == "bystander" else rng.choice(("scale", "command", "label", "port"))
        if what == "port":
            port = 9000 if str(spec.sockets["http"].listen).endswith("8000") else 8000
            self._touch("web")
            self._touch_users("http")
            moved = replace(spec.sockets["http"], listen=listener(port).listen)
            self.edit(replace(spec, sockets={**spec.sockets, "http": moved}))
            return
        self.occurred.add({"scale": "numprocesses", "command": "cmd", "label": "labels"}[what])
        if what == "scale":
            new = replace(old, numprocesses=rng.randrange(0, 4))
        elif what == "command":
            self.versions[name] += 1
            new = replace(old, cmd=(name, f"v{self.versions[name]}"))
        else:
            new = replace(old, labels={"n": str(rng.random())})
        if what != "label":
            self._touch(name, upset=what == "scale")
        self.edit(replace(spec, watchers={**spec.watchers, name: new}))

    def _edit_what_depends(self, needs: random.Random) -> None:
        """Have a watcher depend on others, or deploy one with all that it depends on: another command for each."""
        spec = self.world.disk.spec
        depending = sorted(name for name, each in spec.watchers.items() if each.dependencies)
        if depending and needs.random() < 0.7:
            name = needs.choice(depending)
            new = {}
            for each in {name: None, **spec.watchers[name].dependencies}:
                if each != "bystander":
                    self.versions[each] += 1
                    new[each] = replace(spec.watchers[each], cmd=(each, f"v{self.versions[each]}"))
        else:
            name = needs.choice(sorted(spec.watchers))
            new = {name: self._depending(name, spec.watchers[name])}
        for each in new:
            self._touch(each)
        self.edit(replace(spec, watchers={**spec.watchers, **new}))

    def _edit_list(self) -> None:
        """Add, remove or rename a watcher."""
        rng, spec = self.rng, self.world.disk.spec
        watchers = dict(spec.watchers)
        name = rng.choice(("web", "api", "job", "extra", "jobs"))
        self._touch(name, upset=True)
        if name in watchers:
            del watchers[name]
        else:
            watchers[name] = self._depending(name, self._new_watcher(name))
        self.edit(replace(spec, watchers=watchers))

    def edit(self, spec: Spec, *, restores: bool = False) -> None:
        """Apply a spec as the controller does: on the disk first, then before the core."""
        disk = self.world.disk
        spec = _without_unknown(spec)
        if self.has_settled:
            calm = {"max_age": None, "schedule": None}
            watchers = {name: replace(each, **calm) for name, each in spec.watchers.items()}
            spec = replace(spec, watchers=watchers)
        removed = {n: s for n, s in disk.spec.watchers.items() if n not in spec.watchers}
        retiring = {**disk.retiring, **removed}
        trial = self._trial_of(spec, restores=restores)
        disk.retiring = {n: s for n, s in retiring.items() if n not in spec.watchers}
        for name, each in spec.watchers.items():
            if name in disk.spec.watchers and disk.spec.watchers[name].reload != each.reload:
                self.reload_edited_ns[name] = self.world.kernel.now
        disk.spec, disk.revision, disk.trial = spec, disk.revision + 1, trial
        if trial is None:
            disk.good = spec
        self.world.trace(f"revision {disk.revision}: {sorted(spec.watchers)}")
        if (controller := self.world.controller) is not None:
            retired = dict(disk.retiring)
            controller.inbox.append(SpecApplied(spec, disk.revision, retired, trial))

    def _trial_of(self, spec: Spec, *, restores: bool) -> Trial | None:
        """Return what a revision has to prove, as the controller makes it."""
        disk, controller, now = self.world.disk, self.world.controller, self.world.kernel.now
        if not any(path.startswith("apply.") for path in self.says) or controller is None:
            return None
        core, former = controller.core, disk.trial
        removed = disk.spec.watchers.keys() - spec.watchers.keys()
        found = verdict.changed(disk.spec, spec, core.observed, core.facts, former)
        can_return = not restores and disk.good is not None
        on_failure = spec.apply.on_failure if can_return else "keep"
        made = Trial(found, now, spec.apply.confirm_after, on_failure)
        if former is None or restores or removed:
            return made
        if verdict.changed(disk.spec, spec, core.observed, core.facts):
            return made
        if former.outcome == "pending":
            return replace(made, begun_ns=former.begun_ns)
        if former.outcome not in {"paused", "failed"}:
            return made
        return replace(made, outcome=former.outcome, reason=former.reason, watcher=former.watcher)

    def judged(self, revision: int, trial: Trial) -> None:
        """Take note of what came of a revision."""
        disk = self.world.disk
        if revision != disk.revision:
            return
        disk.trial = trial if trial.outcome == "paused" else replace(trial, changed={})
        if trial.outcome == "good":
            disk.good = disk.spec

    def go_back(self) -> None:
        """Put the last good spec in force again where the newest is rolled back."""
        disk = self.world.disk
        if disk.trial is not None and disk.trial.outcome == "rolled_back" and disk.good is not None:
            self._touch_changed(disk.good)
            self.edit(disk.good, restores=True)

    def go_back_by(self, controller: Controller) -> None:
        """Let a new controller finish what a former one began: the verdict is on the disk, what follows is not."""
        if self.world.disk.trial is not None and self.world.disk.trial.outcome == "rolled_back":
            self.world.controller = controller
            self.go_back()

    def _touch(self, name: str, *, upset: bool = False) -> None:
        self.touched_ns[name] = self.world.kernel.now
        if upset:
            self.upset_ns[name] = self.world.kernel.now

    # ---- commands -------------------------------------------------------------------------------

    def _command(self) -> None:
        """Let an operator say something about one watcher."""
        rng, disk, controller = self.rng, self.world.disk, self.world.controller
        assert controller is not None
        names = sorted(set(disk.spec.watchers) - {"bystander"})
        if not names:
            return
        name = rng.choice(names)
        if self.gives and rng.random() < 0.6:
            self._give(rng.choice(self.gives), name)
            return
        spec, intent = disk.spec.watchers[name], disk.intents.get(name, NO_INTENT)
        what = rng.choice(
            ("stop", "rest", "start", "start", "restart", "scale", "unscale", "signal", "rerun")
        )
        at_once = rng.random() < 0.3
        self._touch(name, upset=what != "restart" or at_once)
        self.world.trace(f"somebody says {what} {name}")
        self.occurred.add(what)
        if what == "signal":
            signal = "USR1" if rng.random() < 0.3 else "CONT"
            controller.inbox.append(SignalAsked(name, None, signal))
        elif what == "rerun" and spec.is_job and name in controller.core.spec.watchers:
            self._rerun(name)
        else:
            slots = None if rng.random() < 0.5 else (1,)
            said = {
                "stop": lambda: stopped(intent, SOMEBODY),
                "rest": lambda: stopped(intent, self._for_a_while()),
                "start": lambda: started(intent, SOMEBODY, autostart=True),
                "scale": lambda: scaled(intent, SOMEBODY, rng.randrange(0, 4)),
                "unscale": lambda: scaled(intent, SOMEBODY, None),
                "restart": lambda: restarted(intent, slots, at_once=at_once),
            }.get(what)
            if said is not None:
                disk.intents[name] = said()
                controller.inbox.append(IntentChanged(name, disk.intents[name]))

    def _give(self, order: str, name: str) -> None:
        """Give an order as the server takes it: by what is known of the watcher."""
        rng, disk, controller = self.rng, self.world.disk, self.world.controller
        assert controller is not None
        core, now = controller.core, self.world.kernel.now
        self.occurred.add(order)
        self.world.trace(f"somebody gives {order} for {name}")
        if order == "new secrets":
            self.secret += 1
            needed = {name for name, each in core.spec.watchers.items() if each.secrets}
            for each in sorted(controller.secrets.keys() & needed):
                self._touch(each)
                controller.read_secrets(each)
            return
        if order in {"order rollback", "order continue"}:
            self._overrule(order)
            return
        if name not in core.spec.watchers or not core.is_in_force or controller.writes:
            return  # it is on its way to the core
        subject = replace(core.subject(name, now, 0), by=SOMEBODY)
        if rng.random() < 0.5:
            subject = replace(subject, slots=(rng.randrange(1, 4),))
        reload = subject.named.reload
        if order == "order start":
            decision = orders.start(subject)
        elif order == "order restart":
            decision = orders.restart(subject, at_once=rng.random() < 0.3)
        elif order == "order reload":
            decision = orders.reload(subject)
        elif order == "order resume":
            decision = orders.resume(subject)
        elif order == "order rerun":
            overlap = rng.choice((None, "skip", "queue", "replace"))
            decision = orders.rerun(subject, failed=rng.random() < 0.4, overlap=overlap)
        else:
            word, reach = rng.choice(("USR1", "CONT")), rng.choice(("process", "children", "tree"))
            decision = orders.signal(subject, word, now, reach)
        if decision.taken != "accepted":
            return
        self._touch(name, upset=True)
        if order == "order reload" and isinstance(reload, ReloadBySignal) and subject.slots is None:
            self.reloads.append((now, name, reload.signal))
        if decision.intent is not None:
            disk.intents[name] = decision.intent
            controller.inbox.append(IntentChanged(name, decision.intent))
        if decision.generation is not None:
            disk.generations[name] = decision.generation
            job = replace(core.observed(name).job, generation=decision.generation)
            controller.inbox.append(JobChanged(name, job))
        controller.inbox += decision.observations

    def _overrule(self, order: str) -> None:
        """Go back to the last good revision by hand, or on with one that is paused."""
        disk, controller = self.world.disk, self.world.controller
        assert controller is not None
        if order == "order rollback" and disk.good is not None and disk.good is not disk.spec:
            self._touch_changed(disk.good)
            self.edit(disk.good, restores=True)
        elif disk.trial is not None and disk.trial.outcome == "paused":
            for name in disk.trial.changed:
                self._touch(name)
            disk.trial = replace(
                disk.trial, outcome="pending", reason="", begun_ns=self.world.kernel.now
            )
            controller.inbox.append(
                SpecApplied(disk.spec, disk.revision, dict(disk.retiring), disk.trial)
            )

    def _for_a_while(self) -> RequestedBy:
        now, boot = self.world.kernel.now, f"boot-{self.world.kernel.boots}"
        return replace(SOMEBODY, until=until(self.rng.randrange(1, 10) * S, boot, now, now))

    def word_ended(self, name: str) -> None:
        """Take note that something that was said for a while is over."""
        self._touch(name, upset=True)

    def _rerun(self, name: str) -> None:
        controller, disk = self.world.controller, self.world.disk
        assert controller is not None
        if controller.writes:
            return  # the real server waits until what was said before is on the disk
        core = controller.core
        known, wanted, base_hash = (
            core.observed(name),
            core.spec.watchers[name],
            core.base_hash(name),
        )
        asked = generations.rerun(wanted, known, None, base_hash, core.facts)
        disk.generations[name] = asked.generation
        controller.inbox.append(JobChanged(name, replace(known.job, generation=asked.generation)))

    def shut_down(self) -> None:
        """Ask for an orderly end."""
        assert self.world.controller is not None
        self.world.controller.inbox.append(ShutdownAsked())


def _without_unknown(spec: Spec) -> Spec:
    """Return a spec as the loader accepts it: nobody depends on what it does not have."""
    watchers = {
        name: replace(
            each, depends_on={n: d for n, d in each.dependencies.items() if n in spec.watchers}
        )
        if each.dependencies.keys() - spec.watchers.keys()
        else each
        for name, each in spec.watchers.items()
    }
    return replace(spec, watchers=watchers)
