"""Claims about a keeper that replaces its own code, beyond those of the contract."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from reconciler.keeper.succession.handover import HANDOVER, Handover, take
from reconciler.model.action import Bind, Signal, Spawn, Upgrade
from reconciler.model.address import InternetAddress
from reconciler.model.observation import KeeperIntroduced, UpgradeFailed
from reconciler.model.process import CaptureSink, Exit, FileSink, Launch, ProcessId, Running
from reconciler.model.socket import Bound, SocketTemplate
from reconciler.output.stream import Outgoing
from reconciler.wire.journal import written
from tests.keeper import rig as rig_module
from tests.keeper.rig import (
    OWN_NICE,
    Link,
    Rig,
    children_of,
    command,
    keeper,
    pid_in,
    until,
)

WEB = ProcessId("web", 1)
DB = ProcessId("db", 1)


def upgrade(rig: Rig, link: Link, python: str = sys.executable) -> Link:
    """Have the keeper replace its code, and return the link of the next controller."""
    link.send(Upgrade(python))
    while link.take():
        pass
    link.let_go()
    return rig.link()


def descriptors(pid: int) -> list[str]:
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{name}").partition("[")[0])
        except FileNotFoundError:
            continue
    return sorted(found)


def test_it_is_the_same_keeper_in_the_same_process(rig: Rig, link: Link) -> None:
    first = link.hear(KeeperIntroduced)
    link = upgrade(rig, link)
    second = link.hear(KeeperIntroduced)
    assert (second.keeper_id, second.pid) == (first.keeper_id, rig.pid)
    assert (first.upgrades, second.upgrades) == (0, 1)


SIGNALLED = """
import os, signal, types, reconciler.system.reexec as reexec
def mask(how, signals):
    if how == signal.SIG_BLOCK:
        os.kill(os.getpid(), signal.SIGTERM)
    return signal.pthread_sigmask(how, signals)
reexec.signal = types.SimpleNamespace(**{**vars(signal), "pthread_sigmask": mask})
"""


@pytest.fixture
def _signalled(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = f"exec({SIGNALLED!r}); import reconciler"
    program = rig_module.KEEPER.replace("import reconciler", prepared)
    monkeypatch.setattr(rig_module, "KEEPER", program)


@pytest.mark.usefixtures("_signalled")
def test_a_signal_that_comes_right_before_the_new_code_is_heard_by_it(tmp_path: Path) -> None:
    with keeper(tmp_path) as rig:
        link = upgrade(rig, rig.link())
        assert link.hear(KeeperIntroduced).upgrades == 1
        link.wait(lambda: link.told() == ["stop"])


@pytest.mark.usefixtures("_signalled")
def test_a_signal_that_comes_right_before_an_upgrade_that_fails_is_heard(tmp_path: Path) -> None:
    with keeper(tmp_path) as rig:
        link = rig.link()
        link.send(Upgrade("/no/such/python"))
        link.hear(UpgradeFailed)
        link.wait(lambda: link.told() == ["stop"])


def test_no_byte_of_output_is_lost_or_doubled(rig: Rig, link: Link) -> None:
    plain, stamped, caught = (rig.folder / name for name in ("plain", "stamped", "caught"))
    counts = "i=0; while :; do i=$((i+1)); printf $i; sleep 0.001; echo; done"
    link.spawn(WEB, "sh", "-c", counts, stdout=FileSink(str(plain)))
    link.spawn(DB, "sh", "-c", counts, stdout=FileSink(str(stamped), timestamps=True))
    hook = ProcessId("web", 0, "before_start")
    go = rig.folder / "go"
    os.mkfifo(go)
    said = f"printf begun; read x < {go}; echo ended"
    link.spawn(hook, "sh", "-c", said, stdout=CaptureSink(str(caught)))
    for each in (WEB, DB, hook):
        link.running(each)
    for _ in range(3):
        link = upgrade(rig, link)
    go.write_text("go on\n")
    assert link.exited(hook).output == b"begunended\n"
    for each in (WEB, DB):
        link.signal(each, "KILL")
        link.exited(each)
    numbers = [int(line) for line in plain.read_text().split()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 50
    lines = [int(line.split()[1]) for line in stamped.read_text().splitlines()]
    assert lines == list(range(1, len(lines) + 1))


def test_a_status_of_a_child_that_dies_meanwhile_is_not_lost(rig: Rig, link: Link) -> None:
    ids = [ProcessId("web", slot) for slot in range(1, 13)]
    for id_ in ids:
        text = f"trap 'exit {id_.slot}' USR1; while :; do sleep 0.01; done"
        link.spawn(id_, "sh", "-c", text)
    for id_ in ids:
        link.running(id_)
    traps = [Path(f"/proc/{pid_in(link, id_)}/status") for id_ in ids]
    while not all(_caught(path) >= "SigCgt:\t0000000000010200" for path in traps):
        select.select((), (), (), 0.002)
    link.send(*(Signal(id_, link.records[id_].incarnation, "USR1") for id_ in ids))
    link = upgrade(rig, link)
    assert [link.exited(id_).exit for id_ in ids] == [Exit(code=id_.slot) for id_ in ids]


def _caught(status: Path) -> str:
    return next(line for line in status.read_text().splitlines() if line.startswith("SigCgt"))


def test_a_signal_that_comes_meanwhile_is_heard(rig: Rig, link: Link) -> None:
    link.send(Upgrade(sys.executable))
    for _ in range(20):
        os.kill(rig.pid, signal.SIGHUP)
    while link.take():
        pass
    told = link.told()
    link.let_go()
    link = rig.link()
    os.kill(rig.pid, signal.SIGHUP)
    link.wait(lambda: "reload" in link.told())
    assert set(told) <= {"reload"}


def test_clients_of_a_socket_and_of_the_manager_wait(rig: Rig, link: Link) -> None:
    accepts = (
        "import socket; s = socket.socket(fileno=3)\n"
        "while True: c = s.accept()[0]; c.sendall(b'served'); c.close()"
    )
    link.send(Bind("http", SocketTemplate(InternetAddress("127.0.0.1", 0))))
    link.send(Spawn(WEB, Launch((sys.executable, "-c", accepts), sockets=("http",))))
    pid = link.running(WEB).pid
    phase = link.wait(lambda: link.sockets.get("http")).phase
    assert isinstance(phase, Bound)
    address = ("127.0.0.1", int(phase.listen.rpartition(":")[2]))
    os.kill(pid, signal.SIGSTOP)
    client = socket.create_connection(address)
    caller = socket.socket(socket.AF_UNIX)
    caller.connect(str(rig.folder / "run/control.sock"))
    link = upgrade(rig, link)
    os.kill(pid, signal.SIGCONT)
    assert client.makefile("rb").read() == b"served"
    with socket.socket(fileno=os.dup(link.control_fd)) as control:
        control.accept()[0].close()
    assert caller.recv(1) == b""


def test_nothing_leaks_and_nobody_else_gets_in(rig: Rig, link: Link) -> None:
    link.send(Bind("http", SocketTemplate(InternetAddress("127.0.0.1", 0))))
    link.spawn(WEB, "sleep", "1000", stdout=FileSink(str(rig.folder / "out")))
    link.running(WEB)
    before = descriptors(rig.pid)
    for _ in range(2):
        link = upgrade(rig, link)
        assert descriptors(rig.pid) == before
    assert len(children_of(rig.pid)) == 2
    link.spawn(DB, "sleep", "1000")
    pid = link.running(DB).pid
    until(lambda: len(descriptors(pid)) == 3)  # its loader has the C library open for a moment
    second = subprocess.run(
        command(rig.folder), stderr=subprocess.PIPE, text=True, check=False, timeout=20
    )
    assert f"already running, started by {_user()}, pid {rig.pid}" in second.stderr


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def test_what_cannot_be_executed_changes_nothing(rig: Rig, link: Link) -> None:
    link.spawn(WEB, "sleep", "1000")
    before = link.running(WEB)
    open_before = descriptors(rig.pid)
    link.send(Upgrade("/no/such/python"))
    cause = "cannot execute /no/such/python: No such file or directory"
    assert link.hear(UpgradeFailed).cause == cause
    assert descriptors(rig.pid) == open_before
    os.kill(rig.pid, signal.SIGHUP)
    link.wait(lambda: link.told() == ["reload"])
    link.signal(WEB, "TERM")
    assert link.exited(WEB).exit == Exit(signal="TERM")
    assert before.pid != 0


def test_an_upgrade_without_a_free_descriptor_leaves_no_signal_blocked(
    rig: Rig, link: Link
) -> None:
    link.spawn(WEB, "sleep", "1000")
    pid = link.running(WEB).pid
    held = {int(name) for name in os.listdir(f"/proc/{rig.pid}/fd")}
    free = next(number for number in range(1000) if number not in held)
    limits = resource.prlimit(rig.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(rig.pid, resource.RLIMIT_NOFILE, (free, limits[1]))
    link.send(Upgrade(sys.executable))
    cause = f"cannot execute {sys.executable}: Too many open files"
    assert link.hear(UpgradeFailed).cause == cause
    resource.prlimit(rig.pid, resource.RLIMIT_NOFILE, limits)
    status = Path(f"/proc/{rig.pid}/status").read_text()
    assert "SigBlk:\t0000000000000000" in status
    os.kill(pid, signal.SIGKILL)
    assert link.exited(WEB).exit == Exit(signal="KILL")


def test_a_process_that_is_starting_is_waited_for(rig: Rig, link: Link) -> None:
    launch = Launch(("sleep", "1000"), nice=OWN_NICE)
    link.send(
        *(Spawn(ProcessId("web", slot), launch) for slot in range(1, 6)), Upgrade(sys.executable)
    )
    while link.take():
        pass
    link.let_go()
    link = rig.link()
    assert len(link.records) == 5
    assert all(isinstance(record.phase, Running) for record in link.records.values())


def test_what_is_handed_over_is_read_as_it_was_written() -> None:
    outputs = {"web": Outgoing(7, b"\xff\x00 begun", b"tail", skips=True)}
    messages = {"journal": (b"MESSAGE\n\xff",)}
    handover = Handover((1, 2), 4, None, (5, 6), {7: 8}, {2**63: 9}, outputs, b"x\n", messages)
    memory = os.memfd_create("handover")
    os.write(memory, written({"incarnations": 3, HANDOVER: handover}))
    found, recalled = take(memory)
    assert found == handover
    assert recalled.entries["incarnations"] == 3
    assert (recalled.is_whole, recalled.is_own) == (True, True)


def test_what_a_former_version_does_not_know_has_a_default() -> None:
    """Only what every version has handed over may be required."""
    required = [each.name for each in msgspec.structs.fields(Handover) if each.required]
    assert required == ["files", "control"]
