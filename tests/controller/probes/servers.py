"""Small servers on the loopback, each with one habit; and a desk at which a prober works."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from reconciler.controller.probes.prober import Prober
from reconciler.controller.runtime import clock
from reconciler.controller.runtime.borders import Border
from reconciler.controller.runtime.lanes import Lanes
from reconciler.controller.runtime.reactor import Reactor
from reconciler.model.action import Probe
from reconciler.model.observation import ProbeAnswered
from reconciler.model.probe import Probing, Target
from reconciler.model.process import ProcessId
from reconciler.model.units import MILLISECOND_NS as MS
from reconciler.model.units import SECOND_NS as S

if TYPE_CHECKING:
    from collections.abc import Callable

    from reconciler.model.event import Event
    from reconciler.model.observation import Observation

OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY: Final = b"HTTP/1.1 503 Busy\r\n\r\nthe database is away\n"


class Server:
    """Answers each connection with `answer`; None: with nothing, and it stays open."""

    def __init__(self, answer: bytes | None, path: str = "") -> None:
        self.answer = answer
        self.count = 0
        self.open = 0
        family = socket.AF_UNIX if path else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.bind(path or ("127.0.0.1", 0))
        self._socket.listen(512)
        self.port: int = 0 if path else self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                connection, _ = self._socket.accept()
                self.count += 1
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        self.open += 1
        with connection, suppress(OSError):
            connection.recv(4096)
            if self.answer is None:
                connection.recv(1)
            else:
                connection.sendall(self.answer)
        self.open -= 1

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Desk:
    """A prober with its loop; `told` is what it says."""

    def __init__(self) -> None:
        self.told: list[ProbeAnswered] = []
        self.faults: list[str] = []
        border = Border(self, self._event)
        self.reactor = Reactor(border.report)
        self.prober = Prober(
            self.reactor, Lanes(self.reactor, border.report), border, self, self._take
        )

    def write(self, _level: str, message: str, **pairs: object) -> None:
        self.faults.append(f"{message}: {pairs}")

    def _event(self, event: Event) -> None:
        self.faults.append(event.message)

    def _take(self, observation: Observation) -> None:
        assert isinstance(observation, ProbeAnswered)
        self.told.append(observation)

    def ask(self, target: Target, slot: int = 1, *, timeout_ms: int = 5000) -> ProcessId:
        """Ask every 20 ms."""
        id = ProcessId("web", slot, "ready")
        probing = Probing(target, 0, 20 * MS, timeout_ms * MS, 1, 1)
        self.prober.ask(Probe(id, 1, probing))
        return id

    def until(self, condition: Callable[[], object]) -> None:
        end = clock.now_ns() + 20 * S
        while not condition():
            assert clock.now_ns() < end, "it did not come about"
            self.reactor.wait(min(end, clock.now_ns() + 100 * MS))

    def first(self, target: Target, **more: int) -> tuple[bool | None, str]:
        """Return what is told of a target first."""
        id = self.ask(target, **more)
        self.until(lambda: self.told)
        self.prober.drop(id)
        return self.told[0].passed, self.told[0].message
