"""The control socket as the keeper sees it, with whatever number it has, and after its folder has gone."""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.keeper.linux.control_socket import ControlSocket
from reconciler.keeper.startup import instance
from reconciler.keeper.startup.config import KeeperConfig, Refused
from reconciler.keeper.startup.instance import claim, open_control
from reconciler.model.observation import ControlRenewed
from reconciler.model.process import ProcessId
from reconciler.sockets.watching import Clients, FileWatch
from tests.descriptors import own_descriptors
from tests.keeper.rig import Link, Rig, command, keeper

WEB = ProcessId("web", 1)


class Desk:
    """The control socket of an instance in a folder; its files are watched for nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "run"
        self.config = KeeperConfig("test", str(folder / "state"), str(self.folder), ())
        self.locks = claim(self.config)
        self.called: list[str] = []

    def calls(self, control: socket.socket) -> ControlSocket:
        clients = Clients(lambda _fd, _ready: None, self.called.append)
        files = FileWatch(lambda _fd, _ready: None, lambda: None)
        return ControlSocket(self.config, control, self.locks, clients, files)

    def opened(self) -> ControlSocket:
        return self.calls(open_control(self.config))


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


def connects(desk: Desk) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(desk.config.control_socket)
    return True


def test_a_runtime_folder_that_was_removed_is_made_again_with_lock_and_socket(desk: Desk) -> None:
    os.chmod(desk.folder, 0o750)
    calls = desk.opened()
    assert calls.renew() is None
    shutil.rmtree(desk.folder)
    assert calls.renew() == ControlRenewed(desk.config.control_socket)
    assert connects(desk)
    assert stat.S_IMODE(desk.folder.stat().st_mode) == 0o750
    with pytest.raises(Refused, match="already running"):
        claim(desk.config)
    assert calls.renew() is None
    calls.close()
    assert calls.renew() is None, "what was closed is not opened again"


def test_a_folder_that_cannot_be_made_again_is_told_once_and_tried_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = desk.opened()
    shutil.rmtree(desk.folder)
    desk.folder.touch()
    renewed = calls.renew()
    assert renewed is not None
    assert renewed.trouble.startswith(f"cannot create {desk.folder}: ")
    assert calls.due_ns is not None
    assert calls.renew() is None
    assert calls.due_ns is not None
    desk.folder.unlink()
    assert calls.renew() == ControlRenewed(desk.config.control_socket)
    assert calls.due_ns is None
    assert connects(desk)


def test_the_place_of_another_keeper_is_left_to_it(desk: Desk) -> None:
    calls = desk.opened()
    shutil.rmtree(desk.folder)
    desk.folder.mkdir()
    other = instance.lock(desk.config.runtime_lock)
    before = own_descriptors()
    renewed = calls.renew()
    assert renewed is not None
    assert "already running" in renewed.trouble
    assert not os.path.exists(desk.config.control_socket)
    assert own_descriptors() == before
    os.close(other)


def test_a_keeper_whose_runtime_folder_goes_can_be_reached_again(rig: Rig, link: Link) -> None:
    link.spawn(WEB, "sleep", "1000")
    pid = link.running(WEB).pid
    (rig.folder / "run").rename(rig.folder / "away")
    while link.take():
        pass
    link.let_go()
    link = rig.link()
    path = str(rig.folder / "run/control.sock")
    assert link.hear(ControlRenewed) == ControlRenewed(path)
    assert link.running(WEB).pid == pid
    with (
        socket.socket(socket.AF_UNIX) as client,
        socket.socket(fileno=os.dup(link.control_fd)) as control,
    ):
        client.connect(path)
        control.accept()[0].close()
    second = subprocess.run(
        command(rig.folder, state_dir=str(rig.folder / "other")),
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert "already running" in second.stderr


def test_hup_looks_after_a_socket_whose_loss_no_watch_told(tmp_path: Path) -> None:
    settings = {"runtime_dir": str(tmp_path / "above/run")}
    with keeper(tmp_path, settings=settings) as rig:
        link = rig.link()
        (tmp_path / "above").rename(tmp_path / "away")
        os.kill(rig.pid, signal.SIGHUP)
        while link.take():
            pass
        link.let_go()
        path = str(tmp_path / "above/run/control.sock")
        assert rig.link().hear(ControlRenewed) == ControlRenewed(path)
        assert os.path.exists(path)
