"""The control socket as the keeper sees it, with whatever number it has, and after its folder has gone."""

from __future__ import annotations

import fcntl
import os
import resource
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.keeper.calls import Calls
from reconciler.keeper.config import KeeperConfig, open_control


class Desk:
    """The calls of an instance in a folder, and what is watched for them."""

    def __init__(self, folder: Path) -> None:
        (folder / "run").mkdir()
        self.config = KeeperConfig("test", str(folder / "state"), str(folder / "run"), ())
        self.watched: dict[int, Callable[[], None]] = {}
        self.called = 0

    def calls(self, control: socket.socket) -> Calls:
        return Calls(self.config, control, self.watched.__setitem__, self.watched.pop, self.call)

    def call(self) -> None:
        self.called += 1


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 3000), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("many_descriptors")
def test_a_waiting_client_is_seen_by_descriptors_above_1023(desk: Desk) -> None:
    control = open_control(desk.config)
    high = socket.socket(fileno=fcntl.fcntl(control, fcntl.F_DUPFD_CLOEXEC, 2000))
    control.close()
    calls = desk.calls(high)
    assert not calls.is_waiting()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(desk.config.control_socket)
        assert calls.is_waiting()
    calls.close()
    assert not os.path.exists(desk.config.control_socket)
