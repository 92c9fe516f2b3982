"""Processes that are not our children, each watched by a pidfd: signalled without fail, heard when they die.

A number may be reused at any time when nobody has to wait for its process. A pidfd means one process
for ever (pidfd_open(2), Linux 5.3). How a process ended is known to its parent, to whoever may read
/proc/PID/stat until then, and from Linux 6.15 on to everybody who had a pidfd before (PIDFD_GET_INFO).
Where none of these answers the exit is unknown; it is never taken for a good one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import struct
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from reconciler.model.process import Exit
from reconciler.model.units import SECOND_NS
from reconciler.system import procfs
from reconciler.system.facts import Died

if TYPE_CHECKING:
    from collections.abc import Mapping

REAP_WAIT_NS: Final = 5 * SECOND_NS
"""How long a dead process may wait for its parent before its exit counts as unknown."""
_GET_INFO: Final = 3 << 30 | 64 << 16 | 0xFF << 8 | 11
_INFO_EXIT: Final = 1 << 3
_TO_GROUP: Final = 1 << 2
"""PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9."""


class Pidfds:
    """The processes that were adopted and live, or whose death nobody has asked for yet."""

    def __init__(self, handed: Mapping[int, int]) -> None:
        """`handed` are pidfds by pid that the former code of this process had open."""
        # Edge-triggered: it tells once that one is dead and once that it was reaped. One that nobody
        # reaps would keep us awake otherwise.
        self._epoll = select.epoll()
        self._handles: dict[int, int] = {}
        self._pids: dict[int, int] = {}
        self._unreaped: dict[int, int] = {}
        self._dead: deque[Died] = deque()
        for pid, handle in handed.items():
            self._watch(pid, handle)

    def handles(self) -> dict[int, int]:
        """Return all pidfds by pid."""
        return dict(self._handles)

    def fileno(self) -> int:
        """Return the descriptor that is readable when `look` has something to see."""
        return self._epoll.fileno()

    @property
    def due_ns(self) -> int | None:
        """Return when to `look` in any case (monotonic), None: never."""
        return min(self._unreaped.values(), default=None)

    def __contains__(self, pid: int) -> bool:
        return pid in self._handles

    def add(self, pid: int, born: int) -> bool:
        """Watch a process; False when it is gone and its number, if anybody's, is another's.

        Raises `OSError` when there is no descriptor left for it.
        """
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        found = procfs.born(pid)
        if found != born:
            os.close(handle)
            if not found and os.path.exists(f"/proc/{pid}"):
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return False
        self._watch(pid, handle)
        return True

    def _watch(self, pid: int, handle: int) -> None:
        try:
            self._epoll.register(handle, select.EPOLLIN | select.EPOLLET)
        except OSError:
            os.close(handle)
            raise
        self._handles[pid], self._pids[handle] = handle, pid

    def replaced(self, pid: int) -> Died | None:
        """Return how one of them ended whose number was just given to a child of ours, and forget it."""
        if pid not in self._handles:
            return None
        if pid in self._pids.values():
            self._buried(pid, _told_after(self._handles[pid]))
        former = next(died for died in self._dead if died.pid == pid)
        self._dead.remove(former)
        os.close(self._handles.pop(pid))
        return former

    def look(self) -> bool:
        """See who has died; True when somebody has."""
        for handle, events in self._epoll.poll(0):
            pid = self._pids[handle]
            if events & select.EPOLLHUP:
                self._buried(pid, _told_after(handle))
            elif (known := _told_before(pid)) is not None:
                self._buried(pid, known)
            else:
                self._unreaped[pid] = time.monotonic_ns() + REAP_WAIT_NS
        for pid, due_ns in list(self._unreaped.items()):
            if time.monotonic_ns() >= due_ns:
                self._buried(pid, Exit())
        return bool(self._dead)

    def take_dead(self) -> Died | None:
        """Return one that has died, and forget it; None when there is none."""
        if not self._dead:
            return None
        died = self._dead.popleft()
        os.close(self._handles.pop(died.pid))
        return died

    def send(self, pid: int, number: int) -> None:
        """Signal one of them. Raises `ProcessLookupError`, `PermissionError`."""
        signal.pidfd_send_signal(self._handles[pid], number)

    def send_to_group(self, pid: int, number: int) -> None:
        """Signal the group that one of them leads. Raises `ProcessLookupError`, `PermissionError`."""
        handle = self._handles[pid]
        try:
            signal.pidfd_send_signal(handle, number, None, _TO_GROUP)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # An older kernel: asked right before whether it is still there.
            signal.pidfd_send_signal(handle, 0)
            os.killpg(pid, number)

    def _buried(self, pid: int, exit_: Exit) -> None:
        """Note a death. The pidfd is kept until it is asked for: a signal sent meanwhile reaches nobody."""
        self._dead.append(Died(pid, exit_))
        self._unreaped.pop(pid, None)
        handle = self._handles[pid]
        del self._pids[handle]
        self._epoll.unregister(handle)


def _told_before(pid: int) -> Exit | None:
    """Return how a process ended that its parent has not reaped yet; None when that cannot be told.

    Who may not know reads 0 (proc_pid_stat(5), exit_code): so a 0 is not believed here.
    """
    fields = procfs.stat(pid)
    if not fields or fields[0] != b"Z" or fields[49] == b"0":
        return None
    return procfs.exit_of(int(fields[49]))


def _told_after(handle: int) -> Exit:
    """Return how a process ended that was reaped; unknown when the kernel does not tell."""
    info = bytearray(struct.pack("=Q56x", 15))
    with suppress(OSError):
        fcntl.ioctl(handle, _GET_INFO, info)
        mask, status = struct.unpack("=Q52xi", info)
        if mask & _INFO_EXIT:
            return procfs.exit_of(status)
    return Exit()
