"""What the keeper says goes to the core, and to those who have a part of their own in it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from reconciler.controller.api.parts import Api
from reconciler.controller.output.manager_log import ManagerLog
from reconciler.controller.output.parts import Output
from reconciler.controller.output.systemd import Notifier
from reconciler.controller.runtime.borders import Border
from reconciler.controller.shutdown import Shutdown
from reconciler.controller.specs.files import SpecFiles
from reconciler.model.event import Event
from reconciler.model.observation import (
    HeartbeatAsked,
    KeeperObservation,
    LogRotated,
    Observation,
    RecordChanged,
    SignalReceived,
    SnapshotEnded,
    SocketChanged,
    SocketClosed,
    UpgradeFailed,
)
from reconciler.model.process import MAIN, Exited, ProcessId, ProcessRecord, pid_of
from reconciler.model.socket import BindRefused, SocketRecord
from reconciler.model.units import format_count
from reconciler.model.value import Part, field


class KeeperObservations(Part):
    """Takes the keeper's observations."""

    border: Border
    output: Output
    notifier: Notifier
    api: Api
    files: SpecFiles
    shutdown: Shutdown
    log: ManagerLog
    feed: Callable[[Observation], None]
    is_new_keeper: bool
    """Nothing was told yet of what a keeper that was not here before has taken over."""
    held_back: list[KeeperObservation] | None
    """Events that came before there was a spec: without one the core would stop everything."""
    _taken_over: int = 0
    _dead: set[ProcessId] | None = field(default_factory=set)
    """What the keeper's snapshot shows dead, as long as the snapshot goes on."""

    def hear(self, observations: list[KeeperObservation]) -> None:
        """Take what the keeper says."""
        for observation in observations:
            if isinstance(observation, SignalReceived):
                act = partial(self._act_on, observation)
                self.border.guard("acting on a signal", act)
            elif isinstance(observation, HeartbeatAsked):
                self.notifier.heartbeat()
            elif self.held_back is not None:
                self.held_back.append(observation)
            else:
                self._take(observation)

    def release(self) -> None:
        """Let the core have what the keeper said so far; from now on observations go straight to it."""
        held, self.held_back = self.held_back, None
        for observation in held or ():
            self._take(observation)

    def _act_on(self, observation: SignalReceived) -> None:
        match observation.meaning:
            case "stop":
                # With a code a former controller has begun to stop everything: nothing of it is left to others.
                self.shutdown.stops_all |= observation.code is not None
                self.shutdown.shut_down(False, observation.code)
            case "stop_now":
                self.shutdown.shut_down(True, 1 if observation.code is None else observation.code)
            case "reload":
                text = "reads its files again, asked by a signal"
                self.output.tell(Event("operator.reload", text))
                self.notifier.reloading()
                self.log.reopen()
                self.files.read_again(self.notifier.reloaded)

    def _take(self, observation: KeeperObservation) -> None:
        match observation:
            case LogRotated(path):
                self.border.guard(
                    "compressing a log file", lambda: self.output.compressor.add(path)
                )
            case SocketChanged(SocketRecord(phase=BindRefused(errno="EADDRINUSE"))):
                self.feed(observation)
                ask = partial(self.output.port_holders.ask, observation.record)
                self.border.guard("asking who holds a port", ask)
            case SocketChanged(SocketRecord(name=name)) | SocketClosed(name):
                self.output.port_holders.forget(name)
                self.feed(observation)
            case UpgradeFailed(cause):
                self.border.guard("answering an upgrade", lambda: self.api.upgrades.failed(cause))
            case RecordChanged(record):
                self._changed(record)
                self.feed(observation)
            case SnapshotEnded():
                self.border.guard("telling what was taken over", self._tell_taken_over)
                self.border.guard("looking for ends that were told", self._feed_ends_told)
                self._dead = None
                self.feed(observation)
                self.api.server.open()
            case _:
                self.feed(observation)

    def _changed(self, record: ProcessRecord) -> None:
        self._taken_over += self.is_new_keeper and pid_of(record.phase) is not None
        if record.id.role != MAIN or not isinstance(record.phase, Exited):
            return
        if self._dead is not None:
            self._dead.add(record.id)
        self.border.guard("looking at a log", partial(self.output.last_lines.ended, record))

    def _feed_ends_told(self) -> None:
        if self._dead:
            self.feed(self.output.event_log.ends_told(self._dead))

    def _tell_taken_over(self) -> None:
        if self._taken_over:
            count = format_count(self._taken_over, "process")
            details = {"processes": self._taken_over}
            message = f"took over {count} that a former manager left"
            self.output.tell(Event("manager.adopted", message, details=details))
        self.is_new_keeper = False
