"""What this machine says to a watcher: accounts that it does not know, limits that do not count, files that are none.

A spec may be checked on another machine than it runs on. So all this warns only; a start that is impossible is
told when it is tried.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Final

from reconciler.model.value import Struct
from reconciler.system.cgroups import mounted
from reconciler.system.processors import usable

if TYPE_CHECKING:
    from reconciler.specfile.given import Given

_KINDS: Final = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_watcher(watcher: Given) -> None:
    """Warn of what cannot work, or has no effect, on this machine."""
    user, group = watcher.data.get("user"), watcher.data.get("group")
    uid: int | None = os.geteuid()
    if isinstance(user, int | str) and watcher.says("user"):
        uid, has_account = _user(user)
        if uid is None:
            watcher.warn("user", f"there is no user '{user}' on this machine")
        elif not has_account and group is None and uid != os.geteuid():
            message = f"user {uid} has no account; give group, too"
            watcher.warn("user", message, "write: group: NAME or number")
    if isinstance(group, str) and watcher.says("group") and not _has_group(group):
        watcher.warn("group", f"there is no group '{group}' on this machine")
    logs = watcher.block("logs")
    if logs is not None:
        _check_log_owner(logs)
    limits = watcher.block("limits")
    if limits is not None and (group := limits.block("cgroup")) is not None:
        _check_group(group)
    if uid == 0 and limits is not None and "nproc" in limits.node.entries:
        message = "root is not limited by nproc (setrlimit(2))"
        limits.warn("nproc", message, "run it as another user")


class Machine(Struct, frozen=True):
    """What a spec may ask of the machine that it is read on."""

    processors: int
    """How many the manager may use; the loader is its child, and within the same limits."""
    hostname: str


def this_machine() -> Machine:
    """Return what this machine is."""
    return Machine(usable(), os.uname().nodename)


def _check_log_owner(logs: Given) -> None:
    """Warn of owners of log files that are unknown, or to whom nobody but root may give them."""
    owner, group = logs.data.get("owner"), logs.data.get("group")
    if isinstance(owner, int | str) and logs.says("owner"):
        uid, _ = _user(owner)
        if uid is None:
            logs.warn("owner", f"there is no user '{owner}' on this machine")
        elif os.geteuid() not in {0, uid}:
            logs.warn("owner", "only root can give files to another user", "leave it out")
    if isinstance(group, str) and logs.says("group") and not _has_group(group):
        logs.warn("group", f"there is no group '{group}' on this machine")


def _check_group(group: Given) -> None:
    there = _controllers()
    for name in group.says(*group.node.entries):
        controller = name.partition("_")[0]
        if controller not in there:
            why = f"have no {controller} controller" if there else "(cgroup2) limit nothing"
            message = f"'{name}' is not in force on this machine: its control groups {why}"
            group.warn(name, message, "see: reconcile doctor")


@cache
def _controllers() -> frozenset[str]:
    """Return what control groups of version 2 can limit here, whoever may use them."""
    with suppress(OSError):
        if (root := mounted()) is not None:
            with open(f"{root[0]}/cgroup.controllers") as file:
                return frozenset(file.read().split())
    return frozenset()


def what_else(path: str) -> str:
    """Return what lies in the place of a log file, empty when nothing does, or a file."""
    try:
        mode = os.lstat(path).st_mode
    except (OSError, ValueError):
        return ""
    return _KINDS.get(stat.S_IFMT(mode), "")


def is_there(path: str, folder: str) -> bool:
    """Tell whether there is something at a path, which is relative to a folder."""
    try:
        return os.path.lexists(os.path.join(folder, path))
    except ValueError:
        return False


@cache
def _user(user: int | str) -> tuple[int | None, bool]:
    """Return the number of a user, None for an unknown name, and whether it has an account."""
    is_number = isinstance(user, int) or user.isdecimal()
    try:
        found = pwd.getpwuid(int(user)) if is_number else pwd.getpwnam(str(user))
    except (KeyError, ValueError, OverflowError):
        return (int(user) if is_number else None), False
    return found.pw_uid, True


@cache
def _has_group(group: str) -> bool:
    try:
        grp.getgrnam(group)
    except (KeyError, ValueError):
        return group.isdecimal()
    return True
