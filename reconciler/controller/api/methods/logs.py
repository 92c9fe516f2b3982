"""Methods about logs: their last lines, and what is appended to them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from reconciler.controller.api.log_stream import FollowedLogs, LogStream
from reconciler.controller.api.request import Answer, Request
from reconciler.controller.api.selectors import select, wanted
from reconciler.controller.output.log_files import LogPlace, last_lines
from reconciler.controller.output.log_places import LogPlaces
from reconciler.core.reconciler import Reconciler
from reconciler.model.errors import RequestError
from reconciler.model.value import Part
from reconciler.wire import rpc
from reconciler.wire.methods import AskLogs, FollowLogs

DEFAULT_LINES: Final = 100
MAX_REASONS: Final = 20


class LogMethods(Part):
    """`logs` and `logs.follow`."""

    core: Reconciler
    places: LogPlaces
    followed: FollowedLogs

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
        self.followed.streams.add(request, LogStream(self.followed, asked, selection, after))


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
