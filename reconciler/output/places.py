"""Log files and their folders, reached through no symbolic link that somebody else may change.

Whose output it is often owns the folder of its log, or one above it. It may put a link there at any instant and
so have the manager, who may be root, write or show what it could not itself. Therefore:

- The last component of a path is never followed.
- A link above it is followed only where nobody but root and the manager's own user may change it: each folder on
  the way to it, from the root on, belongs to one of them and is writable by nobody else (in a folder such as
  /tmp, where only owners may rename, the entries of these two are safe). /var/run and a `current` of root's are
  such links.
- All that is done to a file is done by its name in a folder that is held open: what happens to the path meanwhile
  redirects nothing.

One call of openat2(2) opens a folder when there is no link at all, which is nearly always. Else, and where the
kernel is older than 5.6 or a container forbids the call, the path is walked component by component.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LINKS: Final = 40
"""As many as the kernel follows (path_resolution(7))."""
_FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_FILE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_OPENAT2: Final = 437
"""The same on all architectures of Linux but alpha."""
_RESOLVE_NO_SYMLINKS: Final = 0x04
_AT_FDCWD: Final = -100
_libc: Final = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    """struct open_how of openat2(2)."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_NO_LINKS: Final = _How(_FOLDER, 0, _RESOLVE_NO_SYMLINKS)


def open_log(path: str, flags: int, mode: int = 0o644, *, make: bool = False) -> int:
    """Open a log file and return its descriptor; `make` makes missing folders above it.

    Raises `OSError` with the name of what is in the way, also for what is no regular file.
    """
    with folder_of(path, make=make) as (folder, name):
        try:
            return open_in(folder, name, flags, mode)
        except OSError as error:
            error.filename = path
            raise


def open_in(folder: int, name: str, flags: int, mode: int = 0o644) -> int:
    """Open a file in a folder that is held open. Raises `OSError`, also for what is no regular file."""
    try:
        fd = os.open(name, flags | _FILE, mode, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "a symbolic link", name) from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", name)
    return fd


@contextmanager
def folder_of(path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
    """Hold the folder of a file open; yield it and the file's name in it.

    The descriptor is for `dir_fd` only. Raises `OSError`: ELOOP when a link is in the way.
    """
    above, name = os.path.split(os.path.abspath(path))
    try:
        folder = _open_at_once(above)
    except OSError as error:
        if error.errno not in {errno.ELOOP, errno.ENOSYS, errno.EPERM, errno.ENOENT}:
            raise
        folder = _walk(above, make=make)
    try:
        yield folder, name
    finally:
        os.close(folder)


def is_in(folder: int, name: str, status: os.stat_result) -> bool:
    """Tell whether a file lies in a folder under this name."""
    try:
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return os.path.samestat(there, status)


def _open_at_once(folder: str) -> int:
    fd = _libc.syscall(
        _OPENAT2, _AT_FDCWD, os.fsencode(folder), ctypes.byref(_NO_LINKS), ctypes.sizeof(_How)
    )
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), folder)
    return int(fd)


def _walk(path: str, *, make: bool) -> int:
    """Open a folder component by component. Raises `OSError`."""
    here = os.open("/", _FOLDER)
    safe, links = _is_ours(os.fstat(here)), 0
    parts, walked = _parts(path), "/"
    try:
        while parts:
            part = parts.pop()
            walked = os.path.join(walked, part)
            entry = _entry(here, part, walked, make=make)
            status = os.fstat(entry)
            safe = safe and _is_kept(os.fstat(here), status)
            if not stat.S_ISLNK(status.st_mode):
                os.close(here)
                here, safe = entry, safe and _is_ours(status)
                continue
            try:
                target = os.readlink("", dir_fd=entry)
            finally:
                os.close(entry)
            links += 1
            if not safe or links > MAX_LINKS:
                raise OSError(errno.ELOOP, "a symbolic link that others may change", walked)
            parts += _parts(target)
            walked = os.path.dirname(walked)
            if target.startswith("/"):
                os.close(here)
                here = os.open("/", _FOLDER)
                safe, walked = _is_ours(os.fstat(here)), "/"
        if not stat.S_ISDIR(os.fstat(here).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), walked)
    except BaseException:
        os.close(here)
        raise
    return here


def _entry(here: int, part: str, walked: str, *, make: bool) -> int:
    """Hold what is in a folder under a name, link or not."""
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        try:
            return os.open(part, flags, dir_fd=here)
        except FileNotFoundError:
            if not make:
                raise
            os.mkdir(part, 0o755, dir_fd=here)
            return os.open(part, flags, dir_fd=here)
    except OSError as error:
        error.filename = walked
        raise


def _parts(path: str) -> list[str]:
    """Return the components of a path, the first one last."""
    return [part for part in reversed(path.split("/")) if part not in {"", "."}]


def _is_ours(folder: os.stat_result) -> bool:
    """Tell whether a folder belongs to root or the manager's user."""
    return folder.st_uid in {0, os.geteuid()}


def _is_kept(folder: os.stat_result, entry: os.stat_result) -> bool:
    """Tell whether nobody else may put something else in the place of an entry of a folder that is ours."""
    # The group of one's own user is one's own, as long as one is not root.
    own_groups = {0} if os.geteuid() == 0 else {0, os.getegid()}
    by_group = folder.st_mode & stat.S_IWGRP and folder.st_gid not in own_groups
    if not by_group and not folder.st_mode & stat.S_IWOTH:
        return True
    return bool(folder.st_mode & stat.S_ISVTX) and _is_ours(entry)
