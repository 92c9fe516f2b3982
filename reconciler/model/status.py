"""What people and programs are shown: the stable shape of `status -o json`.

Times are absolute, in nanoseconds since the epoch, so that a fragment once made stays true. Clients read these
values, too: whatever a manager of another version leaves out has a default.
"""

from __future__ import annotations

from typing import Final

from reconciler.model.errors import SpecError
from reconciler.model.job import Instant
from reconciler.model.process import Exit
from reconciler.model.value import Struct, Word, field

# `Failing` runs, but died several times in a row before, and has not outlived that yet.
# `Idle` runs on demand, and nobody has come.
# `Scheduled` is a job that waits for the next instant of its schedule; its last run, if any, has succeeded.
# `Unknown` is a job whose ledger was damaged: nobody can tell whether it has run.
WatcherState = Word[
    "Running", "Idle", "Rolling", "Starting", "Stopping", "BackOff", "Failing",
    "Waiting", "Scheduled", "Completed", "Failed", "Unknown", "Held", "Stopped",
]  # fmt: skip
SlotState = Word[
    "Running", "Idle", "Starting", "Stopping", "BackOff", "Failing",
    "Waiting", "Scheduled", "Completed", "Failed", "Unknown", "Held", "Stopped",
]  # fmt: skip
WatcherKind = Word["service", "job", "plugin"]
SocketState = Word["Bound", "Failed", "Pending", "Unserved"]
"""`Unserved`: clients wait at it, processes that use it run, and none of them accepts."""
CALM: Final = frozenset({"Running", "Idle", "Scheduled", "Completed"})
"""The states in which nothing is left to do."""
ProbeKind = Word["ready", "health"]
OverrideKind = Word["stopped", "started", "scaled"]


class Condition(Struct, frozen=True):
    """One thing that is so or not, and why: Ready, UpToDate, Failing ... (Kubernetes' shape)."""

    type: str = ""
    status: bool = False
    reason: str = ""
    """One word for programs; of UpToDate Paused, where a revision that is not good keeps slots as they are."""
    message: str = ""
    """One sentence for people."""
    since_ns: int = 0


class Fired(Struct, frozen=True):
    """The newest run of a job's slot."""

    generation: int = 0
    at_ns: int = 0
    outcome: str | None = None
    duration_ns: int | None = None


class LastProbe(Struct, frozen=True):
    """What the newest probe of a process has come to: of `ready` until it is, then of `health`."""

    kind: ProbeKind = "ready"
    ok: bool | None = None
    """None: it has not answered yet."""
    message: str = ""
    at_ns: int = 0
    """Since when it comes to that, as far as is known; 0: it is not."""


class DependencyStatus(Struct, frozen=True):
    """Another watcher that comes first, what is waited for of it, and whether that is so."""

    name: str = ""
    condition: str = ""
    met: bool = False


class SlotStatus(Struct, frozen=True):
    """One slot: what it does, since when, and how its last process ended."""

    slot: int = 0
    state: SlotState = "Waiting"
    since_ns: int = 0
    pid: int | None = None
    attempt: int = 0
    restarts: int = 0
    """Starts that nobody planned, and (`replacements`) those in place of a process that was stopped on purpose."""
    replacements: int = 0
    next_ns: int | None = None
    """When something is due by itself: the next start, the KILL."""
    outdated: bool = False
    """It runs, but not as the spec now says."""
    exit: Exit | None = None
    fired: Fired | None = None
    note: str = ""
    cpu_percent: float | None = None
    """Of the process and all that it started, where it was asked for; and its memory."""
    memory_bytes: int | None = None
    stuck: bool = False
    """It waits for another watcher, which does not come to what is waited for by itself."""
    said: str = ""
    """What the process says of itself (`STATUS=` of sd_notify(3))."""
    ready: bool = False
    """Its process runs, and counts as ready and healthy."""
    last_probe: LastProbe | None = None
    """Where its spec has it asked whether it is ready or healthy."""
    renewed: str = ""
    """Why its process was started in place of another one of the same spec, as a sentence goes on: `was restarted`."""

    @property
    def as_desired(self) -> bool:
        """Tell whether it runs as the spec now says, or has done what it had to do."""
        return self.state in CALM and not self.outdated


class Override(Struct, frozen=True):
    """What an operator set by hand and is still in force."""

    what: OverrideKind = "stopped"
    message: str = ""
    """For people, without times: `scaled to 4 instead of 2 by alice`."""
    who: str = ""
    why: str = ""
    since_ns: int = 0
    until_ns: int | None = None
    """When it ends by itself; None: when it is taken back."""
    numprocesses: int | None = None
    """Of `scaled`."""


class WatcherStatus(Struct, frozen=True):
    """One watcher at a glance. `want` is the number of processes that shall run, of a job that it fires.

    `told_conditions` None: it is as desired, and its conditions follow from all else.
    """

    name: str = ""
    kind: WatcherKind = "service"
    want: int = 0
    state: WatcherState = "Waiting"
    ready: int = 0
    restarts: int = 0
    note: str = ""
    as_desired: bool = False
    """Nothing is left to do and nothing is wrong; what `apply` waits for and the exit code tells."""
    since_ns: int = 0
    told_conditions: tuple[Condition, ...] | None = field(default=None, name="conditions")
    slots: tuple[SlotStatus, ...] = ()
    overrides: tuple[Override, ...] = ()
    """What operators set by hand."""
    drift: bool = False
    """By the spec alone it would be otherwise; applying the spec does not change that, `resume` does."""
    replacements: int = 0
    want_formula: str = ""
    """From what the spec works `want` out, such as cpus*2; empty where it is a number, or set by hand."""
    next_runs: tuple[Instant, ...] = ()
    """The next instants of its schedule, while that is in force."""
    depends_on: tuple[DependencyStatus, ...] = ()
    """What it waits for before each start, in the order of the spec."""

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Return what is so or not, and why."""
        if self.told_conditions is None:
            return usual_conditions(self) if self.as_desired else ()
        return self.told_conditions

    def all_fields(self) -> dict[str, object]:
        """Return all fields, and the conditions also where they are the usual ones."""
        return super().all_fields() | {"conditions": self.conditions}


def usual_conditions(watcher: WatcherStatus) -> tuple[Condition, ...]:
    """Return the conditions of a watcher of which nothing more is to be said than that it is as desired."""
    found = [
        ("AsDesired", True, "AsDesired", watcher.note),
        ("Ready", True, "Ready", f"{watcher.ready} of {watcher.want} ready"),
        ("UpToDate", True, "UpToDate", ""),
        ("Failing", False, "Healthy", ""),
    ]
    if watcher.depends_on:
        found.append(("DependenciesMet", True, "Met", ""))
    if watcher.kind != "job":
        found.append(("Healthy", True, "Healthy", ""))
    since_ns = max((slot.since_ns for slot in watcher.slots), default=0)
    return tuple(Condition(*each, since_ns) for each in found)


class SocketStatus(Struct, frozen=True):
    """One socket. `listen` is the real address, once it is bound."""

    name: str = ""
    listen: str = ""
    type: str = "stream"
    state: SocketState = "Pending"
    used_by: tuple[str, ...] = ()
    note: str = ""
    backlog: int | None = None
    """How many clients may wait; what is in force, which the kernel may have cut (net.core.somaxconn)."""
    waiting: int = 0
    """Clients that wait while it is `Unserved`."""


class OrphanStatus(Struct, frozen=True):
    """A process that belongs to no watcher, or to none for certain."""

    pid: int = 0
    name: str = ""
    owners: tuple[str, ...] = ()
    on_purpose: bool = False
    message: str = ""


class Status(Struct, frozen=True):
    """The answer to `status`."""

    name: str = ""
    revision: int = 0
    observed_revision: int = 0
    keeper_pid: int = 0
    controller_pid: int = 0
    containment: str = ""
    outcome: str = ""
    reason: str = ""
    culprit: str = ""
    due_ns: int | None = None
    log: tuple[str, ...] = ()
    commit: str = ""
    dirty: bool = False
    source: tuple[str, ...] = ()
    auto_apply: bool = True
    spec_state: str = "applied"
    spec_message: str = ""
    watching: str = ""
    spec_errors: tuple[SpecError, ...] = ()
    store_state: str = "good"
    store_message: str = ""
    settled: bool = False
    others: int = 0
    watchers: tuple[WatcherStatus, ...] = ()
    orphans: tuple[OrphanStatus, ...] = ()
    sockets: tuple[SocketStatus, ...] = ()
