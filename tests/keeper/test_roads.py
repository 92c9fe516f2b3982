"""What a process finds when it begins, and what is said when it cannot."""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.model.action import Bind
from reconciler.model.address import UnixAddress
from reconciler.model.observation import ControlRenewed
from reconciler.model.process import (
    CaptureSink,
    Exit,
    FileInput,
    Launch,
    LaunchError,
    ProcessId,
    Starting,
    TerminalInput,
)
from reconciler.model.socket import Bound, FileOwner, SocketTemplate
from reconciler.system.descriptors import LIFELINE_FD
from tests.keeper.rig import OWN_NICE, Link, Rig, keeper, until

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


@pytest.mark.parametrize("nice", [None, OWN_NICE], ids=["posix_spawn", "fork"])
def test_a_process_inherits_nothing_that_nobody_meant_for_it(
    rig: Rig, link: Link, tmp_path: Path, nice: int | None
) -> None:
    seen = look(link, tmp_path, nice=nice, env={"A": "1"})
    # The one that keeps its own output alive is its own. One more is the folder that is being listed: it is
    # gone when it is looked at.
    assert seen["fds"] == [0, 1, 2, LIFELINE_FD]
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
        "LOGNAME": pwd.getpwuid(os.geteuid()).pw_name,
        "SHELL": pwd.getpwuid(os.geteuid()).pw_shell,
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


@pytest.mark.parametrize("nice", [None, OWN_NICE], ids=["posix_spawn", "fork"])
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
        link,
        tmp_path,
        limits={"nofile": (50, 60)},
        nice=max(7, OWN_NICE),
        cpu_affinity=(cpu,),
        oom_score_adj=500,
    )
    assert (seen["nofile"], seen["nice"], seen["cpus"], seen["oom"]) == (
        [50, 60],
        max(7, OWN_NICE),
        [cpu],
        500,
    )


@pytest.mark.parametrize("user", [None, "nobody", 12345], ids=["own", "account", "number"])
def test_what_a_launch_sets_is_what_the_kernel_has(tmp_path: Path, user: str | int | None) -> None:
    """The keeper was started with groups, blocked and ignored signals that are nobody else's."""
    if user is not None and os.geteuid() != 0:
        pytest.skip("another user needs root")
    more = {"extra_groups": [0, 4242]} if os.geteuid() == 0 else {}
    with keeper(tmp_path, preexec_fn=_spoil_signals, **more) as rig:
        link = rig.link()
        cpu = min(os.sched_getaffinity(0))
        limits = {"nofile": (50, 60), "fsize": (None, None), "stack": (2**22, 2**23)}
        link.spawn(
            WEB,
            "/bin/sleep",
            "1000",
            user=user,
            group=54321 if user == 12345 else None,
            umask=0o027,
            limits=limits,
            nice=max(7, OWN_NICE),
            cpu_affinity=(cpu,),
            oom_score_adj=500,
        )
        pid = link.running(WEB).pid
        own, status = _status_of(rig.pid), _status_of(pid)
        account = pwd.getpwnam("nobody")
        uid, gid, groups = {
            None: (os.geteuid(), os.getegid(), own["Groups"].split()),
            "nobody": (
                account.pw_uid,
                account.pw_gid,
                [*map(str, sorted(os.getgrouplist("nobody", account.pw_gid)))],
            ),
            12345: (12345, 54321, ["54321"]),
        }[user]
        assert (status["Uid"].split(), status["Gid"].split()) == ([str(uid)] * 4, [str(gid)] * 4)
        assert status["Groups"].split() == groups
        capabilities = {name: status[name] for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")}
        kept = {name: own[name] if user is None else f"{0:016x}" for name in capabilities}
        assert capabilities == kept
        ignored = int(status["SigIgn"], 16) & ~OF_THE_LIBRARY
        assert (int(status["SigBlk"], 16), ignored) == (0, 0)
        assert status["Umask"] == "0027"
        assert {name: _limits_of(pid)[name] for name in limits} == {
            "nofile": ("50", "60"),
            "fsize": ("unlimited", "unlimited"),
            "stack": ("4194304", "8388608"),
        }
        assert os.getpriority(os.PRIO_PROCESS, pid) == max(7, OWN_NICE)
        assert os.sched_getaffinity(pid) == {cpu}
        assert _oom_score_adj(pid) == 500
        assert (os.getsid(pid), os.getpgid(pid)) == (pid, pid)


def _limits_of(pid: int) -> dict[str, tuple[str, str]]:
    names = {"Max open files": "nofile", "Max file size": "fsize", "Max stack size": "stack"}
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    rows = ((line[:26].strip(), *line[26:].split()) for line in lines)
    return {names[row[0]]: (row[1], row[2]) for row in rows if row[0] in names}


def _spoil_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM, signal.SIGRTMIN])
    signal.signal(signal.SIGTTIN, signal.SIG_IGN)
    signal.signal(signal.SIGVTALRM, signal.SIG_IGN)


def _status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: text.strip() for name, _, text in (line.partition(":") for line in lines)}


def test_without_code_in_the_child_no_signal_is_blocked_or_ignored(tmp_path: Path) -> None:
    with keeper(tmp_path, preexec_fn=_spoil_signals) as rig:
        link = rig.link()
        link.spawn(WEB, "/bin/sleep", "1000")
        status = _status_of(link.running(WEB).pid)
    assert (int(status["SigBlk"], 16), int(status["SigIgn"], 16) & ~OF_THE_LIBRARY) == (0, 0)


LOGIN = "echo $HOME $USER $LOGNAME $SHELL"


@pytest.mark.parametrize(
    ("inherit", "said"),
    [
        (("HOME", "USER", "LOGNAME"), "/data me alias {shell}"),
        (False, "/data {name} {name} {shell}"),
        (True, "/data me alias {shell}"),
    ],
)
def test_what_is_named_to_be_inherited_is_passed_on_as_it_is(
    tmp_path: Path, inherit: bool | tuple[str, ...], said: str
) -> None:
    outer = {"PATH": "/usr/bin:/bin", "HOME": "/data", "USER": "me", "LOGNAME": "alias"}
    own = pwd.getpwuid(os.geteuid())
    with keeper(tmp_path, env=outer) as rig:
        link = rig.link()
        sink = CaptureSink(str(tmp_path / "out"))
        link.spawn(WEB, "sh", "-c", LOGIN, inherit_env=inherit, stdout=sink)
        expected = said.format(name=own.pw_name, shell=own.pw_shell)
        assert link.exited(WEB).output.decode().strip() == expected


@AS_ROOT
@pytest.mark.parametrize("inherit", [False, True, ("HOME",)])
def test_another_user_has_what_its_login_would_set(
    tmp_path: Path, inherit: bool | tuple[str, ...]
) -> None:
    outer = {"PATH": "/usr/bin:/bin", "HOME": "/data", "USER": "me", "SHELL": "/mine"}
    account = pwd.getpwnam("nobody")
    with keeper(tmp_path, env=outer) as rig:
        link = rig.link()
        sink = CaptureSink(str(tmp_path / "out"))
        link.spawn(WEB, "sh", "-c", LOGIN, user="nobody", inherit_env=inherit, stdout=sink)
        home = "/data" if inherit == ("HOME",) else account.pw_dir
        said = f"{home} nobody nobody {account.pw_shell}\n"
        assert link.exited(WEB).output.decode() == said


@AS_ROOT
@pytest.mark.parametrize("user", [12345, "12345"])
def test_a_number_without_an_account_needs_a_group(link: Link, user: int | str) -> None:
    error = failure(link, "true", user=user)
    assert str(error) == "user 12345 has no account; give group, too"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may become anybody")
def test_an_ordinary_manager_says_whom_it_cannot_become(link: Link, tmp_path: Path) -> None:
    """Whatever else fails for the same reason: the output cannot be given to that user either."""
    error = failure(link, "true", user="root", stdout=CaptureSink(str(tmp_path / "out")))
    own = pwd.getpwuid(os.geteuid())
    said = f"cannot become user root: the manager runs as {own.pw_name} (uid {own.pw_uid})"
    assert (error.step, error.errno, str(error)) == ("user", "EPERM", said)


@AS_ROOT
def test_a_root_without_rights_says_whom_it_cannot_become(tmp_path: Path) -> None:
    """As in a container that drops capabilities. Whom no user may be is another reason."""
    with keeper(tmp_path, preexec_fn=_drop_capabilities) as rig:
        link = rig.link()
        error = failure(link, "true", user="nobody", stdout=CaptureSink(str(tmp_path / "out")))
    said = "cannot become user nobody: the manager is root without CAP_SETUID and CAP_SETGID"
    assert (error.step, error.errno, str(error)) == ("user", "EPERM", said)


@AS_ROOT
def test_output_belongs_to_the_user_who_writes_it(rig: Rig, link: Link) -> None:
    """So that it can be opened anew, by /dev/stdout, and by nobody else."""
    out = rig.folder / "out"
    text = "echo one > /dev/stdout; echo two >> /proc/self/fd/2; read forever"
    sink = CaptureSink(str(out))
    link.spawn(WEB, "sh", "-c", text, user=12345, group=54321, stdout=sink, stderr=sink)
    assert link.exited(WEB).exit == Exit(code=1)
    assert sorted(out.read_text().split()) == ["one", "two"]


@AS_ROOT
def test_an_account_that_is_waited_for_keeps_nobody_else_waiting(tmp_path: Path) -> None:
    """The accounts of the machine are behind a FIFO that nobody writes to. Who waits there can be stopped."""
    accounts = tmp_path / "accounts"
    os.mkfifo(accounts)
    control, app, nobody = tmp_path / "run/control.sock", tmp_path / "app", pwd.getpwnam("nobody")
    settings = {"control_owner": "nobody", "control_group": nobody.pw_gid}
    with keeper(tmp_path, settings=settings, preexec_fn=own_mounts) as rig:
        link = rig.link()
        enter = ["nsenter", f"--mount=/proc/{rig.pid}/ns/mnt"]
        mount = [*enter, "mount", "--bind", str(accounts), "/etc/passwd"]
        if subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("nothing can be mounted here")
        link.spawn(WEB, "true", user="nobody")
        other = ProcessId("other", 1)
        link.spawn(other, "true", nice=OWN_NICE)
        assert link.exited(other).exit == Exit(code=0)
        assert isinstance(link.records[WEB].phase, Starting)
        link.signal(WEB, "KILL")
        assert link.exited(WEB).exit == Exit(signal="KILL")
        # The files of sockets get their owners by number, also when they are made anew.
        template = SocketTemplate(UnixAddress(str(app)), owner="nobody", group="nogroup")
        link.send(Bind("app", template, FileOwner(nobody.pw_uid, nobody.pw_gid)))
        assert isinstance(link.wait(lambda: link.sockets.get("app")).phase, Bound)
        control.unlink()
        while link.take():
            pass
        link.let_go()
        assert rig.link().hear(ControlRenewed) == ControlRenewed(str(control))
        owners = {(path.stat().st_uid, path.stat().st_gid) for path in (app, control)}
    assert owners == {(nobody.pw_uid, nobody.pw_gid)}


def own_mounts() -> None:
    library = ctypes.CDLL(None, use_errno=True)
    assert library.unshare(_CLONE_NEWNS) == 0
    assert library.mount(b"none", b"/", None, _MS_REC_PRIVATE, None) == 0


def _drop_capabilities() -> None:
    library = ctypes.CDLL(None)
    for capability in (CAP_CHOWN, CAP_SETGID, CAP_SETUID):
        assert library.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0


@AS_ROOT
def test_a_user_never_works_in_a_folder_that_is_closed_to_it(link: Link, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(0o700)
    error = failure(link, "true", user="nobody", working_dir=str(closed))
    assert (error.step, error.errno, error.path) == ("chdir", "EACCES", str(closed))


@pytest.mark.parametrize("nice", [None, OWN_NICE], ids=["posix_spawn", "fork"])
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


@pytest.mark.parametrize("nice", [None, OWN_NICE], ids=["posix_spawn", "fork"])
def test_a_missing_folder_is_said_to_be_missing(link: Link, nice: int | None) -> None:
    error = failure(link, "true", nice=nice, working_dir="/no/such/folder")
    assert error == LaunchError("chdir", "ENOENT", "/no/such/folder", "no such file or directory")


def test_a_program_that_is_nowhere_in_path_is_said_so(link: Link) -> None:
    error = failure(link, "no-such-program")
    assert (error.step, error.errno, error.path) == ("exec", "ENOENT", "no-such-program")
    assert error.searched == "/usr/bin:/bin"
    assert str(error) == "no such program: no-such-program (for the PATH see status -o json)"


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
        ({"limits": {"nofile": (2**40, 2**40)}}, "limits", "not allowed to raise maximum limit"),
        ({"cpu_affinity": (4000,)}, "affinity", "none of these processors is usable here"),
        ({"env": {"A=B": "C"}}, "exec", "illegal environment variable name"),
    ],
)
def test_what_cannot_be_had_is_told_by_its_step(
    link: Link, launch: dict[str, object], step: str, message: str
) -> None:
    error = failure(link, "true", **launch)
    assert (error.step, error.message) == (step, message)


TERMINAL = """
import os, select, sys, termios
try:
    os.write(0, b"x" * 100_000)
except OSError as error:
    print(error.errno == 9, end=" ")
again = os.open("/dev/stdin", os.O_RDONLY | os.O_NOCTTY)
print(os.isatty(0), os.isatty(1), os.isatty(again), *os.get_terminal_size(0), end=" ")
print(len(termios.tcgetattr(0)), select.select([0], [], [], 0)[0], end=" ")
try:
    os.open("/dev/tty", os.O_RDONLY)
except OSError:
    print("no session")
"""


def test_a_terminal_as_input_is_one_at_which_nobody_types(link: Link, tmp_path: Path) -> None:
    """It is read from only, what is written to it holds nobody up, and it controls no session."""
    sink = CaptureSink(str(tmp_path / "out"))
    argv = (sys.executable, "-I", "-S", "-c", TERMINAL)
    link.spawn(WEB, *argv, stdin=TerminalInput(), stdout=sink)
    assert link.exited(WEB).output == b"True True False True 80 24 7 [] no session\n"


@AS_ROOT
def test_a_terminal_as_input_belongs_to_the_user_who_reads_there(
    link: Link, tmp_path: Path
) -> None:
    text = "test -t 0 && exec 3</dev/stdin && test -t 3"
    link.spawn(WEB, "sh", "-c", text, user=12345, group=54321, stdin=TerminalInput())
    assert link.exited(WEB).exit == Exit(code=0)


ASKED_LATER = """
import select, sys
open(sys.argv[1]).read()
poll = select.poll()
poll.register(0, select.POLLIN)
open(sys.argv[2], "w").write(f"{poll.poll(0)} once\\n")
"""


def test_a_terminal_as_input_outlives_the_keeper(rig: Rig, link: Link, tmp_path: Path) -> None:
    """Who reads there goes on waiting: it is neither hung up nor at an end."""
    ask, answer = tmp_path / "ask", tmp_path / "answer"
    os.mkfifo(ask)
    argv = (sys.executable, "-I", "-S", "-c", ASKED_LATER, str(ask), str(answer))
    link.spawn(WEB, *argv, stdin=TerminalInput())
    link.running(WEB)
    rig.process.kill()
    rig.process.wait()
    ask.write_text("now")
    until(lambda: answer.exists() and answer.read_text().endswith("once\n"), "it answers")
    assert answer.read_text() == "[] once\n"


@pytest.mark.parametrize("user", [None, pytest.param(12345, marks=AS_ROOT)])
def test_a_file_as_input_is_read_by_the_user_of_the_process(
    link: Link, public: Path, user: int | None
) -> None:
    (public / "in").write_text("one\ntwo\n")
    sink = CaptureSink(str(public / "out"))
    given = FileInput(str(public / "in"))
    link.spawn(WEB, "cat", user=user, group=user, stdin=given, stdout=sink)
    assert link.exited(WEB).output == b"one\ntwo\n"


@AS_ROOT
def test_a_file_that_the_user_may_not_read_is_no_input(link: Link, public: Path) -> None:
    (public / "in").touch(0o600)
    error = failure(link, "cat", user=12345, group=54321, stdin=FileInput(str(public / "in")))
    assert str(error) == (
        f"cannot open the standard input {public}/in as user 12345: permission denied"
    )


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [("no-file", "ENOENT", "no such file or directory"), ("", "EISDIR", "is a directory")],
)
def test_what_cannot_be_read_is_no_input(
    link: Link, tmp_path: Path, name: str, code: str, message: str
) -> None:
    path = str(tmp_path / name) if name else str(tmp_path)
    error = failure(link, "cat", stdin=FileInput(path))
    assert error == LaunchError("stdin", code, path, message)


def test_a_fifo_that_nobody_writes_to_is_an_empty_input(link: Link, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "in")
    link.spawn(WEB, "cat", stdin=FileInput(str(tmp_path / "in")))
    assert link.exited(WEB).exit == Exit(code=0)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that other users can enter."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def _tool(folder: Path, code: int, mode: int = 0o755) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "tool").write_text(f"#!/bin/sh\nexit {code}\n")
    (folder / "tool").chmod(mode)
    return str(folder)


@pytest.mark.parametrize("nice", [None, OWN_NICE], ids=["posix_spawn", "fork"])
def test_the_search_goes_on_after_what_may_not_be_executed(
    link: Link, tmp_path: Path, nice: int | None
) -> None:
    """execvp(3): also after a folder of that name, a file in the place of a folder, a missing interpreter."""
    (tmp_path / "a" / "tool").mkdir(parents=True)
    (tmp_path / "b").touch()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "tool").write_text("#!/no/such/interpreter\n")
    (tmp_path / "d" / "tool").chmod(0o755)
    found = [str(tmp_path / "a"), str(tmp_path / "b"), _tool(tmp_path / "c", 1, 0o644)]
    path = ":".join([*found, str(tmp_path / "d"), _tool(tmp_path / "e", 7)])
    link.spawn(WEB, "tool", env={"PATH": path}, nice=nice)
    assert link.exited(WEB).exit == Exit(code=7)


@AS_ROOT
def test_path_is_searched_with_the_rights_of_the_user(link: Link, public: Path) -> None:
    closed, open_ = _tool(public / "closed", 1), _tool(public / "open", 7)
    (public / "closed").chmod(0o700)
    link.spawn(WEB, "tool", user="nobody", env={"PATH": f"{closed}:{open_}"})
    assert link.exited(WEB).exit == Exit(code=7)
    api = ProcessId("api", 1)
    link.spawn(api, "tool", user="nobody", env={"PATH": f"{closed}:/usr/bin"})
    error = link.exited(api).exit.error
    assert str(error) == f"cannot execute {closed}/tool as user nobody: permission denied"


def test_a_program_that_may_not_be_executed_is_the_reason_when_there_is_no_other(
    link: Link, tmp_path: Path
) -> None:
    folder = _tool(tmp_path / "a", 1, 0o644)
    error = failure(link, "tool", env={"PATH": f"{folder}:/usr/bin"})
    assert str(error) == f"cannot execute {folder}/tool: permission denied"


@AS_ROOT
def test_a_limit_of_processes_is_named(link: Link) -> None:
    """It counts all that the user runs, and root is not limited."""
    for slot in (1, 2):
        other = ProcessId("other", slot)
        link.spawn(other, "sleep", "1000", user=12345, group=12345)
        link.running(other)
    error = failure(link, "true", user=12345, group=12345, limits={"nproc": (1, 1)})
    assert error.is_shortage
    said = "the user has more processes than its limit allows (limits.nproc: 1)"
    assert str(error) == f"cannot execute /usr/bin/true as user 12345: {said}"


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


@pytest.mark.parametrize("nice", [None, OWN_NICE], ids=["posix_spawn", "fork"])
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


CAP_CHOWN, CAP_SETGID, CAP_SETUID, CAP_SYS_RESOURCE = 0, 6, 7, 24
_PR_CAPBSET_DROP = 24
_CLONE_NEWNS = 0x00020000
_MS_REC_PRIVATE = 1 << 14 | 1 << 18


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
        link.spawn(ProcessId("a", slot), "true", stdout=sink, nice=OWN_NICE if slot % 2 else None)
        link.spawn(
            ProcessId("b", slot), "/no/such", stdout=sink, nice=OWN_NICE if slot % 2 else None
        )
        link.spawn(
            ProcessId("c", slot),
            "true",
            stdout=sink,
            working_dir="/no/such",
            nice=OWN_NICE if slot % 2 else None,
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
        ({"working_dir": "/a\0b", "nice": OWN_NICE}, "chdir"),
        ({"nice": OWN_NICE, "umask": 2**60}, "launch"),
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


@pytest.mark.parametrize(
    "launch", [{}, {"nice": OWN_NICE}, {"user": "nobody"}, {"group": "nogroup"}]
)
def test_a_limit_below_the_one_that_children_get_is_a_shortage_that_heals(
    rig: Rig, link: Link, launch: dict[str, object]
) -> None:
    """Also where an account is looked up: one that cannot be looked up is not one that does not exist."""
    used = len(os.listdir(f"/proc/{rig.pid}/fd"))
    resource.prlimit(rig.pid, resource.RLIMIT_NOFILE, (used, used + 20))
    error = failure(link, "true", stdout=CaptureSink(str(rig.folder / "out")), **launch)
    assert (error.errno, error.is_shortage) == ("EMFILE", True)
    assert error.message == f"no free descriptor (the manager's limit is {used})"
    resource.prlimit(rig.pid, resource.RLIMIT_NOFILE, (used + 20, used + 20))
    other = ProcessId("other", 1)
    mine = {key: value for key, value in launch.items() if key == "nice"}
    link.spawn(other, "sh", "-c", "exit $(ulimit -n)", **mine)
    assert link.exited(other).exit == Exit(code=used + 20)
