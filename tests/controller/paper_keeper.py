"""The far end of the link for tests: speaks the keeper's protocol over a real socket pair, spawns on paper.

What it claims to run can be made to exit; what it was told is kept in `actions`.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

from reconciler.model.action import (
    Bind,
    Forget,
    KeeperAction,
    Notify,
    Quit,
    Remember,
    Signal,
    Spawn,
    Unbind,
    Upgrade,
)
from reconciler.model.observation import (
    KeeperIntroduced,
    KeeperObservation,
    RecordChanged,
    RecordForgotten,
    SnapshotEnded,
    SocketChanged,
    SocketClosed,
    UpgradeFailed,
)
from reconciler.model.process import Exit, Exited, ProcessId, ProcessRecord, Running
from reconciler.model.socket import BindRefused, Bound, SocketRecord
from reconciler.wire.link import LinkDecoder, encode


class PaperKeeper:
    """Answers actions in a thread of its own."""

    def __init__(
        self,
        records: tuple[ProcessRecord, ...] = (),
        *,
        notifies: bool = False,
        upgrades: int = 0,
    ) -> None:
        self.near, self.far = socket.socketpair()
        self.records = {record.id: record for record in records}
        self.actions: list[KeeperAction] = []
        self.quit: Quit | None = None
        self.stubborn: set[str] = set()
        """Watchers whose processes do not end when they are asked to."""
        self.refused: set[str] = set()
        """Sockets that cannot be bound."""
        self._last = max((record.incarnation for record in records), default=0)
        self._lock = threading.Lock()
        now_ns = time.monotonic_ns()
        self.tell(
            KeeperIntroduced(
                "keeper-1",
                "boot-1",
                4242,
                now_ns,
                "session",
                notifies=notifies,
                upgrades=upgrades,
            )
        )
        for record in records:
            self.tell(RecordChanged(record))
        self.tell(SnapshotEnded())
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def tell(self, *events: KeeperObservation) -> None:
        """Send events to the controller."""
        with suppress(OSError):
            self.far.sendall(b"".join(encode(event) for event in events))

    def exit(self, id: ProcessId, code: int = 0) -> None:
        """Let a process end."""
        with self._lock:
            record = self.records[id]
            phase = record.phase
            assert isinstance(phase, Running)
            exited = Exited(time.monotonic_ns(), Exit(code), phase.pid, phase.started_at_ns)
            self._change(
                ProcessRecord(id, record.incarnation, record.template_hash, record.memory, exited)
            )

    def spawned(self) -> list[ProcessId]:
        """Return what was spawned, in order."""
        return [action.id for action in self.actions if isinstance(action, Spawn)]

    def notified(self) -> list[str]:
        """Return what was said to whoever started the manager, in order; answers to the liveness check apart."""
        said = [action.text for action in self.actions if isinstance(action, Notify)]
        return [text for text in said if text != "WATCHDOG=1"]

    def close(self) -> None:
        """Be gone."""
        with suppress(OSError):
            self.far.shutdown(socket.SHUT_RDWR)
        self.far.close()
        self._thread.join(5)

    def _serve(self) -> None:
        decoder = LinkDecoder()
        while True:
            try:
                data = self.far.recv(2**16)
            except OSError:
                return
            if not data:
                return
            for action in decoder.actions(data):
                self.actions.append(action)
                with self._lock:
                    self._do(action)

    def _do(self, action: KeeperAction) -> None:
        match action:
            case Spawn(id, _, template_hash, memory):
                self._last += 1
                running = Running(100_000 + self._last, time.monotonic_ns())
                self._change(ProcessRecord(id, self._last, template_hash, memory, running))
            case Remember(id, incarnation, memory):
                record = self.records.get(id)
                if record is not None and record.incarnation == incarnation:
                    phase, hash = record.phase, record.template_hash
                    self._change(ProcessRecord(id, incarnation, hash, memory, phase))
            case Signal(id, incarnation, signal):
                record = self.records.get(id)
                ends = signal in {"TERM", "KILL"} and (
                    signal == "KILL" or id.owner not in self.stubborn
                )
                if record is not None and isinstance(record.phase, Running) and ends:
                    phase = record.phase
                    exited = Exited(
                        time.monotonic_ns(), Exit(signal=signal), phase.pid, phase.started_at_ns
                    )
                    self._change(
                        ProcessRecord(id, incarnation, record.template_hash, record.memory, exited)
                    )
            case Forget(id):
                self.records.pop(id, None)
                self.tell(RecordForgotten(id))
            case Bind(name, template) if name in self.refused:
                refused = BindRefused("EADDRINUSE", "the address is in use", time.monotonic_ns())
                self.tell(SocketChanged(SocketRecord(name, template, refused)))
            case Bind(name, template):
                bound = Bound(str(template.address), time.monotonic_ns())
                self.tell(SocketChanged(SocketRecord(name, template, bound)))
            case Unbind(name):
                self.tell(SocketClosed(name))
            case Upgrade(python):
                self.tell(UpgradeFailed(f"cannot become {python} on paper"))
            case Notify():
                pass
            case Quit():
                self.quit = action
                self.far.shutdown(socket.SHUT_RDWR)

    def _change(self, record: ProcessRecord) -> None:
        self.records[record.id] = record
        self.tell(RecordChanged(record))
