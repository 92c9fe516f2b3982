"""Which deaths by SIGKILL are the kernel's own, for want of memory: no wait status tells that.

Asked when a process has died by a SIGKILL that we have not sent, and of what is best known of it:

1. its own control group counts its kills (memory.events, cgroup-v2.rst): that is certain, and so is a count of none;
2. the kernel's log names the process, for who may read it (dmesg_restrict) and sees the same pids as the kernel;
3. the group that the manager is in has counted another kill since the last look: then it was this one, probably.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from reconciler.system.cgroups import own_folder
from reconciler.system.procfs import unless_gone

if TYPE_CHECKING:
    from reconciler.model.process import Oom

_KERNEL_LOG: Final = "/dev/kmsg"
_FIRST_PIDS: Final = "pid:[4026531836]"
"""PROC_PID_INIT_INO of linux/proc_ns.h: the pids that the kernel's log speaks of."""
_RECORD_BYTES: Final = 8192
_MOST_RECORDS: Final = 10_000
_EVENTS_BYTES: Final = 4096


class OomKills:
    """What is known of the kernel's kills."""

    def __init__(self, folder: str | None, log: str = _KERNEL_LOG) -> None:
        """`folder` is that of our groups; None: there are none, and all are in the manager's own group.

        Raises `OSError` for want of something.
        """
        self._folder = own_folder() if folder is None else folder
        self._count = count_in(self._folder)
        self._log = -1
        with unless_gone():
            if os.readlink("/proc/self/ns/pid") == _FIRST_PIDS:
                self._log = os.open(log, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                os.lseek(self._log, 0, os.SEEK_END)

    def why(self, pid: int, group: str) -> Oom:
        """Return whether a process that SIGKILL has ended died for want of memory; `group`: its own, if it has one."""
        if group and (count := count_in(group)) is not None:
            return "certain" if count else ""
        if self._is_logged(pid):
            return "certain"
        before, self._count = self._count, count_in(self._folder)
        return "probable" if before is not None and (self._count or 0) > before else ""

    def _is_logged(self, pid: int) -> bool:
        """Tell whether the kernel's log names a process as killed, in what came since the last look."""
        words, found = b"Killed process %d " % pid, False
        if self._log < 0:
            return False
        for _ in range(_MOST_RECORDS):
            try:
                record = os.read(self._log, _RECORD_BYTES)
            except BrokenPipeError:  # what was not read is overwritten; the next record is there
                continue
            except OSError:  # EAGAIN: that was the last one
                break
            if not record:
                break
            found |= words in record
        return found


def count_in(group: str) -> int | None:
    """Return how many processes of a control group the kernel has killed; None where that is not counted."""
    with contextlib.suppress(OSError, ValueError):
        fd = os.open(f"{group}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
        try:
            events = dict(line.split() for line in os.read(fd, _EVENTS_BYTES).splitlines())
        finally:
            os.close(fd)
        return int(events[b"oom_kill"]) if b"oom_kill" in events else None
    return None
