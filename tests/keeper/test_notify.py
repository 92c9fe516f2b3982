"""What systemd hears, on a socket of the test's own: of one kind and the other, full, gone, and for nobody else."""

from __future__ import annotations

import os
import signal
import socket
import struct
from pathlib import Path

import pytest

from reconciler.model.action import Notify
from reconciler.model.observation import KeeperIntroduced
from reconciler.model.process import ProcessId
from reconciler.system.notify import Notifier
from tests.keeper.rig import OWN_NICE, keeper, until

WEB = ProcessId("web", 1)


class Systemd:
    """The far end of sd_notify(3): it asks the kernel who has sent a message."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.settimeout(20)
        self.socket.bind("\0" + name[1:] if name.startswith("@") else name)

    def hear(self) -> tuple[str, int]:
        """Return the next message, and the pid of its sender."""
        text, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(12))
        pid, _, _ = struct.unpack("3i", ancillary[0][2])
        return text.decode(), pid


def environment(name: str, **more: str) -> dict[str, str]:
    return {**os.environ, "NOTIFY_SOCKET": name, **more}


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_what_the_controller_says_comes_from_the_keeper(tmp_path: Path, kind: str) -> None:
    name = str(tmp_path / "notify") if kind == "path" else f"@reconcile-test-{os.getpid()}"
    systemd = Systemd(name)
    with keeper(tmp_path, env=environment(name)) as rig:
        link = rig.link()
        assert link.hear(KeeperIntroduced).notifies
        link.send(Notify("READY=1\nSTATUS=Ä"))
        heard = [systemd.hear(), systemd.hear()]
        assert ("READY=1\nSTATUS=Ä", rig.pid) in heard
        # A listener that has gone away, and comes back, is not missed and not forgotten.
        systemd.socket.close()
        link.send(Notify("STATUS=nobody hears this"))
        Path(name).unlink(missing_ok=True)
        link.spawn(WEB, "sleep", "1000", inherit_env=True)
        link.running(WEB)
        again = Systemd(name)
        link.send(Notify("STATUS=again"))
        assert again.hear() == ("STATUS=again", rig.pid)


def test_a_worker_and_the_controller_know_nothing_of_it(tmp_path: Path) -> None:
    name = str(tmp_path / "notify")
    systemd = Systemd(name)
    more = {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}
    with keeper(tmp_path, env=environment(name, **more)) as rig:
        link = rig.link()
        link.spawn(WEB, "sleep", "1000", inherit_env=True)
        link.spawn(ProcessId("forked", 1), "sleep", "1000", inherit_env=True, nice=OWN_NICE)
        pids = [link.running(WEB).pid, link.running(ProcessId("forked", 1)).pid, link.pid]
        for pid in pids:
            # Empty for an instant after the exec that closes the pipe of a forked child.
            environ = until(lambda pid=pid: Path(f"/proc/{pid}/environ").read_text())
            assert "PATH=" in environ
            assert not [word for word in ("NOTIFY_SOCKET", "WATCHDOG") if word in environ]
    assert systemd.hear()[0] == "WATCHDOG=1"


def test_a_full_socket_keeps_nobody_waiting(tmp_path: Path) -> None:
    name = str(tmp_path / "notify")
    systemd = Systemd(name)
    with keeper(tmp_path, env=environment(name)) as rig:
        link = rig.link()
        link.send(*(Notify(f"STATUS={n} " + "x" * 3000) for n in range(2000)))
        link.spawn(WEB, "sleep", "1000")
        link.running(WEB)
    assert systemd.hear()[1] == rig.pid


def test_a_stopped_controller_is_replaced_and_the_watchdog_is_told_by_the_next(
    tmp_path: Path,
) -> None:
    name = str(tmp_path / "notify")
    systemd = Systemd(name)
    with keeper(tmp_path, env=environment(name, WATCHDOG_USEC="2000000")) as rig:
        first = rig.link()
        first.spawn(WEB, "sleep", "1000")
        worker = first.running(WEB).pid
        assert systemd.hear() == ("WATCHDOG=1", rig.pid)
        os.kill(first.pid, signal.SIGSTOP)
        second = rig.link()
        assert second.pid != first.pid
        assert second.running(WEB).pid == worker
        assert systemd.hear() == ("WATCHDOG=1", rig.pid)
        until(lambda: not Path(f"/proc/{first.pid}").exists(), "the stopped one is gone")


@pytest.mark.parametrize(
    ("environ", "watchdog_ns"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3_000_000_000),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3_000_000_000),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_a_watchdog_is_ours_only_when_it_says_so(
    environ: dict[str, str], watchdog_ns: int | None
) -> None:
    assert Notifier({"NOTIFY_SOCKET": "/nobody", **environ}).watchdog_ns == watchdog_ns


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative", "/" + "x" * 200, "@\0bad"])
def test_an_impossible_address_is_nobody(address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000000"})
    notifier.send("READY=1")
    assert notifier.listens == address.startswith(("/", "@"))
