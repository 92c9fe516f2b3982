"""What people in a history make use of: all fields of the language and all orders, each seed some of them.

The fields are those of the model. One that is not drawn from here stands in `MEANINGLESS` with the reason; a test
sees to it that every field is in one of the two.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from reconciler.model.address import InternetAddress
from reconciler.model.spec import (
    ApplySpec,
    DaemonSpec,
    GroupLimitsSpec,
    HealthSpec,
    HookSpec,
    LimitsSpec,
    MaxRestartsSpec,
    ReadySpec,
    ReloadByCommand,
    ReloadBySignal,
    ScheduleSpec,
    SecretSpec,
    SocketSpec,
    StdinSpec,
    WatcherSpec,
    declared_fields,
)
from reconciler.model.units import MILLISECOND_NS as MS
from reconciler.model.units import SECOND_NS as S
from reconciler.model.value import Struct, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

T = TypeVar("T", bound=Struct)


def _ready(rng: random.Random) -> ReadySpec:
    """Return when a process counts as ready; an address is each slot's own."""
    kind = rng.choice(({"tcp": "${slot+8100}"}, {"http": "http://h:8${slot}/"}, {"delay": 0}))
    if "delay" in kind:
        return ReadySpec(delay=rng.randrange(1, 4) * S)
    return ReadySpec(
        **kind,
        initial_delay=rng.choice((0, 0, S)),
        interval=rng.choice((S // 2, S)),
        timeout=rng.choice((S // 2, S)),
        successes=rng.choice((1, 1, 2)),
        deadline=rng.choice((3 * S, 4 * S, 6 * S, None)),
    )


def _health(rng: random.Random) -> HealthSpec:
    return HealthSpec(
        tcp="${slot+8100}",
        initial_delay=rng.choice((0, 0, S)),
        interval=rng.choice((S // 2, S)),
        timeout=rng.choice((S // 2, S)),
        failures=rng.randrange(1, 4),
        successes=rng.choice((1, 1, 2)),
        action=rng.choice(("restart", "restart", "restart", "stop", "none")),
    )


BASE: Final = frozenset(
    (
        *("cmd", "labels", "numprocesses", "restart", "use_sockets", "stop.timeout"),
        *("spawn_interval", "hook.cmd", "socket.listen", "socket.reuseport"),
        *(
            f"hooks.{each}_{what}"
            for each in ("before", "after")
            for what in ("start", "spawn", "stop", "reap")
        ),
        "hooks.before_signal",
        "depends_on",
    )
)
"""Fields that the people of every seed make use of."""

VALUES: Final[Mapping[str, Callable[[random.Random], object]]] = (
    {
        "description": lambda rng: f"words {rng.random()}",
        "shell": lambda rng: rng.choice((True, "/bin/bash")),
        "working_dir": lambda rng: rng.choice(("/srv/a", "/srv/${slot}")),
        "virtualenv": lambda rng: rng.choice(("/venv/a", "/venv/b")),
        "user": lambda rng: rng.choice(("www", 1000)),
        "group": lambda rng: rng.choice(("www", 1000)),
        "umask": lambda rng: rng.choice((0o77, 0o22)),
        "inherit_env": lambda rng: rng.choice((True, ("TERM",))),
        "env": lambda rng: {"N": str(rng.randrange(9)), "SLOT": "${slot}", "GONE": None},
        "secrets": lambda rng: {"TOKEN": SecretSpec(file=f"/secrets/{rng.randrange(3)}")},
        "autostart": lambda rng: False,
        "priority": lambda rng: rng.choice((-1, 1, 2)),
        "restart: on-failure": lambda rng: "on-failure",
        "success_exit_codes": lambda rng: rng.choice(((0, 1), (1,), (3,))),
        "backoff.burst": lambda rng: rng.randrange(6),
        "backoff.initial": lambda rng: rng.choice((100 * MS, S)),
        "backoff.factor": lambda rng: rng.choice((1.0, 1.5, 3.0)),
        "backoff.max": lambda rng: rng.choice((2 * S, 5 * S)),
        "backoff.reset_after": lambda rng: rng.choice((2 * S, 5 * S)),
        "backoff.jitter": lambda rng: rng.choice((0, 100)),
        "max_restarts": lambda rng: MaxRestartsSpec(
            count=rng.randrange(1, 4),
            window=rng.choice((2 * S, 60 * S)),
            retry_in=rng.choice((None, 5 * S)),
        ),
        "max_retry": lambda rng: rng.randrange(3),
        "stop.signal": lambda rng: rng.choice(("INT", "QUIT", "HUP")),
        "stop.ask": lambda rng: "all",
        "stop.cmd": lambda rng: ("stop",),
        "stop.scope": lambda rng: rng.choice(("process", "group")),
        "stdin": lambda rng: rng.choice(("pty", StdinSpec(file="/in/${slot}"))),
        "stdin_socket": lambda rng: "http",
        "reload": lambda rng: rng.choice(
            (ReloadBySignal(signal="USR2"), ReloadByCommand(cmd=("reload",)))
        ),
        "rollout.max_unavailable": lambda rng: rng.choice((2, 3, "50%", "100%")),
        "rollout.max_surge": lambda rng: rng.choice((1, 2, "50%")),
        "rollout.pause": lambda rng: rng.randrange(1, 5) * S,
        "max_age": lambda rng: rng.randrange(3, 9) * S,
        "max_age_variance": lambda rng: rng.randrange(1, 4) * S,
        "logs.stdout.file": lambda rng: f"/logs/{rng.randrange(3)}-${{slot}}",
        "logs.stdout.to": lambda rng: rng.choice(("manager", "journal", "devnull")),
        "logs.stderr.file": lambda rng: "/logs/errors",
        "logs.stderr.to": lambda rng: rng.choice(("manager", "syslog", "devnull")),
        "logs.timestamps": lambda rng: rng.choice((True, "local", "%H:%M")),
        "logs.max_size": lambda rng: rng.choice((0, 2**20)),
        "logs.rotate": lambda rng: rng.choice((3600 * S, 86400 * S)),
        "logs.mode": lambda rng: 0o640,
        "logs.owner": lambda rng: rng.choice((33, "www")),
        "logs.group": lambda rng: rng.choice((33, "www")),
        "logs.keep": lambda rng: rng.randrange(5),
        "logs.compress": lambda rng: True,
        "hooks.after_signal": lambda rng: HookSpec(cmd=("hook",), timeout=4 * S),
        "hooks.after_complete": lambda rng: HookSpec(cmd=("hook",), timeout=4 * S),
        "hook.python": lambda rng: "hooks.main",
        "hook.timeout": lambda rng: rng.randrange(5, 8) * S,
        "hook.on_error": lambda rng: "ignore",
        "hooks.after_ready": lambda rng: HookSpec(cmd=("hook",), timeout=4 * S),
        "ready": lambda rng: _ready(rng),
        "health": lambda rng: _health(rng),
        "rerun_on": lambda rng: rng.choice(((), ("spec_change",), ("boot", "daemon_start"))),
        "schedule": lambda rng: ScheduleSpec(
            **rng.choice(
                (
                    *({"every": n * S} for n in (2, 3, 5)),
                    {"cron": "* * * * *"},
                    {"cron": "*/2 * * * *"},
                )
            ),
            jitter=rng.choice((0, 0, S)),
            catch_up=rng.choice(("skip", "once")),
            run_at_start=rng.random() < 0.3,
        ),
        "timeout": lambda rng: rng.randrange(1, 5) * S,
        "overlap": lambda rng: rng.choice(("queue", "replace")),
        "on_lost": lambda rng: "rerun",
        "x": lambda rng: {"n": rng.random()},
        "socket.backlog": lambda rng: rng.choice((16, 128)),
        "socket.nodelay": lambda rng: False,
        "socket.keepalive": lambda rng: False,
        "socket.blocking": lambda rng: False,
        "apply.confirm_after": lambda rng: rng.randrange(1, 8) * S,
        "apply.on_failure": lambda rng: rng.choice(("pause", "rollback", "keep")),
        "daemon.max_concurrent_restarts": lambda rng: rng.choice((1, 1, 2)),
    }
    | {
        f"limits.{each.name}": lambda rng: rng.randrange(10)
        for each in declared_fields(LimitsSpec)
        if each.name not in {"cpu_affinity", "max_memory", "max_cpu", "max_count", "cgroup"}
    }
    | {"limits.cpu_affinity": lambda rng: (0,)}
)
"""What else may be said, each by some seeds: the field, and how a value of it is found."""


def _fields_of(cls: type, prefix: str) -> Iterator[str]:
    for each in declared_fields(cls):
        if isinstance(each.default, Struct):
            yield from _fields_of(type(each.default), f"{prefix}{each.name}.")
        else:
            yield f"{prefix}{each.name}"


MEANINGLESS: Final = {
    "on_demand": "no client comes to the sockets of the simulation",
    "env_file": "the loader reads the files and works them into `env`",
    "watchdog": "the programs of the simulation say nothing of themselves yet",
    "pid_file": "the programs of the simulation hand over to nobody yet",
    "watch": "the machine of the simulation has no files; their edits go the way of new secrets",
    "access": "says who may call, which is not simulated",
    "keep_runs": "only the store throws rows away, and that is not simulated",
    "max_restarts.then": "there is only one value",
    "on_exit": "would end the history; tests/core/test_ends.py kills the controller after each of its actions",
    "on_failure": "would end the history, like on_exit",
    **{
        f"limits.{each}": "no process of the simulation uses memory or processor time"
        for each in ("max_memory", "max_cpu", "max_count")
    },
    **{
        f"limits.cgroup.{each.name}": "the machine of the simulation has no control groups"
        for each in declared_fields(GroupLimitsSpec)
    },
    **{
        f"secret.{each}": "says where the controller reads; the core sees only that it is another"
        for each in ("cmd", "working_dir", "timeout", "refresh")
    },
    **{
        f"socket.{each}": "the fake kernel has only TCP sockets of one machine, without files"
        for each in ("type", "interface", "ipv6_only", "mode", "owner", "group")
    },
    **{
        f"apply.{each}": "says when files are read and edits accepted, which is not simulated"
        for each in ("auto", "quiet_period", "max_removal")
    },
    **dict.fromkeys(
        {*_fields_of(DaemonSpec, "daemon.")} - VALUES.keys(),
        "says how the manager itself runs, which is not simulated",
    ),
}
"""Fields that have no meaning in the simulation, each with the reason."""

PARTS: Final = {"max_restarts.count", "max_restarts.window", "max_restarts.retry_in", "secret.file"}
"""Fields of a value that is always given as a whole."""

ORDERS: Final = {
    "order start": "a start as people give it: what has given up or waits is tried again",
    "order restart": "a restart of slots that are named, or of all",
    "order reload": "a reload",
    "order resume": "what was said by hand is taken back",
    "order rerun": "a rerun of some slots, of those that failed, or of those that run, too",
    "order signal": "a signal to a slot, its children or its tree",
    "order rollback": "the revision before is put in force again",
    "order continue": "a revision that is paused goes on",
    "new secrets": "somebody changes the value of all secrets",
}
NEEDS: Final = {
    "unreadable secrets": "a secret cannot be read now and then",
    "clock leaps": "the wall clock is set forward or back, by seconds, minutes or days",
}
PROBED: Final = {
    "late readiness": "a process takes seconds until it is ready",
    "never ready": "a process does not become ready",
    "sickness": "a process is unhealthy for a while, or for good",
    "slow answers": "an answer to a probe takes long, or too long",
}
"""What a process may do where somebody asks it."""
LANGUAGE: Final = dict.fromkeys(VALUES, "people make use of this field") | ORDERS | NEEDS | PROBED
"""What the seeds choose from, beside faults: the same table, so that a failing seed is made smaller by them, too."""
NEWER: Final = (
    "rollout.max_unavailable",
    "rollout.pause",
    "schedule",
    "clock leaps",
    "daemon.max_concurrent_restarts",
    "rollout.max_surge",
    *("ready", "health", "hooks.after_ready", *PROBED),
)
"""What came later: each is chosen by a die of its own, so that histories without it stay what they were."""
PLAIN_ORDERS: Final = frozenset(
    ("stop", "rest", "start", "restart", "scale", "unscale", "signal", "rerun")
)

ALL_USES: Final = VALUES.keys() | ORDERS.keys() | PLAIN_ORDERS | {"cmd", "labels", "numprocesses"}
"""All that can occur in a history, as far as not every one begins with it."""

Kind = Literal["watcher", "hook", "socket", "apply", "daemon"]


def all_fields() -> Iterator[str]:
    """Yield every field that a watcher and what belongs to it has, as the model declares them."""
    yield from _fields_of(WatcherSpec, "")
    yield from _fields_of(MaxRestartsSpec, "max_restarts.")
    for cls, prefix in (
        (HookSpec, "hook."),
        (SecretSpec, "secret."),
        (SocketSpec, "socket."),
        (ApplySpec, "apply."),
        (DaemonSpec, "daemon."),
    ):
        yield from _fields_of(cls, prefix)


def changed(spec: T, path: str, value: object) -> T:
    """Return a spec in which one field, also of a block within it, has another value."""
    head, _, rest = path.partition(":")[0].partition(".")
    name = "as_" if head == "as" else head
    return replace(spec, **{name: changed(getattr(spec, name), rest, value) if rest else value})


def default(path: str) -> object:
    """Return what a field of a watcher is when nobody says anything."""
    value: object = WatcherSpec(cmd=())
    for name in path.partition(":")[0].split("."):
        value = getattr(value, "as_" if name == "as" else name)
    return value


def kind_of(path: str) -> Kind:
    """Return of what a field is."""
    head = path.partition(".")[0]
    return head if head in {"hook", "socket", "apply", "daemon"} else "watcher"  # type: ignore[return-value]


def listener(port: int) -> SocketSpec:
    """Return a socket as people want it."""
    return SocketSpec(listen=InternetAddress("127.0.0.1", port))
