"""A real keeper from its start to its end, and what it does about controllers that fail."""

from __future__ import annotations

import os
import resource
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.model.action import Forget, Quit, Signal
from reconciler.model.observation import FaultCaught
from reconciler.model.process import CaptureSink, Exit, FileSink, ProcessId
from tests.keeper import rig as rig_module
from tests.keeper.rig import OWN_NICE, Link, Rig, command, is_alive, keeper, pid_in, until

WEB = ProcessId("web", 1)


def wake_ups(pid: int) -> int:
    """Return how often a process has gone to sleep by itself."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("voluntary_ctxt_switches:")[2].split()[0])


# ---- the start -----------------------------------------------------------------------------------


def test_a_second_keeper_is_refused_before_it_starts_anything(rig: Rig, link: Link) -> None:
    second = subprocess.run(
        command(rig.folder), capture_output=True, text=True, timeout=30, check=False
    )
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    assert second.returncode == 1
    assert (
        second.stderr == f"cannot start test: already running, started by {user}, pid {rig.pid}\n"
    )
    link.spawn(WEB, "true")
    assert link.exited(WEB).exit == Exit(code=0)


def test_one_state_folder_has_one_keeper(rig: Rig, link: Link) -> None:
    other = command(rig.folder, runtime_dir=str(rig.folder / "other"))
    second = subprocess.run(other, capture_output=True, text=True, timeout=30, check=False)
    assert (second.returncode, "already running" in second.stderr) == (1, True)


def test_a_path_that_is_too_long_for_a_socket_is_said_so(tmp_path: Path) -> None:
    long = str(tmp_path / ("x" * 100))
    ended = subprocess.run(
        command(tmp_path, runtime_dir=long), capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 1
    assert "the path of a socket holds at most 107 bytes" in ended.stderr
    assert not os.path.exists(long)


def test_nonsense_instead_of_a_configuration_is_refused() -> None:
    argv = command(Path("/"))[:-1]
    ended = subprocess.run([*argv, "{}"], capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("cannot read the configuration of the keeper: ")


@pytest.mark.parametrize(("mode", "folder_mode"), [(0o600, 0o700), (0o666, 0o711)])
def test_the_control_socket_is_as_open_as_it_shall_be(
    tmp_path: Path, mode: int, folder_mode: int
) -> None:
    with keeper(tmp_path, settings={"control_mode": mode}) as rig:
        link = rig.link()
        path = tmp_path / "run" / "control.sock"
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert stat.S_IMODE(path.parent.stat().st_mode) == folder_mode
        with (
            socket.socket(socket.AF_UNIX) as client,
            socket.socket(fileno=os.dup(link.control_fd)) as control,
        ):
            client.connect(str(path))
            control.accept()[0].close()


def test_what_a_killed_keeper_left_does_not_hinder_the_next(tmp_path: Path) -> None:
    with keeper(tmp_path) as rig:
        rig.link()
        rig.process.kill()
        rig.process.wait()
    (tmp_path / "test.sock").unlink()
    with keeper(tmp_path) as rig:
        assert rig.link().records == {}


def test_ready_is_told_once_clients_may_connect(tmp_path: Path) -> None:
    ready, ready_end = os.pipe()
    with keeper(tmp_path, settings={"ready_fd": ready_end}, pass_fds=(ready_end,)):
        os.close(ready_end)
        assert os.read(ready, 100) == b"ready\n"
        assert os.read(ready, 100) == b""
        assert (tmp_path / "run" / "control.sock").exists()
    os.close(ready)


def test_a_keeper_without_standard_descriptors_opens_them_first(tmp_path: Path) -> None:
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "test.sock"))
    listener.listen()
    process = subprocess.Popen([*shell, *command(tmp_path)])
    try:
        link = Rig(process, tmp_path, listener).link()
        pid = process.pid
        assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
        link.let_go()
    finally:
        process.send_signal(signal.SIGQUIT)
        assert process.wait(20) == 1
        listener.close()


def test_descriptors_of_whoever_started_it_reach_no_child(tmp_path: Path) -> None:
    leaked, other = os.pipe()
    with keeper(tmp_path, pass_fds=(leaked,)) as rig:
        link = rig.link()
        link.spawn(WEB, "sleep", "1000")
        link.running(WEB)
        folder = f"/proc/{pid_in(link, WEB)}/fd"
        # The loader of the program opens and closes libraries at first.
        until(lambda: sorted(os.listdir(folder)) == ["0", "1", "2"])
    os.close(leaked)
    os.close(other)


# ---- controllers ---------------------------------------------------------------------------------


def test_a_controller_that_speaks_nonsense_is_replaced(rig: Rig, link: Link) -> None:
    link.spawn(WEB, "sleep", "1000")
    pid = link.running(WEB).pid
    link.socket.sendall(b"\xff\xff\xff\xff")
    until(lambda: not is_alive(link.pid))
    assert pid_in(rig.link(), WEB) == pid


def test_a_controller_that_hangs_up_is_replaced(rig: Rig, link: Link) -> None:
    link.socket.shutdown(socket.SHUT_RDWR)
    until(lambda: not is_alive(link.pid))
    assert rig.link().pid != link.pid


def test_a_controller_is_told_how_many_before_it_have_died_quickly(rig: Rig, link: Link) -> None:
    asked = [link.arguments]
    for _ in range(5):
        link.kill(signal.SIGTERM)
        link = rig.link()
        asked.append(link.arguments)
    assert asked == [[f"--quick-deaths={deaths}"] for deaths in range(6)]


def test_a_controller_that_others_kill_is_not_distrusted_for_it(rig: Rig, link: Link) -> None:
    asked = []
    for _ in range(8):
        link.kill()
        link = rig.link()
        asked.append(link.arguments)
    assert asked[2:] == [["--quick-deaths=2"]] * 6, "and is told no more than that"


def test_a_slow_controller_is_told_the_last_state_only(rig: Rig, link: Link) -> None:
    for incarnation in range(1, 301):
        link.spawn(WEB, "/no/such/program", env={"FILL": "x" * 500})
        link.send(Signal(ProcessId("nobody", incarnation), 1, "TERM"))
    other = ProcessId("other", 1)
    link.spawn(other, "true")
    link.exited(other)
    told = [
        each
        for each in link.observations
        if getattr(getattr(each, "record", None), "id", None) == WEB
    ]
    assert told


# ---- processes that others left ------------------------------------------------------------------


def test_an_orphan_that_dropped_its_session_is_known_by_its_marker(link: Link) -> None:
    link.spawn(WEB, "sh", "-c", "setsid sh -c 'sleep 1000 & exec sleep 1000' & exit 0")
    assert link.exited(WEB).survivors
    link.signal(WEB, "KILL", "tree")
    assert link.wait(lambda: not link.exited(WEB).survivors)


def test_a_daemon_of_a_live_process_is_in_its_tree(link: Link, rig: Rig) -> None:
    text = (
        "import os, time\n"
        "if not os.fork():\n"
        "    os.setsid()\n"
        "    if os.fork(): os._exit(0)\n"
        "    print(os.getpid(), flush=True)\n"
        "time.sleep(1000)\n"
    )
    out = rig.folder / "out"
    link.spawn(WEB, sys.executable, "-c", text, stdout=CaptureSink(str(out)))
    link.running(WEB)
    daemon = int(until(lambda: out.read_text() if out.exists() else None))
    until(
        lambda: (
            Path(f"/proc/{daemon}/stat").read_text().rpartition(")")[2].split()[1] == str(rig.pid)
        )
    )
    link.signal(WEB, "TERM", "tree")
    link.exited(WEB)
    until(lambda: not is_alive(daemon))


def test_strangers_are_reaped(rig: Rig, link: Link) -> None:
    link.spawn(
        WEB, "sh", "-c", "env -i setsid sh -c 'exit 5' & env -i setsid sh -c 'exit 6' & exit 0"
    )
    link.exited(WEB)
    children = Path(f"/proc/{rig.pid}/task/{rig.pid}/children")
    until(lambda: children.read_text().split() == [str(link.pid)])


def test_a_program_that_closed_its_output_lives_on(link: Link) -> None:
    link.spawn(WEB, "sh", "-c", "exec sleep 1000 >&- 2>&-")
    pid = link.running(WEB).pid
    until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
    assert is_alive(pid)


@pytest.mark.parametrize("name", ["RTMIN+3", "RTMAX-1", "SEGV"])
def test_signals_go_and_come_by_name(link: Link, name: str) -> None:
    link.spawn(WEB, "sleep", "1000")
    link.running(WEB)
    link.signal(WEB, name)
    said = link.exited(WEB).exit.signal
    assert said == (name if name != "RTMAX-1" else f"RTMIN+{signal.SIGRTMAX - 1 - signal.SIGRTMIN}")


@pytest.mark.parametrize("name", ["NONSENSE", "RTMIN+99", "RTMAX--5"])
def test_an_unknown_signal_harms_nobody(link: Link, name: str) -> None:
    link.spawn(WEB, "sleep", "1000")
    pid = link.running(WEB).pid
    link.signal(WEB, name)
    other = ProcessId("other", 1)
    link.spawn(other, "true")
    link.exited(other)
    assert is_alive(pid)


# ---- rest and end --------------------------------------------------------------------------------


def test_an_idle_keeper_never_wakes(rig: Rig, link: Link) -> None:
    for slot in range(1, 21):
        link.spawn(ProcessId("web", slot), "sleep", "1000")
    for slot in range(1, 21):
        link.running(ProcessId("web", slot))
    until(lambda: Path(f"/proc/{rig.pid}/wchan").read_text() != "0")
    first = wake_ups(rig.pid)
    until(lambda: wake_ups(rig.pid) > first, "the look after a start")
    before = wake_ups(rig.pid)
    # Another process's second is the measure here, not a wait for something to happen.
    subprocess.run(["sleep", "1"], check=True)
    assert wake_ups(rig.pid) == before


@pytest.mark.parametrize(("hup", "said"), [("reload", ["reload"]), ("stop", ["stop"])])
def test_hup_means_what_it_was_said_to_mean(tmp_path: Path, hup: str, said: list[str]) -> None:
    with keeper(tmp_path, settings={"hup": hup}) as rig:
        link = rig.link()
        os.kill(rig.pid, signal.SIGHUP)
        link.wait(lambda: link.told() == said)


def test_a_stopped_controller_does_not_keep_the_keeper_from_stopping(rig: Rig, link: Link) -> None:
    link.spawn(WEB, "sleep", "1000")
    pid = link.running(WEB).pid
    os.kill(link.pid, signal.SIGSTOP)
    os.kill(rig.pid, signal.SIGTERM)
    assert rig.end() == 1
    assert not is_alive(pid)
    assert not is_alive(link.pid)


def test_quit_leaves_no_socket_and_a_keeper_that_ends_with_its_code(rig: Rig, link: Link) -> None:
    link.send(Quit(4))
    while link.take():
        pass
    assert not (rig.folder / "run" / "control.sock").exists()
    link.let_go()
    assert rig.end() == 4


def core_limit(pid: int) -> str:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line.split()[4] for line in lines if line.startswith("Max core file size"))


def test_no_core_dump_is_made_of_the_keeper_and_its_children_may_have_theirs(
    rig: Rig, link: Link
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    given = "unlimited" if soft == resource.RLIM_INFINITY else str(soft)
    forked = ProcessId("forked", 1)
    link.spawn(WEB, "sleep", "1000")
    link.spawn(forked, "sleep", "1000", nice=OWN_NICE)
    assert [core_limit(link.running(id).pid) for id in (WEB, forked)] == [given, given]
    assert core_limit(rig.pid) == ("0" if hard == 0 else "1")


FAILS_NOW_AND_THEN = """
import itertools, selectors
class Selector(selectors.EpollSelector):
    calls = itertools.count(1)
    def select(self, timeout=None):
        found = super().select(timeout)
        # A glance whether others wait is no wait, and is somebody else's.
        if timeout != 0 and next(self.calls) % 3 == 0: raise RuntimeError("what nobody expects")
        return found
selectors.EpollSelector = Selector
"""


def test_a_wait_that_fails_costs_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = f"exec({FAILS_NOW_AND_THEN!r}); {rig_module.KEEPER}"
    monkeypatch.setattr(rig_module, "KEEPER", program)
    with (tmp_path / "stderr").open("ab") as stderr, keeper(tmp_path, stderr=stderr) as rig:
        link = rig.link()
        for _ in range(5):
            link.spawn(WEB, "sh", "-c", "echo said", stdout=FileSink(str(tmp_path / "out")))
            record = link.wait(lambda: link.records.get(WEB))
            assert link.exited(WEB).exit == Exit(code=0)
            link.send(Forget(WEB, record.incarnation))
            link.wait(lambda: WEB not in link.records)
        fault = FaultCaught("waiting for what happens", "RuntimeError: what nobody expects")
        assert link.hear(FaultCaught) == fault
    assert (tmp_path / "out").read_text() == "said\n" * 5
    assert "in select" in (tmp_path / "stderr").read_text()
