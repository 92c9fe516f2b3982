"""Events, progress and log lines as they come.

A stream holds a place, not a queue: while its client does not read, nothing is produced for it. What is
no longer there when the client reads again is told as `{stream, dropped: n}`.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from reconciler.controller import clock
from reconciler.controller.exchange import LATER
from reconciler.controller.logs import MAX_ANSWER_BYTES, Follower, LogPlace
from reconciler.controller.reactor import READ
from reconciler.controller.selection import Wanted, labels_of
from reconciler.controller.watching import Wanted as WantedFolders
from reconciler.controller.watching import Watch
from reconciler.model.errors import RequestError
from reconciler.model.units import MILLISECOND_NS, SECOND_NS
from reconciler.model.value import Struct
from reconciler.wire import rpc

if TYPE_CHECKING:
    from collections.abc import Callable, KeysView

    from reconciler.controller.entries import ToldEvent
    from reconciler.controller.exchange import Exchange, Later
    from reconciler.controller.loop import Controller
    from reconciler.controller.news import Wished
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


FINISH_NS: Final = SECOND_NS
"""At the end so long is waited for readers of streams."""


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
        self,
        controller: Controller,
        connection: Connection,
        id: int,
        cursor: int,
        wished: Wished,
        *,
        until_end: bool = False,
    ) -> None:
        super().__init__(controller, connection, id)
        self.until_end = until_end
        """The end waits, but not for long, until this reader has read everything and hung up."""
        self._cursor = cursor
        self._means = wished.test()
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
        dropped = news.missed(self._cursor) if entries and self._cursor else 0
        if dropped > 0:
            self.send(dropped=dropped)
        for entry in entries[:EVENTS_PER_TURN]:
            if not self._send(entry):
                return False
            self._cursor = entry.seq
        return len(entries) > EVENTS_PER_TURN

    def _send(self, entry: ToldEvent) -> bool:
        return not self._means(entry) or self.send(
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
        waiting = controller.status.waiting(missing[:MAX_WAITING_SHOWN])
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


class Following(Struct, frozen=True):
    """What a stream of log lines is to bring."""

    selection: Wanted
    lines: int = 0
    """Of each log that is there already, so many last lines come first."""
    stderr: bool = False
    """Only standard error, where it has a file of its own."""
    hooks: bool = False
    """Of hooks, stop and reload commands instead."""
    whole: bool = False
    """All that processes have written which this controller has started, whenever the reader comes."""
    resumable: bool = False
    """With each piece comes the place behind it, and with the first also of logs that have nothing new."""
    after: Mapping[str, str] | None = None
    """Places by path where an earlier stream has ended; logs that are not among them are new."""


class LogStream(Stream):
    """Lines of log files, of all slots that a selection means, also of those that come later."""

    method = "log"

    def __init__(
        self, controller: Controller, connection: Connection, id: int, wish: Following
    ) -> None:
        super().__init__(controller, connection, id)
        self._wish = wish
        self._followers: dict[str, Follower] = {}
        self._of_watcher: dict[str, set[str]] = {}
        self._users: dict[str, set[str]] = {}
        """Watchers by the files that they write to."""
        self._unlooked = dict.fromkeys(controller.reconciler.names())
        """Watchers whose files have not been looked for since they were touched."""
        self._first: deque[tuple[Follower, bytes]] = deque()
        self._first_bytes = 0
        self._changed: dict[str, None] = {}
        self._unfinished: set[str] = set()
        """Files that end amid a line, which is passed on when nothing follows it for a while."""
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

    def finish(self) -> None:
        """Take note that nothing more comes: what is there is all, also of a line without end."""
        self._changed |= dict.fromkeys(self.paths)
        for follower in self._followers.values():
            follower.quiet_at_ns = 0

    def _read_on(self, path: str) -> None:
        follower = self._followers.get(path)
        if follower is None:
            del self._changed[path]
            return
        data = follower.more(clock.now_ns())
        self._tell_trouble(follower)
        if data:
            self._send(follower, data)
            self.controller.server.streams.hold(follower)
            return
        del self._changed[path]
        self._wait_for_rest(follower, path)
        if path in self._leaving:
            self._leaving.discard(path)
            self._forget(path)

    def _wait_for_rest(self, follower: Follower, path: str) -> None:
        if follower.quiet_at_ns is None:
            self._unfinished.discard(path)
            return
        if not self._unfinished:
            self.controller.reactor.at(self, follower.quiet_at_ns, self._look_at_rests)
        self._unfinished.add(path)

    def _look_at_rests(self) -> None:
        self._changed |= dict.fromkeys(self._unfinished)
        self._unfinished.clear()
        self.controller.server.streams.pump(self)

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
        controller, selection = self.controller, self._wish.selection
        known = self._of_watcher.pop(name, set())
        is_meant = controller.reconciler.watcher_spec(name) is not None and selection.matches(
            name, labels_of(controller, name)
        )
        wanted = {place.path: place for place in self._places(name)} if is_meant else {}
        left = known - wanted.keys()
        for path in left:
            self._users[path].discard(name)
        gone = {path for path in left if not self._users[path]}
        self._leaving = (self._leaving - wanted.keys()) | gone
        self._changed |= dict.fromkeys(gone)
        for path, place in wanted.items():
            follower = self._followers.get(path)
            if follower is not None:
                follower.place = place  # others may write there by now
            elif not self._follow(path, place):
                continue
            self._users.setdefault(path, set()).add(name)
            self._of_watcher.setdefault(name, set()).add(path)

    def _places(self, name: str) -> list[LogPlace]:
        places, wish = self.controller.log_places, self._wish
        if wish.hooks:
            return places.hooks(name)
        found = places.of(name, wish.selection.slots(name))
        if wish.stderr:
            found = [place for place in found if place.source == "stderr"]
        if not found and not self._has_begun and wish.selection.names and wish.after is None:
            self._say(LogPlace("", 0, "stdout", ""), places.why_empty(name, stderr=wish.stderr))
        return found

    def _follow(self, path: str, place: LogPlace) -> bool:
        """Follow one more file; False when there are too many."""
        if len(self._followers) >= MAX_FOLLOWED_FILES:
            if self._has_begun and not self._is_full:
                text = (
                    f"one stream follows at most {MAX_FOLLOWED_FILES} log files: more are left out"
                )
                self._say(place, text)
            self._is_full = True
            return False
        follower = self._followers[path] = Follower(place)
        self.controller.server.streams.watch_logs()
        if self._has_begun:
            # Of a slot that comes later everything: it was not there before.
            self._changed[path] = None
            return True
        self._begin(follower, path)
        return True

    def _begin(self, follower: Follower, path: str) -> None:
        wish = self._wish
        position = None if wish.after is None else wish.after.get(path, "0:0:0:0")
        if position is None and wish.whole:
            position = self.controller.last_words.birth(path)
        if position is not None:
            follower.resume(position)
            self._changed[path] = None
            return
        # The last lines are held until the client has read them: of many files the last begin with nothing.
        is_room = self._first_bytes < MAX_ANSWER_BYTES
        data = follower.begin(wish.lines if is_room else 0)
        self._first_bytes += len(data)
        if wish.lines and not is_room:
            follower.gap = f"no room for its last lines: reconcile logs {follower.place.watcher}"
        if follower.has_rest:
            self._changed[path] = None
        if data or follower.trouble or follower.gap or wish.resumable:
            self._first.append((follower, data))

    def _forget(self, path: str) -> None:
        follower = self._followers.pop(path, None)
        if follower is not None:
            follower.close()
            del self._users[path]
            self._is_full = False
            self.controller.server.streams.watch_logs()

    def _send(self, follower: Follower, data: bytes) -> bool:
        place = follower.place
        self._tell_trouble(follower)
        if not data and not self._wish.resumable:
            return True
        behind = {"path": place.path, "at": follower.position} if self._wish.resumable else {}
        return self.send(
            watcher=place.watcher, slot=place.slot, source=place.source, data=data, **behind
        )

    def _tell_trouble(self, follower: Follower) -> None:
        trouble, follower.trouble = follower.trouble, ""
        if trouble and trouble != follower.told:
            follower.told = trouble
            self._say(follower.place, trouble)
        gap, follower.gap = follower.gap, ""
        if gap:
            self._say(follower.place, gap)

    def _say(self, place: LogPlace, error: str) -> None:
        self.send(
            watcher=place.watcher, slot=place.slot, source=place.source, data=b"", error=error
        )

    def close(self) -> None:
        """Close the files."""
        self.controller.reactor.at(self, None, self._look_at_rests)
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

    @property
    def has_viewer(self) -> bool:
        """Tell whether somebody wants to see the end."""
        return any(
            isinstance(each, EventStream) and each.until_end for each in self._streams.values()
        )

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

    def show_rest(self) -> None:
        """Send all output that was written until the end, as far as its readers take it soon."""
        self._finish_all(LogStream)

    def finish(self) -> None:
        """Send the last events, and wait for those who want to see the end."""
        until_ns = self._finish_all(EventStream)
        for stream in tuple(self._streams.values()):
            if isinstance(stream, EventStream) and stream.until_end:
                stream.connection.wait_for_end(until_ns)

    def _finish_all(self, kind: type[Stream]) -> int:
        until_ns = clock.now_ns() + FINISH_NS
        for stream in tuple(self._streams.values()):
            if isinstance(stream, kind):
                self._guard(stream, partial(self._finish, stream, until_ns))
        return until_ns

    def _finish(self, stream: Stream, until_ns: int) -> None:
        if isinstance(stream, LogStream):
            stream.finish()
        connection = stream.connection
        more = True
        while more and not connection.is_closed and clock.now_ns() < until_ns:
            more = stream.pump() or not connection.has_room
            connection.drain(until_ns)

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
