"""Rotated log files are compressed one at a time, by a helper of low priority.

The keeper renames them while they wait and while the helper works: `.1` becomes `.2`. So what is queued is
the log, not the names that its rotated files had, and the helper goes on until no name is left to compress.
The queue lies in memory: what a controller did not come to is found at the log's next rotation.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from reconciler.controller import clock
from reconciler.controller.reactor import READ
from reconciler.model.units import SECOND_NS

if TYPE_CHECKING:
    from reconciler.controller.loop import Controller


SHORTAGE_RETRY_NS: Final = 5 * SECOND_NS


class Compressor:
    """The queue, and the helper that works on its first entry."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._queue: dict[str, None] = {}
        self._helper: subprocess.Popen[bytes] | None = None

    def add(self, path: str) -> None:
        """Compress what the rotations of a log left, when its turn comes."""
        self._queue[path] = None
        self._next()

    def _next(self) -> None:
        if self._helper is not None or not self._queue:
            return
        path = next(iter(self._queue))
        del self._queue[path]
        try:
            helper = subprocess.Popen(
                [sys.executable, "-I", "-m", "reconciler.controller.compress", path],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError:
            # No room for a process just now; a log that is compressed later is no news.
            self._queue[path] = None
            self._controller.reactor.at(self, clock.now_ns() + SHORTAGE_RETRY_NS, self._next)
            return
        self._helper = helper
        complaint = helper.stderr
        assert complaint is not None

        def ended(_events: int) -> None:
            # It closes standard error by ending only, so the wait is none.
            text = os.read(complaint.fileno(), 4096)
            self._controller.reactor.ignore(complaint)
            complaint.close()
            if text:
                cause = text.decode(errors="replace").strip().splitlines()[-1]
                self._controller.log.write(
                    "warning", "cannot compress a log file", path=path, cause=cause
                )
                helper.kill()
            helper.wait()
            self._helper = None
            self._next()

        self._controller.reactor.watch(complaint, READ, ended)


def compress_rotated(log: Path) -> None:
    """Compress all files that rotations of `log` have left, the oldest first."""
    while (path := _oldest(log)) is not None:
        with suppress(FileNotFoundError):  # renamed or pruned meanwhile: looked for again
            compress(path)


def _oldest(log: Path) -> Path | None:
    """Return the rotated file with the highest number that has no compressed one beside it."""
    name = re.compile(rf"{re.escape(log.name)}\.([1-9][0-9]*)(\.gz)?")
    there: dict[bool, set[int]] = {False: set(), True: set()}
    for each in os.listdir(log.parent):
        if found := name.fullmatch(each):
            there[found[2] is not None].add(int(found[1]))
    number = max(there[False] - there[True], default=None)
    return None if number is None else log.with_name(f"{log.name}.{number}")


def compress(path: Path) -> None:
    """Put `path`.gz in the place of `path`; whatever happens, one of the two is whole.

    Raises `FileNotFoundError` when the keeper has rotated meanwhile and `path` is another file by then: that
    one is left alone, and what was compressed stays uncompressed under its next name.
    """
    # Imported by the helper only: the controller that holds the queue needs neither.
    import gzip
    import shutil

    unfinished = path.with_name(f"{path.name}.gz.unfinished")
    # Whose output it is may own the folder, and put links where we are about to write.
    source_descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(source_descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(source_descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    claimed = path.with_name(f"{path.name}.compressed")
    unfinished.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(source_descriptor, "rb") as source:
        descriptor = os.open(unfinished, flags, status.st_mode & 0o777)
        try:
            with (
                os.fdopen(descriptor, "wb", closefd=False) as target,
                gzip.GzipFile(path.name, "wb", 6, target, int(status.st_mtime)) as packed,
            ):
                shutil.copyfileobj(source, packed, 2**18)
            with suppress(OSError):
                os.fchown(descriptor, status.st_uid, status.st_gid)
            os.utime(descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
    try:
        path.rename(
            claimed
        )  # from here on the keeper cannot put another file under this name of ours
        if not os.path.samestat(claimed.lstat(), status):
            raise FileNotFoundError(path)
        # Not a rename, which would replace what a rotation of this very moment has put there.
        os.link(unfinished, f"{path}.gz")
        unfinished.unlink()
    except BaseException:
        unfinished.unlink(missing_ok=True)
        with suppress(FileNotFoundError, FileExistsError):
            os.link(claimed, path)
            claimed.unlink()
        raise
    claimed.unlink()


def main() -> None:
    """Compress what rotations left of the log that the command line names; called in a process of its own."""
    os.nice(19)
    compress_rotated(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
