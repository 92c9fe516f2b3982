"""What the keeper takes for itself: all orphans, descriptors, to be killed last, and no core dump of its secrets."""

from __future__ import annotations

import ctypes
import os
import resource
from typing import TYPE_CHECKING, Final

from reconciler.spawn.roads import KEEPER_OOM_SCORE_ADJ, OOM_FILE
from reconciler.system.shortages import NOT_NOW

if TYPE_CHECKING:
    from reconciler.keeper.succession.handover import Handover

_PR_SET_CHILD_SUBREAPER: Final = 36


def become_subreaper() -> None:
    """Let orphans of our children become our children (prctl(2), Linux 3.4)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become a subreaper")


def take_limits(handed: Handover) -> tuple[tuple[int, int], int]:
    """Raise the limit of open files and leave no core dump; return the limits that children get instead.

    Those are what was found, or what a former keeper had found: its own limits are none to go by.

    Secrets pass through this process. A limit of zero would not do: a program that the kernel pipes dumps to
    (core(5)) gets them all the same, but none below a limit of one byte (fs/coredump.c, since Linux 2.6.32).
    Nor would PR_SET_DUMPABLE: /proc of such a process is root's, and the next keeper of an ordinary user could
    not recognise it.
    """
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files[1], files[1]))
    core, most = resource.getrlimit(resource.RLIMIT_CORE)
    least = 1 if most == resource.RLIM_INFINITY else min(1, most)
    resource.setrlimit(resource.RLIMIT_CORE, (least, most))
    if handed.files:
        files = (handed.files[0], handed.files[1])
        core = next(iter(handed.files[2:]), core)
    return files, core


def take_oom_score(handed: Handover) -> tuple[int | None, int]:
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
    return (handed.oom_score_adj if handed.files else before), fd
