"""From a launch to a process, by one of two roads; what fails before the program runs is told exactly.

posix_spawn runs no Python in the child, so it is taken whenever nothing needs code there. The keeper has
one thread, so it may put on the child's umask, folder and limit of files for the time of the call.
fork is for what only the child itself can do (LISTEN_PID, another user, limits, priorities) and for a
control group, in which a child must be born. The child tells a failure on a pipe that closes when the
program is executed, so nobody waits for it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import pwd
import resource
import signal
import stat
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Final, NoReturn

from reconciler.keeper.cgroups import fork_into
from reconciler.keeper.kernel import LaunchFailed
from reconciler.keeper.notify import NOT_FOR_CHILDREN
from reconciler.keeper.processes import NOT_NOW
from reconciler.model.process import Launch, LaunchError
from reconciler.model.value import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from reconciler.keeper.handover import Handover
    from reconciler.model.process import ProcessId

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OF_THE_OPERATOR: Final = ("RECONCILE_NAME", "RECONCILE_RUNTIME_DIR", "RECONCILE_STATE_DIR")
"""What chooses the manager for whoever calls `reconcile`: it must not choose ours for our processes."""
ALWAYS: Final = ("PATH", "LANG", "TZ")
"""What a process inherits even when it inherits nothing; HOME and USER are its user's."""
OOM_FILE: Final = "/proc/self/oom_score_adj"
KEEPER_OOM_SCORE_ADJ: Final = -1000
CONTROLLER_OOM_SCORE_ADJ: Final = -900
MAX_ID: Final = 2**32 - 2
"""The highest number of a user or group; the one above it means none to the kernel."""
_own_account: Final = cache(pwd.getpwuid)  # each look-up reads /etc/passwd, or asks the network
_SETTABLE: Final = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class User(Struct, frozen=True):
    """Whom a process runs as; `name` is empty when the number has no account."""

    uid: int
    gid: int
    name: str
    home: str
    changes: bool
    """It is not the keeper's own, so that the child must change it."""


class Place(Struct, frozen=True):
    """What the keeper itself is and gives on: its environment, umask, limit of files and name."""

    instance: str
    environ: Mapping[str, str]
    umask: int
    files: tuple[int, int]
    core: int
    """Soft limit of core files, which the keeper itself does without."""
    oom_score_adj: int | None = None
    """What children get back of what the keeper took for itself, None: it took nothing."""
    oom_fd: int = -1
    """The keeper's own score, kept open: a keeper without descriptors must not give its score away."""

    @property
    def controllers_oom_score_adj(self) -> int | None:
        """Return what the controller gets: it goes before the keeper, and after all others."""
        return None if self.oom_score_adj is None else CONTROLLER_OOM_SCORE_ADJ


class Prepared(Struct, frozen=True):
    """A launch with nothing left to look up. `fds` become 0, 1, 2, then the sockets."""

    launch: Launch
    program: str
    env: dict[str, str]
    user: User
    fds: tuple[int, ...]


class Forked(Struct, frozen=True):
    """A child on its way to its program; `report` closes when it is there or tells why it is not."""

    pid: int
    report: int


def failed(step: str, error: OSError | str, path: str = "", message: str = "") -> LaunchFailed:
    """Return what to raise when a step failed; an error without a number is an invalid argument."""
    number = errno.EINVAL if isinstance(error, str) else error.errno or errno.EIO
    name = errno.errorcode.get(number, str(number))
    said = error if isinstance(error, str) else os.strerror(number).lower()
    return LaunchFailed(LaunchError(step, name, path, message or said))


def take_oom_score(handed: Handover | None) -> tuple[int | None, int]:
    """Be the last that the kernel kills when memory is short, where we may say so (CAP_SYS_RESOURCE).

    Returns what children get instead, None when nothing was changed, and our own score's descriptor. Raises
    `OSError` when nobody can say just now whether we may.
    """
    before, fd = None, -1
    try:
        fd = os.open(OOM_FILE, os.O_RDWR | os.O_CLOEXEC)
        found = int(os.pread(fd, 16, 0))
        os.pwrite(fd, b"%d" % KEEPER_OOM_SCORE_ADJ, 0)
        before = found
    except OSError as error:
        if error.errno in NOT_NOW:
            raise
    return (before if handed is None else handed.oom_score_adj), fd


# ---- before the process exists -------------------------------------------------------------------


def find_user(launch: Launch) -> User:
    """Return whom the process runs as. Raises `LaunchFailed` for an account that does not exist.

    Accounts are looked up as the system is set up for it; one that asks the network may wait there.
    """
    own = os.geteuid()
    wanted = own if launch.user is None else launch.user
    try:
        number = isinstance(wanted, int) or wanted.isdigit()
        by_number = _own_account if wanted == own else pwd.getpwuid
        found = by_number(int(wanted)) if number else pwd.getpwnam(str(wanted))
        user = User(found.pw_uid, found.pw_gid, found.pw_name, found.pw_dir, changes=False)
    except (KeyError, ValueError):
        _rule_out_shortage("user")
        if not (isinstance(wanted, int) or wanted.isdigit()):
            raise failed("user", f"unknown user {wanted!r}", str(wanted)) from None
        user = User(_number(wanted, "user"), os.getegid(), "", "/", changes=False)
    if launch.user is None:
        user = User(user.uid, os.getegid(), user.name, user.home, changes=False)
    gid = user.gid if launch.group is None else find_group(launch.group)
    changes = user.uid != own or gid != os.getegid()
    return User(user.uid, gid, user.name, user.home, changes)


def find_group(group: str | int) -> int:
    """Return the number of a group. Raises `LaunchFailed`."""
    if isinstance(group, int) or group.isdigit():
        return _number(group, "group")
    try:
        return grp.getgrnam(group).gr_gid
    except (KeyError, ValueError):
        _rule_out_shortage("group")
        raise failed("group", f"unknown group {group!r}", group) from None


def _rule_out_shortage(step: str) -> None:
    """Tell an account that is nowhere from one that cannot be looked up: without descriptors none is found."""
    try:
        os.close(os.open("/etc/passwd", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
            raise failed(step, error) from None


def _number(account: str | int, step: str) -> int:
    if not 0 <= int(account) <= MAX_ID:
        raise failed(step, f"there can be no {step} {account}", str(account))
    return int(account)


def environment(
    place: Place,
    id: ProcessId,
    marker: str,
    launch: Launch,
    user: User,
) -> dict[str, str]:
    """Return the environment of a process; what comes later in here wins."""
    outer = place.environ
    if launch.inherit_env is True:
        env = {name: value for name, value in outer.items() if name not in OF_THE_OPERATOR}
    else:
        names = ALWAYS + (launch.inherit_env or ())
        env = {name: outer[name] for name in names if name in outer}
    if launch.inherit_env is not True or user.changes:
        env["HOME"], env["USER"] = user.home, user.name or str(user.uid)
        if launch.inherit_env is True:
            env["LOGNAME"] = env["USER"]
    for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", *NOT_FOR_CHILDREN):
        env.pop(name, None)
    env.setdefault("PATH", DEFAULT_PATH)
    for name, value in launch.env.items():
        if value is None:
            env.pop(name, None)
        else:
            env[name] = value
    if launch.path_prefix:
        env["PATH"] = ":".join((*launch.path_prefix, *filter(None, (env.get("PATH"),))))
    slot = str(id.slot)
    env |= {"RECONCILE_INSTANCE": place.instance, "RECONCILE_WATCHER": id.owner}
    env |= {"RECONCILE_SLOT": slot, "RECONCILE_ID": marker}
    if announced := launch.sockets[: launch.announced]:
        env["LISTEN_FDS"] = str(len(announced))
        env["LISTEN_FDNAMES"] = ":".join(name.partition(".")[0] for name in announced)
    return env


def find_program(launch: Launch, env: Mapping[str, str]) -> str:
    """Return the path of `argv[0]`, looked up in the new PATH. Raises `LaunchFailed`."""
    name = launch.argv[0] if launch.argv else ""
    if "/" in name:
        return name
    denied = ""
    search = env.get("PATH", DEFAULT_PATH)
    for folder in search.split(":") if name else ():
        path = os.path.join(folder or ".", name)
        try:
            mode = os.stat(os.path.join(launch.working_dir or "", path)).st_mode
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(mode) and mode & 0o111:
            return path
        denied = denied or path
    if denied:
        raise failed("exec", PermissionError(errno.EACCES, ""), denied, "it is not executable")
    missing = FileNotFoundError(errno.ENOENT, "")
    raise failed("exec", missing, name, f"no such program in PATH {search}")


def needs_fork(launch: Launch, user: User) -> bool:
    """Tell whether something must be done that only code in the child can do."""
    settings = (launch.nice, launch.cpu_affinity, launch.oom_score_adj)
    return bool(launch.sockets or launch.limits or user.changes) or settings != (None,) * 3


# ---- road one: posix_spawn -----------------------------------------------------------------------


def spawn_plainly(prepared: Prepared, place: Place) -> int:
    """Start the program and return its pid; it runs when this returns. Raises `LaunchFailed`."""
    launch = prepared.launch
    actions = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(prepared.fds)]
    try:
        with _put_on(launch, place):
            try:
                return os.posix_spawn(
                    prepared.program,
                    launch.argv,
                    prepared.env,
                    file_actions=actions,
                    setsid=True,
                    setsigmask=[],
                    setsigdef=_SETTABLE,
                )
            except OSError as error:
                if error.errno in {errno.EAGAIN, errno.ENOMEM}:
                    raise failed("fork", error) from None
                raise exec_failed(error, prepared.program) from None
    except (ValueError, OverflowError) as error:
        raise failed("exec", str(error), prepared.program) from None


@contextlib.contextmanager
def _put_on(launch: Launch, place: Place) -> Iterator[None]:
    """Wear the child's umask, folder and limits of open files and core files for the time of the call."""
    back = None
    umask = os.umask(place.umask if launch.umask is None else launch.umask)
    if launch.working_dir is not None:
        try:
            back = os.open(".", os.O_PATH | os.O_DIRECTORY)
            os.chdir(launch.working_dir)
        except (OSError, ValueError) as error:
            os.umask(umask)
            if back is not None:
                os.close(back)
            fault = error if isinstance(error, OSError) else str(error)
            raise failed("chdir", fault, launch.working_dir) from None
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Somebody may have lowered our own limit meanwhile.
    resource.setrlimit(resource.RLIMIT_NOFILE, (lower(place.files[0], files[1]), files[1]))
    core = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (lower(place.core, core[1]), core[1]))
    if place.oom_score_adj is not None:
        given = place.oom_score_adj if launch.oom_score_adj is None else launch.oom_score_adj
        os.pwrite(place.oom_fd, b"%d" % given, 0)
    try:
        yield
    finally:
        if place.oom_score_adj is not None:
            with contextlib.suppress(OSError):  # the right to lower it may be lost
                os.pwrite(place.oom_fd, b"%d" % KEEPER_OOM_SCORE_ADJ, 0)
        resource.setrlimit(resource.RLIMIT_CORE, core)
        resource.setrlimit(resource.RLIMIT_NOFILE, files)
        os.umask(umask)
        if back is not None:
            os.fchdir(back)
            os.close(back)


def lower(one: int, other: int) -> int:
    """Return the lower of two limits as getrlimit(2) gives them."""
    finite = [each for each in (one, other) if each != resource.RLIM_INFINITY]
    return min(finite, default=resource.RLIM_INFINITY)


# ---- road two: fork ------------------------------------------------------------------------------


def fork(prepared: Prepared, place: Place, group: int | None = None) -> Forked:
    """Start a child, in a control group if one is given, that finds its own way to the program.

    Raises `LaunchFailed`.
    """
    try:
        report, report_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise failed("fork", error) from None
    # A signal in the child before its handlers are gone would wake the keeper by their shared pipe.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork() if group is None else fork_into(group)
    except OSError as error:
        os.close(report)
        raise failed("fork", error) from None
    else:
        if pid == 0:
            _become(prepared, place, report_end)
        return Forked(pid, report)
    finally:
        os.close(report_end)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def read_report(forked: Forked) -> LaunchError | None:
    """Return what a child told of its failure; None when its program was executed."""
    try:
        told = os.read(forked.report, 8192)
    except OSError:  # nothing is there yet, or it cannot be read: its death will tell the rest
        told = b""
    if not told:
        return None
    step, name, path, message = told.decode(errors="surrogateescape").split("\0")
    return LaunchError(step, name, path, message)


def _become(prepared: Prepared, place: Place, report: int) -> NoReturn:
    """Become the program, or tell on `report` why not. Runs in the child and never returns."""
    targets = len(prepared.fds)
    try:
        try:
            report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, targets)
            _prepare_child(prepared, place)
        except LaunchFailed as refused:
            error = refused.error
        except Exception as fault:
            # Whatever it is: a child that says nothing would be taken for a program that runs.
            error = failed("launch", fault if isinstance(fault, OSError) else str(fault)).error
        else:
            error = _execute(prepared)
        words = (error.step, error.errno, error.path, error.message)
        text = "\0".join(word.replace("\0", " ")[:2000] for word in words)
        os.write(report, text.encode(errors="surrogateescape"))
    finally:
        os._exit(127)


def _execute(prepared: Prepared) -> LaunchError:
    try:
        os.execve(prepared.program, prepared.launch.argv, prepared.env)
    except OSError as error:
        return exec_failed(error, prepared.program).error
    except ValueError as error:
        return failed("exec", str(error), prepared.program).error


def _prepare_child(prepared: Prepared, place: Place) -> None:
    launch, user = prepared.launch, prepared.user
    os.setsid()
    _take_descriptors(prepared.fds)
    if "LISTEN_FDS" in prepared.env:
        prepared.env["LISTEN_PID"] = str(os.getpid())
    os.umask(place.umask if launch.umask is None else launch.umask)
    _take_priorities(launch, place)
    _take_limits(launch, place)
    if user.changes:
        _take_user(user)
    if launch.working_dir is not None:
        # As the user who will work there: never in a folder that it could not enter itself.
        try:
            os.chdir(launch.working_dir)
        except OSError as error:
            raise failed("chdir", error, launch.working_dir) from None
    signal.set_wakeup_fd(-1)
    for number in _SETTABLE:
        if signal.getsignal(number) is not signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _take_descriptors(fds: Sequence[int]) -> None:
    """Bring descriptors to 0, 1, 2 and on; moved up first, so that no target hits a source."""
    try:
        moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, len(fds)) for fd in fds]
        for target, fd in enumerate(moved):
            os.dup2(fd, target)
    except OSError as error:
        raise failed("sockets", error) from None


def _take_priorities(launch: Launch, place: Place) -> None:
    try:
        given = place.oom_score_adj if launch.oom_score_adj is None else launch.oom_score_adj
        if given is not None:
            fd = os.open(OOM_FILE, os.O_WRONLY | os.O_CLOEXEC)
            os.write(fd, b"%d" % given)
    except OSError as error:
        raise failed("oom_score_adj", error) from None
    try:
        if launch.nice is not None:
            os.setpriority(os.PRIO_PROCESS, 0, launch.nice)
    except OSError as error:
        raise failed("nice", error, str(launch.nice)) from None
    try:
        if launch.cpu_affinity is not None:
            os.sched_setaffinity(0, launch.cpu_affinity)
    except OSError as error:
        text = ",".join(map(str, launch.cpu_affinity or ()))
        raise failed("affinity", error, text, "none of these processors is usable here") from None


def _take_limits(launch: Launch, place: Place) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    dumped = resource.getrlimit(resource.RLIMIT_CORE)[1]
    given = {
        "nofile": (lower(place.files[0], hard), lower(place.files[1], hard)),
        "core": (lower(place.core, dumped), dumped),
        **launch.limits,
    }
    for name, pair in given.items():
        soft, hard = (resource.RLIM_INFINITY if each is None else each for each in pair)
        try:
            resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (soft, hard))
        except AttributeError:
            raise failed("limits", f"unknown limit {name!r}", name) from None
        except (OSError, ValueError, OverflowError) as error:
            fault = error if isinstance(error, OSError) else PermissionError(errno.EPERM, "")
            raise failed("limits", fault, name, f"{name}: {error}") from None


def _take_user(user: User) -> None:
    try:
        if user.name:
            os.initgroups(user.name, user.gid)
        else:
            os.setgroups([user.gid])
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    except OSError as error:
        said = f"cannot become {user.name or user.uid}: {os.strerror(error.errno or 0).lower()}"
        raise failed("user", error, user.name or str(user.uid), said) from None


# ---- why a program could not be executed ---------------------------------------------------------


def exec_failed(error: OSError, program: str) -> LaunchFailed:
    """Return what to raise when exec failed: a script whose interpreter is missing is said so."""
    if error.errno in {errno.ENOENT, errno.EACCES} and (interpreter := _interpreter(program)):
        what = "does not exist" if error.errno == errno.ENOENT else "cannot be executed"
        if error.errno == errno.ENOENT or os.access(program, os.X_OK):
            return failed("exec", error, program, f"its interpreter {interpreter} {what}")
    if error.errno == errno.ENOEXEC:
        return failed("exec", error, program, "not a program; does its first line lack #!")
    return failed("exec", error, program)


def _interpreter(program: str) -> str:
    try:
        fd = os.open(program, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        line = os.read(fd, 256).partition(b"\n")[0]
    except OSError:
        return ""
    finally:
        os.close(fd)
    words = line.removeprefix(b"#!").split()
    # Any bytes may stand there, and only text can be told.
    return words[0].decode(errors="backslashreplace") if line.startswith(b"#!") and words else ""
