"""Rotated log files are compressed one at a time, by a helper of low priority.

The queue lies in memory: what a controller did not come to stays uncompressed, and the keeper prunes it
by its age like any other. Compressing it late would need a scan of all log folders at start.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.controller.reactor import READ

if TYPE_CHECKING:
    from reconciler.controller.loop import Controller


class Compressor:
    """The queue, and the helper that works on its first entry."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._queue: deque[str] = deque()
        self._helper: subprocess.Popen[bytes] | None = None

    def add(self, path: str) -> None:
        """Compress a file when its turn comes."""
        self._queue.append(path)
        self._next()

    def _next(self) -> None:
        if self._helper is not None or not self._queue:
            return
        path = self._queue.popleft()
        helper = subprocess.Popen(
            [sys.executable, "-I", "-m", "reconciler.controller.compress", path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
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


def compress(path: Path) -> None:
    """Put `path`.gz in the place of `path`; whatever happens, one of the two is whole.

    The keeper may rotate meanwhile, and `path` be another file by then: that one is left alone, and what
    was compressed stays uncompressed under its next name.
    """
    # Imported by the helper only: the controller that holds the queue needs neither.
    import gzip
    import shutil

    unfinished = path.with_name(f"{path.name}.gz.unfinished")
    status = path.stat()
    claimed = path.with_name(f"{path.name}.compressed")
    descriptor = os.open(
        unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, status.st_mode & 0o777
    )
    try:
        with (
            path.open("rb") as source,
            os.fdopen(descriptor, "wb") as target,
            gzip.GzipFile(path.name, "wb", 6, target, int(status.st_mtime)) as packed,
        ):
            shutil.copyfileobj(source, packed, 2**18)
        with suppress(OSError):
            os.chown(unfinished, status.st_uid, status.st_gid)
        os.utime(unfinished, ns=(status.st_atime_ns, status.st_mtime_ns))
        path.rename(
            claimed
        )  # from here on the keeper cannot put another file under this name of ours
        if not os.path.samestat(claimed.stat(), status):
            raise FileNotFoundError(path)
        unfinished.rename(f"{path}.gz")
    except BaseException:
        unfinished.unlink(missing_ok=True)
        with suppress(FileNotFoundError, FileExistsError):
            os.link(claimed, path)
            claimed.unlink()
        raise
    claimed.unlink()


def main() -> None:
    """Compress the file that is named on the command line; called in a process of its own."""
    os.nice(19)
    with suppress(FileNotFoundError):  # pruned meanwhile
        compress(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
