"""The journal: what the next keeper has to know when this one is killed, and what our own new code goes on with.

A file of lines. Each names something that is held and says how it is now, so the last line of a name holds, and a line
without a value says that it is gone. Each begins with a checksum of its rest.

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
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from reconciler.model.value import Plain, Struct, field

if TYPE_CHECKING:
    from collections.abc import Callable

FORMAT: Final = 1
"""Raised when a keeper that knows only the former one would misread the lines."""
HEAD: Final = "journal"
SLACK_BYTES: Final = 256 * 1024
RETRY_NS: Final = 2_000_000_000
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class NewerFormat(Exception):
    """It was written by a version that this one does not understand."""

    def __init__(self, format: int) -> None:
        super().__init__(f"was written in format {format}, this version reads up to {FORMAT}")


class Recalled(Struct, frozen=True):
    """What a former keeper wrote down of what it held, by name; empty after a clean end and a boot.

    `is_whole` is False when some of it cannot be read; `is_own` says that it was us, with older code.
    """

    entries: Mapping[str, Plain] = field(default_factory=dict)
    is_whole: bool = True
    is_own: bool = False


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


def read(data: bytes) -> tuple[dict[str, Any] | None, Recalled]:
    """Return the head of a journal, None if it has none, and what it says. Raises `NewerFormat`."""
    entries: dict[str, Any] = {}
    is_whole = True
    for line in data.split(b"\n")[:-1]:
        try:
            name, value = _read(line)
        except ValueError:
            is_whole = False
            continue
        if value is None:
            entries.pop(name, None)
        else:
            entries[name] = value
    head = entries.pop(HEAD, None)
    if head is None:
        return None, Recalled(is_whole=False)
    if head["format"] > FORMAT:
        raise NewerFormat(head["format"])
    return head, Recalled(entries, is_whole)


def written(entries: Mapping[str, object]) -> bytes:
    """Return entries as a journal of their own, for `read`."""
    return b"".join(line_of(*each) for each in {HEAD: {"format": FORMAT}, **entries}.items())


def line_of(name: str, value: object | None) -> bytes:
    """Return the line that says how something is, None: it is gone."""
    data = msgspec.json.encode((name, value))
    return b"%08x %b\n" % (zlib.crc32(data), data)


def _read(line: bytes) -> tuple[str, Any]:
    """Return name and value of a line. Raises `ValueError`."""
    checksum, _, data = line.partition(b" ")
    if b"%08x" % zlib.crc32(data) != checksum:
        msg = "the checksum does not fit"
        raise ValueError(msg)
    name, value = msgspec.json.decode(data)
    return str(name), value
