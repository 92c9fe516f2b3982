"""What people do in a history: edits of the spec, commands, and now and then something to the machine."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from reconciler.core import jobs
from reconciler.core.intents import restarted, scaled, started, stopped, until
from reconciler.model.address import InternetAddress
from reconciler.model.event import (
    IntentChanged,
    JobChanged,
    ShutdownAsked,
    SignalAsked,
    SpecApplied,
)
from reconciler.model.intent import NO_INTENT, Voice
from reconciler.model.process import LaunchError
from reconciler.model.spec import HookSpec, HooksSpec, SocketSpec, Spec, StopSpec, WatcherSpec
from reconciler.model.units import SECOND_NS as S
from reconciler.model.value import replace
from tests.sim.programs import HOOK_TIMEOUT_NS, SHORTAGES

if TYPE_CHECKING:
    from tests.sim.world import World

VOICE = Voice("somebody", "", 0)
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


def listener(port: int) -> SocketSpec:
    return SocketSpec(listen=InternetAddress("127.0.0.1", port))


class People:
    """Edits and commands of one world. `touched_ns` tells when one concerned a watcher last."""

    def __init__(self, world: World) -> None:
        self.world, self.rng = world, world.rng
        self.has_own = random.Random(f"own {world.seed}").random() < 0.2
        """The slots of `api` have a socket each (reuseport). Of a die of its own: no other history changes."""
        self.touched_ns: dict[str, int] = {}
        self.upset_ns: dict[str, int] = {}
        """When somebody asked for more than a roll: a stop, a start, another number, all at once."""
        self.versions: dict[str, int] = {}
        self.timeouts_ns = {"bystander": [StopSpec().timeout]}
        """The grace periods that a watcher of a name ever had."""
        self.hooked: set[tuple[str, str]] = set()
        """Hooks that a watcher of a name ever had."""

    def next_deed_ns(self) -> int:
        """Return when somebody does something next."""
        busy = "busy people" in self.world.faults.strength
        return self.world.kernel.now + self.rng.randrange(1, (S if busy else 4 * S))

    def first_spec(self) -> Spec:
        watchers = {"bystander": WatcherSpec(cmd=("bystander",), numprocesses=2)}
        for name in ("web", "api", "job"):
            watchers[name] = self._new_watcher(name)
        own = {"own": replace(listener(7000), reuseport=True)} if self.has_own else {}
        return Spec(sockets={"http": listener(8000), **own}, watchers=watchers)

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
        return spec

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
        what = "label" if name == "bystander" else rng.choice(("scale", "command", "label", "port"))
        if what == "port":
            port = 9000 if str(spec.sockets["http"].listen).endswith("8000") else 8000
            self._touch("web")
            self.edit(replace(spec, sockets={**spec.sockets, "http": listener(port)}))
            return
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

    def _edit_list(self) -> None:
        """Add, remove or rename a watcher."""
        rng, spec = self.rng, self.world.disk.spec
        watchers = dict(spec.watchers)
        name = rng.choice(("web", "api", "job", "extra", "jobs"))
        self._touch(name, upset=True)
        if name in watchers:
            del watchers[name]
        else:
            watchers[name] = self._new_watcher(name)
        self.edit(replace(spec, watchers=watchers))

    def edit(self, spec: Spec) -> None:
        """Apply a spec as the controller does: on the disk first, then before the core."""
        disk, controller = self.world.disk, self.world.controller
        removed = {n: s for n, s in disk.spec.watchers.items() if n not in spec.watchers}
        retiring = {**disk.retiring, **removed}
        disk.retiring = {n: s for n, s in retiring.items() if n not in spec.watchers}
        disk.spec, disk.revision = spec, disk.revision + 1
        self.world.trace(f"revision {disk.revision}: {sorted(spec.watchers)}")
        if controller is not None:
            controller.inbox.append(SpecApplied(spec, disk.revision, dict(disk.retiring)))

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
        spec, intent = disk.spec.watchers[name], disk.intents.get(name, NO_INTENT)
        what = rng.choice(
            ("stop", "rest", "start", "start", "restart", "scale", "unscale", "signal", "rerun")
        )
        at_once = rng.random() < 0.3
        self._touch(name, upset=what != "restart" or at_once)
        self.world.trace(f"somebody says {what} {name}")
        if what == "signal":
            signal = "USR1" if rng.random() < 0.3 else "CONT"
            controller.inbox.append(SignalAsked(name, None, signal))
        elif what == "rerun" and spec.is_job and name in controller.core.spec.watchers:
            self._rerun(name)
        else:
            slots = None if rng.random() < 0.5 else (1,)
            said = {
                "stop": lambda: stopped(intent, VOICE),
                "rest": lambda: stopped(intent, self._for_a_while()),
                "start": lambda: started(intent, VOICE, autostart=True),
                "scale": lambda: scaled(intent, VOICE, rng.randrange(0, 4)),
                "unscale": lambda: scaled(intent, VOICE, None),
                "restart": lambda: restarted(intent, slots, at_once=at_once),
            }.get(what)
            if said is not None:
                disk.intents[name] = said()
                controller.inbox.append(IntentChanged(name, disk.intents[name]))

    def _for_a_while(self) -> Voice:
        now, boot = self.world.kernel.now, f"boot-{self.world.kernel.boots}"
        return replace(VOICE, until=until(self.rng.randrange(1, 10) * S, boot, now, now))

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
        asked = jobs.rerun(wanted, known, None, base_hash, core.facts)
        disk.generations[name] = asked.generation
        controller.inbox.append(JobChanged(name, replace(known.job, generation=asked.generation)))

    def shut_down(self) -> None:
        """Ask for an orderly end."""
        assert self.world.controller is not None
        self.world.controller.inbox.append(ShutdownAsked())
