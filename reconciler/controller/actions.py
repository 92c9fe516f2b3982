"""What the core says is handed out: to the keeper, the store, and those who have a part of their own in it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from reconciler.controller.output.clients import Clients
from reconciler.controller.output.last_lines import LastLines
from reconciler.controller.probes.prober import Prober
from reconciler.controller.runtime.accounts import SocketOwners
from reconciler.controller.runtime.borders import Border
from reconciler.controller.runtime.keeper_link import Link
from reconciler.controller.shutdown import Shutdown
from reconciler.controller.specs.parts import Specs
from reconciler.controller.state.records import (
    GenerationWritten,
    IntentWritten,
    OrderWritten,
    RetiringChanged,
    RunWritten,
    TimetableWritten,
)
from reconciler.controller.state.saving import Saving
from reconciler.core.reconciler import Reconciler
from reconciler.model.action import (
    Action,
    Bind,
    CountClients,
    FindInstants,
    Forget,
    KeeperAction,
    Probe,
    Quit,
    ReadSecrets,
    RecordGeneration,
    RecordIntent,
    RecordRun,
    RecordTimetable,
    RecordVerdict,
    ScanFiles,
    ShutDown,
    Spawn,
    Unbind,
    Unprobe,
)
from reconciler.model.spec import KEEP_RUNS, WatcherSpec
from reconciler.model.value import Part, field, replace


class Actions(Part):
    """Hands actions out."""

    core: Reconciler
    saving: Saving
    specs: Specs
    last_lines: LastLines
    clients: Clients
    prober: Prober
    socket_owners: SocketOwners
    link: Link
    border: Border
    shutdown: Shutdown
    has_fired: bool
    """A run of a job was recorded in the life of this manager, as far as we know."""
    retiring: Mapping[str, WatcherSpec] = field(default_factory=dict)
    """Watchers of former specs that are still being stopped, as they are stored."""

    def act(self, actions: tuple[Action, ...]) -> None:
        """Do what the core says."""
        to_keeper: list[KeeperAction] = []
        for action in actions:
            match action:
                case RecordRun(watcher, run):
                    self.has_fired = True
                    spec = self.core.watcher_spec(watcher)
                    # The newest of each slot stay in the ledger, also of a job that is going.
                    keep = KEEP_RUNS if spec is None else spec.keep_runs
                    self.saving.write(RunWritten(watcher, run, keep))
                case RecordGeneration(watcher, generation, timetable):
                    fired = GenerationWritten(watcher, generation)
                    come = () if timetable is None else (TimetableWritten(watcher, timetable),)
                    self.saving.write(OrderWritten((fired, *come)) if come else fired)
                case RecordTimetable(watcher, timetable):
                    self.saving.write(TimetableWritten(watcher, timetable))
                case RecordVerdict():
                    self.specs.verdicts.judged(action)
                case RecordIntent(watcher, intent):
                    # Unless a newer word is on its way to the disk: what is over in that one the core sees to.
                    if watcher not in self.saving.intents:
                        self.saving.write(IntentWritten(watcher, intent))
                case CountClients(watcher, sockets):
                    self.clients.count(watcher, sockets)
                case ReadSecrets(watcher):
                    self.specs.secrets.read(watcher)
                case Probe():
                    self.prober.ask(action)
                case Unprobe(id):
                    self.prober.drop(id)
                case FindInstants():
                    self.specs.schedules.find(action)
                case ScanFiles(watcher):
                    self.specs.watched_files.scan(watcher)
                case Spawn():
                    self.border.guard("looking at a log", partial(self.last_lines.begin, action))
                    to_keeper.append(self.specs.secrets.filled(self._placed(action)))
                case ShutDown():
                    self.shutdown.began()
                    to_keeper.append(action)
                case Quit():
                    self.shutdown.due = action
                case Bind() | Unbind():
                    # Without one it is sent as soon as it is known who gets the file.
                    if (ready := self.socket_owners.ready(action)) is not None:
                        to_keeper.append(ready)
                case Forget(id):
                    self.last_lines.forget(id)
                    to_keeper.append(action)
                case _:
                    to_keeper.append(action)
        if to_keeper:
            self.link.send(*to_keeper)

    def _placed(self, spawn: Spawn) -> Spawn:
        """Return the start of a process that says where its life begins in its logs, if that will be asked."""
        spec = self.core.watcher_spec(spawn.id.owner)
        if not spawn.memory.probed or spec is None or spec.ready is None or spec.ready.log is None:
            return spawn
        places = self.last_lines.places(spawn.id)
        return replace(spawn, memory=replace(spawn.memory, log_places=places))

    def remember_retiring(self) -> None:
        """Store which watchers of former specs are still being stopped, when they are others."""
        retiring = self.core.retiring()
        if retiring.keys() != self.retiring.keys():
            self.retiring = dict(retiring)
            self.saving.write(RetiringChanged(self.retiring))
