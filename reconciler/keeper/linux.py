"""The real kernel: epoll, signals, reaping, and the controller's link.

The keeper sleeps in epoll without a timeout unless something is due, so an idle one never wakes.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import resource
import select
import selectors
import signal
import socket
import struct
import time
from typing import TYPE_CHECKING, Final, Literal

from reconciler.keeper.cgroups import find as find_groups
from reconciler.keeper.kernel import (
    Called,
    Child,
    ChildrenDied,
    Died,
    Executed,
    Happening,
    Identity,
    LaunchFailed,
    LinkReadable,
    Told,
)
from reconciler.keeper.logs import Logs
from reconciler.keeper.notify import NOT_FOR_CHILDREN, Notifier
from reconciler.keeper.sockets import Listener
from reconciler.keeper.spawning import (
    Forked,
    Place,
    Prepared,
    User,
    environment,
    failed,
    find_program,
    find_user,
    fork,
    needs_fork,
    read_report,
    spawn_plainly,
)
from reconciler.model.event import LogRotated
from reconciler.model.process import Exit, Launch, LaunchError, ProcessId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from reconciler.keeper.cgroups import Groups
    from reconciler.keeper.config import KeeperConfig
    from reconciler.keeper.kernel import HeldSocket
    from reconciler.model.event import LogChanged
    from reconciler.model.socket import SocketTemplate

READ_BYTES: Final = 256 * 1024
LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
LINK_FD: Final = 3
CONTROL_FD: Final = 4
_FREE_FD: Final = 10
_PR_SET_CHILD_SUBREAPER: Final = 36
_SIOCOUTQ: Final = 0x5411
_ENDING: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})
"""After these a stopped process is woken: it could not notice otherwise."""
_MARKER: Final = b"RECONCILE_ID="


class LinuxKernel:
    """Does to this machine what the keeper says, and finds out what it asks."""

    def __init__(self, config: KeeperConfig, control: socket.socket) -> None:
        self._config = config
        self._control = control
        self._link: socket.socket | None = None
        self._selector = selectors.EpollSelector()
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        # Kept open: a keeper that runs out of descriptors shall still see whom it has to care for.
        pid = os.getpid()
        self._children = os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)
        self.notifier = Notifier(os.environ)
        self._awaits_call = False
        self._happened: list[Happening] = []
        self._died = True
        self._launching: dict[int, Forked] = {}
        self._failed: dict[int, LaunchError] = {}
        self._level = LEVELS.get(config.log_level, 20)
        become_subreaper()
        files = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files[1], files[1]))
        self._place = Place(config.name, dict(os.environ), config.umask, files)
        self._logs = Logs(config.fifo_dir, self._watch, self._ignore, time.time)  # noqa: TID251  (stamps are for people)
        self._groups = self._find_groups()
        self._grouped: dict[int, str] = {}
        self._listen_to_signals()

    @property
    def containment(self) -> Literal["cgroup", "session"]:
        """How a process's tree is held together."""
        return "session" if self._groups is None else "cgroup"

    def _find_groups(self) -> Groups | None:
        try:
            return find_groups(self._config.cgroup)
        except OSError as error:
            cause = os.strerror(error.errno or 0).lower()
            self.log("warning", "cannot use control groups", cause=cause, path=error.filename)
            return None

    # ---- waiting ---------------------------------------------------------------------------------

    def now_ns(self) -> int:
        """Return the monotonic time."""
        return time.monotonic_ns()

    def wait(self, due_ns: int | None) -> None:
        """Sleep until something is ready or due, and let output flow."""
        timeout = None if due_ns is None else max(due_ns - time.monotonic_ns(), 0) / 1e9
        if self._happened or self._died:
            timeout = 0.0
        for key, _ in self._selector.select(timeout):
            ready: Callable[[], None] = key.data
            ready()

    def happenings(self) -> Iterable[Happening]:
        """Return what has happened since asked last, children's deaths last."""
        happened, self._happened = self._happened, []
        if self._died:
            self._died = False
            happened.append(ChildrenDied())
        return happened

    def _watch(self, fd: int, ready: Callable[[], None]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, ready)

    def _ignore(self, fd: int) -> None:
        self._selector.unregister(fd)

    def _listen_to_signals(self) -> None:
        wake, wake_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

        def drain() -> None:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)

        # The handlers say what came, the pipe only ends the sleep: it may overflow without loss.
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        self._watch(wake, drain)
        meanings = {
            signal.SIGTERM: Told("stop"),
            signal.SIGINT: Told("stop"),
            signal.SIGHUP: Told(self._config.hup),
            signal.SIGQUIT: Told("stop_now"),
        }

        def note(number: int, _frame: object) -> None:
            if number == signal.SIGCHLD:
                self._died = True
            else:
                self._happened.append(meanings[signal.Signals(number)])

        for number in (signal.SIGCHLD, *meanings):
            signal.signal(number, note)
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)

    # ---- processes -------------------------------------------------------------------------------

    def marker(self, id: ProcessId, incarnation: int) -> str:
        """Return what RECONCILE_ID is in the environment of this incarnation."""
        return f"{self._config.name}/{id}/{incarnation}"

    def spawn(
        self,
        id: ProcessId,
        incarnation: int,
        launch: Launch,
        sockets: Mapping[str, HeldSocket],
    ) -> Child:
        """Make a process, with its own session. Raises `LaunchFailed`."""
        user = find_user(launch)
        env = environment(self._place, id, self.marker(id, incarnation), launch, user)
        program = find_program(launch, env)
        try:
            streams = self._logs.open(id, launch.stdout, launch.stderr, user.uid, user.gid)
        except OSError as error:
            raise failed("output", error, str(error.filename or "")) from None
        except ValueError as error:
            raise failed("output", str(error)) from None
        named = launch.sockets
        stdin = self._null if launch.stdin_socket is None else _fd(sockets[launch.stdin_socket])
        fds = (stdin, streams.stdout_fd, streams.stderr_fd, *(_fd(sockets[n]) for n in named))
        prepared = Prepared(launch, program, env, user, fds)
        try:
            is_grouped = self._groups is not None and launch.scope == "tree"
            if not is_grouped and not needs_fork(launch, user):
                return Child(spawn_plainly(prepared, self._place), executed=True, output=streams)
            marker = self.marker(id, incarnation)
            forked = (
                self._fork_grouped(prepared, marker) if is_grouped else fork(prepared, self._place)
            )
            self._await_report(forked)
            return Child(forked.pid, executed=False, output=streams)
        except LaunchFailed:
            streams.close()
            raise
        finally:
            streams.close_worker_ends()

    def _fork_grouped(self, prepared: Prepared, marker: str) -> Forked:
        assert self._groups is not None
        try:
            group = self._groups.open(marker)
        except OSError as error:
            raise failed("cgroup", error, self._groups.folder) from None
        try:
            forked = fork(prepared, self._place, group)
        except LaunchFailed:
            self._groups.leave(marker)
            self._groups.sweep()
            raise
        finally:
            os.close(group)
        self._grouped[forked.pid] = marker
        return forked

    def _await_report(self, forked: Forked) -> None:
        try:
            self._watch(forked.report, lambda: self._hear_report(forked))
        except OSError as error:  # no memory for epoll: nobody would hear whether it runs
            os.kill(forked.pid, signal.SIGKILL)
            os.close(forked.report)
            raise failed("fork", error) from None
        self._launching[forked.pid] = forked

    def _hear_report(self, forked: Forked) -> None:
        error = read_report(forked)
        self._ignore(forked.report)
        os.close(forked.report)
        del self._launching[forked.pid]
        if error is None:
            self._happened.append(Executed(forked.pid))
        else:
            self._failed[forked.pid] = error

    def reap(self) -> Died | None:
        """Return one child that has died, and forget it; None when no dead one is left."""
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == 0:
            return None
        forked = self._launching.get(pid)
        if forked is not None:
            self._hear_report(forked)
        error = self._failed.pop(pid, None)
        if self._groups is not None:
            if marker := self._grouped.pop(pid, ""):
                self._groups.leave(marker)
            self._groups.sweep()
        cpu_ns = int((usage.ru_utime + usage.ru_stime) * 1e9)
        # Not below the keeper's own size: exec counts the memory that the child left behind.
        return Died(pid, _exit(status, error), cpu_ns, usage.ru_maxrss * 1024)

    def children(self) -> list[int]:
        """Return the pids of all children, adopted ones included; they stay theirs until reaped."""
        data = b""
        while part := os.pread(self._children, READ_BYTES, len(data)):
            data += part
        return [int(word) for word in data.split()]

    def identify(self, pid: int) -> Identity | None:
        """Return whose a child is, None when it is gone."""
        held = self._groups.marker_of(pid) if self._groups is not None else ""
        marker = held or _marker(pid)
        try:
            return Identity(os.getpgid(pid), os.getsid(pid), marker)
        except ProcessLookupError:
            return None

    # ---- signals ---------------------------------------------------------------------------------

    def signal(self, pid: int, signal: str) -> None:
        """Signal an unreaped child; one that is dead already does not mind."""
        self._send_signal(signal, lambda number: os.kill(pid, number))

    def signal_group(self, pid: int, signal: str) -> None:
        """Signal the group of which an unreaped child is the leader."""
        # One that was forked just now may not have its own session yet.
        send = os.killpg if os.getpgid(pid) == pid else os.kill
        self._send_signal(signal, lambda number: send(pid, number))

    def signal_tree(self, group: int, roots: Iterable[int], signal: str) -> None:
        """Signal these unreaped children and all below them, each once; those in `group` as a group."""
        roots = list(roots)
        # All are found before the first is hit: what loses its parent is found under it no more.
        below = _descendants(roots)
        if signal == "KILL" and self._groups is not None:
            for pid in roots:
                self._groups.kill(pid)
        members = [pid for pid in roots if _group(pid) == group]
        if members:
            self.signal_group(group, signal) if group in members else self._send_signal(
                signal, lambda number: os.killpg(group, number)
            )
        for pid in roots:
            # One that left the group between the look and the signal has got none.
            if pid not in members or _group(pid) != group:
                self.signal(pid, signal)
        for pid, parent in below:
            if not (members and _group(pid) == group):
                self._signal_below(pid, parent, signal)

    def _signal_below(self, pid: int, parent: int, signal_name: str) -> None:
        """Signal a process that is no child of ours, if it still is the one that was found."""
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            return
        try:
            if _parent(pid) == parent:
                self._send_signal(signal_name, lambda n: signal.pidfd_send_signal(handle, n))
        finally:
            os.close(handle)

    def _send_signal(self, name: str, send: Callable[[int], None]) -> None:
        number = signal_number(name)
        if number is None:
            self.log("error", "cannot send an unknown signal", signal=name)
            return
        # Gone, or a set-user-id program of an ordinary user's tree: nothing more can be done.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            send(number)
            if number in _ENDING:
                send(signal.SIGCONT)

    # ---- sockets and logs ------------------------------------------------------------------------

    def bind(self, template: SocketTemplate) -> HeldSocket:
        """Bind a socket. Raises `BindFailed`."""
        return Listener(template, self._config.umask)

    def take_log_news(self) -> list[LogRotated | LogChanged]:
        """Return which log files were rotated and are to be compressed, or changed, since asked last."""
        return [*map(LogRotated, self._logs.take_rotated()), *self._logs.take_changes()]

    def troubled_logs(self) -> list[LogChanged]:
        """Return the log files that cannot be written just now."""
        return self._logs.troubles()

    def notify(self, text: str) -> None:
        """Tell this to whoever started the manager, if they listen; never waits, and may be lost."""
        self.notifier.send(text)

    def log(
        self, level: Literal["debug", "info", "warning", "error"], message: str, **pairs: object
    ) -> None:
        """Write a line to the keeper's own log, unless nobody takes it just now."""
        if LEVELS[level] < self._level:
            return
        shown = "".join(f" {key}={json.dumps(str(value))}" for key, value in pairs.items())
        wall = time.time_ns()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(wall // 10**9))
        line = f"{stamp}.{wall % 10**9 // 1000:06d}Z {level} keeper: {message}{shown}\n"
        writable = select.poll()
        writable.register(2, select.POLLOUT)
        with contextlib.suppress(OSError):
            if any(events & select.POLLOUT for _, events in writable.poll(0)):
                os.write(2, line.encode(errors="backslashreplace"))

    # ---- the controller --------------------------------------------------------------------------

    def start_controller(self, *, last_good: bool) -> int:
        """Start the controller on a new link and return its pid. Raises `LaunchFailed`."""
        config = self._config
        argv = (*config.controller_argv, *(("--last-good",) if last_good else ()))
        env = {name: text for name, text in os.environ.items() if name not in NOT_FOR_CHILDREN}
        env["RECONCILE_LINK_FD"] = str(LINK_FD)
        env["RECONCILE_CONTROL_FD"] = str(CONTROL_FD)
        with contextlib.ExitStack() as stack, contextlib.ExitStack() as undo:
            try:
                ours, theirs = socket.socketpair()
                stack.enter_context(theirs)
                undo.enter_context(ours)
                ours.setblocking(False)
                self._watch(ours.fileno(), self._link_ready)
                undo.callback(self._ignore, ours.fileno())
                fds = [self._null, 1, 2]
                for source in (theirs, self._control):
                    fds.append(fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, _FREE_FD))
                    stack.callback(os.close, fds[-1])
            except OSError as error:
                raise failed("fork", error) from None
            user = User(os.geteuid(), os.getegid(), "", "/", changes=False)
            prepared = Prepared(Launch(argv), argv[0], env, user, tuple(fds))
            pid = spawn_plainly(prepared, self._place)
            undo.pop_all()
        self._link = ours
        return pid

    def _link_ready(self) -> None:
        self._happened.append(LinkReadable())

    def _link_writable(self) -> None:
        assert self._link is not None
        self._selector.modify(self._link, selectors.EVENT_READ, self._link_ready)
        self._link_ready()

    def receive(self) -> bytes | None:
        """Return bytes of the link, b"" when the other end is closed, None when nothing is there."""
        assert self._link is not None
        try:
            return self._link.recv(READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def send(self, data: bytes) -> int:
        """Send on the link and return how many bytes it took; `happenings` wakes when it takes more."""
        assert self._link is not None
        both = selectors.EVENT_READ | selectors.EVENT_WRITE
        try:
            sent = self._link.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return len(data)  # hung up: its death follows
        if sent < len(data):
            self._selector.modify(self._link, both, self._link_writable)
        return sent

    def unread(self) -> bool:
        """Tell whether something that was sent has not been read (SIOCOUTQ, unix(7))."""
        if self._link is None:
            return False
        answer = fcntl.ioctl(self._link, _SIOCOUTQ, struct.pack("i", 0))
        return bool(struct.unpack("i", answer)[0])

    def await_call(self) -> None:
        """Tell with `Called`, once, when the next client calls."""
        if not self._awaits_call:
            self._awaits_call = True
            self._watch(self._control.fileno(), self._called)

    def _called(self) -> None:
        # Level-triggered: it would wake us again and again until the controller has let the client in.
        self._ignore_calls()
        self._happened.append(Called())

    def _ignore_calls(self) -> None:
        if self._awaits_call:
            self._awaits_call = False
            self._ignore(self._control.fileno())

    def is_called(self) -> bool:
        """Tell whether a client waits that the controller has not let in."""
        return bool(select.select([self._control], [], [], 0)[0])

    def close_link(self) -> None:
        """Close our end of the link."""
        if self._link is not None:
            self._ignore(self._link.fileno())
            self._link.close()
            self._link = None

    def close_control(self) -> None:
        """Close the control socket and remove its file."""
        with contextlib.suppress(OSError):
            os.unlink(self._config.control_socket)
        self._ignore_calls()
        self._control.close()


# ---- asking the kernel ---------------------------------------------------------------------------


def become_subreaper() -> None:
    """Let orphans of our children become our children (prctl(2), Linux 3.4)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become a subreaper")


def boot_id() -> str:
    """Return what tells this boot of the machine from all others; empty where it is not told."""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()
    return ""


def signal_number(name: str) -> int | None:
    """Return the number of a signal's name without SIG; None when this system has none of that name."""
    base, sign, offset = name[:5], name[5:6], name[6:]
    if base in {"RTMIN", "RTMAX"} and offset.isdigit():
        number = signal.Signals[f"SIG{base}"] + int(sign + offset)
        return number if number in signal.valid_signals() else None
    try:
        return int(signal.Signals[f"SIG{name}"])
    except KeyError:
        return None


def signal_name(number: int) -> str:
    """Return the name of a signal without SIG."""
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return f"RTMIN+{number - signal.SIGRTMIN}"


def _exit(status: int, error: LaunchError | None) -> Exit:
    if error is not None:
        return Exit(error=error)
    if os.WIFSIGNALED(status):
        return Exit(signal=signal_name(os.WTERMSIG(status)), core=os.WCOREDUMP(status))
    return Exit(code=os.WEXITSTATUS(status))


def _fd(held: HeldSocket) -> int:
    assert isinstance(held, Listener)
    return held.fileno()


def _children(pid: int, tid: int) -> list[int]:
    """Return the children of one thread (proc(5), needs CONFIG_PROC_CHILDREN; none without)."""
    try:
        with open(f"/proc/{pid}/task/{tid}/children", "rb", buffering=0) as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def _descendants(roots: Iterable[int]) -> list[tuple[int, int]]:
    """Return all below these processes, each with its parent."""
    found: list[tuple[int, int]] = []
    queue = list(roots)
    seen = set(queue)
    for parent in queue:
        try:
            threads = os.listdir(f"/proc/{parent}/task")
        except OSError:
            continue
        for pid in [pid for tid in threads for pid in _children(parent, int(tid))]:
            if pid not in seen:
                seen.add(pid)
                found.append((pid, parent))
                queue.append(pid)
    return found


def _marker(pid: int) -> str | None:
    """Return what RECONCILE_ID is in a process's environment, None when that cannot be told just now."""
    entries: list[bytes] = []
    # A second look at an empty one: it may have been that of the program that just ended by an exec.
    for _ in range(2):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                entries = file.read().split(b"\0")
        except OSError as error:
            return None if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM} else ""
        if entries != [b""]:
            break
        if _is_between_programs(pid):
            return None
    found = [each.removeprefix(_MARKER) for each in entries if each.startswith(_MARKER)]
    return found[-1].decode(errors="replace") if found else ""


def _is_between_programs(pid: int) -> bool:
    """Tell whether a process is in the middle of an exec: its new memory has no environment yet (proc(5), env_end)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            words = file.read().rpartition(b")")[2].split()
    except OSError:
        return False
    return words[0] not in {b"Z", b"X"} and words[48] == b"0"


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return -1


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return -1


def stand_on_own_descriptors() -> None:
    """Open 0, 1 and 2 where they are closed, and let no other descriptor reach a child."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):
                os.set_inheritable(int(name), False)
