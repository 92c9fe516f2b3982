"""What people and programs are shown: the stable shape of `status -o json`.

Times are absolute, in nanoseconds since the epoch, so that a fragment once made stays true.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from reconciler.model.job import Outcome
from reconciler.model.process import Exit
from reconciler.model.value import Struct

# `Failing` runs, but died several times in a row before, and has not outlived that yet.
# `Unknown` is a job whose ledger was damaged: nobody can tell whether it has run.
WatcherState: TypeAlias = Literal[
    "Running",
    "Rolling",
    "Starting",
    "Stopping",
    "BackOff",
    "Failing",
    "Waiting",
    "Completed",
    "Failed",
    "Unknown",
    "Held",
    "Stopped",
]
SlotState: TypeAlias = Literal[
    "Running",
    "Starting",
    "Stopping",
    "BackOff",
    "Failing",
    "Waiting",
    "Completed",
    "Failed",
    "Unknown",
    "Held",
    "Stopped",
]


class Condition(Struct, frozen=True):
    """One thing that is so or not, and why: Available, Progressing, Stale ... (Kubernetes' shape)."""

    type: str
    status: bool
    reason: str
    """One word for programs."""
    message: str
    """One sentence for people."""
    since_ns: int = 0


class Fired(Struct, frozen=True):
    """The newest run of a job's slot."""

    generation: int
    at_ns: int
    outcome: Outcome | None
    duration_ns: int | None = None


class SlotStatus(Struct, frozen=True):
    """One slot: what it does, since when, and how its last process ended."""

    slot: int
    state: SlotState
    since_ns: int
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


class OperatorWord(Struct, frozen=True):
    """What an operator said by hand and is still in force."""

    what: Literal["stopped", "started", "scaled"]
    message: str
    """For people, without times: `scaled to 4 instead of 2 by alice`."""
    who: str
    why: str
    since_ns: int
    until_ns: int | None = None
    """When it ends by itself; None: when it is taken back."""
    numprocesses: int | None = None
    """Of `scaled`."""


class WatcherStatus(Struct, frozen=True):
    """One watcher at a glance. `want` is the number of processes that shall run, of a job that it fires."""

    name: str
    kind: Literal["service", "job"]
    want: int
    state: WatcherState
    ready: int
    restarts: int
    note: str
    as_desired: bool
    """Nothing is left to do and nothing is wrong; what `apply` waits for and the exit code tells."""
    since_ns: int
    conditions: tuple[Condition, ...] = ()
    slots: tuple[SlotStatus, ...] = ()
    intent: tuple[OperatorWord, ...] = ()
    """What operators said of it by hand."""
    drift: bool = False
    """By the spec alone it would be otherwise; applying the spec does not change that, `resume` does."""
    replacements: int = 0


class SocketStatus(Struct, frozen=True):
    """One socket. `listen` is the real address, once it is bound."""

    name: str
    listen: str
    type: str
    state: Literal["Bound", "Failed", "Pending", "Unserved"]
    """`Unserved`: clients wait at it, processes that use it run, and none of them accepts."""
    used_by: tuple[str, ...] = ()
    note: str = ""
    backlog: int | None = None
    """How many clients may wait; what is in force, which the kernel may have cut (net.core.somaxconn)."""
    waiting: int = 0
    """Clients that wait while it is `Unserved`."""
