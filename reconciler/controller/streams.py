"""Events, progress and log lines as they come.

A stream holds a place, not a queue: while its client does not read, nothing is produced for it. What is
no longer there when the client reads again is told as `{stream, dropped: n}`.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from functools import partial
from typing import TYPE_CHECKING, Final

from reconciler.controller import clock
from reconciler.controller.exchange import LATER
from reconciler.controller.logs import MAX_ANSWER_BYTES, Follower
from reconciler.controller.reactor import READ
from reconciler.controller.selection import labels_of
from reconciler.controller.watching import Wanted as WantedFolders
from reconciler.controller.watching import Watch
from reconciler.model.errors import RequestError
from reconciler.model.units import MILLISECOND_NS
from reconciler.wire import rpc

if TYPE_CHECKING:
    from collections.abc import Callable, KeysView

    from reconciler.controller.entries import ToldEvent
    from reconciler.controller.exchange import Exchange, Later
    from reconciler.controller.logs import LogPlace
    from reconciler.controller.loop import Controller
    from reconciler.controller.selection import Wanted
    from reconciler.controller.server import Connection

EVENTS_PER_TURN: Final = 200
BLOCKS_PER_TURN: Final = 8
PROGRESS_PAUSE_NS: Final = 100 * MILLISECOND_NS
MAX_WAITING_SHOWN: Final = 20
LOG_STEP_MS: Final = 50
"""While somebody follows logs, changes are looked for this often; nobody following costs nothing."""
MAX_STREAMS_PER_CONNECTION: Final = 16
MAX_STREAMS: Final = 256
"""Streams of all connections."""
MAX_STREAMS_PER_UID: Final = 128
RESERVED_STREAMS: Final = 16
"""Of all streams, those that only admins get."""
MAX_OPEN_LOGS: Final = 32
"""Log files of all streams that are open between two turns, because more is to be read."""
MAX_FOLLOWED_FILES: Final = 10_000
"""Log files of one stream."""


class Stream(ABC):
    """One stream of one connection."""

    method = ""

    def __init__(self, controller: Controller, connection: Connection, id: int) -> None:
        self.controller = controller
        self.connection = connection
        self.id = id
        self.is_over = False

    def prepare(self) -> bool:
        """Do some of what comes before the answer; True when that is all. Raises `RequestError`."""
        return True

    @abstractmethod
    def pump(self) -> bool:
        """Send what there is while the client reads; True when more is waiting for the next turn."""

    def touched(self, names: frozenset[str]) -> None:  # noqa: B027  (most streams do not care)
        """Take note that these watchers may have changed."""

    def close(self) -> None:  # noqa: B027  (most streams hold nothing)
        """Give back what the stream holds."""

    def send(self, **params: object) -> bool:
        """Send one element; False when the client does not read."""
        return self.connection.send_of_stream(
            rpc.encode_notification(self.method, {"stream": self.id, **params})
        )


class EventStream(Stream):
    """Events by their number; `cursor` is the last that was sent."""

    method = "event"

    def __init__(
        self, controller: Controller, connection: Connection, id: int, cursor: int
    ) -> None:
        super().__init__(controller, connection, id)
        self._cursor = cursor
        self._is_recalling = False

    def _recalled(self) -> None:
        self._is_recalling = False
        self.controller.server.streams.pump(self)

    def tell(self, entry: ToldEvent) -> None:
        """Send an event that has just come, unless older ones still wait."""
        if self._cursor == entry.seq - 1 and self.connection.has_room and self._send(entry):
            self._cursor = entry.seq

    def pump(self) -> bool:
        """Send the next events; those that are no longer kept are counted."""
        news = self.controller.news
        waiting = news.newest - self._cursor
        if waiting <= 0 or not self.connection.has_room or self._is_recalling:
            return False
        self._is_recalling = self.controller.event_log.recall(self._cursor, waiting, self._recalled)
        if self._is_recalling:
            return False
        entries = news.since(self._cursor, waiting)
        dropped = news.missed(self._cursor, entries[0].seq) if entries and self._cursor else 0
        if dropped > 0:
            self.send(dropped=dropped)
        for entry in entries[:EVENTS_PER_TURN]:
            if not self._send(entry):
                return False
            self._cursor = entry.seq
        return len(entries) > EVENTS_PER_TURN

    def _send(self, entry: ToldEvent) -> bool:
        return self.send(
            seq=entry.seq,
            time_ns=entry.time_ns,
            type=entry.type,
            watcher=entry.watcher,
            slot=entry.slot,
            message=entry.message,
            details=entry.details,
        )


class ProgressStream(Stream):
    """What is still to be done until everything selected is as desired; ends then."""

    method = "progress"

    def __init__(
        self,
        controller: Controller,
        connection: Connection,
        id: int,
        selection: Wanted,
        revision: int,
        *,
        runs: bool = False,
    ) -> None:
        super().__init__(controller, connection, id)
        self._selection = selection
        self._revision = revision
        self._runs = runs
        """Jobs are waited for until their runs have ended."""
        self._is_due = True
        self._sent_ns = 0

    def touched(self, names: frozenset[str]) -> None:
        """Look again, but not more often than anybody reads."""
        if not self._is_due:
            self._is_due = True
            self.controller.reactor.at(self, self._sent_ns + PROGRESS_PAUSE_NS, self._tell)

    def _tell(self) -> None:
        self.controller.server.streams.pump(self)

    def pump(self) -> bool:
        """Send how it stands, when something was touched since."""
        if not self._is_due or self.is_over or not self.connection.has_room:
            return False
        controller = self.controller
        core = controller.reconciler
        # Who follows runs looks at all watchers, the others at those that are not as desired.
        maybe = core.names() if self._runs else controller.status.unwanted()
        missing = [n for n in maybe if self._is_meant(n) and not self._has_come_about(n)]
        converged = not missing and core.revision >= self._revision and core.revision > 0
        outcome, reason = self._verdict()
        # A revision that is not good comes to no other end by itself.
        over = outcome in {"paused", "rolled_back"}
        converged = converged and not over
        waiting = [
            {"name": name, "state": status.state, "note": status.note}
            for name in missing[:MAX_WAITING_SHOWN]
            for status in (controller.status.of(name),)
        ]
        sent = self.send(
            revision=core.revision,
            converged=converged,
            waiting=waiting,
            remaining=len(missing),
            outcome=outcome,
            reason=reason,
            done=converged or over,
        )
        if sent:
            self._is_due, self._sent_ns, self.is_over = False, clock.now_ns(), converged or over
            # Some states end by themselves and touch nobody, such as the first second of a life.
            again = min(filter(None, map(controller.status.changes_at_ns, missing)), default=None)
            if again is not None and not self.is_over:
                again = max(again, self._sent_ns + PROGRESS_PAUSE_NS)
                controller.reactor.at(self, again, self._look_again)
        return False

    def _verdict(self) -> tuple[str, str]:
        """Return what came of the revision that is followed, and why; nobody asked when watchers were named."""
        revisions, selection = self.controller.revisions, self._selection
        if not self._revision and (selection.names or selection.labels):
            return "", ""
        followed = revisions.get(self._revision) if self._revision else revisions.current
        return ("", "") if followed is None else (followed.outcome, followed.trial.reason)

    def _has_come_about(self, name: str) -> bool:
        if not self.controller.status.as_desired(name):
            return False
        if not self._runs:
            return True
        status = self.controller.status.of(name)
        return status.kind != "job" or all(slot.state != "Running" for slot in status.slots)

    def _look_again(self) -> None:
        self._is_due = True
        self._tell()

    def _is_meant(self, name: str) -> bool:
        selection = self._selection
        if not selection.names and not selection.labels:
            return True
        return selection.matches(name, labels_of(self.controller, name))

    def close(self) -> None:
        """Take the next look back."""
        self.controller.reactor.at(self, None, self._tell)


class LogStream(Stream):
    """Lines of log files, of all slots that a selection means, also of those that come later."""

    method = "log"

    def __init__(
        self,
        controller: Controller,
        connection: Connection,
        id: int,
        selection: Wanted,
        count: int,
    ) -> None:
        super().__init__(controller, connection, id)
        self._selection = selection
        self._count = count
        self._followers: dict[str, Follower] = {}
        self._of_watcher: dict[str, set[str]] = {}
        self._unlooked = dict.fromkeys(controller.reconciler.names())
        """Watchers whose files have not been looked for since they were touched."""
        self._first: deque[tuple[Follower, bytes]] = deque()
        self._first_bytes = 0
        self._changed: dict[str, None] = {}
        self._leaving: set[str] = set()
        """Files that no slot writes to any more: they make room once they are read to their end."""
        self._has_begun = False
        self._is_full = False

    def prepare(self) -> bool:
        """Find the files and their last lines. Raises `RequestError` when there are too many."""
        if not self._look():
            return False
        if self._is_full:
            self.close()
            message = f"one stream follows at most {MAX_FOLLOWED_FILES} log files"
            raise RequestError(code="overloaded", message=message, hint="name fewer watchers")
        self._has_begun = True
        return True

    @property
    def paths(self) -> KeysView[str]:
        """Return the files that are followed."""
        return self._followers.keys()

    def touched(self, names: frozenset[str]) -> None:
        """Take note that these watchers may have other files now."""
        self._unlooked |= dict.fromkeys(sorted(names))

    def appended(self, paths: set[str]) -> None:
        """Take note that these files have changed; an empty path stands for any."""
        self._changed |= dict.fromkeys(self.paths if "" in paths else sorted(self.paths & paths))

    def pump(self) -> bool:
        """Send lines of files that have changed, a few blocks at a time."""
        if not self._has_begun:
            return False
        is_looking = not self._look()
        while self._first and self.connection.has_room:
            if not self._send(*self._first[0]):
                return False
            self._first.popleft()
        for _ in range(BLOCKS_PER_TURN):
            if not self._changed or not self.connection.has_room:
                break
            self._read_on(next(iter(self._changed)))
        return self.connection.has_room and (is_looking or bool(self._changed))

    def _read_on(self, path: str) -> None:
        follower = self._followers.get(path)
        if follower is None:
            del self._changed[path]
            return
        data = follower.more()
        if follower.trouble:
            self._tell_trouble(follower)
        if data:
            self._send(follower, data)
            self.controller.server.streams.hold(follower)
            return
        del self._changed[path]
        if path in self._leaving:
            self._leaving.discard(path)
            self._forget(path)

    def _look(self) -> bool:
        """Look for the files of watchers that were touched, until the turn is over; True when all is done."""
        while self._unlooked:
            name = next(iter(self._unlooked))
            del self._unlooked[name]
            self._look_for(name)
            if self.controller.reactor.turn_is_over:
                break
        return not self._unlooked

    def _look_for(self, name: str) -> None:
        controller, selection = self.controller, self._selection
        known = self._of_watcher.get(name, set())
        is_meant = controller.reconciler.watcher_spec(name) is not None and selection.matches(
            name, labels_of(controller, name)
        )
        places = controller.log_files(name, selection.slots(name)) if is_meant else []
        wanted = {place.path: place for place in places}
        gone = {path for path in known if path not in wanted}
        self._leaving = (self._leaving - wanted.keys()) | gone
        self._changed |= dict.fromkeys(gone)
        for path, place in wanted.items():
            if path not in self._followers:
                self._follow(path, place)

    def _follow(self, path: str, place: LogPlace) -> None:
        if len(self._followers) >= MAX_FOLLOWED_FILES:
            if self._has_begun and not self._is_full:
                text = (
                    f"one stream follows at most {MAX_FOLLOWED_FILES} log files: more are left out"
                )
                self._say(place, text)
            self._is_full = True
            return
        follower = self._followers[path] = Follower(place)
        self._of_watcher.setdefault(place.watcher, set()).add(path)
        self.controller.server.streams.watch_logs()
        if self._has_begun:
            self._changed[path] = (
                None  # of a slot that comes later everything: it was not there before
            )
            return
        # The last lines are held until the client has read them: of many files the last begin with nothing.
        data = follower.begin(self._count if self._first_bytes < MAX_ANSWER_BYTES else 0)
        self._first_bytes += len(data)
        if data or follower.trouble:
            self._first.append((follower, data))

    def _forget(self, path: str) -> None:
        follower = self._followers.pop(path, None)
        if follower is not None:
            follower.close()
            self._of_watcher.get(follower.place.watcher, set()).discard(path)
            self._is_full = False
            self.controller.server.streams.watch_logs()

    def _send(self, follower: Follower, data: bytes) -> bool:
        place = follower.place
        if follower.trouble:
            self._tell_trouble(follower)
        return not data or self.send(
            watcher=place.watcher, slot=place.slot, source=place.source, data=data
        )

    def _tell_trouble(self, follower: Follower) -> None:
        trouble, follower.trouble = follower.trouble, ""
        if trouble != follower.told:
            follower.told = trouble
            self._say(follower.place, trouble)

    def _say(self, place: LogPlace, error: str) -> None:
        self.send(
            watcher=place.watcher, slot=place.slot, source=place.source, data=b"", error=error
        )

    def close(self) -> None:
        """Close the files."""
        for follower in self._followers.values():
            follower.close()
        self._followers.clear()


class Streams:
    """All streams of all connections."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._streams: dict[int, Stream] = {}
        self._last = 0
        self._held: OrderedDict[Follower, None] = OrderedDict()
        self._is_watching_soon = False
        self._watch = Watch(LOG_STEP_MS, controller.tell_from_thread, controller.broken_thread)
        controller.reactor.watch(self._watch, READ, lambda _: self._appended())

    def add(self, exchange: Exchange, make: Callable[[int], Stream]) -> Later:
        """Answer with a new stream's number, then begin it. Raises `RequestError` when there are too many."""
        if exchange.connection.stream_count >= MAX_STREAMS_PER_CONNECTION:
            message = f"more than {MAX_STREAMS_PER_CONNECTION} streams on one connection"
            raise RequestError(code="overloaded", message=message, hint="stream.cancel ends one")
        reserved = 0 if exchange.permit.includes("admin") else RESERVED_STREAMS
        if len(self._streams) >= MAX_STREAMS - reserved:
            message = f"more than {MAX_STREAMS - reserved} streams of all clients"
            raise RequestError(code="overloaded", message=message, hint="try again later")
        mine = sum(each.connection.peer.uid == exchange.uid for each in self._streams.values())
        if mine >= MAX_STREAMS_PER_UID:
            message = f"more than {MAX_STREAMS_PER_UID} streams of {exchange.who}"
            raise RequestError(code="overloaded", message=message, hint="stream.cancel ends one")
        self._last += 1
        stream = make(self._last)
        self._streams[stream.id] = stream
        exchange.connection.stream_count += 1
        self._prepare(stream, exchange)
        return LATER

    def _prepare(self, stream: Stream, exchange: Exchange) -> None:
        """Let a stream find what it begins with, a turn at a time, and answer then."""

        def step() -> None:
            if not stream.prepare():
                self._controller.reactor.soon(lambda: self._prepare(stream, exchange))
                return
            exchange.reply({"stream": stream.id})
            self._controller.reactor.soon(lambda: self.pump(stream))

        if stream.id in self._streams:
            exchange.guard(step)
            if exchange.answer is not None and exchange.answer.error is not None:
                self._end(stream)

    def cancel(self, connection: Connection, id: int) -> bool:
        """End a stream; False when this connection has none of that number."""
        stream = self._streams.get(id)
        if stream is None or stream.connection is not connection:
            return False
        self._end(stream)
        return True

    def closed(self, connection: Connection) -> None:
        """End the streams of a connection that is gone."""
        for stream in [each for each in self._streams.values() if each.connection is connection]:
            self._end(stream)

    def tell(self, entry: ToldEvent) -> None:
        """Send an event to those who follow events."""
        for stream in tuple(self._streams.values()):
            if isinstance(stream, EventStream):
                self._guard(stream, partial(stream.tell, entry))

    def touched(self, names: frozenset[str]) -> None:
        """Let streams look at watchers that may have changed."""
        for stream in tuple(self._streams.values()):
            self._guard(stream, partial(stream.touched, names))
            if isinstance(stream, LogStream):
                self.pump(stream)

    def drained(self, connection: Connection) -> None:
        """Go on with the streams of a client that has read."""
        for stream in tuple(self._streams.values()):
            if stream.connection is connection:
                self._controller.reactor.soon(lambda stream=stream: self.pump(stream))  # type: ignore[misc]  # bound now, not later

    def pump(self, stream: Stream) -> None:
        """Let a stream send; the rest comes in the next round."""
        if stream.id in self._streams:
            self._guard(stream, partial(self._pump, stream))

    def _guard(self, stream: Stream, call: Callable[[], object]) -> None:
        """Do something for a stream: what goes wrong ends the client's connection, so that it knows."""
        if not self._controller.border.guard(f"serving a stream of {stream.method}s", call):
            stream.connection.close()

    def _pump(self, stream: Stream) -> None:
        more = stream.pump()
        if stream.is_over:
            self._end(stream)
        elif more:
            self._controller.reactor.soon(lambda: self.pump(stream))

    def _end(self, stream: Stream) -> None:
        if self._streams.pop(stream.id, None) is not None:
            stream.connection.stream_count -= 1
            stream.close()
            self.watch_logs()

    # ---- log files ----

    def hold(self, follower: Follower) -> None:
        """Let a file stay open of which more is to be read; of too many, that which waits longest is closed."""
        self._held[follower] = None
        self._held.move_to_end(follower)
        while len(self._held) > MAX_OPEN_LOGS:
            self._held.popitem(last=False)[0].close()

    def watch_logs(self) -> None:
        """Watch the folders of all followed files, as long as there are any; many calls are one."""
        if not self._is_watching_soon:
            self._is_watching_soon = True
            self._controller.reactor.soon(self._watch_logs)

    def _watch_logs(self) -> None:
        self._is_watching_soon = False
        paths = frozenset().union(
            *(each.paths for each in self._streams.values() if isinstance(each, LogStream))
        )
        folders = frozenset(map(os.path.dirname, paths))
        self._watch.want(WantedFolders(folders, paths))

    def _appended(self) -> None:
        paths = self._watch.changed()
        for stream in tuple(self._streams.values()):
            if isinstance(stream, LogStream):
                self._guard(stream, partial(stream.appended, paths))
                self.pump(stream)
