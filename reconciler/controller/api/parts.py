"""Puts the room's parts together."""

from __future__ import annotations

import socket
from collections.abc import Callable

from reconciler.controller.api.auth import Access
from reconciler.controller.api.lines import WorkLine
from reconciler.controller.api.methods.events import EventMethods
from reconciler.controller.api.methods.exec import ExecMethods
from reconciler.controller.api.methods.logs import LOG_STEP_MS, LogMethods
from reconciler.controller.api.methods.manager import ManagerMethods
from reconciler.controller.api.methods.progress import ProgressMethods
from reconciler.controller.api.methods.revisions import RevisionMethods
from reconciler.controller.api.methods.runs import RunMethods
from reconciler.controller.api.methods.spec import SpecMethods
from reconciler.controller.api.methods.stats import StatsMethods
from reconciler.controller.api.methods.status import StatusMethods
from reconciler.controller.api.methods.upgrade import Upgrades
from reconciler.controller.api.methods.watchers import WatcherMethods
from reconciler.controller.api.readings import Readings
from reconciler.controller.api.request import Dispatcher, Handler, RememberedAnswers
from reconciler.controller.api.server import Server
from reconciler.controller.api.streams import Streams
from reconciler.controller.api.turns import Turns
from reconciler.controller.api.waiters import Waiters
from reconciler.controller.output.parts import Output
from reconciler.controller.runtime.config import Config
from reconciler.controller.runtime.file_watch import Watch
from reconciler.controller.runtime.parts import Runtime
from reconciler.controller.specs.parts import Specs
from reconciler.controller.state.saving import Saving
from reconciler.core.reconciler import Reconciler
from reconciler.model.action import KeeperAction
from reconciler.model.event import Event
from reconciler.model.observation import KeeperIntroduced, Observation
from reconciler.wire.methods import METHODS


class Api:
    """The control socket with its methods, requests that wait, and streams."""

    def __init__(
        self,
        config: Config,
        control: socket.socket,
        runtime: Runtime,
        core: Reconciler,
        saving: Saving,
        specs: Specs,
        output: Output,
        keeper: KeeperIntroduced,
        send: Callable[[KeeperAction], None],
        feed: Callable[[Observation], None],
        shut_down: Callable[[bool, int | None], bool],
        is_ending: Callable[[], bool],
        is_core_behind: Callable[[], bool],
    ) -> None:
        reactor, lanes, border, log = runtime.reactor, runtime.lanes, runtime.border, runtime.log
        tell, board, source = output.tell, output.board, specs.source

        def polls(message: str) -> None:
            if message:
                tell(Event("files.watching", message))

        watch = Watch(LOG_STEP_MS, lanes.hand_over, polls, border.report)
        self.access = Access(config, reactor, lanes, tell, lambda: self.server.recheck(), core.live)
        self.streams = Streams(reactor, border)
        self.waiters = Waiters(core, board, reactor)
        self.upgrades = Upgrades(keeper, lanes, send)
        self.readings = Readings(reactor, lanes, source.look_at)
        self.logs = LogMethods(
            core, self.streams, output.log_places, output.last_lines.birth, watch
        )
        lines = WorkLine(reactor), WorkLine(reactor)
        watchers = WatcherMethods(core, saving, self.waiters, feed, is_core_behind, *lines)
        self.status = StatusMethods(config, keeper, core, reactor, board, specs, saving)
        handlers = handlers_of(
            self.status,
            EventMethods(output.event_log, self.streams),
            self.logs,
            ProgressMethods(core, board, specs.revisions, self.streams),
            SpecMethods(specs, self.readings, lanes),
            RevisionMethods(core, specs),
            RunMethods(core, saving),
            watchers,
            self.upgrades,
            StatsMethods(core, board, lanes, self.streams),
            ExecMethods(config, core, specs.secrets),
            ManagerMethods(config, core, source, keeper, self.waiters, shut_down),
        )
        self.dispatcher = Dispatcher(
            handlers,
            lanes,
            border,
            self.access,
            is_ending,
            tell,
            RememberedAnswers(watchers.answer_again),
        )
        self.server = Server(
            control,
            reactor,
            border,
            log,
            self.access,
            self.dispatcher.serve,
            self.streams,
            Turns(reactor),
        )

    def touched(self, names: frozenset[str]) -> None:
        """Let those who wait for or follow one of these watchers look again."""
        self.waiters.touched(names)
        self.streams.touched(names)

    def close(self) -> None:
        """Send what can be sent and leave; nobody is answered any more."""
        self.waiters.finish()
        self.streams.finish("event")
        self.server.close()


def handlers_of(*nouns: object) -> dict[str, Handler]:
    """Return what serves each method: it has its name, with `_` for a dot."""
    names = {method: method.replace(".", "_") for method in METHODS}
    return {
        method: next(getattr(each, name) for each in nouns if hasattr(each, name))
        for method, name in names.items()
    }
