"""What a process finds when it begins, and what is said when it cannot."""

from __future__ import annotations

import json
import os
import pwd
import resource
import signal
import sys
from pathlib import Path

import pytest

from reconciler.model.process import CaptureSink, Exit, Launch, LaunchError, ProcessId
from tests.keeper.rig import Link, Rig, keeper

WEB = ProcessId("web", 2)
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="another user needs root")

LOOK = """
import json, os, resource, signal
fds = [int(n) for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")]
status = dict(l.split(":", 1) for l in open("/proc/self/status").read().splitlines())
print(json.dumps({
    "env": dict(os.environ), "fds": sorted(fds), "cwd": os.getcwd(), "umask": os.umask(0),
    "blocked": int(status["SigBlk"], 16), "ignored": int(status["SigIgn"], 16),
    "session": os.getsid(0) == os.getpid(), "pid": os.getpid(),
    "uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(),
    "nofile": resource.getrlimit(resource.RLIMIT_NOFILE), "nice": os.nice(0),
    "oom": int(open("/proc/self/oom_score_adj").read()), "cpus": sorted(os.sched_getaffinity(0)),
}))
"""
# Python ignores SIGPIPE and SIGXFSZ by itself, as it begins.
OF_PYTHON = sum(1 << (number - 1) for number in (signal.SIGPIPE, signal.SIGXFSZ))
# posix_spawn of the GNU C library ignores the two signals that it keeps for itself.
OF_THE_LIBRARY = 1 << 31 | 1 << 32


def look(link: Link, tmp_path: Path, **launch: object) -> dict[str, object]:
    """Return what a process sees that is launched so."""
    link.spawn(
        WEB,
        sys.executable,
        "-I",
        "-S",
        "-c",
        LOOK,
        stdout=CaptureSink(str(tmp_path / "out")),
        **launch,
    )
    exited = link.exited(WEB)
    assert exited.exit == Exit(code=0), (exited, (tmp_path / "out").read_text())
    seen: dict[str, object] = json.loads((tmp_path / "out").read_text())
    assert seen["pid"] == exited.pid
    return seen


def failure(link: Link, *argv: str, **launch: object) -> LaunchError:
    link.spawn(WEB, *argv, **launch)
    exited = link.exited(WEB)
    assert exited.pid is None
    assert exited.exit.error is not None
    return exited.exit.error


@pytest.mark.parametrize("nice", [None, 0], ids=["posix_spawn", "fork"])
def test_a_process_inherits_nothing_that_nobody_meant_for_it(
    rig: Rig, link: Link, tmp_path: Path, nice: int | None
) -> None:
    seen = look(link, tmp_path, nice=nice, env={"A": "1"})
    # One descriptor more is the folder that is being listed, and it is gone when it is looked at.
    assert seen["fds"] == [0, 1, 2]
    assert seen["blocked"] == 0
    assert seen["ignored"] & ~OF_THE_LIBRARY == OF_PYTHON  # type: ignore[operator]  # a number
    assert seen["session"]
    assert seen["umask"] == 0o022
    assert tuple(seen["nofile"]) == resource.getrlimit(resource.RLIMIT_NOFILE)  # type: ignore[arg-type]
    token = (rig.folder / "state/instance").read_text().split()[0]
    assert seen["env"] == {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": pwd.getpwuid(os.geteuid()).pw_dir,
        "USER": pwd.getpwuid(os.geteuid()).pw_name,
        "A": "1",
        "RECONCILE_INSTANCE": "test",
        "RECONCILE_WATCHER": "web",
        "RECONCILE_SLOT": "2",
        "RECONCILE_ID": f"{token}/web.2/1",
    }


def test_what_chooses_the_manager_for_an_operator_chooses_it_for_no_process(
    link: Link, tmp_path: Path
) -> None:
    env = look(link, tmp_path, inherit_env=True)["env"]
    assert isinstance(env, dict)
    assert env["SECRET"] == "x"
    assert sorted(name for name in env if name.startswith("RECONCILE_")) == [
        "RECONCILE_ID",
        "RECONCILE_INSTANCE",
        "RECONCILE_SLOT",
        "RECONCILE_WATCHER",
    ]


@pytest.mark.parametrize("nice", [None, 0], ids=["posix_spawn", "fork"])
def test_folder_umask_and_environment_are_as_launched(
    link: Link, tmp_path: Path, nice: int | None
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    seen = look(
        link,
        tmp_path,
        nice=nice,
        working_dir=str(folder),
        umask=0o077,
        inherit_env=("SECRET",),
        env={"USER": None, "EMPTY": ""},
        path_prefix=("/venv/bin",),
    )
    assert seen["cwd"] == str(folder)
    assert seen["umask"] == 0o077
    env = seen["env"]
    assert isinstance(env, dict)
    assert env["SECRET"] == "x"
    assert env["PATH"] == "/venv/bin:/usr/bin:/bin"
    assert ("USER" in env, env["EMPTY"]) == (False, "")


def test_the_keeper_takes_off_again_what_it_wore_for_a_child(
    rig: Rig, link: Link, tmp_path: Path
) -> None:
    before = os.readlink(f"/proc/{rig.pid}/cwd")
    look(link, tmp_path, working_dir="/", umask=0o077)
    assert os.readlink(f"/proc/{rig.pid}/cwd") == before
    assert "Umask:\t0022" in Path(f"/proc/{rig.pid}/status").read_text()


def test_limits_and_priorities_are_as_launched(link: Link, tmp_path: Path) -> None:
    cpu = min(os.sched_getaffinity(0))
    seen = look(
        link, tmp_path, limits={"nofile": (50, 60)}, nice=7, cpu_affinity=(cpu,), oom_score_adj=500
    )
    assert (seen["nofile"], seen["nice"], seen["cpus"], seen["oom"]) == ([50, 60], 7, [cpu], 500)


@AS_ROOT
def test_another_user_comes_with_its_groups_and_home(link: Link, tmp_path: Path) -> None:
    text = "id -u; id -G; echo $USER $HOME"
    sink = CaptureSink(str(tmp_path / "out"))
    link.spawn(WEB, "sh", "-c", text, user="nobody", stdout=sink)
    account = pwd.getpwnam("nobody")
    said = f"{account.pw_uid}\n{account.pw_gid}\nnobody {account.pw_dir}\n"
    assert link.exited(WEB).output.decode() == said


@AS_ROOT
def test_a_number_without_an_account_is_a_user_too(link: Link, tmp_path: Path) -> None:
    sink = CaptureSink(str(tmp_path / "out"))
    link.spawn(WEB, "sh", "-c", "id -u; id -g; id -G", user=12345, group=54321, stdout=sink)
    assert link.exited(WEB).output.decode() == "12345\n54321\n54321\n"


@AS_ROOT
def test_a_user_never_works_in_a_folder_that_is_closed_to_it(link: Link, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(0o700)
    error = failure(link, "true", user="nobody", working_dir=str(closed))
    assert (error.step, error.errno, error.path) == ("chdir", "EACCES", str(closed))


@pytest.mark.parametrize("nice", [None, 0], ids=["posix_spawn", "fork"])
@pytest.mark.parametrize(
    ("text", "mode", "errno", "message"),
    [
        (
            "#!/no/such/interpreter\n",
            0o755,
            "ENOENT",
            "its interpreter /no/such/interpreter does not exist",
        ),
        ("#!/bin/sh\n", 0o644, "EACCES", "permission denied"),
        ("echo no first line\n", 0o755, "ENOEXEC", "not a program; does its first line lack #!"),
    ],
)
def test_a_script_that_cannot_be_executed_says_why(
    link: Link, tmp_path: Path, nice: int | None, text: str, mode: int, errno: str, message: str
) -> None:
    script = tmp_path / "script"
    script.write_text(text)
    script.chmod(mode)
    error = failure(link, str(script), nice=nice)
    assert error == LaunchError("exec", errno, str(script), message)


@pytest.mark.parametrize("nice", [None, 0], ids=["posix_spawn", "fork"])
def test_a_missing_folder_is_said_to_be_missing(link: Link, nice: int | None) -> None:
    error = failure(link, "true", nice=nice, working_dir="/no/such/folder")
    assert error == LaunchError("chdir", "ENOENT", "/no/such/folder", "no such file or directory")


def test_a_program_that_is_nowhere_in_path_is_said_so(link: Link) -> None:
    error = failure(link, "no-such-program")
    assert (error.step, error.errno, error.path) == ("exec", "ENOENT", "no-such-program")
    assert error.message == "no such program in PATH /usr/bin:/bin"


def test_a_program_is_looked_up_in_the_new_path(link: Link, tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\nexit 6\n")
    tool.chmod(0o755)
    link.spawn(WEB, "tool", path_prefix=(str(tmp_path),))
    assert link.exited(WEB).exit == Exit(code=6)


@pytest.mark.parametrize(
    ("launch", "step", "message"),
    [
        ({"user": "no-such-user"}, "user", "unknown user 'no-such-user'"),
        ({"group": "no-such-group"}, "group", "unknown group 'no-such-group'"),
        ({"limits": {"nosuch": (1, 1)}}, "limits", "unknown limit 'nosuch'"),
        ({"cpu_affinity": (4000,)}, "affinity", "none of these processors is usable here"),
        ({"env": {"A=B": "C"}}, "exec", "illegal environment variable name"),
    ],
)
def test_what_cannot_be_had_is_told_by_its_step(
    link: Link, launch: dict[str, object], step: str, message: str
) -> None:
    error = failure(link, "true", **launch)
    assert (error.step, error.message) == (step, message)


def test_a_keeper_without_pids_says_so_and_goes_on(tmp_path: Path) -> None:
    inside, outside, _ = map(int, Path("/proc/self/uid_map").read_text().split()[:3])
    if os.geteuid() - inside + outside == 0:
        pytest.skip("root has no limit of processes")
    with keeper(tmp_path) as rig:
        link = rig.link()
        resource.prlimit(rig.pid, resource.RLIMIT_NPROC, (1, 1))
        error = failure(link, "true")
        assert (error.step, error.errno) == ("fork", "EAGAIN")
        assert error.is_shortage


def test_a_keeper_without_descriptors_says_so_and_goes_on(rig: Rig, link: Link) -> None:
    limits = resource.prlimit(rig.pid, resource.RLIMIT_NOFILE)
    used = len(os.listdir(f"/proc/{rig.pid}/fd"))
    resource.prlimit(rig.pid, resource.RLIMIT_NOFILE, (used, limits[1]))
    error = failure(link, "true", stdout=CaptureSink(str(rig.folder / "out")))
    assert error.errno == "EMFILE"
    resource.prlimit(rig.pid, resource.RLIMIT_NOFILE, limits)
    other = ProcessId("other", 1)
    link.spawn(other, "true", stdout=CaptureSink(str(rig.folder / "out")))
    assert link.exited(other).exit == Exit(code=0)


@pytest.mark.parametrize("nice", [None, 1], ids=["posix_spawn", "fork"])
def test_when_memory_is_short_the_manager_goes_last(rig: Rig, link: Link, nice: int | None) -> None:
    """Without CAP_SYS_RESOURCE all stay as they were."""
    own = _oom_score_adj(os.getpid())
    may = os.geteuid() == 0 and (int(_status("CapEff"), 16) >> CAP_SYS_RESOURCE) & 1
    expected = (-1000, -900) if may else (own, own)
    link.spawn(ProcessId("web", 1), "sleep", "1000", nice=nice)
    link.spawn(ProcessId("web", 2), "sleep", "1000", nice=nice, oom_score_adj=own + 7)
    pids = [link.running(ProcessId("web", slot)).pid for slot in (1, 2)]
    assert [_oom_score_adj(pid) for pid in pids] == [own, own + 7]
    assert (_oom_score_adj(rig.pid), _oom_score_adj(link.pid)) == expected


CAP_SYS_RESOURCE = 24


def _oom_score_adj(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def _status(field: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(field))


def test_launches_leak_nothing(rig: Rig, link: Link) -> None:
    def descriptors() -> int:
        return len(os.listdir(f"/proc/{rig.pid}/fd"))

    sink = CaptureSink(str(rig.folder / "out"))
    before = descriptors()
    for slot in range(1, 21):
        link.spawn(ProcessId("a", slot), "true", stdout=sink, nice=slot % 2 or None)
        link.spawn(ProcessId("b", slot), "/no/such", stdout=sink, nice=slot % 2 or None)
        link.spawn(
            ProcessId("c", slot), "true", stdout=sink, working_dir="/no/such", nice=slot % 2 or None
        )
    for slot in range(1, 21):
        for owner in "abc":
            link.exited(ProcessId(owner, slot))
    assert descriptors() == before
    assert not os.listdir(rig.folder / "state" / "output")


@pytest.mark.parametrize(
    ("launch", "step"),
    [
        ({"working_dir": "/a\0b"}, "chdir"),
        ({"working_dir": "/a\0b", "nice": 0}, "launch"),
        ({"nice": 0, "umask": 2**60}, "launch"),
        ({"umask": 2**60}, "exec"),
        ({"stdout": CaptureSink("/tmp/a\0b")}, "output"),
        ({"user": "a\0b"}, "user"),
        ({"user": 2**40}, "user"),
        ({"group": 2**32 - 1}, "group"),
    ],
)
def test_values_that_no_kernel_takes_end_no_keeper(
    rig: Rig, link: Link, launch: dict[str, object], step: str
) -> None:
    assert failure(link, "true", **launch).step == step
    assert rig.process.poll() is None


def test_an_interpreter_may_be_any_bytes(link: Link, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_bytes(b"#!/no/\xff\n")
    script.chmod(0o755)
    assert failure(link, str(script)).message == "its interpreter /no/\\xff does not exist"


def test_argv_empty_is_refused(link: Link) -> None:
    assert failure(link).step == "exec"
    assert Launch(()).argv == ()


@pytest.mark.parametrize("launch", [{}, {"nice": 0}, {"user": "nobody"}, {"group": "nogroup"}])
def test_a_limit_below_the_one_that_children_get_is_a_shortage_that_heals(
    rig: Rig, link: Link, launch: dict[str, object]
) -> None:
    """Also where an account is looked up: one that cannot be looked up is not one that does not exist."""
    used = len(os.listdir(f"/proc/{rig.pid}/fd"))
    resource.prlimit(rig.pid, resource.RLIMIT_NOFILE, (used, used + 20))
    error = failure(link, "true", stdout=CaptureSink(str(rig.folder / "out")), **launch)
    assert (error.errno, error.is_shortage) == ("EMFILE", True)
    assert error.message == "too many open files"
    resource.prlimit(rig.pid, resource.RLIMIT_NOFILE, (used + 20, used + 20))
    other = ProcessId("other", 1)
    mine = {key: value for key, value in launch.items() if key == "nice"}
    link.spawn(other, "sh", "-c", "exit $(ulimit -n)", **mine)
    assert link.exited(other).exit == Exit(code=used + 20)
