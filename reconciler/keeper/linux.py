"""The real kernel: epoll, signals, reaping, and the controller's link.

The keeper sleeps in epoll without a timeout unless something is due, so an idle one never wakes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import selectors
import signal
import socket
import struct
import time
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from reconciler.keeper import procfs
from reconciler.keeper.accounts import own_user
from reconciler.keeper.borders import Faults
from reconciler.keeper.calls import Calls
from reconciler.keeper.cgroups import find as find_groups
from reconciler.keeper.config import become_subreaper, take_limits
from reconciler.keeper.kernel import (
    Called,
    Child,
    ChildrenDied,
    ClientWaits,
    Died,
    Executed,
    FileTouched,
    Happening,
    LaunchFailed,
    LinkReadable,
    Told,
)
from reconciler.keeper.launch_errors import failed
from reconciler.keeper.listeners.clients import Clients
from reconciler.keeper.listeners.file_watch import FileWatch
from reconciler.keeper.listeners.sockets import LinuxSocket, bind, take_back
from reconciler.keeper.mounts import Mounts
from reconciler.keeper.notify import NOT_FOR_CHILDREN, Notifier
from reconciler.keeper.own_log import OwnLog
from reconciler.keeper.pidfds import Pidfds
from reconciler.keeper.signals import Signals
from reconciler.keeper.spawning import (
    Forked,
    Order,
    Place,
    Prepared,
    fork,
    needs_fork,
    prepare,
    read_report,
    spawn_plainly,
    take_oom_score,
)
from reconciler.keeper.succession.handover import Handover, replace_code
from reconciler.keeper.succession.journal import Journal
from reconciler.model.event import LogRotated
from reconciler.model.process import Exit, Launch, LaunchError, ProcessId
from reconciler.model.socket import AS_MADE
from reconciler.output.capture import Capture
from reconciler.output.coalescing import Coalescing
from reconciler.output.shortages import NOT_NOW
from reconciler.output.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

    from reconciler.keeper.borders import Border
    from reconciler.keeper.cgroups import Groups
    from reconciler.keeper.config import KeeperConfig, Legacy
    from reconciler.keeper.kernel import Adopted, BoundSocket, Identity, Recalled, Trace
    from reconciler.keeper.own_log import Level
    from reconciler.model.event import ControlRenewed, FaultCaught, LogChanged
    from reconciler.model.process import Reach, Sink
    from reconciler.model.socket import FileOwner, SocketTemplate
    from reconciler.output.capture import Streams

READ_BYTES: Final = 256 * 1024
LINK_FD: Final = 3
CONTROL_FD: Final = 4
_FREE_FD: Final = 10
_PAUSE_S: Final = 0.01
"""Without it a wait that fails again and again would take a whole processor."""
_SIOCOUTQ: Final = 0x5411
_SHORT: Final = NOT_NOW | {errno.ENOBUFS}
"""What says nothing of the other end of the link: the same is tried again."""


class LinuxKernel:
    """Does to this machine what the keeper says, and finds out what it asks."""

    def __init__(self, config: KeeperConfig, legacy: Legacy) -> None:
        self._config = config
        self._legacy = legacy
        self._own_log = OwnLog(config.log_level)
        self._faults = Faults(self.log)
        self._renewed: list[ControlRenewed] = []
        self._is_cut = False
        """The link was shut down, so that its controller ends."""
        self._journal = Journal(config.journal, legacy.owner, self._journal_told)
        self._link: socket.socket | None = None
        self._selector = selectors.EpollSelector()
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        # Kept open: a keeper that runs out of descriptors shall still see whom it has to care for.
        pid = os.getpid()
        self._children = os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)
        self.notifier = Notifier(os.environ)
        self._happened: list[Happening] = []
        self._died = True
        self._launching: dict[int, Forked] = {}
        self._failed: dict[int, LaunchError] = {}
        become_subreaper()
        handed = legacy.handover
        limits = (*take_limits(handed), *take_oom_score(handed))
        self._place = Place(config.name, dict(os.environ), config.umask, *limits)
        self._user = own_user()
        self._pidfds = Pidfds({} if handed is None else handed.pidfds)
        self._watch(self._pidfds.fileno(), self._look_at_adopted)
        self._coalescing = Coalescing(self._watch, self._ignore, self.border)
        watch, ignore = self._coalescing.watch, self._coalescing.ignore
        wall = time.time  # noqa: TID251  (stamps are for people)
        spool = Spool(config.spool, legacy.boot_id)
        self._output = Capture(config.fifo_dir, spool, watch, ignore, wall)
        self._groups = self._find_groups()
        if self._groups is not None:
            self._watch(self._groups.fileno(), self._groups.sweep)
        self._grouped: dict[int, str] = {}
        self._births = procfs.Births()
        self._mounts = Mounts()
        self._heirs = procfs.Heirs()
        self._calls = Calls(
            config, legacy.control, legacy.locks, self._watch, self._ignore, self._called
        )
        self._clients = Clients(self._watch, lambda name: self._happened.append(ClientWaits(name)))
        self._files = FileWatch(self._watch, self._file_touched)
        self._calls.watch(self._files)
        self._signals = Signals(self._pidfds, self._groups, self.log)
        if handed is not None:
            self._output.go_on(handed.outputs, handed.unsent)
        self._listen_to_signals()

    @property
    def containment(self) -> Literal["cgroup", "session"]:
        """How a process's tree is held together."""
        return "session" if self._groups is None else "cgroup"

    @property
    def is_init(self) -> bool:
        """Tell whether the keeper is PID 1, to which the orphans of strangers come, too."""
        return os.getpid() == 1

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
        own_dues = (self._journal.due_ns, self._pidfds.due_ns, self._calls.due_ns)
        own = [each for each in own_dues if each is not None]
        output_dues = (self._coalescing.due_ns, self._output.due_ns)
        dues = [each for each in (*own, due_ns, *output_dues) if each is not None]
        timeout = max(min(dues) - time.monotonic_ns(), 0) / 1e9 if dues else None
        if self._happened or self._died:
            timeout = 0.0
        rests = self._coalescing.due_ns is not None
        heard: list[tuple[selectors.SelectorKey, int]] = []
        with self.border("waiting for what happens") as border:
            heard = self._selector.select(timeout)
        if border.fault is not None:
            time.sleep(_PAUSE_S)
        for key, _ in heard:
            if self._selector.get_map().get(key.fd) is not key:
                continue  # closed by one before it in this round; the number may be another's by now
            ready: Callable[[], None] = key.data
            with self.border("hearing what has happened"):
                ready()
        if rests:  # one turn for output is enough
            with self.border("reading output"):
                self._coalescing.look()
        with self.border("giving pipes their usual size"):
            self._output.shrink()
        if own:
            with self.border("looking at adopted processes"):
                self._look_at_adopted()
            with self.border("opening the control socket again"):
                if (due := self._calls.due_ns) is not None and time.monotonic_ns() >= due:
                    self._renew_control()

    def happenings(self) -> Iterable[Happening]:
        """Return what has happened since asked last, children's deaths last."""
        happened, self._happened = self._happened, []
        if Told("reload") in happened:  # whoever misses the socket is told to send SIGHUP
            with self.border("opening the control socket again"):
                self._renew_control()
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
        if self._legacy.handover is not None:  # what came while the code was replaced is heard now
            signal.pthread_sigmask(signal.SIG_SETMASK, ())

    # ---- processes -------------------------------------------------------------------------------

    def marker(self, id: ProcessId, incarnation: int) -> str:
        """Return what RECONCILE_ID is in the environment of this incarnation; no other instance has it."""
        return f"{self._legacy.beginning}{id}/{incarnation}"

    def spawn(
        self,
        id: ProcessId,
        incarnation: int,
        launch: Launch,
        sockets: Mapping[str, BoundSocket],
    ) -> Child:
        """Make a process, with its own session. Raises `LaunchFailed`."""
        try:
            streams = self._output.open(id, launch.stdout, launch.stderr)
        except OSError as error:
            raise failed("output", error, str(error.filename or "")) from None
        except ValueError as error:
            raise failed("output", str(error)) from None
        named = launch.sockets
        stdin = self._null if launch.stdin_socket is None else _fd(sockets[launch.stdin_socket])
        fds = (stdin, streams.stdout_fd, streams.stderr_fd, *(_fd(sockets[n]) for n in named))
        order = Order(id, self.marker(id, incarnation), launch, fds, self._user)
        pid = 0
        try:
            is_grouped = self._groups is not None and launch.scope == "tree"
            self._births.expect()
            # On the plain road the keeper waits until the program runs; a fork of it waits for itself.
            if not (is_grouped or needs_fork(launch) or self._mounts.may_hang()):
                pid = spawn_plainly(prepare(order, self._place, self._user), self._place)
            else:
                pid = self._fork(order, is_grouped=is_grouped)
            former = self._pidfds.replaced(pid)
            executed = pid not in self._launching
            return Child(pid, executed, streams, self._births.of(pid), former)
        except Exception:
            if pid:  # nobody would know of it
                os.kill(pid, signal.SIGKILL)
            streams.close()
            raise
        finally:
            streams.close_worker_ends()

    def _fork(self, order: Order, *, is_grouped: bool) -> int:
        """Start a child by fork, in a control group of its own if there are any."""
        forked = self._fork_grouped(order) if is_grouped else fork(order, self._place)
        self._await_report(forked)
        return forked.pid

    def _fork_grouped(self, order: Order) -> Forked:
        assert self._groups is not None
        marker = order.marker
        try:
            group = self._groups.open(marker)
        except OSError as error:
            raise failed("cgroup", error, self._groups.folder) from None
        try:
            forked = fork(order, self._place, group)
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
        """Return one child or adopted process that has died, and forget it; None when none is left."""
        if (adopted := self._pidfds.take_dead()) is not None:
            self._leave_group(adopted.pid)
            return adopted
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
        self._leave_group(pid)
        cpu_ns = int((usage.ru_utime + usage.ru_stime) * 1e9)
        # Not below the keeper's own size: exec counts the memory that the child left behind.
        exit_ = procfs.exit_of(status) if error is None else Exit(error=error)
        return Died(pid, exit_, cpu_ns, usage.ru_maxrss * 1024)

    def _leave_group(self, pid: int) -> None:
        if self._groups is not None:
            if marker := self._grouped.pop(pid, ""):
                self._groups.leave(marker)
            self._groups.sweep()

    def children(self) -> set[int]:
        """Return the pids of all children; they stay theirs until `reap` tells them."""
        data = b""
        while part := os.pread(self._children, READ_BYTES, len(data)):
            data += part
        return {*map(int, data.split())}

    def has_forked(self, pid: int) -> bool:
        """Tell whether a process has, or has waited for, children of its own, so that it may have left orphans."""
        return procfs.has_forked(pid)

    def below(self, roots: Iterable[int]) -> Mapping[int, int]:
        """Return all that is below these processes, with when each was started."""
        return {pid: procfs.born(pid) for pid, _ in procfs.descendants(roots)}

    def identify(self, pid: int) -> Identity | None:
        """Return whose a process is, None when it is gone."""
        return procfs.identify(pid, self._marker_of)

    def _marker_of(self, pid: int) -> str | None:
        held = self._groups.marker_of(pid) if self._groups is not None else ""
        return held or procfs.marker(pid)

    # ---- after another keeper --------------------------------------------------------------------

    def note(self, name: str, value: object | None) -> None:
        """Note for the next keeper how something is now, None: it is gone; `write_down` makes it last."""
        self._journal.note(name, value)

    def write_down(self) -> None:
        """Write down what was noted. A disk that does not take it is tried again, and nothing waits."""
        self._journal.flush()

    def _journal_told(self, trouble: str | None) -> None:
        said = "what is started now is stopped if this keeper dies" if trouble else "goes on"
        self.log("error" if trouble else "info", f"journal: {said}", cause=trouble or "")

    def recall(self) -> Recalled:
        """Return what the former keeper wrote down."""
        return self._legacy.recalled

    def search(self, sessions: Container[int]) -> Mapping[int, Identity]:
        """Return living processes that have a marker of this instance or are in one of these sessions, by pid."""
        newcomers = self._heirs.newcomers()
        among = procfs.everyone() if newcomers is None else newcomers
        found = procfs.search(self._legacy.beginning, self._marker_of, sessions, among, self.border)
        if newcomers is None:
            self._heirs.look_at({p.parent for p in found.values()} - found.keys(), {*among})
        return found

    def adopt(self, pid: int, born: int) -> Adopted:
        """Care for a process as for a child; whoever has the pid of one that is gone is left alone."""
        if self._groups is not None and (marker := self._groups.marker_of(pid)):
            self._grouped[pid] = marker
        if procfs.parent(pid) == os.getpid():
            return "child" if procfs.born(pid) == born else "gone"
        if pid not in self._pidfds and not self._pidfds.add(pid, born):
            return "gone"
        self._heirs.look_at({procfs.parent(pid)})
        return "other"

    def _look_at_adopted(self) -> None:
        # In one step: a handler that runs between reading the flag and setting it must not be undone.
        if self._pidfds.look():
            self._died = True

    def reopen(self, id: ProcessId, stdout: Sink, stderr: Sink | None) -> Streams:
        """Go on with the output of a process that a former keeper started; some may be lost.

        Raises `OSError` when it cannot be opened just now: its process would wait for a reader.
        """
        return self._output.reopen(
            id, stdout, stderr, lambda cause: self.log("error", "cannot write output", cause=cause)
        )

    def take_back(
        self, template: SocketTemplate, trace: Trace, holders: Iterable[int]
    ) -> BoundSocket | None:
        """Return a socket that one of these processes still holds, None when none gives it away.

        Raises `OSError` when that cannot be told just now.
        """
        own = handed.sockets.get(trace.cookie) if (handed := self._legacy.handover) else None
        config = self._config
        found = take_back(template, config.umask, trace, holders, own, config.spares)
        return found and self._watched(found)

    def _watched(self, found: LinuxSocket) -> LinuxSocket:
        found.closing = self._clients.forget
        if found.file is not None and (cause := self._files.watch(found.file.path)):
            self.log("warning", "cannot watch a socket file", path=found.file.path, cause=cause)
        return found

    def await_client(self, name: str, socket: BoundSocket) -> None:
        """Tell with `ClientWaits`, once, when a client waits at a socket; at once when one does. Raises `OSError`."""
        self._clients.await_next(_fd(socket), name)

    def _called(self) -> None:
        self._happened.append(Called())

    def _file_touched(self) -> None:
        self._happened.append(FileTouched())
        self._renew_control()

    def _renew_control(self) -> None:
        renewed = self._calls.renew(self._files)
        if renewed is None:
            return
        self._renewed.append(renewed)
        if renewed.trouble:
            said = "the control socket is gone and cannot be opened again"
            self.log("error", said, path=renewed.path, cause=renewed.trouble)
            return
        self.log("warning", "the control socket was gone; it is open again", path=renewed.path)
        if self._link is not None:
            # A controller without a link ends, and the next one gets the socket that is open now.
            self._link.shutdown(socket.SHUT_RDWR)
            self._is_cut = True

    def replace_code(
        self, python: str, entries: Mapping[str, object], sockets: Iterable[BoundSocket]
    ) -> None:
        """Become another version of this keeper, which recalls these entries and all that is open."""
        handover = Handover(
            (*self._place.files, self._place.core),
            self._calls.control.fileno(),
            self._place.oom_score_adj,
            self._calls.locks,
            self._pidfds.handles(),
            {each.trace.cookie: _fd(each) for each in sockets},
            self._output.outgoing(),
            self._output.sinks.unsent(),
        )
        argv_with = partial(self._config.for_new_code, python)
        replace_code(argv_with, entries, handover, self._unheard)

    def _unheard(self) -> list[int]:
        """Return the signals that were taken and that nobody has heard of yet, and forget them."""
        numbers = {"stop": signal.SIGTERM, "stop_now": signal.SIGQUIT, "reload": signal.SIGHUP}
        told = [each for each in self._happened if isinstance(each, Told)]
        self._happened = [each for each in self._happened if each not in told]
        return [int(numbers[each.meaning]) for each in told]

    # ---- signals ---------------------------------------------------------------------------------

    def signal(self, pid: int, signal: str, reach: Reach = "process") -> None:
        """Signal a child or an adopted process, its children, or the group that it leads."""
        self._signals.send(pid, signal, reach)

    def signal_tree(self, group: int, roots: Iterable[int], signal: str) -> None:
        """Signal these processes of ours and all below them, each once; those in `group` as a group."""
        self._signals.to_tree(group, roots, signal)

    # ---- sockets and logs ------------------------------------------------------------------------

    def bind(self, template: SocketTemplate, owner: FileOwner = AS_MADE) -> BoundSocket:
        """Bind a socket and give its file to this owner. Raises `BindFailed`."""
        return self._watched(bind(template, self._config.umask, self._config.spares, owner))

    def take_log_news(self) -> list[LogRotated | LogChanged]:
        """Return which log files were rotated and are to be compressed, or changed, since asked last."""
        return [
            *map(LogRotated, self._output.sinks.take_rotated()),
            *self._output.sinks.take_changes(),
        ]

    def troubled_logs(self) -> list[LogChanged]:
        """Return the log files that cannot be written just now."""
        return self._output.sinks.troubles()

    def notify(self, text: str) -> None:
        """Tell this to whoever started the manager, if they listen; never waits, and may be lost."""
        self.notifier.send(text)

    def log(self, level: Level, message: str, **pairs: object) -> None:
        """Write a line to the keeper's own log, unless nobody takes it just now."""
        self._own_log.log(level, message, **pairs)

    def border(self, doing: str) -> Border:
        """Return what lets no unexpected exception pass; it is logged, and told by `take_reports`."""
        return self._faults.border(doing)

    def take_reports(self) -> list[FaultCaught | ControlRenewed]:
        """Return what was caught at the borders, and what became of the control socket, since asked last."""
        if self._is_cut:
            return []  # nobody hears it just now
        renewed, self._renewed = self._renewed, []
        return [*self._faults.take(), *renewed]

    # ---- the controller --------------------------------------------------------------------------

    def start_controller(self, *, last_good: bool) -> int:
        """Start the controller on a new link and return its pid. Raises `LaunchFailed`."""
        config = self._config
        argv = (*config.controller_argv, *(("--last-good",) if last_good else ()))
        env = {name: text for name, text in os.environ.items() if name not in NOT_FOR_CHILDREN}
        env["RECONCILE_LINK_FD"] = str(LINK_FD)
        env["RECONCILE_CONTROL_FD"] = str(CONTROL_FD)
        # The next keeper ends it, should it not end by itself when this one dies.
        env["RECONCILE_ID"] = f"{self._legacy.beginning}controller"
        with contextlib.ExitStack() as stack, contextlib.ExitStack() as undo:
            try:
                ours, theirs = socket.socketpair()
                stack.enter_context(theirs)
                undo.enter_context(ours)
                ours.setblocking(False)
                self._watch(ours.fileno(), self._link_ready)
                undo.callback(self._ignore, ours.fileno())
                fds = [self._null, 1, 2]
                for source in (theirs, self._calls.control):
                    fds.append(fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, _FREE_FD))
                    stack.callback(os.close, fds[-1])
            except OSError as error:
                raise failed("fork", error) from None
            launch = Launch(argv, oom_score_adj=self._place.controllers_oom_score_adj)
            prepared = Prepared(launch, (argv[0],), env, self._user, tuple(fds))
            pid = spawn_plainly(prepared, self._place)
            undo.pop_all()
        self._link, self._is_cut = ours, False
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
        except OSError as error:
            return None if error.errno in _SHORT else b""

    def send(self, data: bytes) -> int:
        """Send on the link and return how many bytes it took; `happenings` wakes when it takes more."""
        assert self._link is not None
        both = selectors.EVENT_READ | selectors.EVENT_WRITE
        try:
            sent = self._link.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            if error.errno not in _SHORT:
                return len(data)  # hung up: its death follows
            sent = 0
        if sent < len(data):
            try:
                self._selector.modify(self._link, both, self._link_writable)
            except OSError:  # no memory for epoll: what was sent was sent all the same
                self._link_ready()
        return sent

    def _unread(self) -> bool:
        """Tell whether something that was sent has not been read (SIOCOUTQ, unix(7))."""
        if self._link is None:
            return False
        answer = fcntl.ioctl(self._link, _SIOCOUTQ, struct.pack("i", 0))
        return bool(struct.unpack("i", answer)[0])

    def await_call(self) -> None:
        """Tell with `Called`, once, when the next client calls."""
        self._calls.await_next()

    def is_behind(self) -> bool:
        """Tell whether the controller has not read all it was sent, or not let a client in."""
        return self._unread() or self._calls.is_waiting()

    def close_link(self) -> None:
        """Close our end of the link."""
        if self._link is not None:
            self._ignore(self._link.fileno())
            self._link.close()
            self._link = None

    def close_control(self) -> None:
        """Close the control socket and remove its file."""
        self._calls.close()


# ---- asking the kernel ---------------------------------------------------------------------------


def _fd(held: BoundSocket) -> int:
    assert isinstance(held, LinuxSocket)
    return held.fileno()
