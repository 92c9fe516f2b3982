"""Methods about events: those that were told, and those to come."""

from __future__ import annotations

from typing import Final

from reconciler.controller.api.request import Request
from reconciler.controller.api.selectors import event_test
from reconciler.controller.api.streams import Stream, Streams
from reconciler.controller.output.event_log import EventLog
from reconciler.controller.output.events import Means
from reconciler.model.value import Part, asdict
from reconciler.wire.methods import MAX_EVENTS, FollowEvents, NewestEvents

EVENTS_PER_TURN: Final = 200


class EventMethods(Part):
    """`events` and `events.follow`."""

    event_log: EventLog
    streams: Streams

    def events(self, request: Request, asked: NewestEvents) -> None:
        """Answer with the newest events of those that are meant."""
        since, count, means = asked.since or 0, asked.limit, event_test(asked)
        recent, is_all = self.event_log.recent, not (asked.names or asked.types or asked.since_ns)

        def answer() -> None:
            found = recent.since(since, count, means)
            left_out = recent.count_since(since, means) - len(found)
            # Whoever asks for a time, or a number, from which something was dropped is told so.
            kept_ns, since_ns = recent.oldest_ns or 0, asked.since_ns
            forgot = kept_ns > since_ns if since_ns else since and kept_ns and recent.missed(since)
            kept_since = {"kept_since_ns": kept_ns} if forgot else {}
            request.reply({"events": found, "left_out": left_out, **kept_since})

        if not self.event_log.recall(since, count if is_all else MAX_EVENTS, answer):
            answer()

    def events_follow(self, request: Request, asked: FollowEvents) -> None:
        """Send events as they come."""
        means, recent = event_test(asked), self.event_log.recent
        cursor = recent.first - 1 if asked.whole else recent.newest
        cursor = cursor if asked.since is None else asked.since
        self.streams.add(request, EventStream(self.event_log, cursor, means, asked.until_end))


class EventStream(Stream):
    """Events by their number; `cursor` is the last that was sent."""

    def __init__(
        self, event_log: EventLog, cursor: int, means: Means, until_end: bool = False
    ) -> None:
        self.event_log, self.cursor, self.means = event_log, cursor, means
        self.until_end = until_end
        self._is_recalling = False

    def _recalled(self) -> None:
        self._is_recalling = False
        self.streams.pump(self)

    def pump(self) -> bool:
        """Send the next events; those that are no longer kept are counted."""
        recent = self.event_log.recent
        waiting = recent.newest - self.cursor
        if waiting <= 0 or not self.connection.has_room or self._is_recalling:
            return False
        self._is_recalling = self.event_log.recall(self.cursor, waiting, self._recalled)
        if self._is_recalling:
            return False
        entries = recent.since(self.cursor, waiting)
        dropped = recent.missed(self.cursor) if entries and self.cursor else 0
        if dropped > 0:
            self.send(dropped=dropped)
        for entry in entries[:EVENTS_PER_TURN]:
            if self.means(entry) and not self.send(**asdict(entry)):
                return False
            self.cursor = entry.seq
        return len(entries) > EVENTS_PER_TURN
