"""Puts the room's parts together."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.controller.output.compress import Compressor
from reconciler.controller.output.event_log import EventLog
from reconciler.controller.output.events import RecentEvents
from reconciler.controller.output.last_lines import LastLines
from reconciler.controller.output.limits import LimitWatch
from reconciler.controller.output.log_places import LogPlaces
from reconciler.controller.output.port_holders import PortHolders
from reconciler.controller.output.status_board import StatusBoard
from reconciler.controller.runtime.parts import Runtime
from reconciler.controller.state.store import Store
from reconciler.core.reconciler import Reconciler
from reconciler.model.observation import Observation


class Output:
    """Events, status and logs."""

    def __init__(
        self,
        runtime: Runtime,
        core: Reconciler,
        store: Store,
        next_event: int,
        follow: Callable[[], None],
        feed: Callable[[Observation], None],
    ) -> None:
        reactor, lanes, border, log = runtime.reactor, runtime.lanes, runtime.border, runtime.log
        recent = RecentEvents(next_event)
        self.event_log = EventLog(recent, store, reactor, lanes, border, log, follow)
        self.tell = self.event_log.tell
        self.last_lines = LastLines(lanes, lambda names: self.board.touched(names))
        self.board = StatusBoard(core, self.last_lines.of)
        self.log_places = LogPlaces(core, self.board.of)
        self.compressor = Compressor(reactor, log)
        self.port_holders = PortHolders(lanes, feed)
        self.limits = LimitWatch(core, reactor, lanes, feed)
