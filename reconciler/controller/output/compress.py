"""Rotated log files are compressed one at a time, by a helper of low priority.

The keeper renames them while they wait and while the helper works: `.1` becomes `.2`. So what is queued is
the log, not the names that its rotated files had, and the helper goes on until no name is left to compress.
The queue lies in memory: what a controller did not come to is found at the log's next rotation.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from functools import partial
from typing import IO, Final

from reconciler.controller.runtime import clock
from reconciler.controller.runtime.borders import Log
from reconciler.controller.runtime.child import Answer, Child
from reconciler.controller.runtime.reactor import Reactor
from reconciler.model.units import DAY_NS, SECOND_NS
from reconciler.model.value import Part, field
from reconciler.output.places import folder_of, is_in, open_in

SHORTAGE_RETRY_NS: Final = 5 * SECOND_NS
LIMIT_NS: Final = DAY_NS
"""Of a helper, which may get little of a processor: what is not done by then hangs."""


class Compressor(Part):
    """The queue, and the helper that works on its first entry."""

    reactor: Reactor
    log: Log
    _queue: dict[str, None] = field(default_factory=dict)
    _helper: Child | None = None

    def add(self, path: str) -> None:
        """Compress what the rotations of a log left, when its turn comes."""
        self._queue[path] = None
        self._next()

    def _next(self) -> None:
        if self._helper is not None or not self._queue:
            return
        path = next(iter(self._queue))
        del self._queue[path]
        command = [sys.executable, "-I", "-m", "reconciler.controller.output.compress", path]
        try:
            self._helper = Child(self.reactor, command, complains=True)
        except OSError:
            # No room for a process just now; a log that is compressed later is no news.
            self._queue[path] = None
            self.reactor.at(self, clock.now_ns() + SHORTAGE_RETRY_NS, self._next)
            return
        self._helper.ask(b"", 0, LIMIT_NS, partial(self._ended, path))

    def _ended(self, path: str, answer: Answer) -> None:
        self._helper = None
        if cause := answer.complaint or answer.trouble:
            self.log.write("warning", "cannot compress a log file", path=path, cause=cause)
        self._next()


def compress_rotated(log: str) -> None:
    """Compress all files that rotations of `log` have left, the oldest first.

    Whose output it is may own the folder, and replace it or put links where we are about to write: so the folder
    is held open. Raises `OSError`.
    """
    with folder_of(log) as (folder, name):
        while (rotated := _oldest(folder, name)) is not None:
            with suppress(FileNotFoundError):  # renamed or pruned meanwhile: looked for again
                compress(folder, rotated)


def _oldest(folder: int, log: str) -> str | None:
    """Return the rotated file with the highest number that has no compressed one beside it."""
    name = re.compile(rf"{re.escape(log)}\.([1-9][0-9]*)(\.gz)?")
    there: dict[bool, set[int]] = {False: set(), True: set()}
    listed = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        for each in os.listdir(listed):
            if found := name.fullmatch(each):
                there[found[2] is not None].add(int(found[1]))
    finally:
        os.close(listed)
    number = max(there[False] - there[True], default=None)
    return None if number is None else f"{log}.{number}"


def compress(folder: int, name: str) -> None:
    """Put `name`.gz in the place of `name` in a folder that is held open; whatever happens, one of the two is whole.

    Raises `FileNotFoundError` when the keeper has rotated meanwhile and `name` is another file by then: that
    one is left alone, and what was compressed stays uncompressed under its next name.
    """
    unfinished, claimed = f"{name}.gz.unfinished", f"{name}.compressed"
    with open(open_in(folder, name, os.O_RDONLY), "rb") as source:
        status = os.fstat(source.fileno())
        _pack(folder, unfinished, source, status, name)
    try:
        # From here on the keeper cannot put another file under this name of ours.
        os.rename(name, claimed, src_dir_fd=folder, dst_dir_fd=folder)
        if not is_in(folder, claimed, status):
            raise FileNotFoundError(name)
        # Not a rename, which would replace what a rotation of this very moment has put there.
        _link(folder, unfinished, f"{name}.gz")
        os.unlink(unfinished, dir_fd=folder)
    except BaseException:
        _remove(folder, unfinished)
        with suppress(FileNotFoundError, FileExistsError):
            _link(folder, claimed, name)
            os.unlink(claimed, dir_fd=folder)
        raise
    os.unlink(claimed, dir_fd=folder)


def _pack(folder: int, target: str, source: IO[bytes], status: os.stat_result, name: str) -> None:
    """Write a new compressed file, with the owner, mode and time of its source."""
    # Imported by the helper only: the controller that holds the queue needs neither.
    import gzip
    import shutil

    _remove(folder, target)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(target, flags, status.st_mode & 0o777, dir_fd=folder)
    try:
        with (
            open(descriptor, "wb", closefd=False) as file,
            gzip.GzipFile(name, "wb", 6, file, int(status.st_mtime)) as packed,
        ):
            shutil.copyfileobj(source, packed, 2**18)
        with suppress(OSError):
            os.fchown(descriptor, status.st_uid, status.st_gid)
        os.utime(descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))
    except BaseException:
        _remove(folder, target)
        raise
    finally:
        os.close(descriptor)


def _link(folder: int, old: str, new: str) -> None:
    os.link(old, new, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)


def _remove(folder: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def main() -> None:
    """Compress what rotations left of the log that the command line names; called in a process of its own."""
    os.nice(19)
    compress_rotated(sys.argv[1])


if __name__ == "__main__":
    main()
