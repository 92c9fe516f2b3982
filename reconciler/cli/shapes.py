"""How the manager's answers look: plain maps as they come over the wire, completed where they are
short.

The wire leaves out what is at its default. Here each map gets all its keys, so that rendering
needs no guesses and `status -o json` is stable: more keys may come, none goes. A test compares
these declarations with the values of `model.status` and `model.change`; importing those would
cost every command 20 ms.
"""

from __future__ import annotations

from typing import Final, TypedDict, TypeVar, cast

Map = dict[str, object]
Strings = list[str]

T = TypeVar("T")


class LaunchErrorMap(TypedDict):
    """`model.process.LaunchError`."""

    step: str
    errno: str
    path: str
    message: str
    user: str
    searched: str


class ExitMap(TypedDict):
    """`model.process.Exit`."""

    code: int | None
    signal: str | None
    core: bool
    error: LaunchErrorMap | None


class FiredMap(TypedDict):
    """`model.status.Fired`."""

    generation: int
    at_ns: int
    outcome: str | None
    duration_ns: int | None


class ConditionMap(TypedDict):
    """`model.status.Condition`."""

    type: str
    status: bool
    reason: str
    message: str
    since_ns: int


class SlotMap(TypedDict):
    """`model.status.SlotStatus`, with processor time and memory where they were asked for."""

    slot: int
    state: str
    since_ns: int
    pid: int | None
    attempt: int
    restarts: int
    replacements: int
    next_ns: int | None
    outdated: bool
    exit: ExitMap | None
    fired: FiredMap | None
    note: str
    cpu_percent: float | None
    memory_bytes: int | None


class WordMap(TypedDict):
    """`model.status.OperatorWord`."""

    what: str
    message: str
    who: str
    why: str
    since_ns: int
    until_ns: int | None
    numprocesses: int | None


class WatcherMap(TypedDict):
    """`model.status.WatcherStatus`."""

    name: str
    kind: str
    want: int
    state: str
    ready: int
    restarts: int
    replacements: int
    note: str
    as_desired: bool
    since_ns: int
    conditions: list[ConditionMap]
    slots: list[SlotMap]
    intent: list[WordMap]
    drift: bool


class SocketMap(TypedDict):
    """`model.status.SocketStatus`."""

    name: str
    listen: str
    type: str
    state: str
    used_by: Strings
    note: str
    backlog: int | None
    waiting: int


class SpecErrorMap(TypedDict):
    """`model.errors.SpecError`."""

    path: str
    line: int
    column: int
    field: str
    message: str
    hint: str
    excerpt: str


class OrphanMap(TypedDict):
    """A process that belongs to no watcher, or to none for certain."""

    pid: int
    name: str
    owners: list[str]
    on_purpose: bool
    message: str


class StatusMap(TypedDict):
    """The answer to `status`."""

    name: str
    revision: int
    observed_revision: int
    outcome: str
    reason: str
    culprit: str
    due_ns: int | None
    others: int
    log: Strings
    commit: str
    dirty: bool
    keeper_pid: int
    controller_pid: int
    source: Strings
    auto_apply: bool
    spec_state: str
    spec_message: str
    watching: str
    store_state: str
    store_message: str
    spec_errors: list[SpecErrorMap]
    orphans: list[OrphanMap]
    settled: bool
    watchers: list[WatcherMap]
    sockets: list[SocketMap]


class RevisionMap(TypedDict):
    """One entry of `history`."""

    number: int
    applied_ns: int
    who: str
    uid: int | None
    digest: str
    commit: str
    dirty: bool
    restores: int
    outcome: str
    reason: str
    judged_ns: int | None
    due_ns: int | None
    log: Strings


class FieldChangeMap(TypedDict):
    """`model.change.FieldChange`."""

    field: str
    effect: str
    old: str
    new: str


class ChangeMap(TypedDict):
    """`model.change.Change`."""

    kind: str
    name: str
    how: str
    message: str
    slots: list[int]
    fields: list[FieldChangeMap]


class DriftMap(TypedDict):
    """`model.change.Drift`."""

    name: str
    words: list[WordMap]


class EventMap(TypedDict):
    """One entry of `events`."""

    seq: int
    time_ns: int
    type: str
    watcher: str
    slot: int
    message: str
    details: Map


class WaitingMap(TypedDict):
    """What `apply.follow` still waits for."""

    name: str
    state: str
    note: str


class ProgressMap(TypedDict):
    """One notification of `apply.follow` or `orders.follow`; of many that are waited for only the first are named."""

    revision: int
    converged: bool
    waiting: list[WaitingMap]
    remaining: int
    failed: list[FailedMap]
    outcome: str
    reason: str
    done: bool


class LogMap(TypedDict):
    """Whole lines of one slot's output."""

    watcher: str
    slot: int
    source: str
    data: bytes
    error: str
    """Why there are no lines, or what was missed before these."""
    path: str
    more: bool
    """There are older lines than were asked for."""
    cut: bool
    """There was no room for as many lines as were asked for."""
    undated: bool
    """Lines have no times, so the filter by time chose whole files."""


class RunningMap(TypedDict):
    """A slot that a rerun did not fire because it still runs."""

    slot: int
    pid: int | None
    since_ns: int | None


class RunMap(TypedDict):
    """One run of one slot of a job; `outcome` None: it has not ended."""

    name: str
    slot: int
    generation: int
    trigger: str
    who: str
    fired_ns: int
    ended_ns: int | None
    duration_ns: int | None
    outcome: str | None
    pid: int | None
    exit: ExitMap | None
    note: str


class ResultMap(TypedDict):
    """What an operation did to one watcher; the middle three are a rerun's."""

    name: str
    generation: int
    fired: list[int]
    running: list[RunningMap]
    message: str
    taken: str
    """accepted, skipped (a glob selected it), or refused: what was asked for does not come about."""
    goal: Map | None
    """What `orders.follow` can wait for, if there is anything."""


class FailedMap(TypedDict):
    """What of an order cannot come about any more, and why."""

    name: str
    message: str


LAUNCH_ERROR: Final[Map] = {
    "step": "",
    "errno": "",
    "path": "",
    "message": "",
    "user": "",
    "searched": "",
}
EXIT: Final[Map] = {"code": None, "signal": None, "core": False, "error": None}
FIRED: Final[Map] = {"generation": 0, "at_ns": 0, "outcome": None, "duration_ns": None}
CONDITION: Final[Map] = {"type": "", "status": False, "reason": "", "message": "", "since_ns": 0}
SLOT: Final[Map] = {
    "slot": 0,
    "state": "Waiting",
    "since_ns": 0,
    "pid": None,
    "attempt": 0,
    "restarts": 0,
    "replacements": 0,
    "next_ns": None,
    "outdated": False,
    "exit": None,
    "fired": None,
    "note": "",
}
WORD: Final[Map] = {
    "what": "",
    "message": "",
    "who": "",
    "why": "",
    "since_ns": 0,
    "until_ns": None,
    "numprocesses": None,
}
USAGE: Final[Map] = {"cpu_percent": None, "memory_bytes": None}
USED_SLOT: Final[Map] = SLOT | USAGE
WATCHER: Final[Map] = {
    "name": "",
    "kind": "service",
    "want": 0,
    "state": "Waiting",
    "ready": 0,
    "restarts": 0,
    "replacements": 0,
    "note": "",
    "as_desired": False,
    "since_ns": 0,
    "conditions": (),
    "slots": (),
    "intent": (),
    "drift": False,
}
SOCKET: Final[Map] = {
    "name": "",
    "listen": "",
    "type": "stream",
    "state": "Pending",
    "used_by": (),
    "note": "",
    "backlog": None,
    "waiting": 0,
}
SPEC_ERROR: Final[Map] = {
    "path": "",
    "line": 0,
    "column": 0,
    "field": "",
    "message": "",
    "hint": "",
    "excerpt": "",
}
ORPHAN: Final[Map] = {"pid": 0, "name": "", "owners": (), "on_purpose": False, "message": ""}
STATUS: Final[Map] = {
    "name": "",
    "revision": 0,
    "observed_revision": 0,
    "outcome": "",
    "reason": "",
    "culprit": "",
    "due_ns": None,
    "others": 0,
    "log": (),
    "commit": "",
    "dirty": False,
    "keeper_pid": 0,
    "controller_pid": 0,
    "source": (),
    "auto_apply": True,
    "spec_state": "applied",
    "spec_message": "",
    "watching": "",
    "store_state": "good",
    "store_message": "",
    "spec_errors": (),
    "orphans": (),
    "settled": False,
    "watchers": (),
    "sockets": (),
}
REVISION: Final[Map] = {
    "number": 0,
    "applied_ns": 0,
    "who": "",
    "uid": None,
    "digest": "",
    "commit": "",
    "dirty": False,
    "restores": 0,
    "outcome": "",
    "reason": "",
    "judged_ns": None,
    "due_ns": None,
    "log": (),
}
FIELD_CHANGE: Final[Map] = {"field": "", "effect": "none", "old": "", "new": ""}
CHANGE: Final[Map] = {
    "kind": "watcher",
    "name": "",
    "how": "none",
    "message": "",
    "slots": (),
    "fields": (),
}
DRIFT: Final[Map] = {"name": "", "words": ()}
EVENT: Final[Map] = {
    "seq": 0,
    "time_ns": 0,
    "type": "",
    "watcher": "",
    "slot": 0,
    "message": "",
    "details": {},
}
WAITING: Final[Map] = {"name": "", "state": "", "note": ""}
FAILED: Final[Map] = {"name": "", "message": ""}
PROGRESS: Final[Map] = {
    "revision": 0,
    "converged": False,
    "waiting": (),
    "remaining": 0,
    "failed": (),
    "outcome": "",
    "reason": "",
    "done": False,
}
LOG: Final[Map] = {
    "watcher": "",
    "slot": 0,
    "source": "stdout",
    "data": b"",
    "error": "",
    "path": "",
    "more": False,
    "cut": False,
    "undated": False,
}
RUNNING: Final[Map] = {"slot": 0, "pid": None, "since_ns": None}
RUN: Final[Map] = {
    "name": "",
    "slot": 0,
    "generation": 0,
    "trigger": "",
    "who": "",
    "fired_ns": 0,
    "ended_ns": None,
    "duration_ns": None,
    "outcome": None,
    "pid": None,
    "exit": None,
    "note": "",
}
RESULT: Final[Map] = {
    "name": "",
    "generation": 0,
    "fired": (),
    "running": (),
    "message": "",
    "taken": "accepted",
    "goal": None,
}


def status(answer: object) -> StatusMap:
    """Return the answer to `status` with all its keys."""
    whole = _complete(STATUS, answer)
    whole["source"] = list(_list(whole["source"]))
    whole["log"] = list(_list(whole["log"]))
    whole["spec_errors"] = spec_errors(whole["spec_errors"])
    whole["watchers"] = [_watcher(one) for one in _list(whole["watchers"])]
    whole["sockets"] = [_socket(one) for one in _list(whole["sockets"])]
    whole["orphans"] = [_orphan(one) for one in _list(whole["orphans"])]
    return cast("StatusMap", whole)


def spec_errors(answer: object) -> list[SpecErrorMap]:
    """Return mistakes of a spec with all their keys."""
    return [cast("SpecErrorMap", _complete(SPEC_ERROR, one)) for one in _list(answer)]


def changes(answer: object) -> list[ChangeMap]:
    """Return the changes of a plan with all their keys."""
    found = []
    for one in _list(answer):
        change = _complete(CHANGE, one)
        change["slots"] = list(_list(change["slots"]))
        change["fields"] = [_complete(FIELD_CHANGE, field) for field in _list(change["fields"])]
        found.append(cast("ChangeMap", change))
    return found


def drift(answer: object) -> list[DriftMap]:
    """Return what a plan leaves as operators want it, with all keys."""
    found = [_complete(DRIFT, one) for one in _list(answer)]
    return [cast("DriftMap", one | {"words": _words(one["words"])}) for one in found]


def revisions(answer: object) -> list[RevisionMap]:
    """Return the entries of a history with all their keys."""
    found = []
    for one in _list(answer):
        revision = _complete(REVISION, one)
        revision["log"] = list(_list(revision["log"]))
        found.append(cast("RevisionMap", revision))
    return found


def event(answer: object) -> EventMap:
    """Return one event with all its keys."""
    return cast("EventMap", _complete(EVENT, answer))


def progress(answer: object) -> ProgressMap:
    """Return one notification of `apply.follow` with all its keys."""
    whole = _complete(PROGRESS, answer)
    whole["waiting"] = [_complete(WAITING, one) for one in _list(whole["waiting"])]
    whole["failed"] = [_complete(FAILED, one) for one in _list(whole["failed"])]
    return cast("ProgressMap", whole)


def log(answer: object) -> LogMap:
    """Return one piece of output with all its keys.

    `logs` calls the stream of the process `stream`; in `logs.follow` that word is taken and it is
    `source`.
    """
    whole = _complete(LOG, answer)
    if whole.get("stream") in {"stdout", "stderr", "hooks"}:
        whole["source"] = whole["stream"]
    return cast("LogMap", whole)


def results(answer: object) -> list[ResultMap]:
    """Return the results of an operation with all their keys."""
    found = []
    for one in _list(answer):
        result = _complete(RESULT, one)
        result["running"] = [_complete(RUNNING, slot) for slot in _list(result["running"])]
        found.append(cast("ResultMap", result))
    return found


def runs(answer: object) -> list[RunMap]:
    """Return the runs of jobs with all their keys."""
    found = []
    for one in _list(answer):
        run = _complete(RUN, one)
        run["exit"] = _exit(run["exit"])
        found.append(cast("RunMap", run))
    return found


def _watcher(answer: object) -> Map:
    watcher = _complete(WATCHER, answer)
    watcher["conditions"] = [_complete(CONDITION, one) for one in _list(watcher["conditions"])]
    watcher["slots"] = [_slot(one) for one in _list(watcher["slots"])]
    watcher["intent"] = _words(watcher["intent"])
    return watcher


def _words(answer: object) -> list[Map]:
    return [_complete(WORD, one) for one in _list(answer)]


def _slot(answer: object) -> Map:
    slot = _complete(USED_SLOT, answer)
    slot["exit"] = _exit(slot["exit"])
    if slot["fired"] is not None:
        slot["fired"] = _complete(FIRED, slot["fired"])
    return slot


def _exit(answer: object) -> Map | None:
    if answer is None:
        return None
    end = _complete(EXIT, answer)
    if end["error"] is not None:
        end["error"] = _complete(LAUNCH_ERROR, end["error"])
    return end


def _socket(answer: object) -> Map:
    socket = _complete(SOCKET, answer)
    socket["used_by"] = list(_list(socket["used_by"]))
    return socket


def _orphan(answer: object) -> Map:
    orphan = _complete(ORPHAN, answer)
    orphan["owners"] = list(_list(orphan["owners"]))
    return orphan


def _complete(defaults: Map, answer: object) -> Map:
    if not isinstance(answer, dict):
        return dict(defaults)
    # A manager of this version leaves nothing out, and an answer may hold thousands of such maps.
    return answer if answer.keys() >= defaults.keys() else defaults | answer


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []
