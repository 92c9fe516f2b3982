"""A client of a running manager, for the command line and for other programs.

    from reconciler import Client

    with Client("shop") as client:
        for watcher in client.status("web*").watchers:
            print(watcher.name, watcher.state)

Answers are values of `model`; `call` and `follow` return plain maps, keys of other versions included. A client
belongs to one thread, and imports fast.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from reconciler.cli.connection import locate
from reconciler.cli.connection.transport import (
    DEFAULT_TIMEOUT_S,
    DROPPED,
    Answer,
    Map,
    Transport,
    selection,
    status_of,
)
from reconciler.cli.errors import NoManager, TimedOut
from reconciler.model.answer import (
    EventEntry,
    Events,
    History,
    LogEntry,
    Logs,
    OrderResults,
    Progress,
    Runs,
)
from reconciler.model.change import Difference, Plan
from reconciler.model.errors import RequestError
from reconciler.model.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from reconciler.cli.connection.instances import Instance
    from reconciler.cli.connection.transport import Labels
    from reconciler.model.answer import OrderResult, RevisionEntry, RunEntry
    from reconciler.model.change import Change

    Results: TypeAlias = Sequence[OrderResult]

__all__ = ["Client", "NoManager", "RequestError", "TimedOut"]

WAIT_MARGIN_S: Final = 10.0
"""How much longer than a wait of the manager we wait for its answer."""
LEFT_OUT: Final = "events.left_out"
"""Type of an event that says what is missing in an answer."""


class Client(Transport):
    """A connection to the manager of one instance; connects when first used.

    `name` and `runtime_dir` say which instance, as the options of the command line do; without
    them the environment, the spec in this folder or above, or the only running instance decides.
    `timeout` is the longest wait for an answer, in seconds. Every call raises `NoManager` when
    nobody listens, `RequestError` when the manager refuses, and `TimedOut` when no answer comes.
    """

    def __init__(
        self,
        name: str | None = None,
        runtime_dir: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        instance: Instance | None = None,
    ) -> None:
        super().__init__(instance or locate.find(name, runtime_dir), timeout)

    def status(self, *names: str, labels: Labels = None, usage: bool = False) -> Status:
        """Return the status, of all watchers or of those that the patterns and labels select."""
        return self.ask_status(*names, labels=labels, usage=usage).value

    def ask_status(self, *names: str, labels: Labels = None, usage: bool = False) -> Answer[Status]:
        """Return the same with the map that came over the wire: without what is at its default."""
        return self.ask(Status, "status", status_of(names, labels, usage=usage))

    def plan(self, source: Sequence[str] | None = None) -> Plan:
        """Return what applying the files would change."""
        return self.ask(Plan, "plan", {"source": _listed(source)}).value

    def apply(self, source: Sequence[str] | None = None, **options: object) -> Plan:
        """Apply the files: `dry_run`, `only`, `allow_removal`, `replace_source` as in the
        protocol."""
        return self.ask(Plan, "apply", {"source": _listed(source), **options}).value

    def history(self) -> Sequence[RevisionEntry]:
        """Return the revisions of the applied spec, newest first."""
        return self.ask(History, "history", {}).value.revisions

    def diff(self, old: int | None = None, new: int | None = None) -> Sequence[Change]:
        """Return what changed from revision `old` (the one before) to `new` (the one in force)."""
        return self.ask(Difference, "diff", {"old": old, "new": new}).value.changes

    def rollback(self, revision: int | None = None, **options: object) -> Plan:
        """Apply the content of an older revision once more, the newest good one without a number:
        `dry_run`, `allow_removal`, `base`, `reason` as in the protocol."""
        return self.ask(Plan, "rollback", {"revision": revision, **options}).value

    def progress(self, revision: int | None = None) -> Iterator[Progress]:
        """Yield what is still being waited for, until the revision is reached."""
        for method, item in self.follow(("apply.follow", {"revision": revision})):
            if method == "progress":
                yield self.read(Progress, method, item).value

    def start(self, *names: str, labels: Labels = None, **options: object) -> Results:
        """Start watchers, whatever `autostart` says; of one that runs, try slots that wait."""
        return self._order("start", names, labels, options)

    def stop(self, *names: str, labels: Labels = None, **options: object) -> Results:
        """Stop watchers and keep them stopped, for good or for as long as `for_ns` says."""
        return self._order("stop", names, labels, options)

    def resume(self, *names: str, labels: Labels = None, **options: object) -> Results:
        """Drop the manual overrides of watchers: the spec counts again."""
        return self._order("resume", names, labels, options)

    def restart(self, *names: str, labels: Labels = None, **options: object) -> Results:
        """Replace processes one by one, or all `at_once`."""
        return self._order("restart", names, labels, options)

    def reload(self, *names: str, labels: Labels = None, **options: object) -> Results:
        """Do what the field `reload` of each watcher says."""
        return self._order("reload", names, labels, options)

    def signal(self, signal: str, *names: str, **options: object) -> Results:
        """Send a signal to the processes of watchers or slots."""
        return self._order("signal", names, None, {"signal": signal, **options})

    def scale(self, scale: Mapping[str, int | None], **options: object) -> Results:
        """Set numbers of processes by watcher; None goes back to the spec's."""
        return self._order("scale", (), None, {"scale": dict(scale), **options})

    def rerun(self, *names: str, labels: Labels = None, **options: object) -> Results:
        """Fire jobs again: `failed`, `overlap`, `require_all` as in the protocol."""
        return self._order("rerun", names, labels, options)

    def runs(
        self, *names: str, labels: Labels = None, limit: int | None = None
    ) -> Sequence[RunEntry]:
        """Return the newest runs of jobs."""
        return self.ask(Runs, "runs", selection(names, labels) | {"limit": limit}).value.runs

    def shutdown(self, *, now: bool = False, code: int = 0, reason: str | None = None) -> bool:
        """Ask the manager to stop everything and end with an exit code; returns when it has heard.

        Tells whether it leaves all that runs to the next manager (`daemon.on_exit`).
        """
        try:
            answer = self.call("shutdown", now=now or None, code=code or None, reason=reason)
        except NoManager:
            return False  # It was gone before it could answer: that is what was desired.
        return bool(answer.get("leaves"))

    def order(self, method: str, params: Mapping[str, object]) -> Answer[OrderResults]:
        """Give an order; a `timeout_ns` for the manager's wait lengthens our own."""
        wait_ns = params.get("timeout_ns")
        longest = wait_ns / 1e9 + WAIT_MARGIN_S if isinstance(wait_ns, int) else None
        return self.ask(OrderResults, method, params, longest)

    def _order(
        self,
        method: str,
        names: Sequence[str],
        labels: Labels,
        options: Mapping[str, object],
    ) -> Results:
        return self.order(method, {**selection(names, labels), **options}).value.results

    def events(
        self,
        since: int | None = None,
        *,
        names: Sequence[str] = (),
        types: Sequence[str] = (),
        since_ns: int | None = None,
        limit: int | None = None,
        follow: bool = False,
    ) -> Iterator[EventEntry]:
        """Yield events after number `since`; with `follow` those to come, too.

        `names` are patterns of watchers, `types` such as `process.exited` or `process`, `since_ns`
        is a wall time. What an answer leaves out comes first, as an event `events.left_out`.
        """
        asked: Map = {"names": _listed(names), "types": _listed(types), "limit": limit}
        asked |= {"since": since, "since_ns": since_ns}
        return (each.value for each in self.event_answers(asked, follow=follow))

    def event_answers(
        self, params: Mapping[str, object], *, follow: bool
    ) -> Iterator[Answer[EventEntry]]:
        """Yield the same as `events`, each with the map that came over the wire."""
        if follow:
            for method, item in self.follow(("events.follow", params)):
                if method == "event":
                    item = _dropped_event(item) if DROPPED in item else item
                    yield self.read(EventEntry, method, item)
            return
        answer = self.ask(Events, "events", params)
        for message in _left_out(answer.value):
            yield Answer(EventEntry(type=LEFT_OUT, message=message), {})
        plain = cast("list[Map]", answer.plain.get("events", []))
        yield from map(Answer, answer.value.events, plain)

    def logs(
        self,
        *names: str,
        labels: Labels = None,
        lines: int | None = None,
        follow: bool = False,
        stderr: bool = False,
        hooks: bool = False,
        since_ns: int | None = None,
    ) -> Iterator[LogEntry]:
        """Yield the last lines of output, by slot; with `follow` those to come, too.

        `hooks` chooses what hooks wrote, `since_ns` is a wall time, without `follow`. Why there is no output to be
        shown comes as entries with an `error`.
        """
        only = {"stderr": stderr or None, "hooks": hooks or None}
        asked = {**selection(names, labels), **only, "lines": lines}
        if not follow:
            answer = self.ask(Logs, "logs", asked | {"since_ns": since_ns}).value
            yield from answer.entries
            yield from (LogEntry(error=why) for why in answer.empty)
            return
        for method, item in self.follow(("logs.follow", asked)):
            if method == "log":
                yield self.read(LogEntry, method, item).value


def _left_out(answer: Events) -> Iterator[str]:
    """Yield what is missing of the events that were asked for."""
    if answer.kept_since_ns is not None:
        oldest = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(answer.kept_since_ns // 10**9))
        yield f"events before {oldest} are kept no more, but for orders and revisions"
    if answer.left_out:
        yield f"{answer.left_out} older events are left out"


def _dropped_event(item: Map) -> Map:
    """Return as an event how many events a slow reader has missed."""
    message = f"{item[DROPPED]} events were dropped: the reader is too slow"
    return {"time_ns": time.time_ns(), "type": "stream.dropped", "message": message}


def _listed(values: Sequence[str] | None) -> list[str] | None:
    return list(values) if values else None
