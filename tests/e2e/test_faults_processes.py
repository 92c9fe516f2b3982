"""Faults of processes: the rows P of the table in docs/reliability.md, one test each, on one running instance.

Sleepers are told apart by how long they sleep, so that /proc can be asked who lives without asking the manager.
"""

from __future__ import annotations

import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from reconciler.system import oom
from tests.e2e.asking import Asking
from tests.e2e.stage import Stage, command_of, descendants, is_alive, stage, until

pytestmark = pytest.mark.e2e

PIDS_GROUPS = Path("/sys/fs/cgroup/pids")
MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")
ESCAPE = (
    "import os, signal, time\n"
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "    os.execvp('sleep', ['sleep', '2007'])\n"
    "time.sleep(1000)\n"
)
EATER = (
    "import os, time\n"
    "while not os.path.exists('eat'): time.sleep(0.02)\n"
    "os.remove('eat')\n"
    "b = b'x' * (96 << 20)\n"
    "time.sleep(1000)\n"
)
SPEC = f"""\
defaults:
  autostart: false
  shell: true
  backoff: {{initial: 100ms, max: 2s, jitter: 0%}}
  stop: {{timeout: 500ms}}

watchers:
  neighbour: {{cmd: exec sleep 2000, autostart: true}}
  deaf: {{cmd: "trap '' TERM; echo deaf; while :; do sleep 0.1; done"}}
  frozen: {{cmd: exec sleep 2002}}
  daemonizes: {{cmd: "setsid sleep 2003 & exit 0"}}
  leaves: {{cmd: "sleep 2004 & exit 3"}}
  family: {{cmd: "sleep 2005 & sleep 2005 & sleep 2005 & wait"}}
  orphans: {{cmd: "sleep 2006 & sleep 2006 & sleep 2006 & wait"}}
  escapes: {{cmd: ["{sys.executable}", -S, escape.py], shell: false}}
  deafchild: {{cmd: "(trap '' TERM; while :; do sleep 0.1; done) & echo $! > deafchild.pid; exec sleep 2008"}}
  twenty: {{cmd: exec sleep 2009, numprocesses: 20}}
  again: {{cmd: exec sleep 2010, backoff: {{burst: 10}}}}
  crashes: {{cmd: "echo x >> crashes; exit 1"}}
  mended: {{cmd: "test -e repaired && exec sleep 2012; exit 1"}}
  missing: {{cmd: /no/such/program, shell: false}}
  forbidden: {{cmd: ./forbidden, shell: false}}
  scripted: {{cmd: ./scripted, shell: false}}
  nowhere: {{cmd: touch ran-here, working_dir: ./gone}}
  nobodys: {{cmd: touch ran-as-root, user: no-such-user}}
  many: {{cmd: exec sleep 2018, numprocesses: 0}}
  more: {{cmd: exec sleep 2019, numprocesses: 2}}
  eater: {{cmd: ["{sys.executable}", -S, eater.py], shell: false}}
  loud: {{cmd: seq 100000, restart: never}}
  fine: {{cmd: "echo x >> fine", restart: never, autostart: true}}
  failing: {{cmd: "echo x >> failing; exit 41", restart: never, autostart: true}}
  flood: {{cmd: "echo some words; exit 1", backoff: {{burst: 1000}}}}
  plain: {{cmd: exec sleep 2025, autostart: true}}
"""


@pytest.fixture(scope="module")
def it() -> Iterator[Stage]:
    with stage(SPEC) as it:
        (it.specs / "escape.py").write_text(ESCAPE)
        (it.specs / "eater.py").write_text(EATER)
        (it.specs / "forbidden").write_text("#!/bin/sh\n")
        script = it.specs / "scripted"
        script.write_text("#!/no/such/interpreter\n")
        script.chmod(0o755)
        it.up(wait=False)
        until(it._answers, "the manager answers")
        yield it


@pytest.fixture(scope="module")
def ask(it: Stage) -> Asking:
    return Asking(it)


@pytest.fixture(autouse=True)
def _the_neighbour_is_not_touched(ask: Asking) -> Iterator[None]:
    before = ask.pid("neighbour")
    yield
    assert ask.pid("neighbour") == before


def sleepers(it: Stage, seconds: int) -> list[int]:
    """Return who sleeps so long below the keeper, as /proc tells it."""
    assert it.foreground is not None
    found = []
    for pid in descendants(it.foreground.pid):
        try:
            if command_of(pid) == ["sleep", str(seconds)] and is_alive(pid):
                found.append(pid)
        except OSError:
            continue
    return found


def lines(path: Path) -> int:
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def zombies(it: Stage) -> list[int]:
    assert it.foreground is not None
    below = descendants(it.foreground.pid)
    return [pid for pid in below if not is_alive(pid) and os.path.exists(f"/proc/{pid}")]


# ---- how processes end ---------------------------------------------------------------------------


def test_p01_a_process_that_ignores_term_is_killed_after_its_time(it: Stage, ask: Asking) -> None:
    ask.call("start", "deaf")
    pid = ask.pid("deaf")
    until(lambda: "deaf" in it.log("deaf"), "it is deaf by now")
    began = time.monotonic()
    ask.call("stop", "deaf", wait=True)
    assert time.monotonic() - began >= 0.5
    assert not is_alive(pid)
    (end,) = ask.events(lambda e: e["watcher"] == "deaf" and e["type"] == "process.exited")
    assert "had to be killed with SIGKILL after" in end["message"]


def test_p02_a_stopped_process_is_gone_in_time(ask: Asking) -> None:
    ask.call("start", "frozen")
    pid = ask.pid("frozen")
    os.kill(pid, signal.SIGSTOP)
    ask.call("stop", "frozen", wait=True)
    assert not is_alive(pid)


def test_p03_a_program_that_goes_into_the_background_never_runs_twice(
    it: Stage, ask: Asking
) -> None:
    ask.call("start", "daemonizes")
    most = 0

    def is_flagged() -> bool:
        nonlocal most
        most = max(most, len(sleepers(it, 2003)))
        return "does it go into the background?" in str(ask.watcher("daemonizes")["note"])

    until(is_flagged, "it is named")
    assert len(sleepers(it, 2003)) == 1
    ask.call("stop", "daemonizes", wait=True)
    assert most <= 1
    until(lambda: not sleepers(it, 2003), "nothing is left")


def test_p04_an_exit_is_seen_though_a_child_holds_the_output_and_the_child_goes(
    it: Stage, ask: Asking
) -> None:
    ask.call("start", "leaves")
    most = 0

    def often() -> bool:
        nonlocal most
        most = max(most, len(sleepers(it, 2004)))
        return bool(ask.watcher("leaves")["restarts"] >= 3)

    until(often, "three restarts")
    ask.call("stop", "leaves", wait=True)
    assert most <= 1
    until(lambda: not sleepers(it, 2004), "nothing is left")
    assert ask.events(lambda e: e["watcher"] == "leaves" and "exit 3" in e["message"])


def test_p05_children_in_the_group_end_with_their_parent(it: Stage, ask: Asking) -> None:
    ask.call("start", "family")
    until(lambda: len(sleepers(it, 2005)) == 3, "three children")
    ask.call("stop", "family", wait=True)
    until(lambda: not sleepers(it, 2005), "none is left", within_s=2)


def test_p06_orphans_of_a_killed_process_are_gone_before_the_next_one_has_its_own(
    it: Stage, ask: Asking
) -> None:
    ask.call("start", "orphans")
    first = until(lambda: len(found := sleepers(it, 2006)) == 3 and found, "three children")
    os.kill(ask.pid("orphans"), signal.SIGKILL)
    most = 0

    def replaced() -> bool:
        nonlocal most
        now = sleepers(it, 2006)
        most = max(most, len(now))
        return len(now) == 3 and not set(now) & set(first)

    until(replaced, "three others")
    assert most <= 3
    ask.call("stop", "orphans", wait=True)


def test_p07_a_child_in_a_session_of_its_own_ends_too(it: Stage, ask: Asking) -> None:
    ask.call("start", "escapes")
    (child,) = until(lambda: sleepers(it, 2007), "the child")
    assert os.getsid(child) == child
    ask.call("stop", "escapes", wait=True)
    until(lambda: not is_alive(child), "it is gone", within_s=2)


def test_p08_a_child_that_ignores_term_is_killed_though_its_parent_is_dead(
    it: Stage, ask: Asking
) -> None:
    ask.call("start", "deafchild")
    until(lambda: sleepers(it, 2008), "the parent")
    child = int((it.specs / "deafchild.pid").read_text())
    ask.call("stop", "deafchild", wait=True)
    until(lambda: not is_alive(child), "it is gone", within_s=2)


# ---- how they come back --------------------------------------------------------------------------


def test_p09_twenty_that_are_killed_at_once_are_back_and_no_zombie_stays(
    it: Stage, ask: Asking
) -> None:
    ask.call("start", "twenty")
    before = ask.running("twenty", 20)
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    until(
        lambda: len(now := ask.pids("twenty")) == 20 and not set(now.values()) & set(before.values()),
        "twenty others",
    )  # fmt: skip
    assert time.monotonic() - began < 3
    until(lambda: not zombies(it), "no zombie", within_s=2)
    ask.call("stop", "twenty", wait=True)


def test_p10_a_killed_process_is_replaced_at_once(it: Stage, ask: Asking) -> None:
    ask.call("start", "again")
    took = []
    for _ in range(5):
        (before,) = until(lambda: sleepers(it, 2010), "it runs")
        os.kill(before, signal.SIGKILL)
        began = time.monotonic()
        until(lambda: sleepers(it, 2010) not in ([], [before]), "another runs", every_s=0.005)  # noqa: B023
        took.append(time.monotonic() - began)
    assert statistics.median(took) < 0.5, took
    ask.call("stop", "again", wait=True)


def test_p11_a_crash_loop_slows_down_and_says_so(it: Stage, ask: Asking) -> None:
    starts = it.specs / "crashes"
    began = time.monotonic()
    ask.call("start", "crashes")
    until(lambda: lines(starts) >= 7, "seven starts", every_s=0.05)
    # Four at once, then after 100, 200 and 400 ms: in ten times this time it would not be many more.
    assert time.monotonic() - began >= 0.7
    shown = until(lambda: (s := ask.slot("crashes"))["state"] == "BackOff" and s, "it waits")
    assert "exit 1" in shown["note"]
    assert "times in a row" in shown["note"]
    assert shown["next_ns"] is not None
    assert not ask.watcher("crashes")["as_desired"]
    ask.call("stop", "crashes", wait=True)


def test_p12_a_crash_loop_ends_by_itself_when_its_cause_does(it: Stage, ask: Asking) -> None:
    ask.call("start", "mended")
    until(lambda: ask.watcher("mended")["restarts"] >= 5, "it crashes")
    (it.specs / "repaired").touch()
    until(lambda: sleepers(it, 2012), "it runs without anybody's help", within_s=15)
    until(lambda: ask.watcher("mended")["as_desired"], "and is as desired")
    ask.call("stop", "mended", wait=True)


# ---- what cannot be started ----------------------------------------------------------------------


def refused(ask: Asking, name: str) -> str:
    """Return what the status says of a process that cannot be started, and that it is told once in the events."""
    ask.call("start", name)
    note = until(lambda: ask.slot(name)["state"] == "BackOff" and ask.slot(name)["note"], name)
    assert ask.events(lambda e: e["watcher"] == name and e["type"] == "process.failed")
    assert not ask.pids(name)
    ask.call("stop", name, wait=True)
    return str(note)


def test_p13_a_program_that_does_not_exist_is_named(ask: Asking) -> None:
    assert "cannot execute /no/such/program: no such file or directory" in refused(ask, "missing")


def test_p14_a_program_that_may_not_be_executed_is_named(ask: Asking) -> None:
    note = refused(ask, "forbidden")
    assert "forbidden" in note
    assert "permission denied" in note or "not executable" in note


def test_p15_an_interpreter_that_does_not_exist_is_named(ask: Asking) -> None:
    assert "/no/such/interpreter" in refused(ask, "scripted")


def test_p16_without_its_folder_a_process_runs_nowhere_else(it: Stage, ask: Asking) -> None:
    note = refused(ask, "nowhere")
    assert "chdir" in note
    assert "no such file or directory" in note
    assert not list(it.folder.glob("**/ran-here"))


def test_p17_without_its_user_a_process_runs_as_nobody_else(it: Stage, ask: Asking) -> None:
    assert "unknown user 'no-such-user'" in refused(ask, "nobodys")
    assert not list(it.folder.glob("**/ran-as-root"))


# ---- shortages -----------------------------------------------------------------------------------


@contextmanager
def no_more_processes(pids: list[int]) -> Iterator[None]:
    """Let these processes have no further child: root by a control group, others by their limit."""
    if os.geteuid() != 0:
        limits = [resource.prlimit(pid, resource.RLIMIT_NPROC) for pid in pids]
        for pid, (_, hard) in zip(pids, limits, strict=True):
            resource.prlimit(pid, resource.RLIMIT_NPROC, (1, hard))
        try:
            yield
        finally:
            for pid, limit in zip(pids, limits, strict=True):
                resource.prlimit(pid, resource.RLIMIT_NPROC, limit)
        return
    with control_group(PIDS_GROUPS, "pids.max") as group:
        for pid in pids:
            (group / "cgroup.procs").write_text(str(pid))
        # There are more already: a thread that ends makes no room.
        (group / "pids.max").write_text("1")
        try:
            yield
        finally:
            (group / "pids.max").write_text("max")


def _emptied(group: Path) -> bool:
    """Move all that is in a group to the one above; True when there is nothing left."""
    for pid in (group / "cgroup.procs").read_text().split():
        with suppress(OSError):
            (group.parent / "cgroup.procs").write_text(pid)
    return not (group / "cgroup.procs").read_text()


@contextmanager
def control_group(parent: Path, knob: str) -> Iterator[Path]:
    """A control group of version 1; what is in it at the end goes back to where all are."""
    group = parent / f"reconcile-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / knob).read_text()
    except OSError as error:
        pytest.skip(f"no control group of version 1 can be made in {parent}: {error}")
    try:
        yield group
    finally:
        until(lambda: _emptied(group), "the group is empty")
        group.rmdir()


def test_p18_without_processes_nothing_starts_and_all_does_when_there_are_some(
    it: Stage, ask: Asking
) -> None:
    status = ask.status()
    keeper, controller = status["keeper_pid"], status["controller_pid"]
    with no_more_processes([keeper, controller]):
        ask.client.call("scale", scale={"many": 8})
        ask.call("start", "many")
        slot = until(
            lambda: ask.slot("many")["state"] == "BackOff" and ask.slot("many"), "it waits"
        )
        assert slot["note"].startswith("cannot make a process: no free process")
        # Saved now, and read when there is room for somebody to read it.
        it.edit("exec sleep 2025, autostart: true", "exec sleep 2026, autostart: true")
        until(lambda: "cannot start the reader" in ask.status()["spec_message"], "it says so")
        assert not ask.pids("many")
    ask.running("many", 8, within_s=20)
    until(lambda: sleepers(it, 2026), "the edit is applied")
    assert ask.status()["controller_pid"] == controller
    told = ask.events(lambda e: e["watcher"] == "many" and e["type"] == "process.failed")
    assert sorted(each["slot"] for each in told) == list(range(1, 9))
    ask.call("stop", "many", wait=True)


def test_p19_without_descriptors_nothing_starts_and_all_does_when_there_are_some(
    ask: Asking,
) -> None:
    ask.call("start", "more")
    before = ask.running("more", 2)
    keeper = ask.status()["keeper_pid"]
    limits = resource.prlimit(keeper, resource.RLIMIT_NOFILE)
    lowest = len(os.listdir(f"/proc/{keeper}/fd")) + 3
    resource.prlimit(keeper, resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        ask.client.call("scale", scale={"more": 8})
        slot = until(lambda: ask.slot("more", 8)["state"] == "BackOff" and ask.slot("more", 8), "8")
        assert f"no free descriptor (the manager's limit is {lowest})" in slot["note"]
        assert len(ask.pids("more")) < 8
    finally:
        resource.prlimit(keeper, resource.RLIMIT_NOFILE, limits)
    now = ask.running("more", 8, within_s=20)
    assert {slot: now[slot] for slot in before} == before
    ask.call("stop", "more", wait=True)


def test_p20_a_process_that_the_kernel_kills_for_its_memory_is_replaced_and_the_cause_told(
    it: Stage, ask: Asking
) -> None:
    if os.geteuid() != 0:
        pytest.skip("a control group of memory takes root; try: sudo make test")
    ask.call("start", "eater")
    pid = ask.pid("eater")
    with control_group(MEMORY_GROUPS, "memory.limit_in_bytes") as group:
        (group / "memory.limit_in_bytes").write_text(str(32 << 20))
        (group / "memory.swappiness").write_text("0")
        (group / "cgroup.procs").write_text(str(pid))
        (it.specs / "eat").touch()
        until(lambda: ask.pids("eater").get(1) not in {None, pid}, "another runs")
    (end,) = ask.events(lambda e: e["watcher"] == "eater" and e["type"] == "process.exited")
    told = " (out of memory)" if may_read_the_log_of_the_kernel() else ""
    assert f"killed by SIGKILL{told} after" in end["message"]
    ask.call("stop", "eater", wait=True)


def may_read_the_log_of_the_kernel() -> bool:
    """Tell whether somebody is told there which process was killed, by a pid that means the same here."""
    try:
        os.close(os.open("/dev/kmsg", os.O_RDONLY))
    except OSError:
        return False
    return os.readlink("/proc/self/ns/pid") == oom._FIRST_PIDS


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of that size; only root may mount one."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("cannot mount a small file system here; try: sudo make test")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Write until there is no room, and return the file that took it."""
    ballast = folder / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"b" * 4096)
    return ballast


def test_p21_a_full_disk_stops_no_process_and_its_log_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    disk = tmp_path / "disk"
    writer = "while read -r n word; do seq -f %0199.0f $n; echo $word; echo wrote $word >&2; done"
    spec = f"""\
watchers:
  writer:
    cmd: "{writer} < orders"
    shell: true
    logs: {{stdout: {{file: {disk}/writer.log}}, stderr: {{file: {tmp_path}/done.log}}}}
"""
    with small_disk(disk, "256k"), stage(spec) as it:
        os.mkfifo(it.specs / "orders")
        it.up()
        ask, log, done = Asking(it), disk / "writer.log", tmp_path / "done.log"
        pid = ask.pid("writer")

        def write(count: int, word: str) -> None:
            print(count, word, file=orders, flush=True)
            until(lambda: f"wrote {word}" in done.read_text(), f"{word} was written")

        with (it.specs / "orders").open("w") as orders:
            write(10_000, "one")
            write(10_000, "two")
            note = until(lambda: ask.slot("writer")["note"], "the status says why")
            assert note == f"cannot write {log}: no space left on device"
            os.truncate(log, 0)
            until(lambda: write(1, "again") or "again" in log.read_text(), "it goes on")
            until(lambda: write(1, "more") or not ask.slot("writer")["note"], "all is well")
            assert ask.pid("writer") == pid
        told = [each["type"] for each in ask.events(lambda e: e["type"].startswith("log."))]
        assert told == ["log.failed", "log.recovered"]


def test_x05_a_full_state_folder_keeps_services_alive_and_jobs_waiting() -> None:
    spec = """\
watchers:
  service: {cmd: "echo again; exec sleep 2101", shell: true, backoff: {burst: 100}}
  job: {cmd: "echo x >> fired", shell: true, restart: never}
"""
    with stage(spec) as it, small_disk(it.state_dir, "2m") as disk:
        try:
            it.up()
            ask, fired = Asking(it), it.specs / "fired"
            until(lambda: lines(fired) == 1, "the job is fired")
            ballast = fill(disk)

            def outlives_a_crash_and_tells() -> bool:
                pid = ask.pid("service")
                os.kill(pid, signal.SIGKILL)
                until(lambda: ask.pids("service").get(1) not in {None, pid}, "respawned")
                return "full" in ask.status()["store_message"]

            # What the log of the state has taken on the disk is still its: a few events fit there.
            until(outlives_a_crash_and_tells, "it says so")
            answer = ask.call("rerun", "job")
            assert answer["results"]
            assert outlives_a_crash_and_tells()
            assert lines(fired) == 1
            ballast.unlink()
            until(lambda: lines(fired) == 2, "the job is fired when that can be written down")
            until(lambda: not ask.status()["store_message"], "all is well")
        finally:
            it.clear()


# ---- output, jobs, and what nobody sees -----------------------------------------------------------


def test_p22_every_line_of_a_fast_job_is_there_when_its_end_is_told(it: Stage, ask: Asking) -> None:
    ask.call("start", "loud")
    for run in (1, 2, 3):
        if run > 1:
            ask.call("rerun", "loud")
        until(
            lambda: (
                ask.slot("loud")["fired"]["generation"] == run  # noqa: B023
                and ask.slot("loud")["state"] == "Completed"
            ),
            f"run {run}",
        )
        assert it.log("loud").count("\n") == run * 100_000
    assert it.log("loud") == "".join(f"{n}\n" for n in range(1, 100_001)) * 3


def test_p23_a_job_runs_once_and_its_exit_code_is_shown(it: Stage, ask: Asking) -> None:
    until(lambda: ask.slot("failing")["state"] == "Failed", "it has failed")
    until(lambda: ask.slot("fine")["state"] == "Completed", "the other has not")
    it.write(it.spec.read_text() + "# read again\n")
    it.run("apply", code=None)
    assert ask.slot("failing")["exit"]["code"] == 41
    assert ask.events(lambda e: e["watcher"] == "failing" and "exit 41" in e["message"])
    assert (lines(it.specs / "fine"), lines(it.specs / "failing")) == (1, 1)


def test_p24_hundreds_of_crashes_leave_no_descriptor_no_memory_and_no_zombie(
    it: Stage, ask: Asking
) -> None:
    keeper = ask.status()["keeper_pid"]

    def held() -> tuple[int, int]:
        status = Path(f"/proc/{keeper}/status").read_text()
        rss = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return len(os.listdir(f"/proc/{keeper}/fd")), int(rss.split()[1]) * 1024

    def crash(times: int) -> None:
        before = ask.watcher("flood")["restarts"]
        ask.call("start", "flood")
        until(lambda: ask.watcher("flood")["restarts"] >= before + times, f"{times} crashes")
        ask.call("stop", "flood", wait=True)

    crash(20)
    descriptors, rss = held()
    crash(200)
    until(lambda: held()[0] <= descriptors, "its descriptors are given back", within_s=5)
    assert held()[1] - rss < 3 * 2**20
    assert not zombies(it)


def test_p25_a_process_inherits_nothing_of_the_manager(it: Stage, ask: Asking) -> None:
    pid = ask.pid("plain")
    (sleeper,) = until(lambda: sleepers(it, 2025) or sleepers(it, 2026), "it sleeps")
    assert sleeper == pid
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    assert int(status["SigBlk"], 16) == 0
    assert int(status["SigIgn"], 16) & (1 << (signal.SIGPIPE - 1)) == 0
    assert (os.getpgid(pid), os.getsid(pid)) == (pid, pid)
    low, *more = sorted(map(int, os.listdir(f"/proc/{pid}/fd")))[2:]
    # One more keeps the pipe of its own output alive while no keeper lives.
    output = os.readlink(f"/proc/{pid}/fd/1")
    assert (low, [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in more]) == (2, [output])
