"""Puts the room's parts together."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.controller.runtime.config import Config
from reconciler.controller.runtime.parts import Runtime
from reconciler.controller.specs.accepted import Accepted
from reconciler.controller.specs.apply import Applier
from reconciler.controller.specs.early import EarlyReader
from reconciler.controller.specs.files import SpecFiles
from reconciler.controller.specs.in_force import InForce
from reconciler.controller.specs.revisions import Revisions
from reconciler.controller.specs.schedules import Schedules
from reconciler.controller.specs.secrets import Secrets
from reconciler.controller.specs.source import SourceWatch
from reconciler.controller.specs.standing import Standing
from reconciler.controller.specs.verdicts import Verdicts
from reconciler.controller.specs.watched_files import WatchedFiles
from reconciler.controller.state.records import Stored
from reconciler.controller.state.saving import Saving
from reconciler.core.reconciler import Reconciler
from reconciler.model.event import Event
from reconciler.model.observation import Observation
from reconciler.model.process import ProcessId
from reconciler.model.spec import Spec


class Specs:
    """The spec in force, its files, its history, its secrets, and the files that its watchers watch."""

    def __init__(
        self,
        config: Config,
        runtime: Runtime,
        core: Reconciler,
        saving: Saving,
        stored: Stored,
        last_lines: Callable[[ProcessId, int, Callable[[list[str]], None]], None],
        tell: Callable[[Event], None],
        feed: Callable[[Observation], None],
        follow: Callable[[Spec], None],
        is_ending: Callable[[], bool],
    ) -> None:
        reactor, lanes, border, log = runtime.reactor, runtime.lanes, runtime.border, runtime.log
        self.in_force = InForce(stored.applied, core, saving.observed)
        self.revisions = Revisions(dict(stored.revisions), core, self.in_force, saving, lanes)
        lost = stored.ledger_lost
        self.applier = Applier(
            core, self.in_force, self.revisions, saving, border, feed, tell, follow, lost
        )
        self.secrets = Secrets(
            config.state_dir,
            reactor,
            lanes,
            feed,
            quiet_ns=lambda: self.in_force.settings.quiet_period,
            files_changed=lambda: self.files.watch_again(),
        )
        self.schedules = Schedules(core, reactor, lanes, feed)
        self.watched_files = WatchedFiles(reactor, lanes, border, feed, tell)
        accepted = Accepted(stored.applied.files if stored.applied is not None else ())
        self.source = SourceWatch(
            config.source, accepted, reactor, lanes, border, tell, self._looked_for
        )
        self.standing = Standing(self.revisions, log, tell)
        self.files = SpecFiles(
            self.source,
            accepted,
            self.standing,
            self.in_force,
            self.applier,
            self.revisions,
            self.secrets,
            reactor,
            lanes,
            config,
            is_ending,
            EarlyReader(self.source, self.in_force, reactor, lanes, self.standing.put_off),
        )
        self.verdicts = Verdicts(self.in_force, self.revisions, self.files, last_lines, tell)

    def _looked_for(self) -> tuple[str, ...]:
        spec = self.in_force.spec
        return () if spec is None else spec.looked_for
