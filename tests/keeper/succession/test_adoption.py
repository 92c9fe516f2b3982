"""Claims about a keeper that comes after one that was killed, beyond those of the contract."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reconciler.keeper.keeper import Keeper
from reconciler.keeper.succession.adoption import TERM_NS
from reconciler.model.action import Adjust, Bind, Signal, Spawn
from reconciler.model.address import InternetAddress, UnixAddress
from reconciler.model.observation import KeeperIntroduced, RecordChanged
from reconciler.model.process import (
    Exit,
    Exited,
    FileSink,
    Launch,
    LaunchError,
    ProcessId,
    Running,
    Settings,
    pid_of,
)
from reconciler.model.socket import Bound, SocketTemplate
from reconciler.system import procfs
from reconciler.system.pidfds import Pidfds
from reconciler.wire.link import LinkDecoder, encode
from tests.contract.fake_kernel import INIT, FakeKernel, Program
from tests.contract.worlds import PROGRAMS, Fake
from tests.keeper.rig import Link, Rig, command, is_alive, keeper, pid_in, until

WEB = ProcessId("web", 1)
DB = ProcessId("db", 1)
COUNTS = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.001; done"


# ---- output --------------------------------------------------------------------------------------


def test_no_line_is_lost_while_no_keeper_lives(rig: Rig, link: Link) -> None:
    log, other = rig.folder / "out", rig.folder / "err"
    link.spawn(
        WEB,
        "sh",
        "-c",
        f"exec 2>&1; {COUNTS}",
        stdout=FileSink(str(log)),
        stderr=FileSink(str(rig.folder / "unused")),
    )
    until(lambda: log.exists() and log.read_text().count("\n") > 20)
    sink = FileSink(str(other))
    link.send(Adjust(WEB, 1, Settings(stdout=sink, stderr=sink)))
    until(lambda: other.exists() and other.stat().st_size)
    for _ in range(3):
        rig.kill()
        link = rig.again()
    size = other.stat().st_size
    until(lambda: other.stat().st_size > size + 100)
    link.signal(WEB, "KILL")
    link.exited(WEB)
    numbers = [int(line) for line in (log.read_text() + other.read_text()).split()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_fifo_that_is_gone_is_no_reason_to_fail(rig: Rig, link: Link) -> None:
    link.spawn(WEB, "sleep", "1000", stdout=FileSink(str(rig.folder / "out")))
    before = link.running(WEB)
    rig.kill()
    shutil.rmtree(rig.folder / "state/output")
    link = rig.again()
    assert link.running(WEB) == before
    link.signal(WEB, "KILL")
    assert link.exited(WEB).exit == Exit(signal="KILL")


# ---- who is who ----------------------------------------------------------------------------------


def test_a_pid_that_was_given_anew_is_neither_adopted_nor_signalled() -> None:
    with subprocess.Popen(["sleep", "1000"]) as innocent:
        pidfds = Pidfds({})
        assert not pidfds.add(innocent.pid, procfs.born(innocent.pid) + 1)
        assert innocent.pid not in pidfds
        innocent.kill()


@pytest.mark.parametrize("code", [173, 0])
def test_the_exit_code_of_an_adopted_process_is_told_or_unknown(
    rig: Rig, link: Link, code: int
) -> None:
    link.spawn(WEB, "sh", "-c", f"trap 'exit {code}' USR1; echo >&2; while :; do sleep 0.01; done")
    link.running(WEB)
    rig.kill()
    link = rig.again()
    until(lambda: b"SigCgt" in Path(f"/proc/{pid_in(link, WEB)}/status").read_bytes())
    link.signal(WEB, "USR1")
    release = tuple(map(int, os.uname().release.split(".")[:2]))
    known = {Exit(code=code)} if release >= (6, 15) else {Exit(code=code), Exit()}
    assert link.exited(WEB).exit in known


def test_two_instances_of_one_name_never_touch_each_other(rig: Rig, link: Link) -> None:
    link.spawn(WEB, "sleep", "1000")
    pid = link.running(WEB).pid
    rig.kill()
    # A copy of the folder, too, is another folder.
    other = rig.folder / "other"
    other.mkdir()
    shutil.copytree(rig.folder / "state", other / "state", ignore=shutil.ignore_patterns("output"))
    with keeper(other) as beside:
        assert beside.link().records == {}
        assert is_alive(pid)
    assert rig.again().running(WEB).pid == pid


def test_a_second_keeper_is_refused_before_it_touches_anything(rig: Rig, link: Link) -> None:
    link.spawn(WEB, "sleep", "1000")
    pid = link.running(WEB).pid
    journal = (rig.folder / "state/keeper.journal").stat().st_ino
    second = subprocess.run(
        command(rig.folder), stderr=subprocess.PIPE, text=True, check=False, timeout=20
    )
    assert second.returncode == 1
    assert f"already running, started by {_me()}, pid {rig.pid}" in second.stderr
    assert is_alive(pid)
    assert (rig.folder / "state/keeper.journal").stat().st_ino == journal


def _me() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


@pytest.mark.parametrize("late_ns", [0, 3600 * 10**9])
def test_a_hung_controller_of_the_former_keeper_is_ended_first(late_ns: int) -> None:
    """Also when the keeper looks late: the machine may have stood still meanwhile."""
    kernel = FakeKernel(controller=Program(ignores=frozenset({"TERM"})))
    introduced = KeeperIntroduced("keeper", "boot", 1, 0, "session")
    Keeper(kernel, introduced).step()
    former = kernel.controller_pid
    assert former is not None
    kernel.end_keeper(controller_hangs=True)
    second = Keeper(kernel, introduced)
    due = second.step()
    assert due == TERM_NS
    assert kernel.controller_pid is None
    kernel.advance(due + late_ns)
    while kernel.controller_pid is None:
        second.step()
    assert [signal for _, pid, signal in kernel.signals if pid == former] == ["TERM", "KILL"]


def test_what_was_never_written_down_is_ended_by_the_keeper_after_next_too() -> None:
    kernel = FakeKernel(script=lambda *_: Program(ignores=frozenset({"TERM"})), disk_is_full=True)
    introduced = KeeperIntroduced("keeper", "boot", 1, 0, "session")
    first = Keeper(kernel, introduced)
    first.step()
    kernel.feed(encode(Spawn(WEB, Launch(("x",)))))
    first.step()
    assert [process.id for process in kernel.alive()] == [WEB]
    kernel.end_keeper()
    kernel.disk_is_full = False
    Keeper(kernel, introduced)
    kernel.end_keeper()
    third = Keeper(kernel, introduced)
    kernel.advance(TERM_NS)
    while kernel.controller_pid is None:
        third.step()
    assert kernel.alive() == []


def test_an_end_that_was_written_down_is_not_taken_for_that_of_a_later_start() -> None:
    programs = iter((Program(error=LaunchError("exec", "ENOENT", "/gone")), Program()))
    kernel = FakeKernel(script=lambda *_: next(programs))
    introduced = KeeperIntroduced("keeper", "boot", 1, 0, "session")
    first = Keeper(kernel, introduced)
    first.step()
    kernel.feed(encode(Spawn(WEB, Launch(("x",)))))
    first.step()
    kernel.disk_is_full = True
    kernel.feed(encode(Spawn(WEB, Launch(("x",)), replaces=1)))
    first.step()
    assert [process.incarnation for process in kernel.alive()] == [2]
    kernel.end_keeper()
    second = Keeper(kernel, introduced)
    phase = second.processes.by_id[WEB].record.phase
    assert isinstance(phase, Exited)
    assert phase.exit == Exit()  # not the failed start: a job would be fired again


def test_an_end_that_waits_for_its_last_output_is_known_to_the_next_keeper() -> None:
    kernel = FakeKernel(script=lambda *_: Program(1, code=3, drains_ns=10**9))
    introduced = KeeperIntroduced("keeper", "boot", 1, 0, "session")
    first = Keeper(kernel, introduced)
    first.step()
    kernel.feed(encode(Spawn(WEB, Launch(("x",)))))
    first.step()
    kernel.advance(1)
    first.step()
    assert not isinstance(first.processes.by_id[WEB].record.phase, Exited)
    kernel.end_keeper()
    kernel.advance(500)
    second = Keeper(kernel, introduced)
    second.step()
    phase = second.processes.by_id[WEB].record.phase
    assert isinstance(phase, Exited)
    assert (phase.exit, phase.at_ns) == (Exit(code=3), 1)


def test_a_controller_with_the_number_of_an_adopted_process_is_not_taken_for_it() -> None:
    class Kernel(FakeKernel):
        victim = 0

        def start_controller(self, *, quick_deaths: int) -> int:
            if self.victim:
                self._start(ProcessId("other", 1), 0, Program(), INIT)  # has the only lower number
                self.end(self.victim, Exit(code=3))
            return super().start_controller(quick_deaths=quick_deaths)

    kernel = Kernel()
    introduced = KeeperIntroduced("keeper", "boot", 1, 0, "session")
    first = Keeper(kernel, introduced)
    first.step()
    kernel.feed(encode(Spawn(WEB, Launch(("x",)))))
    first.step()
    (web,) = kernel.alive()
    kernel.end_keeper()
    kernel.victim = web.pid
    second = Keeper(kernel, introduced)
    second.step()
    controller = kernel.processes[web.pid]
    assert kernel.controller_pid == web.pid
    second.step()
    assert kernel.processes[web.pid] is controller
    observations = LinkDecoder().observations(kernel.hear())
    (told,) = [e.record.phase for e in observations if isinstance(e, RecordChanged)][-1:]
    assert isinstance(told, Exited)
    assert told.exit == Exit(code=3)


def test_a_controller_with_the_number_of_an_adopted_orphan_is_not_taken_for_dead_with_it() -> None:
    class Kernel(FakeKernel):
        victim = 0

        def start_controller(self, *, quick_deaths: int) -> int:
            if self.victim:
                for slot in (1, 2):  # these have the lower numbers
                    self._start(ProcessId("other", slot), 0, Program(), INIT)
                self.end(self.victim, Exit(signal="KILL"))
            return super().start_controller(quick_deaths=quick_deaths)

    leaves = Program(1, children=(Program(escapes=True),))
    kernel = Kernel(script=lambda *_: leaves)
    introduced = KeeperIntroduced("keeper", "boot", 1, 0, "session")
    first = Keeper(kernel, introduced)
    first.step()
    kernel.feed(encode(Spawn(WEB, Launch(("x",)))))
    first.step()
    kernel.advance(1)
    first.step()
    (orphan,) = kernel.alive()
    kernel.end_keeper()
    kernel.victim = orphan.pid
    second = Keeper(kernel, introduced)
    second.step()
    controller = kernel.processes[orphan.pid]
    assert kernel.controller_pid == orphan.pid
    second.step()
    assert kernel.processes[orphan.pid] is controller
    assert kernel.link == "open"
    observations = LinkDecoder().observations(kernel.hear())
    (told,) = [e.record.phase for e in observations if isinstance(e, RecordChanged)][-1:]
    assert isinstance(told, Exited)
    assert not told.survivors


@pytest.mark.parametrize("end", ["web.1/²", "web.1/" + "9" * 5000, f"web.{'9' * 5000}/1"])
def test_a_marker_that_a_program_made_up_ends_no_keeper(end: str) -> None:
    kernel = FakeKernel(script=lambda *_: Program(children=(Program(escapes=True),)))
    introduced = KeeperIntroduced("keeper", "boot", 1, 0, "session")
    first = Keeper(kernel, introduced)
    first.step()
    kernel.feed(encode(Spawn(WEB, Launch(("x",)))))
    first.step()
    (child,) = (each for each in kernel.alive() if not each.leads)
    child.marker = f"{kernel.name}/{end}"
    kernel.end_keeper()
    second = Keeper(kernel, introduced)
    second.step()
    assert isinstance(second.processes.by_id[WEB].record.phase, Running)


@pytest.mark.parametrize("marker", ["a" + ":" * 100_000, "a/" + "9" * 5000, f"a.{'9' * 5000}/1"])
def test_a_marker_that_a_program_made_up_makes_nobody_wait(marker: str) -> None:
    kernel = FakeKernel(script=lambda *_: Program(1, children=(Program(escapes=True),)))
    first = Keeper(kernel, KeeperIntroduced("keeper", "boot", 1, 0, "session"))
    first.step()
    kernel.feed(encode(Spawn(WEB, Launch(("x",)))))
    first.step()
    (child,) = (each for each in kernel.alive() if not each.leads)
    child.marker = marker
    kernel.advance(1)
    began = time.process_time()
    first.step()
    assert time.process_time() - began < 2
    assert isinstance(first.processes.by_id[WEB].record.phase, Exited)
    assert not kernel.caught


# ---- the journal ---------------------------------------------------------------------------------


def test_strangers_as_former_versions_wrote_them_cost_no_other_entry() -> None:
    kernel = FakeKernel()
    kernel.journal["strangers"] = [{"pid": 4711, "stranger": {"name": "x", "born": 1, "group": 1}}]
    Keeper(kernel, KeeperIntroduced("keeper", "boot", 1, 0, "session")).step()
    assert not kernel.caught


def test_the_journal_tells_no_secret_and_only_us(rig: Rig, link: Link) -> None:
    link.spawn(WEB, "sh", "-c", "sleep 1000; : hush", env={"PASSWORD": "hush"})
    link.running(WEB)
    journal = rig.folder / "state/keeper.journal"
    until(lambda: b'"pid"' in journal.read_bytes())
    assert b"hush" not in journal.read_bytes()
    assert journal.stat().st_mode & 0o777 == 0o600


def test_a_damaged_journal_is_kept_aside_and_nothing_runs_twice(rig: Rig, link: Link) -> None:
    link.spawn(WEB, "sleep", "1000")
    link.spawn(DB, "sleep", "1000")
    pids = {link.running(WEB).pid, link.running(DB).pid}
    rig.kill()
    journal = rig.folder / "state/keeper.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    text = b"".join(line.replace(b"web", b"wab") for line in lines)
    journal.write_bytes(text)
    link = rig.again()
    assert set(link.records) == {DB}
    assert {pid for pid in pids if is_alive(pid)} == {pid_in(link, DB)}
    assert (rig.folder / "state/keeper.journal.damaged").read_bytes() == text


def test_a_journal_of_a_newer_version_is_left_alone(rig: Rig, link: Link) -> None:
    link.spawn(WEB, "sleep", "1000")
    pid = link.running(WEB).pid
    rig.kill()
    journal = rig.folder / "state/keeper.journal"
    before = journal.read_bytes()
    import zlib

    head = json.dumps(["journal", {"format": 99}]).encode()
    journal.write_bytes(before + b"%08x %b\n" % (zlib.crc32(head), head))
    text = journal.read_bytes()
    refused = subprocess.run(
        command(rig.folder), stderr=subprocess.PIPE, text=True, check=False, timeout=20
    )
    assert refused.returncode == 1
    assert "was written in format 99, this version reads up to 1" in refused.stderr
    assert journal.read_bytes() == text
    assert is_alive(pid)
    journal.write_bytes(before)
    assert rig.again().running(WEB).pid == pid


# ---- sockets -------------------------------------------------------------------------------------

ACCEPTS = (
    "import os, socket; s = socket.socket(fileno=3)\n"
    "while True: c = s.accept()[0]; c.sendall(b'%d' % os.getpid()); c.close()"
)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_clients_wait_for_the_socket_while_the_keeper_is_gone(
    rig: Rig, link: Link, kind: str
) -> None:
    path = str(rig.folder / "web.sock")
    address = UnixAddress(path) if kind == "unix" else InternetAddress("127.0.0.1", 0)
    link.send(Bind("http", SocketTemplate(address)))
    link.send(Spawn(WEB, Launch((sys.executable, "-c", ACCEPTS), sockets=("http",))))
    pid = link.running(WEB).pid
    phase = link.wait(lambda: link.sockets.get("http")).phase
    assert isinstance(phase, Bound)

    def client() -> socket.socket:
        if kind == "unix":
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(path)
            return sock
        return socket.create_connection(("127.0.0.1", int(phase.listen.rpartition(":")[2])))

    os.kill(pid, signal.SIGSTOP)
    rig.kill()
    waiting = client()
    link = rig.again()
    assert link.sockets["http"].phase == phase
    os.kill(pid, signal.SIGCONT)
    assert waiting.makefile("rb").read() == str(pid).encode()
    # The next process gets the same socket.
    link.spawn(DB, sys.executable, "-c", ACCEPTS, sockets=("http",))
    other = link.running(DB).pid
    link.signal(WEB, "KILL")
    link.exited(WEB)
    assert client().makefile("rb").read() == str(other).encode()


def test_users_of_a_socket_that_cannot_be_had_are_stopped_before_anything_is_bound() -> None:
    kernel = FakeKernel(keeps_sockets=True)
    introduced = KeeperIntroduced("keeper", "boot", 1, 0, "session")
    template = SocketTemplate(InternetAddress("127.0.0.1", 80))
    first = Keeper(kernel, introduced)
    first.step()
    launch = Launch(("web",), sockets=("http",))
    actions = (Bind("http", template), Spawn(WEB, launch), Spawn(DB, Launch(("db",))))
    kernel.feed(b"".join(map(encode, actions)))
    first.step()
    (web,), (db,) = kernel.alive(WEB), kernel.alive(DB)
    kernel.end_keeper()
    assert kernel.bound["127.0.0.1:80", "stream"] != []
    second = Keeper(kernel, introduced)
    second.step()
    assert kernel.signals == [(0, web.pid, "TERM")]
    assert kernel.controller_pid is not None
    assert kernel.bound["127.0.0.1:80", "stream"] == []
    assert second.processes.by_id[WEB].record.phase.exit == Exit(signal="TERM")  # type: ignore[union-attr]
    assert pid_of(second.processes.by_id[DB].record.phase) == db.pid


# ---- numbers that are given anew -------------------------------------------------------------------


@pytest.mark.parametrize("adopted", [False, True])
@pytest.mark.parametrize("ends", ["exits with 3", "leaves a child"])
def test_the_number_of_a_process_that_died_long_ago_means_nobody(
    ends: str, *, adopted: bool
) -> None:
    world, other = Fake(), ProcessId("other", 1)
    world.send(spawn(other, "exits with 3"), spawn(WEB, ends))
    old, dead = (world.wait(lambda id=id: exited(world, id)) for id in (other, WEB))  # type: ignore[misc]
    if dead.survivors:
        world.send(Signal(WEB, world.records[WEB].incarnation, "KILL", "tree"))
        world.wait(lambda: not exited(world, WEB).survivors)
        dead = exited(world, WEB)
    if adopted:
        world.lose_keeper()
        world.next_keeper()
    world.send(spawn(DB, "starts what takes its number"))
    parent = world.wait(lambda: pid_of(world.records[DB].phase) if DB in world.records else None)
    stranger = next(each.pid for each in world.kernel.alive() if each.pid != parent)
    assert (parent, stranger) == (old.pid, dead.pid)
    world.send(Signal(DB, world.records[DB].incarnation, "KILL"))
    (survivor,) = world.wait(lambda: exited(world, DB)).survivors
    assert survivor.pid == stranger
    assert exited(world, WEB) == dead
    assert (stranger, "KILL") not in [(pid, what) for _, pid, what in world.kernel.signals]


def spawn(id: ProcessId, what: str) -> Spawn:
    return Spawn(id, Launch(PROGRAMS[what].argv))


def exited(world: Fake, id: ProcessId) -> Exited:
    phase = world.records[id].phase if id in world.records else None
    return phase if isinstance(phase, Exited) else None  # type: ignore[return-value]  # waits for it
