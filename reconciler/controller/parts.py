"""Puts the parts of one controller together: each is given what it needs, and none knows this object."""

from __future__ import annotations

import os
import socket
import sys
from typing import Final

import reconciler
from reconciler.controller.actions import Actions
from reconciler.controller.api.parts import Api
from reconciler.controller.keeper_observations import KeeperObservations
from reconciler.controller.output.clients import Clients
from reconciler.controller.output.manager_log import ManagerLog
from reconciler.controller.output.parts import Output
from reconciler.controller.output.systemd import Notifier
from reconciler.controller.probes.prober import Prober
from reconciler.controller.runtime import clock
from reconciler.controller.runtime.accounts import LogOwners, SocketOwners
from reconciler.controller.runtime.config import Config
from reconciler.controller.runtime.inbox import Inbox
from reconciler.controller.runtime.keeper_link import Link
from reconciler.controller.runtime.parts import Runtime
from reconciler.controller.shutdown import JobsDone, Shutdown
from reconciler.controller.specs.parts import Specs
from reconciler.controller.state.saving import Saving
from reconciler.controller.state.store import Store
from reconciler.core.reconciler import Reconciler
from reconciler.model.action import Notify
from reconciler.model.observed import Facts
from reconciler.model.spec import Spec

HOOK_RUNNER: Final = os.path.join(os.path.dirname(reconciler.__file__), "hook/__main__.py")


class Parts:
    """Everything that one controller is made of."""

    output: Output
    api: Api
    shutdown: Shutdown
    keeper_observations: KeeperObservations
    actions: Actions

    def __init__(
        self,
        config: Config,
        log: ManagerLog,
        store: Store,
        link: socket.socket,
        control: socket.socket,
    ) -> None:
        """Read the store and meet the keeper. Raises `LinkClosed`."""
        self.config, self.log, self.store = config, log, store
        self.inbox = Inbox()
        self.feed = self.inbox.append
        self.runtime = Runtime(log, lambda event: self.output.tell(event))
        hand_over = self.runtime.lanes.hand_over
        self.stored = stored = store.read(lambda found: hand_over(lambda: self.saving.take(found)))
        self.link = Link(link, self.runtime.reactor)
        self.keeper, self.first_words = self.link.meet(log)
        self.is_new_keeper = stored.keeper_id != self.keeper.keeper_id
        self.core = Reconciler(
            Facts(
                instance=config.name,
                keeper_id=self.keeper.keeper_id,
                boot_id=self.keeper.boot_id,
                logs_dir=config.logs_dir,
                control_socket=config.control_socket,
                python=sys.executable,
                hook_runner=HOOK_RUNNER,
                exit_with=config.exit_with,
                controllers=self.keeper.controllers,
            )
        )
        self._compose(control)
        self._compose_ends()

    def _compose(self, control: socket.socket) -> None:
        """Put the rooms together."""
        config, runtime, core, stored = self.config, self.runtime, self.core, self.stored
        store, feed, say, border = self.store, self.feed, self.link.send, self.runtime.border
        is_ending, newest = self._is_ending, stored.next_event
        output = Output(runtime, core, store, newest, lambda: self.api.streams.told(), feed)
        tell, lines, written = output.tell, output.last_lines.read, output.event_log.written
        saving = Saving(store, core, border, tell, feed, written, stored.notes)
        specs = Specs(
            config, runtime, core, saving, stored, lines, tell, feed, self.follow, is_ending
        )
        self.output, self.saving, self.specs = output, saving, specs
        self.api = Api(
            config, control, runtime, core, saving, specs, output, self.keeper, say, feed,
            lambda now, code: self.shutdown.shut_down(now, code), is_ending, lambda: self.inbox.is_full,
        )  # fmt: skip

    def _compose_ends(self) -> None:
        """Put together what stands between the rooms, the keeper and the core."""
        border, reactor, tell = self.runtime.border, self.runtime.reactor, self.output.tell
        core, feed, say = self.core, self.feed, self.link.send
        specs, output, api, new = self.specs, self.output, self.api, self.is_new_keeper
        self.notifier = Notifier(
            core, output.board, reactor, lambda text: say(Notify(text)), self.keeper.notifies,
            lambda: specs.standing.state, self._is_ending,
        )  # fmt: skip
        closing = (
            ("the control socket", api.close),
            ("the spec files", specs.files.close),
            ("the secrets", specs.secrets.close),
            ("the watched files", specs.watched_files.close),
            ("the store", self.write_last),
        )
        self.shutdown = ending = Shutdown(
            specs.in_force, self.notifier, border, feed, tell, lambda: self.keeper_observations.release(),
            lambda: api.streams.finish("log"), closing, say,
        )  # fmt: skip
        self.keeper_observations = KeeperObservations(
            border, output, self.notifier, api, specs.files, ending, self.log, feed, new, []
        )
        owners, applied = SocketOwners(self.runtime.lanes, say), self.stored.applied
        self.log_owners = LogOwners(self.runtime.lanes, reactor, feed, tell)
        retiring = applied.retiring if applied is not None else {}
        prober = Prober(reactor, self.runtime.lanes, border, self.log, feed)
        clients = Clients(core, self.runtime.lanes, feed)
        self.actions = Actions(
            core, self.saving, specs, output.last_lines, clients, prober, owners, self.link, border, ending,
            has_fired=not new, retiring=retiring,
        )  # fmt: skip
        self.jobs_done = JobsDone(
            core, output.board, api.streams, reactor, ending, tell, clock.now_ns(),
            has_fired=lambda: self.actions.has_fired,
        )  # fmt: skip

    def _is_ending(self) -> bool:
        return self.shutdown.has_begun

    def follow(self, spec: Spec) -> None:
        """Take from the spec who may call, and level and format of the log.

        What else it says of the manager counts at the next start.
        """
        self.api.access.follow(spec)
        self.log.level, self.log.format = spec.daemon.log.level, spec.daemon.log.format

    def write_last(self) -> None:
        """Write what was told, and end the store's writer."""
        self.output.event_log.close()
        self.store.close_writer()
