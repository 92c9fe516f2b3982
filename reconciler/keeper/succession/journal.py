"""The journal: what the next keeper has to know when this one is killed, and what our own new code goes on with.

A file of the lines of `wire.journal`.

- A line costs the same however much else is held. When the file has grown to twice what it says, it
  is written again beside the old one and renamed over it.
- Nothing is synced: only this process dies, the kernel keeps what was written. With the machine die all
  the processes that the file is about, and its boot id tells so.
- A torn last line was never acted upon: it is written before what it announces is done.
- A disk that is full or read-only stops nothing. The whole is written again as soon as it can be.
- No environment, no command and no output is in it; only we may read it all the same.

Known weakness: like every write into the page cache it waits while the kernel throttles writers.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Final

from reconciler.wire.journal import FORMAT, HEAD, Recalled, line_of, read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SLACK_BYTES: Final = 256 * 1024
RETRY_NS: Final = 2_000_000_000
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class Journal:
    """Writes down what is held. `told` hears of a disk that fails, and (None) that it works again.

    `now_ns` is a monotonic clock.
    """

    def __init__(
        self,
        path: str,
        owner: Mapping[str, str],
        told: Callable[[str | None], None],
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._path = path
        self._told = told
        self._now_ns = now_ns
        self._lines: dict[str, bytes] = {HEAD: line_of(HEAD, {"format": FORMAT, **owner})}
        self._live_bytes = len(self._lines[HEAD])
        self._unwritten: dict[str, bytes] = {}
        self._fd = -1
        self._size = 0
        self._limit = 0
        self._trouble: str | None = None
        self.due_ns: int | None = None
        """When a disk that has failed is tried again (monotonic), None while it works."""

    def note(self, name: str, value: object | None) -> None:
        """Remember how something is now, None: it is gone; `flush` writes it down."""
        line = line_of(name, value)
        if self._lines.get(name, line_of(name, None)) == line:
            return
        self._live_bytes -= len(self._lines.pop(name, b""))
        self._unwritten[name] = line
        if value is not None:
            self._lines[name] = line
            self._live_bytes += len(line)

    def flush(self) -> None:
        """Write down what was noted; what the disk does not take is tried again later."""
        if self.due_ns is not None and self._now_ns() < self.due_ns:
            return
        if not self._unwritten and self._fd >= 0:
            return
        try:
            data = b"".join(self._unwritten.values())
            if self._fd < 0 or self._size + len(data) > self._limit:
                self._write_anew()
            else:
                write(self._fd, data)
                self._size += len(data)
        except OSError as error:
            # What a torn write left at its end must not be followed by anything.
            self._close()
            self.due_ns = self._now_ns() + RETRY_NS
            self._tell(f"cannot write {self._path}: {os.strerror(error.errno or 0).lower()}")
            return
        self._unwritten.clear()
        self.due_ns = None
        self._tell(None)

    def _write_anew(self) -> None:
        """Write all that holds into a new file and let it take the place of the old one."""
        beside = f"{self._path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        fd = os.open(beside, _FLAGS | os.O_EXCL, 0o600)
        try:
            data = b"".join(self._lines.values())
            write(fd, data)
            os.rename(beside, self._path)
        except OSError:
            os.close(fd)
            with contextlib.suppress(OSError):
                os.unlink(beside)
            raise
        self._close()
        self._fd, self._size = fd, len(data)
        self._limit = 2 * self._live_bytes + SLACK_BYTES

    def _tell(self, trouble: str | None) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self._told(trouble)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def recall(path: str, owner: Mapping[str, str]) -> Recalled:
    """Return what the journal says; nothing when it is another `owner`'s: of another boot, or a copy.

    Raises `NewerFormat`, and `OSError` when it is there and cannot be read.
    """
    try:
        with open(path, "rb") as file:
            head, recalled = read(file.read())
    except FileNotFoundError:
        return Recalled()
    is_ours = head is None or all(
        head.get(name) == value and value for name, value in owner.items()
    )
    return recalled if is_ours else Recalled()


def write(fd: int, data: bytes) -> None:
    """Write all of it. Raises `OSError`, after some of it was written perhaps."""
    while data:
        data = data[os.write(fd, data) :]
