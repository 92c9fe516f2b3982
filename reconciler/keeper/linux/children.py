"""Children on this machine: started by one of the two roads, in a control group where there are any, and reaped."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from reconciler.keeper.kernel import Child, Executed
from reconciler.model.process import Exit, Launch, LaunchError
from reconciler.sockets.sockets import fd_of
from reconciler.spawn.launch_errors import failed, step
from reconciler.spawn.nursery import Nursery
from reconciler.spawn.roads import (
    Order,
    fork,
    fork_in,
    needs_fork,
    prepare,
    read_report,
    spawn_plainly,
)
from reconciler.spawn.standard_input import standard_input
from reconciler.system.facts import Died
from reconciler.system.mounts import Mounts
from reconciler.system.procfs import Births, exit_of, read_all

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from reconciler.keeper.linux.loop import Loop
    from reconciler.model.process import ProcessId
    from reconciler.notify.sockets import NotifySockets
    from reconciler.output.capture import Capture
    from reconciler.sockets.bound import BoundSocket
    from reconciler.spawn.accounts import User
    from reconciler.spawn.environment import Place
    from reconciler.spawn.roads import Forked
    from reconciler.system.deaths import Deaths
    from reconciler.system.pidfds import Pidfds


class Children:
    """Our own children, and the deaths of those who were adopted."""

    def __init__(
        self,
        loop: Loop,
        pidfds: Pidfds,
        deaths: Deaths,
        place: Place,
        user: User,
        streams: tuple[Capture, NotifySockets],
        marker: Callable[[ProcessId, int], str],
    ) -> None:
        self._loop = loop
        self._pidfds = pidfds
        self._deaths, self._groups, self._nursery = deaths, deaths.groups, Nursery()
        self._place, self._user = place, user
        self._output, self._notify = streams
        self._marker = marker
        self.null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        # Kept open: a keeper that runs out of descriptors still sees whom it cares for.
        pid = os.getpid()
        self._list = os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)
        self._launching: dict[int, Forked] = {}
        self._failed: dict[int, LaunchError] = {}
        self._births = Births()
        self._mounts = Mounts()

    def all(self) -> set[int]:
        """Return the pids of all children but those from the nursery; they stay theirs until `reap` tells them."""
        return {*map(int, read_all(self._list).split())}

    def spawn(
        self, id: ProcessId, incarnation: int, launch: Launch, sockets: Mapping[str, BoundSocket]
    ) -> Child:
        """Make a process, with its own session. Raises `LaunchFailed`."""
        with step("output"):
            streams = self._output.open(id, launch.stdout, launch.stderr)
        pid, notify_socket = 0, None
        try:
            if launch.notify:
                with step("notify"):
                    notify_socket = self._notify.open(id, incarnation)
            read = launch.stdin_socket
            unless = self.null if read is None else fd_of(sockets[read])
            given = (fd_of(sockets[name]) for name in launch.sockets)
            notified = "" if notify_socket is None else notify_socket.address
            is_grouped = self._groups is not None and launch.scope == "tree"
            with standard_input(launch, unless) as stdin:
                fds = (stdin, streams.stdout_fd, streams.stderr_fd, *given)
                order = Order(id, self._marker(id, incarnation), launch, fds, self._user, notified)
                self._births.expect()
                # On the plain road the keeper waits until the program runs; a fork of it waits for itself.
                if not (is_grouped or needs_fork(launch) or self._mounts.may_hang()):
                    prepared = prepare(order, self._place)
                    pid = self._nursery.make(lambda: spawn_plainly(prepared, self._place))
                else:
                    pid = self._fork(order, is_grouped=is_grouped)
            former, executed = self._pidfds.replaced(pid), pid not in self._launching
            limits = {} if self._groups is None else self._groups.limits_of(pid)
            return Child(
                pid, executed, streams, notify_socket, self._births.of(pid), former, limits
            )
        except Exception:
            if pid:  # nobody would know of it
                os.kill(pid, signal.SIGKILL)
            streams.close()
            if notify_socket is not None:
                notify_socket.close()
            raise
        finally:
            streams.close_worker_ends()

    def _fork(self, order: Order, *, is_grouped: bool) -> int:
        """Start a child by fork, in a control group of its own if there are any."""
        groups = self._groups if is_grouped else None
        forked = fork(order, self._place) if groups is None else fork_in(groups, order, self._place)
        try:
            self._loop.watch(forked.report, lambda: self._hear_report(forked))
        except OSError as error:  # no memory for epoll: nobody would hear whether it runs
            os.kill(forked.pid, signal.SIGKILL)
            os.close(forked.report)
            raise failed("fork", error) from None
        self._launching[forked.pid] = forked
        return forked.pid

    def _hear_report(self, forked: Forked) -> None:
        error = read_report(forked)
        self._loop.ignore(forked.report)
        os.close(forked.report)
        del self._launching[forked.pid]
        if error is None:
            self._loop.tell(Executed(forked.pid))
        else:
            self._failed[forked.pid] = error

    def adopted(self, pid: int) -> None:
        """Look after the control group of a process that a former keeper started."""
        if self._groups is not None:
            self._groups.look_after(pid)

    def reap(self) -> Died | None:
        """Return one child or adopted process that has died, and forget it; None when none is left."""
        if (adopted := self._pidfds.take_dead()) is not None:
            return self._deaths.seen_off(adopted)
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
        cpu_ns = int((usage.ru_utime + usage.ru_stime) * 1e9)
        # Not below the keeper's own size: exec counts the memory that the child left behind.
        exit_ = exit_of(status) if error is None else Exit(error=error)
        return self._deaths.seen_off(Died(pid, exit_, cpu_ns, usage.ru_maxrss * 1024))
