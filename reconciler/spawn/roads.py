"""From a launch to a process, by one of two roads; what fails before the program runs is told exactly.

posix_spawn runs no Python in the child, so it is taken whenever nothing needs code there. Nothing else is at
work in the keeper meanwhile, so it may put on the child's umask, folder and limit of files for the time of the call.
fork is for what only the child itself can do (LISTEN_PID, another user, limits, priorities), for a control
group, in which a child must be born, and where a file system is mounted that may keep who looks for folder
and program waiting: posix_spawn returns only when the program runs. The child tells a failure on a pipe that
closes when the program is executed, so nobody waits for it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import signal
import stat
from typing import TYPE_CHECKING, Final, NoReturn

from reconciler.model.process import FileInput, Launch, LaunchError, ProcessId
from reconciler.model.units import MICROSECOND_NS
from reconciler.model.value import Struct, replace
from reconciler.spawn.accounts import User, find_user, own_name
from reconciler.spawn.environment import Place, environment, programs_of, search_path
from reconciler.spawn.launch_errors import (
    LaunchFailed,
    exec_failed,
    failed,
    fork_failed,
    step,
    words_of,
)
from reconciler.spawn.standard_input import open_input
from reconciler.system.cgroups import fork_into

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from reconciler.system.cgroups import Groups


_MOST: Final = (50, 50, 2000, 2000, 100, 3000)
"""How much is told of each part of an error: all fits into the smallest pipe."""
_NOT_HERE: Final = frozenset(
    (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ESTALE, errno.ENODEV, errno.ETIMEDOUT)
)
"""After these execvp(3) goes on with the next folder of PATH."""
OOM_FILE: Final = "/proc/self/oom_score_adj"
KEEPER_OOM_SCORE_ADJ: Final = -1000
_SETTABLE: Final = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class Order(Struct, frozen=True):
    """A process to be made. `fds` become 0, 1, 2, then the sockets; `own` is whom the keeper runs as."""

    id: ProcessId
    marker: str
    launch: Launch
    fds: tuple[int, ...]
    own: User
    notify_socket: str = ""
    """Where it may say how it is; empty: nowhere."""


class Prepared(Struct, frozen=True):
    """An order with nothing left to look up but the program.

    The first of `programs` that can be executed is: only who executes it knows which that is.
    """

    launch: Launch
    programs: tuple[str, ...]
    env: dict[str, str]
    user: User
    fds: tuple[int, ...]


class Forked(Struct, frozen=True):
    """A child on its way to its program; `report` closes when it is there or tells why it is not."""

    pid: int
    report: int


# ---- before the process exists -------------------------------------------------------------------


def prepare(order: Order, place: Place) -> Prepared:
    """Return an order with all that has to be looked up for it. Raises `LaunchFailed`."""
    launch = order.launch
    is_own = launch.user is None and launch.group is None
    user = order.own if is_own else find_user(launch)
    env = environment(place, order.id, order.marker, launch, user)
    if order.notify_socket:
        env["NOTIFY_SOCKET"] = order.notify_socket
        if launch.watchdog_ns is not None:
            env["WATCHDOG_USEC"] = str(launch.watchdog_ns // MICROSECOND_NS)
    return Prepared(launch, programs_of(launch, env), env, user, order.fds)


def _first(prepared: Prepared, attempt: Callable[[str], int]) -> int:
    """Return what the first program says that can be executed. Raises `LaunchFailed`.

    As execvp(3): one that may not be executed is the reason only when no other is found.
    """
    refused: LaunchFailed | None = None
    for program in prepared.programs:
        try:
            if len(prepared.programs) > 1:
                os.stat(program)
            return attempt(program)
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise exec_failed(error, program) from None
            if refused is None and (error.errno == errno.EACCES or os.path.lexists(program)):
                refused = exec_failed(error, program)
        except (ValueError, OverflowError) as error:
            raise failed("exec", str(error), program) from None
    if refused is None:
        refused = exec_failed(FileNotFoundError(errno.ENOENT, ""), prepared.launch.argv[0])
    raise refused


def _told(error: LaunchError, prepared: Prepared) -> LaunchError:
    """Return an error with as whom it was tried, and in which PATH."""
    if error.step in {"exec", "chdir", "stdin"} and prepared.user.changes:
        error = replace(error, user=str(prepared.user))
    if error.step == "exec" and error.errno == "ENOENT" and "/" not in error.path:
        error = replace(error, searched=search_path(prepared.env))
    return error


def needs_fork(launch: Launch) -> bool:
    """Tell whether something must be done that only code in the child can do."""
    settings = (launch.nice, launch.cpu_affinity, launch.oom_score_adj, launch.user, launch.group)
    is_told_its_pid = launch.sockets or launch.watchdog_ns is not None
    is_there = is_told_its_pid or launch.limits or isinstance(launch.stdin, FileInput)
    return bool(is_there) or settings != (None,) * len(settings)


# ---- road one: posix_spawn -----------------------------------------------------------------------


def spawn_plainly(prepared: Prepared, place: Place) -> int:
    """Start the program and return its pid; it runs when this returns. Raises `LaunchFailed`."""
    launch = prepared.launch
    actions = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(prepared.fds)]

    def spawn(program: str) -> int:
        try:
            return os.posix_spawn(
                program,
                launch.argv,
                prepared.env,
                file_actions=actions,
                setsid=True,
                setsigmask=[],
                setsigdef=_SETTABLE,
            )
        except OSError as error:
            if error.errno in {errno.EAGAIN, errno.ENOMEM}:
                raise fork_failed(error) from None
            raise

    try:
        with step("exec", launch.argv[0]), _put_on(launch, place):
            return _first(prepared, spawn)
    except LaunchFailed as refused:
        raise LaunchFailed(_told(refused.error, prepared)) from None


@contextlib.contextmanager
def _put_on(launch: Launch, place: Place) -> Iterator[None]:
    """Wear the child's umask, folder and limits of open files and core files for the time of the call."""
    # Whatever step fails, those before it are undone: the keeper must not go on in a child's clothes.
    with contextlib.ExitStack() as undo:
        undo.callback(os.umask, os.umask(place.umask if launch.umask is None else launch.umask))
        if launch.working_dir is not None:
            with step("chdir", launch.working_dir):
                back = os.open(".", os.O_PATH | os.O_DIRECTORY)
                undo.callback(os.close, back)
                undo.callback(os.fchdir, back)
                os.chdir(launch.working_dir)
        # Somebody may have lowered our own limit meanwhile.
        _wear(undo, resource.RLIMIT_NOFILE, place.files[0])
        _wear(undo, resource.RLIMIT_CORE, place.core)
        if place.oom_score_adj is not None:
            given = place.oom_score_adj if launch.oom_score_adj is None else launch.oom_score_adj
            undo.callback(_take_back_oom_score, place.oom_fd)
            with step("oom_score_adj"):
                os.pwrite(place.oom_fd, b"%d" % given, 0)
        yield


def _wear(undo: contextlib.ExitStack, limit: int, soft: int) -> None:
    before = resource.getrlimit(limit)
    undo.callback(resource.setrlimit, limit, before)
    resource.setrlimit(limit, (lower(soft, before[1]), before[1]))


def _take_back_oom_score(fd: int) -> None:
    with contextlib.suppress(OSError):  # the right to lower it may be lost
        os.pwrite(fd, b"%d" % KEEPER_OOM_SCORE_ADJ, 0)


def lower(one: int, other: int) -> int:
    """Return the lower of two limits as getrlimit(2) gives them."""
    finite = [each for each in (one, other) if each != resource.RLIM_INFINITY]
    return min(finite, default=resource.RLIM_INFINITY)


# ---- road two: fork ------------------------------------------------------------------------------


def fork_in(groups: Groups, order: Order, place: Place) -> Forked:
    """Start a child as `fork` does, in a control group of its own. Raises `LaunchFailed`."""
    with step("cgroup", groups.folder):
        group = groups.open(order.marker, order.launch.group_limits)
    try:
        forked = fork(order, place, group)
    except LaunchFailed:
        groups.leave(order.marker)
        groups.clean_up()
        raise
    finally:
        os.close(group)
    groups.look_after(forked.pid, order.marker)
    return forked


def fork(order: Order, place: Place, group: int | None = None) -> Forked:
    """Start a child, in a control group if one is given, that finds its own way to the program.

    Raises `LaunchFailed`.
    """
    with step("fork"):
        report, report_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    # A signal in the child before its handlers are gone would wake the keeper by their shared pipe.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork() if group is None else fork_into(group)
    except OSError as error:
        os.close(report)
        raise fork_failed(error) from None
    else:
        if pid == 0:
            _become(order, place, report_end)
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
    return LaunchError(*told.decode(errors="surrogateescape").split("\0"))


def _become(order: Order, place: Place, report: int) -> NoReturn:
    """Become the program, or tell on `report` why not. Runs in the child and never returns."""
    try:
        try:
            report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, len(order.fds))
            # Accounts are looked up here: one that asks the network makes nobody wait but its own process.
            error = _run(prepare(order, place), place, prepare_child)
        except LaunchFailed as refused:
            error = refused.error
        except Exception as fault:
            # Whatever it is: a child that says nothing would be taken for a program that runs.
            error = failed("launch", fault if isinstance(fault, OSError) else str(fault)).error
        words = (error.step, error.errno, error.path, error.message, error.user, error.searched)
        told = (word.replace("\0", " ")[:most] for word, most in zip(words, _MOST, strict=True))
        os.write(report, "\0".join(told).encode(errors="surrogateescape"))
    finally:
        os._exit(127)


def become(prepared: Prepared, place: Place) -> LaunchError:
    """Become the program in this very process, with its terminal and descriptors; return why that is impossible.

    What was taken on before that stays so: nothing is left to do then but to say it.
    """
    return _run(prepared, place, _take_on)


def _run(
    prepared: Prepared, place: Place, get_ready: Callable[[Prepared, Place], None]
) -> LaunchError:
    """Become the program once everything is ready, or return why that is impossible."""

    def execute(program: str) -> NoReturn:
        os.execve(program, prepared.launch.argv, prepared.env)

    try:
        get_ready(prepared, place)
        _first(prepared, execute)
    except LaunchFailed as refused:
        return _told(refused.error, prepared)
    raise AssertionError  # an exec that returns has raised


def prepare_child(prepared: Prepared, place: Place) -> None:
    """Become what a child is before its program begins: its own session, descriptors, user, limits, folder, signals."""
    launch, user = prepared.launch, prepared.user
    if os.getsid(0) != os.getpid():
        os.setsid()
    _take_descriptors(prepared.fds)
    if "LISTEN_FDS" in prepared.env:
        prepared.env["LISTEN_PID"] = str(os.getpid())
    if launch.watchdog_ns is not None:
        prepared.env["WATCHDOG_PID"] = str(os.getpid())
    if user.changes:
        _give_streams(user)
    _take_on(prepared, place)


def _take_on(prepared: Prepared, place: Place) -> None:
    """Take on all that a process is besides its program and its descriptors."""
    launch, user = prepared.launch, prepared.user
    os.umask(place.umask if launch.umask is None else launch.umask)
    _take_priorities(launch, place)
    _take_limits(launch, place)
    if user.changes:
        take_user(user)
    if launch.working_dir is not None:
        # As the user who will work there: never in a folder that it could not enter itself.
        with step("chdir", launch.working_dir):
            os.chdir(launch.working_dir)
    open_input(launch)
    signal.set_wakeup_fd(-1)
    for number in _SETTABLE:
        if signal.getsignal(number) is not signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _take_descriptors(fds: Sequence[int]) -> None:
    """Bring descriptors to 0, 1, 2 and on; moved up first, so that no target hits a source."""
    with step("sockets"):
        moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, len(fds)) for fd in fds]
        for target, fd in enumerate(moved):
            os.dup2(fd, target)


def _take_priorities(launch: Launch, place: Place) -> None:
    given = place.oom_score_adj if launch.oom_score_adj is None else launch.oom_score_adj
    if given is not None:
        with step("oom_score_adj"):
            fd = os.open(OOM_FILE, os.O_WRONLY | os.O_CLOEXEC)
            os.write(fd, b"%d" % given)
    if launch.nice is not None:
        with step("nice", str(launch.nice)):
            os.setpriority(os.PRIO_PROCESS, 0, launch.nice)
    if launch.cpu_affinity is not None:
        text = ",".join(map(str, launch.cpu_affinity))
        with step("affinity", text, "none of these processors is usable here"):
            os.sched_setaffinity(0, launch.cpu_affinity)


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
            why = "" if isinstance(error, OSError) else str(error)
            raise failed("limits", fault, name, why) from None


def _give_streams(user: User) -> None:
    """Let the user reopen its streams, by /dev/stdout. Who may not give to it cannot become it either."""
    for fd in (0, 1, 2):
        if os.isatty(fd) if fd == 0 else stat.S_ISFIFO(os.fstat(fd).st_mode):
            try:
                os.fchown(fd, user.uid, user.gid)
            except OSError as error:
                if error.errno not in {errno.EPERM, errno.EINVAL}:
                    raise failed("output", error) from None


def take_user(user: User) -> None:
    """Become another user, for good. Raises `LaunchFailed`."""
    before = own_name()
    try:
        if user.name:
            os.initgroups(user.name, user.gid)
        else:
            os.setgroups([user.gid])
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    except OSError as error:
        number = error.errno or errno.EIO
        cause = words_of(number)
        if number == errno.EPERM:
            lacks = "the manager is root without CAP_SETUID and CAP_SETGID"
            cause = f"the manager runs as {before}" if os.geteuid() else lacks
        elif number == errno.EINVAL:
            cause = "this user namespace has no such number"
        said = f"cannot become user {user}: {cause}"
        raise failed("user", error, str(user), said) from None
