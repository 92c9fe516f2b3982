"""A controller as it really runs, in a thread: real store, real socket, real loader; the keeper is on paper."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from paper_keeper import PaperKeeper

from reconciler.controller.controller import Controller
from reconciler.controller.output.manager_log import ManagerLog
from reconciler.controller.runtime.config import Config
from reconciler.controller.runtime.keeper_link import LinkClosed
from reconciler.controller.runtime.lanes import _Task
from reconciler.controller.specs import loader
from reconciler.controller.specs.loader import environment_digest
from reconciler.controller.state.records import Applied
from reconciler.controller.state.store import Store
from reconciler.model.spec import ApplySpec, Spec, WatcherSpec
from reconciler.wire import rpc

DEADLINE_S = 20


def until(condition: Callable[[], Any], what: str = "") -> Any:
    """Wait until a condition holds and return its value."""
    end = time.monotonic() + DEADLINE_S
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"it did not come about: {what or condition}"
        threading.Event().wait(0.01)


def raised(_where: str, error: Exception) -> NoReturn:
    """Let a call of the reactor fail the test."""
    raise error


class Client:
    """A client that does nothing but speak the protocol."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE_S)
        self.socket.connect(str(path))
        self._decoder = rpc.ClientDecoder()
        self.notifications: list[rpc.Notification] = []
        self._responses: dict[int, rpc.Response] = {}
        self._last = 0

    def send(self, method: str, **params: object) -> int:
        self._last += 1
        self.socket.sendall(rpc.encode_request(self._last, method, params))
        return self._last

    def answer(self, msgid: int) -> rpc.Response:
        while msgid not in self._responses:
            self.receive()
        return self._responses.pop(msgid)

    def receive(self) -> None:
        data = self.socket.recv(2**20)
        if not data:
            raise EOFError
        for message in self._decoder.messages(data):
            if isinstance(message, rpc.Response):
                self._responses[message.msgid] = message
            else:
                self.notifications.append(message)

    def call(self, method: str, **params: object) -> Any:
        response = self.answer(self.send(method, **params))
        assert response.error is None, response.error
        return response.result

    def error(self, method: str, **params: object) -> tuple[str, str, Any]:
        response = self.answer(self.send(method, **params))
        assert response.error is not None, response.result
        return response.error

    def next(self, stream: int) -> dict[str, Any]:
        """Return the next element of a stream."""
        while True:
            for index, message in enumerate(self.notifications):
                if message.params["stream"] == stream:
                    del self.notifications[index]
                    return dict(message.params)
            self.receive()

    def close(self) -> None:
        self.socket.close()


class Instance:
    """One controller with its keeper on paper."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keeper = PaperKeeper()
        self.clients: list[Client] = []
        self.controller: Controller | None = None
        self.failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._control: socket.socket | None = None
        self._others: set[threading.Thread] = set()
        """Threads that are not of our controller."""

    @property
    def spec_file(self) -> Path:
        return self.folder / "specs" / "reconcile.yaml"

    def store(self, spec: Spec, revision: int = 1, **more: Any) -> None:
        """Let a former controller have stored a spec."""
        store = Store(str(self.folder))
        store.read(lambda _: None)
        more = {"source": (str(self.spec_file),), "environment": environment_digest()} | more
        store.write(Applied(spec, revision, **more))
        store.close()

    def start(
        self, keeper: PaperKeeper | None = None, *, last_good: bool = False, **config: Any
    ) -> Instance:
        self.keeper = keeper or self.keeper
        path = self.folder / "control.sock"
        path.unlink(missing_ok=True)
        self._control = socket.socket(socket.AF_UNIX)
        self._control.bind(str(path))
        self._control.listen(128)
        whole = Config(
            "test",
            str(self.folder),
            str(self.folder),
            (str(self.spec_file),),
            log_file=str(self.folder / "controller.log"),
            **config,
        )
        self._others = {*threading.enumerate()}
        log = ManagerLog(whole.log_level, whole.log_format, whole.log_file, whole.state_dir)
        store = Store(whole.state_dir)
        self.controller = Controller(whole, log, store, self.keeper.near, self._control)
        self._thread = threading.Thread(target=self._run, args=(last_good,), daemon=True)
        self._thread.start()
        return self

    def _run(self, last_good: bool) -> None:
        assert self.controller is not None
        try:
            self.controller.run(last_good=last_good)
        except LinkClosed:
            pass
        except BaseException as error:
            self.failure = error

    def client(self) -> Client:
        client = Client(self.folder / "control.sock")
        self.clients.append(client)
        return client

    def join(self) -> None:
        """Wait for the controller's end."""
        assert self._thread is not None
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()

    def stop(self) -> None:
        """Take the keeper away, which ends a controller, and give everything back."""
        for client in self.clients:
            client.close()
        if self._thread is None or self.controller is None or self._control is None:
            self.keeper.close()
            return
        self.keeper.close()
        self.join()
        self.controller.api.server.close()
        self.controller.specs.files.close()
        self.controller.specs.watched_files.close()
        self.controller.store.close()
        self._end_lanes(self.controller)
        self._control.close()
        self.keeper.near.close()
        if self.failure is not None:
            raise self.failure

    def _end_lanes(self, controller: Controller) -> None:
        """Let the threads end that live as long as a process, and close what is theirs."""
        lanes = controller.runtime.lanes
        for lane in lanes._lanes.values():
            lane.add(None, _Task("files", sys.exit, lambda _: None, 0))
        ended = [each for each in {*threading.enumerate()} - self._others if "lane-" in each.name]
        try:
            # Python's own hook is silent about who leaves; that of pytest is not.
            threading.excepthook, told = threading.__excepthook__, threading.excepthook
            for each in ended:
                each.join(DEADLINE_S)
                assert not each.is_alive(), each
        finally:
            threading.excepthook = told
        controller.api.logs.watch.close()
        os.close(lanes._wake)
        controller.runtime.reactor._selector.close()


@pytest.fixture(autouse=True)
def _steady_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the one variable that pytest itself changes between fixture and test."""
    hidden = (*loader._NOT_FOR_SPECS, "PYTEST_CURRENT_TEST")
    monkeypatch.setattr(loader, "_NOT_FOR_SPECS", hidden)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    found = Instance(tmp_path)
    yield found
    found.stop()


def service(**fields: Any) -> WatcherSpec:
    return WatcherSpec(cmd=("sleep", "1000"), **fields)


def job(**fields: Any) -> WatcherSpec:
    return WatcherSpec(cmd=("true",), restart="never", **fields)


def by_hand(**watchers: WatcherSpec) -> Spec:
    """Return a spec whose files nobody watches."""
    return Spec(watchers=watchers, apply=ApplySpec(auto=False))
