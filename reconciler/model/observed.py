"""The picture of the world that observations add up to, cut by watcher so that one observation touches one piece."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NoReturn

from reconciler.model.intent import NO_INTENT, Intent
from reconciler.model.job import Instant, Job, Run
from reconciler.model.observation import LimitExceeded, LogChanged, ProbeAnswered, Request
from reconciler.model.probe import Probing
from reconciler.model.process import MAIN, ProcessId, ProcessRecord, pid_of
from reconciler.model.socket import SocketRecord
from reconciler.model.spec import SecretSpec
from reconciler.model.value import Struct, field


class SecretsObserved(Struct, frozen=True):
    """What is known about the secrets of a watcher; their values are not."""

    sources: Mapping[str, SecretSpec] = field(default_factory=dict)
    """Where they come from: what was found there says nothing of a spec that names other sources."""
    digest: str = ""
    """Keyed hash of all values at hand; empty: they were not read by this controller."""
    asked: bool = False
    """They are being read."""
    trouble: str = ""
    """Why they could not be read, the last time."""
    attempt: int = 0
    """Readings in vain, in a row, the last of them at `at_ns`."""
    at_ns: int = 0


class ProbeObserved(Struct, frozen=True):
    """What is asked of a process on behalf of this controller, and what has come of it."""

    incarnation: int
    probing: Probing
    answer: ProbeAnswered | None = None


class DemandObserved(Struct, frozen=True):
    """What is known of the use of processes that run on demand."""

    used_at_ns: int = 0
    """When one was started or seen in use last; 0: not in the life of this controller."""
    counting: bool = False
    """Its clients are being counted."""
    is_unused: bool = False
    """Nobody was connected at the end of the idle time."""


class InstantsObserved(Struct, frozen=True):
    """What is known of the instants of a schedule, see `InstantsFound`; without `timing` nothing is."""

    timing: str = ""
    after_ns: int = 0
    times: tuple[Instant, ...] = ()
    left_out: bool = False
    trouble: str = ""
    at_ns: int = 0
    """When they could not be worked out last (monotonic)."""
    asked: bool = False
    """They are being worked out."""


class FilesObserved(Struct, frozen=True):
    """What is known about the files that a watcher watches."""

    paths: tuple[str, ...] = ()
    """Which those are: what was seen says nothing of a spec that names others, or ignores others (`ignore`)."""
    ignore: tuple[str, ...] = ()
    digest: str = ""
    """Of all that was seen; empty: this controller has not looked yet."""
    asked_ns: int | None = None
    """Since when a start waits for the first look."""
    trouble: str = ""
    """Why they could not be looked at, the last time."""
    changed: str = ""
    """What changed last, for people."""


class _Nothing(dict[Any, Any]):
    """An empty mapping that stays so: most watchers have it in common, and who adds to it makes his own first."""

    def __setitem__(self, key: object, value: object) -> NoReturn:
        msg = "what is empty of many watchers is not changed: see Picture.own"
        raise AssertionError(msg)

    def setdefault(self, key: object, default: object = None) -> NoReturn:
        self[key] = default

    def update(self, *_: object, **__: object) -> NoReturn:
        self[None] = None


NOTHING: Final = _Nothing()
NO_JOB: Final = Job(runs=NOTHING)


def _nothing() -> _Nothing:
    return NOTHING


class WatcherObserved(Struct, frozen=True):
    """What is known about one watcher, running or not, in the spec or not."""

    records: dict[ProcessId, ProcessRecord] = field(default_factory=dict)
    """Changed in place by `Reconciler`, between two plans: one observation must not cost a copy of all."""
    helpers: dict[int, set[ProcessId]] = field(default_factory=_nothing)
    """Which of the records are of hooks and commands, by slot."""
    live: set[int] = field(default_factory=set)
    """Slots whose own process, or what it has started and must be gone with it, lives."""
    job: Job = NO_JOB
    intent: Intent = NO_INTENT
    open_runs: dict[int, None] = field(default_factory=_nothing)
    """Slots of a job whose newest run has no outcome yet. Of most watchers none has: an empty set is no small thing."""
    requests: dict[ProcessId, tuple[Request, ...]] = field(default_factory=_nothing)
    """What operators asked of running processes, oldest first; at most `MAX_REQUESTS` of each process."""
    writing: dict[int, Run] = field(default_factory=_nothing)
    """Runs by slot that are on their way to the disk."""
    unwritten: Mapping[str, LogChanged] = field(default_factory=_nothing)
    """Log files by path whose file system takes nothing just now."""
    secrets: SecretsObserved = SecretsObserved()
    demand: DemandObserved = DemandObserved()
    files: FilesObserved = FilesObserved()
    exceeded: dict[int, LimitExceeded] = field(default_factory=_nothing)
    """By slot, which limit a process of it was seen above; it may be another's by now."""
    probes: dict[ProcessId, ProbeObserved] = field(default_factory=_nothing)
    """What is asked of its processes, with the purpose as role."""
    instants: InstantsObserved = InstantsObserved()

    @property
    def running(self) -> tuple[int, ...]:
        """Return the slots whose own process lives, in order."""
        return tuple(
            sorted(id.slot for id, r in self.records.items() if id.role == MAIN and pid_of(r.phase))
        )


class Facts(Struct, frozen=True):
    """What the core must be told about the place it works in; it never asks the world."""

    instance: str
    keeper_id: str
    boot_id: str
    logs_dir: str
    """Absolute folder of the default log files."""
    control_socket: str
    """Path of the control socket, for hooks that call back."""
    python: str
    """Interpreter for Python hooks of watchers without a virtualenv."""
    hook_runner: str
    """Path of the file that runs a Python hook."""
    exit_with: tuple[str, ...] = ()
    """Watchers with whose end everything ends, besides those whose `on_exit` says so."""
    controllers: tuple[str, ...] = ()
    """Which limits the control groups of processes can have, as `KeeperIntroduced` says."""
    uids: Mapping[str, int] = field(default_factory=dict)
    """Users that the spec names as owners of log files, as far as their numbers are known."""
    gids: Mapping[str, int] = field(default_factory=dict)
    """Groups, likewise."""


Sockets = Mapping[str, SocketRecord]
