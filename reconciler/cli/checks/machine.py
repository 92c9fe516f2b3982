"""The facts of this machine: files of /proc and /sys below a root, and answers of a few calls."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import time
from contextlib import suppress
from typing import Final

from reconciler.model.value import Struct, replace
from reconciler.system.cgroups import own_folder

_STA_UNSYNC: Final = 0x40
"""Bit of `status` in struct timex (adjtimex(2)): no source of time steers the clock."""
_STATUS_WORD: Final = 10
"""Where `status` lies in struct timex, in words of 32 bits, where a long has 64."""
_TIMEX_BYTES: Final = 512


class Machine(Struct, frozen=True):
    """Files below `root`, and what was asked by calls."""

    root: str = "/"
    release: str = ""
    uid: int = 0
    files: tuple[int, int] = (1024, 1024)
    """RLIMIT_NOFILE; -1 is unlimited."""
    processes: int = -1
    """RLIMIT_NPROC, the soft limit; -1 is unlimited."""
    inotify: str = ""
    """Why no file can be watched: an errno by name."""
    pidfd: str = ""
    """Why no process can be held by a descriptor."""
    is_synchronised: bool | None = None
    """A source of time steers the clock; None: nobody can tell."""
    now_s: float = 0.0
    """By the clock of the wall."""
    own_group: str = ""
    """The folder of the control group that we are in; empty where it cannot be seen."""

    def text(self, path: str) -> str:
        """Return what a file says, empty when it cannot be read."""
        with (
            suppress(OSError),
            open(os.path.join(self.root, path.lstrip("/")), errors="replace") as file,
        ):
            return file.read().strip()
        return ""

    def number(self, path: str) -> int | None:
        """Return the number that a file says; None when there is none."""
        text = self.text(path)
        return int(text) if text.isdecimal() else None

    def exists(self, path: str) -> bool:
        """Tell whether there is such a file or folder."""
        return os.path.exists(os.path.join(self.root, path.lstrip("/")))

    def mounts(self) -> list[tuple[str, str, str]]:
        """Return what is mounted: where, of which type, and with which options (proc_pid_mountinfo(5))."""
        found = []
        for line in self.text("/proc/self/mountinfo").splitlines():
            mount, _, system = line.partition(" - ")
            words, kind = mount.split(" "), system.split(" ")
            if len(words) > 4 and len(kind) > 2:
                found.append((words[4].replace("\\040", " "), kind[0], f"{words[5]},{kind[2]}"))
        return found


def this_machine() -> Machine:
    """Ask the machine that we are on."""
    return Machine(
        release=os.uname().release,
        uid=os.geteuid(),
        files=resource.getrlimit(resource.RLIMIT_NOFILE),
        processes=resource.getrlimit(resource.RLIMIT_NPROC)[0],
        inotify=_why_no_inotify(),
        pidfd=_why_no_pidfd(),
        is_synchronised=_is_synchronised(),
        now_s=time.time_ns() / 1e9,
        own_group=_own_group(),
    )


def as_seen_by(machine: Machine, pid: int) -> Machine:
    """Return the machine with the limits of a running manager, where they can be read (proc_pid_limits(5))."""
    limits = {
        line[:26].strip(): line[26:].split()
        for line in machine.text(f"/proc/{pid}/limits").splitlines()
    }
    files, processes = limits.get("Max open files", []), limits.get("Max processes", [])
    if len(files) < 2 or not processes:
        return machine
    return replace(
        machine, files=(_number(files[0]), _number(files[1])), processes=_number(processes[0])
    )


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else resource.RLIM_INFINITY


def _own_group() -> str:
    with suppress(OSError):
        return own_folder()
    return ""


def _why_no_inotify() -> str:
    """Watch a folder once, as the manager does for saved files; return the errno by name when that fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_CLOEXEC)
    if fd < 0:
        return errno.errorcode.get(ctypes.get_errno(), "?")
    try:
        create = 0x100  # IN_CREATE
        if libc.inotify_add_watch(fd, b"/", create) < 0:
            return errno.errorcode.get(ctypes.get_errno(), "?")
    finally:
        os.close(fd)
    return ""


def _why_no_pidfd() -> str:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "?")
    return ""


def _is_synchronised() -> bool | None:
    buffer = (ctypes.c_int32 * (_TIMEX_BYTES // 4))()
    if ctypes.sizeof(ctypes.c_long) != 8 or ctypes.CDLL(None).adjtimex(buffer) < 0:
        return None
    return not buffer[_STATUS_WORD] & _STA_UNSYNC
