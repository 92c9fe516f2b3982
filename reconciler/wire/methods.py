"""The methods of the control socket: one table, by which the manager serves them and clients call them.

What a method takes is a value with a field for each parameter: its type is what is accepted, its default what counts
when it is not given. docs/protocol.md is compared with this by a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, TypeAlias

from msgspec import Meta

from reconciler.model import answer
from reconciler.model.change import Difference, Plan
from reconciler.model.order import Awaited, Goal
from reconciler.model.process import Reach
from reconciler.model.spec import MAX_NUMPROCESSES, Overlap, Role
from reconciler.model.status import Status
from reconciler.model.units import DAY_NS, MILLISECOND_NS, SECOND_NS
from reconciler.model.value import Struct, field
from reconciler.wire.rpc import MAX_STRING_BYTES

MAX_TEXT: Final = 4096
MAX_REQUEST_ID: Final = 128
"""Characters: it is stored with what the request changed."""
MAX_REASON: Final = 256
"""Characters: it stands in status, events and the store."""
MAX_LINES: Final = 10_000
MAX_RUNS: Final = 10_000
MAX_EVENTS: Final = 12_000
MAX_TIMEOUT_NS: Final = 10 * DAY_NS
LONGEST_NS: Final = 366 * DAY_NS
"""For which an override may count; what is to count for longer counts until it is taken back."""

Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Texts = tuple[Text, ...]
Number = Annotated[int, Meta(ge=0, le=2**62)]
Timeout = Annotated[int, Meta(ge=0, le=MAX_TIMEOUT_NS)]
Length = Annotated[int, Meta(ge=1, le=LONGEST_NS)]
Lines = Annotated[int, Meta(ge=0, le=MAX_LINES)]


class Parameters(Struct, frozen=True):
    """What every method takes."""

    request_id: Annotated[str, Meta(max_length=MAX_REQUEST_ID)] | None = None


class Selecting(Parameters, frozen=True):
    """Which watchers are meant."""

    names: Texts = ()
    labels: Mapping[str, Text] = field(default_factory=dict)


class Ordering(Parameters, frozen=True):
    """What every order takes."""

    reason: Annotated[str, Meta(max_length=MAX_REASON)] = ""


class Waiting(Ordering, frozen=True):
    """Whether and how long a request waits until what was asked for is done."""

    wait: bool = False
    timeout_ns: Timeout | None = None


class OrderOfSelected(Waiting, frozen=True):
    """An order about the watchers that are meant."""

    names: Texts = ()
    labels: Mapping[str, Text] = field(default_factory=dict)


# ---- of each method -------------------------------------------------------------------------------


class Hello(Parameters, frozen=True):
    """Who calls."""

    client: Text | None = None
    protocol: Annotated[int, Meta(ge=0, le=2**31)] | None = None


class AskStatus(Selecting, frozen=True):
    """`usage`: with processor time and memory; `lean`: without what is at its default."""

    usage: bool = False
    lean: bool = False


class AskPlan(Parameters, frozen=True):
    """Of which files."""

    source: Texts = ()


class AskDiff(Parameters, frozen=True):
    """Of which revisions."""

    old: Number | None = None
    new: Number | None = None


class AskEvents(Parameters, frozen=True):
    """Which events are meant."""

    names: Texts = ()
    types: Texts = ()
    since: Number | None = None
    since_ns: Number = 0


class NewestEvents(AskEvents, frozen=True):
    """And how many."""

    limit: Annotated[int, Meta(ge=1, le=MAX_EVENTS)] = MAX_EVENTS


class FollowEvents(AskEvents, frozen=True):
    """`whole`: from this controller's first event on; `until_end`: the manager waits at its end for this reader."""

    whole: bool = False
    until_end: bool = False


class AskRuns(Selecting, frozen=True):
    """How many."""

    limit: Annotated[int, Meta(ge=1, le=MAX_RUNS)] = 1000


class AskOptions(Parameters, frozen=True, kw_only=True):
    """Of which watcher."""

    name: Text


class AskLogs(Selecting, frozen=True):
    """Of which streams, and how many lines."""

    lines: Lines | None = None
    since_ns: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    stderr: bool = False
    hooks: bool = False


class FollowLogs(Selecting, frozen=True):
    """Where the lines begin; `after` are places in logs where an earlier stream has ended."""

    lines: Lines = 10
    stderr: bool = False
    hooks: bool = False
    whole: bool = False
    resumable: bool = False
    after: tuple[Annotated[str, Meta(max_length=MAX_STRING_BYTES)], ...] = ()


class FollowApply(Selecting, frozen=True):
    """Until when: `runs`, jobs have ended."""

    revision: Number | None = None
    runs: bool = False


class FollowOrders(Parameters, frozen=True, kw_only=True):
    """Of which orders."""

    goals: tuple[Goal, ...]


class FollowWait(Selecting, frozen=True):
    """What is waited for; None: a service to be ready, a job to succeed."""

    awaits: Awaited | None = None


class FollowStats(Selecting, frozen=True):
    """How often."""

    interval_ns: Annotated[int, Meta(ge=500 * MILLISECOND_NS, le=DAY_NS)] = SECOND_NS


class CancelStream(Parameters, frozen=True, kw_only=True):
    """Which one."""

    stream: Number


class Apply(Ordering, frozen=True):
    """Of which files, and what is consented to."""

    source: Texts = ()
    dry_run: bool = False
    only: Texts = ()
    allow_removal: bool = False
    replace_source: bool = False
    goes_on: bool = field(default=False, name="continue")
    base: Number | None = None


class Rollback(Ordering, frozen=True):
    """To which revision, and what is consented to."""

    revision: Number | None = None
    dry_run: bool = False
    allow_removal: bool = False
    base: Number | None = None


class ForSomeTime(OrderOfSelected, frozen=True):
    """An order that may end by itself."""

    for_ns: Length | None = None


class Stop(ForSomeTime, frozen=True):
    """`with_dependents`: all that depend on these watchers, too, first."""

    with_dependents: bool = False


class Restart(OrderOfSelected, frozen=True):
    """`at_once`: all slots together."""

    at_once: bool = False


class Rerun(OrderOfSelected, frozen=True):
    """Which slots, and what becomes of those that run. Who `require_all` decides by the answer."""

    failed: bool = False
    overlap: Overlap | None = None
    require_all: bool = False


class SendSignal(Ordering, frozen=True, kw_only=True):
    """Which signal, and how far it goes."""

    signal: Text
    names: Texts = ()
    labels: Mapping[str, Text] = field(default_factory=dict)
    reach: Reach = "process"
    timeout_ns: Timeout | None = None


class Scale(Waiting, frozen=True, kw_only=True):
    """Numbers of processes by names of watchers, which may be globs; None is the spec's own.

    `by`: how many more, or fewer, than there are to be now.
    """

    scale: Mapping[str, Annotated[int, Meta(ge=0, le=MAX_NUMPROCESSES)] | None] = field(
        default_factory=dict
    )
    by: Mapping[str, Annotated[int, Meta(ge=-MAX_NUMPROCESSES, le=MAX_NUMPROCESSES)]] = field(
        default_factory=dict
    )
    for_ns: Length | None = None


class Exec(Ordering, frozen=True, kw_only=True):
    """Of which watcher or slot."""

    name: Text


class Upgrade(Ordering, frozen=True):
    """The how many-th it is, and what runs the other version."""

    number: Annotated[int, Meta(ge=1, le=2**31)] | None = None
    python: Text | None = None


class ShutDown(Ordering, frozen=True):
    """How, and with which exit code of the manager."""

    now: bool = False
    code: Annotated[int, Meta(ge=0, le=255)] = 0
    wait: bool = False


Selects: TypeAlias = Selecting | OrderOfSelected | SendSignal

# ---- the table ------------------------------------------------------------------------------------


class Method(Struct, frozen=True):
    """A method: who may call it, what it takes, and what it answers.

    A mutation may carry a `request_id`, and is answered once for it. A method that follows answers `{stream}`, and
    `result` is what its notifications are.
    """

    role: Role
    parameters: type[Parameters]
    result: type[Struct] | None = None
    mutates: bool = False
    follows: str = ""
    """The name of its notifications; empty: it sends none."""


METHODS: Final[dict[str, Method]] = {
    "hello": Method("view", Hello, answer.Hello),
    "status": Method("view", AskStatus, Status),
    "plan": Method("view", AskPlan, Plan),
    "options": Method("view", AskOptions, answer.Options),
    "history": Method("view", Parameters, answer.History),
    "diff": Method("view", AskDiff, Difference),
    "events": Method("view", NewestEvents, answer.Events),
    "runs": Method("view", AskRuns, answer.Runs),
    "logs": Method("view", AskLogs, answer.Logs),
    "stats": Method("view", Selecting, answer.Stats),
    "stats.follow": Method("view", FollowStats, answer.Stats, follows="stats"),
    "events.follow": Method("view", FollowEvents, answer.EventEntry, follows="event"),
    "logs.follow": Method("view", FollowLogs, answer.LogEntry, follows="log"),
    "apply.follow": Method("view", FollowApply, answer.Progress, follows="progress"),
    "orders.follow": Method("view", FollowOrders, answer.Progress, follows="progress"),
    "wait.follow": Method("view", FollowWait, answer.Progress, follows="progress"),
    "stream.cancel": Method("view", CancelStream),
    "start": Method("operate", ForSomeTime, answer.OrderResults, mutates=True),
    "stop": Method("operate", Stop, answer.OrderResults, mutates=True),
    "restart": Method("operate", Restart, answer.OrderResults, mutates=True),
    "reload": Method("operate", OrderOfSelected, answer.OrderResults, mutates=True),
    "signal": Method("operate", SendSignal, answer.OrderResults, mutates=True),
    "scale": Method("operate", Scale, answer.OrderResults, mutates=True),
    "resume": Method("operate", OrderOfSelected, answer.OrderResults, mutates=True),
    "rerun": Method("operate", Rerun, answer.OrderResults, mutates=True),
    "exec": Method("admin", Exec, answer.Surroundings),
    "apply": Method("admin", Apply, Plan, mutates=True),
    "rollback": Method("admin", Rollback, Plan, mutates=True),
    "upgrade": Method("admin", Upgrade, answer.Hello, mutates=True),
    "shutdown": Method("admin", ShutDown, mutates=True),
}
