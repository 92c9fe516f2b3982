"""What a manager answers, beside `status` and `change`: one value for each entry of its lists and streams.

A client reads them. Each field has a default, so that another version may leave it out; what it says besides
is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.model.process import Exit
from reconciler.model.value import Plain, Struct, field


class Hello(Struct, frozen=True):
    """The answer to `hello`: who the manager is."""

    name: str = ""
    version: str = ""
    source: tuple[str, ...] = ()
    state_dir: str = ""
    keeper_pid: int = 0
    upgrades: int = 0


class RevisionEntry(Struct, frozen=True):
    """One entry of `history`."""

    number: int = 0
    applied_ns: int = 0
    who: str = ""
    uid: int | None = None
    digest: str = ""
    commit: str = ""
    dirty: bool = False
    restores: int = 0
    outcome: str = ""
    reason: str = ""
    judged_ns: int | None = None
    due_ns: int | None = None
    log: tuple[str, ...] = ()


class History(Struct, frozen=True):
    """The answer to `history`, the newest first."""

    revision: int = 0
    revisions: tuple[RevisionEntry, ...] = ()


class EventEntry(Struct, frozen=True):
    """One entry of `events`."""

    seq: int = 0
    time_ns: int = 0
    type: str = ""
    watcher: str = ""
    slot: int = 0
    message: str = ""
    details: Mapping[str, object] = field(default_factory=dict)


class Events(Struct, frozen=True):
    """The answer to `events`, oldest first; and what of it is left out, or kept no more."""

    events: tuple[EventEntry, ...] = ()
    left_out: int = 0
    kept_since_ns: int | None = None


class LogEntry(Struct, frozen=True):
    """Whole lines of one log file."""

    watcher: str = ""
    slot: int = 0
    source: str = "stdout"
    data: bytes = b""
    error: str = ""
    """Why there are no lines, or what was missed before these."""
    path: str = ""
    more: bool = False
    """There are older lines than were asked for."""
    cut: bool = False
    """There was no room for as many lines as were asked for."""
    undated: bool = False
    """Lines have no times, so the filter by time chose whole files."""


class PastLog(LogEntry, frozen=True):
    """An entry of `logs`. In `logs.follow` the word `stream` is taken by its number."""

    source: str = field(default="stdout", name="stream")


class Logs(Struct, frozen=True):
    """The answer to `logs`; `empty` says why there is no output of a watcher."""

    entries: tuple[PastLog, ...] = ()
    empty: tuple[str, ...] = ()


class RunEntry(Struct, frozen=True):
    """One run of one slot of a job; `outcome` None: it has not ended."""

    name: str = ""
    slot: int = 0
    generation: int = 0
    trigger: str = ""
    who: str = ""
    fired_ns: int = 0
    ended_ns: int | None = None
    duration_ns: int | None = None
    outcome: str | None = None
    pid: int | None = None
    exit: Exit | None = None
    note: str = ""
    instant_ns: int | None = None
    """The instant of its schedule that it was fired for."""


class Runs(Struct, frozen=True):
    """The answer to `runs`, the newest first."""

    runs: tuple[RunEntry, ...] = ()


class Waiting(Struct, frozen=True):
    """A watcher that is waited for."""

    name: str = ""
    state: str = ""
    note: str = ""
    stuck: bool = False
    """What it depends on does not come by itself."""


class Failed(Struct, frozen=True):
    """What of an order cannot come about any more, and why."""

    name: str = ""
    message: str = ""


class SlotStats(Struct, frozen=True):
    """What the process of a slot and all that it has started use just now."""

    watcher: str = ""
    slot: int = 0
    pid: int = 0
    state: str = ""
    since_ns: int = 0
    restarts: int = 0
    cpu_percent: float = 0.0
    """Of one processor, over the last second or more."""
    cpu_ns: int = 0
    memory_bytes: int = 0
    processes: int = 0
    threads: int = 0


class Stats(Struct, frozen=True):
    """The answer to `stats`, and a notification of `stats.follow`: slots with a process."""

    time_ns: int = 0
    slots: tuple[SlotStats, ...] = ()
    left_out: int = 0
    """So many that use least are left out of a notification."""


class OptionEntry(Struct, frozen=True):
    """A field of a watcher as it is in force: `stop.timeout`, `env.PORT`; the value is in the notation of a spec."""

    field: str = ""
    value: str = ""
    is_default: bool = False
    effect: str = ""
    """What an edit of it does: none, live, restart or rebind."""


class Options(Struct, frozen=True):
    """The answer to `options`."""

    name: str = ""
    fields: tuple[OptionEntry, ...] = ()


class Surroundings(Struct, frozen=True):
    """The answer to `exec`: all that a process of a slot is started with, but for its command.

    `env` holds the values of secrets. `limits` are as in a launch, by rlimit name; `files` and `core` what holds
    where these say nothing.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    umask: int = 0o022
    uid: int = -1
    gid: int = -1
    limits: Mapping[str, tuple[int | None, int | None]] = field(default_factory=dict)
    files: tuple[int, int] = (-1, -1)
    core: int = -1
    nice: int | None = None
    cpu_affinity: tuple[int, ...] | None = None
    oom_score_adj: int | None = None

    def __repr__(self) -> str:
        return "Surroundings(...)"


class Progress(Struct, frozen=True):
    """One notification of how far something is; of many that are waited for only the first are named."""

    revision: int = 0
    converged: bool = False
    waiting: tuple[Waiting, ...] = ()
    remaining: int = 0
    failed: tuple[Failed, ...] = ()
    outcome: str = ""
    reason: str = ""
    done: bool = False


class RunningSlot(Struct, frozen=True):
    """A slot that a rerun does not fire because it still runs."""

    slot: int = 0
    pid: int | None = None
    since_ns: int | None = None


class OrderResult(Struct, frozen=True):
    """What an order does to one watcher; those between are a rerun's. `queued`: fired once its run has ended."""

    name: str = ""
    generation: int = 0
    fired: tuple[int, ...] = ()
    queued: tuple[int, ...] = ()
    running: tuple[RunningSlot, ...] = ()
    message: str = ""
    taken: str = "accepted"
    """accepted, skipped (a glob selected it), or refused: what was asked for does not come about."""
    goal: Mapping[str, Plain] | None = None
    """What `orders.follow` can wait for, if there is anything; handed back as it came."""


class OrderResults(Struct, frozen=True):
    """The answer to an order."""

    results: tuple[OrderResult, ...] = ()
