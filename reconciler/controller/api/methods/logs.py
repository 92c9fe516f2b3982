"""Methods about logs: their last lines, and what is appended to them as it comes."""

from __future__ import annotations

import os
import re
from collections import OrderedDict, deque
from collections.abc import Callable, KeysView, Mapping, Sequence
from functools import partial
from typing import Final

from reconciler.controller.api.request import Answer, Request
from reconciler.controller.api.selectors import Wanted, labels_of, select, wanted
from reconciler.controller.api.streams import Stream, Streams
from reconciler.controller.output.log_files import (
    MAX_ANSWER_BYTES,
    Follower,
    LogPlace,
    last_lines,
)
from reconciler.controller.output.log_places import LogPlaces
from reconciler.controller.runtime import clock
from reconciler.controller.runtime.file_watch import Wanted as WantedFolders
from reconciler.controller.runtime.file_watch import Watch
from reconciler.controller.runtime.reactor import READ
from reconciler.core.reconciler import Reconciler
from reconciler.model.errors import RequestError
from reconciler.model.value import Part, field
from reconciler.wire import rpc
from reconciler.wire.methods import AskLogs, FollowLogs

DEFAULT_LINES: Final = 100
MAX_REASONS: Final = 20
BLOCKS_PER_TURN: Final = 8
LOG_STEP_MS: Final = 50
"""While somebody follows logs, changes are looked for this often; nobody following costs nothing."""
MAX_OPEN_LOGS: Final = 32
"""Log files of all streams that are open between two turns, because more is to be read."""
MAX_FOLLOWED_FILES: Final = 10_000
"""Log files of one stream."""


class LogMethods(Part):
    """`logs` and `logs.follow`; one thread watches the files of all streams, and a few are open at a time."""

    core: Reconciler
    streams: Streams
    places: LogPlaces
    birth: Callable[[str], str | None]
    """Returns the place in a log where the first process begins that this controller has started."""
    watch: Watch
    _held: OrderedDict[Follower, None] = field(default_factory=OrderedDict)
    _is_watching_soon: bool = False

    def __post_init__(self) -> None:
        self.streams.reactor.watch(self.watch, READ, lambda _: self._appended())

    def logs(self, request: Request, asked: AskLogs) -> None:
        """Answer with the last lines of logs, also of rotated files."""
        selection, stderr, hooks = wanted(asked), asked.stderr, asked.hooks
        since_ns, count = asked.since_ns, DEFAULT_LINES if asked.lines is None else asked.lines
        places: dict[str, LogPlace] = {}
        by_watcher: dict[str, list[str]] = {}
        for name, slots in select(self.core, selection).slots.items():
            found = self.places.of(name, slots, stderr=stderr, hooks=hooks)
            places |= {place.path: place for place in found}
            by_watcher[name] = [place.path for place in found]

        def answer(entries: Sequence[Mapping[str, object]]) -> None:
            given = {entry["path"] for entry in entries}
            is_asked = count and since_ns is None and (selection.names or not given)
            silent = [
                name for name in by_watcher if is_asked and given.isdisjoint(by_watcher[name])
            ]
            why = [
                self.places.why_empty(name, stderr=stderr, hooks=hooks)
                for name in silent[:MAX_REASONS]
            ]
            if len(silent) > len(why):
                why.append(f"and {len(silent) - len(why)} more watchers have no output to be shown")
            request.in_lane(
                "logs",
                lambda: rpc.pack({"entries": entries, "empty": why}),
                lambda packed: request.finish(Answer(packed)),
            )

        request.in_lane("logs", lambda: last_lines(tuple(places.values()), count, since_ns), answer)

    def logs_follow(self, request: Request, asked: FollowLogs) -> None:
        """Send lines as they are written."""
        selection, after = wanted(asked), _positions(asked.after)
        if after is None:  # who comes again asks for what may be gone by now
            select(self.core, selection)
        self.streams.add(request, LogStream(self, asked, selection, after))

    def hold(self, follower: Follower) -> None:
        """Let a file stay open of which more is to be read; of too many, that which waits longest is closed."""
        self._held[follower] = None
        self._held.move_to_end(follower)
        while len(self._held) > MAX_OPEN_LOGS:
            self._held.popitem(last=False)[0].close()

    def watch_again(self) -> None:
        """Watch the folders of all followed files, as long as there are any; many calls are one."""
        if not self._is_watching_soon:
            self._is_watching_soon = True
            self.streams.reactor.soon(self._rewatch)

    def _rewatch(self) -> None:
        self._is_watching_soon = False
        paths = frozenset().union(*(each.paths for each in self._all()))
        self.watch.want(WantedFolders(frozenset(map(os.path.dirname, paths)), paths))

    def _appended(self) -> None:
        paths = self.watch.changed()
        for stream in self._all():
            self.streams.guard(stream, partial(stream.appended, paths))
            self.streams.pump(stream)

    def _all(self) -> list[LogStream]:
        return [each for each in self.streams.of("log") if isinstance(each, LogStream)]


def _positions(texts: tuple[str, ...]) -> dict[str, str] | None:
    """Return places in logs by path; they come in few long texts, since there may be thousands.

    Raises `RequestError`.
    """
    if not texts:
        return None
    found = {}
    for line in "\n".join(texts).split("\n"):
        position, _, path = line.partition(" ")
        if not line:
            continue
        if re.fullmatch(r"\d{1,20}(:\d{1,20}){3}", position) is None:
            message = (
                f"after: expected a place that a log notification has told, found {line[:60]!r}"
            )
            raise RequestError(code="invalid_request", message=message)
        found[path] = position
    return found


class LogStream(Stream):
    """Lines of log files, of all slots that a selection means, also of those that come later."""

    def __init__(
        self,
        logs: LogMethods,
        asked: FollowLogs,
        selection: Wanted,
        after: Mapping[str, str] | None,
    ) -> None:
        """`after` has places by path where an earlier stream has ended; logs that are not among them are new."""
        self.logs, self.asked, self.selection, self.after = logs, asked, selection, after
        self._followers: dict[str, Follower] = {}
        self._of_watcher: dict[str, set[str]] = {}
        self._unlooked = dict.fromkeys(logs.core.names())
        """Watchers whose files have not been looked for since they were touched."""
        self._first: deque[tuple[Follower, bytes]] = deque()
        self._first_bytes = 0
        self._changed: dict[str, None] = {}
        self._has_begun = self._is_full = False

    def prepare(self) -> bool:
        """Find the files and their last lines. Raises `RequestError` when there are too many."""
        if not self._look():
            return False
        if self._is_full:
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
        self.streams.pump(self)

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
        self._tell_notes(follower)
        if data:
            self._send(follower, data)
            self.logs.hold(follower)
            return
        del self._changed[path]
        # What it ends amid a line is passed on when nothing follows it for a while.
        self.reactor.at((self, path), follower.quiet_at_ns, lambda: self._look_at_rest(path))
        if not follower.users:  # read to its end, it makes room
            self._forget(path)

    def _look_at_rest(self, path: str) -> None:
        self._changed[path] = None
        self.streams.pump(self)

    def _look(self) -> bool:
        """Look for the files of watchers that were touched, until the turn is over; True when all is done."""
        while self._unlooked:
            name = next(iter(self._unlooked))
            del self._unlooked[name]
            self._look_for(name)
            if self.reactor.turn_is_over:
                break
        return not self._unlooked

    def _look_for(self, name: str) -> None:
        core, selection = self.logs.core, self.selection
        known = self._of_watcher.pop(name, set())
        is_known = core.watcher_spec(name) is not None
        is_meant = is_known and selection.matches(name, labels_of(core, name))
        wanted = {place.path: place for place in self._places(name)} if is_meant else {}
        for path in known - wanted.keys():
            self._followers[path].users.discard(name)
            self._changed[path] = None
        for path, place in wanted.items():
            follower = self._followers.get(path)
            if follower is not None:
                follower.place = place  # others may write there by now
            elif (follower := self._follow(path, place)) is None:
                continue
            follower.users.add(name)
            self._of_watcher.setdefault(name, set()).add(path)

    def _places(self, name: str) -> list[LogPlace]:
        places, asked = self.logs.places, self.asked
        found = places.of(name, self.selection.slots(name), stderr=asked.stderr, hooks=asked.hooks)
        if not found and not self._has_begun and self.selection.names and self.after is None:
            why = places.why_empty(name, stderr=asked.stderr, hooks=False)
            self._send_of(LogPlace("", 0, "stdout", ""), error=why)
        return found

    def _follow(self, path: str, place: LogPlace) -> Follower | None:
        """Follow one more file; None when there are too many."""
        if len(self._followers) >= MAX_FOLLOWED_FILES:
            if self._has_begun and not self._is_full:
                limit = f"one stream follows at most {MAX_FOLLOWED_FILES} log files"
                self._send_of(place, error=f"{limit}: more are left out")
            self._is_full = True
            return None
        follower = self._followers[path] = Follower(place)
        self.logs.watch_again()
        if self._has_begun:
            # Of a slot that comes later everything: it was not there before.
            self._changed[path] = None
        else:
            self._begin(follower, path)
        return follower

    def _begin(self, follower: Follower, path: str) -> None:
        asked = self.asked
        position = None if self.after is None else self.after.get(path, "0:0:0:0")
        if position is None and asked.whole:
            position = self.logs.birth(path)
        if position is not None:
            follower.resume(position)
            self._changed[path] = None
            return
        # The last lines are held until the client has read them: of many files the last begin with nothing.
        is_room = self._first_bytes < MAX_ANSWER_BYTES
        data = follower.begin(asked.lines if is_room else 0)
        self._first_bytes += len(data)
        if asked.lines and not is_room:
            watcher = follower.place.watcher
            follower.notes.append(f"no room for its last lines: reconcile logs {watcher}")
        if follower.has_rest:
            self._changed[path] = None
        if data or follower.notes or asked.resumable:
            self._first.append((follower, data))

    def _forget(self, path: str) -> None:
        follower = self._followers.pop(path, None)
        if follower is not None:
            follower.close()
            self._is_full = False
            self.logs.watch_again()

    def _send(self, follower: Follower, data: bytes) -> bool:
        place = follower.place
        self._tell_notes(follower)
        if not data and not self.asked.resumable:
            return True
        behind = {"path": place.path, "at": follower.position} if self.asked.resumable else {}
        return self._send_of(place, data=data, **behind)

    def _tell_notes(self, follower: Follower) -> None:
        for note in follower.notes:
            self._send_of(follower.place, error=note)
        follower.notes.clear()

    def _send_of(self, place: LogPlace, data: bytes = b"", **more: object) -> bool:
        return self.send(
            watcher=place.watcher, slot=place.slot, source=place.source, data=data, **more
        )

    def close(self) -> None:
        """Close the files."""
        for path, follower in self._followers.items():
            self.reactor.at((self, path), None, self.close)
            follower.close()
        self._followers.clear()
        self.logs.watch_again()
