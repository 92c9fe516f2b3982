"""Which folder of control groups was given to us, and whether we may use it."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from reconciler.system.cgroups import Groups, fork_into, mounted, path_of

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
    own = path_of(os.getpid())
    folder = os.path.normpath(os.path.join(point, os.path.relpath(own, seen))) if own else ""
    if wanted is not None:
        folder = os.path.normpath(wanted)
        own = os.path.normpath(os.path.join(seen, os.path.relpath(folder, point)))
    elif not _is_ours(folder):
        return None
    _try_out(folder)
    return Groups(folder, own)


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
