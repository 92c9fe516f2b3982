"""Which folder of control groups was given to us, and whether we may use it."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from reconciler.system.cgroups import (
    CONTROLLERS,
    OWN_LEAF,
    Groups,
    fork_into,
    mounted,
    path_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def find_groups(wanted: str | None, log: Callable[..., None]) -> Groups | None:
    """Return the groups that we may use, None: there are none; `log` hears why those cannot be used that there are."""
    try:
        return _find(wanted)
    except OSError as error:
        cause = os.strerror(error.errno or 0).lower()
        log("warning", "cannot use control groups", cause=cause, path=error.filename)
        return None


def _find(wanted: str | None) -> Groups | None:
    """Return the groups in the folder that is `wanted`, or (None) in one that was given to us.

    None when there is no such folder. Raises `OSError` when there is one and it cannot be used.
    """
    root = mounted()
    if root is None:
        if wanted is not None:
            raise FileNotFoundError(errno.ENOENT, "no cgroup2 file system is mounted", wanted)
        return None
    point, seen = root
    # A former keeper, or systemd (DelegateSubgroup=), may have put us below what was given.
    own = path_of(os.getpid())
    if own.endswith(f"/{OWN_LEAF}"):
        own = os.path.dirname(own)
    folder = os.path.normpath(os.path.join(point, os.path.relpath(own, seen))) if own else ""
    if wanted is not None:
        folder = os.path.normpath(wanted)
        own = os.path.normpath(os.path.join(seen, os.path.relpath(folder, point)))
    elif not _is_ours(folder):
        return None
    _try_out(folder)
    is_first = os.getpid() == 1 and wanted is None
    return Groups(folder, own, _controllers_of(folder, may_move=is_first), may_move=is_first)


def _controllers_of(folder: str, *, may_move: bool) -> tuple[str, ...]:
    """Return which limits groups in the folder can have.

    None where processes are in the folder itself, who then would have to move below it, and where this is not ours
    alone, as in a container: systemd could not start the next manager in it.
    """
    with open(f"{folder}/cgroup.procs") as file:
        is_empty = not file.read().strip()
    with open(f"{folder}/cgroup.controllers") as file:
        there = file.read().split()
    is_possible = (is_empty or may_move) and os.access(f"{folder}/cgroup.subtree_control", os.W_OK)
    return tuple(each for each in CONTROLLERS if each in there and is_possible)


def _is_ours(folder: str) -> bool:
    """Tell whether a folder was given to us: marked by systemd, or the root that PID 1 sees."""
    with contextlib.suppress(OSError):
        if os.getxattr(folder, "user.delegate") == b"1":
            return os.access(folder, os.W_OK)
    return os.getpid() == 1 and os.access(folder, os.W_OK)


def _try_out(folder: str) -> None:
    """Have a child born and die in a group of the folder. Raises `OSError`."""
    name = f"{folder}/reconcile.{os.getpid()}"
    os.mkdir(name, 0o755)
    try:
        group = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if not os.path.exists(f"{name}/cgroup.kill"):
                raise FileNotFoundError(errno.ENOENT, "no cgroup.kill (Linux 5.14)", name)
            if (pid := fork_into(group)) == 0:
                os._exit(0)
            os.waitpid(pid, 0)
        finally:
            os.close(group)
    finally:
        os.rmdir(name)
