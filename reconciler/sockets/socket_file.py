"""The file of a Unix socket: its owner and mode, and a second name by which it comes back when it is removed.

Many servers remove the file of a socket that they were handed when they end (gunicorn's fd://, php-fpm, asyncio of
Python 3.13). A client finds a socket by its inode, so another name of the same inode is enough to put the file back,
and neither the socket nor those who use it need to be replaced.

Whoever may write in the folder of the file may put something else in its place at any instant. So what is changed or
linked is held by a descriptor and was looked at before; chmod(2) and link(2) know no way not to be deceived.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from reconciler.model.socket import AS_MADE
from reconciler.system.shortages import NOT_NOW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reconciler.model.socket import FileOwner, SocketTemplate


class SocketFile:
    """The file at `path`, known by device and inode."""

    def __init__(self, path: str, inode: tuple[int, ...]) -> None:
        self.path = path
        self.inode = inode
        self._spare = ""

    def is_there(self) -> bool:
        """Tell whether clients still find it: it may have been removed or replaced."""
        try:
            found = os.lstat(self.path)
        except OSError as error:
            return error.errno in NOT_NOW  # nobody says that it is gone
        return self.inode == (found.st_dev, found.st_ino)

    def keep(self, folder: str) -> None:
        """Give it a second name: in this folder of ours where that can be, else beside it, else none."""
        parent, name = os.path.split(self.path)
        own = self.path.replace("%", "%25").replace("/", "%2F")
        with contextlib.suppress(OSError):
            os.mkdir(folder, 0o700)
        for spare in (os.path.join(folder, own), os.path.join(parent, f".{name}.kept")):
            # It cannot be on another file system (EXDEV), nor of a name that is too long.
            with contextlib.suppress(OSError):
                if self._is_at(spare):
                    self._spare = spare
                    return
                with self._held(self.path) as held:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(spare)  # of a socket that was at this path before
                    _link(held, spare)
                self._spare = spare
                return

    def put_back(self) -> bool:
        """Let clients find it again after it was removed; False when that cannot be, or something else is there.

        Raises `OSError` when nobody can say just now.
        """
        if not self._spare:
            return False
        try:
            with self._held(self._spare) as held:
                _link(held, self.path)
        except OSError as error:
            if error.errno in NOT_NOW:
                raise
            return False
        return self.is_there()

    def tune(self, template: SocketTemplate, umask: int, owner: FileOwner = AS_MADE) -> None:
        """Give the file its owner first: nobody may connect who could not in the end. Raises `OSError`."""
        with self._held(self.path) as held:
            if (owner.uid, owner.gid) != (-1, -1):
                os.chown(f"/proc/self/fd/{held}", owner.uid, owner.gid)
            mode = 0o777 & ~umask if template.mode is None else template.mode
            os.chmod(f"/proc/self/fd/{held}", mode)

    def remove(self) -> None:
        """Remove it while it is still ours, and its second name."""
        for path in (self.path, self._spare):
            if path and self._is_at(path):
                with contextlib.suppress(OSError):
                    os.unlink(path)

    def _is_at(self, path: str) -> bool:
        try:
            found = os.lstat(path)
        except OSError:
            return False
        return self.inode == (found.st_dev, found.st_ino)

    @contextlib.contextmanager
    def _held(self, path: str) -> Iterator[int]:
        """Hold the file that has this name, which must be ours. Raises `OSError`."""
        file = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(file)
            if (found.st_dev, found.st_ino) != self.inode or not stat.S_ISSOCK(found.st_mode):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            yield file
        finally:
            os.close(file)


def _link(file: int, path: str) -> None:
    """Give another name to a file that is held by a descriptor. Raises `OSError`."""
    # With a folder's descriptor, which an absolute path does not need, it is linkat(2), which can follow the link.
    os.link(f"/proc/self/fd/{file}", path, src_dir_fd=file, follow_symlinks=True)
