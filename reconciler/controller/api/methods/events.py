"""Methods about events: those that were told, and those to come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from reconciler.controller.api.request import Request
from reconciler.controller.api.selectors import event_filter
from reconciler.controller.api.streams import Stream, Streams
from reconciler.controller.output.event_log import EventLog
from reconciler.controller.output.events import Means
from reconciler.model.answer import EventEntry
from reconciler.model.value import Part, asdict
from reconciler.wire.methods import MAX_EVENTS, FollowEvents, NewestEvents

EVENTS_PER_TURN: Final = 200


class EventMethods(Part):
    """`events` and `events.follow`."""

    event_log: EventLog
    streams: Streams

    def events(self, request: Request, asked: NewestEvents) -> None:
        """Answer with the newest events of those that are meant."""
        since, wished, count = asked.since or 0, event_filter(asked), asked.limit
        recent, means = self.event_log.recent, wished.test()

        def answer() -> None:
            found = recent.since(since, count, means)
            left_out = recent.count_since(since, means) - len(found)
            # Whoever asks for a time, or a number, from which something was dropped is told so.
            oldest_ns = recent.oldest_ns
            asked = bool(wished.since_ns or since)
            forgot = (
                asked
                and oldest_ns is not None
                and (oldest_ns > wished.since_ns if wished.since_ns else recent.missed(since) > 0)
            )
            kept_since = {"kept_since_ns": oldest_ns} if forgot else {}
            request.reply({"events": found, "left_out": left_out, **kept_since})

        if not self.event_log.recall(since, count if wished.is_all else MAX_EVENTS, answer):
            answer()

    def events_follow(self, request: Request, asked: FollowEvents) -> None:
        """Send events as they come."""
        means = event_filter(asked).test()
        cursor = self.event_log.recent.newest if asked.since is None else asked.since
        self.streams.add(request, EventStream(self.event_log, cursor, means, asked.until_end))


@dataclass(eq=False)
class EventStream(Stream):
    """Events by their number; `cursor` is the last that was sent."""

    method = "event"

    event_log: EventLog
    cursor: int
    means: Means
    until_end: bool = False
    _is_recalling: bool = False

    def _recalled(self) -> None:
        self._is_recalling = False
        self.streams.pump(self)

    def told(self, entry: EventEntry) -> None:
        """Send an event that has just come, unless older ones still wait."""
        if self.cursor == entry.seq - 1 and self.connection.has_room and self._send(entry):
            self.cursor = entry.seq

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
            if not self._send(entry):
                return False
            self.cursor = entry.seq
        return len(entries) > EVENTS_PER_TURN

    def _send(self, entry: EventEntry) -> bool:
        return not self.means(entry) or self.send(**asdict(entry))
